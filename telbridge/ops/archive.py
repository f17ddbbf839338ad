"""Carries records from the spool to the database, deletes the old ones, and answers who asks for them.

One thread of the supervisor: no call waits for it. A database that is down is tried again and again, and what
waits meanwhile stays on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from telbridge.ops import spool
from telbridge.ops.asking import RecordRefused, StoreDown, Wanted, not_made_yet
from telbridge.ops.recording_files import forget_before
from telbridge.ops.spool import Waiting

if TYPE_CHECKING:
    from telbridge.ops.store import Store

log = structlog.get_logger()

BATCH: Final = 200
"""Records in one transaction."""
GATHER_S: Final = 0.2
"""Between two transactions: calls that end faster share one, which costs hardly more than one call."""
LOOK_S: Final = 20.0
"""Between looks at the spool that nobody asked for: another server may use the same folder."""
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
CLEAN_S: Final = 3600.0
LAST_S: Final = 15.0
"""At the end, for what still waits; the rest goes on waiting on disk."""


class Archive:
    """From `start` to `stop`; `get` and `find` may be called from any thread at any time."""

    def __init__(self, url: str, folder: Path, retention_days: int, recordings: Path | None = None) -> None:
        """`url` of the database, with its password; `folder` of the spool; 0 days keep records for ever;
        `recordings`: their folder, they go with the records."""
        self._url, self._folder, self._retention_days = url, folder, retention_days
        self._recordings = recordings
        self._wake = threading.Event()
        self._stopping = False
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """What earlier runs left on disk goes first."""
        self._thread.start()

    def wake(self) -> None:
        """Something new waits."""
        self._wake.set()

    def stop(self) -> None:
        """Carry what waits, if the database is there; then end. Blocks."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(LAST_S)
        if self._store is not None:
            self._store.close()

    @property
    def down(self) -> bool:
        """The database did not take what was last given to it."""
        return self._failures > 0

    # ------------------------------------------------------------ who asks

    def get(self, call_id: str) -> dict[str, Any] | None:
        """The record of a call that is over. Blocks. StoreDown if it may be in a database that is down."""
        waiting = spool.read(self._folder, call_id)
        if waiting is not None or not_made_yet(self._url):
            return waiting
        return self._opened().get(call_id)

    def find(self, wanted: Wanted, most: int) -> list[dict[str, Any]]:
        """See Store.find."""
        if not_made_yet(self._url):
            return []
        return self._opened().find(wanted, most)

    def _opened(self) -> Store:
        """SQLAlchemy takes a third of a second to import: not while a server starts."""
        with self._opening:
            if self._store is None:
                from telbridge.ops.store import Store

                self._store = Store(self._url)
            return self._store

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        cleaned = -CLEAN_S
        while True:
            last = self._stopping
            self._wake.clear()
            fine = self._carry()
            if fine and time.monotonic() - cleaned > CLEAN_S:
                self._clean()
                cleaned = time.monotonic()
            if last:
                return
            self._wait(fine)

    def _wait(self, fine: bool) -> None:
        """A database that is down is not asked more often because more calls end."""
        if fine:
            carried = time.monotonic()
            self._wake.wait(LOOK_S)
            if not self._stopping:
                time.sleep(max(0.0, carried + GATHER_S - time.monotonic()))
            return
        deadline = time.monotonic() + RETRY_S[min(self._failures, len(RETRY_S)) - 1]
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._wake.wait(min(left, 0.1))
            self._wake.clear()

    def _carry(self) -> bool:
        """False if the database, or the disk, is down."""
        try:
            records = spool.waiting(self._folder)
            for batch in _batches(records):
                self._add(batch)
                self._up()
        except (StoreDown, OSError) as error:
            self._failures += 1
            if self._failures == 1:
                log.error("records_wait", why=str(error), folder=str(self._folder))
            return False
        return True

    def _up(self) -> None:
        if self._failures:
            log.info("records_go_on", failures=self._failures)
            self._failures = 0

    def _add(self, batch: Sequence[Waiting]) -> None:
        """One record that the database refuses must not keep out the others."""
        try:
            self._opened().add([waiting.record for waiting in batch])
        except RecordRefused as error:
            if len(batch) == 1:
                log.error("record_not_taken", why=str(error), call_id=batch[0].record["call_id"])
                batch[0].refuse()
                return
            for waiting in batch:
                self._add([waiting])
            return
        for waiting in batch:
            waiting.done()

    def _clean(self) -> None:
        if not self._retention_days:
            return
        moment = datetime.now(UTC) - timedelta(days=self._retention_days)
        files = gone = 0
        try:
            if self._recordings is not None:
                files = forget_before(self._recordings, moment)
            if not not_made_yet(self._url):
                gone = self._opened().forget_before(moment)
        except (StoreDown, OSError) as error:
            log.error("records_not_deleted", why=str(error))
            return
        if gone or files:
            log.info("records_deleted", count=gone, recordings=files, older_than_days=self._retention_days)


def _batches(records: Iterator[Waiting]) -> Iterator[list[Waiting]]:
    while batch := list(islice(records, BATCH)):
        yield batch
