"""The clock of all calls, on a loop whose timer never goes off by itself."""

import asyncio
import time

from telbridge.caller import pacer as module
from telbridge.caller.pacer import FRAME_NS, Pacer


class Member:
    def __init__(self):
        self.ticks = []
        self.skipped = 0

    def tick(self, now_ns):
        self.ticks.append(now_ns)

    def skip(self, ticks):
        self.skipped += ticks


class Clock:
    """Stands for `time` and for the timer: `go_to` is the only way time passes."""

    def __init__(self, *_):
        self.now_ns = 0
        self.due_ns = None

    def monotonic_ns(self):
        return self.now_ns

    def set(self, at_ns):
        self.due_ns = at_ns

    def close(self):
        self.due_ns = None


def paced(monkeypatch, phases=4):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_TimerFd", lambda loop, wake: clock)
    monkeypatch.setattr(module.sys, "platform", "linux")
    return Pacer(None, phases=phases), clock


def run(pacer, clock, until_ns):
    while clock.due_ns is not None and clock.due_ns <= until_ns:
        clock.now_ns = clock.due_ns
        pacer._wake()


def test_each_member_ticks_every_20_ms_in_its_own_phase(monkeypatch):
    pacer, clock = paced(monkeypatch)
    members = [Member() for _ in range(4)]
    for member in members:
        pacer.add(member)
    run(pacer, clock, 10 * FRAME_NS)
    assert all({b - a for a, b in zip(m.ticks, m.ticks[1:], strict=False)} == {FRAME_NS} for m in members)
    assert len({member.ticks[0] % FRAME_NS for member in members}) == 4


def test_what_was_missed_is_sent_at_once_and_what_is_older_is_skipped(monkeypatch):
    pacer, clock = paced(monkeypatch, phases=1)
    member = Member()
    pacer.add(member)
    clock.now_ns = clock.due_ns + 3 * FRAME_NS
    pacer._wake()
    assert (len(member.ticks), member.skipped) == (4, 0)
    clock.now_ns = clock.due_ns + 50 * FRAME_NS
    pacer._wake()
    assert (len(member.ticks), member.skipped, pacer.skipped) == (5, 50, 50)
    assert clock.due_ns == clock.now_ns + FRAME_NS


def test_without_members_no_timer_runs(monkeypatch):
    pacer, clock = paced(monkeypatch)
    member = Member()
    pacer.add(member)
    pacer.remove(member)
    clock.now_ns = clock.due_ns
    clock.due_ns = None
    pacer._wake()
    assert clock.due_ns is None


async def test_the_real_timer_keeps_the_grid():
    pacer, member, enough = Pacer(asyncio.get_running_loop()), Member(), asyncio.Event()
    member.tick = lambda now_ns: (member.ticks.append(now_ns), len(member.ticks) == 10 and enough.set())
    pacer.add(member)
    await asyncio.wait_for(enough.wait(), 2)
    pacer.close()
    # A busy machine may wake us late; what counts is that nothing drifts and nothing is early.
    assert -FRAME_NS < member.ticks[-1] - member.ticks[0] - 9 * FRAME_NS < 4 * FRAME_NS
    assert member.ticks[-1] <= time.monotonic_ns()
