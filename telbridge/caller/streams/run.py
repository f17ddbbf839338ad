"""One whole call by media stream from options to report: what `telbridge call twilio+ws://…` does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from telbridge.audio.formats import PCMU_8K
from telbridge.audio.wav import write_wav
from telbridge.caller.conversation import Conversation, Step, Turn
from telbridge.caller.report import Gaps, TurnReport
from telbridge.caller.rtp import CLOCK_HZ
from telbridge.caller.run import CallOptions, Ladder, OnEvent, prepare
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.line import DialEnd, Line
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.sides import sides_of
from telbridge.caller.streams.twiml import Dial
from telbridge.caller.streams.webhook import Account, Refusal
from telbridge.caller.timeline import by_timestamp

_CARRIERS: Final = ("twilio", *sides_of({}))
_SECURE_OR_NOT: Final = ("ws:", "wss:", "http:", "https:")
_ASTERISK: Final = ("asterisk-ws:", "asterisk-wss:", "audiosocket:")
SCHEMES: Final = (
    *(f"{name}+{each}" for name in _CARRIERS for each in _SECURE_OR_NOT),
    *_ASTERISK,
    "ws:",
    "wss:",
)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """All figures of a call. Durations in ms; None: it did not come to that."""

    uri: str
    refused: str
    """Why the bridge did not take it; "" if it did."""
    ended_by: str
    end_reason: str
    opened_ms: float | None
    """First request -> stream open."""
    first_audio_ms: float | None
    """Stream open -> first audio message."""
    duration_ms: float | None
    turns: tuple[TurnReport, ...]
    messages: int
    heard_ms: float
    cleared_ms: float
    """Agent audio that the bridge had thrown away unheard."""
    clears: int
    most_buffered_ms: float
    """The bridge's lead: most agent audio that waited here at a time."""
    complaints: tuple[str, ...]
    """Where the bridge broke the protocol."""
    sending_gaps: Gaps | None
    record: str | None = None
    twiml: tuple[str, ...] = ()
    """What the carrier was told to do, one short text a verb."""

    @property
    def ok(self) -> bool:
        """It was taken, and not the network ended it."""
        return not self.refused and self.ended_by in ("us", "peer")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """A summary for people, one fact a line."""
        if self.refused:
            return [f"{self.uri}: refused: {self.refused}"]
        reason = f" ({self.end_reason})" if self.end_reason else ""
        lines = [
            f"{self.uri}: ended by {self.ended_by}{reason}",
            f"stream open after {_ms(self.opened_ms)}",
            f"first audio       {_ms(self.first_audio_ms)} after that",
            *(f"turn {number:<12} {turn}" for number, turn in enumerate(self.turns, 1)),
            f"received          {self.messages} messages, {self.heard_ms / 1000:.1f} s of speech heard, "
            f"{self.cleared_ms:.0f} ms cleared in {self.clears} clears",
            f"most buffered     {self.most_buffered_ms:.0f} ms",
            f"gaps sent         {self.sending_gaps}",
        ]
        if len(self.twiml) > 1:
            lines.append(f"TwiML             {', '.join(self.twiml)}")
        lines += [f"complaint         {each}" for each in self.complaints]
        if self.record is not None:
            lines.append(f"recorded in       {self.record}")
        return lines


def is_stream(uri: str) -> bool:
    """Whether this address is for here, not for SIP."""
    return uri.startswith(SCHEMES)


