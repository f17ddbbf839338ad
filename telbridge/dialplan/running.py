"""Lists of actions: one after the other, waiting for those that take time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from telbridge.dialplan import actions as act
from telbridge.dialplan import orders
from telbridge.dialplan.actions import ActionBase, Actions
from telbridge.dialplan.model import MAIN
from telbridge.dialplan.plan import NEUTRAL, Resolved
from telbridge.dialplan.prompts import begin_collecting, end_collecting
from telbridge.dialplan.state import Origin, Run
from telbridge.dialplan.templates import rendered
from telbridge.dialplan.values import HIDDEN, Masked, from_outside, text
from telbridge.dialplan.walking import actions as nested
from telbridge.dialplan.walking import name_of
from telbridge.dialplan.work import Work

MOST_RUNS: Final = 16
DEEPEST: Final = 5
"""Answers of webhooks that lead to webhooks."""
SPEECH_S: Final = 180.0
TRANSFER_SLACK_S: Final = 30.0
"""On top of `timeout_s`: a media stream first says its last words, and comes back after a failure. The leg
itself tells earlier how it went."""
_TARGET: Final = re.compile(r"[A-Za-z0-9+*#._@:;=%~&?,/\[\]-]{1,256}")
_KEYS: Final = re.compile(r"[0-9A-D*#,]{1,64}")
_ANSWERED: Final = TypeAdapter[tuple[ActionBase, ...]](Actions)


class CannotDo(Exception):
    """An action failed before anything was asked of the call."""


def start(
    work: Work,
    actions: tuple[ActionBase, ...],
    origin: Origin,
    extra: Mapping[str, Any] | None = None,
    *,
    tool_call_id: str | None = None,
    result: str = "",
) -> int | None:
    """Begin a list and go as far as it goes at once; its id while it is not over."""
    if len(work.state.runs) >= MOST_RUNS:
        work.note("too many lists of actions at a time", name_of(actions[0]) if actions else "")
        return None
    run = Run(work.state.next_id, actions, origin, extra or {}, tool_call_id=tool_call_id, result=result)
    work.set(next_id=run.id + 1, runs=(*work.state.runs, run))
    advance(work, run.id)
    return run.id if work.run(run.id) else None


def advance(work: Work, run_id: int) -> None:
    """Until it waits, or is over."""
    while (run := work.run(run_id)) is not None and run.order is None and run.now is None:
        if work.state.hanging_up or not run.rest:
            _over(work, run)
            return
        if work.actions_left <= 0:
            work.note("too many actions at a time", work.state.context)
            work.drop(run_id)
            return
        work.actions_left -= 1
        action, run = run.rest[0], replace(run, rest=run.rest[1:])
        work.put(run)
        if work.state.closing and not action.after_hang_up:
            continue
        if action.when is not None and not action.when.holds(work.scope(run.extra)):
            continue
        try:
            _do(work, run, action)
        except CannotDo as error:
            failed(work, run, action, str(error))


def _over(work: Work, run: Run) -> None:
    work.drop(run.id)
    if run.tool_call_id is not None and not work.state.hanging_up:
        work.order(orders.ToolResult, run.tool_call_id, run.result or '{"result":"done"}')


def failed(work: Work, run: Run, action: ActionBase, error: str) -> None:
    """`on_error` takes the place of the rest; without it the list goes on."""
    run = replace(run, now=None, order=None, deadline_ns=None)
    if action.on_error is not None:
        extra = {**run.extra, "error": error, "action": name_of(action)}
        work.put(replace(run, rest=tuple(action.on_error), extra=extra))
        return
    work.note(f"{name_of(action)} failed", error)
    if run.tool_call_id is not None and not run.rest:
        work.drop(run.id)
        work.order(orders.ToolResult, run.tool_call_id, '{"error":"it failed"}', failed=True)
    else:
        work.put(run)
    if "error" not in run.extra:
        events(work, "error", {"action": name_of(action), "error": error})


def finished(work: Work, order_id: int, answer: Any) -> None:
    """The order that a run waits for was carried out."""
    answer = from_outside(answer)
    run = next((one for one in work.state.runs if one.order == order_id), None)
    if run is None or run.now is None:
        if run is not None:  # A tool of an HTTP server or in Python: there is no action.
            work.put(replace(run, order=None, deadline_ns=None, result=_shown(answer)))
            advance(work, run.id)
        return
    action = run.now
    run = replace(run, now=None, order=None, deadline_ns=None)
    work.put(run)
    try:
        if isinstance(action, act.Webhook):
            _answered(work, run, action, answer)
        elif isinstance(action, act.SwitchAgent):
            _switched(work, action.switch_agent)
    except CannotDo as error:
        failed(work, run, action, str(error))
    advance(work, run.id)


def _switched(work: Work, name: str) -> None:
    """Another agent, with its own tools and price; nobody waits for results of the old one's calls."""
    session = work.plan.session(name)
    agent = session.agent or work.plan.default_agent
    runs = tuple(
        replace(run, tool_call_id=None)
        for run in work.state.runs
        if run.tool_call_id is None or run.now is not None or run.order is None
    )
    work.set(agent=agent, tools=work.plan.offered(session), spent=work.cost, priced_ns=work.at_ns, runs=runs)
    events(work, "agent_switched", {"agent_name": agent})


