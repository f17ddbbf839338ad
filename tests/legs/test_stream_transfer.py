"""What follows a Twilio stream: transfers, the way back, other webhooks, hanging up; over real WebSockets and
webhooks, with a Twilio that runs our TwiML."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from twilio.request_validator import RequestValidator

from telbridge.call.events import Ending
from telbridge.caller.conversation import Patience, Press
from telbridge.caller.run import CallOptions
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.line import DialEnd, Line
from telbridge.caller.streams.phone import CALLED, CALLER, TEST_ACCOUNT
from telbridge.caller.streams.run import run_stream_call
from telbridge.caller.streams.twiml import Dial, Stream, read_verbs
from telbridge.caller.streams.webhook import Account, post, voice_form
from telbridge.dialplan.orders import Transfer
from telbridge.legs.streams import transfer
from tests.legs.stream_bed import TOKEN, Side, StreamBed, stream_bed, until
from tests.legs.test_stream_calls import MS, heard, speech, spoken_part
from tests.ports import free_port

OURS = Account(TEST_ACCOUNT, TOKEN)
DESK = "+15005550010"
TRANSFER = f"""
keys.0 = {{ transfer = "{DESK}" }}
on.transfer_requested = {{ tag = "requested" }}
on.transfer_ringing = {{ tag = "rings" }}
on.transfer_answered = {{ tag = "answered" }}
on.transfer_failed = [{{ tag = "failed {{{{ cause }}}}" }}, {{ reply = "Nobody is there." }}]
"""


class Desk:
    """Who is dialled: a test says when and how they react."""

    def __init__(self) -> None:
        self.dialled: list[Dial] = []
        self.reacts: asyncio.Future[DialEnd] = asyncio.get_running_loop().create_future()

    async def __call__(self, dial: Dial) -> DialEnd:
        self.dialled.append(dial)
        return await self.reacts

    def does(self, status: str, **more: Any) -> None:
        self.reacts.set_result(DialEnd(status, **more))
        self.reacts = asyncio.get_running_loop().create_future()


def line_of(bed: StreamBed, call: StreamCall) -> Line:
    line = bed.phone.line(call)
    assert line is not None
    return line


@asynccontextmanager
async def dialling(
    dialplan: str = TRANSFER, **settings: Any
) -> AsyncIterator[tuple[StreamBed, StreamCall, Side, Desk]]:
    """A call whose caller has pressed 0, once Twilio dials."""
    desk = Desk()
    async with stream_bed(dialplan=dialplan, on_dial=desk, **settings) as bed:
        call, side = await bed.dial()
        await call.dtmf("0")
        await until(lambda: bool(desk.dialled))
        yield bed, call, side, desk


async def back(bed: StreamBed, first: StreamCall) -> StreamCall:
    """The stream by which the caller came back."""
    again = await asyncio.wait_for(line_of(bed, first).stream(2), 30)
    assert again is not None
    return again


# ---------------------------------------------------------------- somebody takes the call


async def test_the_last_words_are_heard_whole_before_the_caller_is_sent_on() -> None:
    desk, words = Desk(), speech(700)
    async with stream_bed(dialplan=TRANSFER, on_dial=desk) as bed:
        call, side = await bed.dial()
        side.says(words)
        side.leg.transfer(DESK, timeout_s=20)
        await until(lambda: bool(desk.dialled))
        assert spoken_part(words) in heard(call)
        assert (desk.dialled[0].to, desk.dialled[0].timeout_s) == (DESK, 20)
        assert (await call.wait_ended()).reason == "transfer"


async def test_an_agent_that_never_ends_its_reply_does_not_hold_the_caller_back() -> None:
    """Some end it only when the tool call that asked for the transfer is answered."""
    words = speech(300)
    async with dialling(twilio={"caller_id": "+15005550001"}) as (bed, call, side, desk):
        desk.does("busy")
        again = await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        side.says(words, done=False)
        await until(lambda: again.player.counters.played >= len(words))
        side.leg.transfer(DESK, timeout_s=20)
        await until(lambda: len(desk.dialled) == 2, within_s=transfer.LAST_WORDS_NS / 2e9)
        assert spoken_part(words) in heard(again)
        assert desk.dialled[1].caller_id == "+15005550001"


async def test_a_transfer_that_is_answered_ends_the_call_for_us_while_they_talk() -> None:
    async with dialling() as (bed, call, side, desk):
        desk.does("answered", talk_s=3600)
        summary = await side.summary()
        line = line_of(bed, call)
        assert summary.ending is Ending.TRANSFERRED
        assert summary.marks.tags == ["requested", "rings", "answered"]
        assert side.session.closed
        assert line.log == ["stream", "redirect", f"dial {DESK}"]
        assert not line.over, "the caller was torn from the conversation"
        assert bed.ingress.live_calls == 0


async def test_after_their_conversation_the_callers_call_ends() -> None:
    async with dialling() as (bed, call, side, desk):
        desk.does("answered")
        await side.summary()
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log[-2:] == ["hangup", "over"]


async def test_an_answer_is_known_from_the_end_of_the_dial_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twilio's status callback of the dialled number was lost."""

    async def lost(*_: Any) -> None:
        pass

    monkeypatch.setattr(Line, "_progress", lost)
    async with dialling() as (_, _, side, desk):
        desk.does("answered")
        summary = await side.summary()
    assert summary.ending is Ending.TRANSFERRED
    assert summary.marks.tags == ["requested", "answered"]


