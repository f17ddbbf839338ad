"""Deepgram's Voice Agent (V1), seen from the server's side: messages in, brain events out, messages out.

Sans-IO: no socket, no clock, no task. Sources: developers.deepgram.com/docs/voice-agent-message-flow for the
order of messages, the page of each message beside it, and calls with the live service that others have
published. An `Error` always ends the session; what the service lets pass is at most a `Warning`.
"""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, assert_never

from telbridge.agent.events import (
    AudioIn,
    BrainEvent,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    TextIn,
    ToolResult,
    TurnCommitted,
    TurnId,
)
from telbridge.agent.facade import Updates
from telbridge.agent.facades.deepgram import refusal as refusals
from telbridge.agent.facades.deepgram import schema as schema
from telbridge.agent.facades.deepgram.audio import CallerAudio, wave_header
from telbridge.agent.facades.deepgram.calls import Calls
from telbridge.agent.facades.deepgram.outbox import FRAME_MS, Clock, Outbox, wrong_messages
from telbridge.agent.facades.deepgram.patience import Patience
from telbridge.agent.facades.deepgram.refusal import Refusal, RefusedError, invalid
from telbridge.agent.facades.deepgram.session import Configuration
from telbridge.audio.formats import PCMU_8K, AudioFormat

CLIENT_TIMEOUT_MS: Final = 10_000
"""Unconfirmed: clients are told to send KeepAlive every 8 s; reports of the time-out say 10, 15 and 60 s."""
LATE_FRAMES: Final = 2
SLOW_THINK_NS: Final = 5_000_000_000
# The live service closes without a code (1005 at the client), which the shell cannot; 1000 is what comes
# nearest: to a WebSocket library both are an orderly end.
CLOSE: Final = (1000, "")
NOT_UNDERSTOOD: Final = "The user could not be understood."


@dataclass(slots=True)
class _Reply:
    """The open reply."""

    id: ReplyId
    exact: str | None = None
    """The very words, where the client gave them; told once, whatever the brain says it says."""
    told: bool = False
    spoke: bool = False
    last: bytes = b""
    """The latest audio of it."""
    asked_ns: int | None = None
    """When the brain was asked; None once it has said anything, and where nobody asked."""
    warned: int = 0


