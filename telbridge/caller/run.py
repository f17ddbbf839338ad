"""One whole call from options to report: what `telbridge call` does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sipmessage import URI

from telbridge.audio.formats import PCM_8K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.wav import load_wav
from telbridge.caller.conversation import Conversation, Line, Listen, Patience, Press, Step
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.report import CallReport, record, report_of
from telbridge.caller.softphone import Softphone

OnEvent = Callable[[float, str, str], None]
"""Milliseconds since the INVITE; `->`, `<-` or `!!`; what happened."""
Synthesize = Callable[[str], bytes]
"""Text -> linear 16-bit 8 kHz. May take its time: it is called in a thread, before the call."""


@dataclass(frozen=True, slots=True)
class Say:
    """A text to be spoken; see `Line` for when."""

    text: str
    interrupt_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Wav:
    """A WAV file to be played; see `Line` for when."""

    path: Path
    interrupt_after_ms: int | None = None


Script = Say | Wav | Press | Listen


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """One call. Only `uri` is needed: then it listens until the agent has finished, or hangs up after it."""

    uri: str
    script: Sequence[Script] = ()
    synthesize: Synthesize | None = None
    """Needed if the script says anything."""
    codecs: Sequence[AudioFormat] = (PCMU_8K, PCMA_8K)
    record: Path | None = None
    local_host: str | None = None
    """IPv4 address to call from; None: the one that the route to the callee leaves by."""
    from_user: str = "caller"
    headers: Sequence[tuple[str, str]] = ()
    answer_timeout_s: float = 30.0
    max_duration_s: float = 600.0
    """After the answer; then we hang up whatever is going on."""
    dial_ends: str = "answered"
    """What becomes of those whom the callee has a simulated carrier dial."""
    patience: Patience = field(default_factory=Patience)


async def run_call(options: CallOptions, on_event: OnEvent | None = None) -> CallReport:
    """Call, talk, hang up, tell. A call that fails is a report too; errors are those of the options:
    ValueError (URI, codec, digits, no synthesiser), OSError (file, host unknown, TCP refused)."""
    steps = [await prepare(step, options.synthesize) for step in options.script]
    host = options.local_host or local_address_for(options.uri)
    keep = options.record is not None
    async with Softphone(host, user=options.from_user, keep_packets=keep) as phone:
        ladder = Ladder(on_event)
        call = await phone.call(
            options.uri, codecs=options.codecs, headers=options.headers, on_trace=ladder.add
        )
        conversation = Conversation(call, steps, patience=options.patience, on_trace=ladder.add)
        try:
            await _talk(call, conversation, options)
        finally:
            await call.hang_up()
        heard_ns = conversation.ear.started_after(0)
        recorded = options.record if call.times.answered_ns is not None else None
        if recorded is not None:
            record(call, recorded)
        return report_of(call, conversation.turns, heard_ns, recorded)


def local_address_for(uri: str) -> str:
    """Our address on the route to the callee (nothing is sent). OSError: no route, or no such host."""
    try:
        target = URI.parse(uri)
    except ValueError:
        raise ValueError(f"{uri!r} is no SIP URI; expected sip:USER@HOST:PORT;transport=udp|tcp") from None
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect((target.host, target.port or 5060))
        return str(probe.getsockname()[0])


async def _talk(call: CallHandle, conversation: Conversation, options: CallOptions) -> None:
    try:
        await call.wait_answered(options.answer_timeout_s)
    except (CallFailed, TimeoutError):
        return
    try:
        async with asyncio.timeout(options.max_duration_s):
            await conversation.run()
    except TimeoutError:
        pass  # the report tells how long it was


async def prepare(step: Script, synthesize: Synthesize | None) -> Step:
    """A step with its audio. ValueError for a text without a synthesiser, OSError for a file."""
    match step:
        case Say(text=text, interrupt_after_ms=after_ms):
            if synthesize is None:
                raise ValueError("no synthesiser for a text; use a WAV file or install telbridge[local]")
            return Line(await asyncio.to_thread(synthesize, text), text, after_ms)
        case Wav(path=path, interrupt_after_ms=after_ms):
            return Line(await asyncio.to_thread(load_wav, path, PCM_8K), path.name, after_ms)
        case _:
            return step


class Ladder:
    """Moments of the monotonic clock as milliseconds since the first, which is the INVITE (or `start`)."""

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._start_ns: int | None = None

    def start(self) -> int:
        """Count from now on; the time of now."""
        self._start_ns = time.monotonic_ns()
        return self._start_ns

    def add(self, at_ns: int, direction: str, text: str) -> None:
        if self._start_ns is None:
            self._start_ns = at_ns
        if self._on_event is not None:
            self._on_event((at_ns - self._start_ns) / 1e6, direction, text)