# ---------------------------------------------------------------- nobody takes it


@pytest.mark.parametrize(("status", "cause"), [("busy", 486), ("no-answer", 408), ("failed", 503)])
async def test_nobody_takes_it_and_the_same_conversation_goes_on(status: str, cause: int) -> None:
    answer = speech(300)
    async with dialling() as (bed, call, side, desk):
        desk.does(status)
        again = await back(bed, call)
        await until(lambda: ("reply", "Nobody is there.") in side.session.asked)
        side.says(answer)
        loud = np.random.default_rng(3).integers(-8000, 8000, 1600).astype("<i2").tobytes()
        side.session.uplink.clear()
        await again.play(loud)
        await until(lambda: again.player.counters.played >= len(answer))
        sent = b"".join(packet.payload for packet in again.sent)
        await until(lambda: spoken_part(sent) in b"".join(side.session.uplink))
        assert spoken_part(answer) in heard(again)
        assert len(bed.sides) == 1, "a second call began"
        assert bed.ingress.live_calls == 1
        assert again.facts.complaints == call.facts.complaints == []
        await line_of(bed, call).hang_up()
        summary = await side.summary()
    assert summary.ending is Ending.CALLER_HUNG_UP
    assert summary.marks.tags == ["requested", "rings", f"failed {cause}"]
    assert summary.quality is not None
    assert summary.quality.rx_packets >= len(again.sent), "the second stream counts for nothing"


async def test_a_caller_can_be_sent_on_a_second_time() -> None:
    async with dialling() as (bed, call, side, desk):
        desk.does("busy", rings=False)
        again = await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        await again.dtmf("0")
        await until(lambda: len(desk.dialled) == 2)
        desk.does("answered", talk_s=3600)
        assert (await side.summary()).ending is Ending.TRANSFERRED


async def test_meanwhile_the_agent_hears_silence_in_real_time() -> None:
    async with dialling() as (bed, call, side, desk):
        side.session.uplink.clear()
        await until(lambda: len(b"".join(side.session.uplink)) >= 300 * MS)
        assert set(b"".join(side.session.uplink)) == {0xFF}
        desk.does("busy")
        await back(bed, call)


async def test_what_the_agent_said_to_nobody_is_not_heard_later_and_it_is_told_so() -> None:
    async with dialling() as (bed, call, side, desk):
        stale, fresh = speech(400, seed=7), speech(200, seed=8)
        reply = side.says(stale)
        desk.does("busy")
        again = await back(bed, call)
        await until(lambda: ("reply", "Nobody is there.") in side.session.asked)
        side.says(fresh)
        await until(lambda: again.player.counters.played >= len(fresh))
        assert spoken_part(heard(again)) == spoken_part(fresh)
        (fate,) = side.session.heard
        assert (fate.reply, fate.heard_ms, fate.discarded_ms) == (reply, 0, 400)


async def test_a_full_and_draining_bridge_takes_its_own_callers_back() -> None:
    async with dialling(streams={"max_calls": 1}) as (bed, call, side, desk):
        bed.ingress.drain()
        desk.does("busy")
        await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)


# ---------------------------------------------------------------- who is lost on the way


async def test_a_caller_who_hangs_up_while_it_rings() -> None:
    async with dialling() as (bed, call, side, _):
        await line_of(bed, call).hang_up()
        await bed.phone.tell_status(call, "completed")
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")


async def test_a_caller_whose_dial_ended_with_the_call_has_hung_up() -> None:
    async with dialling() as (bed, call, side, desk):
        line = line_of(bed, call)
        line._form["CallStatus"] = "completed"
        await line._ask(desk.dialled[0].action, DialCallStatus="no-answer")
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")


async def test_a_stream_that_does_not_come_back_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_stream(self: Line, verb: Stream) -> bool:
        return False

    monkeypatch.setattr(transfer, "RETURN_NS", 50_000_000)
    async with dialling() as (bed, _, side, desk):
        monkeypatch.setattr(Line, "_connect", no_stream)
        desk.does("busy")
        summary = await side.summary()
        assert bed.ingress.live_calls == 0
    assert summary.ending is Ending.LEG_FAILED
    assert summary.detail == "the stream did not come back after the transfer"


