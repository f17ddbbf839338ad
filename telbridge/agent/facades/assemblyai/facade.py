"""AssemblyAI's Voice Agent API, seen from the server's side: messages in, brain events out, messages out.

Sans-IO, like all facades. Sources: the vendor's pages under
https://www.assemblyai.com/docs/voice-agents/voice-agent-api/ (events reference, message sequence, session
configuration, client-side tools), and published live sessions of September 2026 where those differ.

Not documented, and decided here: `reply.create` ends a running reply (the vendor's SDK says so of the
greeting), a refused update is refused as a whole, a later `input.format` takes effect, a result for an
unknown call is a wrong value. A reply's audio may run ahead of time, but the reply is not done before it
would have been heard: the service speaks in real time, so a caller can always interrupt what is heard.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from dataclasses import dataclass
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
from telbridge.agent.facades.assemblyai import schema as schema
from telbridge.agent.facades.assemblyai.reply import WRONG, Outbox, Reply
from telbridge.agent.facades.assemblyai.schema import Json, Refusal, RefusedError
from telbridge.agent.facades.assemblyai.store import Conversation, Dropped

READY_AFTER_MS: Final = 40
"""Live it is 400 to 500 ms; what matters to a client is that it has to wait."""
AHEAD_MAX_MS: Final = 5_000
"""Caller audio ahead of the wall clock. The pages say about 1 s; live, 4.8 s ahead was still taken."""
CLOSE_POLICY: Final = 1008
TOO_LATE: Final = "Say exactly: I am sorry, that is taking too long."

_REFUSED_BY_SCRIPT: Final = Refusal("invalid_value", "This script refuses every update.", "session")


class _State(Enum):
    NEW = auto()
    """Nothing but session.update and session.resume is heard."""
    PREPARING = auto()
    """Configured, not ready: audio is dropped, everything else waits."""
    READY = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class _Call:
    """A function call without its result."""

    reply: ReplyId
    until_ns: int


class AssemblyAIFacade:
    """One connection to the service."""

    def __init__(
        self,
        options: FacadeOptions,
        *,
        now_unix_s: float = 0.0,
        dropped: Dropped | None = None,
        session_max_s: int | None = None,
    ) -> None:
        """`dropped`: the sessions that may be resumed; `session_max_s`: as the client's token says."""
        self._options = options
        self._dropped = dropped if dropped is not None else Dropped()
        self._outbox = Outbox(began_unix_s=now_unix_s, began_ns=options.now_ns, now_ns=options.now_ns)
        self._state = _State.NEW
        self._conversation = Conversation(
            f"sess_{options.session_id}", schema.default_config(None), options.now_ns
        )
        self._expires_ns = None if session_max_s is None else options.now_ns + session_max_s * 1_000_000_000
        self._expires_unix_s = float(options.expires_at_unix_s)
        if session_max_s is not None:
            self._expires_unix_s = min(self._expires_unix_s, now_unix_s + session_max_s)
        self._ready_ns: int | None = None
        self._greets = False
        self._early: list[schema.ClientEvent] = []
        self._close: tuple[int, str] | None = None
        self._current: Reply | None = None
        self._calls: dict[str, _Call] = {}
        self._discarded: set[str] = set()
        self._owes_answer = False
        self._turn: TurnId | None = None
        self._ahead_ms = 0.0
        self._ahead_ns = options.now_ns
        self._count = 0

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
            return self._handle_in_order(schema.parse(message))
        except RefusedError as refused:
            self._refuse(refused.refusal)
            return []

    def configured(self, *, by_client: bool) -> Configured | None:
        """The settings; None until the session is ready, so that no brain speaks before it."""
        if self._state is not _State.READY:
            return None
        config = self._conversation.config
        return Configured(
            input=schema.audio_format(config["input"]),
            output=schema.audio_format(config["output"]),
            instructions=config["system_prompt"] or "",
            turns=schema.turn_detection(config["input"]["turn_detection"] or {}, self._options.silence_ms),
            text_only=False,
            tools=tuple(Tool(tool["name"], tool["description"]) for tool in config["tools"]),
            by_client=by_client,
        )

    def deadline_ns(self) -> int | None:
        if self._state is _State.OVER:
            return None
        times = [call.until_ns for call in self._calls.values()]
        times += [at_ns for at_ns in (self._ready_ns, self._expires_ns) if at_ns is not None]
        if self._current is not None and self._current.ended:
            times.append(self._current.over_ns)
        elif self._owes_answer and self._current is None:
            times.append(self._outbox.now_ns)
        return min(times, default=None)

    def time_passed(self, *, now_ns: int) -> list[BrainEvent]:
        """Getting ready, the end of a reply, the answer to function results or to their lack, the token's
        cap."""
        self._outbox.now_ns = now_ns
        if self._state is _State.OVER:
            return []
        if self._expires_ns is not None and now_ns >= self._expires_ns:
            self._end(*self.expire())
            return []
        events: list[BrainEvent] = []
        if self._ready_ns is not None and now_ns >= self._ready_ns:
            events += self._become_ready()
        if self._current is not None and self._current.ended and now_ns >= self._current.over_ns:
            self._complete(self._current)
        late = [call_id for call_id, call in self._calls.items() if now_ns >= call.until_ns]
        for call_id in late:
            del self._calls[call_id]
            self._discarded.add(call_id)
        if late and self._current is None:
            events.append(self._ask(TOO_LATE))
        elif self._owes_answer and self._current is None:
            events.append(self._ask(None))
        return events

    def expire(self) -> tuple[int, str]:
        self._error(Refusal("session_expired", "Session expired."))
        self._state = _State.OVER
        return CLOSE_POLICY, "session_expired"

    def left(self, *, now_ns: int) -> None:
        """The connection has gone. What was not ended by either side may be resumed."""
        if self._state is _State.READY:
            self._dropped.keep(self._conversation, now_ns=now_ns)

    # -- Line: what the brain does ----------------------------------------------------------------------

    def begin_reply(self) -> ReplyId | None:
        current = self._current
        if (current is not None and not current.ended) or self._state is not _State.READY:
            return None
        if current is not None:
            self._complete(current)
        return self._open_reply()

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        self.audio_text(reply, b64encode(payload).decode("ascii"))

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        if (current := self._open(reply)) is not None:
            current.audio_text(base64_text)

    def words(self, reply: ReplyId, text: str) -> None:
        if (current := self._open(reply)) is not None:
            current.words(text)

    def call_tool(self, reply: ReplyId, name: str, arguments: dict[str, Any]) -> str:
        call_id = self._new_id("call")
        if self.is_open(reply):
            self._calls[call_id] = _Call(reply, self._outbox.now_ns + self._timeout_ns(name))
            self._outbox.send("tool.call", call_id=call_id, name=name, arguments=arguments)
        return call_id

    def end_reply(self, reply: ReplyId) -> None:
        if (current := self._open(reply)) is not None:
            current.ended = True
            if current.over_ns <= self._outbox.now_ns:
                self._complete(current)

    def is_open(self, reply: ReplyId) -> bool:
        return self._open(reply) is not None

    def speech_started(self, start_ms: int) -> None:
        self._turn = TurnId(self._new_id("item"))
        self._outbox.send("input.speech.started")
        turns = self._conversation.config["input"]["turn_detection"] or {}
        if turns.get("interrupt_response", True):
            self._interrupt()

    def speech_stopped(self, end_ms: int) -> TurnId:
        turn = self._turn or TurnId(self._new_id("item"))
        self._turn = None
        self._outbox.send("input.speech.stopped")
        return turn

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        if text:
            self._outbox.send("transcript.user.delta", item_id=turn, text=text)
            self._outbox.send("transcript.user", item_id=turn, text=text)

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        """The API has no idle time-out, so no brain is ever told of one."""
        return TurnId(self._new_id("item"))

    def wrong(self, misdeed: Misdeed) -> list[str | bytes]:
        return [WRONG[misdeed]]

    # -- client events ------------------------------------------------------------------------------------

    def _handle_in_order(self, event: schema.ClientEvent) -> list[BrainEvent]:
        if self._state is _State.NEW:
            return self._first(event)
        at_once = self._state is _State.READY or isinstance(event, schema.SessionUpdate | schema.SessionEnd)
        if at_once:
            return self._handle(event)
        if not isinstance(event, schema.InputAudio):
            self._early.append(event)
        return []

    def _first(self, event: schema.ClientEvent) -> list[BrainEvent]:
        if isinstance(event, schema.SessionResume):
            self._conversation = self._dropped.take(event.session_id, now_ns=self._outbox.now_ns)
        elif isinstance(event, schema.SessionUpdate):
            if self._options.updates is Updates.IGNORE:
                return []
            self._configure_first(event.session)
        else:
            raise RefusedError(_NOT_FIRST)
        self._state = _State.PREPARING
        self._ready_ns = self._outbox.now_ns + READY_AFTER_MS * 1_000_000
        return []

    def _configure_first(self, session: schema.Session) -> None:
        if self._options.updates is Updates.REFUSE:
            raise RefusedError(_REFUSED_BY_SCRIPT)
        if "agent_id" in session.model_fields_set:
            schema.check_stored_agent(session)
            config = schema.default_config(session.agent_id)
        else:
            config = schema.merged(schema.default_config(None), session.model_dump(exclude_unset=True))
        self._conversation.config = config
        self._greets = bool(config["greeting"])
        self._outbox.send("session.updated", config=config)

    def _become_ready(self) -> list[BrainEvent]:
        self._state, self._ready_ns = _State.READY, None
        conversation = self._conversation
        self._outbox.send(
            "session.ready",
            session_id=conversation.id,
            config=conversation.config,
            expires_at=self._expires_unix_s,
            resume_token=f"resume_{self._options.session_id}",
        )
        events: list[BrainEvent] = []
        if (configured := self.configured(by_client=True)) is not None:
            events.append(configured)
        if self._greets:
            events.append(self._ask(f"Say exactly: {conversation.config['greeting']}"))
        early, self._early = self._early, []
        for event in early:
            try:
                events += self._handle(event)
            except RefusedError as refused:
                self._refuse(refused.refusal)
        return events

    def _handle(self, event: schema.ClientEvent) -> list[BrainEvent]:
        match event:
            case schema.SessionUpdate(session=session):
                return self._update(session.model_dump(exclude_unset=True))
            case schema.SessionResume():
                raise RefusedError(Refusal("invalid_format", "session.resume must be the first message."))
            case schema.InputAudio(audio=audio):
                return self._audio(audio)
            case schema.ToolResult():
                return self._tool_result(event)
            case schema.ReplyCreate(instructions=instructions):
                cancelled = self._interrupt()
                return [*cancelled, self._ask(instructions)]
            case schema.ConversationMessage(role=role, content=content):
                return [TextIn(content, role)]
            case schema.SessionEnd():
                self._finish()
                return []
            case _:
                assert_never(event)

    def _update(self, patch: Json) -> list[BrainEvent]:
        if self._options.updates is Updates.IGNORE:
            return []
        if self._options.updates is Updates.REFUSE:
            raise RefusedError(_REFUSED_BY_SCRIPT)
        if "agent_id" in patch:
            raise RefusedError(_AGENT_ID_NOT_FIRST)
        if (path := next(schema.locked(patch), None)) is not None:
            text = f"Field '{path}' cannot be changed after the session is ready."
            raise RefusedError(Refusal("immutable_field", text, path))
        self._conversation.config = schema.merged(self._conversation.config, patch)
        self._outbox.send("session.updated", config=self._conversation.config)
        configured = self.configured(by_client=True)
        return [] if configured is None else [configured]

    def _audio(self, text: str) -> list[BrainEvent]:
        samples = self._options.wants is Wants.SAMPLES
        payload = b""
        if samples:
            try:
                payload = a2b_base64(text, strict_mode=True)
            except ValueError:
                raise RefusedError(Refusal("invalid_audio", "Audio is not valid base64.")) from None
        octets = len(payload) if samples else len(text) // 4 * 3
        duration_ms = schema.audio_format(self._conversation.config["input"]).ms_in(octets)
        self._keep_pace(duration_ms)
        self._conversation.audio_ms += duration_ms
        return [AudioIn(payload) if samples else AudioText(text)]

    def _keep_pace(self, duration_ms: float) -> None:
        """RefusedError for audio too far ahead of the time it is spoken in: it is thrown away."""
        passed_ms = (self._outbox.now_ns - self._ahead_ns) / 1e6
        self._ahead_ns = self._outbox.now_ns
        self._ahead_ms = max(0.0, self._ahead_ms - passed_ms)
        if self._ahead_ms + duration_ms > AHEAD_MAX_MS:
            text = "Audio is being sent faster than real time; excess audio was discarded."
            raise RefusedError(Refusal("audio_rate_violation", text))
        self._ahead_ms += duration_ms

    def _tool_result(self, event: schema.ToolResult) -> list[BrainEvent]:
        if event.call_id in self._discarded:
            return []
        if self._calls.pop(event.call_id, None) is None:
            raise RefusedError(Refusal("invalid_value", f"Unknown call_id: {event.call_id}", "call_id"))
        # The answer is a reply of its own, once all results are there and the call's reply is over. The
        # brain may begin it by itself; if it does not, `time_passed` asks for it.
        self._owes_answer = not self._calls
        return [ToolResult(event.call_id, event.result)]

    def _finish(self) -> None:
        conversation = self._conversation
        self._outbox.send(
            "session.ended",
            session_duration_seconds=round((self._outbox.now_ns - conversation.began_ns) / 1e9, 3),
            audio_duration_seconds=round(conversation.audio_ms / 1000, 3) if conversation.audio_ms else None,
        )
        self._end(1000, "")

    # -- helpers ------------------------------------------------------------------------------------------

    def _ask(self, instructions: str | None) -> ReplyRequested:
        output = schema.audio_format(self._conversation.config["output"])
        return ReplyRequested(self._open_reply(), instructions, output, text_only=False)

    def _open_reply(self) -> ReplyId:
        output = schema.audio_format(self._conversation.config["output"])
        self._current = Reply(self._new_id("resp"), self._new_id("item"), output, self._outbox)
        self._current.start()
        self._owes_answer = False
        return ReplyId(self._current.id)

    def _open(self, reply: ReplyId) -> Reply | None:
        """The running reply, if it is this one and not at its end."""
        current = self._current
        return current if current is not None and current.id == reply and not current.ended else None

    def _complete(self, reply: Reply) -> None:
        reply.finish(interrupted=False)
        self._current = None

    def _interrupt(self) -> list[BrainEvent]:
        """Cut the running reply short; the calls made in it are not waited for any more."""
        self._owes_answer = False
        if (reply := self._current) is None:
            return []
        reply.finish(interrupted=True)
        self._current = None
        discarded = [call_id for call_id, call in self._calls.items() if call.reply == reply.id]
        for call_id in discarded:
            del self._calls[call_id]
        self._discarded.update(discarded)
        return [ReplyCancelled(ReplyId(reply.id))]

    def _timeout_ns(self, tool: str) -> int:
        tools = self._conversation.config["tools"]
        seconds = (offered["timeout_seconds"] for offered in tools if offered["name"] == tool)
        return int(next(seconds, schema.TOOL_TIMEOUT_S)) * 1_000_000_000

    def _refuse(self, refusal: Refusal) -> None:
        """Say what is wrong. A session that has not begun does not survive more than a misshapen update."""
        self._error(refusal)
        if self._state is _State.NEW and (refusal.code != "invalid_format" or refusal is _NOT_FIRST):
            self._end(CLOSE_POLICY, refusal.code)

    def _error(self, refusal: Refusal) -> None:
        fields: Json = {"code": refusal.code, "message": refusal.message}
        if refusal.param is not None:
            fields |= {"param": refusal.param, "session_id": self._conversation.id}
        self._outbox.send("session.error", **fields)

    def _end(self, code: int, reason: str) -> None:
        self._state, self._close = _State.OVER, (code, reason)

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._options.session_id}{self._count:x}"


_NOT_FIRST: Final = Refusal("invalid_format", "The first message must be session.update or session.resume.")
_AGENT_ID_NOT_FIRST: Final = Refusal(
    "agent_id_not_first", "agent_id is only allowed in the first session.update.", "session.agent_id"
)
