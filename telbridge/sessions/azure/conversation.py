"""The conversation inside an Azure Voice Live session: replies, tool calls, interruptions.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" (2026-07-15), "How to use auto
truncation"; live tests and samples of azure-ai-voicelive 1.3.1.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentInterrupted,
    AgentTranscript,
    AgentWarning,
    ReplyAudioDone,
    ReplyDone,
    ReplyStatus,
    ToolCall,
)
from telbridge.call.playout import Heard
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.azure.items import cancel, denial, tool_output, truncation
from telbridge.sessions.azure.vocabulary import MOST_NAME, short
from telbridge.sessions.azure.words import Words
from telbridge.sessions.openai.calls import Due, ToolCalls
from telbridge.sessions.openai.replies import Phase, Replies, Reply, ResponseQueue, decode, positions
from telbridge.sessions.wire import Malformed, count, optional_table, optional_text, table, text

Handler = Callable[[Json, int], list[AgentEvent]]

_KEPT_PROPOSALS: Final = 256


class Outbox:
    """Messages on their way to the API: kept until the session is ready, numbered as they go."""

    def __init__(self, first: Sequence[Json] = ()) -> None:
        """`first`: what goes before anything that is asked."""
        self.is_open = False
        self._first = first
        self._held: list[Json] = []
        self._out: list[str | bytes] = []
        self._sent = 0

    def send(self, message: Json) -> None:
        """At once, or when the session is ready."""
        if self.is_open:
            self.write({"event_id": self.next_event_id(), **message})
        else:
            self._held.append(message)

    def open(self) -> None:
        """The session is ready."""
        self.is_open = True
        held, self._held = [*self._first, *self._held], []
        for message in held:
            self.send(message)

    def inherit(self, before: Outbox) -> None:
        """What was kept for a session that never was ready."""
        self._held += before._held

    def write(self, message: Json) -> None:
        """At once, as it is."""
        self._out.append(json.dumps(message, separators=(",", ":")))

    def next_event_id(self) -> str:
        self._sent += 1
        return f"tb_{self._sent}"

    def take(self) -> list[str | bytes]:
        out, self._out = self._out, []
        return out


class Conversation:
    """What is said in one session, and who may speak next."""

    def __init__(self, outbox: Outbox, downlink: AudioFormat, *, after: int) -> None:
        """`after`: replies that were numbered before."""
        self.spoken = False
        """Whether the agent has made audio."""
        self._outbox = outbox
        self._format = downlink
        self._replies = Replies(after=after)
        self._responses = ResponseQueue()
        self._calls = ToolCalls()
        self._proposed: deque[tuple[str, ToolCall]] = deque(maxlen=_KEPT_PROPOSALS)
        self._words = Words()
        self.handlers: Final[Mapping[str, Handler]] = {
            "conversation.item.created": self._on_item_created,
            "response.created": self._on_response_created,
            "response.audio.delta": self._on_audio,
            "response.audio_transcript.delta": self._on_words,
            "response.audio_transcript.done": self._on_words,
            "response.text.delta": self._on_words,
            "response.text.done": self._on_words,
            "response.function_call_arguments.done": self._on_arguments,
            "response.output_item.done": self._on_output_item,
            "response.mcp_call.completed": self._on_mcp_call,
            "response.mcp_call.failed": self._on_mcp_call,
            "mcp_list_tools.failed": self._on_no_mcp_tools,
            "response.done": self._on_response_done,
        }

    @property
    def replies(self) -> int:
        """The number of the last one announced."""
        return self._replies.count

    def inherit(self, before: Conversation) -> None:
        """What was asked of a session that never was ready."""
        self._outbox.inherit(before._outbox)
        self._responses.inherit(before._responses)

    # ------------------------------------------------------------ to the API

    def ask(self, create: Json | None) -> None:
        """One response.create; `create` holds what goes into it beside its type."""
        self._responses.ask(create)
        self.send_next()

    def send_next(self) -> None:
        """The next response.create, if the session is ready and nothing runs."""
        if self._outbox.is_open and self._responses.may_send():
            event_id = self._outbox.next_event_id()
            create = self._responses.send(event_id)
            self._outbox.write({"type": "response.create", "event_id": event_id, **(create or {})})

    def refused(self, event_id: str | None, code: str) -> bool:
        """An error that may be the answer to a response.create; True if it is settled by a retry."""
        retried = self._responses.refused(event_id, code)
        self.send_next()
        return retried

    def cut(self) -> None:
        """The caller interrupts: whatever still comes of the running reply is dropped."""
        self._replies.cut_running()

    def interrupt(self) -> None:
        """The same at our own will: the API is told, once."""
        holder = self._responses.holder
        reply = None if holder is None else self._replies.of(holder)
        under_way = reply is not None and reply.phase is not Phase.RUNNING
        self._replies.cut_running()
        if not self._responses.taken:
            self._responses.abandon()
        elif not under_way:
            self._outbox.send(cancel(holder))

    def tool_result(self, tool_call_id: str, output: str) -> None:
        self._settle(self._calls.result(tool_call_id, output))

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Truncate each item that was not heard in full."""
        for one in heard:
            reply = self._replies.numbered(one.reply)
            items = () if reply is None else reply.items.values()
            for item, position_ms in positions(items, one, self._format):
                if item.truncated_at_ms is None or position_ms < item.truncated_at_ms:
                    item.truncated_at_ms = position_ms
                    self._outbox.send(truncation(item, position_ms))

    def _settle(self, due: Due) -> None:
        for call_id, output in due.outputs:
            self._outbox.send(tool_output(call_id, output))
        if due.answer:
            self.ask(None)

    # ------------------------------------------------------------ from the API

    def _on_item_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """A tool of an MCP server may wait for approval, and the agent would wait with it for ever."""
        item = optional_table(fields, "item")
        if item.get("type") != "mcp_approval_request":
            return []
        self._outbox.send(denial(text(item, "id")))
        self.ask(None)
        tool = short(optional_text(item, "name"))
        return [AgentWarning("mcp_approval_denied", f"{tool} wants approval: set require_approval = 'never'")]

    def _on_response_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response_id = text(table(fields, "response"), "id")
        self._replies.announce(response_id)
        if self._responses.created(response_id):
            self._replies.cut_running()
            self._outbox.send(cancel(response_id))
        return []

    def _on_audio(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        reply = self._announced(fields)
        if reply is None or reply.phase is not Phase.RUNNING:
            return []
        delta = text(fields, "delta")
        item = reply.item(text(fields, "item_id"), count(fields, "content_index"))
        try:
            audio = decode(item, delta, self._format.sample_bytes)
        except ValueError:
            raise Malformed("`delta` is not base64") from None
        self.spoken = True
        return [AgentAudio(reply.id, audio, now_ns)] if audio else []

    def _on_words(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """A piece (`delta`), or a part as a whole (`transcript` or `text`); it may run ahead of the audio."""
        reply = self._announced(fields)
        if reply is None:
            return []
        part = text(fields, "item_id"), count(fields, "content_index")
        if text(fields, "type").endswith(".delta"):
            said = self._words.add(reply.id, part, text(fields, "delta"))
        else:
            whole = optional_text(fields, "transcript")
            said = self._words.settle(reply.id, part, text(fields, "text") if whole is None else whole)
        return [AgentTranscript(reply.id, said)] if said else []

    def _on_arguments(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Also sent for a call that was interrupted: it counts once its item or its response completed."""
        call = ToolCall(text(fields, "call_id"), text(fields, "name"), text(fields, "arguments"))
        self._proposed.append((text(fields, "response_id"), call))
        return []

    def _on_output_item(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        item = table(fields, "item")
        if item.get("type") != "function_call":
            return []
        if item.get("status") != "completed":
            kept = [one for one in self._proposed if one[1].tool_call_id != item.get("call_id")]
            self._proposed = deque(kept, maxlen=_KEPT_PROPOSALS)
            return []
        call = ToolCall(text(item, "call_id"), text(item, "name"), text(item, "arguments"))
        return self._announce_calls(text(fields, "response_id"), [call])

    def _announce_calls(self, response_id: str, calls: Sequence[ToolCall]) -> list[AgentEvent]:
        reply = self._replies.of(response_id)
        if reply is None:
            return []  # response.done will complain.
        runs = reply.phase is not Phase.OVER
        return [call for call in calls if self._calls.announce(call.tool_call_id, response_id, runs=runs)]

    def _on_mcp_call(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """The API has called the tool by itself, and waits to be asked before it speaks about the result."""
        self.ask(None)
        failed = text(fields, "type").endswith(".failed")
        return [AgentWarning("mcp_call_failed", "a tool of an MCP server failed")] if failed else []

    def _on_no_mcp_tools(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [AgentWarning("mcp_list_tools_failed", "the tools of an MCP server are not there")]

    def _on_response_done(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response = table(fields, "response")
        response_id = text(response, "id")
        status, detail = _outcome(response)
        proposed = [call for owner, call in self._proposed if owner == response_id]
        completed = status is ReplyStatus.COMPLETED
        calls = self._announce_calls(response_id, proposed) if completed else []
        self._responses.done(response_id)
        cancelled = status is ReplyStatus.CANCELLED
        self._settle(self._calls.response_done(response_id, cancelled=cancelled))
        self.send_next()
        reply = self._announced({"response_id": response_id})
        if reply is None or reply.phase is Phase.OVER:
            return calls
        ended: list[AgentEvent] = []
        if reply.phase is Phase.RUNNING and (detail == "turn_detected" or (cancelled and reply.items)):
            ended = [AgentInterrupted(now_ns)]  # Without a speech_started that said so.
        elif reply.phase is Phase.RUNNING and reply.items:
            ended = [ReplyAudioDone(reply.id)]
        reply.phase = Phase.OVER
        return [*ended, *calls, ReplyDone(reply.id, status, detail)]

    def _announced(self, fields: Json) -> Reply | None:
        """The reply of an event; None, after the first complaint, for a response never announced."""
        response_id = text(fields, "response_id")
        reply = self._replies.of(response_id)
        if reply is None and self._replies.is_new_stranger(response_id):
            raise Malformed("of a response that was never announced")
        return reply


def _outcome(response: Json) -> tuple[ReplyStatus, str]:
    """Status and reason of response.done; a status we do not know counts as failed."""
    status = optional_text(response, "status") or "without status"
    details = optional_table(response, "status_details")
    reason = optional_text(optional_table(details, "error"), "code") or optional_text(details, "reason") or ""
    try:
        return ReplyStatus(status), reason[:MOST_NAME]
    except ValueError:
        return ReplyStatus.FAILED, status[:MOST_NAME]