async def test_a_transfer_of_which_nothing_is_heard_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SLACK_NS", 50_000_000)
    async with dialling(TRANSFER.replace(f'"{DESK}"', f'"{DESK}", timeout_s = 0.1')) as (_, _, side, _):
        summary = await side.summary()
    assert (summary.ending, summary.detail) == (Ending.LEG_FAILED, "nothing was heard of the transfer")


async def test_an_agent_that_is_lost_meanwhile_does_not_tear_the_caller_from_the_dial() -> None:
    async with dialling() as (bed, call, side, desk):
        side.session.ends(Ending.AGENT_LOST)
        summary = await side.summary()
        assert summary.ending is Ending.AGENT_LOST
        assert not line_of(bed, call).over
        desk.does("busy")
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log[-2:] == ["hangup", "over"]


# ---------------------------------------------------------------- where to


@pytest.mark.parametrize("target", ["nobody", "sip:", "+49 30 x", "tel:123;phone-context=+49"])
async def test_who_cannot_be_dialled_is_told_at_once_and_the_stream_stays(target: str) -> None:
    async with stream_bed(dialplan=TRANSFER) as bed:
        call, side = await bed.dial()
        side.call._stage.perform(Transfer(99, target, "blind", 10.0, None))
        await until(lambda: "failed 400" in side.call._stage.marks.tags)
        assert call.ended is None


async def test_a_generic_stream_has_no_carrier_to_transfer_it() -> None:
    async with stream_bed(dialplan=TRANSFER) as bed:
        call, side = await bed.dial(bed.generic)
        await call.dtmf("0")
        await until(lambda: "failed 501" in side.call._stage.marks.tags)
        assert call.ended is None


async def test_music_does_not_keep_the_caller_from_being_sent_on() -> None:
    async with dialling(f'keys.0 = {{ transfer = "{DESK}", music = "" }}') as (bed, call, _, desk):
        desk.does("busy")
        await back(bed, call)


@asynccontextmanager
async def a_server(answer: Callable[[web.Request], Any], port: int = 0) -> AsyncIterator[str]:
    """Somebody else's; its address."""

    async def handle(request: web.Request) -> web.Response:
        return await answer(request)

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_url_is_a_webhook_that_takes_the_call_over() -> None:
    asked: list[dict[str, str]] = []

    async def their_webhook(request: web.Request) -> web.Response:
        asked.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(text="<Response><Hangup/></Response>", content_type="text/xml")

    port = free_port()
    theirs = f'keys.0 = {{ transfer = "http://127.0.0.1:{port}/next?a=1&b=2" }}'
    async with a_server(their_webhook, port), stream_bed(dialplan=theirs) as bed:
        call, side = await bed.dial()
        await call.dtmf("0")
        summary = await side.summary()
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log == ["stream", "redirect", "redirect", "hangup", "over"]
    assert summary.ending is Ending.TRANSFERRED
    assert asked[0]["CallSid"] == side.leg.facts.signalling_id


# ---------------------------------------------------------------- hanging up


async def test_when_we_hang_up_twilio_is_told_to() -> None:
    async with stream_bed() as bed:
        call, side = await bed.dial()
        side.session.ends(Ending.AGENT_HUNG_UP)
        await side.summary()
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log == ["stream", "redirect", "hangup", "over"]


async def test_with_an_api_key_the_call_is_ended_by_the_api() -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []

    async def api(request: web.Request) -> web.Response:
        user = aiohttp.BasicAuth.decode(request.headers["Authorization"])
        asked.append((request.path, f"{user.login}:{user.password}", dict(await request.post())))
        return web.json_response({"sid": "CA"})

    async with a_server(api) as url:
        key = {"api_key_sid": "SK1", "api_key_secret": {"env": "KEY"}, "api_url": url}
        environ = {"TWILIO_AUTH_TOKEN": TOKEN, "KEY": "secret"}
        async with stream_bed(environ=environ, twilio=key) as bed:
            call, side = await bed.dial()
            side.session.ends(Ending.AGENT_HUNG_UP)
            await call.wait_ended()
            await until(lambda: bool(asked))
            call, other = await bed.dial()
            await call.hang_up()
            await other.summary()
    sid = side.leg.facts.signalling_id
    path = f"/2010-04-01/Accounts/{TEST_ACCOUNT}/Calls/{sid}.json"
    assert asked == [(path, "SK1:secret", {"Status": "completed"})], "a caller who hung up is hung up again"


