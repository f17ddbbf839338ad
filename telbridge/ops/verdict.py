"""What was worst in a call, and whose it was: one sentence from its record. Pure.

Each rule looks at one kind of trouble and says how much of it the caller had, as seconds of harm: time in
which the caller waited, heard nothing or heard garbage, and a price for what has no length. The rule with the
most wins; below HARMLESS_S nothing stands out. docs/records.md has the rules as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from telbridge.ops.waterfall import Wait, Whose, wait_of

HARMLESS_S: Final = 0.3
GAP_FINE_MS: Final = 1_500.0
"""A wait that callers take without wondering whether anybody is there."""
UNANSWERED_MS: Final = 3_000.0
"""Who was not answered for so long, or to the call's end, was not answered."""
FIRST_WORDS_FINE_MS: Final = 1_500.0
TALK_OVER_FINE_MS: Final = 700.0
"""People who are cut in on need half a second themselves."""
RINGING_FINE_MS: Final = 4_000.0
LOSS_FINE: Final = 0.01
LOSS_HARM: Final = 3.0
"""A call that loses a tenth of its audio is as bad as if three tenths were missing: words go, not frames."""
BROKEN_S: Final = 30.0
"""A call that ended by a failure: worse than any wait within a call."""
LOST_SESSION_S: Final = 3.0
FAILED_ACTION_S: Final = 2.0
FALSE_CUT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is the rule, fit for a filter; "fine" if nothing stands out."""

    kind: str
    whose: Whose
    sentence: str
    harm_s: float = 0.0
    at_ms: float | None = None
    """Where to look, ms since the call arrived."""


FAILURES: Final[Mapping[str, tuple[Whose, str]]] = {
    "agent_unreachable": (Whose.AGENT, "The agent could not be reached"),
    "agent_refused": (Whose.OPERATOR, "The agent API refused our key or our settings"),
    "agent_lost": (Whose.AGENT, "The agent was lost in mid-call"),
    "media_timeout": (Whose.LINE, "The caller's audio stopped coming"),
    "leg_failed": (Whose.LINE, "The telephone side broke"),
    "drained": (Whose.OPERATOR, "The server was stopped and did not wait for this call"),
    "internal_error": (Whose.BRIDGE, "A bug of ours ended the call; the log has its traceback"),
    "worker_died": (Whose.BRIDGE, "The worker that carried the call died"),
    "no_dialplan": (Whose.OPERATOR, "No dialplan wanted the call"),
}


def judge(record: Mapping[str, Any]) -> Verdict:
    """The worst of a call. A record that lacks something, old or cut, is judged by what it has."""
    found = [verdict for rule in RULES for verdict in rule(record)]
    worst = max(found, key=lambda verdict: verdict.harm_s, default=None)
    if worst is None or worst.harm_s < HARMLESS_S:
        return Verdict("fine", Whose.NOBODY, _nothing(waits(record)))
    return worst


def waits(record: Mapping[str, Any]) -> list[tuple[int, Wait]]:
    """The waits of the turns that had one, with the number of the turn from 1."""
    numbered = ((number, wait_of(turn)) for number, turn in enumerate(_turns(record), 1))
    return [(number, wait) for number, wait in numbered if wait is not None]


def worst_gap_ms(record: Mapping[str, Any]) -> float | None:
    """The longest wait of the call."""
    return max((wait.ms for _, wait in waits(record)), default=None)


def _nothing(found: Sequence[tuple[int, Wait]]) -> str:
    if not found:
        return "Nothing stands out."
    gaps = [wait.ms for _, wait in found]
    return f"Nothing stands out: the caller waited {_s(median(gaps))} as a rule and {_s(max(gaps))} at most."


# -------------------------------------------------------------------- the rules


def _ending(record: Mapping[str, Any]) -> Iterator[Verdict]:
    ending, detail = str(record.get("ending")), record.get("detail")
    if ending in FAILURES:
        whose, sentence = FAILURES[ending]
        sentence += f": {detail}." if detail else "."
        yield Verdict(ending, whose, sentence, BROKEN_S, record.get("duration_ms"))


def _ringing(record: Mapping[str, Any]) -> Iterator[Verdict]:
    """It is answered when the agent is ready."""
    answered, ready = record.get("answered_ms"), record.get("session_ready_ms")
    if answered is None and record.get("ending") == "caller_cancelled":
        rang = record.get("duration_ms") or 0
        if rang > RINGING_FINE_MS:
            whose = Whose.AGENT if ready is None else Whose.BRIDGE
            what = "the agent was not ready" if ready is None else "the agent was ready"
            yield Verdict(
                "gave_up_ringing",
                whose,
                f"The caller gave up after {_s(rang)} of ringing: {what}.",
                BROKEN_S,
                rang,
            )
    elif answered is not None and answered > RINGING_FINE_MS:
        whose = Whose.AGENT if ready is not None and ready > answered / 2 else Whose.LINE
        yield Verdict(
            "long_ringing",
            whose,
            f"It rang for {_s(answered)}: {_ready_words(ready)}.",
            (answered - RINGING_FINE_MS) / 1000,
            answered,
        )


def _ready_words(ready: float | None) -> str:
    return "the agent never became ready" if ready is None else f"the agent took {_s(ready)} to become ready"


def _first_words(record: Mapping[str, Any]) -> Iterator[Verdict]:
    """Who waits for the caller to speak first is not late."""
    answered, sound = record.get("answered_ms"), record.get("first_sound_ms")
    first = next(iter(_turns(record)), {})
    if answered is None or sound is None or first.get("caller_started_ms") is not None:
        return
    silence = sound - answered
    if silence > FIRST_WORDS_FINE_MS:
        audio = first.get("agent_first_audio_ms")
        late = audio is not None and audio > answered
        yield Verdict(
            "late_greeting",
            Whose.AGENT if late else Whose.BRIDGE,
            f"The caller heard nothing for {_s(silence)} after the answer: "
            + ("the agent's greeting came late." if late else "the greeting was there, and waited."),
            (silence - FIRST_WORDS_FINE_MS) / 1000,
            answered,
        )


def _gaps(record: Mapping[str, Any]) -> Iterator[Verdict]:
    for number, wait in waits(record):
        if wait.ms > GAP_FINE_MS:
            longest = wait.longest
            yield Verdict(
                "slow_answer",
                longest.whose,
                f"In turn {number} the caller waited {_s(wait.ms)}, {_s(longest.ms)} of it for "
                f"{longest.title}.",
                (wait.ms - GAP_FINE_MS) / 1000,
                wait.from_ms,
            )


def _unanswered(record: Mapping[str, Any]) -> Iterator[Verdict]:
    """Only where words were understood: a cough may rightly stay unanswered. The last turn is not judged by
    what would have come after the caller had hung up."""
    turns, end = _turns(record), record.get("duration_ms") or 0
    for number, turn in enumerate(turns, 1):
        stopped = turn.get("caller_stopped_ms")
        if stopped is None or not turn.get("caller_text") or turn.get("agent_first_audio_ms") is not None:
            continue
        until = next(
            (later["caller_started_ms"] for later in turns[number:] if later.get("caller_started_ms")), end
        )
        if until - stopped > UNANSWERED_MS:
            yield Verdict(
                "no_answer",
                Whose.AGENT,
                f"In turn {number} the agent did not answer: {_s(until - stopped)} of silence.",
                (until - stopped) / 1000,
                stopped,
            )


def _talk_over(record: Mapping[str, Any]) -> Iterator[Verdict]:
    """Both at once: a slow stop is ours, a slow ear is the agent's."""
    for number, turn in enumerate(_turns(record), 1):
        cut = turn.get("interruption") or {}
        stop = cut.get("stop_ms") or 0.0
        over = cut.get("talk_over_ms") or stop
        if over > TALK_OVER_FINE_MS:
            yield Verdict(
                "talked_over",
                Whose.BRIDGE if stop > over / 2 else Whose.AGENT,
                f"In turn {number} the agent talked on for {_s(over)} after the caller had cut in.",
                over / 1000,
                cut.get("at_ms"),
            )


