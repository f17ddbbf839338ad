"""What pjsua2 tells of a call's media lines.

A nested object of pjsua2 does not keep the one around it alive, and compiled code lets go of a variable after
its last use: what looks inside of them is never compiled (setup.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Lines(NamedTuple):
    """Of one call, now."""

    active: bool
    """There is an audio stream."""
    held: bool
    """The peer holds the call."""


def media_lines(pj: Any, call: Any) -> Lines:
    """pjsua2's Error if the call is gone."""
    info = call.getInfo()
    lines = info.media
    return Lines(
        any(line.audioConfSlot >= 0 for line in lines),
        any(line.status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD for line in lines),
    )
