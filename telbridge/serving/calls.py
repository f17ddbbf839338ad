"""Calls, as the supervisor knows them: those that go on, and the records of those that are over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from telbridge.config import ConfigError, ConfigErrors
from telbridge.ops import spool
from telbridge.ops.archive import Archive
from telbridge.ops.records import Privacy
from telbridge.serving.call_pages import CallPages
from telbridge.serving.live import LiveCalls
from telbridge.serving.recording_settings import RecordingSection
from telbridge.serving.records_settings import RecordsSection
from telbridge.sessions.credentials import SecretMissing

log = structlog.get_logger()


class Calls:
    """From `start` to `stop`."""

    def __init__(self, section: RecordsSection, recording: RecordingSection) -> None:
        """ConfigErrors if a secret is not where the settings say."""
        self._folder, recordings = section.spool(), recording.home(section.home())
        self.live = LiveCalls()
        try:
            self.archive = Archive(section.url(), self._folder, section.retention_days, recordings)
            privacy = Privacy(key=section.key())
        except SecretMissing as missing:
            raise ConfigErrors(
                [ConfigError("settings", missing.key, missing.what, missing.instead)]
            ) from None
        self._pages = CallPages(self.live, self.archive, privacy.number, recordings)

    def start(self) -> None:
        self.archive.start()

    async def stop(self) -> None:
        """What waits is carried, as far as that goes."""
        await asyncio.to_thread(self.archive.stop)

    def on_message(self, worker: int, message: Mapping[str, Any]) -> None:
        """Of a worker, by its number."""
        self.live.on_message(worker, message)
        if message.get("event") == "call_ended":
            self.archive.wake()

    def on_worker_end(self, worker: int) -> None:
        """Its live calls went with it; each leaves a record all the same."""
        for record in self.live.lost(worker):
            log.error("call_lost", call_id=record["call_id"])
            try:
                spool.write(self._folder, record, unless_there=True)
            except OSError as error:
                log.error("record_lost", call_id=record["call_id"], error=str(error))
        self.archive.wake()

    def pages(self) -> list[web.AbstractRouteDef]:
        """For the admin port."""
        return self._pages.routes()
