"""Asking for keys: the words, the waiting, the next try."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from telbridge.dialplan import orders
from telbridge.dialplan.actions import Collect
from telbridge.dialplan.rules import Menu
from telbridge.dialplan.state import Asking, Collecting
from telbridge.dialplan.work import Work

PROMPT_S = 180.0
"""A prompt of which nothing is heard for so long counts as said."""


DISCREET_S: Final = 4.0
"""So long after masked digits further keys may still be meant for them."""


def begin_collecting(work: Work, run_id: int, action: Collect) -> None:
    """The first try."""
    work.set(collecting=Collecting(run_id, action, action.tries - 1))
    if action.masked:
        work.order(orders.Discreet, True)
    _ask(work, again=False)


def end_collecting(work: Work) -> None:
    """No key belongs to it any more, nearly: the caller may still press those that were too many."""
    collecting = work.state.collecting
    work.set(collecting=None)
    if collecting is not None and collecting.action.masked:
        work.set(discreet_until_ns=work.after(DISCREET_S))
        work.order(orders.Discreet, False)


def ask_again(work: Work) -> None:
    """The next try."""
    collecting = work.state.collecting
    assert collecting is not None
    work.set(collecting=Collecting(collecting.run, collecting.action, collecting.tries_left - 1))
    _ask(work, again=True)


def _ask(work: Work, *, again: bool) -> None:
    collecting = work.state.collecting
    assert collecting is not None
    action = collecting.action
    run = work.run(collecting.run)
    scope = work.scope(run.extra if run else {})
    words = [one.text(scope) for one in (action.invalid if again else None, action.prompt) if one]
    prompt = _prompt(work, " ".join(words), action.prompt_wav, barge_in=action.interrupt)
    work.set(collecting=replace(collecting, prompt=prompt))
    if prompt is None:
        prompt_heard(work)
    else:
        work.set(collecting=replace(collecting, prompt=prompt, next_ns=work.after(PROMPT_S)))


def prompt_heard(work: Work) -> None:
    """From now on the caller's time runs."""
    collecting = work.state.collecting
    assert collecting is not None
    action = collecting.action
    first = work.after(action.between_s if collecting.digits else action.first_s)
    total = collecting.total_ns if collecting.total_ns is not None else work.after(action.total_s)
    work.set(collecting=replace(collecting, prompt=None, next_ns=first, total_ns=total))


def ask_menu(work: Work, menu: Menu, tries_left: int, *, again: bool) -> None:
    """The menu's words."""
    scope = work.scope({})
    words = [one.text(scope) for one in (menu.invalid if again else None, menu.prompt) if one]
    prompt = _prompt(work, " ".join(words), menu.prompt_wav, barge_in=menu.interrupt)
    wait = work.after(menu.timeout_s if prompt is None else PROMPT_S)
    work.set(asking=Asking(tries_left, prompt, wait))


def menu_heard(work: Work, menu: Menu) -> None:
    """From now on the caller's time runs."""
    asking = work.state.asking
    assert asking is not None
    work.set(asking=replace(asking, prompt=None, deadline_ns=work.after(menu.timeout_s)))


def _prompt(work: Work, words: str, wav: str | None, *, barge_in: bool) -> int | None:
    """Its order; a WAV is played, after the words if there are some, too."""
    order: orders.Order | None = None
    if words.strip():
        order = work.order(orders.Say, words, barge_in)
    if wav is not None:
        order = work.order(orders.Play, wav, barge_in)
    return None if order is None else order.id
