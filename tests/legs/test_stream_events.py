"""A generic stream that asks for events is told how the conversation goes; no other is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from telbridge.call.events import AgentTranscript, CallerTranscript, Ending
from telbridge.legs.streams.generic import GenericPeer
from telbridge.legs.streams.peer import Curious
from telbridge.legs.streams.tickets import Ticket, TicketOffice
from telbridge.legs.streams.twilio import TwilioPeer
from telbridge.serving.ingress_generic import PHONE_TICKET
from tests.legs.stream_bed import StreamBed, stream_bed, until

FORMAT = {"encoding": "pcmu", "rate_hz": 8000}
KEY = b"0123456789abcdef"
EVIL = {"Origin": "https://evil.example.com"}


@pytest.mark.parametrize(("asked", "told"), [(True, True), (False, False), (None, False), ("yes", False)])
def test_events_are_for_those_who_ask(asked: object, told: bool) -> None:
    peer = GenericPeer()
    peer.receive(json.dumps({"type": "start", "format": FORMAT, "events": asked}))
    message = peer.event("agent_said", {"reply": 1, "text": "«Ja»\n</script>", "final": False})
    if told:
        assert message is not None
        assert json.loads(message) == {
            "type": "event",
            "event": "agent_said",
            "reply": 1,
            "text": "«Ja»\n</script>",
            "final": False,
        }
    else:
        assert message is None


def test_a_carrier_has_nobody_to_tell() -> None:
    assert isinstance(GenericPeer(), Curious)
    assert not isinstance(TwilioPeer(), Curious)


async def texts(socket: aiohttp.ClientWebSocketResponse[Any], last: str) -> list[dict[str, Any]]:
    """The JSON messages until one of the type `last`."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not found or found[-1]["type"] != last:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                found.append(json.loads(message.data))
                if found[-1]["type"] == "mark":
                    await socket.send_json(found[-1])
    return found


async def test_a_whole_conversation_is_told_in_its_order() -> None:
    async with (
        stream_bed() as bed,
        aiohttp.ClientSession() as http,
        http.ws_connect(bed.generic) as socket,
    ):
        await socket.send_json({"type": "start", "format": FORMAT, "events": True, "to": "+4930"})
        await until(lambda: bed.sides)
        (side,) = bed.sides
        await side.ready()
        side.session.emit(CallerTranscript("Hello?"))
        reply = side.says(bytes(160 * 5))
        side.session.emit(AgentTranscript(reply, "Good day."))
        await until(lambda: side.call._downlink.audible.idle)
        side.session.ends(Ending.AGENT_HUNG_UP)
        told = await texts(socket, "stop")
        summary = await side.summary()
    events = [one for one in told if one["type"] == "event"]
    assert side.leg.facts.called == "+4930"
    assert [one["event"] for one in events] == [
        "answered",
        "caller_said",
        "agent_speaking",
        "agent_said",
        "agent_said",
        "agent_stopped",
        "ended",
    ]
    assert [one["final"] for one in events if one["event"] == "agent_said"] == [False, True]
    assert events[-1]["cause"] == "agent_hung_up"
    assert summary.turns[0].agent_first_frame_ms is not None, "its first frame was taken before it had a turn"


async def test_a_peer_that_breaks_the_rules_is_told_so_too() -> None:
    async with (
        stream_bed() as bed,
        aiohttp.ClientSession() as http,
        http.ws_connect(bed.generic) as socket,
    ):
        await socket.send_json({"type": "start", "format": FORMAT, "events": True})
        await until(lambda: bed.sides)
        await bed.sides[0].ready()
        await socket.send_str("no JSON")
        *_, ended, stop = await texts(socket, "stop")
    assert ended == {"type": "event", "event": "ended", "cause": "leg_failed"}
    assert stop == {"type": "stop", "reason": "message is not JSON"}


# ---------------------------------------------------------------- who may: pages in a browser


async def status(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    """Of the handshake."""
    try:
        async with http.ws_connect(url, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


def issue(bed: StreamBed, ticket: Ticket = PHONE_TICKET, key: bytes = KEY) -> str:
    return f"{bed.generic}?ticket={TicketOffice(key).issue(ticket, bed.ingress._clock())}"


async def test_a_page_of_another_origin_gets_in_by_a_ticket_or_the_token_only() -> None:
    settings: dict[str, Any] = {"generic": {"token": {"env": "GENERIC"}}, "environ": {"GENERIC": "right"}}
    async with stream_bed(ticket_key=KEY, **settings) as bed, aiohttp.ClientSession() as http:
        admin = {"Origin": "http://127.0.0.1:8081"}
        ours = {"Origin": f"http://127.0.0.1:{bed.port}"}
        assert await status(http, bed.generic, EVIL) == 403
        assert await status(http, bed.generic, {"Origin": "null"}) == 403
        assert await status(http, bed.generic, admin) == 403, "our own page has a ticket"
        assert await status(http, bed.generic, ours) == 101
        assert await status(http, bed.generic + "?token=wrong", EVIL) == 403
        assert await status(http, bed.generic + "?token=right", EVIL) == 101
        assert await status(http, issue(bed), admin) == 101
        assert await status(http, issue(bed), {"Host": "voice.example.com", **admin}) == 101


async def test_a_ticket_is_good_once_and_for_the_phone_only() -> None:
    async with stream_bed(ticket_key=KEY) as bed, aiohttp.ClientSession() as http:
        once = issue(bed)
        assert await status(http, once, EVIL) == 101
        assert await status(http, once, EVIL) == 403
        assert await status(http, once, {}) == 403, "a bad ticket is not made good by who shows it"
        assert await status(http, issue(bed, Ticket("AC1", "CA1")), EVIL) == 403
        assert await status(http, issue(bed, key=b"another"), EVIL) == 403
        assert await status(http, bed.generic + "?ticket=", {}) == 403
