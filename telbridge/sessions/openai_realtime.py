"""OpenAI Realtime (GA shape over WebSocket) as a value machine.

Sources: developers.openai.com guides realtime, realtime-websocket, realtime-conversations (interruption
and truncation), realtime-vad; the typed events of the `openai` SDK 3.52.0; live observations published by
others, marked so. Beta spellings of server events are understood as well (`response.audio.delta`): hosted
dialects still use them.
"""

from __future__ import annotations

import binascii
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentTranscript,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyStatus,
    SessionEnd,
    SessionReady,
    ToolCall,
    Unknown,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting
from telbridge.sessions.base import ConnectRequest
from telbridge.sessions.openai_replies import Phase, Replies, Reply, ResponseQueue, decode, positions
from telbridge.sessions.openai_settings import (
    Json,
    OpenAISettings,
    first_update,
    format_object,
    session_format,
)
from telbridge.sessions.openai_vocabulary import BETA_NAMES, NEXT, QUIET, State, Step
from telbridge.sessions.wire import Malformed, count, optional_table, optional_text, parse, table, text

_APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL: Final = b'"}'

_HARMLESS: Final = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})
_ALREADY_SHORTER: Final = "already shorter"
"""Of a refused truncate, which has no code of its own: nothing is left to cut, so nothing is lost."""

KEPT_CALLS: Final = 256
"""Tool calls remembered, against a second announcement of the same one."""

_MOST_NAME: Final = 100
"""Of a name we do not know: it may become a log field, and a stranger chose its length."""

_REMEDY: Final = {
    400: "the API took the request for malformed; check url and model",
    401: "the API key was refused; check the key",
    403: "the API key may not do this; check the project's and the key's permissions",
    404: "no such address or model; check url and model",
}


