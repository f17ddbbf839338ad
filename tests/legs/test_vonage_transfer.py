"""What follows a stream at Vonage, which asks an event URL for another NCCO: what is its own in that, with
and without sockets. The rest stands in test_carrier_transfer.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_16K
from telbridge.call.events import Ending
from telbridge.caller.streams.twiml import Dial, Redirect, Stream
from telbridge.caller.streams.vonage import read_ncco
from telbridge.caller.streams.webhook import Refusal
from telbridge.legs.streams.carrier import Arrival, Asked, DialEnded, DialGoesOn, Unreadable
from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish
from telbridge.legs.streams.vonage_webhook import Vonage
from tests.legs.carrier_bed import carrier_bed, url_of
from tests.legs.stream_bed import until
from tests.legs.test_carrier_transfer import dialling, following
from tests.legs.test_stream_transfer import DESK, a_server, back, line_of
from tests.ports import free_port

VONAGE = Vonage(["k"], PCM_16K)
AFTER = "https://v.example/vonage/after/t"
NUMBER = PhoneNumber("+15005550010")


def asked(url: str = AFTER, **fields: Any) -> Asked:
    return Asked("POST", url, {}, json.dumps(fields).encode())


def dial(wish: Wish, carrier: Vonage = VONAGE, after: str = AFTER) -> Dial:
    (verb,) = read_ncco(carrier.dial(wish, after, "https://v.example/unused").text)
    assert isinstance(verb, Dial)
    return verb


def test_a_stream_is_connected_so_that_its_end_is_asked_about() -> None:
    answer = VONAGE.connect(Arrival("c", "", "", ""), "wss://h/vonage/stream/t", AFTER)
    stream, next_ = read_ncco(answer.text)
    assert stream == Stream("wss://h/vonage/stream/t", {})
    assert next_ == Redirect(AFTER)
    assert json.loads(answer.text)[0]["eventType"] == "synchronous"


@pytest.mark.parametrize(("timeout_s", "rings_s"), [(0.2, 1), (19.2, 20)])
@pytest.mark.parametrize("to", [NUMBER, SipAddress("sip:desk@pbx.example")])
def test_a_dial_says_whom_how_long_and_where_its_events_go(
    to: PhoneNumber | SipAddress, timeout_s: float, rings_s: int
) -> None:
    verb = dial(Wish(to, timeout_s))
    assert verb.to == (to.number if isinstance(to, PhoneNumber) else to.uri)
    assert (verb.timeout_s, verb.action, verb.caller_id) == (rings_s, f"{AFTER}?dial=1", "")


def test_who_is_dialled_sees_one_of_the_accounts_numbers() -> None:
    assert dial(Wish(NUMBER, 9), Vonage([], PCM_16K, "+447700900000")).caller_id == "447700900000"


def test_another_webhook_is_notified_and_answers_with_an_ncco() -> None:
    url = "https://v.example/next?a=1&b=2"
    assert read_ncco(VONAGE.dial(Wish(OtherWebhook(url), 9), AFTER, "").text) == [Redirect(url)]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0xD7FF), max_size=40))
def test_nothing_in_an_address_writes_an_ncco_of_its_own(user: str) -> None:
    assert dial(Wish(SipAddress(f"sip:{user}@h"), 9)).to == f"sip:{user}@h"


@pytest.mark.parametrize("status", ["started", "ringing", "answered", "human", "completed", "something"])
def test_a_stream_that_goes_on_asks_nothing(status: str) -> None:
    """All states of its leg come to the address: an NCCO in answer would take the caller from the agent."""
    assert VONAGE.asks(asked(status=status, uuid="leg", headers={"uuid": "c"})) == ("c", DialGoesOn(None))


@pytest.mark.parametrize("status", ["disconnected", "failed", "unanswered"])
def test_a_stream_that_is_over_asks_what_comes_next(status: str) -> None:
    assert VONAGE.asks(asked(status=status, uuid="leg", headers={"uuid": "c"})) == ("c", None)
    assert VONAGE.asks(asked(status=status, uuid="leg")) == ("", None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("busy", 486),
        ("timeout", 408),
        ("unanswered", 480),
        ("rejected", 403),
        ("cancelled", 487),
        ("failed", 503),
    ],
)
def test_nobody_takes_the_call(status: str, code: int) -> None:
    url = dial(Wish(NUMBER, 9)).action
    assert VONAGE.asks(asked(url, status=status)) == ("", DialEnded(False, code, f"dial {status}"))
    assert VONAGE.asks(asked(url, status=status, sip_code=404))[1] == DialEnded(False, 404, f"dial {status}")
    for none in (0, 200, "404", None):
        assert VONAGE.asks(asked(url, status=status, sip_code=none))[1] == DialEnded(
            False, code, f"dial {status}"
        )


@pytest.mark.parametrize(
    ("status", "answered"),
    [("started", None), ("ringing", False), ("answered", True), ("completed", True), ("machine", None)],
)
def test_how_a_dial_gets_on(status: str, answered: bool | None) -> None:
    assert VONAGE.asks(asked(dial(Wish(NUMBER, 9)).action, status=status)) == ("", DialGoesOn(answered))


def test_an_event_without_a_status_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        VONAGE.asks(asked(uuid="c"))


@pytest.mark.parametrize(
    "ncco",
    [
        "{",
        "{}x",
        '[{"action": "talk", "text": "hello"}]',
        '[{"action": "connect", "endpoint": [{"type": "phone", "number": "+15005550010"}]}]',
        '[{"action": "connect", "endpoint": [{"type": "sip", "uri": "desk@pbx"}]}]',
        '[{"action": "connect", "endpoint": [], "eventUrl": "https://v.example"}]',
        '[{"action": "notify", "payload": {}}]',
    ],
)
def test_the_simulator_refuses_what_vonage_does_not_know(ncco: str) -> None:
    with pytest.raises(Refusal):
        read_ncco(ncco)


async def test_events_of_the_streams_own_leg_leave_the_caller_with_the_agent() -> None:
    async with dialling("vonage") as (bed, call, side, desk):
        line, carrier = line_of(bed, call), following(bed, "vonage")
        desk.does("busy")
        again = await back(bed, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        stream_event = {**line._form, "status": "answered", "headers": {"uuid": line.call_sid}}
        # A late echo of the dial, too: nobody is dialled any more.
        for url, event in (
            (desk.dialled[0].action, {"status": "completed"}),
            (line.redirected, stream_event),
        ):
            assert url is not None
            request = carrier._signed(url, event)
            async with bed.phone._http.post(
                request.url, data=request.body, headers=request.headers
            ) as answer:
                assert (answer.status, await answer.text()) == (204, "")
        await again.dtmf("0")
        await until(lambda: len(desk.dialled) == 2)


async def test_what_a_stranger_asks_changes_nothing() -> None:
    """Unsigned, of another call, or by a ticket that is none."""
    async with dialling("vonage") as (bed, call, side, desk):
        line, action = line_of(bed, call), desk.dialled[0].action
        busy = {**line._form, "status": "busy"}
        async with bed.phone._http.post(action, json=busy) as unsigned:
            assert unsigned.status == 403
        other = {**line._form, "uuid": "another", "status": "disconnected"}
        assert await line._post(line.redirected, other) == ""
        assert await line._post(action.replace("?", "x?"), busy) == ""
        assert side.call._stage.marks.tags == ["requested"]
        desk.does("busy")
        await back(bed, call)


async def test_a_url_is_a_webhook_that_takes_the_call_over() -> None:
    asked_for: list[dict[str, Any]] = []

    async def their_webhook(request: web.Request) -> web.Response:
        asked_for.append(await request.json())
        return web.json_response([])

    port = free_port()
    theirs = f'keys.0 = {{ transfer = "http://127.0.0.1:{port}/next?a=1&b=2" }}'
    async with a_server(their_webhook, port), carrier_bed(dialplan=theirs) as bed:
        call, side = await bed.dial(url_of(bed, "vonage"))
        await call.dtmf("0")
        summary = await side.summary()
        await line_of(bed, call).wait_over()
        assert line_of(bed, call).log == ["stream", "redirect", "redirect", "hangup", "over"]
    assert asked_for[0]["event"] == "transfer"
    assert summary.ending is Ending.TRANSFERRED


async def test_who_is_dialled_is_shown_the_number_of_the_settings() -> None:
    async with dialling("vonage", vonage={"caller_id": "+447700900000"}) as (_, _, _, desk):
        assert (desk.dialled[0].to, desk.dialled[0].caller_id) == (DESK, "447700900000")
