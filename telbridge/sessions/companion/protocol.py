"""Napster's Companion API (Omniagent) over WebSocket as a value machine.

Sources: developers.napster.com/docs, pages deploying-your-agent/configuration,
deploying-your-agent/connections/websockets and …/messaging/server-events; the vendor's own
github.com/Napster/omniagent-api-skills (skills deploy-websocket, session-runtime, create-agent,
troubleshoot-omniagent, monitor-sessions). What the vendor does not document (close codes, the shape of
errors, whether audio may go out before `ready`, ids of audio) is handled tolerantly and marked so.
"""

from __future__ import annotations

import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

from telbridge.audio.formats import PCM_16K, AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentWarning,
    BadMessage,
    Said,
    SessionEnd,
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    ToolCall,
    ToolCallCancelled,
    Unknown,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.base import AgentProtocol, ConnectRequest, HttpRequest, Opening, ProtocolDefaults
from telbridge.sessions.companion import endings as endings
from telbridge.sessions.companion.conversation import Conversation, Handler
from telbridge.sessions.companion.endings import fault_of
from telbridge.sessions.companion.neutral import (
    ABILITIES,
    misfits,
    neutral_changes,
    refusals,
    warnings,
    with_neutral,
)
from telbridge.sessions.companion.opening import Creation, creation_body
from telbridge.sessions.companion.settings import NAME, CompanionSettings
from telbridge.sessions.companion.tools import INTERIM, Stand, ToolCalls, output_object
from telbridge.sessions.companion.words import (
    exactly,
    first_settings,
    history,
    late_result,
    opening_words,
    settings_data,
)
from telbridge.sessions.credentials import api_secret
from telbridge.sessions.provider import Provider, deep_merged, merged, refuse_locked_neutral, refuse_misfits
from telbridge.sessions.wire import Malformed, optional_table, optional_text, parse, text

KEEP_ALIVE_NS: Final = 1_000_000_000
"""Silence goes up when the telephone gave nothing for so long (held, say): the API wants unbroken audio."""
_SILENCE_MS: Final = 100
_MOST_NAME: Final = 100
"""Of a name we do not know: it may become a log field, and a stranger chose its length."""


class State(Enum):
    """Of the session."""

    OPENING = auto()
    WAITING = auto()
    """The WebSocket is open, `ready` has not come."""
    READY = auto()


