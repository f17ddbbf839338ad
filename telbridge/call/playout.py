"""The downlink buffer with its ledger: what has been heard, what is queued, what was thrown away.

Agents send speech faster than it is spoken, in bursts of any size; the telephone takes one frame at a
time at its own clock. Playout stands between them. It reads no clock: who pulls a frame has played it, but
for what it tells at a flush to have been thrown away unplayed.

What a reply holds is never copied or re-sliced: its chunks stay as they came, behind one read offset, and a
frame is a window on the chunk, except where it spans two.

Unit: bytes of the leg's format inside, whole samples outside.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from telbridge.audio.fade import fade_in, fade_out, fade_samples, peak
from telbridge.audio.formats import AudioFormat
from telbridge.audio.shortening import joined
from telbridge.call.events import ReplyId
from telbridge.call.standing import Standing

QUIET: Final = 100
"""Of 32767, -50 dBFS: a frame that stays below it holds no speech."""
PATIENCE_FRAMES: Final = 2
"""At the start of a reply, a chunk shorter than a frame waits so long for more before it is played alone."""
WAITS_FROM_MS: Final = 40
"""For who takes frames ahead of the clock: with so much of those before still to be heard, a frame may wait
for the next one, to be joined with it, which comes 20 ms later. Once it waits, a bit later does as well:"""
WAITS_TO_MS: Final = 20
TAIL_PIECES: Final = 512
"""What was taken last is remembered: a carrier may not have played it yet. Speech of one reply in a row is
one piece, so this reaches back further than any leg sends ahead."""

OWN_WORDS: Final = ReplyId(2**62)
"""From here on ids are the call's own words, not the agent's: they are above whatever was cut."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The fate of one reply's audio at a flush, in samples at the leg's rate."""

    reply: ReplyId
    heard_samples: int
    discarded_samples: int
    rate_hz: int

    @property
    def heard_ms(self) -> int:
        """Milliseconds that left towards the caller, rounded down."""
        return self.heard_samples * 1000 // self.rate_hz

    @property
    def discarded_ms(self) -> int:
        return self.discarded_samples * 1000 // self.rate_hz


@dataclass(slots=True)
class PlayoutTotals:
    """What became of all audio of the call so far, and how often the queue ran dry within a reply."""

    heard_samples: int = 0
    most_queued_samples: int = 0
    """Waiting to be played, at the worst moment."""
    discarded_samples: int = 0
    """Thrown away at a flush, or come too late for a reply that had been cut."""
    underruns: int = 0
    underrun_frames: int = 0
    """Frames of silence that stood inside a reply."""
    shortened_frames: int = 0
    """By so many it was made shorter later: the delay of an underrun does not last (`standing.py`)."""


@dataclass(slots=True, eq=False)
class _Reply:
    id: ReplyId
    chunks: deque[bytes] = field(default_factory=deque)
    offset: int = 0
    """Bytes already taken from the first chunk."""
    queued: int = 0
    pulled: int = 0
    complete: bool = False
    dry_frames: int = 0
    """Frames of silence since this reply, once begun, ran dry."""


@dataclass(slots=True, eq=False)
class _Piece:
    """Of what was taken, in bytes."""

    reply: _Reply | None
    """None: no speech, but the fade behind it."""
    speech: int
    """So much of the reply is over with it."""
    on_wire: int
    """So long it is."""


