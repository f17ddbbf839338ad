"""From settings to brains: what all sessions of one agent process share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, assert_never

import aiohttp
import structlog

from telbridge.agent.brains.chat import ChatTalker
from telbridge.agent.brains.echo import EchoBrain
from telbridge.agent.brains.receptionist import ReceptionistTalker, load_receptionist
from telbridge.agent.brains.script import ScriptBrain, load_script
from telbridge.agent.brains.talking import Talker, TalkingBrain
from telbridge.agent.events import Brain, Line
from telbridge.agent.facade import Updates, Wants
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.models import check_models
from telbridge.agent.speech.pool import OverloadedError, SpeechService, WorkerLostError, WorkerPool
from telbridge.agent.speech.tts import sentences
from telbridge.agent.speech.vad import SileroModel, SileroVad
from telbridge.audio.formats import PCMU_8K

MOST_EARS, MOST_VOICES = 4, 2
"""If nobody says how many: each has its models in memory, some 200 MB."""

log: Final = structlog.get_logger("telbridge.agent")


@dataclass(frozen=True, slots=True)
class Mind:
    """How to make a brain for a session."""

    create: Callable[[Line], Brain]
    wants: Wants = Wants.SAMPLES
    updates: Updates = Updates.ANSWER


@asynccontextmanager
async def make_mind(settings: AgentSettings) -> AsyncIterator[Mind]:
    """Load what the chosen brain needs; ready when the block begins. ScriptError, ModelsMissingError."""
    async with AsyncExitStack() as stack:
        match settings.brain:
            case "echo":
                mind = Mind(EchoBrain, Wants.BASE64)
            case "script":
                mind = await _script(settings, stack)
            case "receptionist":
                script = load_receptionist(settings.script)
                mind = await _talking(
                    settings, stack, lambda: ReceptionistTalker(script), script.fixed_texts()
                )
            case "chat":
                http = await stack.enter_async_context(aiohttp.ClientSession())
                mind = await _talking(settings, stack, lambda: ChatTalker(http, settings.chat))
            case _:
                assert_never(settings.brain)
        yield mind


async def _script(settings: AgentSettings, stack: AsyncExitStack) -> Mind:
    script = load_script(settings.script or Path())
    speak = (await _speech(settings, stack, hears=False)).synthesize if script.speaks else None
    numbers = count(1)
    return Mind(
        lambda line: ScriptBrain(line, script, speak, next(numbers)), updates=script.treatment_of_updates
    )


async def _talking(
    settings: AgentSettings, stack: AsyncExitStack, talker: Callable[[], Talker], known: Sequence[str] = ()
) -> Mind:
    """`known`: texts that will be said, so that they can be at hand when they are."""
    check_models()
    speech = await _speech(settings, stack, hears=True)
    warming = asyncio.create_task(_warm(speech, known), name="agent/warm")
    stack.callback(warming.cancel)
    silero = SileroModel()
    return Mind(lambda line: TalkingBrain(line, talker(), speech, SileroVad(silero), settings))


async def _warm(speech: SpeechService, texts: Sequence[str]) -> None:
    """One sentence after the other, so that a caller's waits for one at most."""
    try:
        for text in texts:
            for sentence in sentences(text):
                await speech.synthesize(sentence, PCMU_8K)
    except (OverloadedError, WorkerLostError):
        log.info("agent_warming_ended", reason="the voice is busy")


async def _speech(settings: AgentSettings, stack: AsyncExitStack, *, hears: bool) -> SpeechService:
    check_models()
    voice = {"voice": settings.voice, "level_dbfs": settings.level_dbfs}
    cores = len(os.sched_getaffinity(0))
    voices = settings.tts_workers or min(MOST_VOICES, max(1, cores // 4))
    pools = [WorkerPool("tts", voice, voices, settings.max_pending)]
    if hears:
        ears = settings.stt_workers or min(MOST_EARS, max(2, cores // 2))
        pools.append(WorkerPool("stt", {}, ears, settings.max_pending))
    running = await asyncio.gather(*(stack.enter_async_context(pool) for pool in pools))
    return SpeechService(running[1] if hears else None, running[0])