def broke(work: Work, order_id: int, error: str) -> None:
    """An order could not be carried out."""
    run = next((one for one in work.state.runs if one.order == order_id), None)
    if run is not None and run.now is not None:
        failed(work, run, run.now, error)
        advance(work, run.id)
    elif run is not None and run.tool_call_id is not None:
        work.drop(run.id)
        work.order(orders.ToolResult, run.tool_call_id, '{"error":"it failed"}', failed=True)
        work.note("tool failed", error)
    elif (pending := work.state.pending.get(order_id)) is not None:
        forget(work, order_id)
        extra = {**pending.extra, "error": error, "action": pending.action}
        if pending.on_error is not None:
            start(work, pending.on_error, Origin.EVENT, extra)
        else:
            work.note(f"{pending.action} failed", error)
            if "error" not in pending.extra:
                events(work, "error", {"action": pending.action, "error": error})


def forget(work: Work, order_id: int) -> None:
    """It cannot fail any more."""
    if order_id in work.state.pending:
        work.set(pending={key: one for key, one in work.state.pending.items() if key != order_id})


def _shown(answer: Any) -> str:
    return text(answer) if answer is not None else '{"result":"done"}'


# ------------------------------------------------------------------ events


def events(work: Work, event: str, own: Mapping[str, Any]) -> None:
    """What the context and the top of the file say to an event."""
    if work.state.hanging_up or (work.state.closing and event != "hangup"):
        return
    _count(work, event)
    extra = {**own, "count": work.state.counts[event]}
    context = work.state.context
    if context != MAIN:
        fire(work, f"{context}.{event}", work.context.on.of(event), extra)
    fire(work, event, work.plan.dialplan.on.of(event), extra)


def fire(work: Work, place: str, rules: tuple[Any, ...], extra: Mapping[str, Any]) -> None:
    """The rules that hold."""
    for index, rule in enumerate(rules):
        if picked(work, f"{place}[{index}]", rule, extra):
            start(work, rule.do, Origin.EVENT, extra)


def picked(work: Work, place: str, rule: Any, extra: Mapping[str, Any]) -> bool:
    """Whether a rule is to be followed this time."""
    pattern, tool = getattr(rule, "matches", None), getattr(rule, "tool", None)
    if pattern is not None and not rule.found_in(str(extra.get("text", ""))):
        return False
    if tool is not None and extra.get("tool") != tool:
        return False
    if rule.when is not None and not rule.when.holds(work.scope(extra)):
        return False
    if not rule.once and rule.every is None:
        return True
    _count(work, place)
    times = work.state.counts[place]
    return bool(times == 1 if rule.once else times % rule.every == 0)


def _count(work: Work, name: str) -> None:
    work.set(counts={**work.state.counts, name: work.state.counts.get(name, 0) + 1})


# ------------------------------------------------------------------ contexts


def enter(work: Work, name: str) -> None:
    """Leave what belongs to this context, begin another."""
    if name != MAIN and name not in work.plan.dialplan.contexts:
        raise CannotDo(f"no such context {name}")
    if work.gotos_left <= 0:
        raise CannotDo("contexts lead to each other in a circle")
    work.gotos_left -= 1
    collecting = work.state.collecting
    kept = tuple(run for run in work.state.runs if run.origin is not Origin.CONTEXT)
    end_collecting(work)
    work.set(context=name, runs=kept, asking=None, entering=None, typed="", typed_until_ns=None)
    if collecting is not None and (run := work.run(collecting.run)) is not None:
        failed(work, run, collecting.action, "another context was entered")
        advance(work, run.id)
    if work.state.context == name:
        menu_after(work, start(work, work.context.enter, Origin.CONTEXT))


