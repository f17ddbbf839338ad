"""Carries out what a dialplan orders, with the means of its call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, assert_never

from telbridge.call.director import Director
from telbridge.call.observer import Observer
from telbridge.call.ports import (
    Leg,
    Outside,
    OutsideFailed,
    Session,
    TakesTags,
    TextRole,
    UpdateImpossible,
)
from telbridge.call.record import Record
from telbridge.dialplan import orders
from telbridge.dialplan.orders import Order

_WORD_STARTS: Final = re.compile(r"(?<!^)(?=[A-Z])")
_NAMES: Final[Mapping[type[Order], str]] = {
    orders.HangUp: "hangup",
    orders.CallWebhook: "webhook",
    orders.Count: "metric",
}
AFTERWARDS_S: Final = 15.0
"""What `on.hangup` began is waited for at most so long."""

_NOTED: Final[Mapping[type[Order], str]] = {
    orders.Update: "update",
    orders.SwitchAgent: "switch_agent",
    orders.SendDtmf: "send_dtmf",
    orders.HoldMusic: "music",
    orders.Record: "record",
    orders.Say: "say",
    orders.Play: "play",
    orders.HangUp: "hang_up",
    orders.CallWebhook: "webhook",
    orders.CallHttp: "http",
    orders.CallPython: "python",
    orders.ToolResult: "tool_result",
}
"""Orders that stand in the record, by the name of their action; transfers tell more of themselves."""


class Actor(Protocol):
    """What only the call itself can do."""

    @property
    def session(self) -> Session | None:
        """The agent, if it can be asked for anything now."""

    def connect(self) -> None: ...

    def ask_words(self, order: int, text: str, *, barge_in: bool) -> None:
        """The agent says exactly this."""

    def play_words(self, order: int, audio: bytes, *, barge_in: bool) -> None:
        """We say it, in the leg's format."""

    @property
    def agent_can_say(self) -> bool:
        """It is there, heard, and knows how to say exact words."""

    def stop_speech(self) -> None: ...

    def expect_reply(self) -> None: ...

    def switch(self, order: orders.SwitchAgent) -> Awaitable[str | None]:
        """None once the new agent is ready; otherwise why it is not."""

    def music(self, loop: bytes | None) -> None: ...

    def mute(self, *, caller: bool, agent: bool, on: bool) -> None: ...

    def discreet(self, *, on: bool) -> None: ...

    def record(self, what: orders.Recorded) -> str | None:
        """Why it cannot be, or None."""

    def transferring(self, *, on: bool) -> None:
        """The caller is on the way to somebody else, or not any more."""

    def hang_up(self, order: orders.HangUp) -> None: ...


