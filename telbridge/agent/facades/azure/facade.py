"""Azure Voice Live, seen from the server's side: messages in, brain events out, messages out.

The dialect is the beta of OpenAI Realtime (flat session, `response.audio.delta`) with Azure's extensions.
Sources: learn.microsoft.com, speech-service/voice-live-api-reference-2026-07-15 and the how-to pages beside
it; the models of azure-ai-voicelive 1.3.1; the vendor's live tests in github Azure/azure-sdk-for-python. The
service publishes no list of its error codes: those are OpenAI's where nobody has reported another.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any, Final, assert_never

from telbridge.agent.events import (
    AudioCleared,
    BrainEvent,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    ReplyTruncated,
    ToolResult,
    TurnCommitted,
    TurnId,
)
from telbridge.agent.facade import FacadeOptions, Updates
from telbridge.agent.facades.azure import asked as asked
from telbridge.agent.facades.azure import events as wire
from telbridge.agent.facades.azure import session as state
from telbridge.agent.facades.azure.audio import CallerAudio
from telbridge.agent.facades.azure.conversation import Conversation
from telbridge.agent.facades.azure.events import invalid
from telbridge.agent.facades.azure.response import Response, Speech
from telbridge.agent.facades.azure.wrong import WRONG
from telbridge.agent.facades.realtime import AppendShape, Json, Outbox, Refusal, RefusedError

CLOSE_EXPIRED: Final = (1001, "Your session hit the maximum duration of 60 minutes.")
CLOSE_FAULTY: Final = (1008, "invalid_request_error")
"""Of a connection without model and agent. Its code is not documented."""
NOT_PERFORMED: Final = ("animation", "avatar", "interim_response")
"""Options that are checked and shown as the service shows them, and that no brain of this agent acts on."""
NO_DELTAS: Final = ("azure-speech", "mai-transcribe")
"""Transcribers that give a turn's words in one piece (azure-speech: seen live)."""


