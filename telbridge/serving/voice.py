"""Our own voice: words that a dialplan wants said when the agent cannot or shall not say them."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.models import HIBARI, ModelsMissingError
from telbridge.agent.speech.pool import OverloadedError, SpeechService, WorkerLostError, WorkerPool
from telbridge.agent.speech.tts import sentences
from telbridge.audio.formats import PCM_8K
from telbridge.call.ports import OutsideFailed

log = structlog.get_logger()

LIMIT_S: Final = 20.0
"""For the first words, with the loading of the model, and for each text after that."""


class Voice:
    """Local synthesis in a process of its own, started when it is first needed (or by `start`)."""

    def __init__(self, settings: AgentSettings, limit_s: float = LIMIT_S) -> None:
        """`settings`: voice and level. `limit_s`: how long one text may take."""
        self._settings, self._limit_s = settings, limit_s
        self._pool: WorkerPool | None = None
        self._speech: SpeechService | None = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the model now, so that the first words need not wait for it. OutsideFailed."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._service()
        except TimeoutError:
            raise OutsideFailed(f"speech: the voice did not load within {self._limit_s:g} s") from None

    async def speech(self, text: str) -> bytes:
        """The text in PCM_8K; the same sentence costs nothing the second time. OutsideFailed."""
        speech: SpeechService | None = None
        try:
            async with asyncio.timeout(self._limit_s):
                speech = await self._service()
                return b"".join([await speech.synthesize(piece, PCM_8K) for piece in sentences(text)])
        except TimeoutError:
            self._give_up(speech)
            raise OutsideFailed(f"speech: took longer than {self._limit_s:g} s") from None
        except WorkerLostError:
            self._give_up(speech)
            raise OutsideFailed("speech: the voice's process ended") from None
        except OverloadedError:
            raise OutsideFailed("speech: too much is to be said at once") from None
        except RuntimeError:
            raise OutsideFailed("speech: the voice cannot say this") from None

    async def aclose(self) -> None:
        """End the process."""
        self._give_up(self._speech)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _service(self) -> SpeechService:
        async with self._starting:
            if self._speech is None:
                self._pool = await self._started()
                self._speech = SpeechService(None, self._pool)
            return self._speech

    async def _started(self) -> WorkerPool:
        if (fault := HIBARI.fault()) is not None:
            raise OutsideFailed(fault)
        settings = self._settings
        voice = {"voice": settings.voice, "level_dbfs": settings.level_dbfs}
        pool = WorkerPool("tts", voice, 1, settings.max_pending)
        try:
            return await pool.__aenter__()
        except ModelsMissingError as missing:
            raise OutsideFailed(missing.lines[0]) from None
        except (asyncio.IncompleteReadError, OSError):
            raise OutsideFailed("speech: the voice's process did not start") from None

    def _give_up(self, speech: SpeechService | None) -> None:
        """The next words start another process. One that somebody has replaced already is left alone."""
        if speech is None or speech is not self._speech:
            return
        pool, self._pool, self._speech = self._pool, None, None
        assert pool is not None
        ending = asyncio.create_task(pool.__aexit__(), name="serving/voice-ends")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