class Playout:
    """One call's downlink queue.

    Replies are played in the order of their first audio. `pull` gives exactly one frame at a time.
    """

    def __init__(self, audio_format: AudioFormat, frame_ms: int) -> None:
        self.format: Final = audio_format
        self.frame_bytes: Final = audio_format.bytes_for_ms(frame_ms)
        self.totals: Final = PlayoutTotals()
        self.playing: ReplyId | None = None
        """The reply whose audio is in the frame pulled last; None if that was silence."""
        self._silence: Final = audio_format.silence(audio_format.samples_in(self.frame_bytes))
        self.starved = False
        """Whether the frame pulled last was due to an empty queue: silence, or the fade into it."""
        self._replies: deque[_Reply] = deque()
        self._tail: deque[_Piece] = deque(maxlen=TAIL_PIECES)
        self.queued_octets = self._most_octets = 0
        """Speech waiting to be played."""
        self._highest = ReplyId(0)
        self._cut_through = ReplyId(0)
        self._last: bytes | memoryview | None = None
        self._fade: bytes | None = None
        self._waited = 0
        self._held_back = False
        """The next frame waits to be joined with the one behind it."""
        self._standing = Standing(audio_format, self.frame_bytes)

    # ------------------------------------------------------------ in

    def append(self, reply: ReplyId, audio: bytes) -> bool:
        """Queue audio of a reply. False, and the audio is discarded, if that reply was cut by a flush."""
        if reply <= self._cut_through:
            self.totals.discarded_samples += self.format.samples_in(len(audio))
            return False
        if audio:
            entry = self._replies[-1] if self._replies else None
            if entry is None or entry.id != reply:
                entry = self._entry(reply)
            entry.chunks.append(audio)
            entry.queued += len(audio)
            self.queued_octets += len(audio)
            if self.queued_octets > self._most_octets:
                self._most_octets = self.queued_octets
                self.totals.most_queued_samples = self.format.samples_in(self.queued_octets)
        return True

    def complete(self, reply: ReplyId) -> None:
        """No more audio will come for this reply: its last, shorter frame may be played."""
        for entry in self._replies:
            if entry.id == reply:
                entry.complete = True
        self._drop_played()

    def flush(self, unplayed_ms: int = 0) -> list[Heard]:
        """Drop what is queued, at once; the next frame holds a fade of at most `FADE_MS`, then silence.

        `unplayed_ms`: of the frames pulled last, so much was thrown away by the carrier; nothing is left to
        fade then. One `Heard` a reply cut short, in the order of playing: a reply heard to its end gives
        none, one not begun gives zero. Audio that comes later for any of them is discarded.
        """
        unheard = self._take_back(self.format.bytes_for_ms(unplayed_ms))
        if unplayed_ms:
            self._fade = self._last = None
        elif self.playing is not None and self._fade is None:
            self._fade = self._fade_of_upcoming()
        heard = [self._cut_late(entry, count) for entry, count in unheard if entry not in self._replies]
        heard += [self._cut(entry) for entry in self._replies]
        self._tail.clear()
        self._cut_through = self._highest
        self._replies.clear()
        self.queued_octets = 0
        self._waited = 0
        self._standing.over()
        return heard

    def lagged(self, frames: int, *, just_now: bool) -> None:
        """Silence stood inside the reply that is being played, which nobody pulled: right before the next
        frame, or some time ago."""
        if not self._replies or not self._replies[0].pulled:
            return
        if just_now:
            self._replies[0].dry_frames += frames
        else:
            self._note_gap(frames)

    # ------------------------------------------------------------ out

    def pull(self, standing_ms: int = 0) -> bytes | memoryview:
        """One frame. A memoryview is a window on the agent's own audio, valid as long as it is held.

        `standing_ms`: of the frames taken before, so much is still to be heard; negative: for so long nothing
        has been, besides the frames of silence that were pulled.
        """
        self.starved = False
        if standing_ms < 0:
            self._note_jitter(-standing_ms)
        if self._fade is not None:
            fade, self._fade = self._fade, None
            self._tail.append(_Piece(None, 0, self.frame_bytes))
            return self._quiet(fade)
        if self._replies:
            entry = self._replies[0]
            if entry.queued >= self.frame_bytes and not entry.dry_frames and not self._standing.owed:
                # The way of nearly every frame.
                self._waited = 0
                self.playing = entry.id
                head = entry.chunks[0]
                if len(head) != self.frame_bytes or entry.offset:
                    self._last = frame = self._take(self.frame_bytes)
                    return frame
                # An agent that speaks in frames as long as ours.
                self._last = head
                self._advance(entry, self.frame_bytes, self.frame_bytes)
                if entry.complete and not entry.queued:
                    self._drop_played()
                return head
        available = self._ready_bytes()
        if available == 0:
            return self._starve()
        entry = self._replies[0]
        resumed = entry.dry_frames > 0
        if resumed:
            self._note_gap(entry.dry_frames)
            entry.dry_frames = 0
        self._waited = 0
        self.playing = entry.id
        shorter = self._take_shortened(entry, standing_ms) if self._standing.owed else None
        frame = self._take(available) if shorter is None else shorter
        if resumed:
            frame = fade_in(bytes(frame), self.format)
        self._last = frame
        if available < self.frame_bytes:
            return self._end_within(bytes(frame))
        return frame

    def holds_back(self, standing_ms: int) -> bool:
        """Before a pull, for who takes frames ahead of the clock: whether the next frame waits for the one
        behind it, to be joined with it. `standing_ms` of those before are still to be heard."""
        waited, self._held_back = self._held_back, False
        if not self._standing.surplus or len(self._replies) != 1:
            return False
        entry = self._replies[0]
        if entry.complete or entry.dry_frames or not self.frame_bytes <= entry.queued < 2 * self.frame_bytes:
            return False
        if not self._standing.may_go and not self._pauses(entry, self.frame_bytes):
            return False
        if standing_ms >= (WAITS_TO_MS if waited else WAITS_FROM_MS):
            self._held_back = True
        elif waited:
            self._standing.in_vain()
        return self._held_back

    @property
    def whole_frame_waits(self) -> bool:
        """Whether the next frame is certain: nothing that may still come would change it."""
        if self._fade is not None:
            return True
        if not self.queued_octets:
            return False
        ready = 0
        for entry in self._replies:
            ready += entry.queued
            if ready >= self.frame_bytes:
                return True
            if not entry.complete:
                return False
        return ready > 0

    @property
    def queued_ms(self) -> int:
        """Speech waiting to be played."""
        return int(self.format.ms_in(self.queued_octets))

    @property
    def unfinished(self) -> bool:
        """More of a reply is to come, or to be played."""
        return bool(self._replies)

    def holds(self, reply: ReplyId) -> bool:
        """Something of this reply is being played or will be."""
        return self.playing == reply or any(entry.id == reply for entry in self._replies)

    @property
    def fading(self) -> bool:
        """The next frame is the end of speech that was cut or is over."""
        return self._fade is not None

    @property
    def idle(self) -> bool:
        """Nothing is queued and nothing was being played."""
        return self.queued_octets == 0 and self.playing is None and self._fade is None

    # ------------------------------------------------------------ inside

    def _entry(self, reply: ReplyId) -> _Reply:
        for entry in self._replies:
            if entry.id == reply:
                return entry
        self._replies.append(_Reply(reply))
        if reply < OWN_WORDS:
            self._highest = max(self._highest, reply)
        return self._replies[-1]

    def _ready_bytes(self) -> int:
        """Bytes that may be played now: a whole frame, or the rest of what is complete, or nothing yet."""
        ready = 0
        for entry in self._replies:
            ready += entry.queued
            if ready >= self.frame_bytes:
                return self.frame_bytes
            if not entry.complete:
                sounding = self._last is not None
                return ready if sounding or self._waited >= PATIENCE_FRAMES else 0
        return ready

    def _take_shortened(self, entry: _Reply, standing_ms: int) -> bytes | None:
        """The next frame, made of up to two, if there is delay to be given back; None: as it is. What is left
        out counts as heard."""
        standing, size = self._standing, self.frame_bytes
        standing.waits(entry.queued + self.format.bytes_for_ms(max(0, standing_ms)))
        if not standing.surplus or entry.queued < 2 * size:
            return None
        if not standing.may_go and not self._pauses(entry, 2 * size):
            return None
        frame = joined(self._peek(entry, 2 * size), self.format)
        self._pass(entry, size, heard=False)
        self._pass(entry, size, heard=True)
        standing.went(size)
        self.totals.shortened_frames += 1
        if entry.complete and not entry.queued:
            self._drop_played()
        return frame

    def _pauses(self, entry: _Reply, count: int) -> bool:
        """There is no speech in the next so many bytes of a reply that has them."""
        return peak(self._peek(entry, count), self.format) < QUIET

    def _peek(self, entry: _Reply, count: int) -> bytes:
        """The next so many bytes of a reply that has them."""
        skip, found = entry.offset, bytearray()
        for chunk in entry.chunks:
            found += memoryview(chunk)[skip : skip + count - len(found)]
            skip = 0
            if len(found) == count:
                break
        return bytes(found)

    def _pass(self, entry: _Reply, count: int, *, heard: bool) -> None:
        """So many bytes of a reply that has them are over, across chunks."""
        while count:
            piece = min(count, len(entry.chunks[0]) - entry.offset)
            self._advance(entry, piece, piece if heard else 0)
            count -= piece

    def _note_gap(self, frames: int) -> None:
        self.totals.underruns += 1
        self.totals.underrun_frames += frames
        self._standing.gap(frames * self.frame_bytes)

    def _note_jitter(self, silent_ms: int) -> None:
        entry = self._replies[0] if self._replies else None
        if entry is not None and entry.pulled:
            self._standing.jitter(self.format.bytes_for_ms(silent_ms), alone=not entry.dry_frames)

    def _starve(self) -> bytes | memoryview:
        """Silence, after a fade if there was sound."""
        self.starved = True
        if self._replies and self._replies[0].queued:
            self._waited += 1
        if self._replies and self._replies[0].pulled:
            self._replies[0].dry_frames += 1
        if self._last is not None:
            return self._quiet(fade_out(b"", self._last_sample(), self.format))
        self.playing = None
        return self._silence

    def _take(self, count: int) -> bytes | memoryview:
        """`count` bytes off the queue: a window on one chunk, or a copy where chunks meet."""
        entry = self._replies[0]
        head = entry.chunks[0]
        taken: bytes | memoryview
        if len(head) - entry.offset >= count:
            taken = memoryview(head)[entry.offset : entry.offset + count]
            self._advance(entry, count, count)
        else:
            joined = bytearray()
            while len(joined) < count:
                self._drop_played()
                entry = self._replies[0]
                head = entry.chunks[0]
                piece = memoryview(head)[entry.offset : entry.offset + count - len(joined)]
                joined += piece
                self._advance(entry, len(piece), len(piece))
            taken = bytes(joined)
        entry = self._replies[0]
        if entry.complete and not entry.queued:
            self._drop_played()
        return taken

    def _advance(self, entry: _Reply, count: int, on_wire: int) -> None:
        """So much of it is over; `on_wire` of that stands in a frame."""
        last = self._tail[-1] if self._tail else None
        if last is not None and last.reply is entry and last.speech == last.on_wire and count == on_wire:
            last.speech = last.on_wire = last.on_wire + count
        else:
            self._tail.append(_Piece(entry, count, on_wire))
        entry.offset += count
        if entry.offset == len(entry.chunks[0]):
            entry.chunks.popleft()
            entry.offset = 0
        entry.queued -= count
        entry.pulled += count
        self.queued_octets -= count
        self.totals.heard_samples += count // self.format.sample_bytes

    def _drop_played(self) -> None:
        while self._replies and self._replies[0].complete and not self._replies[0].queued:
            self._replies.popleft()
            self._standing.over()

    def _cut(self, entry: _Reply) -> Heard:
        discarded = self.format.samples_in(entry.queued)
        self.totals.discarded_samples += discarded
        return Heard(entry.id, self.format.samples_in(entry.pulled), discarded, self.format.rate_hz)

    def _take_back(self, unplayed: int) -> list[tuple[_Reply, int]]:
        """The newest `unplayed` bytes of frames were not played: what was speech in them, by reply."""
        back: dict[int, tuple[_Reply, int]] = {}
        while unplayed > 0 and self._tail:
            piece = self._tail.pop()
            entry, played = piece.reply, max(0, piece.on_wire - unplayed)
            unplayed -= piece.on_wire
            if entry is None or piece.speech <= played:
                continue
            entry.pulled -= piece.speech - played
            self.totals.heard_samples -= self.format.samples_in(piece.speech - played)
            before = back.pop(id(entry), (entry, 0))[1]
            back[id(entry)] = (entry, before + piece.speech - played)
        unheard = list(reversed(back.values()))
        for entry, count in unheard:
            if entry in self._replies:
                entry.queued += count  # Only to be discarded with the rest: `flush` clears the queue.
        return unheard

    def _cut_late(self, entry: _Reply, unplayed: int) -> Heard:
        """A reply that had been pulled to its end."""
        discarded = self.format.samples_in(unplayed)
        self.totals.discarded_samples += discarded
        return Heard(entry.id, self.format.samples_in(entry.pulled), discarded, self.format.rate_hz)

    def _fade_of_upcoming(self) -> bytes:
        """The fade after a flush is made of the words that would have come: they count as heard."""
        wanted = fade_samples(self.format) * self.format.sample_bytes
        entry = self._replies[0] if self._replies else None
        upcoming = b""
        if entry is not None and entry.id == self.playing and entry.queued:
            head = entry.chunks[0]
            upcoming = bytes(memoryview(head)[entry.offset : entry.offset + wanted])
            self._advance(entry, len(upcoming), 0)
        return fade_out(upcoming, self._last_sample(), self.format)

    def _last_sample(self) -> bytes:
        size = self.format.sample_bytes
        return bytes(self._last[-size:]) if self._last is not None else self._silence[:size]

    def _end_within(self, words: bytes) -> bytes:
        """A frame in which speech ends: the words, then a fade, which may reach into the next frame."""
        audio = words + fade_out(b"", self._last_sample(), self.format)
        self._tail.append(_Piece(None, 0, self.frame_bytes - len(words)))
        self._last = None
        self._fade = audio[self.frame_bytes :] or None
        return self._padded(audio)

    def _quiet(self, ending: bytes) -> bytes:
        self.playing = None
        self._last = None
        return self._padded(ending)

    def _padded(self, audio: bytes) -> bytes:
        return (audio + self._silence)[: self.frame_bytes]
