"""What the agent's tests share: the vendor's models as a judge, a client of the facade, a line to look at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, get_args

import pytest
from openai import BaseModel
from openai.types.realtime.realtime_server_event import RealtimeServerEvent

from telbridge.agent.events import Misdeed, ReplyId, TurnId
from telbridge.agent.facades.openai.facade import OpenAIFacade

Json = dict[str, Any]


def _classes() -> dict[str, type[BaseModel]]:
    union = get_args(RealtimeServerEvent)[0]
    return {get_args(cls.model_fields["type"].annotation)[0]: cls for cls in get_args(union)}


SERVER_EVENTS = _classes()
# The session carries these, the vendor's class of it does not know them.
KNOWN_EXTRAS = {"session.id", "session.object", "session.expires_at"}


def _extras(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in value.__pydantic_extra__ or {}:
            yield f"{path}{name}"
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, list):
        for item in value:
            yield from _extras(item, path)


def judge(message: Json) -> None:
    """AssertionError or ValidationError unless the vendor's SDK knows every part of this server event."""
    cls = SERVER_EVENTS[message["type"]]
    event = cls.model_validate(message)
    assert set(_extras(event)) <= KNOWN_EXTRAS, message["type"]
    assert event.to_dict(mode="json", exclude_unset=True) == message


@pytest.fixture(name="judge")
def _judge() -> Callable[[Json], None]:
    return judge


@dataclass
class Client:
    """A client of one facade; whatever the facade answers is judged before a test sees it."""

    facade: OpenAIFacade
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def says(self, kind: str, **fields: Any) -> list[Any]:
        """Send one event; the brain events it makes."""
        return self.facade.receive(json.dumps({"type": kind, **fields}))

    def updates(self, **session: Any) -> list[Any]:
        return self.says("session.update", event_id="up", session={"type": "realtime", **session})

    def gets(self) -> list[Json]:
        """All server events since the last time."""
        messages = [json.loads(text) for text in self.facade.take_messages()]
        for message in messages:
            judge(message)
        return messages

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.gets()]

    def error(self) -> Json:
        """The one event that came, an error."""
        (message,) = self.gets()
        assert message["type"] == "error", message
        error: Json = message["error"]
        return error


@pytest.fixture
def connect() -> Callable[..., Client]:
    """A client whose facade has greeted it with `session.created`."""

    def make(**options: Any) -> Client:
        options = {"session_id": "t", "model": "gpt-realtime-2.1", **options}
        client = Client(OpenAIFacade(**options))
        assert client.kinds() == ["session.created"]
        return client

    return make


@dataclass
class RecordingLine:
    """A `Line` that writes down what the brain does; time stands still until `pass_ms`."""

    done: list[tuple[Any, ...]] = field(default_factory=list)
    open: set[ReplyId] = field(default_factory=set)
    time_ns: int = 0
    works: list[asyncio.Task[None]] = field(default_factory=list)
    _timers: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def begin_reply(self) -> ReplyId | None:
        if self.open:
            return None
        reply = self.requested()
        self.done.append(("begin",))
        return reply

    def requested(self) -> ReplyId:
        """A reply that the client has opened."""
        reply = ReplyId(f"r{next(self._ids)}")
        self.open.add(reply)
        return reply

    def audio(self, reply: ReplyId, payload: bytes) -> None:
        if reply in self.open:
            self.done.append(("audio", payload))

    def audio_text(self, reply: ReplyId, base64_text: str) -> None:
        if reply in self.open:
            self.done.append(("audio_text", base64_text))

    def words(self, reply: ReplyId, text: str) -> None:
        if reply in self.open:
            self.done.append(("words", text))

    def call_tool(self, reply: ReplyId, name: str, arguments: Json) -> str:
        self.done.append(("tool", name, arguments))
        return "call_1"

    def end_reply(self, reply: ReplyId) -> None:
        if reply in self.open:
            self.open.discard(reply)
            self.done.append(("end",))

    def is_open(self, reply: ReplyId) -> bool:
        return reply in self.open

    def speech_started(self, start_ms: int) -> None:
        self.done.append(("speech_started", start_ms))
        self.open.clear()

    def speech_stopped(self, end_ms: int) -> TurnId:
        self.done.append(("speech_stopped", end_ms))
        return TurnId(f"t{next(self._ids)}")

    def heard(self, turn: TurnId, text: str, duration_ms: int) -> None:
        self.done.append(("heard", text))

    def idle(self, start_ms: int, end_ms: int) -> TurnId:
        self.done.append(("idle", start_ms, end_ms))
        return TurnId("idle")

    def misbehave(self, misdeed: Misdeed) -> None:
        self.done.append(("misdeed", misdeed))

    def expire(self) -> None:
        self.done.append(("expire",))

    def close(self, code: int, reason: str) -> None:
        self.done.append(("close", code))

    def abort(self) -> None:
        self.done.append(("abort",))

    def now_ns(self) -> int:
        return self.time_ns

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        self._timers.append((self.time_ns + int(delay_ms * 1e6), next(self._ids), action))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self.works.append(asyncio.get_running_loop().create_task(work))
        return self.works[-1]

    def pass_ms(self, ms: int) -> None:
        """Let time go by; timers fire in their order, at their own time."""
        end = self.time_ns + ms * 1_000_000
        while due := sorted(timer for timer in self._timers if timer[0] <= end):
            self._timers.remove(due[0])
            self.time_ns, _, action = due[0]
            action()
        self.time_ns = end

    async def finish_works(self) -> None:
        """Run everything that the brain does in the background to its end."""
        while self.works:
            await asyncio.gather(self.works.pop(0), return_exceptions=False)

    def took(self) -> list[tuple[Any, ...]]:
        """What has been done since the last time."""
        done, self.done = self.done, []
        return done


@pytest.fixture
def line() -> RecordingLine:
    return RecordingLine()
