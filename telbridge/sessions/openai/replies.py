"""What an OpenAI session has said: replies, their audio items, and who may speak next. Pure."""

from __future__ import annotations

import binascii
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import ReplyId, ReplyStatus
from telbridge.call.playout import Heard
from telbridge.sessions.openai.settings import Json
from telbridge.sessions.openai.vocabulary import MOST_NAME
from telbridge.sessions.wire import optional_table, optional_text

KEPT_REPLIES: Final = 64
"""Replies remembered; one that old was heard or cut long ago. Bounds what a broken peer can make us keep."""


@dataclass(slots=True)
class AudioItem:
    """One audio part of a reply; the API truncates by item, not by reply."""

    item_id: str
    content_index: int
    octets: int = 0
    """Received and passed on: nothing above may ever be reported as heard."""
    half_sample: bytes = b""
    truncated_at_ms: int | None = None


class Phase(Enum):
    """Of a reply: its audio counts only while it runs."""

    RUNNING = auto()
    CUT = auto()
    """The caller interrupted; the API may still send what it had under way."""
    OVER = auto()
    """response.done came."""


@dataclass(slots=True)
class Reply:
    """One response of the API that speaks in the default conversation."""

    id: ReplyId
    phase: Phase = Phase.RUNNING
    items: dict[tuple[str, int], AudioItem] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def item(self, item_id: str, content_index: int) -> AudioItem:
        """The audio item of that name, begun if new. Items are played in the order they began."""
        key = (item_id, content_index)
        found = self.items.get(key)
        if found is None:
            found = self.items[key] = AudioItem(item_id, content_index)
        return found


def decode(item: AudioItem, delta: str, sample_bytes: int) -> bytes:
    """Audio of a delta, whole samples only; ValueError if it is not base64.

    Nothing promises that a delta ends between two samples, and one octet too many would turn the rest
    of the reply into noise.
    """
    audio = binascii.a2b_base64(delta, strict_mode=True)
    if sample_bytes == 1:
        item.octets += len(audio)
        return audio
    if item.half_sample:
        audio = item.half_sample + audio
    odd = len(audio) % sample_bytes
    if odd or item.half_sample:
        item.half_sample = audio[len(audio) - odd :] if odd else b""
        audio = audio[: len(audio) - odd]
    item.octets += len(audio)
    return audio


