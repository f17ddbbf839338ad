"""How well the embedded agent hears, and how fast: a table, and exit status 1 if a target is missed.

Runs the agent's process and talks to it over its WebSocket with recorded people (Debian's Asterisk prompts,
packages asterisk-core-sounds-en-wav and, for the texts, asterisk-core-sounds-en), over G.711 μ-law in frames
of 20 ms. Words are measured as fast as the agent takes them, everything to do with time in real time.

    python bench/agent_speech.py [--texts FILE.txt.gz] [--calls 8]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import re
import sys
import time
import wave
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import jiwer
import numpy as np
import numpy.typing as npt
from scipy import signal

from telbridge.audio import g711

SOUNDS: Final = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS: Final = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
RATE: Final = 8_000
FRAME: Final = 160
FRAME_S: Final = 0.02
SPEECH_RMS: Final = 0.08  # -22 dBFS, what telephone sets aim at
PROMPTS: Final = 40
TURNS: Final = 5
"""Of each caller in the real-time part; every second one interrupts the agent."""
BARGE_AFTER_S: Final = 1.2
"""So long the agent has been heard when a caller interrupts it."""
WAIT_S: Final = 3.0

WER_MAX: Final = 0.03
ANSWER_MAX_MS: Final = 700.0
BARGE_IN_MAX_MS: Final = 300.0

Samples = npt.NDArray[np.float32]


# -- recordings -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prompt:
    """A recording as it sounds on a telephone, with its words."""

    name: str
    text: str
    samples: Samples
    first: int
    last: int
    """First and last sample that are loud enough to be the voice."""


def telephone(samples: Samples) -> Samples:
    """300 to 3400 Hz, at the level of speech."""
    band = signal.butter(4, [300, 3400], "bandpass", fs=RATE, output="sos")
    filtered = signal.sosfilt(band, samples).astype(np.float32)
    result: Samples = filtered * np.float32(SPEECH_RMS / active_rms(filtered))
    return result


def active_rms(samples: Samples) -> float:
    frames = samples[: samples.size // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(frames**2, axis=1)
    return float(np.sqrt(np.mean(power[power > power.max() * 10**-3.5])))


def read_prompt(name: str, text: str) -> Prompt:
    with wave.open(str(SOUNDS / f"{name}.wav"), "rb") as file:
        pcm = file.readframes(file.getnframes())
    samples = telephone(np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768))
    loud = np.flatnonzero(np.abs(samples) > 0.03 * np.abs(samples).max())
    return Prompt(name, text, samples, int(loud[0]), int(loud[-1]))


def candidates(texts: Path) -> list[tuple[str, str]]:
    """Name and words of every prompt of 5 to 40 words without stage directions, in the file's order."""
    found = []
    for line in gzip.decompress(texts.read_bytes()).decode("utf-8", "ignore").splitlines():
        match = re.match(r"([\w/-]+):\s+(.*\S)", line)
        if match is None or re.search(r"\[|\(|\.\.\.|Waldo", match[2]):
            continue
        if 5 <= len(words(match[2]).split()) <= 40 and (SOUNDS / f"{match[1]}.wav").exists():
            found.append((match[1], match[2]))
    return found


def select(texts: Path) -> list[Prompt]:
    """The forty on which the recogniser was chosen (a shuffle by Python's generator, seed 7)."""
    found = candidates(texts)
    random.Random(7).shuffle(found)
    return [read_prompt(name, text) for name, text in sorted(found[:PROMPTS])]


# -- words ------------------------------------------------------------------------------------------------

_ONES: Final = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SAME: Final = (
    (r"\b(it|that|what|there|where|who)'s\b", r"\1 is"),
    (r"\b(\w+)'re\b", r"\1 are"),
    (r"\b(\w+)'ve\b", r"\1 have"),
    (r"\b(\w+)'ll\b", r"\1 will"),
    (r"\bi'm\b", "i am"),
    (r"\b(do|does|did|is|would|could)n't\b", r"\1 not"),
    (r"\bcan ?not\b|\bcan't\b", "cannot"),
    (r"\bok\b", "okay"),
    (r"\bvoice mail", "voicemail"),
    (r"\blog (in|off|on)\b", r"log\1"),
    (r"\bcanceled\b", "cancelled"),
    (r"\bcall ?back\b", "callback"),
    (r"\bfile name\b", "filename"),
    (r"\bre enter", "reenter"),
    (r"\bqueue\b", "q"),  # the letter and the word sound the same
)


