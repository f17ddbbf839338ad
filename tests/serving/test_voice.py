"""Our own voice: a process of its own, whose faults are the dialplan's to handle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech import pool
from telbridge.agent.speech.models import HIBARI
from telbridge.audio.formats import PCM_8K
from telbridge.call.ports import OutsideFailed
from telbridge.serving.outside import World
from telbridge.serving.voice import Voice

WORKER = """
import json, os, sys, time
from telbridge.agent.speech.worker import HEAD, packed
out = sys.stdout.buffer
def answer(header, payload=b""):
    out.write(packed(header, payload)); out.flush()
open(sys.argv[0] + ".started", "a").write("x")
if os.path.exists(sys.argv[0] + ".refuses") and os.path.getsize(sys.argv[0] + ".started") == 2:
    os._exit(1)
answer({"ready": True})
while len(head := sys.stdin.buffer.read(HEAD.size)) == HEAD.size:
    size, rest = HEAD.unpack(head)
    header = json.loads(sys.stdin.buffer.read(size))
    assert (header["encoding"], header["rate_hz"]) == ("pcm16", 8000)
    text = header["text"]
    open(sys.argv[0] + ".said", "a").write(text + "|")
    if text == "Die.": os._exit(1)
    if text == "Sleep.": time.sleep(60)
    if text == "Odd.": answer({"error": "ValueError: 4711"}); continue
    answer({}, text.encode())
"""


class Bench:
    """A process that says each text as its own letters, in place of the model."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "worker.py"
        self.file.write_text(WORKER, "utf-8")

    def _log(self, what: str) -> str:
        file = Path(f"{self.file}.{what}")
        return file.read_text() if file.exists() else ""

    def refuse_the_second(self) -> None:
        """The second process ends before it is ready."""
        Path(f"{self.file}.refuses").touch()

    @property
    def started(self) -> int:
        return len(self._log("started"))

    @property
    def said(self) -> list[str]:
        return self._log("said").split("|")[:-1]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    start = asyncio.create_subprocess_exec

    async def ours(program: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
        assert (program, arguments[:3]) == (sys.executable, ("-m", pool.MODULE, "tts"))
        return await start(program, str(made.file), **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", ours)
    return made


@pytest.fixture
async def voice(bench: Bench) -> AsyncIterator[Voice]:
    made = Voice(AgentSettings(), limit_s=5)
    yield made
    await made.aclose()


async def failure(voice: Voice, text: str) -> str:
    with pytest.raises(OutsideFailed) as caught:
        await voice.speech(text)
    return str(caught.value)


async def test_nothing_is_started_before_the_first_words(bench: Bench, voice: Voice) -> None:
    assert bench.started == 0
    assert await voice.speech("Good day. How are you?") == b"Good day.How are you?"
    assert bench.started == 1


async def test_it_can_be_started_beforehand(bench: Bench, voice: Voice) -> None:
    await voice.start()
    assert bench.started == 1
    await voice.speech("Good day.")
    assert bench.started == 1


async def test_two_calls_that_speak_first_at_once_share_one_process(bench: Bench, voice: Voice) -> None:
    assert await asyncio.gather(voice.speech("One."), voice.speech("Two.")) == [b"One.", b"Two."]
    assert bench.started == 1


async def test_what_was_said_before_is_not_made_again(bench: Bench, voice: Voice) -> None:
    await voice.speech("Good day. One moment.")
    await voice.speech("One moment. Good day.")
    assert bench.said == ["Good day.", "One moment."]


async def test_nothing_to_say_is_silence(bench: Bench, voice: Voice) -> None:
    assert await voice.speech(" \n ") == b""


async def test_a_process_that_dies_is_replaced(bench: Bench, voice: Voice) -> None:
    assert await failure(voice, "Die.") == "speech: the voice's process ended"
    assert await voice.speech("Good day.") == b"Good day."


async def test_a_process_that_is_not_replaced_at_once_is_replaced_later(bench: Bench, voice: Voice) -> None:
    """Nobody waits for a pool that has lost its last process."""
    bench.refuse_the_second()
    told = [await failure(voice, "Die.")]
    for _ in range(2):
        try:
            assert await voice.speech("Good day.") == b"Good day."
            break
        except OutsideFailed as fault:
            told.append(str(fault))
    else:
        pytest.fail(str(told))
    assert not any("took longer" in one for one in told)


async def test_a_process_that_hangs_is_given_up(bench: Bench) -> None:
    voice = Voice(AgentSettings(), limit_s=4.0)
    assert await failure(voice, "Sleep.") == "speech: took longer than 4 s"
    assert await voice.speech("Good day.") == b"Good day."
    await voice.aclose()


async def test_what_the_model_cannot_say_is_no_reason_to_start_again(bench: Bench, voice: Voice) -> None:
    assert await failure(voice, "Odd.") == "speech: the voice cannot say this"
    assert await voice.speech("Good day.") == b"Good day."
    assert bench.started == 1


async def test_without_the_models_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = type(HIBARI)("hibari-tts", "0.2.1", "no_such_module_here", ())
    monkeypatch.setattr("telbridge.serving.voice.HIBARI", lacking)
    said = await failure(Voice(AgentSettings()), "Good day.")
    world = World(AgentSettings())
    with structlog.testing.capture_logs() as lines:
        await world.prepare(needs_voice=False)
        assert lines == []
        await world.prepare(needs_voice=True)
    assert [(line["event"], line["what"]) for line in lines] == [("voice_missing", said)]
    assert (
        said == "speech: package hibari-tts==0.2.1 is not installed; remedy: pip install 'telbridge[local]'"
    )


@pytest.mark.skipif(HIBARI.fault() is not None, reason="no speech models")
@pytest.mark.models
async def test_the_real_voice_speaks_in_the_legs_format() -> None:
    voice = Voice(AgentSettings(), limit_s=60)
    try:
        audio = await voice.speech("Good day. Please enter your PIN.")
    finally:
        await voice.aclose()
    samples = np.frombuffer(audio, "<i2").astype(float)
    assert 1000 < PCM_8K.ms_in(len(audio)) < 6000
    assert np.sqrt(np.mean(samples**2)) > 300
