"""A client of Deepgram's facade for tests, and the settings of a phone call."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from telbridge.agent.events import Configured, ReplyId
from telbridge.agent.facades.deepgram.facade import CLOSE, DeepgramFacade
from tests.agent.deepgram_judge import Json, judge_text

FRAME = b"\x7f" * 160
MS = 1_000_000
NOVA = {"type": "deepgram", "version": "v1", "model": "nova-3"}
FLUX = {"type": "deepgram", "version": "v2", "model": "flux-general-en"}
GPT = {"type": "open_ai", "model": "gpt-4.1-mini", "temperature": 0.7}
AURA = {"type": "deepgram", "model": "aura-2-thalia-en"}
TRANSFER = {"name": "transfer", "description": "Transfers.", "parameters": {"type": "object"}}
CLAUDE = {"type": "anthropic", "model": "claude-haiku-4-5", "temperature": 1.5}
OWN = {"url": "https://models.example/v1"}
MULAW = {"encoding": "mulaw", "sample_rate": 8000}


def phone(listen: Json | None = None, think: Json | None = None, **agent: Any) -> Json:
    """Settings of a phone call."""
    return {
        "type": "Settings",
        "audio": {"input": MULAW, "output": {**MULAW, "container": "none"}},
        "agent": {
            "listen": {"provider": listen or FLUX},
            "think": {"provider": GPT, "prompt": "Be kind.", "functions": [TRANSFER], **(think or {})},
            "speak": {"provider": AURA},
            **agent,
        },
    }


@dataclass
class Client:
    """A client of one facade; whatever the facade answers is judged before a test sees it."""

    facade: DeepgramFacade
    now_ms: int = 0

    def says(self, message: Json | str | bytes) -> list[Any]:
        """The brain events that one message makes."""
        wire = json.dumps(message) if isinstance(message, dict) else message
        return self.facade.receive(wire, now_ns=self.now_ms * MS)

    def waits(self, ms: int) -> list[Any]:
        """Time passes as the shell sees to it: whoever wants to be woken is woken in time."""
        end_ms, events = self.now_ms + ms, []
        while (deadline := self.facade.deadline_ns()) is not None and deadline <= end_ms * MS:
            self.now_ms = max(self.now_ms, -(-deadline // MS))
            events += self.facade.time_passed(now_ns=self.now_ms * MS)
        self.now_ms = end_ms
        return events

    def gets(self) -> list[Any]:
        """All messages since the last time; latency reports aside."""
        return [m for m in self.gets_all() if isinstance(m, bytes) or m["type"] != "LatencyReport"]

    def gets_all(self) -> list[Any]:
        return [m if isinstance(m, bytes) else judge_text(m) for m in self.facade.take_messages()]

    def kinds(self) -> list[str]:
        return ["audio" if isinstance(m, bytes) else m["type"] for m in self.gets()]

    def error(self) -> Json:
        """The one message that came, an error; the session is over with it."""
        (message,) = self.gets()
        assert message["type"] == "Error", message
        assert self.facade.close_with == CLOSE
        assert self.facade.deadline_ns() is None
        error: Json = message
        return error

    def warning(self) -> str:
        """Code of the one message that came, a warning; the session goes on."""
        (message,) = self.gets()
        assert message["type"] == "Warning" and self.facade.close_with is None, message
        code: str = message["code"]
        return code


def connected(**options: Any) -> Client:
    client = Client(DeepgramFacade(session_id="abcd1234", **options))
    assert client.kinds() == ["Welcome"]
    return client


def configured(message: Json | None = None, **options: Any) -> Client:
    client = connected(**options)
    events = client.says(message or phone())
    assert isinstance(events[0], Configured)
    assert client.kinds() == ["SettingsApplied"]
    return client


def speaking(client: Client, words: str = "Good day.") -> ReplyId:
    """The brain has begun to speak and goes on."""
    reply = client.facade.begin_reply()
    assert reply is not None
    client.facade.words(reply, words)
    client.facade.audio(reply, FRAME)
    client.gets_all()
    return reply


def turn(client: Client, text: str) -> None:
    """The caller says something."""
    client.facade.speech_started(0)
    ended = client.facade.speech_stopped(900)
    client.facade.heard(ended, text, 900)


def changed(path: str, value: Any) -> Json:
    """Phone settings with one thing changed; `...` takes it away."""
    message = deepcopy(phone())
    *way, last = path.split(".")
    place = message
    for key in way:
        place = place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return message
