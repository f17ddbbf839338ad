"""OpenAI Realtime (GA shape over WebSocket) as a value machine.

Sources: developers.openai.com guides realtime, realtime-websocket, realtime-conversations (interruption
and truncation), realtime-vad; the typed events of the `openai` SDK 3.52.0; live observations published by
others, marked so. Beta spellings of server events are understood as well (`response.audio.delta`): hosted
dialects still use them.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentInterrupted,
    AgentTranscript,
    AgentWarning,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    ReplyAudioDone,
    ReplyDone,
    ReplyStatus,
    Said,
    SessionEnd,
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    ToolCall,
    Unknown,
    UpdateRefused,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json as AnyJson
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import (
    AgentProtocol,
    ConnectRequest,
    HttpRequest,
    Opening,
    ProtocolDefaults,
)
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.openai.calls import Due, ToolCalls
from telbridge.sessions.openai.items import denial, exactly, text_item, tool_output, truncations
from telbridge.sessions.openai.neutral import ABILITIES, FORMATS, misfits, refusals, warnings, with_neutral
from telbridge.sessions.openai.opening import Opener, judge_close, judge_status
from telbridge.sessions.openai.outbox import Outbox
from telbridge.sessions.openai.replies import (
    AudioItem,
    Happening,
    Phase,
    Replies,
    Reply,
    decode,
    is_the_servers_fault,
    outcome,
)
from telbridge.sessions.openai.session import (
    format_fault,
    full_instructions,
    not_taken,
    session_formats,
    session_object,
)
from telbridge.sessions.openai.settings import Json, OpenAISettings, Transcription
from telbridge.sessions.openai.updates import Change, Updates
from telbridge.sessions.openai.vocabulary import BETA_NAMES, MOST_NAME, NEXT, QUIET, State, Step
from telbridge.sessions.provider import Provider, refuse_locked_neutral
from telbridge.sessions.wire import Malformed, count, optional_table, optional_text, parse, table, text

_APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL: Final = b'"}'

_HARMLESS: Final = frozenset({"response_cancel_not_active", "input_audio_buffer_commit_empty"})
_ALREADY_SHORTER: Final = "already shorter"
"""Of a refused truncate, which has no code of its own: nothing is left to cut, so nothing is lost."""
_HOPELESS: Final = frozenset({"invalid_api_key", "insufficient_quota"})
"""Errors after which another connection would fare no better."""

_LONGEST_SESSION_S: Final = 60 * 60
_NOTICE_S: Final = 60.0
"""So long before the end of the longest session it is told."""


class OpenAIRealtime(ProtocolDefaults):
    """One session with the OpenAI Realtime API. See `AgentProtocol` for the contract of each method."""

    uplink_is_text = True

    def __init__(
        self,
        settings: OpenAISettings,
        opening: Opening,
        *,
        said: Sequence[Said] = (),
        replies_before: int = 0,
    ) -> None:
        """`said` and `replies_before`: of the session that this one follows. SecretMissing for the key, or
        for a secret of an MCP server."""
        self._opening = opening
        self._opener = Opener(settings, opening.environ)
        self._formats = session_formats(settings, opening.wire_format)
        self._updates = Updates(settings, self._render)
        self._state = State.CONNECTING
        self._refusal = ""
        self._said = said
        self._replies = Replies(after=replies_before)
        self._outbox = Outbox(self._updates)
        self._tool_calls = ToolCalls()
        self._spoken = False
        self._sounding: _Sounding | None = None
        self._notice_ns: int | None = None
        self._left_s = 0.0
        """At the notice."""
        self._handlers = self._make_handlers()

    @property
    def uplink_format(self) -> AudioFormat:
        return self._formats.uplink

    @property
    def downlink_format(self) -> AudioFormat:
        return self._formats.downlink

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        return self._opener.next_step()

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        self._opener.http_answered(status, body)

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
            self.say(greeting.text)
        else:
            words = f"The call has just been connected. {greeting.text}"
            self.send_text(words, role=TextRole.CONTEXT, respond=True)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        self._outbox.send(text_item(text, role))
        if respond:
            self._outbox.ask(None)

    def say(self, text: str) -> None:
        self._outbox.ask(exactly(text))

    def request_reply(self, instructions: str | None) -> None:
        """Instructions of a response replace the session's: both are sent. Without turn detection this
        also ends the caller's turn."""
        if self._updates.taken.turn_detection is None:
            self._outbox.send({"type": "input_audio_buffer.commit"})
        if instructions is None:
            self._outbox.ask(None)
            return
        usual = full_instructions(self._updates.taken)
        self._outbox.ask({"instructions": f"{usual}\n\n{instructions}" if usual else instructions})

    def interrupt(self) -> None:
        self._replies.cut_running()
        if self._outbox.responses.taken:
            self._outbox.cancel(self._outbox.responses.holder)
        else:
            self._outbox.responses.abandon()

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None:
        """The API knows no failed result: the agent is told in words."""
        words = json.dumps({"error": output}, ensure_ascii=False) if failed else output
        self._send_due(self._tool_calls.result(tool_call_id, words))

    def update(self, neutral: NeutralSettings, vendor: AnyJson) -> None:
        refuse_locked_neutral(PROVIDER, neutral, spoken=self._spoken)
        self._updates.ask(Change(neutral, vendor), spoken=self._spoken)
        self._next_update()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Truncate each item that was not heard in full. The API's own transcript of it goes with the
        audio, so that the model knows what the caller knows."""
        for one in heard:
            reply = self._replies.numbered(one.reply)
            if reply is not None:
                for message in truncations(reply.items.values(), one, self._formats.downlink):
                    self._outbox.send(message)

    def data_to_send(self) -> list[str | bytes]:
        return self._outbox.take() if self._outbox.out else []

    def deadline_ns(self) -> int | None:
        return self._notice_ns

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        if self._notice_ns is None or now_ns < self._notice_ns:
            return []
        self._notice_ns = None
        return [SessionExpiring(self._left_s, of_age=True)]

    def _render(self, settings: OpenAISettings) -> Json:
        return session_object(settings, self._formats, self._opening.environ)

    def _next_update(self) -> list[AgentEvent]:
        return [*self._outbox.send_next_update(spoken=self._spoken)]

    def _send_due(self, due: Due) -> None:
        for call_id, output in due.outputs:
            self._outbox.send(tool_output(call_id, output))
        if due.answer:
            self._outbox.ask(None)

    # ------------------------------------------------------------ from the API

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        try:
            fields = parse(message)
            kind = fields.get("type")
            if type(kind) is not str:
                kind = text(fields, "type")
        except Malformed as fault:
            return [BadMessage(str(fault))]
        if self._state is State.REFUSED:
            return []  # The session goes on with the API's defaults; nothing of it is ours.
        handler = self._handlers.get(kind)
        if handler is None:
            return [Unknown(kind[:MOST_NAME])]
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
            "response.output_text.done": self._on_agent_text,
            "response.output_item.done": self._on_output_item,
            "response.done": self._on_response_done,
            "response.mcp_call.failed": self._on_mcp_failure,
            "mcp_list_tools.failed": self._on_mcp_failure,
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
        if expires_at := optional_table(fields, "session").get("expires_at"):
            life_s = self._opening.lifetime_s(expires_at, _LONGEST_SESSION_S)
            self._left_s = min(_NOTICE_S, life_s)
            self._notice_ns = now_ns + int((life_s - self._left_s) * 1e9)
        self._outbox.configure()
        return []

    def _on_session_updated(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        configuring = self._state is State.CONFIGURING
        session = optional_table(fields, "session")
        if configuring and (fault := format_fault(self._formats, session)):
            return self._refuse("format_not_taken", fault)
        self._move(Step.UPDATED)
        answered = self._updates.took()
        if answered is None:
            return []
        events: list[AgentEvent] = [SessionReady(now_ns) if configuring else SessionUpdated(now_ns)]
        if other := ", ".join(not_taken(answered.session, session)):
            events.append(AgentWarning("setting_not_taken", other))
        refused = self._outbox.open(self._said) if configuring else self._next_update()
        return [*events, *refused]

    def _on_error(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = table(fields, "error")
        code = (optional_text(error, "code") or optional_text(error, "type") or "unknown")[:MOST_NAME]
        message = optional_text(error, "message") or ""
        event_id = optional_text(error, "event_id")
        if code in _HARMLESS or _ALREADY_SHORTER in message:
            return []
        if code == Step.EXPIRY.value and self._state is State.READY:
            self._move(Step.EXPIRY)
            self._outbox.close()
            return [AgentError(code, message)]
        if self._is_of_an_update(event_id, code):
            param = optional_text(error, "param")
            return self._refuse(f"{code} ({param[:MOST_NAME]})" if param else code, message)
        retried = self._outbox.responses.refused(event_id, code)
        self._outbox.send_next_response()
        if retried:
            return []
        if code in _HOPELESS:
            self._refusal = code
        return [AgentError(code, message)]

    def _is_of_an_update(self, event_id: str | None, code: str) -> bool:
        """Some refusals come without our event id (seen live): they are charged to the update under way.
        An error before session.created can only mean that there will be no session."""
        if self._state is State.CONNECTING:
            return True
        sent = self._updates.in_flight
        if sent is None or code == Happening.BUSY.value or code in _HOPELESS:
            return False
        return event_id in (None, sent.event_id)

    def _refuse(self, code: str, message: str) -> list[AgentEvent]:
        self._updates.refused()
        if self._state is State.READY:
            return [UpdateRefused(code, message), *self._next_update()]
        self._move(Step.REFUSAL)
        self._outbox.close()
        self._refusal = code
        return [AgentError(code, message, at_setup=True)]

    def _on_speech_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """With `interrupt_response` the server has cancelled already: no response.cancel of ours. Often
        it had finished generating, and only the playout has something left to stop."""
        turns = self._updates.taken.turn_detection
        interrupts = turns is not None and turns.interrupt_response
        if interrupts:
            self._replies.cut_running()
        return [CallerStartedSpeaking(now_ns, interrupts=interrupts)]

    def _on_speech_stopped(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [CallerStoppedSpeaking(now_ns)]

    def _on_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [CallerTranscript(text(fields, "transcript"))]

    def _on_no_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Each turn, if the model of the transcription is not to be had; the conversation goes on."""
        error = optional_table(fields, "error")
        code = (optional_text(error, "code") or "unknown")[:MOST_NAME]
        return [AgentWarning(f"transcription_failed: {code}", optional_text(error, "message") or "")]

    def _on_mcp_failure(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [AgentWarning(text(fields, "type"), optional_text(fields, "item_id") or "")]

    def _on_response_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response_id = text(table(fields, "response"), "id")
        self._replies.announce(response_id)
        if self._outbox.responses.created(response_id):
            self._replies.cut_running()
            self._outbox.cancel(response_id)
        return []

    def _on_audio(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """The way of every frame: more of what was said last is not looked up again."""
        sounding = self._sounding
        get = fields.get
        place = get("response_id"), get("item_id"), get("content_index")
        if sounding is None or sounding[0].phase is not Phase.RUNNING or place != sounding[2]:
            sounding = self._sounding = self._find_item(fields, place)
            if sounding is None:
                return []
        reply, item, _ = sounding
        delta = get("delta")
        if type(delta) is not str:
            delta = text(fields, "delta")
        try:
            audio = decode(item, delta, self._formats.downlink.sample_bytes)
        except ValueError:
            raise Malformed("`delta` is not base64") from None
        return [AgentAudio(reply.id, audio, now_ns)] if audio else []

    def _find_item(self, fields: Json, place: _Place) -> _Sounding | None:
        """None if nobody wants to hear it."""
        self._spoken = True
        reply = self._announced(fields)
        if reply is None or reply.phase is not Phase.RUNNING:
            return None
        item = reply.item(text(fields, "item_id"), count(fields, "content_index"))
        return reply, item, place

    def _on_agent_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return self._agent_said(fields, text(fields, "transcript"))

    def _on_agent_text(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return self._agent_said(fields, text(fields, "text"))

    def _agent_said(self, fields: Json, words: str) -> list[AgentEvent]:
        """Each item has its own words; the event carries all that the reply has said so far."""
        reply = self._announced(fields)
        if reply is None:
            return []
        reply.said.append(words)
        return [AgentTranscript(reply.id, " ".join(reply.said))]

    def _on_output_item(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """A call that is not completed was interrupted, and its arguments may be cut JSON."""
        item = table(fields, "item")
        kind = item.get("type")
        if kind == "mcp_approval_request":
            self._outbox.send(denial(text(item, "id")))
            self._outbox.ask(None)
            return [AgentWarning("mcp_approval_denied", optional_text(item, "name") or "")]
        if kind != "function_call" or item.get("status") != "completed":
            return []
        call = ToolCall(text(item, "call_id"), text(item, "name"), text(item, "arguments"))
        response_id = optional_text(fields, "response_id") or ""
        reply = self._replies.of(response_id)
        runs = reply is not None and reply.phase is not Phase.OVER
        return [call] if self._tool_calls.announce(call.tool_call_id, response_id, runs=runs) else []

    def _on_response_done(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        response = table(fields, "response")
        response_id = text(response, "id")
        status, detail = outcome(response)
        cancelled = status is ReplyStatus.CANCELLED
        reply = self._replies.of(response_id)
        self._outbox.responses.done(response_id)
        fruitless = reply is not None and reply.phase is Phase.RUNNING and not reply.items
        again = fruitless and is_the_servers_fault(response) and self._outbox.responses.retry()
        events = self._next_update()
        self._send_due(self._tool_calls.response_done(response_id, cancelled=cancelled))
        self._outbox.send_next_response()
        if reply is None or reply.phase is Phase.OVER:
            return events
        heard_of = reply.phase is Phase.RUNNING and bool(reply.items)
        reply.phase = Phase.OVER
        if again:
            return [*events, AgentWarning("reply_asked_for_again", detail)]
        if heard_of:
            # Cancelled although nobody here cut it: what is queued of it must not be played either.
            events.append(AgentInterrupted(now_ns) if cancelled else ReplyAudioDone(reply.id))
        return [*events, ReplyDone(reply.id, status, detail)]

    def _announced(self, fields: Json) -> Reply | None:
        """The reply of an event; None, after the first complaint, for a response never announced."""
        response_id = text(fields, "response_id")
        reply = self._replies.of(response_id)
        if reply is None and self._replies.is_new_stranger(response_id):
            raise Malformed("of a response that was never announced")
        return reply

    # ------------------------------------------------------------ the end

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        return judge_close(self._state, self._refusal, code, reason)

    def refused(self, status: int) -> SessionEnd:
        return judge_status(status)

    def successor(self, said: Sequence[Said]) -> AgentProtocol | None:
        """The API resumes nothing: a new session, told in text what was said. What was kept for a session
        that never was ready goes along."""
        if self._refusal:
            return None
        try:
            following = OpenAIRealtime(
                self._updates.taken, self._opening, said=said, replies_before=self._replies.count
            )
        except SecretMissing:
            return None  # The file that held it is gone.
        following._updates.inherit(self._updates.outstanding)
        if self._state in (State.CONNECTING, State.CONFIGURING):
            following._outbox.inherit(self._outbox)
        return following


_Place = tuple[object, object, object]
_Sounding = tuple[Reply, AudioItem, _Place]
"""What audio came for last, and where that stands."""


def _nothing(fields: Json, now_ns: int) -> list[AgentEvent]:
    return []


PROVIDER: Final = Provider(
    name="openai_realtime",
    title="OpenAI Realtime (GA)",
    settings=OpenAISettings,
    open=OpenAIRealtime,
    with_neutral=with_neutral,
    abilities=ABILITIES,
    formats=FORMATS,
    warnings=warnings,
    misfits=misfits,
    embedded=lambda port: OpenAISettings(
        url=f"ws://127.0.0.1:{port}/v1/realtime", model="telbridge-local", transcription=Transcription()
    ),
    refusals=refusals,
)
"""What telbridge knows of this API."""
