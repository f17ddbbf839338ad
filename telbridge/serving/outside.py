"""The world outside a call: HTTP servers, Python tools, our own voice, recordings, music."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog

from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.audio.transcoder import Transcoder
from telbridge.call.ports import Outside, OutsideFailed
from telbridge.dialplan.orders import CallHttp, CallPython, CallWebhook
from telbridge.serving.entry_points import EntryPoints
from telbridge.serving.music import hold_music
from telbridge.serving.voice import Voice
from telbridge.serving.web import Web

log = structlog.get_logger()


class World:
    """What all calls of a worker share. `aclose` at the end."""

    def __init__(self, voice: AgentSettings, *, web: Web | None = None) -> None:
        """`voice`: how we sound where we speak ourselves."""
        self.web, self.voice, self.tools = web or Web(), Voice(voice), EntryPoints()
        hold_music()  # made now, not in the first call that is held

    async def prepare(self, *, needs_voice: bool) -> None:
        """Load what the dialplans will need (`Dialplans.needs_voice`). Raises nothing: what is not there is
        told now and fails where it is used."""
        if needs_voice:
            try:
                await self.voice.start()
            except OutsideFailed as fault:
                log.error("voice_missing", what=str(fault))

    def for_call(self, recordings: Mapping[str, bytes], audio_format: AudioFormat = PCM_8K) -> Outside:
        """The world of a call whose dialplan has these recordings and whose leg is in this format."""
        return CallOutside(self, recordings, audio_format)

    async def aclose(self) -> None:
        """Close connections, end the voice."""
        await self.web.aclose()
        await self.voice.aclose()


class CallOutside:
    """Implements `telbridge.call.ports.Outside`; cheap. A call keeps the recordings that its dialplan was
    read with, whatever is loaded meanwhile."""

    def __init__(self, world: World, recordings: Mapping[str, bytes], audio_format: AudioFormat) -> None:
        """`recordings`: in PCM_8K, as all that we speak ourselves."""
        self._world, self._recordings, self._format = world, recordings, audio_format

    async def webhook(self, order: CallWebhook) -> Any:
        return await self._world.web.webhook(order)

    async def http(self, order: CallHttp) -> Any:
        return await self._world.web.http(order)

    async def python(self, order: CallPython) -> Any:
        return await self._world.tools.call(order)

    async def speech(self, text: str) -> bytes:
        return in_format(await self._world.voice.speech(text), self._format)

    def recording(self, file: str) -> bytes:
        """OutsideFailed for a file that no dialplan names: an answer of a webhook may ask for any."""
        try:
            return in_format(self._recordings[file], self._format)
        except KeyError:
            raise OutsideFailed("no such recording: the dialplan must name its file") from None

    def music(self) -> bytes:
        return in_format(hold_music(), self._format)


@lru_cache(maxsize=64)
def in_format(words: bytes, audio_format: AudioFormat) -> bytes:
    """What we have in PCM_8K, for a leg of another format; the same bytes where that is none."""
    if audio_format == PCM_8K:
        return words
    transcoder = Transcoder(PCM_8K, audio_format)
    return transcoder.convert(words) + transcoder.finish()
