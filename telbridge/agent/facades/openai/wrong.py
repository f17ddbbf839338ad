"""What a misbehaving OpenAI Realtime says."""

from __future__ import annotations

import json
from typing import Final

from telbridge.agent.events import Misdeed


def _stray_error(code: str, message: str, kind: str) -> str:
    error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
    return json.dumps({"type": "error", "event_id": "event_script", "error": error})


def _stray_delta(delta: str) -> str:
    """Audio of a response that never was."""
    ids = {"response_id": "resp_never_created", "item_id": "item_never_created"}
    return json.dumps(
        {"type": "response.output_audio.delta", "event_id": "event_script", **ids}
        | {"output_index": 0, "content_index": 0, "delta": delta}
    )


WRONG: Final = {
    Misdeed.GARBAGE: '{"type": "response.output_audio.delta", "delta": ',
    Misdeed.NOT_AN_OBJECT: '["not", "an", "object"]',
    Misdeed.UNKNOWN_EVENT: '{"type": "session.horoscope", "event_id": "event_script", "mood": "fair"}',
    Misdeed.MISSING_FIELDS: '{"type": "response.output_audio.delta", "event_id": "event_script"}',
    Misdeed.BAD_BASE64: _stray_delta("*** no base64 ***"),
    Misdeed.STRANGE_AUDIO: _stray_delta("/////////////////////w=="),
    Misdeed.SERVER_ERROR: _stray_error("server_error", "The server had an error.", "server_error"),
}
