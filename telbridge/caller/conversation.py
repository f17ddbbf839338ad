"""A caller who talks with an agent: waits for it, answers it, interrupts it, and takes the times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from telbridge.caller.ear import HANGOVER_MS, SPEECH_DBFS, Ear, Span, SpeechEvent, SpeechStarted
from telbridge.caller.handle import OnTrace
from telbridge.caller.pacer import FRAME_NS
from telbridge.caller.rtp import Packet
from telbridge.caller.talk import Talk
from telbridge.caller.timeline import voiced_frames

OUR_SPEECH_DBFS: Final = -50.0
"""Below our own synthesiser's and recordings' speech, above their silence."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something to say once the agent is quiet, or into its speech."""

    pcm: bytes
    """Linear 16 bit, 8 kHz."""
    text: str
    interrupt_after_ms: int | None = None
    """Say it when the agent has been speaking for so long; None: when it has finished."""


@dataclass(frozen=True, slots=True)
class Press:
    """Digits to press once the agent is quiet."""

    digits: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Say nothing for a while."""

    duration_ms: int


Step = Line | Press | Listen


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each thing is waited for."""

    greeting_s: float = 3.0
    """For the agent to speak first; then we do."""
    reply_s: float = 10.0
    """From our last word to the agent's first."""
    speech_s: float = 90.0
    """For the agent to come to an end."""
    hangover_ms: int = HANGOVER_MS
    """Quiet for so long means finished."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of ours and what the agent made of it. Times are monotonic nanoseconds."""

    text: str
    onset_ns: int
    """Our first loud packet left."""
    end_ns: int
    """Our last loud packet left."""
    reply_ns: int | None
    """Arrival of the agent's first loud packet after our onset that is a new speech of its own."""
    agent_silent_ns: int | None = None
    """If the agent was speaking at our onset: arrival of its last loud packet before it fell silent."""

    @property
    def gap_ms(self) -> float | None:
        """End of our speech -> first agent audio. Negative if the agent began before we ended."""
        return None if self.reply_ns is None else (self.reply_ns - self.end_ns) / 1e6

    @property
    def barge_in_stop_ms(self) -> float | None:
        """Our onset -> the last loud packet of the speech we interrupted."""
        return None if self.agent_silent_ns is None else (self.agent_silent_ns - self.onset_ns) / 1e6


