"""Azure Voice Live as a value machine.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference" (2026-07-15), "How to use the Voice
Live API", "How to send proactive messages", "How to use auto truncation"; types and live tests of
azure-ai-voicelive 1.3.1. The dialect is the beta shape of OpenAI Realtime with Azure's own fields.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentError,
    AgentEvent,
    AgentWarning,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Said,
    SessionEnd,
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    Unknown,
    UpdateRefused,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.azure.checks import ABILITIES, FORMATS, refusals, warnings
from telbridge.sessions.azure.conversation import Conversation, Handler, Outbox
from telbridge.sessions.azure.entra import fetch_secrets
from telbridge.sessions.azure.items import answer, exactly, said_item, text_item
from telbridge.sessions.azure.neutral import misfits, with_neutral
from telbridge.sessions.azure.opening import connect_step, judge_close, judge_status
from telbridge.sessions.azure.session import format_fault, formats, session_object
from telbridge.sessions.azure.settings import NAME, AzureSettings
from telbridge.sessions.azure.updates import Change, Updates
from telbridge.sessions.azure.vocabulary import (
    ALREADY_SHORTER,
    BUSY,
    HARMLESS,
    MOST_NAME,
    NEXT,
    QUIET,
    State,
    Step,
    short,
)
from telbridge.sessions.base import ConnectRequest, HttpRequest, Opening, ProtocolDefaults
from telbridge.sessions.provider import Provider, refuse_locked_neutral
from telbridge.sessions.wire import Malformed, optional_table, optional_text, parse, table, text

_APPEND_HEAD: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL: Final = b'"}'

_LONGEST_SESSION_S: Final = 60 * 60
_NOTICE_S: Final = 60.0
"""So long before the end of the longest session it is told; `session.expires_at` names it."""


class AzureVoiceLive(ProtocolDefaults):
    """One session with the Azure Voice Live API. See `AgentProtocol` for the contract of each method."""

    uplink_is_text = True

    def __init__(
        self,
        settings: AzureSettings,
        opening: Opening,
        *,
        after: int = 0,
        said: Sequence[Said] = (),
        untold: Sequence[UpdateRefused | None] = (),
    ) -> None:
        """`after`: replies that were numbered before; `said`: the conversation before; `untold`: what became
        of changes asked for before, None for one that is in `settings`. SecretMissing."""
        self._opening = opening
        self._formats = formats(settings, opening.wire_format)
        self._connect_step = connect_step(settings, opening)
        self._updates = Updates(settings, lambda now: session_object(now, self._formats, opening.environ))
        self._state = State.CONNECTING
        self._refusal = ""
        self._untold = untold
        self._outbox = Outbox([said_item(one) for one in said])
        self._conversation = Conversation(self._outbox, self._formats.downlink, after=after)
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
        return self._connect_step

    # ------------------------------------------------------------ to the API

    def audio(self, frame: bytes) -> bytes | None:
        """None until the formats are acknowledged: the API would read the frame as 24 kHz PCM."""
        if self._state is not State.READY:
            return None
        return _APPEND_HEAD + binascii.b2a_base64(frame, newline=False) + _APPEND_TAIL

    def greet(self, greeting: Greeting) -> None:
        """Verbatim: see `say`. Otherwise the text joins the conversation as a system message and stays."""
        if greeting.verbatim:
            self.say(greeting.text)
        else:
            words = f"The call has just been connected. {greeting.text}"
            self.send_text(words, role=TextRole.CONTEXT, respond=True)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        self._outbox.send(text_item(text, role))
        if respond:
            self._conversation.ask(None)

    def say(self, text: str) -> None:
        """Exact with Azure's voices (pre_generated_assistant_message), near-verbatim with a model's own."""
        self._conversation.ask(exactly(self._updates.taken, text))

    def request_reply(self, instructions: str | None) -> None:
        """With turn detection off this also ends the caller's turn."""
        if self._updates.taken.turns_by_hand:
            self._outbox.send({"type": "input_audio_buffer.commit"})
        self._conversation.ask(answer(self._updates.taken, instructions))

    def interrupt(self) -> None:
        self._conversation.interrupt()

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None:
        """The API has no mark for a failure: it goes as {"error": …}."""
        told = json.dumps({"error": output}, ensure_ascii=False) if failed else output
        self._conversation.tool_result(tool_call_id, told)

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        refuse_locked_neutral(PROVIDER, neutral, spoken=self._conversation.spoken)
        self._updates.ask(Change(neutral, vendor), spoken=self._conversation.spoken)
        self._send_next_update()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """Nothing where the server cuts by its own clock (`auto_truncate`): twice would cut too much."""
        if not self._updates.taken.server_truncates:
            self._conversation.report_heard(heard)

    def data_to_send(self) -> list[str | bytes]:
        return self._outbox.take()

    def _send_next_update(self) -> list[AgentEvent]:
        """At most one under way. Those that became impossible meanwhile are answered here."""
        refused: list[AgentEvent] = []
        while self._state is State.READY:
            event_id = self._outbox.next_event_id()
            session = self._updates.next(event_id, spoken=self._conversation.spoken)
            if session is None:
                break
            if isinstance(session, UpdateRefused):
                refused.append(session)
                continue
            self._outbox.write({"type": "session.update", "event_id": event_id, "session": session})
        return refused

    # ------------------------------------------------------------ time

    def deadline_ns(self) -> int | None:
        return self._notice_ns

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        if self._notice_ns is None or now_ns < self._notice_ns:
            return []
        self._notice_ns = None
        return [SessionExpiring(self._left_s, of_age=True)]

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
            return [Unknown(kind[:MOST_NAME])]
        try:
            return handler(fields, now_ns)
        except Malformed as fault:
            return [BadMessage(f"{kind}: {fault}")]

    def _make_handlers(self) -> dict[str, Handler]:
        transcription = "conversation.item.input_audio_transcription"
        handlers: dict[str, Handler] = dict.fromkeys(QUIET, _nothing)
        handlers |= self._conversation.handlers
        return handlers | {
            "session.created": self._on_session_created,
            "session.updated": self._on_session_updated,
            "error": self._on_error,
            "warning": self._on_warning,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            f"{transcription}.completed": self._on_caller_transcript,
            f"{transcription}.failed": self._on_no_caller_transcript,
        }

    def _move(self, step: Step) -> None:
        state = NEXT.get((self._state, step))
        if state is None:
            raise Malformed(f"{step.value} while {self._state.value}")
        self._state = state

    def _on_session_created(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._move(Step.CREATED)
        expires_at = optional_table(fields, "session").get("expires_at")
        life_s = self._opening.lifetime_s(expires_at, _LONGEST_SESSION_S)
        self._left_s = min(_NOTICE_S, life_s)
        self._notice_ns = now_ns + int((life_s - self._left_s) * 1e9)
        event_id = self._outbox.next_event_id()
        session = self._updates.first(event_id)
        self._outbox.write({"type": "session.update", "event_id": event_id, "session": session})
        return []

    def _on_session_updated(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        if self._state is State.CONFIGURING:
            return self._on_configured(optional_table(fields, "session"), now_ns)
        self._move(Step.UPDATED)
        answered = self._updates.took()
        updated: list[AgentEvent] = [] if answered is None else [SessionUpdated(now_ns)]
        return updated + self._send_next_update()

    def _on_configured(self, session: Json, now_ns: int) -> list[AgentEvent]:
        if fault := format_fault(self._formats, session):
            return self._refuse("format_not_taken", fault)
        self._move(Step.UPDATED)
        self._updates.took()
        self._outbox.open()
        told, self._untold = [one or SessionUpdated(now_ns) for one in self._untold], ()
        refused = self._send_next_update()
        self._conversation.send_next()
        return [SessionReady(now_ns), *told, *refused]

    def _on_error(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = table(fields, "error")
        code = short(optional_text(error, "code") or optional_text(error, "type"))
        message = optional_text(error, "message") or ""
        event_id = optional_text(error, "event_id")
        if code in HARMLESS or ALREADY_SHORTER in message:
            return []
        if self._state is State.CONNECTING:
            return self._refuse(code, message)  # No session comes after that.
        if self._is_of_the_update(event_id, code):
            return self._on_update_refused(code, message, optional_text(error, "param"))
        if self._conversation.refused(event_id, code):
            return []
        if code == Step.EXPIRY.value and self._state is State.READY:
            self._move(Step.EXPIRY)
            self._outbox.is_open = False
        return [AgentError(code, message)]

    def _is_of_the_update(self, event_id: str | None, code: str) -> bool:
        """An error without our event id is charged to the update under way, unless it can't be its own."""
        sent = self._updates.in_flight
        if sent is None:
            return False
        return event_id == sent.event_id or (event_id is None and code not in (BUSY, Step.EXPIRY.value))

    def _on_update_refused(self, code: str, message: str, param: str | None) -> list[AgentEvent]:
        if self._state is State.CONFIGURING:
            return self._refuse(f"{code} ({param[:MOST_NAME]})" if param else code, message)
        self._updates.refused()
        return [UpdateRefused(code, message), *self._send_next_update()]

    def _refuse(self, code: str, message: str) -> list[AgentEvent]:
        self._move(Step.REFUSAL)
        self._refusal = code
        return [AgentError(code, message, at_setup=True)]

    def _on_warning(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        warning = table(fields, "warning")
        return [AgentWarning(short(optional_text(warning, "code")), optional_text(warning, "message") or "")]

    def _on_speech_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """With `interrupt_response` the server has cancelled already: no response.cancel of ours. Often
        it had finished generating, and only the playout has something left to stop."""
        interrupts = self._updates.taken.interrupts
        if interrupts:
            self._conversation.cut()
        return [CallerStartedSpeaking(now_ns, interrupts=interrupts)]

    def _on_speech_stopped(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [CallerStoppedSpeaking(now_ns)]

    def _on_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        words = text(fields, "transcript")
        return [CallerTranscript(words)] if words.strip() else []

    def _on_no_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = optional_table(fields, "error")
        code = f"transcription_failed: {short(optional_text(error, 'code'))}"
        return [AgentWarning(code, optional_text(error, "message") or "")]

    # ------------------------------------------------------------ the end

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        return judge_close(self._state, self._refusal, code, reason)

    def refused(self, status: int) -> SessionEnd:
        return judge_status(status)

    def successor(self, said: Sequence[Said]) -> AzureVoiceLive | None:
        """A new session that is told what was said: the API has no resumption. Tool calls that are open
        belong to the session that is gone. What was kept for one that never was ready goes along."""
        if self._state is State.REFUSED:
            return None
        settings, outcomes = self._updates.expected(spoken=False)
        following = AzureVoiceLive(
            settings,
            self._opening,
            after=self._conversation.replies,
            said=said,
            untold=[*self._untold, *outcomes],
        )
        if self._state in (State.CONNECTING, State.CONFIGURING):
            following._conversation.inherit(self._conversation)
        return following


def _nothing(fields: Json, now_ns: int) -> list[AgentEvent]:
    return []


PROVIDER: Final = Provider(
    name=NAME,
    title="Azure Voice Live",
    settings=AzureSettings,
    open=AzureVoiceLive,
    with_neutral=with_neutral,
    abilities=ABILITIES,
    formats=FORMATS,
    warnings=warnings,
    misfits=misfits,
    embedded=lambda port: AzureSettings(url=f"ws://127.0.0.1:{port}/voice-live/realtime"),
    fetch_secrets=fetch_secrets,
    refusals=refusals,
)
