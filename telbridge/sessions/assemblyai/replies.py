"""What an AssemblyAI session has said, and when it may be asked to speak. Pure.

Pages: voice-agent-api/events-reference, message-sequence, turn-detection-and-interruptions.
"""

from __future__ import annotations

import binascii
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from telbridge.audio.formats import AudioFormat, Encoding
from telbridge.call.events import ReplyId

KEPT_REPLIES: Final = 64
"""Replies remembered; one that old was heard or cut long ago. Bounds what a broken peer can make us keep."""

AFTER_TURN_NS: Final = 150_000_000
"""After the caller's turn the agent's own answer gets so long to begin before we ask for one."""
PATIENCE_NS: Final = 5_000_000_000
"""So long is waited for a reply that must come: asked for, the greeting, the answer to a tool's result."""

_QUIET: Final = {Encoding.PCMU: b"\xff\x7f", Encoding.PCMA: b"\xd5\x55", Encoding.PCM16: b"\x00"}


class Phase(Enum):
    """Of a reply: its audio counts only while it runs."""

    RUNNING = auto()
    CUT = auto()
    """Interrupted; the API may still send what it had under way."""
    OVER = auto()
    """Its end came, or a newer reply began."""


@dataclass(slots=True)
class Reply:
    """One reply of the API."""

    key: str
    """The API's id of it."""
    id: ReplyId
    """What its audio goes by now."""
    words_id: ReplyId
    """What its words go by: the first of its ids."""
    phase: Phase = Phase.RUNNING
    done: bool = False
    """reply.done came."""
    sounding: bool = False
    """Audio was passed on under `id`."""
    flushed: bool = False
    """What was passed on under `id` was thrown away: more of it is played under a new id only."""
    audible: bool = False
    was_cut: bool = False
    """It was cut before it was over."""
    called_a_tool: bool = False
    said: str = ""
    said_all: bool = False
    half_sample: bytes = b""

    def decode(self, data: str, audio_format: AudioFormat) -> bytes:
        """Audio of one message, whole samples only; ValueError if it is not base64.

        Nothing promises that a message ends between two samples, and one octet too many would turn the rest
        of the reply into noise.
        """
        audio = self.half_sample + binascii.a2b_base64(data, strict_mode=True)
        odd = len(audio) % audio_format.sample_bytes
        self.half_sample = audio[len(audio) - odd :] if odd else b""
        audio = audio[: len(audio) - odd]
        if not self.audible:
            self.audible = bool(audio.strip(_QUIET[audio_format.encoding]))
        return audio

    def add_words(self, delta: str) -> None:
        """The vendor's words come with a space before, after or not at all."""
        apart = self.said[-1:].isspace() or delta[:1].isspace() or not delta[:1].isalnum()
        self.said += delta if apart or not self.said else f" {delta}"


class Replies:
    """The replies by the API's id, numbered from 1 as they begin."""

    def __init__(self) -> None:
        self._by_key: dict[str, Reply] = {}
        self._count = 0
        self._strangers: deque[str] = deque(maxlen=KEPT_REPLIES)
        self.newest: Reply | None = None

    def next_id(self) -> ReplyId:
        self._count += 1
        return ReplyId(self._count)

    def begin(self, key: str) -> Reply | None:
        """reply.started; None if this one has begun already."""
        if key in self._by_key:
            return None
        number = self.next_id()
        reply = self._by_key[key] = self.newest = Reply(key, number, number)
        if len(self._by_key) > KEPT_REPLIES:
            del self._by_key[next(iter(self._by_key))]
        return reply

    def of(self, key: str | None) -> Reply | None:
        """The reply of that id; of a message that names none, the newest."""
        return self.newest if key is None else self._by_key.get(key)

    def undone_before(self, newest: Reply) -> list[Reply]:
        """Older ones of which the end was not told."""
        return [reply for reply in self._by_key.values() if reply is not newest and not reply.done]

    def running(self) -> Reply | None:
        """The one that is not done."""
        return self.newest if self.newest is not None and not self.newest.done else None

    def is_new_stranger(self, key: str) -> bool:
        """Whether this id, never begun, is met for the first time."""
        if key in self._strangers:
            return False
        self._strangers.append(key)
        return True

    def forget(self) -> None:
        """A new session: its ids mean other replies. Our numbers go on."""
        self._by_key.clear()
        self._strangers.clear()
        self.newest = None


class ReplyQueue:
    """Our reply.create: sent only while no reply runs or is due, and not right after the caller's turn.

    What the API does with one during a running reply is on no page; races were seen by others.
    """

    def __init__(self, waiting: Iterable[str | None] = ()) -> None:
        self.waiting: deque[str | None] = deque(waiting)
        """Instructions of each; None asks for a plain reply."""
        self._runs: str | None = None
        self._due = False
        self._due_until_ns: int | None = None
        """None: the wait began at a moment without a clock."""
        self._turn_until_ns: int | None = None

    def ask(self, instructions: str | None) -> None:
        """Queue one. A plain one that still waits answers for later ones too."""
        if instructions is not None or None not in self.waiting:
            self.waiting.append(instructions)

    def may_send(self) -> bool:
        free = self._runs is None and not self._due and self._turn_until_ns is None
        return free and bool(self.waiting)

    def send(self) -> str | None:
        """The instructions of the next one, which goes out now."""
        self.expect_reply()
        return self.waiting.popleft()

    def expect_reply(self) -> None:
        """The API will begin a reply by itself."""
        self._due, self._due_until_ns = True, None

    def refused(self) -> None:
        """The reply that was due will not come."""
        self._due = False

    def turn_ended(self, now_ns: int) -> None:
        if self._runs is None:
            self._turn_until_ns = now_ns + AFTER_TURN_NS

    def began(self, key: str) -> None:
        self._runs, self._due, self._turn_until_ns = key, False, None

    def done(self, key: str) -> None:
        """The end of any reply but the newest says nothing of who speaks."""
        if self._runs == key:
            self._runs = None

    def deadline_ns(self, seen_ns: int) -> int | None:
        """When to look again; `seen_ns`, a moment past, asks for the time."""
        if not self.waiting or self._runs is not None:
            return None
        if self._due:
            return seen_ns if self._due_until_ns is None else self._due_until_ns
        return self._turn_until_ns

    def time_passed(self, now_ns: int) -> None:
        if self._due and self._due_until_ns is None:
            self._due_until_ns = now_ns + PATIENCE_NS
        elif self._due_until_ns is not None and now_ns >= self._due_until_ns:
            self._due, self._due_until_ns = False, None
        if self._turn_until_ns is not None and now_ns >= self._turn_until_ns:
            self._turn_until_ns = None