def positions(
    items: Iterable[AudioItem], heard: Heard, audio_format: AudioFormat
) -> list[tuple[AudioItem, int]]:
    """The items of a cut reply that were not heard in full, each with its position in ms.

    What was heard fills the items in order: the one it ends in gets the rest, rounded down, later ones
    zero. No position exceeds what was received of its item (the API refuses that, and then believes
    that all was heard), so the positions and the items heard in full never add up to more than `heard`.
    """
    samples = max(0, heard.heard_samples) * audio_format.rate_hz // heard.rate_hz
    cut = []
    for item in items:
        received = audio_format.samples_in(item.octets)
        if received > samples:
            cut.append((item, samples * 1000 // audio_format.rate_hz))
        samples = max(0, samples - received)
    return cut


class Replies:
    """The replies of one session by the API's response id, numbered as they are announced, from 1 or after
    those of the session before."""

    def __init__(self, *, after: int = 0) -> None:
        self._by_response: dict[str, Reply] = {}
        self._count = after
        self._strangers: deque[str] = deque(maxlen=KEPT_REPLIES)

    def announce(self, response_id: str) -> None:
        """response.created."""
        if response_id in self._by_response:
            return
        self._count += 1
        self._by_response[response_id] = Reply(ReplyId(self._count))
        if len(self._by_response) > KEPT_REPLIES:
            del self._by_response[next(iter(self._by_response))]

    @property
    def count(self) -> int:
        """The number of the last one announced."""
        return self._count

    def of(self, response_id: str) -> Reply | None:
        return self._by_response.get(response_id)

    def numbered(self, reply_id: ReplyId) -> Reply | None:
        return next((reply for reply in self._by_response.values() if reply.id == reply_id), None)

    def cut_running(self) -> None:
        """The caller interrupts: whatever still comes of the running reply is dropped."""
        for reply in self._by_response.values():
            if reply.phase is Phase.RUNNING:
                reply.phase = Phase.CUT

    def is_new_stranger(self, response_id: str) -> bool:
        """Whether this response id, never announced, is met for the first time."""
        if response_id in self._strangers:
            return False
        self._strangers.append(response_id)
        return True


def outcome(response: Json) -> tuple[ReplyStatus, str]:
    """Status and reason of response.done; a status we do not know counts as failed."""
    status = optional_text(response, "status") or "without status"
    details = optional_table(response, "status_details")
    reason = optional_text(optional_table(details, "error"), "code") or optional_text(details, "reason") or ""
    try:
        return ReplyStatus(status), reason[:MOST_NAME]
    except ValueError:
        return ReplyStatus.FAILED, status[:MOST_NAME]


def is_the_servers_fault(response: Json) -> bool:
    """Of a response that failed: the next one may do better."""
    error = optional_table(optional_table(response, "status_details"), "error")
    return "server_error" in (error.get("type"), error.get("code"))


class Floor(Enum):
    """Who may speak in the default conversation: one response at a time."""

    FREE = "free"
    ASKED = "asked"
    """We sent a response.create, not answered yet."""
    TAKEN = "taken"
    """A response runs, ours or one the API began by itself."""


class Happening(Enum):
    """What moves the floor."""

    ASK = "ask"
    CREATED = "response.created"
    DONE = "response.done"
    BUSY = "conversation_already_has_active_response"
    REFUSED = "error"


_NEXT: Final = {
    (Floor.FREE, Happening.ASK): Floor.ASKED,
    (Floor.FREE, Happening.CREATED): Floor.TAKEN,
    (Floor.ASKED, Happening.CREATED): Floor.TAKEN,
    (Floor.TAKEN, Happening.CREATED): Floor.TAKEN,
    # Somebody else's response runs although we have not seen its beginning: wait for its end.
    (Floor.ASKED, Happening.BUSY): Floor.TAKEN,
    (Floor.ASKED, Happening.REFUSED): Floor.FREE,
    (Floor.TAKEN, Happening.DONE): Floor.FREE,
}
"""What is not here leaves the floor as it is (the end of a response nobody waits for, a late refusal)."""


@dataclass(slots=True)
class Ask:
    """One response.create to be."""

    response: Json | None
    """Overrides for this response; None asks for a plain answer to what stands in the conversation."""
    retried: bool = False
    unwanted: bool = False
    """Interrupted before it began."""


class ResponseQueue:
    """The one queue of our response.create: sent only when nothing runs, retried once if refused as busy."""

    def __init__(self) -> None:
        self._floor = Floor.FREE
        self._holder: str | None = None
        self._waiting: deque[Ask] = deque()
        self._sent: tuple[str, Ask] | None = None
        self._ended: Ask | None = None

    @property
    def idle(self) -> bool:
        """No response runs or is about to."""
        return self._floor is Floor.FREE

    @property
    def taken(self) -> bool:
        """A response runs."""
        return self._floor is Floor.TAKEN

    @property
    def holder(self) -> str | None:
        """The id of the response that runs, if its beginning was seen."""
        return self._holder

    def ask(self, response: Json | None) -> None:
        """Queue one. A plain one that still waits answers for later ones too: there is one conversation."""
        if response is None and any(ask.response is None for ask in self._waiting):
            return
        self._waiting.append(Ask(response))

    def inherit(self, before: ResponseQueue) -> None:
        """What was asked of a session that took nothing yet."""
        self._waiting.extend(before._waiting)

    def may_send(self) -> bool:
        return self._floor is Floor.FREE and bool(self._waiting)

    def send(self, event_id: str) -> Json | None:
        """Take the next one; it goes out under `event_id`."""
        ask = self._waiting.popleft()
        self._sent = (event_id, ask)
        self._move(Happening.ASK)
        return ask.response

    def abandon(self) -> None:
        """The response that was asked for is not wanted any more. The API would ignore a cancel that comes
        before response.created, so it is remembered."""
        if self._floor is Floor.ASKED and self._sent is not None:
            self._sent[1].unwanted = True

    def created(self, response_id: str) -> bool:
        """True if it is one that was abandoned and should be cancelled now."""
        unwanted = self._floor is Floor.ASKED and self._sent is not None and self._sent[1].unwanted
        self._holder = response_id
        self._move(Happening.CREATED)
        return unwanted

    def done(self, response_id: str) -> None:
        if self._floor is Floor.TAKEN and self._holder in (None, response_id):
            self._holder = None
            # Had ours been refused because of this one, the error would have come before its end.
            self._ended = self._sent[1] if self._sent is not None else Ask(None)
            self._sent = None
            self._move(Happening.DONE)

    def retry(self) -> bool:
        """Ask once more for the response that just ended; False if it was a second try already."""
        ended, self._ended = self._ended, None
        if ended is None or ended.retried or ended.unwanted:
            return False
        self._waiting.appendleft(Ask(ended.response, retried=True))
        return True

    def refused(self, event_id: str | None, code: str) -> bool:
        """An error of the API; True if it is settled here by a retry.

        One that names no event of ours may be meant for what we asked: taking it so costs at most one
        "busy", not taking it so would block the queue until the caller speaks.
        """
        busy = code == Happening.BUSY.value
        if self._sent is None or event_id not in (None, self._sent[0]):
            return False
        _, ask = self._sent
        self._sent = None
        if busy and ask.unwanted:
            self._move(Happening.BUSY)
            return True
        if busy and not ask.retried:
            self._waiting.appendleft(Ask(ask.response, retried=True))
            self._move(Happening.BUSY)
            return True
        # A second "busy" still tells that somebody speaks; the floor is theirs.
        self._move(Happening.BUSY if busy else Happening.REFUSED)
        return False

    def _move(self, happening: Happening) -> None:
        self._floor = _NEXT.get((self._floor, happening), self._floor)
