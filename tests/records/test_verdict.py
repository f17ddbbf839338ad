"""What was worst in a call, and whose it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.ops.verdict import judge
from telbridge.ops.waterfall import Whose, wait_of
from tests.records.made import answered, cut, greeting, record, turn

RTP = {
    "codec": "pcma",
    "rx_packets": 1500,
    "rx_lost": 0,
    "rx_discarded": 0,
    "rx_jitter_ms": 1.0,
    "tx_packets": 1500,
    "tx_lost": 0,
    "tx_jitter_ms": 1.0,
    "rtt_ms": 20.0,
    "mos": 4.3,
}
TABLE = {"name": "find_table", "asked_ms": 5400.0, "took_ms": 3000.0}
CASES: list[tuple[dict[str, Any], str, Whose, str]] = [
    (
        {"ending": "agent_lost", "detail": "no answer for 12 s"},
        "agent_lost",
        Whose.AGENT,
        "no answer for 12 s",
    ),
    ({"ending": "media_timeout"}, "media_timeout", Whose.LINE, "stopped coming"),
    ({"ending": "worker_died"}, "worker_died", Whose.BRIDGE, "died"),
    (
        {"ending": "no_dialplan", "answered_ms": None, "turns": []},
        "no_dialplan",
        Whose.OPERATOR,
        "No dialplan",
    ),
    (
        {"ending": "caller_cancelled", "answered_ms": None, "session_ready_ms": None, "duration_ms": 9000},
        "gave_up_ringing",
        Whose.AGENT,
        "gave up after 9.0 s",
    ),
    ({"answered_ms": 7000.0, "session_ready_ms": 6900.0}, "long_ringing", Whose.AGENT, "rang for 7.0 s"),
    ({"answered_ms": 7000.0, "session_ready_ms": 500.0}, "long_ringing", Whose.LINE, "rang for 7.0 s"),
    (
        {"first_sound_ms": 4000.0, "turns": [turn(agent_first_audio_ms=3950.0, agent_first_frame_ms=4000.0)]},
        "late_greeting",
        Whose.AGENT,
        "nothing for 3.1 s after the answer",
    ),
    (
        {"turns": [greeting(), answered(5000.0, first_audio=3000.0)]},
        "slow_answer",
        Whose.AGENT,
        "In turn 2 the caller waited 3.3 s, 3.0 s of it for the agent's first audio.",
    ),
    ({"turns": [answered(5000.0, end_of_turn=2500.0)]}, "slow_answer", Whose.AGENT, "end-of-turn decision"),
    ({"turns": [answered(5000.0, downlink=2500.0)]}, "slow_answer", Whose.BRIDGE, "downlink queue"),
    (
        {"turns": [answered(5000.0, first_audio=3500.0, more={"tools": [TABLE]})]},
        "slow_answer",
        Whose.DIALPLAN,
        "3.0 s of it for tools",
    ),
    (
        {"turns": [turn(caller_started_ms=2000.0, caller_stopped_ms=4000.0, caller_text="Hello?")]},
        "no_answer",
        Whose.AGENT,
        "26.0 s of silence",
    ),
    (
        {"turns": [answered(5000.0, more={"interruption": cut(9000.0, stop_ms=900.0, talk_over_ms=1000.0)})]},
        "talked_over",
        Whose.BRIDGE,
        "talked on for 1.0 s",
    ),
    (
        {"turns": [answered(5000.0, more={"interruption": cut(9000.0, talk_over_ms=1400.0)})]},
        "talked_over",
        Whose.AGENT,
        "talked on for 1.4 s",
    ),
    (
        {"turns": [answered(5000.0, more={"interruption": cut(9000.0, false=True)})]},
        "false_interruption",
        Whose.AGENT,
        "cut off once though nobody had spoken",
    ),
    (
        {"turns": [answered(5000.0, more={"agent_over_caller_ms": 1200.0})]},
        "interrupted_caller",
        Whose.AGENT,
        "went on for 1.2 s",
    ),
    ({"rtp": {**RTP, "rx_lost": 120}}, "packet_loss", Whose.LINE, "7.4% of the audio from the caller"),
    ({"rtp": {**RTP, "tx_lost": 75}}, "packet_loss", Whose.LINE, "5.0% of the audio to the caller"),
    ({"underruns": 3, "underrun_frames": 60}, "choppy_agent", Whose.AGENT, "stopped 3 times"),
    ({"uplink_dropped_ms": 2000}, "deaf_agent", Whose.AGENT, "2.0 s of the caller's words"),
    ({"session_losses": 2}, "agent_reconnected", Whose.AGENT, "broke twice"),
    ({"dialplan_failures": {"webhook failed": 1}}, "failed_action", Whose.DIALPLAN, "webhook failed, once"),
]


@pytest.mark.parametrize(("facts", "kind", "whose", "words"), CASES)
def test_each_rule_names_what_it_was_and_whose(
    facts: dict[str, Any], kind: str, whose: Whose, words: str
) -> None:
    verdict = judge(record(**facts))
    assert (verdict.kind, verdict.whose) == (kind, whose)
    assert words in verdict.sentence


def test_of_two_troubles_the_one_with_more_harm_is_told() -> None:
    slow = answered(5000.0, first_audio=2500.0)
    assert judge(record(turns=[slow], underruns=1, underrun_frames=20)).kind == "slow_answer"
    assert judge(record(turns=[slow], underruns=9, underrun_frames=200)).kind == "choppy_agent"
    assert judge(record(turns=[slow], ending="agent_lost")).kind == "agent_lost"


def test_a_good_call_is_fine_and_says_how_long_the_waits_were() -> None:
    verdict = judge(
        record(turns=[greeting(), answered(5000.0), answered(9000.0, first_audio=700.0)], rtp=RTP)
    )
    assert (verdict.kind, verdict.whose) == ("fine", Whose.NOBODY)
    assert verdict.sentence == "Nothing stands out: the caller waited 816 ms as a rule and 1.0 s at most."


def test_a_cough_and_the_last_words_of_a_call_want_no_answer() -> None:
    cough = turn(caller_started_ms=2000.0, caller_stopped_ms=2300.0)
    bye = turn(caller_started_ms=27_000.0, caller_stopped_ms=29_000.0, caller_text="Goodbye.")
    assert judge(record(turns=[greeting(), cough, bye])).kind == "fine"


def test_the_parts_of_a_wait_fill_it_whatever_tools_did_meanwhile() -> None:
    tools = [
        {"name": "a", "asked_ms": 5000.0, "took_ms": 500.0},  # before the decision: not in the first audio
        {"name": "b", "asked_ms": 5400.0, "took_ms": 300.0},
        {"name": "c", "asked_ms": 5500.0, "took_ms": None},  # never answered
    ]
    wait = wait_of(answered(5000.0, first_audio=1000.0, more={"tools": tools}))
    assert wait is not None
    assert wait.ms == pytest.approx(1326.0)
    assert [(part.name, part.ms) for part in wait.parts if part.name in ("tools", "first_audio")] == [
        ("tools", pytest.approx(1000.0)),
        ("first_audio", pytest.approx(0.0)),
    ]


@settings(max_examples=50)
@given(st.sets(st.sampled_from(sorted(record()))))
def test_a_record_that_lacks_something_is_judged_by_what_it_has(lacking: set[str]) -> None:
    full = record(turns=[answered(5000.0)], rtp=RTP, ending="caller_cancelled")
    assert judge({**full, **dict.fromkeys(lacking)}).sentence
    assert judge({key: value for key, value in full.items() if key not in lacking}).sentence