def _false_cuts(record: Mapping[str, Any]) -> Iterator[Verdict]:
    cuts = [cut for turn in _turns(record) if (cut := turn.get("interruption") or {}).get("false")]
    if cuts:
        lost = sum(cut.get("discarded_ms") or 0 for cut in cuts)
        yield Verdict(
            "false_interruption",
            Whose.AGENT,
            f"The agent was cut off {_times(len(cuts))} though nobody had spoken; {_s(lost)} went unheard.",
            FALSE_CUT_S * len(cuts),
            cuts[0].get("at_ms"),
        )


def _agent_cuts_in(record: Mapping[str, Any]) -> Iterator[Verdict]:
    for number, turn in enumerate(_turns(record), 1):
        over = turn.get("agent_over_caller_ms") or 0
        if over > TALK_OVER_FINE_MS:
            yield Verdict(
                "interrupted_caller",
                Whose.AGENT,
                f"In turn {number} the agent began while the caller spoke, who went on for {_s(over)}.",
                over / 1000,
                turn.get("agent_first_frame_ms"),
            )


def _loss(record: Mapping[str, Any]) -> Iterator[Verdict]:
    rtp, length = record.get("rtp") or {}, (record.get("duration_ms") or 0) / 1000
    for way, whom in (("rx", "from"), ("tx", "to")):
        lost, packets = rtp.get(f"{way}_lost") or 0, rtp.get(f"{way}_packets") or 0
        sent = packets + lost if way == "rx" else packets
        share = lost / sent if sent > 0 else 0.0
        if share > LOSS_FINE:
            yield Verdict(
                "packet_loss",
                Whose.LINE,
                f"{share:.1%} of the audio {whom} the caller was lost on the network.",
                share * LOSS_HARM * length,
            )