class AzureFacade:
    """One session of the service."""

    def __init__(self, options: FacadeOptions, endpoint: state.Endpoint) -> None:
        self._endpoint = endpoint
        self._updates = options.updates
        self._key = options.session_id
        self._now_ns = options.now_ns
        self._constant: Json = {"id": f"sess_{options.session_id}", "object": "realtime.session"}
        if endpoint.has("2026-07-15"):
            self._constant["expires_at"] = options.expires_at_unix_s
        self._session = state.default_session(endpoint, silence_ms=options.silence_ms)
        self._outbox = Outbox(options.session_id)
        self._conversation = Conversation(
            id=f"conv_{options.session_id}", takes_audio=endpoint.family is not state.Family.CASCADED
        )
        self._count = 0
        self._started = False
        self._replies: dict[ReplyId, Response] = {}
        self._current: Response | None = None
        self._spoken: dict[str, Speech] = {}
        self._last_spoken: Speech | None = None
        self._calls: set[str] = set()
        self._typed: dict[str, str] = {}
        self._append_shape: AppendShape | None = None
        self._caller = CallerAudio(options.wants)
        self._turn_item: str | None = None
        if endpoint.fault is not None:
            self._error(endpoint.fault, None)
        else:
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
        """The service refuses much and closes for nothing of it but a connection to no model."""
        return None if self._endpoint.fault is None else CLOSE_FAULTY

    def deadline_ns(self) -> int | None:
        """No time-out but the session's longest time is documented."""
        return None

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]:
        return []

    def receive(self, message: str | bytes, *, now_ns: int) -> list[BrainEvent]:
        """One whole WebSocket message. Never raises for what a client sends."""
        self._now_ns = now_ns
        if self._endpoint.fault is not None:
            return []
        if isinstance(message, bytes):
            message = message.decode("utf-8", "replace")
        shape = self._append_shape
        if shape is not None and (audio := shape.audio_of(message)) is not None:
            try:
                return self._caller.take(audio)
            except RefusedError as refused:
                self._error(refused.refusal, None)
                return []
        return self._receive_json(message)

    def configured(self, *, by_client: bool) -> Configured | None:
        """The session's settings as they stand; None for a connection to no model."""
        if self._endpoint.fault is not None:
            return None
        session = self._session
        return Configured(
            input=state.input_format(session),
            output=state.OUTPUT_FORMATS[session["output_audio_format"]],
            instructions=session["instructions"],
            turns=state.turns(session["turn_detection"]),
            text_only=state.text_only(session["modalities"]),
            tools=state.tools(session),
            by_client=by_client,
        )

    def expire(self) -> tuple[int, str]:
        """The session is over; close code and reason to send behind the error."""
        self._error(Refusal("session_expired", CLOSE_EXPIRED[1]), None)
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
        speech = response.audio_text(base64_text)
        if speech.since_ns is None:
            speech.since_ns = self._now_ns
            self._spoken[speech.item_id] = self._last_spoken = speech

    def words(self, reply: ReplyId, text: str) -> None:
        response = self._replies.get(reply)
        if response is not None:
            response.words(text)

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._new_id("call")
        response = self._replies.get(reply)
        if response is not None:
            response.call_tool(name, json.dumps(arguments), call_id)
            self._calls.add(call_id)
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
        vad = self._session["turn_detection"]
        if vad is None or not vad["interrupt_response"]:
            return
        if self._current is not None:
            self._finish(self._current, "cancelled", "turn_detected")
        if vad.get("auto_truncate") and self._endpoint.has("2026-01-01"):
            self._truncate_unasked()

    def speech_stopped(self, end_ms: int) -> TurnId:
        item_id = self._turn_item or self._new_id("item")
        self._outbox.send("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item_id)
        return self._commit(item_id)

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        """The API has no idle time-out, so none is ever set; a silence would be a turn like any other."""
        return self._commit(self._new_id("item"))

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        hearing = self._session["input_audio_transcription"]
        if hearing is None:
            return
        event = "conversation.item.input_audio_transcription"
        place = {"item_id": turn, "content_index": 0}
        if not hearing["model"].startswith(NO_DELTAS):
            self._outbox.send(f"{event}.delta", **place, delta=text)
        self._outbox.send(f"{event}.completed", **place, transcript=text)

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        return [WRONG[misdeed]]

    # -- client events ------------------------------------------------------------------------------------

    def _receive_json(self, text: str) -> list[BrainEvent]:
        event_id: str | None = None
        try:
            message = wire.read_json(text)
            given_id = message.get("event_id")
            event_id = given_id if isinstance(given_id, str) else None
            event = wire.parse(message)
            if isinstance(event, wire.Append):
                self._append_shape = AppendShape.learn(text, event.audio) or self._append_shape
            return self._handle(event, message)
        except RefusedError as refused:
            self._error(refused.refusal, event_id)
            return []

    def _handle(self, event: wire.ClientEvent, message: Json) -> list[BrainEvent]:
        match event:
            case wire.Append():
                self._started = True
                return self._caller.take(event.audio)
            case wire.SessionUpdate():
                return self._update(event, message["session"])
            case wire.ItemCreate():
                self._conversation.check_place(event.previous_item_id)
                self._conversation.check_new(event.item, "item")
                return self._create_item(event.item, message["item"], event.previous_item_id)
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
                self._caller.clear()
                self._outbox.send("input_audio_buffer.cleared")
                return [AudioCleared()]
            case wire.ResponseCreate():
                return self._create_response(event, message.get("response") or {})
            case wire.ResponseCancel():
                return self._cancel(event.response_id)
            case wire.TextDelta() | wire.TextDone():
                return self._type(event)
            case wire.ClearOutput() | wire.AvatarConnect():
                # There is never an avatar here, and without one the service has no use for these either.
                raise invalid(f"'{event.type}' is supported in avatar mode only.", "type")
            case _:
                assert_never(event)

    # -- turns ------------------------------------------------------------------------------------------

    def _commit_by_client(self) -> list[BrainEvent]:
        if not self._caller.octets:
            text = "Error committing input audio buffer: the buffer is empty."
            raise invalid(text, code="input_audio_buffer_commit_empty")
        return [TurnCommitted(self._commit(self._new_id("item")))]

    def _commit(self, item_id: str) -> TurnId:
        """The buffered audio becomes a user item."""
        self._caller.octets = 0
        self._turn_item = None
        content = [{"type": "input_audio", "audio": "", "transcript": None}]
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
        self._outbox.send("conversation.item.created", previous_item_id=previous, item=item)
        return TurnId(item_id)

    # -- session ----------------------------------------------------------------------------------------

    def _update(self, event: wire.SessionUpdate, patch: Json) -> list[BrainEvent]:
        if self._updates is Updates.IGNORE:
            return []
        if self._updates is Updates.REFUSE:
            raise invalid("This script refuses every update.", "session")
        candidate = state.completed(state.merged(self._session, patch), self._endpoint)
        state.check_update(event.session, candidate, self._endpoint)
        state.check_fixed(
            self._session, candidate, started=self._started, spoken=self._last_spoken is not None
        )
        self._session, self._started = candidate, True
        self._caller.configure(candidate)
        self._outbox.send("session.updated", session=self._session_json())
        self._warn(patch)
        configured = self.configured(by_client=True)
        return [] if configured is None else [configured]

    def _warn(self, patch: Json) -> None:
        """Say which options of an update this agent takes without acting on them."""
        idle = [key for key in NOT_PERFORMED if patch.get(key) is not None]
        if any(tool["type"] != "function" for tool in patch.get("tools", ())):
            idle.append("tools")
        for key in idle:
            text = f"'{key}' is accepted and has no effect with this agent."
            warning = {"message": text, "code": "option_without_effect", "param": f"session.{key}"}
            self._outbox.send("warning", warning=warning)

    # -- items --------------------------------------------------------------------------------------------

    def _create_item(self, item: wire.Item, raw: Json, after: str | None) -> list[BrainEvent]:
        stored = {"id": self._new_id("item"), "status": "completed", **raw, "object": "realtime.item"}
        if isinstance(item, wire.FunctionCallOutput):
            del stored["status"]  # the server's shape of it has none
        previous = self._conversation.insert(stored, after)
        self._outbox.send("conversation.item.created", previous_item_id=previous, item=stored)
        if isinstance(item, wire.FunctionCallOutput) and item.call_id in self._calls:
            return [ToolResult(item.call_id, item.output)]
        return asked.texts(item)

    def _type(self, event: wire.TextDelta | wire.TextDone) -> list[BrainEvent]:
        """Text that the user types: a user item once it is done."""
        if not self._endpoint.has("2026-06-01"):
            raise invalid(f"Invalid value: '{event.type}'.", "type")
        if isinstance(event, wire.TextDelta):
            self._typed[event.id] = self._typed.get(event.id, "") + event.delta
            return []
        if event.id not in self._typed:
            raise invalid(f"No text with id '{event.id}' was begun.", "id")
        content = [{"type": "input_text", "text": self._typed.pop(event.id)}]
        raw: Json = {"type": "message", "id": event.id, "role": "user", "content": content}
        item = wire.check(wire.UserMessage, raw)
        self._conversation.check_new(item, "item")
        return self._create_item(item, raw, None)

    def _truncate(self, event: wire.ItemTruncate) -> list[BrainEvent]:
        self._conversation.known(event.item_id, "truncate")
        speech = self._spoken.get(event.item_id)
        if speech is None or event.content_index != 0:
            raise invalid("Only model output audio messages can be truncated", "item_id")
        length_ms, asked_ms = speech.length_ms, event.audio_end_ms
        if asked_ms > length_ms:
            raise invalid(f"Audio content of {length_ms}ms is already shorter than {asked_ms}ms")
        self._cut(speech, asked_ms)
        return [ReplyTruncated(ReplyId(speech.response_id), speech.before_ms + asked_ms)]

    def _truncate_unasked(self) -> None:
        """`auto_truncate`: the service cuts what it takes to be still playing."""
        speech = self._last_spoken
        if speech is None or speech.item_id not in self._conversation.items:
            return
        played_ms = speech.played_ms(self._now_ns)
        if played_ms < speech.length_ms:
            self._cut(speech, played_ms)

    def _cut(self, speech: Speech, at_ms: int) -> None:
        speech.cut_ms = at_ms
        place = {"item_id": speech.item_id, "content_index": 0}
        self._outbox.send("conversation.item.truncated", **place, audio_end_ms=at_ms)

    # -- responses ----------------------------------------------------------------------------------------

    def _create_response(self, event: wire.ResponseCreate, raw: Json) -> list[BrainEvent]:
        options = event.response or wire.ResponseOptions()
        asked.check(options, self._session, self._endpoint)
        for index, item in enumerate(options.append_input_items or ()):
            self._conversation.check_new(item, f"response.append_input_items[{index}]")
        events: list[BrainEvent] = []
        if self._current is not None and not options.aside:
            events.append(self._make_way(self._current, options))
        for item, raw_item in zip(
            options.append_input_items or (), raw.get("append_input_items", ()), strict=True
        ):
            events += self._create_item(item, raw_item, None)
        for item in options.input_items or ():
            events += asked.texts(item)
        reply = self._open_response(options)
        facts = self._replies[reply].facts
        instructions = asked.instructions(options, event.additional_instructions, self._session)
        return [*events, ReplyRequested(reply, instructions, facts.format, facts.text_only)]

    def _make_way(self, running: Response, options: wire.ResponseOptions) -> ReplyCancelled:
        """The SDK says that `cancel_previous` is the default; integrators report the error nevertheless."""
        if not options.cancel_previous:
            text = (
                "Conversation already has an active response in progress: "
                f"{running.facts.id}. Wait until the response is finished before creating a new one."
            )
            raise invalid(text, code="conversation_already_has_active_response")
        self._finish(running, "cancelled", "client_cancelled")
        return ReplyCancelled(ReplyId(running.facts.id))

    def _cancel(self, response_id: str | None) -> list[BrainEvent]:
        response = self._current if response_id is None else self._replies.get(ReplyId(response_id))
        if response is None:
            text = "Cancellation failed: no active response found"
            raise invalid(text, code="response_cancel_not_active")
        self._finish(response, "cancelled", "client_cancelled")
        return [ReplyCancelled(ReplyId(response.facts.id))]

    def _open_response(self, options: wire.ResponseOptions) -> ReplyId:
        facts = asked.facts(
            options,
            self._session,
            response_id=self._new_id("resp"),
            conversation_id=None if options.aside else self._conversation.id,
        )
        response = Response(
            facts,
            self._outbox,
            lambda: self._new_id("item"),
            self._conversation.append,
            self._conversation.update,
        )
        reply = ReplyId(facts.id)
        self._replies[reply] = response
        if not options.aside:
            self._current = response
        response.start()
        return reply

    def _finish(self, response: Response, status: str, reason: str | None = None) -> None:
        response.finish(status, reason)
        del self._replies[ReplyId(response.facts.id)]
        if response is self._current:
            self._current = None

    # -- helpers ------------------------------------------------------------------------------------------

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._key}{self._count:x}"

    def _session_json(self) -> Json:
        return {**self._constant, **self._session}

    def _error(self, refusal: Refusal, client_event_id: str | None) -> None:
        error = {"type": "invalid_request_error", **refusal._asdict(), "event_id": client_event_id}
        self._outbox.send("error", error=error)