class Companion(ProtocolDefaults):
    """One session with the Companion API. See `AgentProtocol` for the contract of each method."""

    uplink_is_text = True

    def __init__(
        self,
        settings: CompanionSettings,
        opening: Opening,
        *,
        api_key: str | None,
        first_reply: int = 1,
        said: Sequence[Said] | None = None,
        later_raw: Json | None = None,
    ) -> None:
        """`api_key`: None where the peer asks for none. The rest is for a successor: `said` so far (None:
        this is the first connection), and `later_raw`, what updates put into set_settings."""
        self._settings = settings
        self._call = opening
        self._api_key = api_key
        self._said = said
        self._later_raw: Json = later_raw or {}
        stagger_s = zlib.crc32(opening.call_id.encode()) % 1000 / 1000
        self._creation = Creation(settings, api_key=api_key, stagger_s=stagger_s)
        self._speech: str | None = None
        self._state = State.OPENING
        self._talk = Conversation(first_reply=first_reply)
        self._talk.barge_in = settings.barge_in
        self._tools = ToolCalls()
        self._out: list[str | bytes] = []
        self._held: list[Json] = []
        self._now_ns = 0
        self._ready_by_ns = 0
        self._beat_ns = 0
        self._frames_came = False
        self._muted_octets = 0
        self._updates_asked = 0
        self._updates_sent = 0
        self._idle_warned = False
        self._end: SessionEnd | None = None
        self._over_at_api = False
        self._audio_head = f'{{"type":"send_audio","data":{{"{settings.audio_key}":"'.encode()
        self._speaks = settings.modality != "text"
        self._handlers = self._make_handlers()

    @property
    def uplink_format(self) -> AudioFormat:
        return PCM_16K

    @property
    def downlink_format(self) -> AudioFormat:
        return PCM_16K

    # ------------------------------------------------------------ opening

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        body = creation_body(self._settings, speech=self._speech, may_open=self._said is None)
        return self._creation.next_step(body)

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        self._creation.answered(status, headers, body)

    def connected(self, *, now_ns: int) -> None:
        """Whether audio before `ready` is legal is not documented: wait, but not for ever."""
        self._now_ns = now_ns
        self._state = State.WAITING
        self._ready_by_ns = now_ns + round(self._settings.wait_ready_s * 1e9)

    def _become_ready(self, now_ns: int) -> list[AgentEvent]:
        if self._state is not State.WAITING:
            return []
        self._state = State.READY
        self._beat_ns = now_ns + KEEP_ALIVE_NS
        if data := first_settings(self._settings, self._later_raw):
            self._send("set_settings", data)
        if self._said:
            self._message("system", history(self._said), respond=False, wait=True)
        held, self._held = self._held, []
        for message in held:
            self._write(message)
        return [SessionReady(now_ns)]

    # ------------------------------------------------------------ to the API

    def audio(self, frame: bytes) -> bytes | None:
        """None until `ready`, and always in a text session. While the agent speaks and must not be
        interrupted, silence of the same length: the API's detector can't be switched off."""
        if self._state is not State.READY or not self._speaks:
            return None
        self._frames_came = True
        if self._muted_octets > 0:
            self._muted_octets -= len(frame)
            frame = bytes(len(frame))
        return self._audio_head + binascii.b2a_base64(frame, newline=False) + b'"}}'

    def greet(self, greeting: Greeting) -> None:
        """In the creation's body, in place of the one of the settings; once that has gone out, by a message.
        One of the two, never both."""
        if greeting.is_default and self._settings.initialSpeech is not None:
            return
        if self._creation.asked:
            self._message("system", opening_words(greeting), respond=True, wait=False)
        else:
            self._speech = opening_words(greeting)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        """Waits until the agent has ended: a text interrupts nobody, `interrupt` does."""
        self._message("user" if role is TextRole.CALLER else "system", text, respond=respond, wait=True)

    def say(self, text: str) -> None:
        self._message("system", exactly(text), respond=True, wait=True)

    def request_reply(self, instructions: str | None) -> None:
        self._message("system", instructions or "Speak to the caller now.", respond=True, wait=True)

    def interrupt(self) -> None:
        """The API has no command for it; a message that does not wait interrupts as a side effect."""
        if self._talk.replies.running:
            self._message("system", "You were interrupted; wait for the caller.", respond=False, wait=False)
        self._talk.replies.cut_running(self._now_ns)
        self._muted_octets = 0

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None:
        stand, name = self._tools.answered(tool_call_id)
        result = output_object(output, failed=failed)
        if stand is Stand.OPEN:
            self._send_output(tool_call_id, result)
        elif stand is Stand.PUT_OFF:
            self._message("system", late_result(name, tool_call_id, result), respond=True, wait=True)

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        """The API acknowledges nothing: SessionUpdated comes when `set_settings` has been handed over.
        Instructions replace the whole prompt; others saw them not always taken."""
        refuse_locked_neutral(PROVIDER, neutral, spoken=True)
        refuse_misfits(PROVIDER, neutral)
        changes = deep_merged(neutral_changes(neutral, tool_ids={}), vendor)
        settings = merged(self._settings, changes, spoken=True)
        raw: Json = changes.get("raw", {})
        self._settings = settings.model_copy(update={"raw": self._settings.raw})
        self._later_raw = deep_merged(self._later_raw, raw)
        if data := settings_data(settings, changes, raw):
            self._send("set_settings", data)
        self._talk.barge_in = settings.barge_in
        if settings.barge_in:
            self._muted_octets = 0
        self._updates_asked += 1

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """The API takes none."""

    def data_to_send(self) -> list[str | bytes]:
        if self._state is State.READY:
            self._updates_sent += self._updates_asked
            self._updates_asked = 0
        out, self._out = self._out, []
        return out

    def _message(self, role: str, words: str, *, respond: bool, wait: bool) -> None:
        """`send_message`; `wait`: until the agent has finished speaking."""
        data: Json = {"role": role, "text": words, "trigger_response": respond, "delay": wait}
        self._send("send_message", data)

    def _send_output(self, call_id: str, result: Json) -> None:
        output = _json(result) if self._settings.output_as_string else result
        self._send("send_function_output", {"call_id": call_id, "output": output, "delay": False})

    def _send_silence(self) -> None:
        if self._speaks:
            audio = binascii.b2a_base64(bytes(PCM_16K.bytes_for_ms(_SILENCE_MS)), newline=False).decode()
            self._send("send_audio", {self._settings.audio_key: audio})

    def _send(self, kind: str, data: Json) -> None:
        """At once, or when the session is ready."""
        message = {"type": kind, "data": data}
        if self._state is State.READY:
            self._write(message)
        else:
            self._held.append(message)

    def _write(self, message: Json) -> None:
        self._out.append(_json(message))

    # ------------------------------------------------------------ from the API

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        self._now_ns = now_ns
        return self._dispatch(message, now_ns) + self._acknowledged(now_ns)

    def _dispatch(self, message: str | bytes, now_ns: int) -> list[AgentEvent]:
        if isinstance(message, bytes):
            return [Unknown("binary frame")]
        try:
            fields = parse(message)
            kind = optional_text(fields, "event") or text(fields, "type")
        except Malformed as fault:
            return [BadMessage(str(fault))]
        handler = self._handlers.get(kind)
        if handler is None:
            return [Unknown(kind[:_MOST_NAME])]
        try:
            events = handler(optional_table(fields, "data"), now_ns)
        except Malformed as fault:
            return [BadMessage(f"{kind}: {fault}")]
        if not self._settings.barge_in:
            self._mute_for(events)
        return events

    def _mute_for(self, events: list[AgentEvent]) -> None:
        """Both ways have one format, so as many octets go up as silence as came down as speech."""
        for event in events:
            if isinstance(event, AgentAudio):
                self._muted_octets += len(event.audio)

    def _make_handlers(self) -> dict[str, Handler]:
        return {
            "ui_update": lambda data, now_ns: [],
            "avatar_state_changed": self._on_avatar_state,
            **self._talk.handlers(),
            "function_implicitly_called": self._on_function_call,
            "function_call_timeout": self._on_function_timeout,
            "avatar_connection_warning": self._on_idle_warning,
            "session_expired": self._on_expired,
            "no_credits_left": self._on_no_credits,
            "provider_connection_aborted": self._on_aborted,
            "reaching_rate_limits": lambda data, now_ns: [AgentWarning("reaching_rate_limits", "")],
            "error": self._on_error,
        }

    def _on_avatar_state(self, data: Json, now_ns: int) -> list[AgentEvent]:
        """`ready` may come twice."""
        return self._become_ready(now_ns) if data.get("state") == "ready" else []

    def _on_function_call(self, data: Json, now_ns: int) -> list[AgentEvent]:
        """`arguments` is an object; some have seen a string."""
        call_id, name = text(data, "call_id"), text(data, "name")
        arguments = _arguments(data.get("arguments"))
        if not self._tools.announced(call_id, name, now_ns):
            return []
        return [ToolCall(call_id, name, arguments)]

    def _on_function_timeout(self, data: Json, now_ns: int) -> list[AgentEvent]:
        call_id = self._tools.timed_out(optional_text(data, "call_id"))
        return [] if call_id is None else [ToolCallCancelled(call_id)]

    def _on_idle_warning(self, data: Json, now_ns: int) -> list[AgentEvent]:
        self._idle_warned = True
        self._send_silence()
        left = data.get("disconnect_after")
        if isinstance(left, bool) or not isinstance(left, int | float) or not 0 <= left < 1e6:
            raise Malformed("`disconnect_after` is no number of seconds")
        return [SessionExpiring(float(left))]

    def _on_expired(self, data: Json, now_ns: int) -> list[AgentEvent]:
        self._over(endings.expired(was_ready=self._state is State.READY))
        return [SessionExpiring(0.0)]

    def _on_no_credits(self, data: Json, now_ns: int) -> list[AgentEvent]:
        self._over(endings.out_of_credits())
        return [AgentError("no_credits_left", "", at_setup=True)]

    def _on_aborted(self, data: Json, now_ns: int) -> list[AgentEvent]:
        code, message = fault_of(data)
        ready = self._state is State.READY
        end = endings.aborted(code, was_ready=ready)
        self._over(end)
        final = not ready or not end.may_reconnect
        return [AgentError(f"provider_connection_aborted: {code}", message, at_setup=final)]

    def _over(self, end: SessionEnd) -> None:
        self._end = end
        self._over_at_api = True

    def _on_error(self, data: Json, now_ns: int) -> list[AgentEvent]:
        """Its shape is not documented, and no source calls it fatal."""
        return [AgentError(*fault_of(data))]

    # ------------------------------------------------------------ time

    def deadline_ns(self) -> int | None:
        if self._state is State.OPENING:
            return None
        if self._state is State.WAITING:
            return self._ready_by_ns
        due = [self._beat_ns, self._tools.due_ns, self._talk.replies.due_ns]
        return min(one for one in (*due, self._now_ns if self._updates_sent else None) if one is not None)

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        self._now_ns = now_ns
        if self._state is State.OPENING:
            return []
        if self._state is State.WAITING:
            return self._become_ready(now_ns) if now_ns >= self._ready_by_ns else []
        for call_id in self._tools.put_off(now_ns):
            self._send_output(call_id, INTERIM)
        if now_ns >= self._beat_ns:
            self._beat_ns = now_ns + KEEP_ALIVE_NS
            if not self._frames_came:
                self._send_silence()
            self._frames_came = False
        return self._talk.replies.time_passed(now_ns) + self._acknowledged(now_ns)

    def _acknowledged(self, now_ns: int) -> list[AgentEvent]:
        sent, self._updates_sent = self._updates_sent, 0
        return [SessionUpdated(now_ns)] * sent

    # ------------------------------------------------------------ the end

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        self._over_at_api = self._over_at_api or endings.closed_by_api(code)
        ready = self._state is State.READY
        return self._end or endings.closed(code, reason, was_ready=ready, idle_warned=self._idle_warned)

    def refused(self, status: int) -> SessionEnd:
        return endings.refused(status)

    def afterword(self) -> HttpRequest | None:
        """Frees the session's place among the few that a key may have, unless the API has ended it."""
        return None if self._over_at_api else self._creation.deletion()

    def successor(self, said: Sequence[Said]) -> AgentProtocol | None:
        """A new session; the API has no resumption. What was asked while there was no session goes along."""
        follower = Companion(
            self._settings,
            self._call,
            api_key=self._api_key,
            first_reply=self._talk.replies.next_id,
            said=tuple(said),
            later_raw=self._later_raw,
        )
        follower._held = list(self._held)
        follower._updates_asked = self._updates_asked + self._updates_sent
        return follower


def _arguments(found: object) -> str:
    if isinstance(found, str):
        return found
    try:
        return _json({} if found is None else found)
    except RecursionError:
        raise Malformed("`arguments` is nested too deep") from None


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _open(settings: CompanionSettings, opening: Opening) -> Companion:
    api_key = api_secret(settings, "api_key", opening.environ, section=NAME, url=settings.url)
    return Companion(settings, opening, api_key=api_key)


PROVIDER: Final = Provider(
    name=NAME,
    title="Napster Companion API",
    settings=CompanionSettings,
    open=_open,
    with_neutral=with_neutral,
    abilities=ABILITIES,
    formats="linear 16 bit, 16 kHz, both ways (no G.711: converted here)",
    warnings=warnings,
    misfits=misfits,
    embedded=lambda port: CompanionSettings.model_validate(
        {
            "url": f"http://127.0.0.1:{port}",
            "companionId": "telbridge-local",
            "providerConfig": {"voiceId": "alloy"},
            "tool_ids": {"hang_up": "hang_up"},
        }
    ),
    refusals=refusals,
)
