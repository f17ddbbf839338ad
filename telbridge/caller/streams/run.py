"""One whole call by media stream from options to report: what `telbridge call twilio+ws://…` does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from telbridge.audio.formats import PCMU_8K
from telbridge.audio.wav import write_wav
from telbridge.caller.conversation import Conversation, Turn
from telbridge.caller.report import Gaps, TurnReport
from telbridge.caller.rtp import CLOCK_HZ
from telbridge.caller.run import CallOptions, Ladder, OnEvent, prepare
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.webhook import Account, Refusal
from telbridge.caller.timeline import by_timestamp

SCHEMES: Final = (
    "twilio+ws:",
    "twilio+wss:",
    "twilio+http:",
    "twilio+https:",
    "ws:",
    "wss:",
    "audiosocket:",
    "asterisk-ws:",
    "asterisk-wss:",
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
    """Call, talk, hang up, tell. TWILIO_AUTH_TOKEN signs, TWILIO_ACCOUNT_SID is whose call it is. A call that
    is refused is a report too; errors are those of the options: ValueError, OSError."""
    steps = [await prepare(step, options.synthesize) for step in options.script]
    account = Account(environ.get("TWILIO_ACCOUNT_SID", TEST_ACCOUNT), environ.get("TWILIO_AUTH_TOKEN", ""))
    ladder = Ladder(on_event)
    async with StreamPhone(account=account, keep=True) as phone:
        started_ns = ladder.start()
        try:
            call = await phone.call(options.uri, on_trace=ladder.add)
        except Refusal as refusal:
            return _refused(options.uri, str(refusal))
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from None
        conversation = Conversation(call, steps, patience=options.patience, on_trace=ladder.add)
        try:
            async with asyncio.timeout(options.max_duration_s):
                await conversation.run()
        except TimeoutError:
            pass  # the report tells how long it was
        finally:
            await call.hang_up()
        if options.record is not None:
            _record(call, options)
        return _report(options, call, conversation.turns, started_ns)


def _refused(uri: str, why: str) -> StreamReport:
    return StreamReport(uri, why, "refused", "", None, None, None, (), 0, 0.0, 0.0, 0, 0.0, (), None)


def _record(call: StreamCall, options: CallOptions) -> None:
    """Two channels: left what we sent, right what the caller heard."""
    assert options.record is not None
    origin_ns = call.facts.opened_ns
    left, right = (by_timestamp(packets).aligned(origin_ns) for packets in (call.sent, call.received))
    length = max(len(left), len(right))
    write_wav(options.record, [left.ljust(length, b"\0"), right.ljust(length, b"\0")], CLOCK_HZ)


def _report(options: CallOptions, call: StreamCall, turns: list[Turn], started_ns: int) -> StreamReport:
    facts, counters = call.facts, call.player.counters
    assert call.ended is not None
    return StreamReport(
        uri=options.uri,
        refused="",
        ended_by=call.ended.by,
        end_reason=call.ended.reason,
        opened_ms=_between(started_ns, facts.opened_ns),
        first_audio_ms=_between(facts.opened_ns, facts.first_audio_ns),
        duration_ms=_between(facts.opened_ns, facts.ended_ns),
        turns=tuple(
            TurnReport(
                turn.text,
                _between(facts.opened_ns, turn.onset_ns) or 0.0,
                turn.gap_ms,
                turn.barge_in_stop_ms,
            )
            for turn in turns
        ),
        messages=facts.messages,
        heard_ms=PCMU_8K.ms_in(counters.played),
        cleared_ms=PCMU_8K.ms_in(counters.cleared),
        clears=len(facts.clears),
        most_buffered_ms=PCMU_8K.ms_in(counters.most_buffered),
        complaints=tuple(facts.complaints),
        sending_gaps=Gaps.of(call.sending_gaps),
        record=str(options.record) if options.record is not None else None,
    )


def _between(start_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - start_ns) / 1e6


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
