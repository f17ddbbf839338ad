"""The part that all speaking brains share: ears, voice, and whose turn it is.

A `Talker` only turns a prompt into things to say. This brain decides when it is asked: it follows the
caller's turns, starts recognition on a pause, withdraws an answer that the caller talks over, and sends
speech sentence by sentence.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, assert_never

import structlog

from telbridge.agent.events import (
    AudioCleared,
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Line,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    ToolResult,
    TurnCommitted,
    TurnId,
)
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.ears import Ears
from telbridge.agent.speech.echo import Playout
from telbridge.agent.speech.pool import OverloadedError, SpeechService, WorkerLostError
from telbridge.agent.speech.stt import Recognition
from telbridge.agent.speech.tts import sentences
from telbridge.agent.speech.turn import (
    RATE_HZ,
    TurnEnded,
    TurnEvent,
    TurnGoesOn,
    TurnMayBeOver,
    TurnStarted,
)
from telbridge.agent.speech.vad import Vad
from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.audio.transcoder import Transcoder

log: Final = structlog.get_logger("telbridge.agent")

NOTHING_HEARD: Final = Recognition("", -9.0)
NOISE_WORD: Final = re.compile(r"\W*you\W*", re.IGNORECASE)
"""What the recogniser makes of silence, breath and tones; callers do not say it alone."""
CERTAIN: Final = -0.05
SHORT_NOISE_MS: Final = 700
"""A turn so short in which nothing was understood is a cough: no reason to ask back."""
_VERBATIM: Final = re.compile(
    r"\s*say exactly(?: this)?(?: once)?\s*:?\s*(.+?)\s*", re.IGNORECASE | re.DOTALL
)
_QUOTES: Final = {'"': '"', "“": "”", "'": "'", "«": "»"}


# -- what a talker is asked, and what it answers ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spoken:
    """The caller said this."""

    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """This came as text: a key that was pressed, a word of the bridge's."""

    text: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """The caller spoke and could not be understood."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The client wants a reply, out of the blue: the call's beginning, or a reminder."""

    instructions: str | None


@dataclass(frozen=True, slots=True)
class Idle:
    """The caller has been silent for long."""


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A function that the talker called has answered."""

    output: str


Prompt = Spoken | Typed | Unclear | Asked | Idle | ToolDone


@dataclass(frozen=True, slots=True)
class Say:
    """One or more sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """Call the first of these functions that the client offers; none: nothing happens."""

    names: tuple[str, ...]
    arguments: dict[str, Any]


class Talker(Protocol):
    """What is said in one conversation."""

    def configured(self, instructions: str) -> None: ...

    def note(self, text: str) -> None:
        """A fact from the client, for later."""

    def answer(self, prompt: Prompt) -> AsyncIterator[Say | CallTool]: ...

    def said(self, text: str) -> None:
        """This much of the last answer reached the caller's ear, as far as is known."""


