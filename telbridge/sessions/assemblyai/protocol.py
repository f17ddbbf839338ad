"""AssemblyAI Voice Agent API as a value machine.

Pages (assemblyai.com/docs/voice-agents/voice-agent-api): events-reference, message-sequence,
session-configuration, audio-format, turn-detection-and-interruptions, tools/client-side-tools,
troubleshooting; the AsyncAPI file assemblyai.com/docs/api-reference/specs/voice-agent-api.yaml. Where live
sessions that others published differ from the pages, both readings are understood.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentError,
    AgentEvent,
    AgentWarning,
    BadMessage,
    Said,
    SessionEnd,
    SessionReady,
    SessionUpdated,
    Unknown,
    UpdateRefused,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.assemblyai import faults as faults
from telbridge.sessions.assemblyai.door import Door
from telbridge.sessions.assemblyai.lifetime import Lifetime
from telbridge.sessions.assemblyai.neutral import ABILITIES, misfits, neutral_changes, with_neutral
from telbridge.sessions.assemblyai.prompt import Prompt, exactly, learnt, written
from telbridge.sessions.assemblyai.settings import (
    FORMATS,
    AssemblyAISettings,
    chosen_format,
    refusals,
    warnings,
)
from telbridge.sessions.assemblyai.talk import Handler, Talk
from telbridge.sessions.assemblyai.updates import Configuration
from telbridge.sessions.base import ConnectRequest, HttpRequest, Opening, ProtocolDefaults
from telbridge.sessions.provider import Provider, deep_merged, refuse_locked_neutral, refuse_misfits
from telbridge.sessions.wire import Malformed, optional_table, optional_text, parse, text

_APPEND_HEAD: Final = b'{"type":"input.audio","audio":"'
_APPEND_TAIL: Final = b'"}'

RESUME_WITHIN_NS: Final = 30_000_000_000
"""The API keeps a session so long after its connection broke."""

_MOST_NAME: Final = 100
"""Of a name we do not know: it may become a log field, and a stranger chose its length."""


class AssemblyAIVoiceAgent(ProtocolDefaults):
    """One session with the AssemblyAI Voice Agent API. See `AgentProtocol` for each method's contract."""

    uplink_is_text = True

    def __init__(
        self, settings: AssemblyAISettings, opening: Opening, *, before: AssemblyAIVoiceAgent | None = None
    ) -> None:
        """`before`: the protocol whose connection broke. SecretMissing if there is no key."""
        self._opening = opening
        self._door = Door(settings, opening.environ)
        self._uplink = chosen_format(settings, settings.input.format, opening.wire_format)
        self._downlink = chosen_format(settings, settings.output.format, opening.wire_format)
        self._configuration = Configuration(settings, Prompt(), opening.environ)
        self._fate = faults.Fate()
        self._end: SessionEnd | None = None
        self._talk = Talk(
            self._downlink,
            flush_on_speech_started=settings.flush_on_speech_started,
            results_at_once=settings.tool_results == "at_once",
        )
        self._greeting = settings.greeting
        self._greeting_asked = False
        self._resume_id: str | None = None
        self._session_id: str | None = None
        self._spoken_to = False
        """The first message is out."""
        self._now_ns = 0
        self._lost_ns = 0
        self._lifetime = Lifetime()
        self._held: list[Json] = []
        self._held_changes: list[Json] = []
        self._new_notes: list[str] = []
        self._out: list[str | bytes] = []
        self._before: Configuration | None = None
        self._untold = 0
        """Updates of the connections before of which somebody still waits to be told."""
        if before is not None:
            self._inherit(before)
        self._handlers: Final[Mapping[str, Handler]] = {
            "session.ready": self._on_ready,
            "session.updated": self._on_updated,
            "session.ended": self._on_ended,
            "session.error": self._on_error,
            # Of servers before the public launch.
            "error": self._on_error,
            **self._talk.handlers,
        }

    def _inherit(self, before: AssemblyAIVoiceAgent) -> None:
        self._talk = before._talk
        self._configuration.prompt = before._configuration.prompt.kept()
        self._before = before._configuration
        self._untold = before._untold + self._before.unanswered
        self._lost_ns = self._now_ns = before._now_ns
        self._fate.ever_ready = before._fate.ready or before._fate.ever_ready
        # What was never spoken still is to be.
        self._greeting = None if self._fate.ever_ready else before._greeting
        self._greeting_asked = before._greeting_asked and not self._fate.ever_ready
        lives = before._fate.ready and not before._fate.fault and not before._lifetime.is_ending
        if lives and self._settings.resume:
            self._resume_id = before._session_id
        self._held = [*before._held]

    @property
    def uplink_format(self) -> AudioFormat:
        return self._uplink

    @property
    def downlink_format(self) -> AudioFormat:
        return self._downlink

    @property
    def _settings(self) -> AssemblyAISettings:
        return self._configuration.settings

    # ------------------------------------------------------------ opening

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        step = self._door.next_step()
        if isinstance(step, SessionEnd):
            self._end = step
        return step

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        self._door.answered(status, body)

    def connected(self, *, now_ns: int) -> None:
        """At once: the API waits for us, and drops what comes before this."""
        self._now_ns = now_ns
        self._spoken_to = True
        if self._resume_id is not None and now_ns - self._lost_ns <= RESUME_WITHIN_NS:
            self._fate.resuming = True
            self._write({"type": "session.resume", "session_id": self._resume_id})
            return
        session = self._configuration.first(self._uplink, self._downlink, self._greeting)
        if self._settings.agent_id is None:
            self._new_notes.clear()  # They stand in the prompt.
        self._talk.learn(session)
        self._send_session(session)

    def greet(self, greeting: Greeting) -> None:
        """Replaces the one among the settings. A stored agent's own cannot be changed: ours, sent at
        session.ready, replaces it, says the vendor's SDK."""
        if greeting.is_default and self._greeting is not None:
            return
        if not greeting.verbatim:
            self._greeting = None
            self._ask_greeting(f"The call has just been connected. {greeting.text}")
        elif self._spoken_to or self._settings.agent_id is not None:
            self._ask_greeting(exactly(greeting.text))
        else:
            self._greeting = greeting.text

    def _ask_greeting(self, instructions: str) -> None:
        self._greeting_asked = True
        self.request_reply(instructions)

    # ------------------------------------------------------------ to the API

    def audio(self, frame: bytes) -> bytes | None:
        """None until session.ready: the API drops it."""
        if not self._is_ready():
            return None
        return _APPEND_HEAD + binascii.b2a_base64(frame, newline=False) + _APPEND_TAIL

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        """The documented message alone would not do: the vendor's own model was seen not to read it."""
        if role is TextRole.CALLER:
            self._send({"type": "conversation.message", "role": "user", "content": text})
            if respond:
                self.request_reply(written(text))
            else:
                self._note(f"The caller has sent as text: {text}")
        else:
            self._note(text)
            if respond:
                self.request_reply(learnt(text))

    def say(self, text: str) -> None:
        self.request_reply(exactly(text))

    def request_reply(self, instructions: str | None) -> None:
        self._talk.queue.ask(instructions)
        self._send_due()

    def interrupt(self) -> None:
        self._talk.interrupt()

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None:
        self._talk.tool_result(tool_call_id, output, failed=failed)
        self._send_due()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """The API works out itself what was spoken."""

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        if self._fate.refused or self._fate.ended:
            return
        refuse_locked_neutral(PROVIDER, neutral, spoken=True)
        refuse_misfits(PROVIDER, neutral, self._settings)
        changes = deep_merged(neutral_changes(neutral), vendor)
        self._configuration.ask(changes, ready=self._is_ready())
        if self._is_ready():
            self._send_session(self._configuration.message(changes))
        else:
            self._held_changes.append(changes)

    def _note(self, words: str) -> None:
        """For the agent to know for the rest of the call."""
        self._configuration.prompt.notes.append(words)
        self._new_notes.append(words)
        if self._is_ready():
            self._send_notes()

    def _send_notes(self) -> None:
        """In the prompt; where that is a stored agent's own, unknown to us, as messages."""
        notes, self._new_notes = self._new_notes, []
        prompt = self._configuration.prompt_to_send() if notes else {}
        if prompt:
            self._send_by_ourselves(prompt)
            return
        for words in notes:
            self._send({"type": "conversation.message", "role": "system", "content": words})

    def _send_by_ourselves(self, session: Json, *, told: int = 0) -> None:
        """An update of our own making. `told`: it stands for so many whose answers were lost."""
        if session:
            self._configuration.ask_by_ourselves(told=told)
            self._send_session(session)

    def _send_session(self, session: Json) -> None:
        self._write({"type": "session.update", "session": session})

    def _send_due(self) -> None:
        if self._is_ready():
            for message in self._talk.messages():
                self._write(message)

    def _send(self, message: Json) -> None:
        """At once, or when the session is ready."""
        if self._is_ready():
            self._write(message)
        else:
            self._held.append(message)

    def _write(self, message: Json) -> None:
        self._out.append(json.dumps(message, separators=(",", ":")))

    def _is_ready(self) -> bool:
        return self._fate.ready and not self._fate.ended

    def data_to_send(self) -> list[str | bytes]:
        out, self._out = self._out, []
        return out

    # ------------------------------------------------------------ from the API

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        self._now_ns = now_ns
        try:
            fields = parse(message)
            kind = _kind(fields)
        except Malformed as fault:
            return [BadMessage(str(fault))]
        if self._fate.refused:
            return []  # It will close; nothing of it is ours.
        handler = self._handlers.get(kind)
        if handler is None:
            return [Unknown(kind[:_MOST_NAME])]
        try:
            events = handler(fields, now_ns)
        except Malformed as fault:
            return [BadMessage(f"{kind}: {fault}")]
        self._send_due()
        return events

    def _on_ready(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        config = optional_table(fields, "config")
        if self._fate.ready:
            self._talk.learn(config)
            return []
        if fault := self._format_fault(config):
            return self._refuse("format_not_taken", fault)
        resumed, self._fate.resuming = self._fate.resuming, False
        self._fate.ready, self._fate.fault = True, ""
        self._session_id = optional_text(fields, "session_id")
        self._talk.learn(config)
        self._lifetime.begin(fields, now_ns)
        events: list[AgentEvent] = [SessionReady(now_ns, resumed)]
        if not resumed and self._settings.agent_id is not None:
            self._configuration.prompt.stored = optional_text(config, "system_prompt")
        for changes in self._held_changes:  # First: answers are told by their order.
            self._send_session(self._configuration.message(changes))
        self._held_changes.clear()
        events += self._go_on() if resumed else self._begin(config)
        self._send_held()
        return events + self._lifetime.time_passed(now_ns)

    def _go_on(self) -> list[AgentEvent]:
        """The old session knows the conversation; of an update that was under way it may not."""
        if self._before is not None:
            self._configuration.prompt = self._before.prompt
            if self._before.in_doubt:
                told, self._untold = self._untold, 0
                self._send_by_ourselves(self._configuration.changeable(), told=told)
        return []

    def _begin(self, config: Json) -> list[AgentEvent]:
        """A session that has not spoken yet."""
        events: list[AgentEvent] = []
        if self._before is not None:
            events += self._talk.lost()
            # What was asked for stands in the first update of this session.
            events += [SessionUpdated(self._now_ns)] * self._untold
            self._untold = 0
        greets = self._greeting is not None or optional_text(config, "greeting")
        if greets and not self._greeting_asked:
            self._talk.queue.expect_reply()
            self._talk.mute_next = self._fate.ever_ready and self._greeting is None
        if self._settings.agent_id is not None:
            changes = self._configuration.changeable()
            if "system_prompt" in changes:
                self._new_notes.clear()
            self._send_by_ourselves(changes)
        return events

    def _send_held(self) -> None:
        self._send_notes()
        for message in self._held:
            self._write(message)
        self._held.clear()

    def _format_fault(self, config: Json) -> str:
        """The whole configuration comes back. Another format than ours would be noise at full volume."""
        for way, ours in (("input", self._uplink), ("output", self._downlink)):
            told = optional_table(optional_table(config, way), "format")
            taken = optional_text(told, "encoding")
            rate_hz = told.get("sample_rate")
            if taken is not None and (FORMATS.get(taken) != ours or rate_hz not in (None, ours.rate_hz)):
                return f"the session has {way}.format {taken[:_MOST_NAME]}, not {ours}: write what it has"
        return ""

    def _on_updated(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Before session.ready it is the answer to the first update."""
        change = self._configuration.answered(taken=True) if self._fate.ready else None
        if change is not None:
            self._talk.learn(change.changes)
        self._talk.learn(optional_table(fields, "config"))
        return [] if change is None else [SessionUpdated(now_ns)] * change.asked

    def _on_ended(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._fate.ended = True
        return []

    def _on_error(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        error = fields if "code" in fields else optional_table(fields, "error")
        code = (optional_text(error, "code") or "unknown")[:_MOST_NAME].lower()
        message = optional_text(error, "message") or ""
        if code in faults.AUDIO:
            return [AgentWarning(code, message)]
        if not self._fate.ready:
            return self._fail_at_setup(code, message, optional_text(error, "param"))
        if code in faults.FATAL:
            self._fate.fault = code
            return [AgentError(code, message)]
        if faults.is_of_an_update(code, message):
            change = self._configuration.answered(taken=False)
            if change is not None:
                refused: list[AgentEvent] = [UpdateRefused(code, message)] * change.asked
                return refused or [AgentWarning(code, message)]
        self._talk.queue.refused()
        return [AgentError(code, message)]

    def _fail_at_setup(self, code: str, message: str, param: str | None) -> list[AgentEvent]:
        """A resumption that fails, and a server without room, leave the next connection its chance; any
        other refusal is final, closed or not."""
        if self._fate.resuming and code not in faults.KEY | faults.RETRY:
            self._fate.fault = code if code in faults.RESUME else "session_not_found"
            return [AgentWarning(code, message)]
        if code in faults.RETRY:
            self._fate.fault = code
            return [AgentError(code, message)]
        return self._refuse(f"{code} ({param[:_MOST_NAME]})" if param else code, message)

    def _refuse(self, code: str, message: str) -> list[AgentEvent]:
        self._fate.refused, self._fate.fault = True, code
        return [AgentError(code, message, at_setup=True)]

    # ------------------------------------------------------------ time

    def deadline_ns(self) -> int | None:
        if not self._is_ready():
            return None
        due = (self._lifetime.deadline_ns(), self._talk.queue.deadline_ns(self._now_ns))
        return min((one for one in due if one is not None), default=None)

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        self._now_ns = now_ns
        self._talk.queue.time_passed(now_ns)
        self._send_due()
        return self._lifetime.time_passed(now_ns)

    # ------------------------------------------------------------ the end

    def say_goodbye(self) -> bool:
        """session.end: without it the API keeps the session, billed, for 30 s."""
        if not self._spoken_to or self._fate.refused or self._fate.ended:
            return False
        self._write({"type": "session.end"})
        self._fate.ended = True
        return True

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        self._end = self._fate.judged(code, reason)
        return self._end

    def refused(self, status: int) -> SessionEnd:
        self._end = faults.judged_status(status, "instead of a WebSocket")
        return self._end

    def successor(self, said: Sequence[Said]) -> AssemblyAIVoiceAgent | None:
        """session.resume first, if the session was ready and no error ended it; else, and after a resumption
        that failed, a new session with the conversation in its prompt."""
        if self._end is not None and not self._end.may_reconnect:
            return None
        following = AssemblyAIVoiceAgent(self._settings, self._opening, before=self)
        following._configuration.prompt.retell(said)
        return following


def _kind(fields: Json) -> str:
    """Some servers sent errors without a type."""
    if "type" not in fields and isinstance(fields.get("code"), str):
        return "session.error"
    return text(fields, "type")


def _open(settings: AssemblyAISettings, opening: Opening) -> AssemblyAIVoiceAgent:
    return AssemblyAIVoiceAgent(settings, opening)


PROVIDER: Final = Provider(
    name="assemblyai",
    title="AssemblyAI Voice Agent",
    settings=AssemblyAISettings,
    open=_open,
    with_neutral=with_neutral,
    abilities=ABILITIES,
    formats="G.711 μ-law or A-law untouched, or PCM 24 kHz; each way its own",
    warnings=warnings,
    misfits=misfits,
    embedded=lambda port: AssemblyAISettings(url=f"ws://127.0.0.1:{port}/v1/ws"),
    refusals=refusals,
)