class Stage:
    """`perform` takes one order; its end is told to the director."""

    def __init__(
        self,
        actor: Actor,
        leg: Leg,
        outside: Outside,
        record: Record,
        *,
        clock: Callable[[], int],
        observer: Observer,
        log: Any,
    ) -> None:
        self._actor, self._leg, self._outside, self._log = actor, leg, outside, log
        self._record, self._clock, self._observer = record, clock, observer
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfer: orders.Transfer | None = None
        self._keys: int | None = None
        self.director: Director | None = None
        self.marks: Final = record.marks

    # ------------------------------------------------------------ orders

    def perform(self, order: Order) -> None:
        """One order of the engine. Never raises."""
        if not isinstance(order, orders.Note):
            self._observer.ordered(_name(order))
        try:
            self._perform(order)
        except (UpdateImpossible, OutsideFailed) as why:
            self._failed(order.id, str(why))

    def _perform(self, order: Order) -> None:
        if kind := _NOTED.get(type(order)):
            self._record.note(kind)
        match order:
            case orders.Say() | orders.Play():
                self._say(order)
            case orders.SendText() | orders.Reply() | orders.Update() | orders.ToolResult():
                self._ask(order)
            case orders.SwitchAgent():
                self._later(self._switch(order))
            case orders.Transfer():
                self._send_away(order)
            case orders.SendDtmf():
                self._keys = order.id
                self._leg.send_dtmf(order.digits, tone_ms=order.tone_ms, gap_ms=order.gap_ms)
            case orders.CallWebhook():
                self._later(self._answer(order, "webhook", self._outside.webhook(order)))
            case orders.CallHttp():
                self._later(self._answer(order, "http", self._outside.http(order)))
            case orders.CallPython():
                self._later(self._answer(order, "python", self._outside.python(order)))
            case orders.Tag():
                self.marks.tags.append(order.text)
                if isinstance(self._leg, TakesTags):
                    self._leg.tag(order.text)
            case orders.Count():
                name = _counted(order.metric, order.labels)
                self.marks.counts[name] = self.marks.counts.get(name, 0.0) + order.add
                self._observer.counted(order.metric, order.add, order.labels)
            case orders.Note():
                self.marks.failures[order.what] += 1
                self._observer.failed(order.what.removesuffix(" failed"))
                self._log.warning("dialplan_note", what=order.what, detail=order.detail[:200])
            case _:
                self._act(order)

    def _act(self, order: Order) -> None:
        actor = self._actor
        match order:
            case orders.Connect():
                actor.connect()
            case orders.StopSpeech():
                actor.stop_speech()
            case orders.HoldMusic():
                actor.music(None if order.file is None else self._loop_of(order.file))
            case orders.Mute():
                actor.mute(caller=order.caller, agent=order.agent, on=order.on)
            case orders.Discreet():
                actor.discreet(on=order.on)
            case orders.Record():
                if why := actor.record(order.what):
                    self._failed(order.id, why)
            case orders.HangUp():
                actor.hang_up(order)
            case _:
                raise AssertionError(f"no way to carry out {type(order).__name__}")

    def _ask(self, order: orders.SendText | orders.Reply | orders.Update | orders.ToolResult) -> None:
        """Of the agent."""
        session = self._actor.session
        if session is None:
            self._failed(order.id, "the agent is not there")
            return
        match order:
            case orders.SendText():
                role = TextRole.CALLER if order.as_caller else TextRole.CONTEXT
                session.send_text(order.text, role=role, respond=order.answer)
            case orders.Reply():
                session.request_reply(order.instructions)
                self._actor.expect_reply()
            case orders.Update():
                session.update(order.wanted.neutral, order.wanted.vendor)
            case orders.ToolResult():
                session.tool_result(order.tool_call_id, order.output, failed=order.failed)
                self._record.tool_answered(order.tool_call_id)
            case _:
                assert_never(order)

    # ------------------------------------------------------------ words

    def _say(self, order: orders.Say | orders.Play) -> None:
        if isinstance(order, orders.Play):
            self._actor.play_words(order.id, self._outside.recording(order.file), barge_in=order.barge_in)
        elif order.by == "local" or not self._actor.agent_can_say:
            self._later(self._synthesize(order))
        else:
            self._actor.ask_words(order.id, order.text, barge_in=order.barge_in)

    def say_last(self, token: int, text: str) -> None:
        """Words after which the call ends; nobody talks them down."""
        self._say(orders.Say(token, text, barge_in=False))

    async def _synthesize(self, order: orders.Say) -> None:
        try:
            audio = await self._outside.speech(order.text)
        except OutsideFailed as why:
            if not self._actor.agent_can_say:
                self._failed(order.id, str(why))
            else:
                self._actor.ask_words(order.id, order.text, barge_in=order.barge_in)
            return
        self._actor.play_words(order.id, audio, barge_in=order.barge_in)

    def _loop_of(self, file: str) -> bytes:
        return self._outside.recording(file) if file else self._outside.music()

    # ------------------------------------------------------------ transfer and keys

    def _send_away(self, order: orders.Transfer) -> None:
        if self._transfer is not None:
            self._failed(order.id, "another transfer is on its way")
            return
        music = None if order.music is None else self._loop_of(order.music)
        self._transfer = order
        self._actor.transferring(on=True)
        self._actor.music(music)
        self._leg.transfer(order.target, timeout_s=order.timeout_s)
        self._happened("transfer_requested", target=order.target)

    def transfer_rings(self) -> None:
        if self._transfer is not None:
            self._happened("transfer_ringing", target=self._transfer.target)

    def transfer_over(self, status: int = 200, detail: str = "") -> None:
        """`status`: of SIP, 200 for success."""
        order, self._transfer = self._transfer, None
        if order is None:
            return
        self._actor.transferring(on=False)
        if status == 200:
            self._happened("transfer_answered", target=order.target)
            self._done(order.id)
            return
        self._actor.music(None)
        error = detail or f"status {status}"
        self._happened("transfer_failed", target=order.target, cause=str(status), error=error)
        self._failed(order.id, error)

    def keys_sent(self, error: str = "") -> None:
        order, self._keys = self._keys, None
        if order is None:
            return
        if error:
            self._failed(order, error)
        else:
            self._done(order)

    # ------------------------------------------------------------ what takes time

    async def _switch(self, order: orders.SwitchAgent) -> None:
        why = await self._actor.switch(order)
        if why is None:
            self._done(order.id)
        else:
            self._failed(order.id, why)

    async def _answer(self, order: Order, what: str, asked: Awaitable[Any]) -> None:
        """`what`: for the metrics."""
        began_ns = self._clock()
        try:
            answer = await asked
        except OutsideFailed as why:
            self._observer.asked(what, (self._clock() - began_ns) / 1e6, failed=True)
            self._failed(order.id, str(why))
            return
        self._observer.asked(what, (self._clock() - began_ns) / 1e6, failed=False)
        self._done(order.id, answer)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work, name="dialplan")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._log.error("dialplan_bug", exc_info=bug)

    async def close(self) -> None:
        """Let what is on its way come to its end, within bounds; then nothing of it is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=AFTERWARDS_S)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # ------------------------------------------------------------ to the director

    def _happened(self, event: str, **facts: str) -> None:
        self._record.note(event, **facts)
        if self.director is not None:
            self.director.happened(event, **facts)

    def _done(self, order: int, answer: Any = None) -> None:
        if self.director is not None:
            self.director.done(order, answer)

    def _failed(self, order: int, error: str) -> None:
        self._record.note("failed", error=error[:200])
        if self.director is not None:
            self.director.failed(order, error)


def _name(order: Order) -> str:
    """As an author of dialplans knows it: "send_text"."""
    kind = type(order)
    return _NAMES.get(kind) or _WORD_STARTS.sub("_", kind.__name__).lower()


def _counted(metric: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return f"{metric}{{{inside}}}" if inside else metric
