"""Tool calls of an AssemblyAI session: who is to be answered, when, and in what shape. Pure.

Pages: voice-agent-api/tools/client-side-tools and tools/http-tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.wire import optional_text

KEPT_CALLS: Final = 256
"""Calls remembered; an API that asks for more at a time is broken."""

_BUILT_IN: Final = "aai_"
"""Prefix of the tools that the vendor runs itself."""


@dataclass(slots=True)
class _Call:
    reply: str | None
    """The API's id of the reply it came in."""
    hold: bool
    result: Json | None = None
    """Ready, and waiting for the reply's end."""


@dataclass(slots=True)
class ToolCalls:
    """Those not answered yet, and what is known of the tools."""

    at_once: bool
    """Results are sent as soon as they are there."""
    open: dict[str, _Call] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)
    hold: frozenset[str] = frozenset()
    """Names of tools during which the agent is silent."""
    foreign: frozenset[str] = frozenset()
    """Names of tools that the vendor runs; their calls are told for information only."""

    def learn(self, tools: object) -> None:
        """`config.tools` of the server, or what we sent."""
        known = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list | tuple) else []
        self.hold = frozenset(_named(tool) for tool in known if tool.get("execution_mode") == "hold")
        self.foreign = frozenset(_named(tool) for tool in known if tool.get("http") is not None)

    def begin(self, call_id: str, name: str, reply: str | None) -> bool:
        """tool.call; False if it is not ours to answer, or was told before."""
        if name in self.foreign or name.startswith(_BUILT_IN) or call_id in self.seen:
            return False
        self.seen[call_id] = None
        self.open[call_id] = _Call(reply, name in self.hold)
        for kept in (self.seen, self.open):
            if len(kept) > KEPT_CALLS:
                del kept[next(iter(kept))]
        return True

    def answer(self, call_id: str, output: str, *, failed: bool, speaking: bool) -> Json | None:
        """The message to send now; None if it must wait, or nobody waits for it."""
        call = self.open.get(call_id)
        if call is None or call.result is not None:
            return None
        call.result = result_message(call_id, output, failed=failed)
        if speaking and not call.hold and not self.at_once:
            return None
        del self.open[call_id]
        return call.result

    def reply_completed(self) -> list[Json]:
        """The results that waited for it."""
        ready = {call_id: call.result for call_id, call in self.open.items() if call.result is not None}
        for call_id in ready:
            del self.open[call_id]
        return list(ready.values())

    def reply_interrupted(self, reply: str) -> list[str]:
        """Calls whose result nobody wants any more: the reply's own, and whatever waited for its end."""
        gone = [
            call_id for call_id, call in self.open.items() if call.reply == reply or call.result is not None
        ]
        for call_id in gone:
            del self.open[call_id]
        return gone

    def forget(self) -> list[str]:
        """A new session knows of no call: those left unanswered."""
        gone = list(self.open)
        self.open.clear()
        self.seen.clear()
        return gone


def result_message(call_id: str, output: str, *, failed: bool) -> Json:
    """`tool.result`, whose `result` is a string that holds JSON."""
    return {
        "type": "tool.result",
        "call_id": call_id,
        "result": _as_json(output, failed=failed),
        "is_error": failed,
    }


def _as_json(output: str, *, failed: bool) -> str:
    try:
        value: object = json.loads(output, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return json.dumps({"error": output} if failed else output)
    if failed and not isinstance(value, dict):
        return json.dumps({"error": value})
    return output


def _no_json(constant: str) -> object:
    """Python takes NaN and Infinity for JSON; nobody else does."""
    raise ValueError(constant)


def _named(tool: dict[str, object]) -> str:
    return optional_text(tool, "name") or ""