def words(text: str) -> str:
    """Text as it is compared: lower case, no punctuation, numbers and short forms written out."""
    text = text.lower().replace("’", "'").replace("#", " pound ").replace("*", " star ")
    text = re.sub(r"[-/]", " ", text)
    text = re.sub(r"\d+", lambda match: f" {_number(int(match[0]))} ", text)
    text = re.sub(r"[^a-z' ]", " ", text)
    for pattern, same in _SAME:
        text = re.sub(pattern, same, text)
    return " ".join(word.strip("'") for word in text.split())


def _number(value: int) -> str:
    if value < 20:
        return _ONES[value]
    if value < 100:
        return " ".join([_TENS[value // 10 - 2], *([_ONES[value % 10]] if value % 10 else [])])
    if value < 1000:
        return " ".join([_ONES[value // 100], "hundred", *([_number(value % 100)] if value % 100 else [])])
    return " ".join(_ONES[int(digit)] for digit in str(value))


# -- the agent's process and a caller of it ---------------------------------------------------------------


@asynccontextmanager
async def agent() -> AsyncIterator[tuple[int, float]]:
    """The port of a running agent, and how long it took to be ready."""
    began = time.monotonic()
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "telbridge.agent", "--exit-with-parent", "--log-level", "warning")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        yield ready["port"], time.monotonic() - began
    finally:
        process.stdin.close()
        await process.wait()


@dataclass
class Caller:
    """One session: sends frames, notes when which event came."""

    socket: aiohttp.ClientWebSocketResponse
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    """What the agent said, μ-law, in the order of arrival."""
    playing_from: float = 0.0
    """When the reply that came last began to be heard."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    late_s: list[float] = field(default_factory=list)

    async def read(self) -> None:
        async for message in self.socket:
            now = time.monotonic()
            event = json.loads(message.data)
            if event["type"] == "response.output_audio.delta":
                self.heard += b64decode(event["delta"])
            self.events.append((now, event))
            self.arrived.set()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def frame(self, payload: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=b64encode(payload).decode())

    async def until(self, kind: str, since: int, timeout_s: float) -> float | None:
        """When the first event of a kind behind number `since` came; None if it did not."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for at, event in self.events[since:]:
                        if event["type"] == kind:
                            return at
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            return None

    def count(self, kind: str) -> int:
        return sum(event["type"] == kind for _, event in self.events)


@asynccontextmanager
async def call(port: int, **turn_detection: Any) -> AsyncIterator[Caller]:
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=gpt-realtime-2.1"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as socket:
        caller = Caller(socket)
        reader = asyncio.create_task(caller.read())
        pcmu = {"type": "audio/pcmu"}
        vad = {"type": "server_vad", "silence_duration_ms": 500, **turn_detection}
        audio = {
            "input": {"format": pcmu, "turn_detection": vad, "transcription": {"model": "local"}},
            "output": {"format": pcmu},
        }
        await caller.send("session.update", session={"type": "realtime", "audio": audio})
        await caller.until("session.updated", 0, WAIT_S)
        yield caller
        reader.cancel()


def encoded(samples: Samples) -> list[bytes]:
    """μ-law in frames, the last one filled up with silence."""
    noise = np.random.default_rng(1).standard_normal(samples.size).astype(np.float32) * np.float32(1e-3)
    pcm = (np.clip(samples + noise, -1, 0.9999) * 32768).astype("<i2").tobytes()
    codes = g711.pcm16_to_ulaw(pcm)
    codes += b"\xff" * (-len(codes) % FRAME)
    return [codes[start : start + FRAME] for start in range(0, len(codes), FRAME)]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


# -- words over the wire ------------------------------------------------------------------------------------


async def transcribe(port: int, prompt: Prompt) -> str:
    """All that the agent understood of one recording."""
    async with call(port, create_response=False) as caller:
        for frame in encoded(np.concatenate([silence(0.4), prompt.samples, silence(1.0)])):
            await caller.frame(frame)
        await caller.send("input_audio_buffer.clear")
        await caller.until("input_audio_buffer.cleared", 0, 30)
        completed = "conversation.item.input_audio_transcription.completed"
        while caller.count(completed) < caller.count("input_audio_buffer.committed"):
            if await caller.until(completed, len(caller.events), 10) is None:
                break
        return " ".join(event["transcript"] for _, event in caller.events if event["type"] == completed)


async def measure_words(port: int, prompts: list[Prompt], verbose: bool) -> float:
    truth, heard = [], []
    for prompt in prompts:
        truth.append(words(prompt.text))
        heard.append(words(await transcribe(port, prompt)))
        if verbose and truth[-1] != heard[-1]:
            print(f"   {prompt.name}: {truth[-1]}\n      heard: {heard[-1]}")
    return float(jiwer.wer(truth, heard))


# -- time ---------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """In ms, all callers together."""

    answers: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """Until the agent says that the turn is over; the rest of an answer's time is words and voice."""
    barge_ins: list[float] = field(default_factory=list)
    unanswered: int = 0
    unheard: int = 0
    late_ms: list[float] = field(default_factory=list)


async def converse(port: int, prompts: list[Prompt], times: Times, offset_s: float) -> None:
    """One caller: speaks, waits for the answer, interrupts it, waits again."""
    async with call(port) as caller:
        line = _Line(caller, times)
        async with asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(line.run())
            await asyncio.sleep(offset_s)
            for number, prompt in enumerate(prompts):
                interrupts = number % 2 == 1
                if interrupts:
                    await asyncio.sleep(BARGE_AFTER_S)
                await _one_turn(line, prompt, times, interrupts)
                if not interrupts and number + 1 < len(prompts):
                    continue
                await line.agent_is_silent()
            clock.cancel()


async def _one_turn(line: _Line, prompt: Prompt, times: Times, interrupts: bool) -> None:
    caller = line.caller
    since = len(caller.events)
    began, ended = await line.say(prompt)
    started = await caller.until("input_audio_buffer.speech_started", since, 0.01)
    if interrupts and started is not None:
        times.barge_ins.append((started - began) * 1000)
    elif interrupts:
        times.unheard += 1
    # A recording with a pause in it is two turns: what counts is the answer behind the last one.
    answer = None
    while answer is None or answer < ended:
        answer = await caller.until("response.output_audio.delta", since, WAIT_S)
        if answer is None:
            times.unanswered += 1
            return
        since += 1 if answer < ended else 0
    times.answers.append((answer - ended) * 1000)
    stops = [at for at, event in caller.events if event["type"] == "input_audio_buffer.speech_stopped"]
    times.ends += [(at - ended) * 1000 for at in stops if ended < at <= answer][-1:]


class _Line:
    """Sends a frame every 20 ms, speech when there is some."""

    def __init__(self, caller: Caller, times: Times) -> None:
        self.caller = caller
        self._times = times
        self._queue: list[tuple[bytes, Callable[[float], None] | None]] = []
        self._silence = encoded(silence(FRAME_S))[0]

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            due += FRAME_S
            wait = due - time.monotonic()
            await asyncio.sleep(max(0.0, wait))
            self._times.late_ms.append(max(0.0, -wait) * 1000)
            payload, told = self._queue.pop(0) if self._queue else (self._silence, None)
            if told is not None:
                told(time.monotonic())
            await self.caller.frame(payload)

    async def say(self, prompt: Prompt) -> tuple[float, float]:
        """When the voice of the recording began and ended, on the wire."""
        loop = asyncio.get_running_loop()
        began: asyncio.Future[float] = loop.create_future()
        ended: asyncio.Future[float] = loop.create_future()
        marks = {prompt.first // FRAME: began, prompt.last // FRAME: ended}
        for number, frame in enumerate(encoded(prompt.samples)):
            mark = marks.get(number)
            self._queue.append((frame, mark.set_result if mark is not None else None))
        # The voice begins within its frame, and a frame can be sent only when its last sample is there.
        return (
            await began - FRAME_S + prompt.first % FRAME / RATE,
            await ended - FRAME_S + prompt.last % FRAME / RATE,
        )

    async def agent_is_silent(self) -> None:
        """Wait until all the agent said has been heard."""
        deltas = [(at, e) for at, e in self.caller.events if e["type"] == "response.output_audio.delta"]
        last_reply = deltas[-1][1]["response_id"] if deltas else None
        of_reply = [(at, e) for at, e in deltas if e["response_id"] == last_reply]
        if of_reply:
            octets = sum(len(e["delta"]) * 3 // 4 for _, e in of_reply)
            await asyncio.sleep(max(0.0, of_reply[0][0] + octets / RATE - time.monotonic()) + 0.5)


async def measure_times(port: int, calls: int, prompts: list[Prompt]) -> Times:
    times = Times()
    short = [prompt for prompt in prompts if prompt.samples.size < 3.2 * RATE and not has_pause(prompt)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(calls):
            own = [short[(number * TURNS + turn) % len(short)] for turn in range(TURNS)]
            tasks.create_task(converse(port, own, times, 0.3 + 0.37 * number))
    return times


def has_pause(prompt: Prompt) -> bool:
    """Long enough that the agent may answer into it."""
    voiced = prompt.samples[prompt.first : prompt.last]
    frames = voiced[: voiced.size // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.flatnonzero(np.sqrt(np.mean(frames**2, axis=1)) > 0.004)
    return bool(loud.size and np.diff(loud).max(initial=0) * FRAME_S > 0.3)


# -- what must not interrupt --------------------------------------------------------------------------------

STORY: Final = (
    "Our restaurant has been in this house for sixty years. My grandfather caught the fish, and my "
    "grandmother cooked it. Today we are nine people, and we still buy from the same boats every morning."
)


def dtmf() -> Samples:
    """Sixteen keys of 200 ms, 100 ms apart, each tone at -10 dBFS."""
    low, high = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
    at = np.arange(int(0.2 * RATE)) / RATE
    keys = [0.316 * (np.sin(2 * np.pi * a * at) + np.sin(2 * np.pi * b * at)) for a in low for b in high]
    return np.concatenate([np.concatenate([key.astype(np.float32), silence(0.1)]) for key in keys])


def ringback() -> Samples:
    """440 and 480 Hz, 2 s on, 4 s off."""
    at = np.arange(2 * RATE) / RATE
    tone = 0.1 * (np.sin(2 * np.pi * 440 * at) + np.sin(2 * np.pi * 480 * at))
    return np.concatenate([tone.astype(np.float32), silence(4), tone.astype(np.float32)])


class Echo:
    """A caller who is silent, on a line that returns the agent's voice."""

    def __init__(self, level_db: float, delay_ms: int) -> None:
        self._gain = 10 ** (level_db / 20)
        self._delay = delay_ms * RATE // 1000
        hybrid = np.array([0, 0, 0.2, 0.9, 0.3, -0.25, 0.1, -0.05, 0.02])
        self._hybrid = hybrid / np.sqrt(np.sum(hybrid**2))
        self._state = np.zeros(self._hybrid.size - 1)

    def frame(self, heard: bytes, position: int) -> Samples:
        """What comes back while sample `position` of what was heard is played."""
        start = position - self._delay
        piece = b"\xff" * max(0, -start) + heard[max(0, start) : max(0, start + FRAME)]
        piece = (piece + b"\xff" * FRAME)[:FRAME]
        pcm = np.frombuffer(g711.ulaw_to_pcm16(piece), "<i2") / 32768 * self._gain
        filtered, self._state = signal.lfilter(self._hybrid, 1.0, pcm, zi=self._state)
        result: Samples = filtered.astype(np.float32)
        return result


async def false_barge_ins(port: int, what: Samples | Echo) -> int:
    """How often the agent took this for a caller while it told its story."""
    async with call(port) as caller:
        await caller.send("response.create", response={"instructions": f"Say exactly: {STORY}"})
        since = await caller.until("response.output_audio.delta", 0, 10)
        assert since is not None
        frames = encoded(what) if not isinstance(what, Echo) else []
        due = time.monotonic()
        position = 0
        while position < len(caller.heard) + RATE // 2:
            number = position // FRAME
            if isinstance(what, Echo):
                frame = encoded(what.frame(bytes(caller.heard[: position + FRAME]), position))[0]
            else:
                frame = frames[number % len(frames)]
            await caller.frame(frame)
            position += FRAME
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return caller.count("input_audio_buffer.speech_started")


async def measure_false(port: int) -> dict[str, int]:
    causes: dict[str, Samples | Echo] = {
        "DTMF": dtmf(),
        "ringback": ringback(),
        "echo -30 dB, 40 ms": Echo(-30, 40),
        "echo -30 dB, 300 ms": Echo(-30, 300),
        "echo -20 dB, 120 ms": Echo(-20, 120),
        "echo -12 dB, 120 ms": Echo(-12, 120),
    }
    counts = await asyncio.gather(*(false_barge_ins(port, cause) for cause in causes.values()))
    return dict(zip(causes, counts, strict=True))


# -- table --------------------------------------------------------------------------------------------------


class Table:
    def __init__(self) -> None:
        self.missed = 0
        print(f"{'what':<42}{'measured':<44}{'target':<12}")

    def row(self, what: str, measured: str, target: str = "", met: bool | None = None) -> None:
        verdict = "" if met is None else "ok" if met else "MISSED"
        self.missed += met is False
        print(f"{what:<42}{measured:<44}{target:<12}{verdict}", flush=True)

    def times(self, what: str, values: list[float], limit: float, lost: int) -> None:
        if not values:
            self.row(what, f"none of {lost}", f"<= {limit:.0f} ms", False)
            return
        p50, p95 = np.percentile(values, [50, 95])
        text = f"p50 {p50:.0f}  p95 {p95:.0f}  max {max(values):.0f} ms (n={len(values)}, lost {lost})"
        self.row(what, text, f"<= {limit:.0f} ms", bool(p95 <= limit and not lost))


async def tell_words(table: Table, port: int, prompts: list[Prompt], verbose: bool, *, judged: bool) -> None:
    wer = await measure_words(port, prompts, verbose)
    count = sum(len(words(prompt.text).split()) for prompt in prompts)
    target = (f"<= {WER_MAX:.0%}", wer <= WER_MAX) if judged else ("", None)
    table.row(f"WER, {len(prompts)} prompts, {count} words, μ-law", f"{wer:.1%}", *target)


async def tell_times(table: Table, port: int, calls: int, prompts: list[Prompt]) -> None:
    times = await measure_times(port, calls, prompts)
    at_once = f"{calls} calls" if calls > 1 else "1 call"
    table.times(f"answer after last sound, {at_once}", times.answers, ANSWER_MAX_MS, times.unanswered)
    ends = times.ends or [0.0]
    table.row("  until the turn was over", f"p50 {np.median(ends):.0f}  max {max(ends):.0f} ms")
    table.times(f"barge-in heard after onset, {at_once}", times.barge_ins, BARGE_IN_MAX_MS, times.unheard)
    late, load = np.percentile(times.late_ms, 99), os.getloadavg()[0]
    table.row("  this script's late frames, machine's load", f"p99 {late:.1f} ms, load {load:.1f}")


async def run(options: argparse.Namespace) -> int:
    prompts = select(options.texts)
    table = Table()
    async with agent() as (port, ready_s):
        table.row("process ready to serve", f"{ready_s:.1f} s")
        if not options.skip_words:
            await tell_words(table, port, prompts, options.verbose, judged=True)
        if options.all:
            every = [read_prompt(*found) for found in candidates(options.texts)]
            await tell_words(table, port, every, options.verbose, judged=False)
        for calls in (1, options.calls):
            await tell_times(table, port, calls, prompts)
        for cause, count in (await measure_false(port)).items():
            judged = None if cause.startswith(("echo -2", "echo -1")) else count == 0
            table.row(f"false barge-ins: {cause}", str(count), "0" if judged is not None else "", judged)
    return 1 if table.missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, default=TEXTS, help="core-sounds-en.txt.gz")
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--skip-words", action="store_true", help="only what has to do with time")
    parser.add_argument("--all", action="store_true", help="words of all prompts too, not judged (a minute)")
    parser.add_argument("--verbose", action="store_true", help="show what was misheard")
    options = parser.parse_args()
    if not options.texts.exists() or not SOUNDS.exists():
        print(
            "bench: no recordings; apt install asterisk-core-sounds-en-wav asterisk-core-sounds-en",
            file=sys.stderr,
        )
        return 2
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