def _gaps_in_speech(record: Mapping[str, Any]) -> Iterator[Verdict]:
    times, silent_ms = record.get("underruns") or 0, 20 * (record.get("underrun_frames") or 0)
    if times:
        yield Verdict(
            "choppy_agent",
            Whose.AGENT,
            f"The agent's speech stopped {_times(times)} in mid-sentence, {_s(silent_ms)} in all: "
            "its audio came too slowly.",
            silent_ms / 1000,
        )


def _uplink(record: Mapping[str, Any]) -> Iterator[Verdict]:
    dropped = record.get("uplink_dropped_ms") or 0
    if dropped:
        yield Verdict(
            "deaf_agent",
            Whose.AGENT,
            f"{_s(dropped)} of the caller's words never reached the agent: its network fell behind.",
            dropped / 1000,
        )


def _sessions(record: Mapping[str, Any]) -> Iterator[Verdict]:
    losses = record.get("session_losses") or 0
    if losses:
        events: Sequence[Mapping[str, Any]] = record.get("events") or ()
        lost_at = (event.get("at_ms") for event in events if event.get("kind") == "session_lost")
        yield Verdict(
            "agent_reconnected",
            Whose.AGENT,
            f"The connection to the agent broke {_times(losses)} and was made again.",
            LOST_SESSION_S * losses,
            next(lost_at, None),
        )


def _dialplan(record: Mapping[str, Any]) -> Iterator[Verdict]:
    failures = record.get("dialplan_failures") or {}
    if failures:
        what, times = max(failures.items(), key=lambda failure: failure[1])
        yield Verdict(
            "failed_action",
            Whose.DIALPLAN,
            f"In the dialplan: {what}, {_times(times)}.",
            FAILED_ACTION_S * sum(failures.values()),
        )


RULES: Final[Sequence[Callable[[Mapping[str, Any]], Iterator[Verdict]]]] = (
    _ending,
    _ringing,
    _first_words,
    _gaps,
    _unanswered,
    _talk_over,
    _false_cuts,
    _agent_cuts_in,
    _loss,
    _gaps_in_speech,
    _uplink,
    _sessions,
    _dialplan,
)


def _turns(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return record.get("turns") or ()


def _s(ms: float) -> str:
    """As people say it."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
