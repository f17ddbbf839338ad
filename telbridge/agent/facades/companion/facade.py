"""Napster's Companion API, seen from the server's side: messages in, brain events out, messages out.

Sans-IO, like all facades. Sources: https://developers.napster.com/docs/ (deploying your agent: websockets,
server events) and the vendor's skills at https://github.com/Napster/omniagent-api-skills. A session is
configured by the REST request that created it; over the WebSocket come audio, texts and changes.

Documented nowhere, and decided here: close codes (1000 with the reason as REST names it), the `error` event,
that caller audio before `ready` is lost while commands wait, that a command which is refused ends nothing.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections import deque
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final, assert_never

from telbridge.agent.events import (
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    TextIn,
    Tool,
    ToolResult,
    TurnId,
)
from telbridge.agent.facade import FacadeOptions, Updates, Wants
from telbridge.agent.facades.companion import schema as schema
from telbridge.agent.facades.companion.reply import WRONG, Outbox, Reply
from telbridge.agent.facades.companion.schema import Command, Refusal, RefusedError, Wanted
from telbridge.audio.formats import PCM_16K

SECOND_NS: Final = 1_000_000_000
READY_AFTER_NS: Final = 40_000_000
"""The service takes longer; what matters to a client is that it has to wait."""
LOOK_NS: Final = SECOND_NS // 4
"""A session may be ended from outside between two messages; this often it is looked after."""
FUNCTION_TIMEOUT_NS: Final = 10 * SECOND_NS
IDLE_S: Final = 180
WARNINGS_S: Final = (60, 30, 10)
"""Time left, at which an idle client is warned."""
CLOSE: Final = 1000
TIMED_OUT: Final = '{"error": "The function did not answer in time."}'


class _State(Enum):
    PREPARING = auto()
    READY = auto()
    OVER = auto()


class CompanionFacade:
    """One session of the service."""

    def __init__(
        self,
        options: FacadeOptions,
        wanted: Wanted,
        *,
        now_unix_s: float = 0.0,
        duplicate_calls: bool = False,
    ) -> None:
        """`duplicate_calls`: tell each function call twice."""
        self._options = options
        self._wanted = wanted
        self._duplicate_calls = duplicate_calls
        self._outbox = Outbox(now_unix_s, options.now_ns, options.now_ns)
        self._state = _State.PREPARING
        self._close: tuple[int, str] | None = None
        self._ready_ns = options.now_ns + READY_AFTER_NS
        self._look_ns = options.now_ns + LOOK_NS
        self._active_ns = options.now_ns
        self._warned = 0
        self._waiting: deque[Command] = deque()
        self._current: Reply | None = None
        self._owed: list[str | None] = []
        self._calls: dict[str, int] = {}
        self._late: set[str] = set()
        self._turn: TurnId | None = None
        self._count = 0
        self._outbox.send("avatar_state_changed", state="preparing")

    # -- towards the client ---------------------------------------------------------------------------

    def take_messages(self) -> list[str | bytes]:
        messages, self._outbox.messages = self._outbox.messages, []
        return messages

    @property
    def waiting_octets(self) -> int:
        return sum(map(len, self._outbox.messages))

    @property
    def close_with(self) -> tuple[int, str] | None:
        return self._close

    def receive(self, message: str | bytes, *, now_ns: int) -> list[BrainEvent]:
        """One whole WebSocket message. Never raises for what a client sends."""
        self._outbox.now_ns = now_ns
        if self._state is _State.OVER:
            return []
        try:
            command = schema.parse(message)
        except RefusedError as refused:
            self._error(refused.refusal)
            return []
        self._active()
        if self._must_wait(command):
            self._waiting.append(command)
            return []
        return self._handle(command)

    def configured(self, *, by_client: bool) -> Configured | None:
        """The settings; None until the session is ready, so that no brain speaks before it."""
        if self._state is not _State.READY:
            return None
        wanted = self._wanted
        return Configured(
            input=PCM_16K,
            output=PCM_16K,
            instructions=wanted.instructions,
            turns=schema.turn_detection(wanted.turns, self._options.silence_ms),
            text_only=wanted.text_only,
            tools=tuple(Tool(name, "") for name in wanted.functions),
            by_client=by_client,
        )

    def deadline_ns(self) -> int | None:
        if self._state is _State.OVER:
            return None
        if self._state is _State.PREPARING:
            return self._ready_ns
        if self._current is None and (self._waiting or self._owed):
            return self._outbox.now_ns
        return min([self._look_ns, *self._calls.values()])

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]:
        """Getting ready, idleness, functions that take too long, what waited for the end of a reply."""
        self._outbox.now_ns = now_ns
        if self._state is _State.OVER:
            return []
        if self._state is _State.PREPARING:
            return self._become_ready() if now_ns >= self._ready_ns else []
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_NS
            self._watch_idleness()
        return self._give_up_calls() or self._catch_up()

    def expire(self) -> tuple[int, str]:
        self._outbox.send("session_expired")
        self._state = _State.OVER
        return CLOSE, "session_expired"

    def abort(self) -> None:
        """End the session from outside (REST DELETE); seen at the next look."""
        self._end("connection_aborted")

    # -- Line: what the brain does ----------------------------------------------------------------------

    def begin_reply(self) -> ReplyId | None:
        if self._current is not None or self._state is not _State.READY:
            return None
        return self._open_reply()

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        self.audio_text(reply, b64encode(payload).decode("ascii"))

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        if self._current is not None and self._current.id == reply:
            self._current.audio_text(base64_text)
            self._active()

    def words(self, reply: ReplyId, text: str) -> None:
        if self._current is not None and self._current.id == reply:
            self._current.words(text)
            self._active()

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._new_id("call")
        if self.is_open(reply):
            self._calls[call_id] = self._outbox.now_ns + FUNCTION_TIMEOUT_NS
            for _ in range(2 if self._duplicate_calls else 1):
                self._outbox.send(
                    "function_implicitly_called", call_id=call_id, name=name, arguments=arguments
                )
        return call_id

    def end_reply(self, reply: ReplyId) -> None:
        if self._current is not None and self._current.id == reply:
            self._current.complete()
            self._current = None

    def is_open(self, reply: ReplyId) -> bool:
        return self._current is not None and self._current.id == reply

    def speech_started(self, start_ms: int) -> None:
        self._turn = TurnId(self._new_id("item"))
        self._outbox.send("speech_started")
        self._owed = []
        self._interrupt("turn_detected")

    def speech_stopped(self, end_ms: int) -> TurnId:
        """The API tells the end of a turn by its words only."""
        turn, self._turn = self._turn or TurnId(self._new_id("item")), None
        return turn

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        self._outbox.send_message("user", "completed", content=text, item_id=turn)

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        """An idle caller is the client's affair here, so no brain is ever told of one."""
        return TurnId(self._new_id("item"))

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        return [WRONG[misdeed]]

    # -- commands -----------------------------------------------------------------------------------------

    def _must_wait(self, command: Command) -> bool:
        """For the session to be ready, or for the end of the agent's speech."""
        if self._state is _State.PREPARING:
            return not isinstance(command, schema.SendAudio)
        delayed = isinstance(command, schema.SendMessage) and command.delay
        return delayed and self._current is not None

    def _handle(self, command: Command) -> list[BrainEvent]:
        try:
            return self._dispatch(command)
        except RefusedError as refused:
            self._error(refused.refusal)
            return []

    def _dispatch(self, command: Command) -> list[BrainEvent]:
        match command:
            case schema.SendAudio():
                return self._audio(command.base64_text)
            case schema.SendMessage():
                return self._message(command)
            case schema.SetSettings():
                return self._set(command)
            case schema.SendFunctionOutput():
                return self._function_output(command)
            case _:
                assert_never(command)

    def _audio(self, text: str) -> list[BrainEvent]:
        samples = self._options.wants is Wants.SAMPLES
        payload = b""
        if samples:
            try:
                payload = a2b_base64(text, strict_mode=True)
            except ValueError:
                raise RefusedError(Refusal("invalid_audio", "Audio is not valid base64.")) from None
        if self._state is _State.PREPARING or self._wanted.text_only:
            return []
        return [AudioIn(payload[: len(payload) & ~1]) if samples else AudioText(text)]

    def _message(self, command: schema.SendMessage) -> list[BrainEvent]:
        """Undelayed it cuts the agent short, whether or not it wants an answer."""
        events = self._interrupt("client_cancelled")
        events.append(TextIn(command.text, command.role))
        if command.trigger_response:
            self._owed = [schema.spoken_exactly(command.text) if command.role == "system" else None]
        return events

    def _set(self, command: schema.SetSettings) -> list[BrainEvent]:
        if self._options.updates is Updates.IGNORE:
            return []
        if self._options.updates is Updates.REFUSE:
            raise RefusedError(Refusal("invalid_command", "This script refuses every update."))
        if command.instructions is not None:
            self._wanted = replace(self._wanted, instructions=command.instructions)
        if command.turn_detection is not None:
            self._wanted = replace(self._wanted, turns=command.turn_detection)
        configured = self.configured(by_client=True)
        return [] if configured is None else [configured]

    def _function_output(self, command: schema.SendFunctionOutput) -> list[BrainEvent]:
        """Its answer is a reply of its own, behind the one that made the call, so that `delay` changes
        nothing."""
        if command.call_id in self._late:
            return []
        if self._calls.pop(command.call_id, None) is None:
            raise RefusedError(Refusal("invalid_command", f"Unknown call_id: {command.call_id}"))
        self._owed = [None]
        return [ToolResult(command.call_id, command.output_text)]

    # -- time ---------------------------------------------------------------------------------------------

    def _become_ready(self) -> list[BrainEvent]:
        self._state = _State.READY
        self._look_ns = self._outbox.now_ns + LOOK_NS
        self._outbox.send("avatar_state_changed", state="ready")
        self._outbox.send("message_received", message={"type": "session"})
        events: list[BrainEvent] = []
        if (configured := self.configured(by_client=True)) is not None:
            events.append(configured)
        if self._wanted.initial_speech:
            events.append(self._ask(schema.spoken_exactly(self._wanted.initial_speech)))
        early, self._waiting = self._waiting, deque()
        for command in early:
            if self._must_wait(command):
                self._waiting.append(command)
            else:
                events += self._handle(command)
        return events

    def _catch_up(self) -> list[BrainEvent]:
        """What waited for the end of a reply. If nothing did, the reply that is owed: the brain has had the
        time to begin it by itself, on hearing what it is to answer."""
        if self._current is not None:
            return []
        if self._waiting:
            waiting, self._waiting = self._waiting, deque()
            return [event for command in waiting for event in self._handle(command)]
        return [self._ask(self._owed[0])] if self._owed else []

    def _give_up_calls(self) -> list[BrainEvent]:
        """Functions that took too long: the agent is told that they failed."""
        now_ns = self._outbox.now_ns
        late = [call_id for call_id, until_ns in self._calls.items() if now_ns >= until_ns]
        events: list[BrainEvent] = []
        for call_id in late:
            del self._calls[call_id]
            self._late.add(call_id)
            self._outbox.send("function_call_timeout", call_id=call_id)
            events.append(ToolResult(call_id, TIMED_OUT))
            self._owed = [None]
        return events

    def _watch_idleness(self) -> None:
        if not self._wanted.idle_timeout:
            return
        left_s = IDLE_S - (self._outbox.now_ns - self._active_ns) / SECOND_NS
        while self._warned < len(WARNINGS_S) and left_s <= WARNINGS_S[self._warned]:
            self._outbox.send("avatar_connection_warning", disconnect_after=WARNINGS_S[self._warned])
            self._warned += 1
        if left_s <= 0:
            self._end("idle_timeout")

    def _active(self) -> None:
        self._active_ns, self._warned = self._outbox.now_ns, 0

    # -- helpers ------------------------------------------------------------------------------------------

    def _ask(self, instructions: str | None) -> ReplyRequested:
        return ReplyRequested(self._open_reply(), instructions, PCM_16K, self._wanted.text_only)

    def _open_reply(self) -> ReplyId:
        self._owed = []
        self._current = Reply(
            self._new_id("resp"), self._new_id("item"), self._wanted.text_only, self._outbox
        )
        self._current.start()
        return ReplyId(self._current.id)

    def _interrupt(self, reason: str) -> list[BrainEvent]:
        if (reply := self._current) is None:
            return []
        reply.cancel(reason)
        self._current = None
        return [ReplyCancelled(ReplyId(reply.id))]

    def _end(self, reason: str) -> None:
        self._state, self._close = _State.OVER, (CLOSE, reason)

    def _error(self, refusal: Refusal) -> None:
        self._outbox.send("error", code=refusal.code, message=refusal.message)

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._options.session_id}{self._count:x}"
