"""Each agent API as its server speaks it, in one vocabulary: for rules that hold for all of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import AgentEvent
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import AgentProtocol, HttpRequest, Opening
from telbridge.sessions.providers import PROVIDERS

SECOND = 1_000_000_000
SECTIONS: Mapping[str, dict[str, Any]] = {
    "openai_realtime": {},
    "deepgram": {},
    "assemblyai": {},
    "azure_voice_live": {"resource": "mine"},
    "companion": {"companionId": "c", "providerConfig": {"voiceId": "alloy"}},
}
KEY_NAMES: Mapping[str, str] = {
    "openai_realtime": "OPENAI_API_KEY",
    "deepgram": "DEEPGRAM_API_KEY",
    "assemblyai": "ASSEMBLYAI_API_KEY",
    "azure_voice_live": "AZURE_VOICELIVE_API_KEY",
    "companion": "NAPSTER_API_KEY",
}
ENVIRON = dict.fromkeys(KEY_NAMES.values(), "key-1")

Message = dict[str, Any] | bytes


def settings_of(name: str, neutral: NeutralSettings | None = None, **section: Any) -> Any:
    provider = PROVIDERS[name]
    settings = provider.settings.model_validate({**SECTIONS[name], **section})
    return provider.with_neutral(settings, neutral) if neutral is not None else settings


def opened(
    name: str,
    neutral: NeutralSettings | None = None,
    environ: Mapping[str, str] = ENVIRON,
    **section: Any,
) -> AgentProtocol:
    return PROVIDERS[name].open(settings_of(name, neutral, **section), Opening("call-1", PCMU_8K, environ))


@dataclass(frozen=True)
class Words:
    """What one API's server says, for each thing that all of them can say; `n` numbers the replies."""

    ready: list[Message]
    begins: Callable[[int], list[Message]]
    audio: Callable[[int, bytes], list[Message]]
    ends: Callable[[int], list[Message]]
    """Of a reply that was said to its end."""
    cut: Callable[[int], list[Message]]
    """The end of a reply after the caller's voice, or our own asking, stopped it."""
    caller_speaks: list[Message]
    error: list[Message] = field(default_factory=list)
    """One after which the session goes on."""
    fatal: list[Message] = field(default_factory=list)
    """One that ends a session that was ready."""
    refused: list[Message] = field(default_factory=list)
    """In place of `ready`: the configuration is not taken."""
    updated: list[Message] = field(default_factory=list)
    """The answer to new instructions; empty: the API gives none."""
    unknown: list[Message] = field(default_factory=list)


