"""Records calls: what caller and agent say, as two channels on one clock.

The event loop only puts frames into a bounded queue, one a call; one thread a worker does the rest, with some
delay. A disk that is slow or full costs what would have been recorded, never what is heard.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from enum import IntEnum, auto
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog

from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.audio.transcoder import Transcoder
from telbridge.audio.two_tracks import TwoTracks
from telbridge.call.taping import Recording
from telbridge.ops.recording_files import SUFFIXES, Kind, RecordingFile

log = structlog.get_logger()

LOOK_S: Final = 0.25
"""Between two looks at the queues: nobody wakes the thread for a frame."""
KEPT_NS: Final = 2_000_000_000
"""What is younger is not written yet: it may still be taken back, or come late."""
QUEUED_MOST: Final = 1_000
"""Frames of a call: ten seconds of both voices."""
STOP_S: Final = 5.0


class _What(IntEnum):
    CALLER = auto()
    AGENT = auto()
    AGENT_AHEAD = auto()
    UNPLAYED = auto()
    PAUSE = auto()
    END = auto()


class CallRecording:
    """One call's: implements `telbridge.call.taping.Tape`, for the event loop. `work` is the thread's."""

    def __init__(
        self, path: Path, kind: Kind, audio_format: AudioFormat, wake: Callable[[CallRecording], None]
    ) -> None:
        """`wake`: told when it begins and when it ends."""
        self._path, self._kind, self._format, self._wake = path, kind, audio_format, wake
        self._queue: deque[tuple[_What, int, bytes | int]] = deque()
        self._from_ms = 0.0
        self._begun_ns: int | None = None
        self._ended = False
        self._lost_octets = 0
        self._trouble = ""
        self._outcome: Future[Recording | None] = Future()
        to_pcm = AudioFormat(Encoding.PCM16, audio_format.rate_hz)
        self._to_pcm = (Transcoder(audio_format, to_pcm), Transcoder(audio_format, to_pcm))
        self._tracks = TwoTracks(audio_format.rate_hz)
        self._file: RecordingFile | None = None
        self.over = False
        """Nothing is left to do."""

    # ------------------------------------------------------------ on the event loop

    def begin(self, at_ns: int, from_ms: float) -> None:
        self._begun_ns, self._from_ms = at_ns, from_ms
        self._wake(self)

    def caller(self, frame: bytes | memoryview, now_ns: int) -> None:
        self._put(_What.CALLER, frame, now_ns)

    def agent(self, frame: bytes | memoryview, now_ns: int) -> None:
        self._put(_What.AGENT, frame, now_ns)

    def agent_ahead(self, frame: bytes | memoryview, now_ns: int) -> None:
        self._put(_What.AGENT_AHEAD, frame, now_ns)

    def unplayed(self, length_ms: int) -> None:
        if length_ms:
            self._queue.append((_What.UNPLAYED, 0, length_ms))

    def pause(self, at_ns: int) -> None:
        self._queue.append((_What.PAUSE, at_ns, 0))

    def end(self, at_ns: int) -> None:
        if self._ended:
            return
        self._ended = True
        if self._begun_ns is None:
            self._outcome.set_result(None)
        else:
            self._queue.append((_What.END, at_ns, 0))
            self._wake(self)

    @property
    def outcome(self) -> Future[Recording | None]:
        """Once the file has its name; None if nothing was recorded."""
        return self._outcome

    def so_far(self) -> Recording | None:
        """What is known of it while it is being written."""
        if self._begun_ns is None:
            return None
        lost_ms = round(self._format.ms_in(self._lost_octets))
        return Recording(str(self._path), self._from_ms, lost_ms, self._trouble)

    def _put(self, what: _What, frame: bytes | memoryview, now_ns: int) -> None:
        if len(self._queue) < QUEUED_MOST and not self._trouble:
            # A copy: the frame may be a window on much more.
            self._queue.append((what, now_ns, bytes(frame)))
        else:
            self._lost_octets += len(frame)

    # ------------------------------------------------------------ on the thread

    def work(self, now_ns: int) -> None:
        """Take what waits, write what is old enough. Blocks; never raises."""
        end_ns = self._take()
        try:
            if not self._trouble:
                self._write(now_ns - KEPT_NS if end_ns is None else end_ns)
        except OSError as error:
            self._fail(error)
        if end_ns is not None:
            self._finish()

    def _take(self) -> int | None:
        """What waits goes to its place; when the recording ended, if it did."""
        while self._queue:
            what, at_ns, content = self._queue.popleft()
            if what is _What.END:
                self._queue.clear()
                return at_ns
            self._place(what, at_ns, content)
        return None

    def _place(self, what: _What, at_ns: int, content: bytes | int) -> None:
        left, right = self._tracks.left, self._tracks.right
        if isinstance(content, int):
            if what is _What.UNPLAYED:
                right.take_back(content * self._format.rate_hz // 1000)
            else:
                left.cut(self._at(at_ns))
                right.cut(self._at(at_ns))
            return
        pcm = self._to_pcm[what is not _What.CALLER].convert(content)
        pcm = pcm[: len(pcm) & ~1]  # Half a sample is none.
        if what is _What.CALLER:
            # It was spoken before it arrived, and is heard after that: its middle stands there.
            left.follow(pcm, self._at(at_ns) - len(pcm) // 4)
        elif what is _What.AGENT:
            right.follow(pcm, self._at(at_ns))
        else:
            right.queue(pcm, self._at(at_ns))

    def _at(self, at_ns: int) -> int:
        assert self._begun_ns is not None
        return (at_ns - self._begun_ns) * self._format.rate_hz // 1_000_000_000

    def _write(self, until_ns: int) -> None:
        frames = self._tracks.take(max(0, self._at(until_ns)))
        if not frames:
            return
        if self._file is None:
            self._file = RecordingFile(self._path, self._kind, self._format.rate_hz)
        self._file.write(frames)

    def _fail(self, error: OSError) -> None:
        self._trouble = error.strerror or str(error)
        log.error(
            "recording_stopped", call_id=self._path.stem, folder=str(self._path.parent), why=self._trouble
        )

    def _finish(self) -> None:
        try:
            if self._file is not None:
                self._file.finish()
        except OSError as error:
            self._fail(error)
        self._close()

    def give_up(self) -> None:
        """A bug of ours: nothing more comes of it."""
        self._trouble = "internal error"
        self._close()

    def _close(self) -> None:
        self.over = True
        self._outcome.set_result(self.so_far())


class Recorder:
    """A worker's. Its thread runs while calls are recorded."""

    def __init__(self, folder: Path, kind: Kind, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._folder, self._kind, self._clock = folder, kind, clock
        self._live: list[CallRecording] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = False

    def of_call(self, call_id: str, audio_format: AudioFormat) -> CallRecording:
        """A tape for it; there is no file before it begins."""
        day = datetime.now(UTC).date().isoformat()
        path = self._folder / day / f"{quote(call_id, safe='')}{SUFFIXES[self._kind]}"
        return CallRecording(path.absolute(), self._kind, audio_format, self._look_at)

    def stop(self) -> None:
        """What ended is finished, within bounds; then the thread is gone. Blocks."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _look_at(self, recording: CallRecording) -> None:
        if recording not in self._live:
            self._live.append(recording)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            last = self._stopping
            for recording in list(self._live):
                self._work(recording)
                if recording.over:
                    self._live.remove(recording)
            if last:
                return
            self._wake.wait(LOOK_S if self._live else None)
            self._wake.clear()

    def _work(self, recording: CallRecording) -> None:
        try:
            recording.work(self._clock())
        except Exception:  # The wall between calls.
            log.exception("recording_bug")
            recording.give_up()
