"""What keys and events do to a call: (state, input, time) → (state, orders). No clock, no I/O.

The call makes a state with `begin`, passes everything that happens to `step`, carries out the orders in
their sequence, and comes back with `Tick` when the state's deadline has passed. A step never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from telbridge.dialplan import actions as act
from telbridge.dialplan import orders, tools
from telbridge.dialplan.actions import ActionBase
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.inputs import (
    Done,
    Ended,
    Failed,
    Happened,
    Input,
    Key,
    Tick,
    ToolCalled,
    ToolCancelled,
)
from telbridge.dialplan.keypad import pressed
from telbridge.dialplan.model import MAIN
from telbridge.dialplan.orders import Order
from telbridge.dialplan.plan import Opening, Plan
from telbridge.dialplan.prompts import PROMPT_S, ask_menu, menu_heard, prompt_heard
from telbridge.dialplan.rules import EVENTS
from telbridge.dialplan.running import (
    broke,
    connect,
    enter,
    events,
    finished,
    forget,
    hang_up,
    menu_after,
    start,
)
from telbridge.dialplan.state import Noticing, Origin, State
from telbridge.dialplan.timers import caller_gave_a_sign, deadline, due, listen_for_silence
from telbridge.dialplan.work import Work

_DIGITS: Final = frozenset("0123456789ABCD*#")
_OWN: Final = frozenset({"silence", "tool_called", "agent_switched", "limit_near", "error", "hangup"})
"""Events that the engine makes itself."""
_CHANGES: Final[Mapping[str, Mapping[str, bool]]] = {
    "caller_speaking": {"caller_speaks": True},
    "caller_stopped": {"caller_speaks": False},
    "agent_speaking": {"agent_speaks": True},
    "agent_stopped": {"agent_speaks": False},
    "interrupted": {"agent_speaks": False},
    "session_lost": {"agent_speaks": False},
    "hold": {"held": True},
    "resume": {"held": False},
}


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one input."""

    state: State
    orders: tuple[Order, ...]


def begin(plan: Plan, facts: Facts, at_ns: int, agent: str) -> State:
    """A call arrives. `agent`: the agent API that it really gets."""
    tools = plan.offered(plan.session(""))
    return State(facts, at_ns, agent, vars=dict(plan.dialplan.vars), tools=tools)


def preparing(state: State) -> bool:
    """Whether what `on.ringing` says is still on its way, a webhook that looks the caller up, say. The
    session is best opened after it, since its texts may name what is found; it has a bound of its own."""
    return state.answered_ns is None and bool(state.runs) and not state.hanging_up


def opening(plan: Plan, state: State, at_ns: int) -> Opening:
    """How the call starts, with all that is known of it now: variables, answers, digits."""
    return plan.opened(Work(plan, state, at_ns).scope({}))


def step(plan: Plan, state: State, happening: Input, at_ns: int) -> Step:
    """One thing happened."""
    if state.ended:
        return Step(state, ())
    work = Work(plan, state, at_ns)
    if isinstance(happening, Ended):
        _end(work, happening)
        return Step(work.state, tuple(work.orders))
    if state.hanging_up:
        return Step(state, ())
    due(work)
    _notice_due(work)
    if not work.state.hanging_up:
        _take(work, happening)
    _settle(work)
    listen_for_silence(work)
    work.set(deadline_ns=deadline(work))
    return Step(work.state, tuple(work.orders))


def _end(work: Work, ended: Ended) -> None:
    """Nothing is done any more but what `on.hangup` says."""
    work.set(
        closing=True, hanging_up=False, runs=(), pending={}, collecting=None, asking=None, entering=None,
        noticing=None, typed="", typed_until_ns=None, quiet_since_ns=None,
    )  # fmt: skip
    events(work, "hangup", {"cause": ended.cause})
    work.set(ended=True, hanging_up=True, runs=(), pending={}, deadline_ns=None)


