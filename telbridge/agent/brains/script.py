"""The deterministic brain: does what a TOML file says, when it says so. The bridge's tests are made of it.

A step is a trigger (`on`), a delay behind it (`after_ms`) and one thing to do: a reply, an event of the
caller's voice, or a misdeed that a bridge has to survive. See docs/local-agent.md for the file.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telbridge.agent import toml_file
from telbridge.agent.events import (
    AudioCleared,
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Line,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    ToolResult,
    TurnCommitted,
)
from telbridge.agent.facade import Updates
from telbridge.agent.levels import dbfs
from telbridge.audio.formats import PCM_8K, AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder

log: Final = structlog.get_logger("telbridge.agent.script")

Speak = Callable[[str, AudioFormat], Coroutine[Any, Any, bytes]]
Trigger = Literal[
    "start",
    "configured",
    "request",
    "text",
    "tool_result",
    "committed",
    "caller_starts",
    "caller_stops",
    "reply_started",
    "reply_ended",
    "cancelled",
    "truncated",
]
TONE_AMPLITUDE: Final = 8_000  # of 32767: about -15 dBFS, well below what a line clips
HUGE_MS: Final = 30_000


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reply(_Table):
    """One thing to say: exactly one of `say`, `tone_hz`, `wav`, `silence`, or only `words`/`tool`."""

    say: str | None = Field(None, min_length=1, description="Text to synthesise (needs the speech models).")
    tone_hz: float | None = Field(None, gt=0, lt=4000)
    wav: Path | None = Field(None, description="Mono 16 bit file, relative to the script.")
    silence: bool = False
    ms: int = Field(1000, ge=1, le=3_600_000, description="Length of tone or silence.")
    words: str = Field("", description="Transcript; of `say` the text itself.")
    pace: float = Field(
        0.0, ge=0, description="Speed of delivery: 0 all at once, 1 as it is heard, 10 ten times faster."
    )
    chunk_ms: int = Field(100, ge=1, description="Audio in one message.")
    tool: str | None = Field(None, description="Function to call behind the words.")
    arguments: dict[str, Any] = Field(default_factory=dict)
    open: bool = Field(False, description="Never end this reply by itself.")

    @model_validator(mode="after")
    def _one_sound(self) -> Reply:
        sounds = [self.say is not None, self.tone_hz is not None, self.wav is not None, self.silence]
        if sum(sounds) > 1:
            raise ValueError("only one of `say`, `tone_hz`, `wav`, `silence`")
        if not any(sounds) and not self.words and self.tool is None:
            raise ValueError("nothing to say: give `say`, `tone_hz`, `wav`, `silence`, `words` or `tool`")
        return self


class Step(_Table):
    on: Trigger
    match: str | None = Field(
        None, description="Regular expression that a text must contain (only on = text)."
    )
    after_ms: int = Field(0, ge=0)
    times: int = Field(1, ge=0, description="How often it may happen; 0: always.")
    session: int = Field(0, ge=0, description="Only in this one of the agent's sessions, from 1; 0: in each.")
    reply: Reply | None = None
    event: Literal["speech_started", "speech_stopped"] | None = None
    heard: str = Field("", description="Transcript of the caller that goes with speech_stopped.")
    misdeed: Misdeed | None = None
    close_code: int = Field(1011, ge=1000, le=4999)

    @field_validator("match")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        if sum(thing is not None for thing in (self.reply, self.event, self.misdeed)) != 1:
            raise ValueError("exactly one of `reply`, `event`, `misdeed`")
        if self.match is not None and self.on != "text":
            raise ValueError('`match` goes with on = "text" only')
        return self


class Gate(_Table):
    """When a caller is taken to speak: nothing but loudness."""

    level_dbfs: float = -45.0
    start_ms: int = Field(40, ge=1)
    stop_ms: int = Field(400, ge=1)


class Script(_Table):
    updates: Literal["answer", "ignore", "refuse"] = "answer"
    gate: Gate = Field(default_factory=Gate)
    step: tuple[Step, ...] = ()

    @property
    def speaks(self) -> bool:
        """A synthesiser is needed."""
        return any(step.reply is not None and step.reply.say is not None for step in self.step)

    @property
    def listens(self) -> bool:
        return any(step.on in ("caller_starts", "caller_stops") for step in self.step)

    @property
    def treatment_of_updates(self) -> Updates:
        return Updates(self.updates)


def load_script(path: Path) -> Script:
    """The file, its WAV paths made absolute. ScriptError with one line a fault."""
    script = toml_file.load(path, Script)
    faults: list[str] = []
    steps: list[Step] = []
    for number, step in enumerate(script.step, 1):
        if step.reply is not None and step.reply.wav is not None:
            wav = path.parent / step.reply.wav
            try:
                read_wav(wav)
            except (OSError, ValueError, wave.Error, EOFError) as error:
                faults.append(f"{path}: step.{number}.reply.wav: {wav}: {error}")
            step = step.model_copy(update={"reply": step.reply.model_copy(update={"wav": wav})})
        steps.append(step)
    if faults:
        raise toml_file.ScriptError(faults)
    return script.model_copy(update={"step": tuple(steps)})


def read_wav(path: Path) -> tuple[bytes, AudioFormat]:
    """PCM and its format. ValueError unless mono and 16 bit."""
    with wave.open(str(path), "rb") as file:
        if file.getnchannels() != 1 or file.getsampwidth() != 2:
            raise ValueError("not a mono 16 bit WAV file")
        return file.readframes(file.getnframes()), AudioFormat(Encoding.PCM16, file.getframerate())


def tone(hz: float, ms: int, output: AudioFormat) -> bytes:
    """A sine in the output format."""
    samples = output.rate_hz * ms // 1000
    phase = np.arange(samples, dtype=np.float64) * (2 * np.pi * hz / output.rate_hz)
    return _encoded((np.sin(phase) * TONE_AMPLITUDE).astype("<i2").tobytes(), output.rate_hz, output)


def _encoded(pcm: bytes, rate_hz: int, output: AudioFormat) -> bytes:
    transcoder = Transcoder(AudioFormat(Encoding.PCM16, rate_hz), output)
    return transcoder.convert(pcm) + transcoder.finish()


class _EnergyGate:
    """Caller audio in, True when speech begins, False when it ends, None otherwise."""

    def __init__(self, settings: Gate, source: AudioFormat) -> None:
        self._settings = settings
        self._transcoder = Transcoder(source, PCM_8K)
        self._rate = source
        self._run_ms = 0.0
        self._speaking = False
        self.heard_ms = 0.0

    def push(self, payload: bytes) -> bool | None:
        duration_ms = self._rate.ms_in(len(payload))
        self.heard_ms += duration_ms
        loud = dbfs(self._transcoder.convert(payload)) > self._settings.level_dbfs
        self._run_ms = self._run_ms + duration_ms if loud is not self._speaking else 0.0
        needed = self._settings.stop_ms if self._speaking else self._settings.start_ms
        if self._run_ms < needed:
            return None
        self._speaking, self._run_ms = not self._speaking, 0.0
        return self._speaking


class ScriptBrain:
    """One session played from a script; `number`: how manieth of this agent, from 1."""

    def __init__(self, line: Line, script: Script, speak: Speak | None, number: int = 1) -> None:
        self._line = line
        self._script = script
        self._speak = speak
        self._left = [(step.times or -1) if step.session in (0, number) else 0 for step in script.step]
        self._config: Configured | None = None
        self._gate: _EnergyGate | None = None
        self._requests: list[ReplyRequested] = []
        self._stretches = 0

    def receive(self, event: BrainEvent, now_ns: int) -> None:
        match event:
            case AudioIn(payload):
                self._listen(payload)
            case Configured():
                self._configure(event)
            case ReplyRequested():
                self._requests.append(event)
                if not self._fire("request"):
                    self._requests.remove(event)
                    self._line.end_reply(event.reply)
            case TextIn(text):
                self._fire("text", text)
            case ToolResult():
                self._fire("tool_result")
            case TurnCommitted():
                self._fire("committed")
            case ReplyCancelled():
                self._fire("cancelled")
            case ReplyTruncated():
                self._fire("truncated")
            case AudioText() | AudioCleared():
                pass

    def _configure(self, event: Configured) -> None:
        self._config = event
        if self._script.listens:
            self._gate = _EnergyGate(self._script.gate, event.input)
        self._fire("configured" if event.by_client else "start")

    def _listen(self, payload: bytes) -> None:
        change = self._gate.push(payload) if self._gate is not None else None
        if change is not None:
            self._fire("caller_starts" if change else "caller_stops")

    def _fire(self, trigger: Trigger, text: str = "") -> bool:
        """Start the steps of this trigger; False if there was none."""
        found = False
        for index, step in enumerate(self._script.step):
            if step.on != trigger or not self._left[index]:
                continue
            if step.match is not None and not re.search(step.match, text):
                continue
            self._left[index] -= 1
            found = True
            self._do_later(step)
        return found

    def _do_later(self, step: Step) -> None:
        if step.after_ms:
            self._line.later(step.after_ms, lambda: self._do(step))
        else:
            self._do(step)

    def _do(self, step: Step) -> None:
        if step.reply is not None:
            self._reply(step.reply)
        elif step.event is not None:
            self._caller_event(step)
        elif step.misdeed is not None:
            self._misbehave(step.misdeed, step.close_code)

    # -- speaking -------------------------------------------------------------------------------------

    def _reply(self, said: Reply) -> None:
        config = self._config
        if config is None:
            raise RuntimeError("a session is configured before anything else")
        if self._requests:
            request = self._requests.pop(0)
            reply: ReplyId | None = request.reply
            output, text_only = request.output, request.text_only
        else:
            reply, output, text_only = self._line.begin_reply(), config.output, config.text_only
        if reply is None:
            log.info("script_reply_dropped", reason="another reply is open")
            return
        words = said.words or said.say or ""
        if words:
            self._line.words(reply, words)
        if said.say is not None and not text_only:
            self._line.spawn(self._synthesise(reply, said, output), "say")
        else:
            payload = b"" if text_only else self._sound(said, output)
            self._deliver(reply, said, _chunks(payload, output, said.chunk_ms))

    async def _synthesise(self, reply: ReplyId, said: Reply, output: AudioFormat) -> None:
        if self._speak is None or said.say is None:
            raise RuntimeError("a script that speaks was started without a synthesiser")
        payload = await self._speak(said.say, output)
        self._deliver(reply, said, _chunks(payload, output, said.chunk_ms))

    def _sound(self, said: Reply, output: AudioFormat) -> bytes:
        if said.tone_hz is not None:
            return tone(said.tone_hz, said.ms, output)
        if said.wav is not None:
            pcm, source = read_wav(said.wav)
            return _encoded(pcm, source.rate_hz, output)
        if said.silence:
            return output.silence(output.rate_hz * said.ms // 1000)
        return b""

    def _deliver(self, reply: ReplyId, said: Reply, chunks: Iterator[bytes]) -> None:
        if not self._line.is_open(reply):
            return
        first = next(chunks, None)
        if first is not None:
            self._line.audio(reply, first)
        self._fire("reply_started")
        if not said.pace:
            for chunk in chunks:
                self._line.audio(reply, chunk)
            self._end(reply, said)
        else:
            self._pace(reply, said, chunks, self._line.now_ns(), 1)

    def _pace(self, reply: ReplyId, said: Reply, chunks: Iterator[bytes], began_ns: int, count: int) -> None:
        """Send chunk number `count` when it is due, reckoned from the start so that it does not drift."""
        chunk = next(chunks, None)
        if chunk is None:
            self._end(reply, said)
            return

        def due() -> None:
            if self._line.is_open(reply):
                self._line.audio(reply, chunk)
                self._pace(reply, said, chunks, began_ns, count + 1)

        elapsed_ms = (self._line.now_ns() - began_ns) / 1e6
        self._line.later(max(0.0, count * said.chunk_ms / said.pace - elapsed_ms), due)

    def _end(self, reply: ReplyId, said: Reply) -> None:
        if said.tool is not None:
            self._line.call_tool(reply, said.tool, said.arguments)
        if not said.open:
            self._line.end_reply(reply)
            self._fire("reply_ended")

    # -- events and misdeeds ----------------------------------------------------------------------------

    def _caller_event(self, step: Step) -> None:
        at_ms = int(self._gate.heard_ms) if self._gate is not None else 0
        if step.event == "speech_started":
            self._line.speech_started(at_ms)
            return
        turn = self._line.speech_stopped(at_ms)
        if step.heard:
            self._line.heard(turn, step.heard, 0)

    def _misbehave(self, misdeed: Misdeed, close_code: int) -> None:
        line = self._line
        match misdeed:
            case Misdeed.CLOSE:
                line.close(close_code, "script")
            case Misdeed.ABORT:
                line.abort()
            case Misdeed.EXPIRE:
                line.expire()
            case Misdeed.HUGE_AUDIO:
                self._reply(Reply(tone_hz=440.0, ms=HUGE_MS, chunk_ms=HUGE_MS))
            case _:
                line.misbehave(misdeed)


def _chunks(payload: bytes, output: AudioFormat, chunk_ms: int) -> Iterator[bytes]:
    size = max(output.bytes_for_ms(chunk_ms), output.sample_bytes)
    return (payload[start : start + size] for start in range(0, len(payload), size))
