"""The real models: do they hear people, do they speak, and is the whole agent on time?"""

from __future__ import annotations

import asyncio
import json
import wave
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jiwer
import pytest

from telbridge.agent.levels import dbfs
from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech import models
from telbridge.agent.understanding import normal
from telbridge.audio import g711
from telbridge.audio.formats import PCMU_8K

pytestmark = pytest.mark.models

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPTS = {
    "conf-onlyperson": "You are currently the only person in this conference.",
    "conf-kicked": "You have been kicked from this conference",
    "please-try-call-later": "Please try your call again later.",
    "queue-youarenext": (
        "Your call is now first in line and will be answered by the next available representative."
    ),
    "queue-thankyou": "Thank you for your patience",
    "vm-nobodyavail": "Nobody is available to take your call at the moment",
}


def frames(codes: bytes) -> Iterator[bytes]:
    return (codes[start : start + 160].ljust(160, b"\xff") for start in range(0, len(codes), 160))


def recorded(name: str) -> bytes:
    with wave.open(str(SOUNDS / f"{name}.wav"), "rb") as file:
        return g711.pcm16_to_ulaw(file.readframes(file.getnframes()))


@pytest.fixture(scope="module")
def installed() -> None:
    try:
        models.check_models()
    except models.ModelsMissingError as error:
        pytest.skip(str(error))
    if not SOUNDS.exists():
        pytest.skip("no recordings: apt install asterisk-core-sounds-en-wav")


class Caller:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send_json({"type": kind, **fields})

    async def speak(self, codes: bytes) -> None:
        for frame in frames(codes):
            await self.send("input_audio_buffer.append", audio=b64encode(frame).decode())

    async def until(self, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seen: list[dict[str, Any]] = []
        while True:
            event = json.loads((await self._socket.receive()).data)
            if event["type"] == kind:
                return event, seen
            seen.append(event)


@asynccontextmanager
async def call(port: int) -> AsyncIterator[Caller]:
    pcmu = {"type": "audio/pcmu"}
    quiet = {"type": "server_vad", "create_response": False}
    source = {"format": pcmu, "turn_detection": quiet, "transcription": {"model": "local"}}
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=m"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        caller = Caller(socket)
        audio = {"input": source, "output": {"format": pcmu}}
        await caller.send("session.update", session={"type": "realtime", "audio": audio})
        await caller.until("session.updated")
        yield caller


async def test_the_receptionist_hears_recorded_people_and_speaks(installed: None) -> None:
    async with serve(AgentSettings()) as port:
        async with call(port) as caller:
            heard = []
            for name in PROMPTS:
                await caller.speak(b"\xff" * 2400 + recorded(name) + b"\xff" * 8000)
                done, _ = await caller.until("conversation.item.input_audio_transcription.completed")
                heard.append(normal(done["transcript"]) or "-")
            assert jiwer.wer([normal(text) for text in PROMPTS.values()], heard) < 0.1, heard

            await caller.send("response.create")
            done, events = await caller.until("response.done")
        said = done["response"]["output"][0]["content"][0]["transcript"]
        assert said.startswith("Thank you for calling Harbour Restaurant.")
        voice = b"".join(b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
        assert 6.0 < len(voice) / 8000 < 14.0
        assert -26 < dbfs(g711.ulaw_to_pcm16(voice)) < -18

        async with call(port) as another:
            # What the agent says, it understands itself (on its own call that would be an echo).
            await another.speak(voice[: 8000 * 3] + b"\xff" * 8000)
            done, _ = await another.until("conversation.item.input_audio_transcription.completed")
            assert "thank you for calling" in normal(done["transcript"])


def test_a_missing_model_is_named_with_its_pin_and_remedy() -> None:
    package = models.ModelPackage("moonshine-voice", "0.1.0", "telbridge.agent.nothing_here", ())
    with pytest.raises(models.ModelsMissingError) as caught:
        package.folder()
    assert caught.value.lines == [
        "speech: package moonshine-voice==0.1.0 is not installed; remedy: pip install 'telbridge[local]'"
    ]


def test_a_package_without_its_weights_is_as_good_as_none(installed: None) -> None:
    package = models.ModelPackage("moonshine-voice", "0.1.0", "moonshine_voice", ("assets/gone.ort",))
    assert package.fault() == (
        "speech: package moonshine-voice==0.1.0 is there as 0.1.0, without assets/gone.ort; "
        "remedy: pip install 'telbridge[local]'"
    )


async def test_a_worker_that_dies_is_replaced(installed: None) -> None:
    from telbridge.agent.speech.pool import WorkerLostError, WorkerPool

    async with WorkerPool("tts", {"voice": "heart", "level_dbfs": -20.0}, 1, 4) as pool:
        hello = {"text": "Hello.", "encoding": PCMU_8K.encoding.value, "rate_hz": PCMU_8K.rate_hz}
        (process,) = pool._processes
        process.kill()
        with pytest.raises(WorkerLostError):
            await pool.run(hello)
        _, payload = await asyncio.wait_for(pool.run(hello), 20)
        assert len(payload) > 4000
