"""A vendor's limit of requests in a time is kept by all calls of a process together."""

from __future__ import annotations

from telbridge.sessions.base import HttpRequest, Pace
from telbridge.sessions.pacing import Pacing
from tests.sessions.every_api import opened

PACE = Pace("p", 1.0)


def test_each_takes_the_next_turn():
    pacing = Pacing()
    assert [pacing.turn(PACE, 100.0, at_most_s=10) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert pacing.turn(PACE, 101.5, at_most_s=10) == 1.5
    assert pacing.turn(PACE, 200.0, at_most_s=10) == 0.0


def test_other_names_do_not_wait():
    pacing = Pacing()
    pacing.turn(PACE, 0.0, at_most_s=10)
    assert pacing.turn(Pace("q", 1.0), 0.0, at_most_s=10) == 0.0


def test_nobody_waits_longer_than_a_caller_would():
    pacing = Pacing()
    waits = [pacing.turn(PACE, 0.0, at_most_s=3) for _ in range(8)]
    assert waits == [0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert pacing.turn(PACE, 4.0, at_most_s=3) == 0.0


def test_companions_of_one_key_share_a_turn_and_the_key_is_not_its_name():
    requests = [opened("companion", environ={"NAPSTER_API_KEY": key}).next_step() for key in "aab"]
    paces = [request.pace for request in requests if isinstance(request, HttpRequest)]
    assert paces[0] == paces[1] != paces[2]
    assert paces[0] is not None
    assert paces[0].every_s == 1.0
    other = opened("companion", environ={"NAPSTER_API_KEY": "sk-secret-key"}).next_step()
    assert "sk-secret-key" not in repr(other)


def test_an_agent_on_this_machine_has_no_limit():
    step = opened("companion", url="http://127.0.0.1:9").next_step()
    assert isinstance(step, HttpRequest)
    assert step.pace is None
