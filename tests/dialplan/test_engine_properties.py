"""Whatever happens in whatever order: for each example, and for a dialplan that has everything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telbridge.dialplan import orders
from telbridge.dialplan.engine import begin, step
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
from telbridge.dialplan.loader import load
from telbridge.dialplan.plan import Plan
from telbridge.dialplan.rules import EVENTS
from telbridge.dialplan.state import State
from tests.dialplan.support import AGENTS, ROOT, facts

HERE = Path(__file__).parent
EVERYTHING = load(HERE / "everything.toml", AGENTS).plans
PLANS: dict[str, Plan] = {plan.name: plan for plan in (*load(ROOT / "dialplans", AGENTS).plans, *EVERYTHING)}
AFTER_THE_END = (orders.CallWebhook, orders.Tag, orders.Count, orders.Note)

texts = st.sampled_from(["my name is Ann", "good-bye", "", "{{ digits.pin }}", "sip:x y\r\n", "ü" * 40])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
answered_actions = st.sampled_from(
    [
        [{"say": "From the server {{ digits.pin }}"}],
        ["hangup"],
        [{"goto": "pin"}, {"tag": "x"}],
        [{"goto": "nowhere"}],
        [{"goto": "menu"}],
        [{"webhook": "https://x.example/", "send": {"d": "{{ digits.pin }}"}}],
        [{"collect": "more", "masked": True}],
        [{"switch_agent": "mars"}],
        "nonsense",
        [{"set": {"name": "{{ digits.pin }}"}}, {"send_text": "{{ vars.name }}"}],
        17,
    ]
)
answers = json_values | st.builds(
    lambda more, kept: {"actions": more, "set": kept, "name": "Ann"}, answered_actions, json_values
)
keys = st.builds(
    Key,
    st.sampled_from("73917391739112345680*#D"),
    st.sampled_from(["rfc4733", "rfc4733", "info", "inband"]),
    st.integers(0, 400),
)
arguments = st.sampled_from(
    ['{"text": "a"}', '{"number": "1/2"}', '{"to": "desk"}', '{"to": "x"}', '{"digits": "12"}', "", "[", "7",
     '{"name": "name", "value": [1]}', '{"name": "name", "value": "Bo"}']
)  # fmt: skip
happened = st.builds(
    Happened,
    st.sampled_from([*EVENTS, "answered", "answered", "nonsense"]),
    st.dictionaries(st.sampled_from(["text", "error", "target", "cause"]), texts, max_size=2),
)
tools = st.sampled_from(
    ["note", "digits", "connect_me", "bye", "keys", "keep", "order", "slow", "hang_up", "none"]
)
calls = st.sampled_from(["t1", "t2"])
replies = st.tuples(st.sampled_from(["done", "done", "done", "failed"]), st.integers(0, 6), answers)
inputs: st.SearchStrategy[Any] = st.one_of(
    keys,
    keys,
    keys,
    happened,
    replies,
    replies,
    st.builds(ToolCalled, calls, tools, arguments),
    st.builds(ToolCancelled, calls),
    st.just(Tick()),
    st.just("deadline"),
    st.builds(Ended, texts),
)
calls_of_keys = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 4.0, 30.0]), inputs), max_size=60)


class Watch:
    """Keeps the rules while a call goes on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = begin(
            plan, facts(headers={"X-Name": "ann"}), 0, plan.sessions[""].agent or "openai_realtime"
        )
        self.at_ns = 0
        self.given: list[orders.Order] = []
        self.hung_up = False
        self.discreet = False
        self.secret: list[str] = []
        self.secrets: set[str] = set()

    def put(self, happening: Input) -> None:
        before = self.state
        self._note_secrets(before, happening)
        made = step(self.plan, before, happening, self.at_ns)
        again = step(self.plan, before, happening, self.at_ns)
        assert made == again, "a step must depend on its arguments only"
        self.state = made.state
        self._check(before, happening, list(made.orders))
        self.given += made.orders

    def _note_secrets(self, before: State, happening: Input) -> None:
        masked = before.collecting is not None and before.collecting.action.masked
        if masked and isinstance(happening, Key) and happening.digit.isdigit():
            self.secret.append(happening.digit)
        elif not masked and self.secret:
            self.secrets.add("".join(self.secret))
            self.secret = []

    def _check(self, before: State, happening: Input, found: list[orders.Order]) -> None:
        ids = [one.id for one in (*self.given, *found)]
        assert ids == sorted(set(ids))
        if before.ended:
            assert found == []
            assert self.state is before
        if self.hung_up:
            assert all(isinstance(one, AFTER_THE_END) for one in found)
            assert not found or isinstance(happening, Ended)
        if isinstance(happening, Ended):
            self.hung_up = True
            assert self.state.ended
            assert self.state.deadline_ns is None
        for index, one in enumerate(found):
            if isinstance(one, orders.HangUp) and not one.after_agent:
                assert index == len(found) - 1, "something after hang-up"
                self.hung_up = True
        if self.state.deadline_ns is not None:
            assert self.state.deadline_ns > self.at_ns
        shown = re.sub(r"_ns=\d+", "", repr(found) + repr(self.state))
        for secret in self.secrets | {"".join(self.secret)}:
            assert len(secret) < 5 or secret not in shown
        for one in found:
            self.discreet = one.on if isinstance(one, orders.Discreet) else self.discreet
        collecting = self.state.collecting
        if not self.hung_up:
            assert self.discreet is (collecting is not None and collecting.action.masked)
        masked = before.collecting is not None and before.collecting.action.masked
        if masked and isinstance(happening, Key) and before.collecting is not None:
            assert not any(isinstance(one, orders.SendText) and "pressed" in one.text for one in found)

    def reply(self, kind: str, back: int, answer: Any) -> None:
        """To one of the latest orders."""
        latest = self.given[-1 - back] if back < len(self.given) else None
        number = latest.id if latest is not None else 999
        self.put(Done(number, answer) if kind == "done" else Failed(number, "it broke"))