def menu_after(work: Work, run_id: int | None) -> None:
    """The menu asks when this run is over; `entering` 0 stands for at once."""
    if work.context.menu is not None and not work.state.hanging_up and work.state.asking is None:
        work.set(entering=run_id or 0)


# ------------------------------------------------------------------ actions


def _do(work: Work, run: Run, action: ActionBase) -> None:
    scope = work.scope(run.extra)
    match action:
        case act.Goto():
            enter(work, action.goto)
            if work.run(run.id) is not None:
                work.put(replace(run, rest=()))
        case act.Stop():
            work.put(replace(run, rest=()))
        case act.Set():
            values = {name: _kept(value, scope) for name, value in action.set.items()}
            work.set(vars={**work.state.vars, **values})
        case act.Collect():
            work.put(replace(run, now=action))
            if work.state.collecting is not None:
                raise CannotDo("other digits are being collected")
            begin_collecting(work, run.id, action)
        case act.HangUp():
            words = action.last_words.text(scope) if action.last_words else ""
            hang_up(work, "normal" if action.hangup is True else action.hangup, words)
        case act.Webhook():
            _wait(work, run, action, _webhook(work, action, scope))
        case _:
            order, waits_s = _order(work, action, scope)
            if order is None:
                return
            if waits_s is not None and not (isinstance(action, act.Waiting) and not action.wait):
                _wait(work, run, action, order, waits_s)
            else:
                work.may_fail(order, name_of(action), action.on_error, run.extra)


def hang_up(work: Work, cause: str, last_words: str = "") -> None:
    """The last order of a call."""
    work.order(orders.HangUp, cause, last_words)
    work.set(
        hanging_up=True, runs=(), pending={}, collecting=None, asking=None, entering=None, noticing=None,
        typed="", typed_until_ns=None, quiet_since_ns=None,
    )  # fmt: skip


def _wait(
    work: Work, run: Run, action: ActionBase, order: orders.Order, bound_s: float | None = None
) -> None:
    if isinstance(action, act.Webhook):
        if not action.wait or work.state.closing:
            work.may_fail(order, "webhook", action.on_error, run.extra)
            return
        bound_s = (action.timeout_s + 2) * (action.retries + 1) + 5
    deadline = work.after(bound_s or SPEECH_S)
    work.put(replace(run, now=action, order=order.id, deadline_ns=deadline))


def _order(
    work: Work, action: ActionBase, scope: Mapping[str, Any]
) -> tuple[orders.Order | None, float | None]:
    """The order, and how long to wait for it at most; None: not at all."""
    match action:
        case act.Say():
            words = action.say.text(scope)
            return work.order(
                orders.Say, words, action.barge_in, action.by
            ) if words.strip() else None, SPEECH_S
        case act.Play():
            return work.order(orders.Play, action.play, action.barge_in), SPEECH_S
        case act.SendText():
            words = action.send_text.text(scope)
            return work.order(orders.SendText, words, action.as_ == "caller", action.answer), None
        case act.Reply():
            wish = None if action.reply is True else action.reply.text(scope)
            return work.order(orders.Reply, wish), None
        case act.Update():
            return _update(work, action, scope), None
        case act.SwitchAgent():
            name = action.switch_agent
            if name not in work.plan.sessions and name not in work.plan.agents:
                raise CannotDo(f"no such profile {name}")
            wanted = work.plan.wanted(work.plan.session(name), scope)
            return work.order(orders.SwitchAgent, name, wanted, action.handover), 45.0
        case act.Transfer():
            target = action.transfer.text(scope).strip()
            if not _TARGET.fullmatch(target):
                raise CannotDo("the target is no address")
            music, wait_s = action.music, action.timeout_s
            return work.order(orders.Transfer, target, action.mode, wait_s, music), wait_s + TRANSFER_SLACK_S
        case act.HoldMusic():
            music = (
                action.hold_music if isinstance(action.hold_music, str) else "" if action.hold_music else None
            )
            return work.order(orders.HoldMusic, music), None
        case act.Mute():
            return _mute(work, action.mute, on=True), None
        case act.Unmute():
            return _mute(work, action.unmute, on=False), None
        case act.Record():
            return work.order(orders.Record, "start" if action.record is True else action.record), None
        case act.SendDtmf():
            keys = "".join(action.send_dtmf.text(scope).split())
            if not _KEYS.fullmatch(keys):
                raise CannotDo("these are no keys")
            wait_s = len(keys) * 2.1 + 10
            return work.order(orders.SendDtmf, keys, action.tone_ms, action.gap_ms), wait_s
        case act.Connect():
            return connect(work), None
        case act.TagCall():
            return work.order(orders.Tag, action.tag.text(scope)[:200]), None
        case act.Metric():
            labels = {name: label.text(scope)[:100] for name, label in action.labels.items()}
            return work.order(orders.Count, action.metric, action.add, labels), None
    raise CannotDo("not known here")


