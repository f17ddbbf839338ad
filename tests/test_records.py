"""Records: what of a call is written."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from telbridge.audio.formats import PCMA_8K
from telbridge.call.events import CallFacts, Ending, LegQuality, ReplyId
from telbridge.call.journal import Happening
from telbridge.call.playout import PlayoutTotals
from telbridge.call.summary import CallSummary, Marks
from telbridge.call.turns import Interruption, Turn
from telbridge.ops.records import Privacy, record_of, record_without_a_call

FACTS = CallFacts("c1", "sip", "15551", "15552", "192.0.2.1:5060", PCMA_8K, signalling_id="abc@host")
AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
GREETING = Turn(agent_first_frame_ms=210.04, agent_text="Hello.", replies=[ReplyId(1)])
CUT = Turn(
    caller_text="Stop.", interruption=Interruption(at_ms=812.26, onset_ms=700.0, stop_ms=18.31, heard_ms=600)
)


def summary(*turns: Turn) -> CallSummary:
    return CallSummary(
        facts=FACTS,
        ending=Ending.CALLER_HUNG_UP,
        detail="",
        duration_ms=9000.4,
        answered_ms=21.66,
        session_ready_ms=None,
        turns=list(turns),
        playout=PlayoutTotals(heard_samples=16_000, discarded_samples=800, underruns=1, underrun_frames=3),
        rate_hz=8000,
        quality=LegQuality("pcma", 450, 2, 0, 1.5, 449, 0, 0.4, None),
        uplink_dropped_ms=0,
        dtmf_count=2,
        session_losses=1,
        dialplan="support",
        dialplan_version="abc123",
        marks=Marks(tags=["vip"], counts={"orders": 2.0}),
        faults=Counter(unknown_message=1),
    )


def test_a_record_says_who_called_how_it_ended_and_what_was_heard() -> None:
    record = record_of(summary(GREETING, CUT), Privacy(), AT)
    assert record["started_at"] == "2026-11-21T09:00:00.000+00:00"
    assert record["ended_at"] == "2026-11-21T09:00:09.000+00:00"
    assert (record["caller"], record["called"], record["codec"]) == ("15551", "15552", "pcma/8000")
    assert (record["ending"], record["answered_ms"], record["session_ready_ms"]) == (
        "caller_hung_up",
        21.7,
        None,
    )
    assert (record["agent_heard_ms"], record["agent_discarded_ms"]) == (2000, 100)
    assert record["rtp"]["rx_lost"] == 2
    assert record["session_losses"] == 1
    assert record["turns"][0]["agent_first_frame_ms"] == 210.0
    assert record["turns"][1]["interruption"] == {
        "at_ms": 812.3,
        "by": "api",
        "onset_ms": 700.0,
        "detect_ms": 112.3,
        "stop_ms": 18.3,
        "talk_over_ms": 130.6,
        "heard_ms": 600,
        "discarded_ms": 0,
        "false": None,
    }
    json.dumps(record)


def test_turns_in_which_nothing_happened_are_left_out() -> None:
    assert len(record_of(summary(Turn(), GREETING), Privacy(), AT)["turns"]) == 1


def test_without_transcripts_the_times_stay_and_the_words_go() -> None:
    (turn,) = record_of(summary(GREETING), Privacy(transcripts=False), AT)["turns"]
    assert "agent_text" not in turn
    assert turn["agent_first_frame_ms"] == 210.0


def test_hashed_numbers_are_the_same_for_the_same_caller_and_stand_nowhere_in_clear() -> None:
    private = Privacy(key=b"key")
    events = [Happening(900.0, "transfer_requested", {"target": "15553"})]
    record = record_of(replace(summary(), events=events), private, AT)
    assert record["caller"] == private.number("15551") != Privacy(key=b"other").number("15551")
    assert not {"15551", "15552", "15553"} & set(re.findall(r"\d+", json.dumps(record)))
    assert private.number("") == ""


def test_events_are_told_with_their_times() -> None:
    events = [Happening(900.04, "key", {"method": "rfc4733"})]
    record = record_of(replace(summary(), events=events, events_dropped=3), Privacy(), AT)
    assert record["events"] == [{"at_ms": 900.0, "kind": "key", "method": "rfc4733"}]
    assert record["events_dropped"] == 3


def test_a_call_that_came_to_nothing_leaves_a_record_too() -> None:
    record = record_without_a_call(FACTS, Ending.NO_DIALPLAN, "", Privacy())
    assert (record["call_id"], record["ending"], record["turns"], record["answered_ms"]) == (
        "c1",
        "no_dialplan",
        [],
        None,
    )