def _text(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def _realtime(delta: str, fatal: str) -> Words:
    def done(n: int, status: str) -> list[Message]:
        return [{"type": "response.done", "response": {"id": f"r{n}", "status": status}}]

    return Words(
        ready=[{"type": "session.created", "session": {}}, {"type": "session.updated", "session": {}}],
        begins=lambda n: [{"type": "response.created", "response": {"id": f"r{n}"}}],
        audio=lambda n, octets: [
            {
                "type": delta,
                "response_id": f"r{n}",
                "item_id": f"i{n}",
                "output_index": 0,
                "content_index": 0,
                "delta": _text(octets),
            }
        ],
        ends=lambda n: done(n, "completed"),
        cut=lambda n: done(n, "cancelled"),
        caller_speaks=[{"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "u"}],
        error=[{"type": "error", "error": {"type": "server_error", "code": "odd", "message": "m"}}],
        fatal=[{"type": "error", "error": {"type": "e", "code": fatal, "message": "m"}}],
        refused=[
            {"type": "session.created", "session": {}},
            {"type": "error", "error": {"type": "e", "code": "invalid_value", "message": "m"}},
        ],
        updated=[{"type": "session.updated", "session": {}}],
        unknown=[{"type": "hologram.shown"}],
    )


def _event(kind: str, **data: Any) -> Message:
    return {"event": kind, "data": data}


def _said(role: str, action: str, n: int, **fields: Any) -> Message:
    message = {"type": "message", "role": role, "action": action, "response_id": f"r{n}", **fields}
    return _event("message_received", message=message)


WORDS: Mapping[str, Words] = {
    "openai_realtime": _realtime("response.output_audio.delta", "insufficient_quota"),
    "azure_voice_live": _realtime("response.audio.delta", "session_expired"),
    "deepgram": Words(
        ready=[{"type": "Welcome", "request_id": "q"}, {"type": "SettingsApplied"}],
        begins=lambda n: [{"type": "AgentThinking", "content": ""}],
        audio=lambda n, octets: [octets],
        ends=lambda n: [{"type": "AgentAudioDone"}],
        cut=lambda n: [{"type": "AgentAudioDone"}],
        caller_speaks=[{"type": "UserStartedSpeaking"}],
        error=[{"type": "Error", "code": "ODD", "description": "m"}],
        fatal=[{"type": "Error", "code": "FAILED_TO_THINK", "description": "m"}],
        refused=[
            {"type": "Welcome", "request_id": "q"},
            {"type": "Error", "code": "INVALID_SETTINGS", "description": "m"},
        ],
        updated=[{"type": "ThinkUpdated"}],
        unknown=[{"type": "HologramShown"}],
    ),
    "assemblyai": Words(
        ready=[{"type": "session.ready", "session_id": "s", "config": {}}],
        begins=lambda n: [{"type": "reply.started", "reply_id": f"r{n}"}],
        audio=lambda n, octets: [{"type": "reply.audio", "reply_id": f"r{n}", "data": _text(octets)}],
        ends=lambda n: [{"type": "reply.done", "reply_id": f"r{n}", "status": "completed"}],
        cut=lambda n: [{"type": "reply.done", "reply_id": f"r{n}", "status": "interrupted"}],
        caller_speaks=[{"type": "input.speech.started"}],
        error=[{"type": "session.error", "code": "odd", "message": "m"}],
        fatal=[{"type": "session.error", "code": "unauthorized", "message": "m"}],
        refused=[{"type": "session.error", "code": "invalid_value", "message": "m"}],
        updated=[{"type": "session.updated", "config": {}}],
        unknown=[{"type": "hologram.shown"}],
    ),
    "companion": Words(
        ready=[_event("avatar_state_changed", state="ready")],
        begins=lambda n: [
            _event("talk_state_changed", state="preparing"),
            _said("assistant", "created", n),
            _event("talk_state_changed", state="started"),
        ],
        audio=lambda n, octets: [_event("audio_received", data=_text(octets))],
        ends=lambda n: [
            _said("assistant", "completed", n, content="words"),
            _event("talk_state_changed", state="ended"),
        ],
        cut=lambda n: [_said("assistant", "cancelled", n)],
        caller_speaks=[_event("speech_started")],
        error=[_event("error", code="odd", message="m")],
        fatal=[_event("no_credits_left")],
        refused=[_event("provider_connection_aborted", error={"code": "invalid_voice", "message": "m"})],
        unknown=[_event("hologram_shown")],
    ),
}


class Line:
    """A protocol and the server at its other end."""

    def __init__(
        self, name: str, *, ready: bool = True, protocol: AgentProtocol | None = None, **options: Any
    ) -> None:
        self.name = name
        self.words = WORDS[name]
        self.protocol = protocol or opened(name, **options)
        self.now_ns = 10 * SECOND
        self.events: list[AgentEvent] = []
        if ready:
            self.connects()
            self.says(self.words.ready)
            self.sent()

    def connects(self) -> None:
        step = self.protocol.next_step()
        if isinstance(step, HttpRequest):  # Companion's creation.
            token = base64.b64encode(b'{"url":"wss://h/ws?token=t"}').decode()
            self.protocol.http_answered(200, {}, json.dumps({"token": token}).encode())
            self.protocol.next_step()
        self.protocol.connected(now_ns=self.now_ns)

    def set_up(self) -> str:
        """All that goes out until the session is ready, and at once then; over HTTP too."""
        step = self.protocol.next_step()
        out = [json.dumps(step.json)] if isinstance(step, HttpRequest) else []
        self.connects()
        out += map(str, self.protocol.data_to_send())
        for message in self.words.ready:
            self.says([message])
            out += map(str, self.protocol.data_to_send())
        return " ".join(out)

    def says(self, messages: list[Message]) -> list[AgentEvent]:
        """What the call is told."""
        told: list[AgentEvent] = []
        for message in messages:
            wire = message if isinstance(message, bytes) else json.dumps(message)
            told += self.protocol.receive(wire, now_ns=self.now_ns)
        self.events += told
        return told

    def waits(self, seconds: float) -> list[AgentEvent]:
        """With every deadline kept."""
        until, told = self.now_ns + round(seconds * SECOND), []
        for _ in range(1000):
            due = self.protocol.deadline_ns()
            if due is None or due > until:
                break
            self.now_ns = max(self.now_ns, due)
            told += self.protocol.time_passed(now_ns=self.now_ns)
            self.protocol.data_to_send()
        self.now_ns = until
        self.events += told
        return told

    def begins(self, n: int) -> list[AgentEvent]:
        return self.says(self.words.begins(n))

    def speaks(self, n: int, octets: bytes = bytes(160)) -> list[AgentEvent]:
        return self.says(self.words.audio(n, octets))

    def ends(self, n: int) -> list[AgentEvent]:
        return self.says(self.words.ends(n))

    def cuts(self, n: int) -> list[AgentEvent]:
        return self.says(self.words.cut(n))

    def hears_the_caller(self) -> list[AgentEvent]:
        return self.says(self.words.caller_speaks)

    def sent(self) -> list[Any]:
        return [json.loads(one) for one in self.protocol.data_to_send()]
