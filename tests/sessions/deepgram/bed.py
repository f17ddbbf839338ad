"""A Deepgram session without a network: what the server says goes in, what we say comes out."""

from __future__ import annotations

import json
from typing import Any

from telbridge.audio.formats import PCMU_8K, AudioFormat
from telbridge.call.events import AgentEvent, Said
from telbridge.sessions.base import Opening
from telbridge.sessions.deepgram.protocol import PROVIDER, DeepgramVoiceAgent
from telbridge.sessions.deepgram.settings import DeepgramSettings

NOW_NS = 7_000_000_000
KEY = "dg-secret"
ENVIRON = {
    "DEEPGRAM_API_KEY": KEY,
    "ELEVEN": "el-secret",
    "AWS_ID": "aws-id",
    "AWS_SECRET": "aws-secret",
    "AWS_TOKEN": "aws-token",
}


def opened(
    settings: DeepgramSettings, *, wire: AudioFormat = PCMU_8K, environ: dict[str, str] = ENVIRON
) -> DeepgramVoiceAgent:
    protocol = PROVIDER.open(settings, Opening("call1", wire, environ))
    assert isinstance(protocol, DeepgramVoiceAgent)
    return protocol


class DeepgramSession:
    """The protocol under test with the server's vocabulary as methods."""

    def __init__(
        self,
        *,
        wire: AudioFormat = PCMU_8K,
        ready: bool = True,
        protocol: DeepgramVoiceAgent | None = None,
        **settings: Any,
    ) -> None:
        self.protocol = protocol or opened(DeepgramSettings.model_validate(settings), wire=wire)
        self.now_ns = NOW_NS
        self.settings_sent: dict[str, Any] = {}
        if ready:
            self.becomes_ready()
            self.sent()

    def becomes_ready(self) -> list[AgentEvent]:
        self.receives("Welcome", request_id="req-1")
        (self.settings_sent,) = self.sent()
        return self.receives("SettingsApplied")

    def receives(self, type: str, /, **fields: Any) -> list[AgentEvent]:
        """A server message; returns what the call is told."""
        return self.protocol.receive(json.dumps({"type": type, **fields}), now_ns=self.now_ns)

    def sent(self) -> list[dict[str, Any]]:
        """What we said since the last look."""
        messages = self.protocol.data_to_send()
        assert all(isinstance(message, str) for message in messages)
        return [json.loads(message) for message in messages]

    def speaks(self, audio: bytes) -> list[AgentEvent]:
        return self.protocol.receive(audio, now_ns=self.now_ns)

    def says(self, words: str) -> list[AgentEvent]:
        return self.receives("ConversationText", role="assistant", content=words)

    def hears(self, words: str) -> list[AgentEvent]:
        return self.receives("ConversationText", role="user", content=words)

    def caller_starts(self) -> list[AgentEvent]:
        return self.receives("UserStartedSpeaking")

    def fails(self, code: str) -> list[AgentEvent]:
        return self.receives("Error", code=code, description="words of the API")

    def calls(self, call_id: str, name: str = "balance", **fields: Any) -> list[AgentEvent]:
        item = {"id": call_id, "name": name, "arguments": '{"a":1}', "client_side": True, **fields}
        return self.receives("FunctionCallRequest", functions=[item])

    def later(self, ms: int) -> list[AgentEvent]:
        self.now_ns += ms * 1_000_000
        return self.protocol.time_passed(now_ns=self.now_ns)

    def next_session(self, *said: Said, ready: bool = True) -> DeepgramSession:
        """The one that follows when this one broke."""
        successor = self.protocol.successor(said)
        assert successor is not None
        return DeepgramSession(protocol=successor, ready=ready)
