"""What the messages of a transfer mean, when audio counts as lost, and keys in INFO: without the library."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.call.events import (
    LegEvent,
    MediaBack,
    MediaLost,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
)
from telbridge.legs.sip.info import REMEMBERED, Copies, info_key
from telbridge.legs.sip.refer import BYE_AFTER_ACCEPT_NS, Progress, Transfer, progress, refer_to
from telbridge.legs.sip.watch import LOST_NS, MediaWatch

ACCEPTED = "SIP/2.0 202 Accepted\r\nCSeq: 7 REFER\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("sip:a@b;x=y?h=z", "<sip:a@b;x=y?h=z>"),
        ("SIPS:a@b", "<SIPS:a@b>"),
        ("tel:+49-30;ext=5", "<tel:+49-30;ext=5>"),
        ("a@b:5070", "<sip:a@b:5070>"),
        ("+4930", "<sip:+4930@192.0.2.1>"),
        ("#31#7", "<sip:%2331%237@192.0.2.1>"),
        ("a%20b@c", "<sip:a%20b@c>"),
        (" 200 ", "<sip:200@192.0.2.1>"),
    ],
)
def test_where_the_caller_is_sent(target: str, value: str) -> None:
    assert refer_to(target, "192.0.2.1") == value


@given(st.text(alphabet=string.printable + "é\x00", max_size=600))
def test_no_target_breaks_out_of_its_header(target: str) -> None:
    try:
        value = refer_to(target, "192.0.2.1")
    except ValueError:
        return
    assert value.startswith("<") and value.endswith(">") and value.isascii() and value.isprintable()
    assert not set(value[1:-1]) & set(' <>"')


def notify(body: str, state: str = "active;expires=60", event: str = "refer") -> str:
    return f"NOTIFY sip:x SIP/2.0\r\no: {event}\r\nSubscription-State: {state}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (notify("SIP/2.0 180 Ringing\r\n"), Progress(None, 180, "Ringing", last=False)),
        (
            notify("SIP/2.0 486 Busy Here\r\nX: y", "terminated;reason=noresource", "refer;id=9"),
            Progress(9, 486, "Busy Here", last=True),
        ),
        (notify("SIP/2.0 200"), Progress(None, 200, "", last=False)),
        (notify("", "Terminated", "Refer ; ID = 3"), Progress(3, 0, "", last=True)),
        (notify("rubbish"), Progress(None, 0, "", last=False)),
        (notify("SIP/2.0 200 OK", event="presence"), None),
    ],
)
def test_what_a_notify_tells(text: str, meaning: Progress | None) -> None:
    assert progress(text) == meaning


def tell(
    transfer: Transfer, status: int, at_ns: int, *, last: bool = False, about: int | None = None
) -> object:
    return transfer.notified(Progress(about, status, "", last), at_ns)


def asked() -> Transfer:
    transfer = Transfer()
    transfer.begin()
    return transfer


def test_it_rings_once_and_is_answered_once() -> None:
    transfer = asked()
    assert transfer.refer_answered(202, ACCEPTED, 1) == [] == tell(transfer, 100, 2)
    assert tell(transfer, 180, 3) == [TransferRinging(3)]
    assert tell(transfer, 183, 4) == []
    assert tell(transfer, 200, 5, last=True) == [TransferAnswered(5)]
    assert tell(transfer, 200, 6) == [] == transfer.expired(7)
    assert transfer.done and not transfer.pending


def test_a_notify_may_overtake_the_answer_to_its_refer() -> None:
    transfer = asked()
    assert tell(transfer, 200, 1) == [TransferAnswered(1)]
    assert transfer.refer_answered(202, ACCEPTED, 2) == []


def test_a_peer_that_tells_nothing_by_agreement_has_transferred() -> None:
    """RFC 4488."""
    transfer = asked()
    assert transfer.refer_answered(202, "SIP/2.0 202 OK\r\nRefer-Sub: false\r\n\r\n", 1) == [
        TransferAnswered(1)
    ]


def test_a_subscription_that_ends_without_a_result_is_a_failure() -> None:
    transfer = asked()
    transfer.refer_answered(202, ACCEPTED, 1)
    (failed,) = transfer.notified(Progress(None, 100, "Trying", last=True), 2)
    assert isinstance(failed, TransferFailed) and failed.status == 408


@pytest.mark.parametrize(
    ("after_ns", "rang", "moved"),
    [(0, False, True), (BYE_AFTER_ACCEPT_NS, False, False), (0, True, False)],
)
def test_what_a_bye_of_the_peer_means(after_ns: int, rang: bool, moved: bool) -> None:
    transfer = asked()
    assert transfer.peer_hung_up(0) == []
    transfer.refer_answered(202, ACCEPTED, 5)
    if rang:
        tell(transfer, 180, 5)
    assert bool(transfer.peer_hung_up(5 + after_ns)) is moved is transfer.done


@pytest.mark.parametrize("about", [None, 7])
def test_late_news_of_a_transfer_that_was_given_up_is_not_news_of_the_next(about: int | None) -> None:
    transfer = asked()
    transfer.refer_answered(202, ACCEPTED, 1)
    assert transfer.expired(2) == [TransferFailed(408, 2, "no answer in time")]
    transfer.begin()
    transfer.refer_answered(202, ACCEPTED.replace("7", "8"), 3)
    assert tell(transfer, 180, 4, about=about) == []
    assert tell(transfer, 487, 5, about=about, last=True) == []
    assert tell(transfer, 180, 6, about=about and 8) == [TransferRinging(6)]
    assert tell(transfer, 200, 7, about=about and 8) == [TransferAnswered(7)]


@given(
    st.lists(
        st.one_of(
            st.just("begin"),
            st.just("expire"),
            st.just("bye"),
            st.tuples(st.just("refer"), st.sampled_from([200, 202, 405, 603])),
            st.tuples(st.just("notify"), st.sampled_from([0, 100, 180, 183, 200, 302, 486]), st.booleans()),
        ),
        max_size=30,
    )
)
def test_each_transfer_ends_at_most_once_and_rings_before(script: list[object]) -> None:
    transfer, open_transfers, rang = Transfer(), 0, False
    for at_ns, step in enumerate(script):
        events: list[LegEvent] = []
        match step:
            case "begin":
                if not transfer.pending and not transfer.done:
                    transfer.begin()
                    open_transfers, rang = 1, False
            case "expire":
                events = transfer.expired(at_ns)
            case "bye":
                events = transfer.peer_hung_up(at_ns)
            case ("refer", int(status)):
                events = transfer.refer_answered(status, ACCEPTED, at_ns)
            case ("notify", int(status), bool(last)):
                events = transfer.notified(Progress(None, status, "", last), at_ns)
        for event in events:
            assert open_transfers == 1
            if isinstance(event, TransferRinging):
                assert not rang
                rang = True
            else:
                open_transfers = 0
        assert transfer.pending is bool(open_transfers)


# ---------------------------------------------------------------- audio that stops


def test_audio_is_lost_once_and_back_once() -> None:
    watch, told = MediaWatch(30.0), []
    watch.start(0)
    for tick in range(200):
        now_ns = tick * 100_000_000
        packets = tick if tick < 20 or tick >= 100 else 19
        told += watch.look(packets, held=False, now_ns=now_ns)
    assert told == [MediaLost(1_900_000_000 + LOST_NS), MediaBack(10_000_000_000)]


def test_audio_that_never_comes_is_lost_and_times_out() -> None:
    watch = MediaWatch(5.0)
    watch.start(10)
    assert watch.look(0, held=False, now_ns=LOST_NS + 9) == []
    assert watch.look(None, held=False, now_ns=LOST_NS + 10) == [MediaLost(LOST_NS + 10)]
    assert not watch.timed_out(5_000_000_009) and watch.timed_out(5_000_000_010)


def test_on_hold_nothing_is_lost() -> None:
    watch = MediaWatch(5.0)
    watch.start(0)
    watch.look(10, held=False, now_ns=1)
    for second in range(60):
        assert watch.look(10, held=True, now_ns=second * 1_000_000_000) == []
    assert not watch.timed_out(59_000_000_000)
    assert watch.look(10, held=False, now_ns=59_000_000_000 + LOST_NS) == [
        MediaLost(59_000_000_000 + LOST_NS)
    ]


# ---------------------------------------------------------------- INFO


@given(st.text(alphabet=string.printable, max_size=300))
def test_any_info_is_read(text: str) -> None:
    for whole in (text, f"INFO sip:x SIP/2.0\r\nContent-Type: application/dtmf\r\n\r\n{text}"):
        key = info_key(whole)
        assert key is None or key.digit in "0123456789*#ABCD"


def test_copies_are_known_and_forgotten() -> None:
    copies = Copies()
    for number in range(REMEMBERED + 1):
        copies.add(("call", str(number)))
    assert ("call", "0") not in copies and ("call", "1") in copies
