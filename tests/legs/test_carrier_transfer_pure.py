"""What carriers are told when they ask what follows a stream, and what they tell; without a socket."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.audio.formats import PCMU_8K
from telbridge.caller.streams.carriers import Following as FollowingSide
from telbridge.caller.streams.sides import sides_of
from telbridge.caller.streams.twiml import Dial, End, Redirect, Stream, Verb
from telbridge.legs.streams.carrier import Answer, Arrival, Asked, DialEnded, Following, Unreadable
from telbridge.legs.streams.plivo_webhook import Plivo
from telbridge.legs.streams.signalwire_webhook import SignalWire
from telbridge.legs.streams.telnyx_webhook import Telnyx
from telbridge.legs.streams.transfer import OtherWebhook, PhoneNumber, SipAddress, Wish

CARRIERS: dict[str, Following] = {
    "signalwire": SignalWire(["k"], PCMU_8K),
    "telnyx": Telnyx([], PCMU_8K),
    "plivo": Plivo(["k"], PCMU_8K),
}
AFTER, PROGRESS = "https://v.example/x/after/t?a=1&b=2", "https://v.example/x/dialled/t"
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=0xD7FF), max_size=40)
each = pytest.mark.parametrize("kind", CARRIERS)


def read(kind: str, answer: Answer) -> list[Verb]:
    """As the carrier's simulator does, which knows its schema."""
    side = sides_of({})[kind]
    assert isinstance(side, FollowingSide)
    assert answer.content_type == "text/xml"
    return side.kind.read(answer.text)


def asked(**form: str) -> Asked:
    return Asked("POST", AFTER, {}, urlencode(form).encode())


@each
def test_behind_every_stream_stands_who_is_asked_what_comes_next(kind: str) -> None:
    stream, next_ = read(kind, CARRIERS[kind].connect(Arrival("c", "a", "", ""), "wss://h/x/stream/t", AFTER))
    assert isinstance(stream, Stream)
    assert stream.url == "wss://h/x/stream/t"
    assert next_ == Redirect(AFTER)


RINGS = [
    ("signalwire", 0.5, 5),
    ("signalwire", 3600, 600),
    ("telnyx", 19.2, 20),
    ("telnyx", 3600, 120),
    ("plivo", 0.5, 1),
    ("plivo", 3600, 3600),
]


@pytest.mark.parametrize("target", ["+15005550010", "sip:desk@pbx.example"])
@pytest.mark.parametrize(("kind", "timeout_s", "rings_s"), RINGS)
def test_a_dial_rings_as_long_as_the_carrier_can(
    kind: str, timeout_s: float, rings_s: int, target: str
) -> None:
    to = SipAddress(target) if target.startswith("sip") else PhoneNumber(target)
    (verb,) = read(kind, CARRIERS[kind].dial(Wish(to, timeout_s), AFTER, PROGRESS))
    assert isinstance(verb, Dial)
    assert (verb.to, verb.action, verb.progress) == (target, AFTER, PROGRESS)
    assert verb.timeout_s == rings_s


@each
def test_another_webhook_takes_over_and_hanging_up(kind: str) -> None:
    carrier, url = CARRIERS[kind], "https://v.example/next?a=1&b=2"
    assert read(kind, carrier.dial(Wish(OtherWebhook(url), 9), AFTER, PROGRESS)) == [Redirect(url)]
    assert read(kind, carrier.hang_up()) == [End("hangup")]


@given(st.sampled_from(sorted(CARRIERS)), TEXTS)
def test_nothing_in_an_address_writes_a_document_of_its_own(kind: str, user: str) -> None:
    (verb,) = read(kind, CARRIERS[kind].dial(Wish(SipAddress(f"sip:{user}@h"), 9), AFTER, PROGRESS))
    assert isinstance(verb, Dial)
    assert verb.to == f"sip:{user}@h"


@pytest.mark.parametrize("kind", ["signalwire", "telnyx"])
def test_how_a_dial_went_by_twilios_names(kind: str) -> None:
    asks = CARRIERS[kind].asks
    assert asks(asked(CallSid="c", CallStatus="in-progress")) == ("c", None)
    assert asks(asked(CallSid="c", DialCallStatus="completed"))[1] == DialEnded(True, 503, "dial completed")
    assert asks(asked(CallSid="c", DialCallStatus="busy"))[1] == DialEnded(False, 486, "dial busy")
    gone = asks(asked(CallSid="c", DialCallStatus="no-answer", CallStatus="completed"))[1]
    assert gone == DialEnded(False, 408, "dial no-answer", "completed")


@pytest.mark.parametrize(
    ("status", "code"),
    [("busy", 486), ("no-answer", 408), ("timeout", 408), ("cancel", 487), ("failed", 503), ("new", 503)],
)
def test_how_a_dial_went_by_plivos_names(status: str, code: int) -> None:
    asks = CARRIERS["plivo"].asks
    assert asks(asked(CallUUID="c", CallStatus="in-progress")) == ("c", None)
    assert asks(asked(CallUUID="c", DialStatus=status))[1] == DialEnded(False, code, f"dial {status}")
    ended = asks(asked(CallUUID="c", DialStatus="completed"))[1]
    assert ended is not None
    assert ended.talked


@each
def test_who_is_dialled_rings_answers_or_does_neither(kind: str) -> None:
    answered = CARRIERS[kind].answered
    forms = [{"CallStatus": "ringing"}, {"CallStatus": "in-progress"}, {"CallStatus": "completed"}]
    if kind == "plivo":
        forms = [{"DialAction": "digits"}, {"DialAction": "answer"}, {"DialAction": "hangup"}]
    expected = [None if kind == "plivo" else False, True, None]
    assert [answered(asked(**form)) for form in forms] == expected


@each
def test_a_question_of_no_call_is_unreadable(kind: str) -> None:
    with pytest.raises(Unreadable):
        CARRIERS[kind].asks(asked(DialStatus="busy", DialCallStatus="busy"))
