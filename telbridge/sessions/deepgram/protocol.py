"""Deepgram Voice Agent (V1) as a value machine: JSON in text frames, audio in binary ones, both ways.

Sources: developers.deepgram.com/docs/voice-agent-message-flow, /docs/voice-agent-settings,
/docs/voice-agent-inject-agent-message, /docs/agent-keep-alive, /docs/voice-agent-errors-warnings; the typed
models of `deepgram-sdk` 7.17.0; live observations published by others (deepgram/skills;
plivo/python-agents-examples), marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentError,
    AgentEvent,
    AgentLatency,
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
    ToolCallCancelled,
    Unknown,
    UpdateRefused,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest, Opening, ProtocolDefaults
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.deepgram import verdicts as verdicts
from telbridge.sessions.deepgram.access import Access
from telbridge.sessions.deepgram.asks import NOT_THE_CALLER, Asks, FunctionCalls
from telbridge.sessions.deepgram.configuration import Carried, Configuration
from telbridge.sessions.deepgram.neutral import ABILITIES, misfits, warnings, with_neutral
from telbridge.sessions.deepgram.replies import Replies, TurnFigures
from telbridge.sessions.deepgram.settings import NAME, DeepgramSettings
from telbridge.sessions.deepgram.updates import ACKS
from telbridge.sessions.provider import Provider, refuse_locked_neutral, refuse_misfits
from telbridge.sessions.wire import Malformed, optional_text, parse, text

BEAT_NS: Final = 4_000_000_000
"""Silence of ours that ends a beat is told by KeepAlive: so at most 8 s pass, as the vendor asks."""
EXPIRY_WARNING_S: Final = 300.0
"""MAXIMUM_SESSION_LENGTH_APPROACHING comes 5 minutes before the end (2 hours)."""
SURVIVED_NS: Final = 10_000_000_000
"""A session that goes on so long after an Error has survived it; what was under way comes sooner."""
_MOST_NAME: Final = 100

_QUIET: Final = (
    "History",
    # The result of a function that Deepgram called itself, or our own one back.
    "FunctionCallResponse",
    "FrustrationDetected",
    "__customFromThinkProvider",
)
"""Types that tell a call nothing."""


class State(Enum):
    """Of the session."""

    CONNECTING = "connecting"
    """Nothing may be sent before Welcome."""
    CONFIGURING = "configuring"
    """Settings are under way: no audio, nothing else."""
    READY = "ready"


class DeepgramVoiceAgent(ProtocolDefaults):
    """One session with the Deepgram Voice Agent API. See `AgentProtocol` for each method."""

    uplink_is_text = False

    def __init__(self, settings: DeepgramSettings, opening: Opening, carried: Carried | None = None) -> None:
        """SecretMissing if a secret is not where the settings say."""
        before = carried or Carried()
        self._opening, self._said_before = opening, before.said
        self._configuration = Configuration(settings, opening)
        self._up, self._down = self._configuration.formats
        self._access = Access(settings, opening.environ)
        self._state = State.CONNECTING
        self._greeting, self._greeted = before.greeting, before.greeted
        self._follows_a_greeting = before.greeted
        self._asks = Asks(before.injections, before.notes)
        self._untold = self._configuration.first_notes(before.said, before.notes)
        self._calls = FunctionCalls()
        self._replies = Replies(self._down.sample_bytes, before.last_reply)
        self._figures = TurnFigures()
        self._news = before.updates
        self._caller_speaks = False
        self._error, self._error_ns = "", 0
        self._request_id = ""
        self._now_ns = 0
        self._beat_ns = 0
        self._uplink_flows = False
        self._audible_ms = 0.0
        self._handlers = self._make_handlers()

    @property
    def uplink_format(self) -> AudioFormat:
        return self._up

    @property
    def downlink_format(self) -> AudioFormat:
        return self._down

    # ------------------------------------------------------------ opening

    def next_step(self) -> ConnectRequest | HttpRequest | SessionEnd:
        return self._access.next_step()

    def http_answered(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        self._access.answered(status, body)

    # ------------------------------------------------------------ to the API

    def audio(self, frame: bytes) -> bytes | None:
        """Untouched. Where the caller may not interrupt, silence while the agent is heard: the API has
        no switch for it. The uplink's own pace tells how much of the agent's audio is still to be heard."""
        if self._state is not State.READY:
            return None
        self._uplink_flows = True
        if self._audible_ms > 0:
            self._audible_ms -= self._up.ms_in(len(frame))
            if not self._configuration.settings.barge_in:
                return self._up.silence(self._up.samples_in(len(frame)))
        return frame

    def greet(self, greeting: Greeting) -> None:
        """Verbatim: spoken by the voice itself, past the model. Otherwise the text reaches the model as a
        user's turn. Either way it replaces the greeting of the settings."""
        if greeting.is_default and self._configuration.greets:
            return
        if not greeting.verbatim:
            self._greeted = True
            self._ask(f"The call has just been connected. {greeting.text}")
        elif self._state is State.CONNECTING and not self._configuration.is_stored:
            self._greeting = greeting.text
        else:
            self.say(greeting.text)

    def say(self, text: str) -> None:
        """Behind what the agent is saying; refused while the caller speaks, and then said all the same.
        Where the reply was cut here, the API, which knows nothing of it, is made to stop."""
        cut_here = self._replies.is_gated(self._now_ns)
        self._asks.say(text, interrupt=cut_here)
        if cut_here:
            self._replies.spoken_over(self._now_ns)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        """The API answers every injected user message; what wants no answer is added to the prompt."""
        if role is TextRole.CALLER:
            self._asks.inject_user(text) if respond else self._note(f"The caller: {text}")
        elif respond:
            self._ask(text)
        else:
            self._note(text)

    def request_reply(self, instructions: str | None) -> None:
        """While the caller speaks, Flux can be told that the turn is over; else the model is prodded."""
        if instructions is None and self._caller_speaks and self._configuration.turns_can_be_ended:
            self._asks.send({"type": "ForceEndTurn"})
        else:
            self._ask(f"Answer now. {instructions}" if instructions else "The caller waits. Go on.")

    def _ask(self, words: str) -> None:
        self._asks.inject_user(NOT_THE_CALLER + words)

    def _note(self, note: str) -> None:
        """For the agent to know: with the Settings if they are still to come, else behind the prompt."""
        self._asks.notes.append(note)
        if self._state is State.READY:
            self._asks.append_prompt(note)
        elif self._configuration.is_stored or self._state is State.CONFIGURING:
            self._untold.append(note)

    def interrupt(self) -> None:
        """Drops the rest of the reply; the API has no message that would stop it."""
        self._replies.cut_by_us()
        self._audible_ms = 0.0

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool) -> None:
        answer = self._calls.answer(tool_call_id, output, failed=failed)
        if answer is not None:
            self._asks.send(answer)

    def report_heard(self, heard: Sequence[Heard]) -> None:
        """The API takes no such report."""

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        spoken = self._replies.last_id > 0
        refuse_locked_neutral(PROVIDER, neutral, spoken=spoken)
        refuse_misfits(PROVIDER, neutral, self._configuration.settings)
        wanted = self._configuration.change(
            neutral,
            vendor,
            spoken=spoken,
            notes=self._asks.notes,
            settled=not self._asks.updates_under_way(),
        )
        # Before Welcome the change is in the Settings to come; what is ours alone needs no message.
        if wanted and (self._configuration.is_stored or self._state is not State.CONNECTING):
            self._asks.update(wanted)
        else:
            self._news += 1

    def data_to_send(self) -> list[str | bytes]:
        return self._asks.data_to_send()

    def deadline_ns(self) -> int | None:
        if self._state is not State.READY:
            return None
        return 0 if self._news else self._beat_ns

    def time_passed(self, *, now_ns: int) -> list[AgentEvent]:
        if self._state is not State.READY:
            return []
        self._now_ns = now_ns
        if now_ns >= self._beat_ns:
            if not self._uplink_flows:
                self._asks.write({"type": "KeepAlive"})
            self._uplink_flows = False
            self._beat_ns = now_ns + BEAT_NS
        news, self._news = self._news, 0
        return [SessionUpdated(now_ns)] * news

    # ------------------------------------------------------------ from the API

    def receive(self, message: str | bytes, *, now_ns: int) -> list[AgentEvent]:
        self._now_ns = now_ns
        if isinstance(message, bytes):
            return self._on_audio(message, now_ns)
        try:
            fields = parse(message)
            kind = text(fields, "type")
        except Malformed as fault:
            return [BadMessage(str(fault))]
        handler = self._handlers.get(kind)
        if handler is None:
            return [Unknown(kind[:_MOST_NAME])]
        try:
            return handler(fields, now_ns)
        except Malformed as fault:
            return [BadMessage(f"{kind}: {fault}")]

    def _make_handlers(self) -> dict[str, Callable[[Json, int], list[AgentEvent]]]:
        handlers: dict[str, Callable[[Json, int], list[AgentEvent]]] = dict.fromkeys(_QUIET, _nothing)
        handlers |= dict.fromkeys(ACKS, self._on_ack)
        return handlers | {
            "Welcome": self._on_welcome,
            "SettingsApplied": self._on_settings_applied,
            "ConversationText": self._on_conversation_text,
            "UserStartedSpeaking": self._on_user_started,
            # Not in the vendor's pages: seen live with Flux.
            "EndOfTurn": self._on_end_of_turn,
            "AgentThinking": self._on_agent_thinking,
            "AgentStartedSpeaking": self._on_agent_started,
            "AgentAudioDone": self._on_audio_done,
            "LatencyReport": self._on_latency,
            "FunctionCallRequest": self._on_function_calls,
            "FunctionCallCancelled": self._on_function_calls_cancelled,
            "InjectionRefused": self._on_injection_refused,
            "Warning": self._on_warning,
            "Error": self._on_error,
        }

    def _on_welcome(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        if self._state is not State.CONNECTING:
            raise Malformed(f"while {self._state.value}")
        self._request_id = (optional_text(fields, "request_id") or "")[:_MOST_NAME]
        self._state = State.CONFIGURING
        self._asks.write(
            self._configuration.first_message(
                greeting=self._greeting,
                greeted=self._greeted,
                said=self._said_before,
                notes=self._asks.notes,
            )
        )
        return []

    def _on_settings_applied(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        if self._state is not State.CONFIGURING:
            raise Malformed(f"while {self._state.value}")
        self._state = State.READY
        self._beat_ns = now_ns + BEAT_NS
        self._asks.ready(self._untold)
        if self._follows_a_greeting and self._configuration.is_stored:
            self._replies.mute_greeting()  # Its own, which no field can leave out.
        return [SessionReady(now_ns)]

    def _on_audio(self, octets: bytes, now_ns: int) -> list[AgentEvent]:
        if self._state is not State.READY:
            return [BadMessage(f"audio while {self._state.value}")]
        events = self._replies.audio(octets, now_ns)
        if events:
            self._audible_ms += self._down.ms_in(len(octets))
        return events

    def _on_conversation_text(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        role, words = text(fields, "role"), text(fields, "content")
        self._goes_on(now_ns)
        if role == "assistant":
            self._asks.spoken(words)
            return self._replies.says(words, now_ns)
        if role != "user":
            raise Malformed("`role` is neither user nor assistant")
        self._replies.turn_goes_on()
        if self._asks.is_echo(words):
            return []
        return [*self._caller_stops(now_ns), CallerTranscript(words)]

    def _goes_on(self, now_ns: int) -> None:
        if now_ns - self._error_ns >= SURVIVED_NS:
            self._error = ""

    def _on_user_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """The API has stopped by itself whatever it was saying."""
        self._caller_speaks = True
        self._goes_on(now_ns)
        interrupts = self._configuration.settings.barge_in
        if interrupts:
            self._audible_ms = 0.0
        return [
            CallerStartedSpeaking(now_ns, interrupts),
            *self._replies.cut_by_caller(now_ns, rest_is_heard=not interrupts),
            *_latency(self._figures.take()),
        ]

    def _on_end_of_turn(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._replies.turn_goes_on()
        return self._caller_stops(now_ns)

    def _caller_stops(self, now_ns: int) -> list[AgentEvent]:
        """Once a turn: by EndOfTurn with Flux, by the transcript with Nova."""
        spoke, self._caller_speaks = self._caller_speaks, False
        return [CallerStoppedSpeaking(now_ns)] if spoke else []

    def _on_agent_thinking(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._replies.turn_goes_on()
        return []

    def _on_agent_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._replies.turn_goes_on()
        return self._on_latency(fields, now_ns)

    def _on_audio_done(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        ended = self._replies.audio_done()
        if ended:
            self._figures.answer_sent()
        return [*ended, *_latency(self._figures.complete())]

    def _on_latency(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._figures.add(fields)
        return _latency(self._figures.complete())

    def _on_function_calls(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._replies.turn_goes_on()
        return list(self._calls.requested(fields))

    def _on_function_calls_cancelled(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [ToolCallCancelled(call_id) for call_id in self._calls.cancelled(fields)]

    def _on_ack(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return [SessionUpdated(now_ns)] if self._asks.acknowledged(text(fields, "type")) else []

    def _on_injection_refused(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """The caller was speaking. What must be said is said over it, which is never refused."""
        if self._asks.retry_refused():
            self._replies.spoken_over(now_ns)
            return []
        return [AgentWarning("InjectionRefused", optional_text(fields, "message") or "")]

    def _on_warning(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        code, message = _complaint(fields)
        if code == "MAXIMUM_SESSION_LENGTH_APPROACHING":
            return [SessionExpiring(EXPIRY_WARNING_S, of_age=True)]
        return [AgentWarning(code, message)]

    def _on_error(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """By the vendor's pages the socket is closed soon after. If the code blames us, a change under way
        is taken for the cause and taken back: what was there before it can be carried on. Before the
        session is ready it is our configuration."""
        code, message = _complaint(fields)
        self._error, self._error_ns = code, now_ns
        ready = self._state is State.READY
        refused: list[AgentEvent] = []
        if ready and code in verdicts.MISCONFIGURED and (under_way := self._asks.updates_under_way()):
            self._error = f"update refused: {code}"
            self._configuration.take_back()
            self._asks.forget_updates()
            refused = [UpdateRefused(code, message)] * under_way
        at_setup = not ready and not verdicts.may_be_retried(code)
        return [*refused, AgentError(code, message, at_setup=at_setup)]

    # ------------------------------------------------------------ the end

    def closed(self, code: int | None, reason: str) -> SessionEnd:
        if self._request_id:
            reason = f"{reason} (request {self._request_id})".strip()
        return verdicts.of_close(code, reason, error=self._error, ready=self._state is State.READY)

    def refused(self, status: int) -> SessionEnd:
        return verdicts.judged_status(status)

    def successor(self, said: Sequence[Said]) -> DeepgramVoiceAgent | None:
        """A new session that is told what was said. The greeting is spoken again only if this session
        never got so far as to speak it."""
        unheard = self._state is not State.READY
        carried = Carried(
            said=tuple(one for one in said if one.text),
            notes=tuple(self._asks.notes),
            injections=self._asks.injections_held() if unheard else (),
            greeting=self._greeting if unheard else None,
            greeted=self._greeted or not unheard,
            last_reply=self._replies.last_id,
            updates=self._news + self._asks.updates_under_way(),
        )
        try:
            return DeepgramVoiceAgent(self._configuration.settings, self._opening, carried)
        except SecretMissing:  # A file that was there at the start.
            return None


def _nothing(fields: Json, now_ns: int) -> list[AgentEvent]:
    return []


def _latency(figures_ms: Mapping[str, float]) -> list[AgentEvent]:
    return [AgentLatency(figures_ms)] if figures_ms else []


def _complaint(fields: Json) -> tuple[str, str]:
    """Code and description of a Warning or Error; the second names have been met as well."""
    code = optional_text(fields, "code") or optional_text(fields, "err_code") or "unknown"
    message = optional_text(fields, "description") or optional_text(fields, "err_msg") or ""
    return code[:_MOST_NAME], message


PROVIDER: Final = Provider(
    name=NAME,
    title="Deepgram Voice Agent (V1)",
    settings=DeepgramSettings,
    open=DeepgramVoiceAgent,
    with_neutral=with_neutral,
    abilities=ABILITIES,
    formats="G.711 μ-law or A-law at 8 kHz both ways, untouched; linear PCM at 8 to 48 kHz",
    warnings=warnings,
    misfits=misfits,
    embedded=lambda port: DeepgramSettings(url=f"ws://127.0.0.1:{port}/v1/agent/converse"),
)
