"""Keys: one press however many methods tell of it, sequences, collections, menus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from telbridge.dialplan import orders
from telbridge.dialplan.actions import ActionBase
from telbridge.dialplan.inputs import Key
from telbridge.dialplan.prompts import DISCREET_S, ask_again, ask_menu, end_collecting
from telbridge.dialplan.rules import KeyRule
from telbridge.dialplan.running import advance, failed, menu_after, picked, start
from telbridge.dialplan.state import Origin, Press
from telbridge.dialplan.values import Masked
from telbridge.dialplan.work import Work

OTHER: Final = "other"


def pressed(work: Work, key: Key) -> bool:
    """A key of the caller; whether it is left for the notice."""
    if not _is_new(work, key):
        return False
    state = work.state
    if state.noticing is not None:
        return True
    if state.collecting is not None:
        _collected(work, key.digit)
    elif state.opened and not _deaf(work):
        _typed(work, key.digit)
    return False


def _is_new(work: Work, key: Key) -> bool:
    """One press is told of by each method once; the first report counts."""
    window = work.plan.dialplan.dtmf.same_key_ms * 1_000_000
    recent = [
        one for one in work.state.presses
        if work.at_ns - one.at_ns <= window + max(one.duration_ms, key.duration_ms) * 1_000_000
    ]  # fmt: skip
    for index, one in enumerate(recent):
        if one.digit == key.digit and key.method not in one.methods:
            recent[index] = replace(one, methods=one.methods | {key.method})
            work.set(presses=tuple(recent))
            return False
    press = Press(key.digit, frozenset({key.method}), work.at_ns, key.duration_ms)
    work.set(presses=(*recent[-15:], press))
    return True


def _deaf(work: Work) -> bool:
    """The prompt of a menu is to be heard to its end."""
    asking, menu = work.state.asking, work.context.menu
    return asking is not None and asking.prompt is not None and menu is not None and not menu.interrupt


# ------------------------------------------------------------------ collections


def _collected(work: Work, digit: str) -> None:
    collecting = work.state.collecting
    assert collecting is not None
    action = collecting.action
    if collecting.prompt is not None:
        if not action.interrupt:
            return
        work.order(orders.StopSpeech)
        collecting = replace(collecting, prompt=None, total_ns=work.after(action.total_s))
    if digit == action.end:
        work.set(collecting=collecting)
        _end_collecting(work)
        return
    if digit.isdigit():
        collecting = replace(collecting, digits=collecting.digits + digit)
    total = collecting.total_ns if collecting.total_ns is not None else work.after(action.total_s)
    work.set(collecting=replace(collecting, next_ns=work.after(action.between_s), total_ns=total))
    if len(collecting.digits) >= action.max:
        _end_collecting(work)


def collecting_timed_out(work: Work) -> None:
    """Nothing more comes; enough may have come."""
    _end_collecting(work)


def _end_collecting(work: Work) -> None:
    collecting = work.state.collecting
    assert collecting is not None
    action = collecting.action
    if len(collecting.digits) < action.min and collecting.tries_left > 0:
        ask_again(work)
        return
    end_collecting(work)
    run = work.run(collecting.run)
    if run is None:
        return
    if len(collecting.digits) < action.min:
        failed(work, run, action, "too few digits came")
        advance(work, run.id)
        return
    digits: str | Masked = Masked(collecting.digits) if action.masked else collecting.digits
    work.set(digits={**work.state.digits, action.collect: digits})
    if action.tell_agent:
        told = f"The caller keyed in {action.collect}: {collecting.digits}"
        work.order(orders.SendText, told, as_caller=False, answer=False, secret=action.masked)
    shown = (
        '{"result":"the digits were collected"}' if action.masked else f'{{"digits":"{collecting.digits}"}}'
    )
    result = shown if run.tool_call_id is not None and not run.result else run.result
    work.put(replace(run, now=None, result=result))
    advance(work, run.id)


# ------------------------------------------------------------------ bound keys and sequences


def _typed(work: Work, digit: str) -> None:
    keys = work.keys
    typed = work.state.typed + digit
    keypad = work.plan.dialplan.dtmf
    if any(len(name) > len(typed) and name.startswith(typed) for name in keys if name != OTHER):
        since = work.state.typed_since_ns if work.state.typed else work.at_ns
        until = min(work.after(keypad.between_s), since + round(keypad.total_s * 1e9))
        work.set(typed=typed, typed_since_ns=since, typed_until_ns=max(until, work.at_ns + 1))
        return
    if typed in keys:
        work.set(typed="", typed_until_ns=None)
        _bound(work, typed, keys[typed])
        return
    if work.state.typed:
        sequence_over(work)
        if work.state.hanging_up:
            return
        if work.state.collecting is not None:
            _collected(work, digit)
        else:
            _typed(work, digit)
        return
    _unbound(work, digit)


def sequence_over(work: Work) -> None:
    """No further key came: what was typed is all there is."""
    typed, keys = work.state.typed, work.keys
    work.set(typed="", typed_until_ns=None)
    if typed in keys:
        _bound(work, typed, keys[typed])
        return
    for digit in typed:
        if work.state.hanging_up or work.state.collecting is not None:
            return
        if digit in keys:
            _bound(work, digit, keys[digit])
        else:
            _unbound(work, digit)


def _bound(work: Work, name: str, rules: tuple[KeyRule, ...], shown: str = "") -> None:
    """The first rule that holds."""
    shown = shown or name
    extra: Mapping[str, object] = {"key": shown, "count": work.state.counts.get(f"key {shown}", 0) + 1}
    work.set(counts={**work.state.counts, f"key {shown}": extra["count"]})
    place = f"{work.state.context}.keys.{name}"
    rule = next(
        (one for index, one in enumerate(rules) if picked(work, f"{place}[{index}]", one, extra)), None
    )
    if rule is None:
        if name != OTHER:
            _unbound(work, shown)
        return
    if rule.interrupt and work.sounding:
        work.order(orders.StopSpeech)
    if rule.tell_agent:
        _tell(work, shown, answer=False)
    context, work_menu = work.state.context, work.state.asking is not None
    work.set(asking=None)
    run_id = start(work, tuple[ActionBase, ...](rule.do), Origin.CONTEXT, extra)
    if work_menu and work.state.context == context:
        menu_after(work, run_id)


def _unbound(work: Work, digits: str) -> None:
    discreet = work.at_ns < work.state.discreet_until_ns
    if discreet:
        work.set(discreet_until_ns=work.after(DISCREET_S))
        return
    if OTHER in work.keys and digits != OTHER:
        _bound(work, OTHER, work.keys[OTHER], digits)
    elif work.state.asking is not None:
        if work.state.asking.prompt is not None:
            work.order(orders.StopSpeech)
        menu_missed(work)
    elif work.plan.dialplan.dtmf.tell_agent and work.state.connected:
        _tell(work, digits, answer=True)


def _tell(work: Work, digits: str, *, answer: bool) -> None:
    work.order(orders.SendText, f"[DTMF] caller pressed {digits}", as_caller=True, answer=answer)


def menu_missed(work: Work) -> None:
    """No key, or none of the menu's: ask again, or give up."""
    menu, asking = work.context.menu, work.state.asking
    if menu is None or asking is None:
        return
    if asking.tries_left > 0:
        ask_menu(work, menu, asking.tries_left - 1, again=True)
        return
    work.set(asking=None)
    start(work, tuple[ActionBase, ...](menu.failed), Origin.CONTEXT)