async def run_stream_call(
    options: CallOptions, on_event: OnEvent | None = None, environ: Mapping[str, str] = os.environ
) -> StreamReport:
    """Call, talk, hang up, tell. TWILIO_AUTH_TOKEN signs, TWILIO_ACCOUNT_SID is whose call it is; for other
    carriers see `sides_of`. A call that is refused is a report too; errors are those of the options:
    ValueError, OSError."""
    steps = [await prepare(step, options.synthesize) for step in options.script]
    account = Account(environ.get("TWILIO_ACCOUNT_SID", TEST_ACCOUNT), environ.get("TWILIO_AUTH_TOKEN", ""))
    ladder = Ladder(on_event)

    async def dialled(_dial: Dial) -> DialEnd:
        return DialEnd(options.dial_ends, talk_s=1.0)

    async with StreamPhone(account=account, sides=sides_of(environ), keep=True, on_dial=dialled) as phone:
        started_ns = ladder.start()
        try:
            first = await phone.call(options.uri, on_trace=ladder.add)
        except Refusal as refusal:
            return _refused(options.uri, str(refusal))
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from None
        line = phone.line(first)
        calls, turns = [first], list[Turn]()
        try:
            async with asyncio.timeout(options.max_duration_s):
                await _talk(calls, turns, steps, line, options, ladder)
        except TimeoutError:
            pass  # the report tells how long it was
        except Refusal as fault:
            calls[-1].facts.complaints.append(str(fault))
        finally:
            await calls[-1].hang_up()
        if options.record is not None:
            _record(calls, options)
        return _report(options, calls, turns, started_ns, tuple(line.log) if line else ())


async def _talk(
    calls: list[StreamCall],
    turns: list[Turn],
    steps: Sequence[Step],
    line: Line | None,
    options: CallOptions,
    ladder: Ladder,
) -> None:
    """Over all streams of the call: what was not said in one is said in the next."""
    while True:
        conversation = Conversation(calls[-1], steps, patience=options.patience, on_trace=ladder.add)
        try:
            await conversation.run()
        finally:
            turns += conversation.turns
            steps = steps[conversation.taken :]
        if line is None or calls[-1].ended is None:
            return
        following = await line.stream(len(calls) + 1)
        if following is None:
            await line.wait_over()
            return
        calls.append(following)


def _refused(uri: str, why: str) -> StreamReport:
    return StreamReport(uri, why, "refused", "", None, None, None, (), 0, 0.0, 0.0, 0, 0.0, (), None)


def _record(calls: Sequence[StreamCall], options: CallOptions) -> None:
    """Two channels: left what we sent, right what the caller heard."""
    assert options.record is not None
    origin_ns = calls[0].facts.opened_ns
    sent = [packet for call in calls for packet in call.sent]
    received = [packet for call in calls for packet in call.received]
    left, right = (by_timestamp(packets).aligned(origin_ns) for packets in (sent, received))
    length = max(len(left), len(right))
    write_wav(options.record, [left.ljust(length, b"\0"), right.ljust(length, b"\0")], CLOCK_HZ)


def _report(
    options: CallOptions,
    calls: Sequence[StreamCall],
    turns: list[Turn],
    started_ns: int,
    twiml: tuple[str, ...],
) -> StreamReport:
    first, last = calls[0], calls[-1]
    opened_ns = first.facts.opened_ns
    assert last.ended is not None
    counters = [call.player.counters for call in calls]
    return StreamReport(
        uri=options.uri,
        refused="",
        ended_by=last.ended.by,
        end_reason=last.ended.reason,
        opened_ms=_between(started_ns, opened_ns),
        first_audio_ms=_between(opened_ns, first.facts.first_audio_ns),
        duration_ms=_between(opened_ns, last.facts.ended_ns),
        turns=tuple(
            TurnReport(
                turn.text, _between(opened_ns, turn.onset_ns) or 0.0, turn.gap_ms, turn.barge_in_stop_ms
            )
            for turn in turns
        ),
        messages=sum(call.facts.messages for call in calls),
        heard_ms=sum(PCMU_8K.ms_in(each.played) for each in counters),
        cleared_ms=sum(PCMU_8K.ms_in(each.cleared) for each in counters),
        clears=sum(len(call.facts.clears) for call in calls),
        most_buffered_ms=max(PCMU_8K.ms_in(each.most_buffered) for each in counters),
        complaints=tuple(each for call in calls for each in call.facts.complaints),
        sending_gaps=Gaps.of(first.sending_gaps),
        record=str(options.record) if options.record is not None else None,
        twiml=twiml,
    )


def _between(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / 1e6


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
