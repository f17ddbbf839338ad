"""OpenAI Realtime (GA), seen from the server's side: messages in, brain events out, messages out.

Sans-IO: no socket, no clock, no task. The shell (`server.py`) feeds `receive`, hands the events to the
brain, and sends what `take_messages` gives; the brain speaks through the methods below. Whatever the
real service refuses is refused here with the same code, and never ends the session.
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import a2b_base64
from typing import Any, Final, assert_never

from telbridge.agent.events import (
    AudioCleared,
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    Tool,
    ToolResult,
    TurnCommitted,
    TurnId,
)
from telbridge.agent.facade import Updates, Wants
from telbridge.agent.facades.openai import events as wire
from telbridge.agent.facades.openai import session as state
from telbridge.agent.facades.openai import shapes
from telbridge.agent.facades.openai.response import Response, ResponseFacts
from telbridge.agent.facades.openai.wrong import WRONG
from telbridge.agent.facades.realtime import AppendShape, Items, Json, Outbox, Refusal, RefusedError
from telbridge.audio.formats import AudioFormat

MIN_COMMIT_MS: Final = 100
APPEND_MAX_CHARS: Final = 15 * 1024 * 1024 // 3 * 4
CLOSE_EXPIRED: Final = (1001, "Your session hit the maximum duration of 60 minutes.")


class OpenAIFacade:
    """One session of the service."""

    def __init__(
        self,
        *,
        session_id: str,
        model: str,
        silence_ms: int = 500,
        voice: str = "marin",
        wants: Wants = Wants.SAMPLES,
        expires_at_unix_s: int | None = None,
        updates: Updates = Updates.ANSWER,
    ) -> None:
        """`session_id`: a few characters that no other session has; ids of all kinds contain it."""
        self._model = model
        self._wants = wants
        self._updates = updates
        self._key = session_id
        self._constant: Json = {
            "id": f"sess_{session_id}",
            "object": "realtime.session",
            "expires_at": expires_at_unix_s,
        }
        self._session = state.default_session(model, silence_ms=silence_ms, voice=voice)
        self._outbox = Outbox(session_id)
        self._conversation = Items()
        self._conversation_id = f"conv_{session_id}"
        self._count = 0
        self._replies: dict[ReplyId, Response] = {}
        self._current: Response | None = None
        self._spoken: dict[str, tuple[ReplyId, Response]] = {}
        self._append_shape: AppendShape | None = None
        self._buffered_octets = 0
        self._turn_item: str | None = None
        self._input: AudioFormat = state.FORMATS["audio/pcm"]
        self._outbox.send("session.created", session=self._session_json())

    # -- towards the client ---------------------------------------------------------------------------

    def take_messages(self) -> list[str | bytes]:
        """What is to be sent, once; the next call starts empty."""
        messages, self._outbox.messages = self._outbox.messages, []
        return messages

    @property
    def waiting_octets(self) -> int:
        return sum(map(len, self._outbox.messages))

    @property
    def close_with(self) -> tuple[int, str] | None:
        """The service refuses much and closes for nothing of it."""
        return None

    def deadline_ns(self) -> int | None:
        return None

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]:
        return []

    def receive(self, message: str | bytes, *, now_ns: int = 0) -> list[BrainEvent]:
        """One whole WebSocket message. Never raises for what a client sends."""
        if isinstance(message, bytes):
            message = message.decode("utf-8", "replace")
        shape = self._append_shape
        if shape is not None and (audio := shape.audio_of(message)) is not None:
            if self._wants is Wants.BASE64:
                # This brain has no turns of its own, so nobody asks how much is in the buffer but commit.
                self._buffered_octets += len(audio) // 4 * 3
                return [AudioText(audio)]
            return self._audio(audio, None)
        return self._receive_json(message)

    def configured(self, *, by_client: bool) -> Configured:
        """The session's settings as they stand."""
        audio = self._session["audio"]
        return Configured(
            input=state.format_of(audio["input"]["format"]),
            output=state.format_of(audio["output"]["format"]),
            instructions=self._session["instructions"] or "",
            turns=state.turns(audio["input"]["turn_detection"]),
            text_only=self._session["output_modalities"] == ["text"],
            tools=tuple(
                Tool(tool["name"], tool.get("description") or "")
                for tool in self._session["tools"] or []
                if tool["type"] == "function"
            ),
            by_client=by_client,
        )

    def expire(self) -> tuple[int, str]:
        """The session is over; close code and reason to send behind the error."""
        text = "Your session hit the maximum duration of 60 minutes."
        self._error(Refusal("session_expired", text), None)
        return CLOSE_EXPIRED

    # -- Line: what the brain does ----------------------------------------------------------------------

    def begin_reply(self) -> ReplyId | None:
        if self._current is not None:
            return None
        return self._open_response(wire.ResponseOptions())

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        self.audio_text(reply, b64encode(payload).decode("ascii"))

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        response = self._replies.get(reply)
        if response is None or response.facts.text_only:
            return
        if not response.octets:
            self._spoken[response.item_id] = (reply, response)
        response.audio_text(base64_text)

    def words(self, reply: ReplyId, text: str) -> None:
        response = self._replies.get(reply)
        if response is not None:
            response.words(text)

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._new_id("call")
        response = self._replies.get(reply)
        if response is not None:
            response.call_tool(name, json.dumps(arguments), self._new_id("item"), call_id)
        return call_id

    def end_reply(self, reply: ReplyId) -> None:
        response = self._replies.get(reply)
        if response is not None:
            self._finish(response, "completed")

    def is_open(self, reply: ReplyId) -> bool:
        return reply in self._replies

    def speech_started(self, start_ms: int) -> None:
        self._turn_item = self._new_id("item")
        self._outbox.send(
            "input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._turn_item
        )
        vad = self._session["audio"]["input"]["turn_detection"]
        if self._current is not None and vad is not None and vad["interrupt_response"] is not False:
            self._finish(self._current, "cancelled", "turn_detected")

    def speech_stopped(self, end_ms: int) -> TurnId:
        item_id = self._turn_item or self._new_id("item")
        self._outbox.send("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item_id)
        return self._commit(item_id)

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        item_id = self._new_id("item")
        self._outbox.send(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=start_ms,
            audio_end_ms=end_ms,
            item_id=item_id,
        )
        return self._commit(item_id)

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        if self._session["audio"]["input"]["transcription"] is None:
            return
        self._outbox.send(
            "conversation.item.input_audio_transcription.completed",
            item_id=turn,
            content_index=0,
            transcript=text,
            usage={"type": "duration", "seconds": duration_ms / 1000},
        )

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        return [WRONG[misdeed]]

    # -- client events ------------------------------------------------------------------------------------

    def _receive_json(self, text: str) -> list[BrainEvent]:
        try:
            message = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError):
            self._error(Refusal("invalid_json", "Could not parse the message as JSON."), None)
            return []
        if not isinstance(message, dict):
            self._error(Refusal("invalid_type", "Expected a JSON object."), None)
            return []
        event_id = message.get("event_id")
        event_id = event_id if isinstance(event_id, str) else None
        try:
            event = wire.parse(message)
            if isinstance(event, wire.Append):
                self._append_shape = AppendShape.learn(text, event.audio) or self._append_shape
            return self._handle(event, message)
        except RefusedError as refused:
            # The service does not say which update this belongs to (seen live).
            unattributed = refused.refusal.code == "cannot_update_voice"
            self._error(refused.refusal, None if unattributed else event_id)
            return []

    def _handle(self, event: wire.ClientEvent, message: Json) -> list[BrainEvent]:
        match event:
            case wire.Append():
                return self._audio(event.audio, event.event_id)
            case wire.SessionUpdate():
                return self._update(event, message["session"])
            case wire.ItemCreate():
                return self._create_item(event, message["item"])
            case wire.ItemRetrieve():
                item = self._conversation.known(event.item_id, "retrieve")
                self._outbox.send("conversation.item.retrieved", item=item)
                return []
            case wire.ItemDelete():
                self._conversation.known(event.item_id, "delete")
                del self._conversation.items[event.item_id]
                self._outbox.send("conversation.item.deleted", item_id=event.item_id)
                return []
            case wire.ItemTruncate():
                return self._truncate(event)
            case wire.Commit():
                return self._commit_by_client()
            case wire.Clear():
                self._buffered_octets = 0
                self._outbox.send("input_audio_buffer.cleared")
                return [AudioCleared()]
            case wire.ResponseCreate():
                return self._create_response(event.response or wire.ResponseOptions())
            case wire.ResponseCancel():
                return self._cancel(event.response_id)
            case _:
                assert_never(event)

    def _audio(self, text: str, event_id: str | None) -> list[BrainEvent]:
        if len(text) > APPEND_MAX_CHARS:
            self._error(Refusal("invalid_value", "Audio exceeds 15 MiB.", "audio"), event_id)
            return []
        if self._wants is Wants.BASE64 and text.isprintable() and '"' not in text and "\\" not in text:
            self._buffered_octets += len(text) // 4 * 3
            return [AudioText(text)]
        try:
            payload = a2b_base64(text, strict_mode=True)
        except ValueError:
            message = "Invalid 'audio'. Expected base64-encoded audio bytes, but got an invalid value."
            self._error(Refusal("invalid_value", message, "audio"), event_id)
            return []
        self._buffered_octets += len(payload)
        return [AudioIn(payload)]

    def _update(self, event: wire.SessionUpdate, patch: Json) -> list[BrainEvent]:
        if self._updates is Updates.IGNORE:
            return []
        if self._updates is Updates.REFUSE:
            raise RefusedError(Refusal("invalid_value", "This script refuses every update.", "session"))
        self._check_update(event.session)
        candidate = state.complete(state.merged(self._session, patch))
        self._session = candidate
        self._input = state.format_of(candidate["audio"]["input"]["format"])
        self._outbox.send("session.updated", session=self._session_json())
        return [self.configured(by_client=True)]

    def _check_update(self, session: shapes.Session) -> None:
        """Refusals that need to know what the session is at."""
        state.check_for_model(session, self._model)
        if session.model is not None and session.model != self._model:
            text = "The model cannot be changed in a session."
            raise RefusedError(Refusal("invalid_value", text, "session.model"))
        output = session.audio.output if session.audio else None
        if output is not None and "voice" in output.model_fields_set and self._spoken:
            text = "Cannot update a conversation's voice if assistant audio is present."
            raise RefusedError(Refusal("cannot_update_voice", text))
        if "tracing" in session.model_fields_set and self._session["tracing"] is not None:
            raise RefusedError(
                Refusal("invalid_value", "Tracing cannot be modified once set.", "session.tracing")
            )

    def _create_item(self, event: wire.ItemCreate, item: Json) -> list[BrainEvent]:
        self._conversation.check_place(event.previous_item_id)
        self._conversation.check_free(event.item.id, "item.id")
        stored = {"id": self._new_id("item"), "object": "realtime.item", "status": "completed", **item}
        previous = self._conversation.insert(stored, event.previous_item_id)
        self._outbox.send("conversation.item.added", previous_item_id=previous, item=stored)
        self._outbox.send("conversation.item.done", previous_item_id=previous, item=stored)
        created = event.item
        if isinstance(created, wire.FunctionCallOutput):
            return [ToolResult(created.call_id, created.output)]
        if isinstance(created, wire.FunctionCall):
            return []
        parts = (part.text for part in created.content if isinstance(part, wire.InputText | wire.OutputText))
        text = " ".join(parts)
        return [TextIn(text, created.role)] if text else []

    def _truncate(self, event: wire.ItemTruncate) -> list[BrainEvent]:
        self._conversation.known(event.item_id, "truncate")
        spoken = self._spoken.get(event.item_id)
        if spoken is None or event.content_index != 0:
            text = "Only model output audio messages can be truncated"
            raise RefusedError(Refusal("invalid_value", text, "item_id"))
        reply, response = spoken
        length, asked = response.audio_ms, event.audio_end_ms
        if asked > length:
            text = f"Audio content of {length}ms is already shorter than {asked}ms"
            raise RefusedError(Refusal("invalid_value", text))
        self._outbox.send(
            "conversation.item.truncated", item_id=event.item_id, content_index=0, audio_end_ms=asked
        )
        return [ReplyTruncated(reply, asked)]

    def _commit_by_client(self) -> list[BrainEvent]:
        buffered_ms = self._input.ms_in(self._buffered_octets)
        if buffered_ms < MIN_COMMIT_MS:
            text = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {buffered_ms:.2f}ms of audio."
            )
            raise RefusedError(Refusal("input_audio_buffer_commit_empty", text))
        return [TurnCommitted(self._commit(self._new_id("item")))]

    def _commit(self, item_id: str) -> TurnId:
        """The buffered audio becomes a user item."""
        self._buffered_octets = 0
        self._turn_item = None
        content = [{"type": "input_audio", "transcript": None}]
        item: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": content,
        }
        previous = self._conversation.append(item)
        self._outbox.send("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        self._outbox.send("conversation.item.added", previous_item_id=previous, item=item)
        self._outbox.send("conversation.item.done", previous_item_id=previous, item=item)
        return TurnId(item_id)

    def _create_response(self, options: wire.ResponseOptions) -> list[BrainEvent]:
        if self._current is not None and options.conversation != "none":
            text = (
                "Conversation already has an active response in progress: "
                f"{self._current.facts.id}. Wait until the response is finished before creating a new one."
            )
            raise RefusedError(Refusal("conversation_already_has_active_response", text))
        reply = self._open_response(options)
        facts = self._replies[reply].facts
        return [ReplyRequested(reply, options.instructions, facts.format, facts.text_only)]

    def _cancel(self, response_id: str | None) -> list[BrainEvent]:
        response = self._current if response_id is None else self._replies.get(ReplyId(response_id))
        if response is None:
            text = "Cancellation failed: no active response found"
            raise RefusedError(Refusal("response_cancel_not_active", text))
        self._finish(response, "cancelled", "client_cancelled")
        return [ReplyCancelled(ReplyId(response.facts.id))]

    # -- helpers ------------------------------------------------------------------------------------------

    def _open_response(self, options: wire.ResponseOptions) -> ReplyId:
        session_output = self._session["audio"]["output"]
        own = options.audio.output if options.audio else None
        format_json = own.format.model_dump() if own and own.format else session_output["format"]
        voice = own.voice if own and own.voice else session_output["voice"]
        modalities = options.output_modalities or self._session["output_modalities"]
        facts = ResponseFacts(
            id=self._new_id("resp"),
            text_only=modalities == ["text"],
            format=state.format_of(format_json),
            format_json=format_json,
            voice=voice.model_dump() if isinstance(voice, shapes.CustomVoice) else voice,
            conversation_id=None if options.conversation == "none" else self._conversation_id,
            max_output_tokens=options.max_output_tokens or self._session["max_output_tokens"],
            metadata=options.metadata,
        )
        response = Response(
            facts, self._new_id("item"), self._outbox, self._conversation.append, self._conversation.update
        )
        reply = ReplyId(facts.id)
        self._replies[reply] = response
        if facts.conversation_id is not None:
            self._current = response
        response.start()
        return reply

    def _finish(self, response: Response, status: str, reason: str | None = None) -> None:
        response.finish(status, reason)
        del self._replies[ReplyId(response.facts.id)]
        if response is self._current:
            self._current = None

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._key}{self._count:x}"

    def _session_json(self) -> Json:
        return {**self._constant, **self._session}

    def _error(self, refusal: Refusal, client_event_id: str | None) -> None:
        error = {"type": "invalid_request_error", **refusal._asdict(), "event_id": client_event_id}
        self._outbox.send("error", error=error)


def _no_number(constant: str) -> None:
    """NaN and the infinities are Python's, not JSON's."""
    raise ValueError(constant)
