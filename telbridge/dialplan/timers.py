"""What becomes due by itself, and when the shell must come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from telbridge.dialplan import actions as act
from telbridge.dialplan.keypad import collecting_timed_out, menu_missed, sequence_over
from telbridge.dialplan.model import MAIN
from telbridge.dialplan.prompts import menu_heard, prompt_heard
from telbridge.dialplan.rules import SilenceRule
from telbridge.dialplan.running import broke, events, finished, hang_up, picked, start
from telbridge.dialplan.state import Origin
from telbridge.dialplan.work import Work

MOST_ROUNDS: Final = 64


def due(work: Work) -> None:
    """Everything whose time has come."""
    for _ in range(MOST_ROUNDS):
        if work.state.hanging_up or not _one(work):
            return


def _one(work: Work) -> bool:
    """One thing that is due; whether there was one."""
    state, now = work.state, work.at_ns
    for run in state.runs:
        if run.order is not None and run.deadline_ns is not None and run.deadline_ns <= now:
            if isinstance(run.now, (act.Say, act.Play)):
                finished(work, run.order, None)
            else:
                broke(work, run.order, "no answer in time")
            return True
    if state.collecting is not None:
        times = (state.collecting.next_ns, state.collecting.total_ns)
        if any(time is not None and time <= now for time in times):
            if state.collecting.prompt is not None:
                prompt_heard(work)
            else:
                collecting_timed_out(work)
            return True
    if state.asking is not None and _past(state.asking.deadline_ns, now):
        menu = work.context.menu
        if state.asking.prompt is not None and menu is not None:
            menu_heard(work, menu)
        else:
            menu_missed(work)
        return True
    if _past(state.typed_until_ns, now):
        sequence_over(work)
        return True
    return _limits(work) or _silence(work)


def _past(moment: int | None, now: int) -> bool:
    return moment is not None and moment <= now


# ------------------------------------------------------------------ limits


def _ends(work: Work) -> Iterator[tuple[str, int]]:
    """Each limit and when it is used up."""
    limits, state = work.plan.dialplan.limits, work.state
    if limits.duration_s is not None and state.answered_ns is not None:
        yield "duration", state.answered_ns + round(limits.duration_s * 1e9)
    if limits.cost is not None and state.priced_ns is not None and work.price > 0:
        yield "cost", state.priced_ns + round((limits.cost - state.spent) / work.price * 60e9)


def _limits(work: Work) -> bool:
    warn_ns = round(work.plan.dialplan.limits.warn_s * 1e9)
    for limit, end_ns in _ends(work):
        if end_ns <= work.at_ns:
            hang_up(work, "limit")
            return True
        if end_ns - warn_ns <= work.at_ns and limit not in work.state.warned:
            work.set(warned=work.state.warned | {limit})
            left_s = round((end_ns - work.at_ns) / 1e9)
            events(work, "limit_near", {"limit": limit, "left": str(left_s)})
            return True
    return False


# ------------------------------------------------------------------ silence


def _silence_rules(work: Work) -> Iterator[tuple[str, SilenceRule]]:
    context = work.state.context
    places: list[tuple[str, Any]] = [("silence", work.plan.dialplan.on)]
    if context != MAIN:
        places.insert(0, (f"{context}.silence", work.context.on))
    for place, on in places:
        for index, rule in enumerate(on.silence):
            yield f"{place}[{index}]", rule


def _silence_due(work: Work, place: str, rule: SilenceRule) -> int | None:
    since = work.state.quiet_since_ns
    if since is None:
        return None
    return since + max(1, round(rule.after_s * 1e9)) * (work.state.silences.get(place, 0) + 1)


def _silence(work: Work) -> bool:
    for place, rule in _silence_rules(work):
        moment = _silence_due(work, place, rule)
        since = work.state.quiet_since_ns
        if moment is None or since is None or moment > work.at_ns:
            continue
        times = (work.at_ns - since) // max(1, round(rule.after_s * 1e9))
        count = work.state.silences_in_row.get(place, 0) + 1
        work.set(
            silences={**work.state.silences, place: times},
            silences_in_row={**work.state.silences_in_row, place: count},
        )
        extra = {"count": count}
        if picked(work, place, rule, extra):
            start(work, rule.do, Origin.EVENT, extra)
        return True
    return False


def caller_gave_a_sign(work: Work) -> None:
    """Silence is counted from the beginning."""
    work.set(quiet_since_ns=None, silences={}, silences_in_row={})


def listen_for_silence(work: Work) -> None:
    """Whether it is quiet now, and since when."""
    state = work.state
    busy = (
        state.caller_speaks
        or state.held
        or not state.opened
        or state.hanging_up
        or state.collecting is not None
        or state.asking is not None
        or work.sounding
        or any(isinstance(run.now, act.Transfer) for run in state.runs)
    )
    if busy:
        if state.quiet_since_ns is not None or state.silences:
            work.set(quiet_since_ns=None, silences={})
    elif state.quiet_since_ns is None:
        work.set(quiet_since_ns=work.at_ns, silences={})


# ------------------------------------------------------------------ the next deadline


def deadline(work: Work) -> int | None:
    """The first moment at which something becomes due."""
    moments = [moment for moment in _moments(work) if moment is not None]
    return max(min(moments), work.at_ns + 1) if moments else None


def _moments(work: Work) -> Iterator[int | None]:
    state = work.state
    if state.hanging_up or state.ended:
        return
    yield from (run.deadline_ns for run in state.runs)
    if state.collecting is not None:
        yield state.collecting.next_ns
        yield state.collecting.total_ns
    if state.asking is not None:
        yield state.asking.deadline_ns
    if state.noticing is not None:
        yield state.noticing.deadline_ns
    yield state.typed_until_ns
    for limit, end_ns in _ends(work):
        yield end_ns
        if limit not in state.warned:
            yield end_ns - round(work.plan.dialplan.limits.warn_s * 1e9)
    for place, rule in _silence_rules(work):
        yield _silence_due(work, place, rule)
