"""A transfer over a media stream without a socket: to whom, what Twilio is told, what may follow what."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Dial as TheirDial
from twilio.twiml.voice_response import VoiceResponse

from telbridge.call.events import LegEvent, TransferAnswered, TransferFailed, TransferRinging
from telbridge.caller.streams.twiml import Dial, End, Redirect, Stream, read_verbs
from telbridge.legs.streams.transfer import (
    LAST_WORDS_NS,
    RETURN_NS,
    SLACK_NS,
    Destination,
    OtherWebhook,
    PhoneNumber,
    SipAddress,
    Transfer,
    Wish,
    destination,
)
from telbridge.legs.streams.twilio_webhook import connect_stream
from telbridge.legs.streams.verbs import dial, failure, hang_up

S = 1_000_000_000
ACTION, PROGRESS = "https://v.example/twilio/after/t?a=1&b=2", "https://v.example/twilio/dialled/t"
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=40)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("+15005550010", PhoneNumber("+15005550010")),
        (" 030 123-456 ".replace(" ", ""), PhoneNumber("030123456")),
        ("tel:+1-500-555.0010", PhoneNumber("+15005550010")),
        ("TEL:*31#", PhoneNumber("*31#")),
        ("sip:desk@pbx.example;transport=tcp", SipAddress("sip:desk@pbx.example;transport=tcp")),
        ("sips:pbx.example", SipAddress("sips:pbx.example")),
        ("desk@pbx.example", SipAddress("sip:desk@pbx.example")),
        ("https://voice.example/next?a=1&b=2", OtherWebhook("https://voice.example/next?a=1&b=2")),
    ],
)
def test_whom_a_transfer_may_be_to(target: str, expected: Destination) -> None:
    assert destination(target) == expected


@pytest.mark.parametrize(
    "target",
    ["", "desk", "sip:", "sip:desk@", "https://", "https:/x", "tel:", "tel:1;ext=2", "client:x", "+49 30",
     "1" * 33, "sip:a@b>", "sip:ä@b", "a" * 257, "mailto:a@b"],
)  # fmt: skip
def test_whom_it_may_not_be_to(target: str) -> None:
    with pytest.raises(ValueError, match="transfer"):
        destination(target)


@given(st.text(max_size=60))
def test_any_text_is_a_destination_or_a_value_error(text: str) -> None:
    try:
        found = destination(text)
    except ValueError:
        return
    assert isinstance(found, PhoneNumber | SipAddress | OtherWebhook)


@pytest.mark.parametrize("to", ["+15005550010", "sip:desk@pbx.example?X-Ref=7&X-B=<>"])
@pytest.mark.parametrize(("timeout_s", "told"), [(0.5, 5), (20.2, 21), (600, 600), (700, 600)])
def test_a_dial_is_what_twilios_package_writes(to: str, timeout_s: float, told: int) -> None:
    theirs = VoiceResponse()
    callee = TheirDial(timeout=told, action=ACTION)
    events = {"status_callback": PROGRESS, "status_callback_event": "ringing answered"}
    if to.startswith("sip"):
        callee.sip(to, **events)
    else:
        callee.number(to, **events)
    theirs.append(callee)
    wish = Wish(SipAddress(to) if to.startswith("sip") else PhoneNumber(to), timeout_s)
    ours = dial(wish, ACTION, PROGRESS)
    assert ElementTree.canonicalize(ours) == ElementTree.canonicalize(str(theirs))
    assert read_verbs(ours) == [Dial(to, told, ACTION, PROGRESS, ("ringing", "answered"))]


def test_another_number_can_be_shown_than_the_callers() -> None:
    theirs = VoiceResponse()
    callee = TheirDial(timeout=9, action=ACTION, caller_id="+15005550001")
    callee.number("1", status_callback=PROGRESS, status_callback_event="ringing answered")
    theirs.append(callee)
    ours = dial(Wish(PhoneNumber("1"), 9), ACTION, PROGRESS, "+15005550001")
    assert ElementTree.canonicalize(ours) == ElementTree.canonicalize(str(theirs))


def test_hanging_up_and_another_webhook() -> None:
    theirs = VoiceResponse()
    theirs.hangup()
    assert ElementTree.canonicalize(hang_up()) == ElementTree.canonicalize(str(theirs))
    assert read_verbs(hang_up()) == [End("hangup")]
    url = "https://v.example/next?a=1&b=2"
    assert read_verbs(dial(Wish(OtherWebhook(url), 9), ACTION, PROGRESS)) == [Redirect(url)]


@given(TEXTS, TEXTS)
def test_nothing_in_an_address_writes_twiml_of_its_own(name: str, uri: str) -> None:
    (verb,) = read_verbs(dial(Wish(SipAddress(f"sip:{uri}@h"), 9), ACTION, PROGRESS))
    assert isinstance(verb, Dial)
    assert verb.to == f"sip:{uri}@h"
    stream, redirect = read_verbs(connect_stream("wss://h/x", {"n": name}, ACTION))
    assert stream == Stream("wss://h/x", {"n": name})
    assert redirect == Redirect(ACTION)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"DialCallStatus": ["busy"], "DialSipResponseCode": ["486"]}, 486),
        ({"DialCallStatus": ["no-answer"], "DialSipResponseCode": ["487"]}, 408),
        ({"DialCallStatus": ["failed"], "DialSipResponseCode": ["404"]}, 404),
        ({"DialCallStatus": ["failed"], "DialSipResponseCode": ["0"]}, 503),
        ({"DialCallStatus": ["failed"], "DialSipResponseCode": ["٤٠٤"]}, 503),
        ({"DialCallStatus": ["canceled"]}, 487),
        ({"DialCallStatus": ["something new"]}, 503),
    ],
)
def test_the_reason_of_a_failed_dial_as_a_sip_status(form: dict[str, list[str]], status: int) -> None:
    assert failure(form)[0] == status


# ---------------------------------------------------------------- what may follow what


def test_a_transfer_from_beginning_to_end_and_back() -> None:
    transfer, wish = Transfer(), Wish(PhoneNumber("1"), 20.0)
    transfer.begin(wish, 0)
    assert transfer.leaving
    assert not transfer.away
    assert transfer.asked() is None, "the stream is still there"
    transfer.left(1 * S)
    assert transfer.away
    assert transfer.asked() == transfer.asked() == wish
    assert transfer.rings(2 * S) == [TransferRinging(2 * S)]
    assert transfer.rings(2 * S) == []
    assert transfer.overdue(1 * S + 20 * S + SLACK_NS - 1) is None
    assert transfer.overdue(1 * S + 20 * S + SLACK_NS) == "nothing was heard of the transfer"
    assert transfer.failed(486, "busy", 5 * S)
    assert transfer.failed(486, "busy", 6 * S), "a repeated request gets the same answer"
    assert transfer.asked() is None
    assert transfer.answered(6 * S) == []
    assert transfer.overdue(5 * S + RETURN_NS) == "the stream did not come back after the transfer"
    assert transfer.returned(7 * S) == [TransferFailed(486, 7 * S, "busy", was_away=True)]
    assert transfer.overdue(10**15) is None
    transfer.begin(wish, 8 * S)
    assert transfer.overdue(8 * S + LAST_WORDS_NS) is not None


STEPS = st.sampled_from(("begin", "left", "asked", "rings", "answered", "failed", "returned"))


@given(st.lists(st.tuples(STEPS, st.integers(0, 5 * S)), max_size=40))
def test_whatever_comes_in_whatever_order_each_transfer_has_one_end(steps: list[tuple[str, int]]) -> None:
    """Requests of a carrier may be repeated, late, or in another order."""
    transfer, now = Transfer(), 0
    told: list[LegEvent] = []
    begun = False
    for step, later in steps:
        now += later
        before = len(told)
        match step:
            case "begin" if not (transfer.leaving or transfer.away or transfer.done):
                transfer.begin(Wish(PhoneNumber("1"), 20.0), now)
                begun = True
            case "left" if transfer.leaving:
                transfer.left(now)
            case "asked":
                transfer.asked()
            case "rings":
                told += transfer.rings(now)
            case "answered":
                told += transfer.answered(now)
            case "failed":
                transfer.failed(486, "", now)
            case "returned" if transfer.returning:
                told += transfer.returned(now)
            case _:
                pass
        for event in told[before:]:
            assert begun, "an event of no transfer"
            if isinstance(event, TransferAnswered | TransferFailed):
                begun = False
        assert not (transfer.away and transfer.leaving)
        if transfer.leaving or transfer.away:
            assert transfer.overdue(now + 3600 * S) is not None, "it would wait for ever"
    assert sum(isinstance(event, TransferAnswered) for event in told) <= 1