class OpenAIRealtime:
    """One session with the OpenAI Realtime API. See `AgentProtocol` for the contract of each method."""

    uplink_is_text = True

    def __init__(self, settings: OpenAISettings, *, wire_format: AudioFormat, api_key: str | None) -> None:
        """`wire_format`: the leg's, for its law. `api_key`: None where the peer asks for none."""
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("the OpenAI API key holds a space, a line break or a character that no key has")
        self._settings = settings
        self._api_key = api_key
        self._format = session_format(settings, wire_format)
        self._interrupts = settings.turn_detection.interrupt_response
        self._state = State.CONNECTING
        self._refusal = ""
        self._replies = Replies()
        self._responses = ResponseQueue()
        self._updates: deque[str] = deque()
        self._tool_calls: deque[str] = deque(maxlen=KEPT_CALLS)
        self._events_sent = 0
        self._out: list[str | bytes] = []
        self._held: list[Json] = []
        self._handlers = self._make_handlers()

    @property
    def uplink_format(self) -> AudioFormat:
        return self._format

    @property
    def downlink_format(self) -> AudioFormat:
        return self._format

    def connect_request(self) -> ConnectRequest:
        """Never with `OpenAI-Beta`: the API then closes with 4000 after a good handshake."""
        url = urlsplit(self._settings.url)
        query = {"model": self._settings.model, **dict(parse_qsl(url.query))}
        headers = {}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if self._settings.safety_identifier is not None:
            headers["OpenAI-Safety-Identifier"] = self._settings.safety_identifier
        return ConnectRequest(urlunsplit(url._replace(query=urlencode(query))), headers)

    # ------------------------------------------------------------ to the API

    def audio(self, frame: bytes) -> bytes | None:
        """None until the formats are acknowledged: the API would read the frame as 24 kHz PCM."""
        if self._state is not State.READY:
            return None
        return _APPEND_HEAD + binascii.b2a_base64(frame, newline=False) + _APPEND_TAIL

    def greet(self, greeting: Greeting) -> None:
        """Verbatim: near-verbatim, and the session's instructions do not hold for that one reply.
        Otherwise the text joins the conversation as a system message and stays there."""
        if greeting.verbatim:
            self._responses.ask({"instructions": f"Say exactly: {greeting.text}", "tool_choice": "none"})
        else:
            self._add_message("system", f"The call has just been connected. {greeting.text}")
            self._responses.ask(None)
        self._send_next_response()

    def send_text(self, text: str, *, respond: bool) -> None:
        self._add_message("user", text)
        if respond:
            self._responses.ask(None)
            self._send_next_response()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Truncate each item that was not heard in full. The API's own transcript of it goes with the
        audio, so that the model knows what the caller knows."""
        for one in heard:
            reply = self._replies.numbered(one.reply)
            if reply is None:
                continue
            for item, position_ms in positions(reply.items.values(), one, self._format):
                if item.truncated_at_ms is not None and item.truncated_at_ms <= position_ms:
                    continue
                item.truncated_at_ms = position_ms
                self._send(
                    {
                        "type": "conversation.item.truncate",
                        "item_id": item.item_id,
                        "content_index": item.content_index,
                        "audio_end_ms": position_ms,
                    }
                )

    def data_to_send(self) -> list[str | bytes]:
        out, self._out = self._out, []
        return out

    def _add_message(self, role: str, words: str) -> None:
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": words}]}
        self._send({"type": "conversation.item.create", "item": item})

    def _send_next_response(self) -> None:
        if self._state is State.READY and self._responses.may_send():
            event_id = self._next_event_id()
            response = self._responses.send(event_id)
            create: Json = {"type": "response.create", "event_id": event_id}
            if response is not None:
                create["response"] = response
            self._write(create)

    def _send(self, message: Json) -> None:
        """At once, or when the session is ready."""
        if self._state is State.READY:
            self._write({"event_id": self._next_event_id(), **message})
        else:
            self._held.append(message)

    def _write(self, message: Json) -> None:
        self._out.append(json.dumps(message, separators=(",", ":")))

    def _next_event_id(self) -> str:
        self._events_sent += 1
        return f"tb_{self._events_sent}"

    # ------------------------------------------------------------ from the API

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        try:
            fields = parse(message)
            kind = text(fields, "type")
        except Malformed as fault:
            return [BadMessage(str(fault))]
        if self._state is State.REFUSED:
            return []  # The session goes on with the API's defaults; nothing of it is ours.
        handler = self._handlers.get(kind)
        if handler is None:
            return [Unknown(kind[:_MOST_NAME])]
        try:
            return handler(fields, now_ns)
        except Malformed as fault:
            return [BadMessage(f"{kind}: {fault}")]

    def _make_handlers(self) -> dict[str, Callable[[Json, int], list[AgentEvent]]]:
        handlers: dict[str, Callable[[Json, int], list[AgentEvent]]] = dict.fromkeys(QUIET, _nothing)
        handlers |= {
            "session.created": self._on_session_created,
            "session.updated": self._on_session_updated,
            "error": self._on_error,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            "conversation.item.input_audio_transcription.completed": self._on_caller_transcript,
            "conversation.item.input_audio_transcription.failed": self._on_no_caller_transcript,
            "response.created": self._on_response_created,
            "response.output_audio.delta": self._on_audio,
            "response.output_audio_transcript.done": self._on_agent_transcript,
            "response.output_item.done": self._on_output_item,
            "response.done": self._on_response_done,
        }
        handlers |= {beta: handlers[name] for beta, name in BETA_NAMES.items()}
        return handlers

    def _move(self, step: Step) -> None:
        state = NEXT.get((self._state, step))
        if state is None:
            raise Malformed(f"{step.value} while {self._state.value}")
        self._state = state

    def _on_session_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._move(Step.CREATED)
        event_id = self._next_event_id()
        self._updates.append(event_id)
        session = first_update(self._settings, self._format)
        self._write({"type": "session.update", "event_id": event_id, "session": session})
        return []

    def _on_session_updated(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        configuring = self._state is State.CONFIGURING
        if configuring and (fault := self._format_fault(fields)):
            return self._refuse("format_not_taken", fault)
        self._move(Step.UPDATED)
        if self._updates:
            self._updates.popleft()
        if not configuring:
            return []
        for message in self._held:
            self._send(message)
        self._held.clear()
        self._send_next_response()
        return [SessionReady(now_ns)]

    def _format_fault(self, fields: Json) -> str:
        """The full session comes back. Another format than asked for would be noise at full volume."""
        audio = optional_table(optional_table(fields, "session"), "audio")
        asked = format_object(self._format)["type"]
        for way in ("input", "output"):
            taken = optional_text(optional_table(optional_table(audio, way), "format"), "type")
            if taken is not None and taken != asked:
                return f"session.updated has audio.{way}.format {taken[:_MOST_NAME]}, asked was {asked}"
        return ""

    def _on_error(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = table(fields, "error")
        code = (optional_text(error, "code") or optional_text(error, "type") or "unknown")[:_MOST_NAME]
        message = optional_text(error, "message") or ""
        event_id = optional_text(error, "event_id")
        if code in _HARMLESS or _ALREADY_SHORTER in message:
            return []
        if self._is_of_an_update(event_id, code):
            param = optional_text(error, "param")
            return self._refuse(f"{code} ({param[:_MOST_NAME]})" if param else code, message)
        retried = self._responses.refused(event_id, code)
        self._send_next_response()
        if retried:
            return []
        if code == Step.EXPIRY.value and self._state is State.READY:
            self._move(Step.EXPIRY)
        return [AgentError(code, message)]

    def _is_of_an_update(self, event_id: str | None, code: str) -> bool:
        """Some refusals come without our event id (seen live): they are charged to the oldest update
        under way. An error before session.created can only mean that there will be no session."""
        if self._state is State.CONNECTING:
            return True
        if event_id is None:
            return bool(self._updates)
        return event_id in self._updates

    def _refuse(self, code: str, message: str) -> list[AgentEvent]:
        self._updates.clear()
        self._move(Step.REFUSAL)
        self._refusal = code
        return [AgentError(code, message, at_setup=True)]

    def _on_speech_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """With `interrupt_response` the server has cancelled already: no response.cancel of ours. Often
        it had finished generating, and only the playout has something left to stop."""
        if self._interrupts:
            self._replies.cut_running()
        return [CallerStartedSpeaking(now_ns, interrupts=self._interrupts)]

    def _on_speech_stopped(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [CallerStoppedSpeaking(now_ns)]

    def _on_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [CallerTranscript(text(fields, "transcript"))]

    def _on_no_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = optional_table(fields, "error")
        code = (optional_text(error, "code") or "unknown")[:_MOST_NAME]
        return [AgentError(f"transcription_failed: {code}", optional_text(error, "message") or "")]

    def _on_response_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response_id = text(table(fields, "response"), "id")
        self._replies.announce(response_id)
        self._responses.created(response_id)
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
        return [AgentAudio(reply.id, audio, now_ns)] if audio else []

    def _on_agent_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Each audio item has its own; the event carries all that the reply has said so far."""
        reply = self._announced(fields)
        if reply is None:
            return []
        reply.said.append(text(fields, "transcript"))
        return [AgentTranscript(reply.id, " ".join(reply.said))]

    def _on_output_item(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """A call that is not completed was interrupted, and its arguments may be cut JSON."""
        item = table(fields, "item")
        if item.get("type") != "function_call" or item.get("status") != "completed":
            return []
        call_id = text(item, "call_id")
        call = ToolCall(call_id, text(item, "name"), text(item, "arguments"))
        if call_id in self._tool_calls:
            return []
        self._tool_calls.append(call_id)
        return [call]

    def _on_response_done(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response = table(fields, "response")
        response_id = text(response, "id")
        self._responses.done(response_id)
        self._send_next_response()
        reply = self._announced({"response_id": response_id})
        if reply is None or reply.phase is Phase.OVER:
            return []
        audio_is_whole = reply.phase is Phase.RUNNING and bool(reply.items)
        reply.phase = Phase.OVER
        done = ReplyDone(reply.id, *_outcome(response))
        return [ReplyAudioDone(reply.id), done] if audio_is_whole else [done]

    def _announced(self, fields: Json) -> Reply | None:
        """The reply of an event; None, after the first complaint, for a response never announced."""
        response_id = text(fields, "response_id")
        reply = self._replies.of(response_id)
        if reply is None and self._replies.is_new_stranger(response_id):
            raise Malformed("of a response that was never announced")
        return reply

    # ------------------------------------------------------------ the end

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        if code is None:
            detail = reason or "connection lost"
        else:
            detail = f"close {code}: {reason}" if reason else f"close {code}"
        if self._state is State.REFUSED:
            return SessionEnd(Ending.AGENT_REFUSED, f"configuration refused: {self._refusal}")
        if code == 4000:
            return SessionEnd(Ending.AGENT_REFUSED, f"{detail}; the API wants another shape of protocol")
        if self._state in (State.CONNECTING, State.CONFIGURING):
            return SessionEnd(Ending.AGENT_UNREACHABLE, f"{detail}; while {self._state.value}")
        if code == 1000 and self._state is State.READY:
            return SessionEnd(Ending.AGENT_HUNG_UP, detail)
        # 1001 is the API's longest session, 60 minutes (seen live); 1006 and 1011 are faults.
        expired = "; session_expired" if self._state is State.EXPIRED else ""
        return SessionEnd(Ending.AGENT_LOST, detail + expired)

    def refused(self, status: int) -> SessionEnd:
        remedy = _REMEDY.get(status)
        if remedy is not None:
            return SessionEnd(Ending.AGENT_REFUSED, f"HTTP {status}: {remedy}")
        return SessionEnd(Ending.AGENT_UNREACHABLE, f"HTTP {status} instead of a WebSocket")


def _nothing(fields: Json, now_ns: int) -> list[AgentEvent]:
    return []


def _outcome(response: Json) -> tuple[ReplyStatus, str]:
    """Status and reason of response.done; a status we do not know counts as failed."""
    status = optional_text(response, "status") or "without status"
    details = optional_table(response, "status_details")
    reason = optional_text(optional_table(details, "error"), "code") or optional_text(details, "reason") or ""
    try:
        return ReplyStatus(status), reason[:_MOST_NAME]
    except ValueError:
        return ReplyStatus.FAILED, status[:_MOST_NAME]