@pytest.mark.parametrize(("status", "warns"), [(404, False), (500, True), (401, True)])
async def test_an_api_that_refuses_harms_no_call(status: int, warns: bool) -> None:
    async def api(_: web.Request) -> web.Response:
        return web.Response(status=status)

    with capture_logs() as logs:
        async with a_server(api) as url:
            key = {"api_key_sid": "SK1", "api_key_secret": {"env": "KEY"}, "api_url": url}
            environ = {"TWILIO_AUTH_TOKEN": TOKEN, "KEY": "secret"}
            async with stream_bed(environ=environ, twilio=key) as bed:
                call, side = await bed.dial()
                side.session.ends(Ending.AGENT_HUNG_UP)
                assert (await side.summary()).ending is Ending.AGENT_HUNG_UP
                await line_of(bed, call).wait_over()
    failed = [line for line in logs if line["event"] == "twilio_rest_failed"]
    assert bool(failed) is warns
    assert "secret" not in str(logs)


# ---------------------------------------------------------------- who asks what follows


async def test_only_twilio_is_told_what_follows_and_only_of_that_call() -> None:
    async with dialling() as (bed, call, side, desk), aiohttp.ClientSession() as http:
        url = line_of(bed, call).redirected
        assert url is not None
        form = voice_form(OURS, side.leg.facts.signalling_id, CALLER, CALLED)

        async def asks(url: str, form: dict[str, str], token: str = TOKEN) -> tuple[int, str]:
            headers = {"X-Twilio-Signature": RequestValidator(token).compute_signature(url, form)}
            async with http.post(url, data=form, headers=headers) as answer:
                return answer.status, await answer.text()

        status, text = await asks(url, form)
        assert (status, [type(verb) for verb in read_verbs(text)]) == (200, [Dial]), "asked again, told again"
        assert (await asks(url, form, token="f" * 32))[0] == 403
        for other_url, other_form in (
            (url, {**form, "CallSid": "CA" + "9" * 32}),
            (url[:-4] + "AAAA", form),
            (bed.http("/twilio/after/x"), form),
        ):
            status, text = await asks(other_url, other_form)
            assert status == 200
            assert "<Response><Hangup/></Response>" in text
        desk.does("busy")
        await back(bed, call)


async def test_a_late_word_of_the_dial_changes_nothing() -> None:
    async with dialling() as (bed, call, side, desk):
        desk.does("busy")
        again = await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        form = {**line_of(bed, call)._form, "CallStatus": "in-progress"}
        async with aiohttp.ClientSession() as http:
            await post(http, OURS, desk.dialled[0].progress, form)
            text = await post(http, OURS, desk.dialled[0].action, {**form, "DialCallStatus": "completed"})
        assert "<Hangup/>" in text
        assert again.ended is None
        assert not side.leg.over


# ---------------------------------------------------------------- the record


async def test_what_twilio_tells_of_the_call_is_kept() -> None:
    async with stream_bed() as bed:
        call, _ = await bed.dial()
        await bed.phone.tell_status(call, "in-progress")
        call, side = await bed.dial()
        await call.hang_up()
        await side.summary()
        told = asyncio.create_task(side.leg.told())
        await bed.phone.tell_status(call, "completed", CallDuration="7", SipResponseCode="200")
        await bed.phone.tell_status(call, "in-progress")
        assert await told == {"CallStatus": "completed", "CallDuration": "7", "SipResponseCode": "200"}


async def test_of_a_failed_dial_the_record_tells_too() -> None:
    async with dialling(TRANSFER.replace(DESK, "sip:desk@pbx.example")) as (bed, call, side, desk):
        desk.does("failed")
        await back(bed, call)
        await until(lambda: "failed 404" in side.call._stage.marks.tags)
        told = await side.leg.told()
        assert (told["DialCallStatus"], told["DialSipResponseCode"]) == ("failed", "404")


# ---------------------------------------------------------------- the command


async def test_the_simulator_says_in_the_next_stream_what_was_not_said_in_the_first() -> None:
    async with stream_bed(dialplan=TRANSFER) as bed:
        options = CallOptions(uri=bed.twilio, dial_ends="busy", max_duration_s=20, **quick())
        running = asyncio.create_task(run_stream_call(options, environ={"TWILIO_AUTH_TOKEN": TOKEN}))
        await until(lambda: bool(bed.sides))
        side = bed.sides[0]
        await side.ready()
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        await until(lambda: side.call._record.keys == 2)
        report = await asyncio.wait_for(running, 30)
    assert report.twiml == ("stream", "redirect", f"dial {DESK}", "dial ended: busy", "stream", "over")
    assert [turn.text for turn in report.turns] == ["digits 5"]
    assert report.complaints == ()


def quick() -> dict[str, Any]:
    patience = Patience(greeting_s=0.1, reply_s=0.3, speech_s=1.0)
    return {"script": [Press("0"), Press("5")], "patience": patience}
