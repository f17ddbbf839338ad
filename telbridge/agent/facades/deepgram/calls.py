"""Function calls of one Deepgram session, from the request to the client's response.

Sources: developers.deepgram.com/docs/voice-agent-function-call-request and -response, and
/docs/voice-agent-speculative-replies for what becomes of a call when the caller speaks on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from telbridge.agent.facades.deepgram.outbox import Outbox
from telbridge.agent.facades.deepgram.providers import Function
from telbridge.agent.facades.deepgram.refusal import FUNCTION_FAILED
from telbridge.agent.facades.deepgram.schema import FunctionCallResponse, Json


@dataclass(frozen=True, slots=True)
class _Call:
    echo: Json
    deferred: bool


@dataclass(slots=True)
class Calls:
    """The calls that wait for a response."""

    outbox: Outbox
    _waiting: dict[str, _Call] = field(default_factory=dict)

    @property
    def are_done(self) -> bool:
        return not self._waiting

    def request(self, call_id: str, function: Function, arguments: dict[str, Any]) -> None:
        ours = function.endpoint is None
        call = {
            "id": call_id,
            "name": function.name,
            "arguments": json.dumps(arguments),
            "client_side": ours,
        }
        self.outbox.send("FunctionCallRequest", functions=[call])
        if ours:
            self._waiting[call_id] = _Call(call, function.defer_until_eot is True)
        else:
            self.outbox.warn(FUNCTION_FAILED)  # this server makes no requests of its own

    def respond(self, response: FunctionCallResponse) -> str | None:
        """The id of the call that this answers, and the echoes that the service sends of it. None, and no
        word, for a call that nobody waits for any more, or a response without an id."""
        call = self._waiting.pop(response.id or "", None)
        if call is None:
            return None
        call_id: str = call.echo["id"]
        self.outbox.send("FunctionCallResponse", id=call_id, name=call.echo["name"], content=response.content)
        if self.outbox.history:
            self.outbox.send("History", function_calls=[{**call.echo, "response": response.content}])
        return call_id

    def cancel(self) -> None:
        """The caller goes on: what they asked for a moment ago may no longer be what they want. A call that
        was deferred to the end of the turn was certain, and stays."""
        cancelled = [call.echo for call in self._waiting.values() if not call.deferred]
        if cancelled:
            for call in cancelled:
                del self._waiting[call["id"]]
            functions = [{"id": call["id"], "name": call["name"]} for call in cancelled]
            self.outbox.send("FunctionCallCancelled", functions=functions)