class Conversation:
    """Plays steps into an answered call. `turns` and `ear` may be read at any time, also after a hang-up."""

    def __init__(
        self,
        call: Talk,
        steps: Sequence[Step],
        *,
        patience: Patience | None = None,
        on_trace: OnTrace | None = None,
    ) -> None:
        self.turns: list[Turn] = []
        self.taken = 0
        """Steps that were begun."""
        self.patience = patience or Patience()
        self.ear = Ear(level_dbfs=SPEECH_DBFS, hangover_ms=self.patience.hangover_ms)
        self._call = call
        self._steps = steps
        self._on_trace = on_trace
        self._condition: Callable[[int], bool] | None = None
        self._met: asyncio.Future[bool] | None = None
        call.media.on_packet.append(self._hear)
        call.media.on_tick.append(self._tick)

    async def run(self) -> list[Turn]:
        """All steps, then the agent's last words; ends early with the call."""
        async with asyncio.TaskGroup() as tasks:
            talk = tasks.create_task(self._talk(), name="conversation")
            ended = tasks.create_task(self._call.wait_ended(), name="conversation/ended")
            await asyncio.wait((talk, ended), return_when=asyncio.FIRST_COMPLETED)
            talk.cancel()
            ended.cancel()
        return self.turns

    async def _talk(self) -> None:
        await self._until(lambda _: self.ear.speaking, self.patience.greeting_s)
        for step in self._steps:
            await self._take(step)
        await self._quiet()

    async def _take(self, step: Step) -> None:
        match step:
            case Listen(duration_ms=duration_ms):
                self.taken += 1
                await asyncio.sleep(duration_ms / 1000)
            case Press(digits=digits):
                await self._press(digits)
            case Line():
                await self._say(step)

    async def _press(self, digits: str) -> None:
        await self._quiet()
        self._trace("->", f"digits {digits}")
        self.taken += 1
        try:
            played = await self._call.dtmf(digits)
        except ValueError as error:
            self._trace("!!", str(error))
            return
        pressed_ns = played.last_ns or time.monotonic_ns()
        await self._finish_turn(f"digits {digits}", pressed_ns, pressed_ns, spoken_over=False)

    async def _say(self, line: Line) -> None:
        after_ms = line.interrupt_after_ms
        if after_ms is None:
            await self._quiet()
        elif not await self._until(lambda now_ns: self._has_spoken(now_ns, after_ms), self.patience.reply_s):
            self._trace("!!", f"the agent does not speak: nothing to interrupt with {line.text!r}")
        spoken_over = self.ear.speaking
        self._trace("->", f"we {'interrupt' if spoken_over else 'say'}: {line.text}")
        self.taken += 1
        played = await self._call.play(line.pcm)
        if played.first_ns is None:
            return  # the call ended before it began
        first, last = voiced_frames(line.pcm, OUR_SPEECH_DBFS) or (0, 0)
        onset_ns, end_ns = played.first_ns + first * FRAME_NS, played.first_ns + last * FRAME_NS
        await self._finish_turn(line.text, onset_ns, end_ns, spoken_over=spoken_over)

    async def _finish_turn(self, text: str, onset_ns: int, end_ns: int, *, spoken_over: bool) -> None:
        patience_s = max(0.1, self.patience.reply_s - (time.monotonic_ns() - end_ns) / 1e9)
        if spoken_over:
            turn = await self._interruption(text, onset_ns, end_ns, patience_s)
        else:
            await self._until(lambda _: self.ear.started_after(onset_ns) is not None, patience_s)
            turn = Turn(text, onset_ns, end_ns, self.ear.started_after(onset_ns))
        self.turns.append(turn)
        if turn.gap_ms is None:
            self._trace("!!", f"no answer within {self.patience.reply_s:g} s")

    async def _interruption(self, text: str, onset_ns: int, end_ns: int, patience_s: float) -> Turn:
        def silence() -> Span | None:
            return self.ear.silence_before_reply(onset_ns, end_ns)

        await self._until(lambda _: (span := silence()) is not None and span.end_ns > end_ns, patience_s)
        span = silence()
        if span is None:
            return Turn(text, onset_ns, end_ns, None, self._interrupted_end_ns(onset_ns))
        return Turn(text, onset_ns, end_ns, span.end_ns, max(span.start_ns, onset_ns))

    def _interrupted_end_ns(self, onset_ns: int) -> int | None:
        """None if the agent never stopped: it spoke on, into our words and past them."""
        spans = (
            span
            for span in self.ear.spans
            if span.start_ns <= onset_ns and span.end_ns >= onset_ns - FRAME_NS
        )
        span = next(spans, None)
        return None if span is None else max(span.end_ns, onset_ns)

    def _has_spoken(self, now_ns: int, duration_ms: int) -> bool:
        started_ns = self.ear.started_ns
        return started_ns is not None and now_ns - started_ns >= duration_ms * 1_000_000

    async def _quiet(self) -> None:
        if not await self._until(lambda _: not self.ear.speaking, self.patience.speech_s):
            self._trace("!!", f"the agent does not stop within {self.patience.speech_s:g} s")

    async def _until(self, condition: Callable[[int], bool], timeout_s: float) -> bool:
        """Looked at once a tick; False after `timeout_s`."""
        if condition(time.monotonic_ns()):
            return True
        self._condition = condition
        self._met = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._met
        except TimeoutError:
            return False
        finally:
            self._condition = self._met = None

    def _hear(self, packet: Packet) -> None:
        self._tell(self.ear.hear(packet))

    def _tick(self, now_ns: int) -> None:
        self._tell(self.ear.tick(now_ns))
        condition, met = self._condition, self._met
        if condition is not None and met is not None and not met.done() and condition(now_ns):
            met.set_result(True)

    def _tell(self, events: list[SpeechEvent]) -> None:
        for event in events:
            if isinstance(event, SpeechStarted):
                self._trace("<-", "agent speaks", event.at_ns)
            else:
                self._trace("<-", f"agent spoke {event.span.duration_ms / 1000:.1f} s", event.span.end_ns)

    def _trace(self, direction: str, text: str, at_ns: int | None = None) -> None:
        if self._on_trace is not None:
            self._on_trace(time.monotonic_ns() if at_ns is None else at_ns, direction, text)