def connect(work: Work) -> orders.Order | None:
    """Once a call."""
    if work.state.connected:
        return None
    work.set(connected=True)
    return work.order(orders.Connect)


def _mute(work: Work, way: str | bool, *, on: bool) -> orders.Order:
    return work.order(orders.Mute, way in (True, "caller", "both"), way in (True, "agent", "both"), on)


def _update(work: Work, action: act.Update, scope: Mapping[str, Any]) -> orders.Order | None:
    neutral = {key: value for key, value in action.update.items() if key in NEUTRAL}
    vendor = {key: value for key, value in action.update.items() if key not in NEUTRAL}
    change = Resolved(work.state.agent, neutral, vendor)
    wanted = work.plan.wanted(change, scope, change=True)
    if (tools := work.plan.offered(change)) is not None:
        work.set(tools=tools)
    for key in wanted.left_out:
        work.note("update: a template gave a value that does not fit", key)
    if not wanted.neutral.model_fields_set and not wanted.vendor:
        return None
    return work.order(orders.Update, wanted)


def _kept(value: Any, scope: Mapping[str, Any]) -> Any:
    found = value.value(scope) if hasattr(value, "value") else value
    return HIDDEN if isinstance(found, Masked) else found


# ------------------------------------------------------------------ webhooks


def _webhook(work: Work, action: act.Webhook, scope: Mapping[str, Any]) -> orders.Order:
    facts = work.state.facts
    digits = {
        name: value if name in action.reveal or not isinstance(value, Masked) else HIDDEN
        for name, value in work.state.digits.items()
    }
    send = _opened(rendered(action.send, {**scope, "digits": digits}, reveal=True))
    own = {
        "call_id": facts.call_id,
        "caller": facts.caller,
        "called": facts.called,
        "dialplan": work.plan.name,
    }
    headers = {name: _one_line(value.text(scope)) for name, value in action.headers.items()}
    url, body = action.webhook.url(scope), {**own, "context": work.state.context, **send}
    return work.order(
        orders.CallWebhook, url, body, headers, action.timeout_s, action.retries, action.secret_env
    )


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:2000]


def _opened(tree: Any) -> Any:
    if isinstance(tree, Masked):
        return tree.secret
    if isinstance(tree, Mapping):
        return {key: _opened(item) for key, item in tree.items()}
    return [_opened(item) for item in tree] if isinstance(tree, (list, tuple)) else tree


def _answered(work: Work, run: Run, action: act.Webhook, answer: Any) -> None:
    """`set` for variables that the dialplan knows, `actions` next in the list."""
    if action.as_ is not None:
        work.set(answers={**work.state.answers, action.as_: answer})
    if not isinstance(answer, Mapping):
        return
    values = answer.get("set")
    if isinstance(values, Mapping):
        kept = {
            str(name): value for name, value in values.items() if isinstance(value, (str, int, float, bool))
        }
        work.set(vars={**work.state.vars, **kept})
    more = answer.get("actions")
    if more:
        if run.depth >= DEEPEST:
            raise CannotDo("answers lead to answers without an end")
        work.put(replace(run, rest=(*_parsed(more), *run.rest), depth=run.depth + 1))


def _parsed(more: Any) -> tuple[ActionBase, ...]:
    try:
        actions = _ANSWERED.validate_python(more)
    except (ValidationError, RecursionError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "nested too deeply"
        raise CannotDo(f"its actions are wrong: {fault}") from None
    if any(isinstance(action, act.Webhook) and action.reveal for _, action in nested(actions)):
        raise CannotDo("its actions are wrong: an answer may not reveal digits")
    return actions