class DeepgramFacade:
    """One session of the service."""

    def __init__(
        self,
        *,
        session_id: str,
        silence_ms: int = 500,
        updates: Updates = Updates.ANSWER,
        now_ns: int = 0,
        ends_ns: int | None = None,
        client_timeout_ms: int = CLIENT_TIMEOUT_MS,
        late_frames: int = LATE_FRAMES,
    ) -> None:
        """`session_id`: a few characters that no other session has. `ends_ns`: when the longest session is
        over, for the warning before it. `client_timeout_ms`: the longest that a client may be silent.
        `late_frames`: frames of 20 ms that still arrive of an interrupted reply."""
        self._key = session_id
        self._silence_ms = silence_ms
        self._updates = updates
        self._late_frames = late_frames
        self._now_ns = now_ns
        self._patience = Patience(now_ns, client_timeout_ms, ends_ns)
        self._config: Configuration | None = None
        self._caller = CallerAudio(PCMU_8K)
        self._outbox = Outbox()
        self._clock = Clock()
        self._count = 0
        self._reply: _Reply | None = None
        self._owed: deque[str | None] = deque()
        """Replies to come once nobody speaks: very words, or None for an answer."""
        self._calls = Calls(self._outbox)
        self._turn: TurnId | None = None
        self._turn_unheard = False
        """The caller began to speak and the client knows of no end of it."""
        self._detection_paused = False
        self._outbox.send("Welcome", request_id=f"{session_id:0>8}-0000-4000-8000-000000000000")

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
        return CLOSE if self._outbox.closed else None

    def receive(self, message: str | bytes, *, now_ns: int) -> list[BrainEvent]:
        """One whole WebSocket message. Never raises for what a client sends."""
        if self._outbox.closed:
            return []
        self._now_ns = now_ns
        self._patience.heard(now_ns)
        try:
            if isinstance(message, bytes):
                return self._audio(message)
            return self._handle(schema.parse(message))
        except RefusedError as refused:
            self._fail(refused.refusal)
            return []

    def configured(self, *, by_client: bool) -> Configured | None:
        """None before `Settings`: the service waits for them and has no defaults."""
        return self._config.configured() if self._config is not None else None

    def deadline_ns(self) -> int | None:
        if self._outbox.closed:
            return None
        if self._may_pay():
            return self._now_ns
        deadline_ns, slow_ns = self._patience.deadline_ns(), self._slow_at_ns()
        return deadline_ns if slow_ns is None else min(deadline_ns, slow_ns)

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]:
        if self._outbox.closed:
            return []
        self._now_ns = max(self._now_ns, now_ns)
        if self._patience.is_over(now_ns):
            before = self._config is None
            self._fail(refusals.SILENT_BEFORE_SETTINGS if before else refusals.SILENT_CLIENT)
            return []
        if self._patience.end_is_near(now_ns):
            self._outbox.warn(refusals.SESSION_NEARLY_OVER)
        slow_ns, reply = self._slow_at_ns(), self._reply
        if slow_ns is not None and reply is not None and now_ns >= slow_ns:
            reply.warned += 1
            self._outbox.warn(refusals.SLOW_THINK)
        return self._pay() if self._may_pay() else []

    def expire(self) -> tuple[int, str]:
        """The session is over; close code and reason to send behind the error."""
        self._fail(refusals.SESSION_OVER)
        return CLOSE

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        return wrong_messages(misdeed, self._config.output if self._config is not None else PCMU_8K)

    # -- Line: what the brain does ----------------------------------------------------------------------

    def begin_reply(self) -> ReplyId | None:
        if self._reply is not None or self._outbox.closed or self._config is None:
            return None
        if None in self._owed:
            self._owed.remove(None)  # the brain has answered by itself
        return self._open(None).id

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        current = self._open_reply(reply)
        if current is None or not payload:
            return
        if not current.spoke:
            self._first_audio(current, payload)
        else:
            self._outbox.audio(payload)
        current.last = payload

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        self.audio(reply, b64decode(base64_text))

    def words(self, reply: ReplyId, text: str) -> None:
        current = self._open_reply(reply)
        if current is None or current.exact is not None or not text.strip():
            return
        self._first_sign(current)
        self._outbox.latency(**self._clock.text(self._now_ns))
        self._outbox.said("assistant", text.strip())

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._new_id("call")
        current, config = self._open_reply(reply), self._config
        if current is None or config is None:
            return call_id
        function = config.function(name)
        if function is None:
            self._fail(refusals.NO_SUCH_FUNCTION)
            return call_id
        current.asked_ns, self._turn_unheard = None, False
        self._outbox.latency(**self._clock.tool(self._now_ns))
        self._calls.request(call_id, function, arguments)
        return call_id

    def end_reply(self, reply: ReplyId) -> None:
        current = self._open_reply(reply)
        if current is None:
            return
        self._tell(current)
        self._reply = None
        if current.spoke or current.exact is not None:
            self._outbox.send("AgentAudioDone")

    def is_open(self, reply: ReplyId) -> bool:
        return self._open_reply(reply) is not None

    def speech_started(self, start_ms: int) -> None:
        self._turn = self._new_turn()
        self._turn_unheard = True
        self._owed.clear()
        self._outbox.send("UserStartedSpeaking")
        interrupted, self._reply = self._reply, None
        if interrupted is not None and self._config is not None and interrupted.last:
            frame = interrupted.last[-self._config.output.bytes_for_ms(FRAME_MS) :]
            for _ in range(self._late_frames):
                self._outbox.audio(frame)  # what was under way when the caller interrupted
        self._calls.cancel()

    def speech_stopped(self, end_ms: int) -> TurnId:
        turn = self._turn or self._new_turn()
        self._end_turn(self._config.turn_end_trigger if self._config is not None else "model")
        return turn

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        self._outbox.latency(**self._clock.transcribed(self._now_ns))
        if text.strip() and self._config is not None:
            self._turn_unheard = False
            self._outbox.said("user", text.strip(), **self._config.languages)

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        """The API has no idle time-out, so it has no message for it either."""
        return self._new_turn()

    # -- client messages ------------------------------------------------------------------------------

    def _handle(self, message: schema.ClientMessage) -> list[BrainEvent]:
        if isinstance(message, schema.Settings):
            return self._apply(message)
        config = self._config
        if config is None:
            return self._too_early()
        match message:
            case schema.KeepAlive() | schema.ToThinkProvider():
                return []
            case schema.InjectUserMessage():
                return self._inject_user(message.content, config)
            case schema.InjectAgentMessage():
                return self._inject_agent(message, config)
            case schema.FunctionCallResponse():
                return self._function_response(message)
            case schema.ForceEndTurn():
                return self._force_end_turn(config)
            case _:
                return self._update(message, config)

    def _apply(self, settings: schema.Settings) -> list[BrainEvent]:
        if self._config is not None:
            raise RefusedError(refusals.ALREADY_APPLIED)
        if not self._takes_updates():
            return []
        config = self._config = Configuration(settings, self._silence_ms)
        self._caller = CallerAudio(config.input)
        self._outbox.history = config.history
        self._outbox.send("SettingsApplied")
        if config.cuts_prompt:
            self._outbox.warn(refusals.PROMPT_TOO_LONG)
        greeting = config.greeting.strip()
        return [config.configured(), *(self._speak(greeting, config.output) if greeting else [])]

    def _too_early(self) -> list[BrainEvent]:
        if self._updates is Updates.IGNORE:
            return []  # the settings may have come, and stay without an answer
        raise RefusedError(refusals.BEFORE_SETTINGS)

    def _takes_updates(self) -> bool:
        """False: they stay without an answer."""
        if self._updates is Updates.REFUSE:
            raise invalid("This script refuses every configuration.")
        return self._updates is Updates.ANSWER

    def _update(self, update: schema.Update, config: Configuration) -> list[BrainEvent]:
        if not self._takes_updates():
            return []
        cut = False
        match update:
            case schema.UpdatePrompt():
                cut = config.add_prompt(update.prompt)
            case schema.UpdateThink():
                cut = config.replace_think(schema.chain_of(update.think))
            case schema.UpdateSpeak():
                config.replace_speak(schema.voices_of(update.speak))
            case schema.UpdateListen():
                if not config.update_listen(update.listen):
                    self._outbox.warn(refusals.CANNOT_UPDATE_LISTEN)
                    return []
            case _:
                assert_never(update)
        self._outbox.send(f"{update.type.removeprefix('Update')}Updated")
        if cut:
            self._outbox.warn(refusals.PROMPT_TOO_LONG)
        return [config.configured()]

    def _audio(self, payload: bytes) -> list[BrainEvent]:
        if self._config is None:
            return self._too_early()
        payload = self._caller.take(payload)
        if self._turn is not None and self._caller.report_due(len(payload)):
            self._outbox.latency(stt_latency=0.0)  # nothing stands between this audio and the ear
        return [AudioIn(payload)] if payload else []

    def _inject_user(self, text: str, config: Configuration) -> list[BrainEvent]:
        """A turn of the caller's without a voice: whatever is being said makes way for it."""
        events = self._cancel()
        self._calls.cancel()
        self._end_turn("manual")
        self._clock.transcribed(self._now_ns)
        self._turn_unheard = False
        self._outbox.said("user", text, **config.languages)
        self._owed.append(None)
        return [*events, TextIn(text, "user")]

    def _inject_agent(self, message: schema.InjectAgentMessage, config: Configuration) -> list[BrainEvent]:
        """Who is refused when: developers.deepgram.com/docs/voice-agent-inject-agent-message."""
        text, behavior = message.message.strip(), message.behavior or "default"
        busy = self._reply is not None or bool(self._owed)
        if behavior != "interrupt" and self._turn is not None:
            self._refuse_injection("user")
        elif behavior == "default" and busy:
            self._refuse_injection("agent")
        elif not text:
            self._outbox.send("AgentAudioDone")
        elif behavior == "queue" and busy:
            self._owed.append(text)
        else:
            return [*self._cancel(), *self._speak(text, config.output)]
        return []

    def _refuse_injection(self, speaker: str) -> None:
        self._outbox.send(
            "InjectionRefused", message=f"InjectAgentMessage was ignored during {speaker} speech."
        )

    def _function_response(self, response: schema.FunctionCallResponse) -> list[BrainEvent]:
        call_id = self._calls.respond(response)
        if call_id is None:
            return []
        if self._calls.are_done and None not in self._owed:
            self._owed.append(None)
        return [ToolResult(call_id, response.content)]

    def _force_end_turn(self, config: Configuration) -> list[BrainEvent]:
        if not config.flux:
            self._outbox.warn(refusals.CANNOT_FORCE_END)
            return []
        if self._turn is None:
            return []
        turn = self._turn
        self._end_turn("manual")
        self._owed.append(None)
        # Brains take a turn from the client only while they do not look for its end themselves.
        self._detection_paused = True
        return [config.configured(detects_turns=False), TurnCommitted(turn)]

    # -- replies and turns ------------------------------------------------------------------------------

    def _open(self, exact: str | None) -> _Reply:
        self._reply = _Reply(ReplyId(self._new_id("reply")), exact)
        return self._reply

    def _open_reply(self, reply: ReplyId) -> _Reply | None:
        current = self._reply
        return current if current is not None and current.id == reply else None

    def _speak(self, exact: str | None, output: AudioFormat) -> list[BrainEvent]:
        """Ask the brain for a reply: these words, or an answer."""
        reply = self._open(exact)
        reply.asked_ns = self._now_ns
        if exact is not None:
            self._clock = Clock(text_ns=self._now_ns)  # it answers no turn
        instructions = None if exact is None else f"Say exactly: {exact}"
        return [ReplyRequested(reply.id, instructions, output, False)]

    def _may_pay(self) -> bool:
        return self._detection_paused or self._may_speak()

    def _may_speak(self) -> bool:
        return bool(self._owed) and self._reply is None and self._turn is None

    def _pay(self) -> list[BrainEvent]:
        """What is owed, and then the turn detection that was put aside for it."""
        config = self._config
        if config is None:
            return []
        events = self._speak(self._owed.popleft(), config.output) if self._may_speak() else []
        if self._detection_paused:
            self._detection_paused = False
            events.append(config.configured())
        return events

    def _cancel(self) -> list[BrainEvent]:
        """Stop what is being said, in favour of something else."""
        cancelled, self._reply = self._reply, None
        self._owed.clear()
        return [ReplyCancelled(cancelled.id)] if cancelled is not None else []

    def _first_sign(self, reply: _Reply) -> None:
        """The brain has begun to answer. Where nothing said that the caller's turn is over, this does:
        a client waits for such a message before it plays again what follows an interruption."""
        reply.asked_ns = None
        if self._turn_unheard:
            self._turn_unheard = False
            self._outbox.send("AgentThinking", content=NOT_UNDERSTOOD)

    def _first_audio(self, reply: _Reply, payload: bytes) -> None:
        config = self._config
        if config is None:
            return
        self._first_sign(reply)
        reply.spoke = True
        report = self._clock.audio(self._now_ns)
        if config.experimental:
            # Only seen by clients that ask for undocumented features.
            tts, total = report["tts_latency"], report.get("total_latency", report["tts_latency"])
            self._outbox.send(
                "AgentStartedSpeaking", total_latency=total, tts_latency=tts, ttt_latency=total - tts
            )
        self._outbox.audio(wave_header(config.output) + payload if config.wave else payload)
        self._tell(reply)
        self._outbox.latency(**report)

    def _tell(self, reply: _Reply) -> None:
        """The text of very words: behind the first sound of them, as on real calls."""
        if reply.exact is not None and not reply.told:
            reply.told = True
            self._outbox.said("assistant", reply.exact)

    def _end_turn(self, trigger: str) -> None:
        self._turn = None
        self._clock.turn_ended(self._now_ns)
        if self._config is not None and self._config.flux:
            self._turn_unheard = False
            self._outbox.send("EndOfTurn", trigger=trigger)

    def _slow_at_ns(self) -> int | None:
        """When the client is told that the reply it waits for takes long; then every 5 s."""
        reply = self._reply
        if reply is None or reply.asked_ns is None or reply.exact is not None:
            return None
        return reply.asked_ns + SLOW_THINK_NS * (reply.warned + 1)

    def _fail(self, refusal: Refusal) -> None:
        self._outbox.fail(refusal)
        self._reply = None

    def _new_turn(self) -> TurnId:
        return TurnId(self._new_id("turn"))

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._key}{self._count:x}"
