"""Blind transfers on the wire: our leg sends REFER to a telephone that answers as real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from sip_bed import HOST, Bridge, Caller

from telbridge.caller import CallHandle, Softphone
from telbridge.caller.events import EndedBy, Referred

pytestmark = pytest.mark.sip
RINGING, OK, BUSY = (180, "Ringing"), (200, "OK"), (486, "Busy Here")


@asynccontextmanager
async def talking(bridge: Bridge) -> AsyncIterator[tuple[CallHandle, str]]:
    """An answered call and its id in the bridge."""
    bridge.mark()
    async with Softphone(HOST) as phone:
        call = await phone.call(f"sip:echo@{HOST}:{bridge.port}")
        await call.wait_answered(30)
        yield call, (await event(bridge, "LegAnswered"))["call"]


async def event(bridge: Bridge, name: str, **fields: Any) -> dict[str, Any]:
    return await asyncio.to_thread(bridge.event, name, **fields)


async def transfer(bridge: Bridge, call_id: str, target: str, timeout_s: float = 20.0) -> None:
    await asyncio.to_thread(bridge.do, "transfer", call=call_id, target=target, timeout_s=timeout_s)


def names(bridge: Bridge) -> list[str]:
    return [said["name"] for said in bridge.since_mark("event")]


async def is_echoed(call: CallHandle) -> bool:
    """What the caller says comes back: the leg hears and speaks."""
    before = len(call.received)
    loud = (np.random.default_rng(1).standard_normal(4000) * 6000).astype("<i2").tobytes()
    for _ in range(20):
        await call.play(loud)
        await call.play(bytes(3200))  # the echo's own way
        if sum(len(set(packet.payload)) > 20 for packet in call.received[before:]) >= 10:
            return True
    return False


@pytest.mark.parametrize(
    ("target", "refer_to"),
    [
        ("sip:sales@pbx.example;transport=tcp", "sip:sales@pbx.example;transport=tcp"),
        ("tel:+4930123", "tel:+4930123"),
        ("sales@pbx.example", "sip:sales@pbx.example"),
        ("200", f"sip:200@{HOST}"),
        ("*8#", f"sip:*8%23@{HOST}"),
    ],
)
async def test_a_transfer_rings_is_answered_and_ends_the_leg(
    bridge: Bridge, target: str, refer_to: str
) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, target)
        assert (await call.expect(Referred)).refer_to == refer_to
        call.notify_referrer(100, "Trying")
        call.notify_referrer(*RINGING)
        await event(bridge, "TransferRinging", call=call_id)
        assert await is_echoed(call), "the caller must hear us while it rings"
        call.notify_referrer(*RINGING)
        call.notify_referrer(*OK)
        assert (await call.wait_ended(30)).by is EndedBy.PEER
        ended = await event(bridge, "LegEnded", call=call_id)
    assert ended["ending"] == "transferred"
    assert names(bridge) == ["LegAnswered", "TransferRinging", "TransferAnswered", "LegEnded"]


@pytest.mark.parametrize("final", [BUSY, (603, "Decline"), (404, "Not Found"), (302, "Moved")])
async def test_a_target_that_does_not_answer_leaves_the_caller_with_us(
    bridge: Bridge, final: tuple[int, str]
) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, "200")
        await call.expect(Referred)
        call.notify_referrer(*RINGING)
        call.notify_referrer(*final)
        failed = await event(bridge, "TransferFailed", call=call_id)
        assert (failed["status"], failed["detail"]) == final
        assert await is_echoed(call)
        assert call.ended is None
        # And the next one may go well.
        await transfer(bridge, call_id, "201")
        await call.expect(Referred)
        call.notify_referrer(*OK)
        await event(bridge, "LegEnded", call=call_id, ending="transferred")


@pytest.mark.parametrize("refusal", [(405, "Method Not Allowed"), (603, "Decline"), (501, "Not Implemented")])
async def test_a_peer_that_refuses_to_transfer(bridge: Bridge, refusal: tuple[int, str]) -> None:
    async with talking(bridge) as (call, call_id):
        call.refuse_transfers(*refusal)
        await transfer(bridge, call_id, "200")
        assert (await event(bridge, "TransferFailed", call=call_id))["status"] == refusal[0]
        assert await is_echoed(call)
        await call.hang_up()
        assert (await event(bridge, "LegEnded", call=call_id))["ending"] == "caller_hung_up"


async def test_nobody_answers_in_time(bridge: Bridge) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, "200", timeout_s=0.6)
        await call.expect(Referred)
        call.notify_referrer(*RINGING)
        assert (await event(bridge, "TransferFailed", call=call_id))["status"] == 408
        assert await is_echoed(call)
        # The late end of the first is not taken for the end of the second.
        await transfer(bridge, call_id, "201")
        await call.expect(Referred)
        call.notify_referrer(487, "Request Terminated")
        call.notify_referrer(*RINGING)
        call.notify_referrer(*OK)
        await event(bridge, "LegEnded", call=call_id)
    told = names(bridge)
    failed = told.index("TransferFailed")  # On a slow machine before the ringing has come here.
    assert told[:failed] in (["LegAnswered"], ["LegAnswered", "TransferRinging"])
    assert told[failed + 1 :] == ["TransferRinging", "TransferAnswered", "LegEnded"]


async def test_a_peer_that_does_not_even_answer_the_refer_is_given_up(bridge: Bridge) -> None:
    bridge.mark()
    with Caller(bridge) as caller:
        await asyncio.to_thread(caller.invite)
        call_id = (await event(bridge, "LegAnswered"))["call"]
        await transfer(bridge, call_id, "200", timeout_s=0.5)
        assert (await event(bridge, "TransferFailed", call=call_id))["status"] == 408
        assert await asyncio.to_thread(caller.echo, 0) >= 10
        caller.bye_unheard()
        await event(bridge, "LegEnded", call=call_id, ending="caller_hung_up")


async def test_the_caller_hangs_up_while_it_rings(bridge: Bridge) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, "200")
        await call.expect(Referred)
        call.notify_referrer(*RINGING)
        await event(bridge, "TransferRinging", call=call_id)
        await call.hang_up()
        assert (await event(bridge, "LegEnded", call=call_id))["ending"] == "caller_hung_up"
    assert "TransferAnswered" not in names(bridge) and "TransferFailed" not in names(bridge)


@pytest.mark.parametrize("told", [False, True])
async def test_a_peer_that_ends_the_call_by_itself_has_transferred_it(bridge: Bridge, told: bool) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, "200")
        await call.expect(Referred)
        if told:
            call.notify_referrer(*OK)
        await call.hang_up()
        assert (await event(bridge, "LegEnded", call=call_id))["ending"] == "transferred"
    assert names(bridge) == ["LegAnswered", "TransferAnswered", "LegEnded"]


async def test_a_target_that_is_none_fails_at_once(bridge: Bridge) -> None:
    async with talking(bridge) as (call, call_id):
        for target in ("", "sip:", "a@", "@b", "a\r\nX-Evil: 1", "sip:a b@c", "sip:a@b>;x=<y"):
            await transfer(bridge, call_id, target)
            assert (await event(bridge, "TransferFailed", call=call_id))["status"] == 400, target
            bridge.mark()
        assert not [one for one in call.events if isinstance(one, Referred)]
        await call.hang_up()
        await event(bridge, "LegEnded", call=call_id)


async def test_only_one_transfer_at_a_time(bridge: Bridge) -> None:
    async with talking(bridge) as (call, call_id):
        await transfer(bridge, call_id, "200")
        await call.expect(Referred)
        await transfer(bridge, call_id, "201")
        call.notify_referrer(*BUSY)
        assert (await event(bridge, "TransferFailed", call=call_id))["status"] == 486
        await call.hang_up()
        await event(bridge, "LegEnded", call=call_id)
    assert names(bridge).count("TransferFailed") == 1
    assert len([one for one in call.events if isinstance(one, Referred)]) == 1


async def test_we_may_hang_up_while_it_rings(bridge: Bridge) -> None:
    for timeout_s in (0.3, 3.0, 12.0):
        async with talking(bridge) as (call, call_id):
            await transfer(bridge, call_id, "200", timeout_s=timeout_s)
            await call.expect(Referred)
            await asyncio.to_thread(bridge.do, "hang_up", call=call_id)
            await call.wait_ended(30)
            await event(bridge, "LegEnded", call=call_id, ending="agent_hung_up")
            if "TransferFailed" not in names(bridge):
                await asyncio.sleep(timeout_s + 0.1)  # the time-out of the transfer would come now
                break  # Else we were too slow for so short a one.
    assert names(bridge) == ["LegAnswered", "LegEnded"]


@pytest.mark.parametrize("status", [480, 486, 603])
def test_what_a_dialplan_refuses_with_goes_out(bridge: Bridge, status: int) -> None:
    bridge.mark()
    with Caller(bridge, f"reject-{status}") as caller:
        assert caller.invite()[0] == status
    assert bridge.ended()["ending"] == "agent_hung_up"
