"""What a Companion session has said: replies made of audio, talk states and messages. Pure.

Audio frames carry no id, and the events that frame a reply (assistant `created`, `completed`; talk
`preparing`, `started`, `ended`) come in no promised order; any of them may be missing. So a reply begins
with the first sign of one, and it is over when both its speech and its text have ended, when one has and
then nothing comes for a while, or when the next one begins.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentTranscript,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
)

SETTLED_NS: Final = 1_000_000_000
"""Nothing for so long after one of the two ends: the other is missing."""
SILENT_NS: Final = 4_000_000_000
"""Nothing for so long after audio, or after text whose speech has not come: both ends are missing."""
GAP_NS: Final = 300_000_000
"""With an API that announces no replies: audio after such a pause is a new one."""
_KEPT_REPLIES: Final = 16
_MOST_ID: Final = 200


class Phase(Enum):
    """Of a reply: its audio counts only while it runs."""

    RUNNING = auto()
    CUT = auto()
    OVER = auto()


class Talk(Enum):
    """How far the API says the speech of a reply is (`talk_state_changed`)."""

    UNKNOWN = auto()
    PREPARING = auto()
    STARTED = auto()
    ENDED = auto()


@dataclass(slots=True)
class Reply:
    """One answer of the agent."""

    id: ReplyId
    touched_ns: int
    phase: Phase = Phase.RUNNING
    talk: Talk = Talk.UNKNOWN
    announced: bool = False
    """An assistant `created` or a text belongs to it."""
    has_audio: bool = False
    text_done: bool = False
    half_sample: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)
    """By item: a reply may have several."""

    @property
    def due_ns(self) -> int | None:
        """When it is over if nothing more comes; None while the agent may still be thinking."""
        if self.phase is Phase.OVER:
            return None
        if self.phase is Phase.CUT or self.talk is Talk.ENDED or (self.text_done and self.has_audio):
            return self.touched_ns + SETTLED_NS
        return self.touched_ns + SILENT_NS if self.text_done or self.has_audio else None

    @property
    def complete(self) -> bool:
        return self.text_done and (self.talk is Talk.ENDED or self.phase is Phase.CUT)


class Replies:
    """The replies of one session, numbered as they begin. Each method returns what the call is told."""

    def __init__(self, *, first: int = 1) -> None:
        self._next = first
        self._current: Reply | None = None
        self._by_response: dict[str, Reply] = {}
        self._announces = False
        self._cut_ns: int | None = None
        """Since then audio is dropped: it belongs to a reply that was cut."""

    @property
    def next_id(self) -> int:
        """Where a successor goes on."""
        return self._next

    @property
    def running(self) -> bool:
        return self._current is not None and self._current.phase is Phase.RUNNING

    def may_be_heard(self, response_id: str | None) -> bool:
        """Whether a cancelled reply, the latest if it has no id, is one whose words may still be playing:
        it was not cut before, and no other has begun since."""
        if self._current is None or self._cut_ns is not None:
            return False
        return self._known(response_id) in (None, self._current)

    @property
    def due_ns(self) -> int | None:
        return None if self._current is None else self._current.due_ns

    # ------------------------------------------------------------ what the API says

    def created(self, response_id: str | None, now_ns: int) -> list[AgentEvent]:
        """Assistant `created`."""
        self._announces = True
        if self._known(response_id) is not None:
            return []
        reply = self._current
        events: list[AgentEvent] = []
        if reply is None or reply.phase is not Phase.RUNNING or reply.announced:
            events, reply = self._begin(now_ns)
        self._announce(reply, response_id, now_ns)
        return events

    def preparing(self, now_ns: int) -> list[AgentEvent]:
        self._announces = True
        reply = self._current
        events: list[AgentEvent] = []
        if (
            reply is None
            or reply.phase is not Phase.RUNNING
            or reply.talk in (Talk.STARTED, Talk.ENDED)
            or _was_spoken(reply)
        ):
            events, reply = self._begin(now_ns)
        reply.talk = Talk.PREPARING
        reply.touched_ns = now_ns
        return events

    def started(self, now_ns: int) -> list[AgentEvent]:
        self._announces = True
        reply = self._current
        events: list[AgentEvent] = []
        if reply is not None and reply.phase is Phase.CUT and reply.talk is Talk.PREPARING:
            reply.talk = Talk.STARTED  # Of the reply that was cut while it was being prepared.
            return []
        if (
            reply is None
            or reply.phase is not Phase.RUNNING
            or reply.talk is Talk.ENDED
            or _was_spoken(reply)
        ):
            events, reply = self._begin(now_ns)
        reply.talk = Talk.STARTED
        reply.touched_ns = now_ns
        return events

    def ended(self, now_ns: int) -> list[AgentEvent]:
        """Talk `ended`; the last of the text may still come."""
        reply = self._current
        if reply is None or reply.phase is Phase.OVER:
            return []
        reply.talk = Talk.ENDED
        reply.touched_ns = now_ns
        return self._finish(reply) if reply.complete or reply.phase is Phase.CUT else []

    def audio(self, encoded: str, now_ns: int) -> list[AgentEvent]:
        """A frame; ValueError if it is not base64."""
        audio = binascii.a2b_base64(encoded, strict_mode=True)
        if self._cut_ns is not None and (self._announces or now_ns - self._cut_ns < GAP_NS):
            self._cut_ns = now_ns
            return []
        reply = self._current
        events: list[AgentEvent] = []
        if reply is None or reply.phase is not Phase.RUNNING:
            events, reply = self._begin(now_ns)
        audio = reply.half_sample + audio
        whole = len(audio) & ~1  # Nothing promises that a frame ends between two samples.
        reply.half_sample = audio[whole:]
        reply.touched_ns = now_ns
        if whole:
            reply.has_audio = True
            events.append(AgentAudio(reply.id, audio[:whole], now_ns))
        return events

    def text(self, ids: tuple[str | None, str | None], words: str, now_ns: int) -> list[AgentEvent]:
        """Assistant `delta`; `ids` are response and item."""
        events, reply = self._of(ids[0], now_ns)
        if not words:
            return events
        item = (ids[1] or "")[:_MOST_ID]
        reply.texts[item] = reply.texts.get(item, "") + words
        return [*events, _transcript(reply)]

    def text_completed(self, ids: tuple[str | None, str | None], whole: str, now_ns: int) -> list[AgentEvent]:
        """Assistant `completed`: the end of the text, not of the audio."""
        events, reply = self._of(ids[0], now_ns)
        item = (ids[1] or "")[:_MOST_ID]
        if whole and reply.texts.get(item) != whole:
            reply.texts[item] = whole
            events.append(_transcript(reply))
        reply.text_done = True
        return events + (self._finish(reply) if reply.complete else [])

    def failed(self, response_id: str | None, detail: str, now_ns: int) -> list[AgentEvent]:
        events, reply = self._of(response_id, now_ns)
        return events + self._finish(reply, ReplyStatus.FAILED, detail)

    def cancelled(self, response_id: str | None, detail: str) -> list[AgentEvent]:
        """Assistant or talk cancelled: nothing more comes of it. `cut_running` goes before."""
        reply = self._known(response_id) or self._current
        return [] if reply is None else self._finish(reply, ReplyStatus.CANCELLED, detail)

    # ------------------------------------------------------------ what happens besides

    def cut_running(self, now_ns: int) -> None:
        """An interruption: whatever still comes of what was said so far is dropped."""
        self._cut_ns = now_ns
        if self._current is not None and self._current.phase is Phase.RUNNING:
            self._current.phase = Phase.CUT
            self._current.touched_ns = now_ns

    def drop_late(self, now_ns: int) -> None:
        """What still comes of a reply that is over is no new one."""
        self._cut_ns = now_ns

    def time_passed(self, now_ns: int) -> list[AgentEvent]:
        """Call it at `due_ns`."""
        reply = self._current
        if reply is None or reply.due_ns is None or now_ns < reply.due_ns:
            return []
        return self._finish(reply)

    # ------------------------------------------------------------ small parts

    def _begin(self, now_ns: int) -> tuple[list[AgentEvent], Reply]:
        events = [] if self._current is None else self._finish(self._current)
        self._current = Reply(ReplyId(self._next), now_ns)
        self._next += 1
        self._cut_ns = None
        return events, self._current

    def _finish(
        self, reply: Reply, status: ReplyStatus = ReplyStatus.COMPLETED, detail: str = ""
    ) -> list[AgentEvent]:
        if reply.phase is Phase.OVER:
            return []
        cut = reply.phase is Phase.CUT
        reply.phase = Phase.OVER
        done = ReplyDone(reply.id, ReplyStatus.CANCELLED if cut else status, detail)
        return [done] if cut or not reply.has_audio else [ReplyAudioDone(reply.id), done]

    def _known(self, response_id: str | None) -> Reply | None:
        return None if response_id is None else self._by_response.get(response_id[:_MOST_ID])

    def _of(self, response_id: str | None, now_ns: int) -> tuple[list[AgentEvent], Reply]:
        """The reply of a text: by its response, else the latest; a text of a response never met before
        is a sign that one begins. The last words of a reply may come after its end."""
        reply = self._known(response_id)
        events: list[AgentEvent] = []
        if reply is None:
            reply = self._current
            if reply is None or (response_id is not None and (reply.announced or not self.running)):
                events, reply = self._begin(now_ns)
            self._announce(reply, response_id, now_ns)
        reply.touched_ns = now_ns
        return events, reply

    def _announce(self, reply: Reply, response_id: str | None, now_ns: int) -> None:
        reply.announced = True
        reply.touched_ns = now_ns
        if response_id is not None:
            self._by_response[response_id[:_MOST_ID]] = reply
            if len(self._by_response) > _KEPT_REPLIES:
                del self._by_response[next(iter(self._by_response))]


def _was_spoken(reply: Reply) -> bool:
    """Without a word of the talk states, but from text to audio."""
    return reply.talk is Talk.UNKNOWN and reply.has_audio and reply.text_done


def _transcript(reply: Reply) -> AgentTranscript:
    return AgentTranscript(reply.id, " ".join(reply.texts.values()))