class TalkingBrain:
    """One session of a brain that hears and speaks."""

    def __init__(
        self, line: Line, talker: Talker, speech: SpeechService, vad: Vad, settings: AgentSettings
    ) -> None:
        self._line = line
        self._talker = talker
        self._speech = speech
        self._settings = settings
        self._playout = Playout(settings.barge_in.echo_delay_ms + 200)
        self._ears = Ears(vad, self._playout, settings)
        self._config: Configured | None = None
        self._recognition: asyncio.Future[Recognition] | None = None
        self._answer: asyncio.Task[None] | None = None
        self._voice = _Voice(line, speech, self._playout)
        self._typed: list[str] = []
        self._tool_outputs: list[str] = []
        self._unanswered = ""
        self._interrupting = False
        self._quiet_since = 0

    def receive(self, event: BrainEvent, now_ns: int) -> None:
        match event:
            case AudioIn(payload):
                for turn_event in self._ears.push(payload, now_ns):
                    self._turn(turn_event, now_ns)
                self._watch_idleness(now_ns)
            case Configured():
                self._configure(event)
            case TextIn(text, role):
                self._text(text, role)
            case ToolResult(_, output):
                self._tool_outputs.append(output)
            case ReplyRequested():
                self._requested(event)
            case ReplyCancelled():
                self._stop_talking(now_ns)
            case ReplyTruncated(_, heard_ms):
                self._playout.cut(now_ns)
                self._talker.said(self._voice.said_until(heard_ms))
            case TurnCommitted(turn):
                self._committed(turn)
            case AudioCleared():
                self._ears.clear()
            case AudioText():
                raise TypeError("this brain takes samples (Wants.SAMPLES)")
            case _:
                assert_never(event)

    # -- the client -----------------------------------------------------------------------------------

    def _configure(self, event: Configured) -> None:
        before = self._config
        self._config = event
        if before is None or (before.input, before.turns) != (event.input, event.turns):
            self._ears.configure(event.input, event.turns)
        self._talker.configured(event.instructions)

    def _text(self, text: str, role: str) -> None:
        if role == "user":
            self._typed.append(text)
        else:
            self._talker.note(text)

    def _requested(self, event: ReplyRequested) -> None:
        said = verbatim(event.instructions)
        if said is not None:
            self._reply(None, event, said)
        elif self._recognition is not None and self._config is not None and self._config.turns is None:
            self._reply_to_recognition(self._recognition, event)
        elif self._tool_outputs:
            output, self._tool_outputs = self._tool_outputs[-1], []
            self._reply(ToolDone(output), event)
        elif self._typed:
            typed, self._typed = " ".join(self._typed), []
            self._reply(Typed(typed), event)
        else:
            self._reply(Asked(event.instructions), event)

    def _committed(self, turn: TurnId) -> None:
        """The client cut the turn by hand: understand it, and answer when asked."""
        pcm = self._ears.take_all()
        self._recognition = self._recognize(pcm)
        self._line.spawn(self._tell_heard(self._recognition, turn, _ms(len(pcm) // 2)), "heard")

    # -- the caller's turns -----------------------------------------------------------------------------

    def _turn(self, event: TurnEvent, now_ns: int) -> None:
        match event:
            case TurnStarted(start, interrupts):
                self._line.speech_started(_ms(start))
                self._interrupting = interrupts
                self._recognition = None
                if self._config is not None and self._config.turns and self._config.turns.interrupts:
                    self._stop_talking(now_ns)
            case TurnMayBeOver(start, end):
                self._recognition = self._recognize(self._ears.clip(start, end))
            case TurnGoesOn():
                self._drop_recognition()
            case TurnEnded(start, end):
                turn = self._line.speech_stopped(_ms(end))
                recognition = self._recognition or self._recognize(self._ears.clip(start, end))
                self._recognition = None
                self._quiet_since = self._ears.heard_samples
                self._line.spawn(self._understand(recognition, turn, _ms(end - start)), "understand")
            case _:
                assert_never(event)

    async def _understand(
        self, recognition: asyncio.Future[Recognition], turn: TurnId, duration_ms: int
    ) -> None:
        understood = await self._heard(recognition)
        self._line.heard(turn, understood.text, duration_ms)
        config = self._config
        if config is None or config.turns is None or not config.turns.answers:
            return
        spoken_ms = duration_ms - config.turns.prefix_ms
        if understood.text:
            # Said before the answer to what came before: one thought, in two breaths.
            self._unanswered = f"{self._unanswered} {understood.text}".strip()
            self._reply(Spoken(self._unanswered), None)
        elif self._interrupting or spoken_ms > SHORT_NOISE_MS:
            self._reply(Unclear(), None)

    async def _tell_heard(
        self, recognition: asyncio.Future[Recognition], turn: TurnId, duration_ms: int
    ) -> None:
        self._line.heard(turn, (await self._heard(recognition)).text, duration_ms)

    async def _heard(self, recognition: asyncio.Future[Recognition]) -> Recognition:
        """The result, or nothing where it is noise or could not be had."""
        try:
            result = await asyncio.shield(recognition)
        except (OverloadedError, WorkerLostError) as error:
            log.warning("agent_recognition_failed", reason=str(error))
            return NOTHING_HEARD
        noise = NOISE_WORD.fullmatch(result.text) and result.confidence < CERTAIN
        return NOTHING_HEARD if noise or result.confidence < self._settings.min_confidence else result

    def _recognize(self, pcm: bytes) -> asyncio.Future[Recognition]:
        future: asyncio.Future[Recognition] = asyncio.ensure_future(self._speech.recognize(pcm))
        future.add_done_callback(_retrieve)
        return future

    def _drop_recognition(self) -> None:
        if self._recognition is not None:
            self._recognition.cancel()
            self._recognition = None

    def _watch_idleness(self, now_ns: int) -> None:
        turns = self._config.turns if self._config is not None else None
        if turns is None or not turns.idle_ms:
            return
        heard = self._ears.heard_samples
        if self._ears.in_turn or self._playout.speaks(now_ns) or self._voice.reply_is_open:
            self._quiet_since = heard
        elif _ms(heard - self._quiet_since) >= turns.idle_ms:
            self._line.idle(_ms(self._quiet_since), _ms(heard))
            self._quiet_since = heard
            self._reply(Idle(), None)

    # -- answering --------------------------------------------------------------------------------------

    def _stop_talking(self, now_ns: int) -> None:
        self._playout.cut(now_ns)
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None

    def _reply(self, prompt: Prompt | None, request: ReplyRequested | None, text: str = "") -> None:
        """Answer a prompt, or say a text; of a request's own, or unasked."""
        if self._answer is not None and not self._answer.done():
            if request is None and self._voice.reply_is_open:
                log.info("agent_answer_dropped", reason="another reply is open")
                return
            self._answer.cancel()
        self._answer = self._line.spawn(self._run_answer(prompt, request, text), "answer")

    def _reply_to_recognition(
        self, recognition: asyncio.Future[Recognition], request: ReplyRequested
    ) -> None:
        async def answer() -> None:
            understood = await self._heard(recognition)
            prompt: Prompt = Spoken(understood.text) if understood.text else Unclear()
            await self._run_answer(prompt, request, "")

        self._recognition = None
        self._answer = self._line.spawn(answer(), "answer")

    async def _run_answer(self, prompt: Prompt | None, request: ReplyRequested | None, text: str) -> None:
        config = self._config
        if config is None:
            raise RuntimeError("a session is configured before anything else")
        self._voice.begin(request, config)
        try:
            if prompt is None:
                await self._voice.say(text)
                self._talker.said(text)
                self._voice.end()
                return
            async for part in self._talker.answer(prompt):
                if isinstance(part, CallTool):
                    self._voice.call(part, config)
                elif not await self._voice.say(part.text):
                    return
                self._unanswered = ""
            self._voice.end()
        except (OverloadedError, WorkerLostError) as error:
            log.warning("agent_answer_failed", reason=str(error))
            self._voice.end()


class _Voice:
    """Speaks one reply at a time, and remembers which words lie where in it."""

    def __init__(self, line: Line, speech: SpeechService, playout: Playout) -> None:
        self._line = line
        self._speech = speech
        self._playout = playout
        self._reply: ReplyId | None = None
        self._output = PCM_8K
        self._text_only = False
        self._said: list[tuple[str, float]] = []  # sentence, ms of audio up to its end

    @property
    def reply_is_open(self) -> bool:
        return self._reply is not None and self._line.is_open(self._reply)

    def begin(self, request: ReplyRequested | None, config: Configured) -> None:
        self._said = []
        if request is None:
            self._reply, self._output, self._text_only = None, config.output, config.text_only
        else:
            self._reply, self._output, self._text_only = request.reply, request.output, request.text_only

    async def say(self, text: str) -> bool:
        """Send a text, sentence by sentence. False when the reply has been closed meanwhile."""
        for sentence in sentences(text):
            payload = b"" if self._text_only else await self._speech.synthesize(sentence, self._output)
            if not self._open():
                return False
            reply = self._reply
            if reply is None:
                return False
            self._line.words(reply, sentence if not self._said else f" {sentence}")
            before = self._said[-1][1] if self._said else 0.0
            self._said.append((sentence, before + self._output.ms_in(len(payload))))
            if payload:
                self._line.audio(reply, payload)
                self._playout.send(_pcm_8k(payload, self._output), self._line.now_ns())
        return True

    def call(self, tool: CallTool, config: Configured) -> None:
        offered = {offer.name for offer in config.tools}
        name = next((name for name in tool.names if name in offered), None)
        if name is not None and self._open() and self._reply is not None:
            self._line.call_tool(self._reply, name, tool.arguments)

    def end(self) -> None:
        if self._reply is not None:
            self._line.end_reply(self._reply)

    def said_until(self, heard_ms: int) -> str:
        """The sentences that were heard, the last one as far as it came."""
        words: list[str] = []
        before = 0.0
        for sentence, end_ms in self._said:
            share = min(1.0, (heard_ms - before) / max(end_ms - before, 1.0))
            if share <= 0:
                break
            parts = sentence.split()
            words += parts[: round(len(parts) * share)]
            before = end_ms
        return " ".join(words)

    def _open(self) -> bool:
        """Open the reply at the first thing said; False if that cannot be, or it has been closed."""
        if self._reply is None:
            self._reply = self._line.begin_reply()
        return self._reply is not None and self._line.is_open(self._reply)


def verbatim(instructions: str | None) -> str | None:
    """The words behind «Say exactly:», without quotation marks; None for other instructions."""
    match = _VERBATIM.fullmatch(instructions or "")
    if match is None:
        return None
    text = match[1]
    closing = _QUOTES.get(text[0])
    return text[1:-1] if closing is not None and len(text) > 2 and text[-1] == closing else text


def _ms(samples: int) -> int:
    return samples * 1000 // RATE_HZ


def _pcm_8k(payload: bytes, output: AudioFormat) -> bytes:
    transcoder = Transcoder(output, PCM_8K)
    return transcoder.convert(payload) + transcoder.finish()


def _retrieve(future: asyncio.Future[Recognition]) -> None:
    """A recognition that nobody waits for any more may fail unseen."""
    if not future.cancelled():
        future.exception()
