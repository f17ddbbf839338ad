"""What a broken Voice Live service would send, for tests of its clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from telbridge.agent.events import Misdeed


def _stray(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "event_id": "event_script", **fields})


def _stray_delta(delta: str) -> str:
    """Audio of a response that never was."""
    ids = {"response_id": "resp_never_created", "item_id": "item_never_created"}
    return _stray("response.audio.delta", **ids, output_index=0, content_index=0, delta=delta)


WRONG: Final[Mapping[Misdeed, str]] = {
    Misdeed.GARBAGE: '{"type": "response.audio.delta", "delta": ',
    Misdeed.NOT_AN_OBJECT: '["not", "an", "object"]',
    Misdeed.UNKNOWN_EVENT: _stray("session.horoscope", mood="fair"),
    Misdeed.MISSING_FIELDS: _stray("response.audio.delta"),
    Misdeed.BAD_BASE64: _stray_delta("*** no base64 ***"),
    Misdeed.STRANGE_AUDIO: _stray_delta("/////////////////////w=="),
    Misdeed.SERVER_ERROR: _stray(
        "error", error={"type": "server_error", "code": "server_error", "message": "The server had an error."}
    ),
}
