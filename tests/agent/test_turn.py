"""Turns from literal probabilities: one number is a hop of 32 ms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telbridge.agent.speech.turn import (
    HOP_MS,
    MAX_TURN_MS,
    Hop,
    TurnEnded,
    TurnEvent,
    TurnGoesOn,
    TurnMachine,
    TurnMayBeOver,
    TurnRules,
    TurnStarted,
)

SPEECH, QUIET = [0.9], [0.02]
PLAIN = TurnRules(prefix_ms=0)


def hear(probabilities: list[float], rules: TurnRules = PLAIN, **facts: bool) -> list[tuple[int, TurnEvent]]:
    """The events and the ms at which each came."""
    machine = TurnMachine(rules)
    events = [(n * HOP_MS, machine.push(Hop(p, **facts))) for n, p in enumerate(probabilities, 1)]
    return [(at, event) for at, event in events if event is not None]


def samples(ms: int) -> int:
    return ms * 8


def test_speech_of_64_ms_starts_a_turn_at_its_first_sample() -> None:
    assert hear(QUIET * 10 + SPEECH * 2) == [(384, TurnStarted(samples(320), interrupts=False))]


def test_one_hop_of_speech_is_nothing() -> None:
    assert hear((QUIET * 3 + SPEECH) * 5) == []


def test_the_turn_contains_the_prefix() -> None:
    (_, started), *_ = hear(QUIET * 20 + SPEECH * 2, TurnRules(prefix_ms=300))
    assert isinstance(started, TurnStarted) and started.start == samples(640 - 300)


def test_a_pause_of_200_ms_starts_recognition_and_500_ms_end_the_turn() -> None:
    events = hear(SPEECH * 10 + QUIET * 20)
    assert events == [
        (64, TurnStarted(0, interrupts=False)),
        (320 + 224, TurnMayBeOver(0, samples(544))),
        (320 + 512, TurnEnded(0, samples(320))),
    ]


def test_whoever_goes_on_after_a_pause_has_not_ended() -> None:
    events = hear(SPEECH * 5 + QUIET * 8 + SPEECH * 5 + QUIET * 16)
    assert [type(event) for _, event in events] == [
        TurnStarted,
        TurnMayBeOver,
        TurnGoesOn,
        TurnMayBeOver,
        TurnEnded,
    ]


def test_a_pause_shorter_than_200_ms_is_part_of_speaking() -> None:
    assert len(hear(SPEECH * 5 + QUIET * 6 + SPEECH * 5)) == 1


def test_what_is_inaudible_or_echo_is_no_speech() -> None:
    assert hear(SPEECH * 20, audible=False) == []
    assert hear(SPEECH * 20, echo=True) == []


def test_interrupting_takes_more_and_clearer_speech() -> None:
    assert hear([0.65] * 20, agent_speaks=True) == []
    assert hear(SPEECH * 3, agent_speaks=True) == [(96, TurnStarted(0, interrupts=True))]


def test_a_gap_in_the_first_word_does_not_start_the_count_again() -> None:
    assert hear([0.9, 0.9, 0.1, 0.9, 0.9], agent_speaks=True) == [
        (160, TurnStarted(samples(160 - 96), interrupts=True))
    ]


def test_without_barge_in_nobody_interrupts() -> None:
    assert hear(SPEECH * 50, TurnRules(barge_in=False), agent_speaks=True) == []


def test_an_endless_turn_is_cut() -> None:
    events = hear(SPEECH * (MAX_TURN_MS // HOP_MS + 40))
    assert [type(event) for _, event in events] == [TurnStarted, TurnEnded, TurnStarted]


@given(st.lists(st.floats(0, 1), max_size=400))
def test_turns_follow_one_another_and_share_no_sample(probabilities: list[float]) -> None:
    last_end = 0
    expected: type[TurnEvent] | None = TurnStarted
    for _, event in hear(probabilities, TurnRules()):
        if isinstance(event, TurnStarted):
            assert expected is TurnStarted and event.start >= last_end
            expected = None
        elif isinstance(event, TurnEnded):
            assert expected is None and event.end > event.start
            last_end, expected = event.end, TurnStarted
        else:
            assert expected is None
