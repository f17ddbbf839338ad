"""Callers whom a telbridge left behind that was killed: they would hear silence until they hang up.

Asterisk keeps the application with its channels and bridges. The stream of a dead process is gone, and so is
its media channel (but for RTP, which has no connection): a bridge of ours without one is nobody's any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from telbridge.legs.ari.control import PREFIX
from telbridge.legs.ari.messages import Answer, Ask, Purpose, destroy_bridge, on_channel


async def send_on(
    ask: Callable[[Ask], Awaitable[Answer]], app: str, is_ours: Callable[[str], bool], log: Any
) -> None:
    """Let them go on behind `Stasis()`. `is_ours`: whether a call of this id lives here. Two who talk to each
    other after a transfer are left in peace."""
    known = await ask(Ask(Purpose.ASIDE, "GET", f"applications/{quote(app, safe='')}"))
    channels = set(_texts(known, "channel_ids"))
    for bridge in _texts(known, "bridge_ids"):
        lives = is_ours(bridge.removeprefix(PREFIX)) or f"{bridge}-media" in channels
        if lives or not bridge.startswith(PREFIX):
            continue
        found = await ask(Ask(Purpose.ASIDE, "GET", f"bridges/{quote(bridge, safe='')}"))
        members = _texts(found, "channels")
        if not found.good or len(members) > 1:
            continue
        for channel in members:
            log.warning("ari_orphan", then="goes on in Asterisk's dialplan")
            await ask(on_channel(Purpose.ASIDE, channel, "continue"))
        await ask(destroy_bridge(bridge))


def _texts(answer: Answer, key: str) -> list[str]:
    value = answer.body.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
