"""What Deepgram's Voice Agent sends: the server messages, and the figures of a turn's latency.

Sources: `deepgram.agent.v1.types` of the vendor's SDK 7.17.0; `EndOfTurn` is in no schema and comes with Flux
(the vendor's Rust SDK has it, and calls of others show it); developers.deepgram.com/changelog/2026/7/9
for LatencyReport, of which each message carries one figure, as seen on real calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from telbridge.agent.events import Misdeed
from telbridge.agent.facades.deepgram.refusal import THINK_FAILED, Refusal
from telbridge.audio.formats import AudioFormat

FRAME_MS: Final = 20


@dataclass(slots=True)
class Outbox:
    """Messages for the client. Once closed it takes nothing more."""

    history: bool = True
    """Each turn is also sent as `History`."""
    messages: list[str | bytes] = field(default_factory=list)
    closed: bool = False

    def send(self, kind: str, **fields: Any) -> None:
        if not self.closed:
            self.messages.append(json.dumps({"type": kind, **fields}, separators=(",", ":")))

    def audio(self, payload: bytes) -> None:
        if not self.closed:
            self.messages.append(payload)

    def warn(self, warning: Refusal) -> None:
        self.send("Warning", **warning._asdict())

    def fail(self, refusal: Refusal) -> None:
        """The last message of this session."""
        self.send("Error", **refusal._asdict())
        self.closed = True

    def said(self, role: str, text: str, **more: Any) -> None:
        """What one side said, and its echo for the history."""
        self.send("ConversationText", role=role, content=text, conversational_behavior="default", **more)
        if self.history:
            self.send("History", role=role, content=text)

    def latency(self, **seconds: float) -> None:
        """One message for each figure."""
        for name, value in seconds.items():
            self.send("LatencyReport", **{name: round(value, 3)})


@dataclass(slots=True)
class Clock:
    """When what happened in the turn that is being answered, in ns of the shell's clock."""

    ended_ns: int | None = None
    """The caller's turn ended. None: the reply answers no turn."""
    thinking_ns: int | None = None
    text_ns: int | None = None

    def turn_ended(self, now_ns: int) -> None:
        self.ended_ns, self.thinking_ns, self.text_ns = now_ns, None, None

    def transcribed(self, now_ns: int) -> dict[str, float]:
        self.thinking_ns = now_ns
        return {"stt_latency": _seconds(self.ended_ns, now_ns)} if self.ended_ns is not None else {}

    def text(self, now_ns: int) -> dict[str, float]:
        """The first words of a reply."""
        if self.text_ns is not None:
            return {}
        self.text_ns = now_ns
        thought = self._thought_s(now_ns)
        return {} if thought is None else {"ttt_token_latency": thought, "ttt_text_latency": thought}

    def tool(self, now_ns: int) -> dict[str, float]:
        thought = self._thought_s(now_ns)
        return {} if thought is None else {"ttt_tool_latency": thought}

    def audio(self, now_ns: int) -> dict[str, float]:
        """The first sound of a reply; with it the turn is answered."""
        report = {"tts_latency": _seconds(now_ns if self.text_ns is None else self.text_ns, now_ns)}
        if self.ended_ns is not None:
            report["total_latency"] = _seconds(self.ended_ns, now_ns)
        self.ended_ns = self.thinking_ns = self.text_ns = None
        return report

    def _thought_s(self, now_ns: int) -> float | None:
        since_ns = self.ended_ns if self.thinking_ns is None else self.thinking_ns
        return None if since_ns is None else _seconds(since_ns, now_ns)


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(0, end_ns - start_ns) / 1e9


def wrong_messages(misdeed: Misdeed, output: AudioFormat) -> list[str | bytes]:
    """What a broken server of this API would send."""
    if misdeed is Misdeed.STRANGE_AUDIO:
        return [b"\x10" * output.bytes_for_ms(FRAME_MS)]
    if misdeed is Misdeed.BAD_BASE64:
        # Half a sample; of G.711, where there is none, no sample at all.
        return [b"\x10" * 3 if output.sample_bytes == 2 else b""]
    return [_WRONG[misdeed]]


_WRONG: Final = {
    Misdeed.GARBAGE: '{"type":"ConversationText","role":',
    Misdeed.NOT_AN_OBJECT: '["not","an","object"]',
    Misdeed.UNKNOWN_EVENT: '{"type":"Horoscope","mood":"fair"}',
    Misdeed.MISSING_FIELDS: '{"type":"ConversationText"}',
    # Every `Error` ends a session; what goes wrong and ends nothing is a `Warning`.
    Misdeed.SERVER_ERROR: json.dumps({"type": "Warning", **THINK_FAILED._asdict()}),
}