def _take(work: Work, happening: Input) -> None:
    match happening:
        case Key():
            if happening.digit in _DIGITS:
                caller_gave_a_sign(work)
                if pressed(work, happening):
                    _notice_key(work, happening.digit)
        case Happened():
            _happened(work, happening)
        case ToolCalled():
            tools.called(work, happening)
        case ToolCancelled():
            tools.cancelled(work, happening.tool_call_id)
        case Done():
            if not _prompt_over(work, happening.order):
                finished(work, happening.order, happening.answer)
                forget(work, happening.order)
        case Failed():
            if not _prompt_over(work, happening.order):
                broke(work, happening.order, happening.error)
        case Tick():
            pass


def _happened(work: Work, happening: Happened) -> None:
    name = happening.event
    if name not in EVENTS or name in _OWN:
        return
    work.set(**_CHANGES.get(name, {}))
    if name in ("caller_speaking", "caller_said"):
        caller_gave_a_sign(work)
    if name == "answered":
        if work.state.answered_ns is not None:
            return
        work.set(answered_ns=work.at_ns, priced_ns=work.at_ns)
        _notice(work)
    known = {key: happening.facts.get(key, "") for key in EVENTS[name].facts}
    events(work, name, known)


# ------------------------------------------------------------------ the notice, then the call opens


def _notice(work: Work) -> None:
    notice = work.plan.dialplan.notice
    if notice is None:
        _open(work)
        return
    order: Order
    if notice.say is not None:
        order = work.order(orders.Say, notice.say.text(work.scope({})), False)
    else:
        order = work.order(orders.Play, notice.wav or "", False)
    work.set(noticing=Noticing(order.id, work.after(PROMPT_S)))


def _notice_over(work: Work) -> None:
    """Its last word was said, or its time is over."""
    notice, noticing = work.plan.dialplan.notice, work.state.noticing
    if notice is None or noticing is None:
        return
    if notice.accept is None:
        _open(work)
    elif noticing.order is not None:
        work.set(noticing=Noticing(None, work.after(notice.timeout_s)))
    elif notice.refused:
        work.set(noticing=None, opened=True)
        start(work, _to_an_end(notice.refused), Origin.CONTEXT)
    else:
        hang_up(work, "normal")


def _to_an_end(refused: tuple[ActionBase, ...]) -> tuple[ActionBase, ...]:
    """Whoever refuses and is led nowhere else is not left in a silent call."""
    leads_on = any(
        isinstance(action, (act.Connect, act.Goto, act.Transfer, act.HangUp)) for action in refused
    )
    return refused if leads_on else (*refused, act.HangUp(hangup=True))


def _notice_due(work: Work) -> None:
    noticing = work.state.noticing
    if noticing is not None and noticing.deadline_ns is not None and noticing.deadline_ns <= work.at_ns:
        _notice_over(work)


def _notice_key(work: Work, digit: str) -> None:
    notice, noticing = work.plan.dialplan.notice, work.state.noticing
    if notice is None or noticing is None or digit != notice.accept:
        return
    if noticing.order is not None:
        work.order(orders.StopSpeech)
    if notice.consent:
        work.order(orders.Record, "start")
    _open(work)


def _open(work: Work) -> None:
    plan = work.plan.dialplan
    work.set(noticing=None, opened=True)
    if not plan.agent_waits:
        connect(work)
    if plan.start != MAIN:
        enter(work, plan.start)
    else:
        menu_after(work, None)


# ------------------------------------------------------------------ loose ends of a step


def _prompt_over(work: Work, order: int) -> bool:
    """Whether it was a prompt of ours that nobody's list waits for."""
    state = work.state
    if state.noticing is not None and state.noticing.order == order:
        _notice_over(work)
        return True
    if state.collecting is not None and state.collecting.prompt == order:
        prompt_heard(work)
        return True
    menu = work.context.menu
    if state.asking is not None and state.asking.prompt == order and menu is not None:
        menu_heard(work, menu)
        return True
    return False


def _settle(work: Work) -> None:
    """The menu of a context asks once its way in is over."""
    entering, menu = work.state.entering, work.context.menu
    if entering is None or work.state.hanging_up:
        return
    if entering == 0 or work.run(entering) is None:
        work.set(entering=None)
        if menu is not None and work.state.collecting is None:
            ask_menu(work, menu, menu.tries - 1, again=False)