@pytest.mark.parametrize("name", sorted(PLANS))
@given(story=calls_of_keys, answered=st.booleans())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens(name: str, story: list[tuple[float, Any]], answered: bool) -> None:
    watch = Watch(PLANS[name])
    if answered:
        watch.put(Happened("answered"))
        watch.put(Key("1"))
    for pause_s, happening in story:
        watch.at_ns += round(pause_s * 1e9)
        if happening == "deadline":
            watch.at_ns = watch.state.deadline_ns or watch.at_ns
            happening = Tick()
        if isinstance(happening, tuple):
            watch.reply(*happening)
        else:
            watch.put(happening)
    ended, given_before = watch.state.ended, len(watch.given)
    watch.put(Ended("caller_hung_up"))
    assert watch.state.ended
    rules = PLANS[name].dialplan.on.hangup
    if not ended and any(rule.when is None and not rule.once for rule in rules):
        assert len(watch.given) > given_before, "the end of the call was lost"
    if not ended and name == "everything":
        assert any(
            isinstance(one, orders.Tag) and one.text == "over: caller_hung_up" for one in watch.given[-5:]
        )
    json.dumps([one.body for one in watch.given if isinstance(one, orders.CallWebhook)])


@given(
    pin=st.text("0123456789", min_size=4, max_size=6),
    pauses=st.lists(st.sampled_from([0.1, 0.9, 3.9]), min_size=6, max_size=6),
)
@settings(max_examples=80, deadline=None)
def test_a_masked_pin_is_in_no_output_but_the_webhook_it_is_for(pin: str, pauses: list[float]) -> None:
    plan = PLANS["everything"]
    watch = Watch(plan)
    watch.put(Happened("answered"))
    watch.put(Key("1"))
    watch.at_ns += 2_000_000_000
    watch.put(Key("3"))
    for digit, pause_s in zip(pin, pauses, strict=False):
        watch.at_ns += round(pause_s * 1e9)
        watch.put(Key(digit))
        watch.put(Key(digit, "info"))
    watch.at_ns += 1_000_000_000
    watch.put(Key("#"))
    hooks = [one for one in watch.given if isinstance(one, orders.CallWebhook)]
    assert [hook.body["pin"] for hook in hooks] == [pin]
    told = [
        one for one in watch.given if isinstance(one, (orders.SendText, orders.Say, orders.Tag, orders.Note))
    ]
    assert all(pin not in repr(one) for one in told)


def test_a_copy_of_a_state_is_alike_and_no_other_changes_with_it() -> None:
    state = begin(next(iter(EVERYTHING)), facts(), 0, "local")
    copy = state.copy()
    assert copy == state and copy is not state
    object.__setattr__(copy, "ended", True)
    assert not state.ended and copy != state
