"""Who speaks in a Companion session: the events of its talk, read into replies, turns and interruptions.

Source: developers.napster.com/docs, …/messaging/server-events; github.com/Napster/omniagent-api-skills,
skills/session-runtime and deploy-websocket. One fact may come in several forms, some of which were only seen
with one of the vendor's transports; each is understood, and told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from telbridge.call.events import (
    AgentEvent,
    AgentInterrupted,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Unknown,
)
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.companion.endings import fault_of
from telbridge.sessions.companion.replies import Replies
from telbridge.sessions.wire import Malformed, optional_table, optional_text, text

REPEAT_NS: Final = 2_000_000_000
"""Within this time two signs that the caller speaks are two forms of one fact."""
_MOST_NAME: Final = 100
_CANCELLED: Final = ("canceled", "cancelled")
_CALLER_SPEAKS: Final = ("speech_started", "interrupted")
_QUIET_USER_ACTIONS: Final = ("created", "delta")

Handler = Callable[[Json, int], list[AgentEvent]]
"""Of an event's `data` and the time it came."""


class Conversation:
    """Handlers raise Malformed for what can't be read, and nothing else."""

    def __init__(self, *, first_reply: int = 1) -> None:
        self.replies: Final = Replies(first=first_reply)
        self._caller_speaks = False
        self._speech_ns: int | None = None
        self.barge_in = True
        """Off: the API may stop itself, but what it had sent is heard to its end."""
        self._flushed_ns: int | None = None
        """The call was told to stop what is playing, and no reply has begun since."""

    def handlers(self) -> Mapping[str, Handler]:
        """By the name of the event."""
        return {
            "talk_state_changed": self._watched(self._on_talk_state),
            "audio_received": self._watched(self._on_audio),
            "message_received": self._watched(self._on_message),
            "speech_started": lambda data, now_ns: self._on_speech_started(now_ns),
        }

    def _watched(self, handler: Handler) -> Handler:
        """When a reply begins, the caller's turn is over, whether or not its transcript has come; and what
        interrupts from now on is another interruption."""

        def handle(data: Json, now_ns: int) -> list[AgentEvent]:
            before = self.replies.next_id
            events = handler(data, now_ns)
            if self.replies.next_id == before:
                return events
            self._flushed_ns = None
            return self._caller_stopped(now_ns) + events

        return handle

    def _on_talk_state(self, data: Json, now_ns: int) -> list[AgentEvent]:
        state = optional_text(data, "state") or optional_text(data, "talk_state")
        if state in _CANCELLED:
            return self._on_cancelled(None, "", now_ns)
        if state == "preparing":
            return self.replies.preparing(now_ns)
        if state == "started":
            return self.replies.started(now_ns)
        return self.replies.ended(now_ns) if state == "ended" else []

    def _on_audio(self, data: Json, now_ns: int) -> list[AgentEvent]:
        """Older pages of the vendor call the key `audio`."""
        encoded = optional_text(data, "data")
        if encoded is None:
            encoded = text(data, "audio")
        try:
            return self.replies.audio(encoded, now_ns)
        except ValueError:
            raise Malformed("the audio is not base64") from None

    def _on_message(self, data: Json, now_ns: int) -> list[AgentEvent]:
        """Older pages have the fields in `data` itself. The first message only marks the session."""
        message = optional_table(data, "message") or data
        role, action = optional_text(message, "role"), optional_text(message, "action") or ""
        if message.get("type") == "session" or role is None:
            return []
        if role == "user":
            return self._on_user_message(action, message, now_ns)
        if role == "assistant":
            return self._on_assistant_message(action, message, now_ns)
        return [Unknown(f"message_received of {role[:_MOST_NAME]}")]

    def _on_user_message(self, action: str, message: Json, now_ns: int) -> list[AgentEvent]:
        """A transcript may come after the answer has begun; an empty one was not understood."""
        if action in _CALLER_SPEAKS:
            return self._on_speech_started(now_ns)
        if action == "completed":
            words = optional_text(message, "content")
            heard: list[AgentEvent] = [CallerTranscript(words)] if words else []
            return self._caller_stopped(now_ns) + heard
        return [] if action in _QUIET_USER_ACTIONS else [Unknown(f"user {action[:_MOST_NAME]}")]

    def _on_assistant_message(self, action: str, message: Json, now_ns: int) -> list[AgentEvent]:
        response_id = optional_text(message, "response_id")
        ids = (response_id, optional_text(message, "item_id"))
        words = optional_text(message, "content") or ""
        if action == "created":
            return self.replies.created(response_id, now_ns)
        if action == "delta":
            return self.replies.text(ids, words, now_ns)
        if action == "completed":
            return self.replies.text_completed(ids, words, now_ns)
        if action in _CANCELLED:
            reason = optional_text(message, "reason") or ""
            return self._on_cancelled(response_id, reason[:_MOST_NAME], now_ns)
        if action == "failed":
            return self.replies.failed(response_id, fault_of(message)[0], now_ns)
        return [Unknown(f"assistant {action[:_MOST_NAME]}")]

    def _on_speech_started(self, now_ns: int) -> list[AgentEvent]:
        """Had the reply been cancelled just before, the call has stopped it already."""
        if self._speech_ns is not None and now_ns - self._speech_ns < REPEAT_NS:
            return []
        stopped = self._flushed_ns is not None and now_ns - self._flushed_ns < REPEAT_NS
        self._speech_ns = now_ns
        self._caller_speaks = True
        if not self.barge_in:
            return [CallerStartedSpeaking(now_ns, interrupts=False)]
        self._cut(now_ns)
        return [CallerStartedSpeaking(now_ns, interrupts=not stopped)]

    def _on_cancelled(self, response_id: str | None, detail: str, now_ns: int) -> list[AgentEvent]:
        """Of the reply that is being said; an older one's end is only noted."""
        events: list[AgentEvent] = []
        if self.replies.may_be_heard(response_id):
            if not self.barge_in:
                cancelled = self.replies.cancelled(response_id, detail)
                self.replies.drop_late(now_ns)
                return cancelled
            self._cut(now_ns)
            events = [AgentInterrupted(now_ns)]
        return events + self.replies.cancelled(response_id, detail)

    def _cut(self, now_ns: int) -> None:
        self._flushed_ns = now_ns
        self.replies.cut_running(now_ns)

    def _caller_stopped(self, now_ns: int) -> list[AgentEvent]:
        self._speech_ns = None
        spoke, self._caller_speaks = self._caller_speaks, False
        return [CallerStoppedSpeaking(now_ns)] if spoke else []
