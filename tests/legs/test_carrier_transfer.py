"""What follows the stream of each carrier that asks: transfers, the way back, other webhooks, hanging up;
over real WebSockets and webhooks, with a carrier that runs our documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from telbridge.call.events import Ending
from telbridge.caller.run import CallOptions
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.carriers import Following
from telbridge.caller.streams.run import run_stream_call
from tests.legs.carrier_bed import CALLERS, carrier_bed, url_of
from tests.legs.stream_bed import Side, StreamBed, until
from tests.legs.test_stream_calls import MS, heard, speech, spoken_part
from tests.legs.test_stream_transfer import DESK, TRANSFER, Desk, a_server, back, line_of, quick
from tests.ports import free_port

FORMS = ("signalwire", "telnyx", "plivo")
"""Those that run documents of verbs."""
KINDS = (*FORMS, "vonage")
FAILURES = {"busy": 486, "no-answer": 408}
RINGS = {"signalwire": ["rings"], "telnyx": ["rings"], "plivo": [], "vonage": ["rings"]}
"""Where the carrier tells it."""


def following(bed: StreamBed, kind: str) -> Following:
    side = bed.phone.sides[kind]
    assert isinstance(side, Following)
    return side


@asynccontextmanager
async def dialling(
    kind: str, dialplan: str = TRANSFER, **settings: Any
) -> AsyncIterator[tuple[StreamBed, StreamCall, Side, Desk]]:
    """A call whose caller has pressed 0, once the carrier dials."""
    desk = Desk()
    async with carrier_bed(dialplan=dialplan, on_dial=desk, **settings) as bed:
        call, side = await bed.dial(url_of(bed, kind))
        await call.dtmf("0")
        await until(lambda: bool(desk.dialled))
        yield bed, call, side, desk


@pytest.mark.parametrize("kind", KINDS)
async def test_a_transfer_that_is_answered_ends_the_call_for_us_while_they_talk(kind: str) -> None:
    async with dialling(kind) as (bed, call, side, desk):
        desk.does("answered", talk_s=3600)
        summary = await side.summary()
        line = line_of(bed, call)
        assert summary.ending is Ending.TRANSFERRED
        assert summary.marks.tags == ["requested", *RINGS[kind], "answered"]
        assert line.log == ["stream", "redirect", f"dial {DESK}"]
        assert not line.over, "the caller was torn from the conversation"
        assert bed.ingress.live_calls == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", FAILURES)
async def test_nobody_takes_it_and_the_same_conversation_goes_on(kind: str, status: str) -> None:
    answer = speech(100)
    # What is linear at the telephone's rate is law again without a loss.
    settings = {"streams": {"max_calls": 1}, "vonage": {"codec": "pcm16/8000"}}
    async with dialling(kind, **settings) as (bed, call, side, desk):
        bed.ingress.drain()
        desk.does(status)
        again = await back(bed, call)
        await until(lambda: ("reply", "Nobody is there.") in side.session.asked)
        side.says(answer)
        await until(lambda: again.player.counters.played >= 100 * MS)
        assert spoken_part(answer) in heard(again)
        assert len(bed.sides) == 1, "a second call began"
        assert again.facts.complaints == call.facts.complaints == []
        await line_of(bed, call).hang_up()
        summary = await side.summary()
    assert summary.ending is Ending.CALLER_HUNG_UP
    assert summary.marks.tags == ["requested", *RINGS[kind], f"failed {FAILURES[status]}"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_can_be_sent_on_a_second_time_and_their_call_ends_after_that(kind: str) -> None:
    async with dialling(kind, TRANSFER.replace(DESK, "sip:desk@pbx.example")) as (bed, call, side, desk):
        desk.does("busy", rings=False)
        again = await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        await again.dtmf("0")
        await until(lambda: len(desk.dialled) == 2)
        assert desk.dialled[1].to == "sip:desk@pbx.example"
        desk.does("answered")
        assert (await side.summary()).ending is Ending.TRANSFERRED
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log[-1] == "over"


@pytest.mark.parametrize("kind", FORMS)
async def test_a_url_is_a_webhook_that_takes_the_call_over(kind: str) -> None:
    asked: list[dict[str, str]] = []

    async def their_webhook(request: web.Request) -> web.Response:
        asked.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(text="<Response><Hangup/></Response>", content_type="text/xml")

    port = free_port()
    theirs = f'keys.0 = {{ transfer = "http://127.0.0.1:{port}/next?a=1&b=2" }}'
    async with a_server(their_webhook, port), carrier_bed(dialplan=theirs) as bed:
        call, side = await bed.dial(url_of(bed, kind))
        await call.dtmf("0")
        summary = await side.summary()
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log == ["stream", "redirect", "redirect", "hangup", "over"]
        assert asked[0][following(bed, kind).kind.call_id] == side.leg.facts.signalling_id
    assert summary.ending is Ending.TRANSFERRED


@pytest.mark.parametrize("kind", KINDS)
async def test_when_we_hang_up_the_carrier_is_told_to(kind: str) -> None:
    async with carrier_bed() as bed:
        call, side = await bed.dial(url_of(bed, kind))
        side.session.ends(Ending.AGENT_HUNG_UP)
        await side.summary()
        await line_of(bed, call).wait_over()
        hang_up = ["hangup"] if kind in FORMS else []
        assert line_of(bed, call).log == ["stream", "redirect", *hang_up, "over"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_who_hangs_up_while_it_rings(kind: str) -> None:
    async with dialling(kind) as (bed, call, side, _):
        await line_of(bed, call).hang_up()
        await bed.phone.tell_status(call, "completed")
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")


@pytest.mark.parametrize("kind", FORMS)
async def test_what_a_stranger_asks_changes_nothing(kind: str) -> None:
    """Unsigned, of another call, or by a ticket that is none."""
    async with dialling(kind) as (bed, call, side, desk):
        line, after = line_of(bed, call), desk.dialled[0].action
        ended = following(bed, kind).kind.dial_ended(desk.dialled[0], "b-leg", "busy", 0.0)
        async with bed.phone._http.post(after, data={**line._form, **ended}) as unsigned:
            assert unsigned.status == 403
        other = {**line._form, following(bed, kind).kind.call_id: "another", **ended}
        assert "Hangup" in await line._post(after, other)
        assert "Hangup" in await line._post(after + "x", {**line._form, **ended})
        assert side.call._stage.marks.tags == ["requested"]
        desk.does("busy")
        await asyncio.wait_for(back(bed, call), 30)


@pytest.mark.parametrize("kind", FORMS)
async def test_news_of_who_is_dialled_are_taken_once(kind: str) -> None:
    async with dialling(kind) as (bed, call, _, desk):
        line, side, dialled = line_of(bed, call), following(bed, kind), desk.dialled[0]
        news = {**line._form, **side.kind.progress(dialled, line.call_sid, "b-leg", "in-progress")}
        request = side.signed(dialled.progress, news)
        answers = []
        for _ in range(2):
            async with bed.phone._http.post(
                request.url, data=request.body, headers=request.headers
            ) as answer:
                answers.append(answer.status)
        assert answers == [204, 403]


async def test_the_telephone_goes_on_in_the_next_stream() -> None:
    """`telbridge call plivo+ws://… --dial-ends busy`."""
    async with carrier_bed(dialplan=TRANSFER) as bed:
        options = CallOptions(uri=url_of(bed, "plivo"), dial_ends="busy", max_duration_s=20, **quick())
        running = asyncio.create_task(run_stream_call(options, environ=CALLERS))
        await until(lambda: bool(bed.sides))
        await bed.sides[0].ready()
        await until(lambda: bed.sides[0].call._record.keys == 2)
        report = await asyncio.wait_for(running, 30)
    assert report.twiml == ("stream", "redirect", f"dial {DESK}", "dial ended: busy", "stream", "over")
    assert report.complaints == ()
