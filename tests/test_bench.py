"""What the benches make of what they measure."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import trend
from bench.batches import Receiver, Sender
from bench.crowd import FRAME_NS, Counts, gaps_ms, gathered
from bench.knee import Knee, Seen, Verdict, between, find, judge, step_at
from bench.lone_worker import TAKEN_OUT, Nothing
from bench.options import Options
from bench.stream_lines import frame, unframed
from telbridge.sockets.frames import FrameReader

GOOD = Seen(delay_p95_ms=50.0, gap_p99_ms=21.0, lost=0, load_gap_p99_ms=20.5, load_busy=60.0)


# ------------------------------------------------------------------------------------------------ the knee


def carrying(clean: int, judged: int = 10**6) -> list[int]:
    """Numbers of calls that `find` asks for, and what it says, of a bridge that carries so many."""
    asked: list[int] = []

    async def measure(calls: int) -> Verdict:
        asked.append(calls)
        if calls > judged:
            return Verdict.NOT_JUDGED
        return Verdict.CLEAN if calls <= clean else Verdict.FAILED

    asked.append(asyncio.run(find((1, 20, 40, 80, 160), measure)).calls)
    return asked


@settings(max_examples=30)
@given(st.integers(0, 300))
def test_the_knee_is_as_near_as_it_is_looked_for_and_never_beyond(clean: int) -> None:
    *asked, knee = carrying(clean)
    assert knee <= clean
    assert min(clean, 160) - knee <= step_at(knee)
    assert len(asked) == len(set(asked)) <= 5 + 7


def test_a_ladder_that_holds_says_that_more_may_be_possible() -> None:
    *asked, knee = carrying(10_000)
    assert (asked, knee) == ([1, 20, 40, 80, 160], 160)
    assert str(Knee(160, None)) == "≥ 160 (the ladder ends there)"


def test_where_the_load_was_late_the_knee_is_at_least_what_was_clean_before() -> None:
    *_, knee = carrying(10_000, judged=100)
    assert 80 <= knee <= 100
    assert str(Knee(95, 100, Verdict.NOT_JUDGED)) == "≥ 95 (at 100 the load was late)"


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (GOOD, Verdict.CLEAN),
        (replace(GOOD, delay_p95_ms=80.0), Verdict.CLEAN),
        (replace(GOOD, delay_p95_ms=80.1), Verdict.FAILED),
        (replace(GOOD, delay_p95_ms=math.inf), Verdict.FAILED),
        (replace(GOOD, delay_p95_ms=None), Verdict.CLEAN),
        (replace(GOOD, gap_p99_ms=25.1), Verdict.FAILED),
        (replace(GOOD, lost=1), Verdict.FAILED),
        (replace(GOOD, load_gap_p99_ms=23.1), Verdict.NOT_JUDGED),
        (replace(GOOD, load_busy=96.0), Verdict.NOT_JUDGED),
        (replace(GOOD, lost=1, load_gap_p99_ms=30.0), Verdict.NOT_JUDGED),
    ],
)
def test_a_rung_is_clean_by_delay_gaps_and_loss_and_not_judged_where_the_load_was_late(
    seen: Seen, verdict: Verdict
) -> None:
    found, why = judge(seen, one_call_p95_ms=40.0)
    assert found is verdict
    assert bool(why) is (verdict is not Verdict.CLEAN)


def test_the_floor_is_taken_between_its_own_rungs() -> None:
    points = [(80, 0.2), (40, 0.3)]
    assert [between(points, calls) for calls in (1, 40, 60, 80, 200)] == pytest.approx(
        [0.3, 0.3, 0.25, 0.2, 0.2]
    )


def test_only_parts_that_are_named_are_run_and_all_of_a_kind_of_which_none_is() -> None:
    options = Options(only=("sip",))
    assert options.wants("sip", ("sip", "streams"))
    assert not options.wants("streams", ("sip", "streams"))
    assert options.wants("monologue", ("echo", "monologue"))


# -------------------------------------------------------------------------------------------------- trends


@settings(max_examples=30)
@given(st.floats(-5, 5), st.floats(-100, 100), st.integers(3, 40))
def test_a_straight_line_is_found_again(slope: float, start: float, count: int) -> None:
    line = trend.fit([(float(t), start + slope * t) for t in range(count)])
    assert line.slope == pytest.approx(slope, abs=1e-6)
    assert line.rise == pytest.approx(slope * (count - 1), abs=1e-5)
    assert line.error == pytest.approx(0, abs=1e-6)


def test_what_may_be_chance_is_no_rise() -> None:
    dice = np.random.default_rng(7)
    noise = [(float(t), 100 + float(dice.normal())) for t in range(120)]
    assert trend.fit(noise).sure_rise < 1
    leak = [(t, y + 0.1 * t) for t, y in noise]
    assert trend.fit(leak).sure_rise == pytest.approx(12, abs=2)
    assert trend.fit([(0.0, 1.0), (1.0, 9.0)]).sure_rise == 0


def test_a_figure_that_settles_is_judged_without_its_beginning() -> None:
    points = [(float(t), 50.0 if t >= 10 else 5.0 * t) for t in range(100)]
    assert trend.fit(trend.settled(points)).rise == pytest.approx(0, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 0xFFFFFFFF), st.floats(-200, 200))
def test_a_clocks_drift_is_found_across_the_wrap_of_its_timestamps(first: int, ppm: float) -> None:
    arrivals = [n * 1_000_000_000 for n in range(60)]
    stamps = [round(first + n * 8000 * (1 + ppm / 1e6)) & 0xFFFFFFFF for n in range(60)]
    clock = trend.clock(arrivals, trend.unwrapped(stamps), 8000)
    assert clock.ppm == pytest.approx(ppm, abs=5)
    assert clock.accumulated_ms == pytest.approx(ppm * 59 / 1000, abs=0.4)


# ------------------------------------------------------------------------------------------ what lines count


def test_a_line_that_falls_silent_ends_in_a_long_gap() -> None:
    arrivals = np.arange(10, dtype=np.int64) * FRAME_NS
    assert gaps_ms(arrivals, 0, 9 * FRAME_NS + 1).max() == 20
    assert gaps_ms(arrivals, 0, 30 * FRAME_NS).max() == 420
    assert gaps_ms(arrivals[:0], 0, FRAME_NS).tolist() == [20]


def test_what_never_came_back_is_infinitely_late() -> None:
    counts = Counts(since_ns=0, until_ns=FRAME_NS, delays_ms=[3.0], said=3)
    heard = gathered([counts])
    assert heard.delays_ms == [3.0, math.inf, math.inf]
    assert heard.not_back == 2


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=400), max_size=5), st.integers(1, 50))
def test_frames_of_a_server_are_read_however_they_are_cut(payloads: list[bytes], size: int) -> None:
    wire = b"".join(
        bytes((0x81, len(p))) + p if len(p) < 126 else bytes((0x81, 126)) + len(p).to_bytes(2, "big") + p
        for p in payloads
    )
    found, rest = [], b""
    for at in range(0, len(wire), size):
        frames, rest = unframed(rest + wire[at : at + size])
        found += frames
    assert found == [(0x81, payload) for payload in payloads]
    assert rest == b""


@settings(max_examples=30)
@given(st.text(max_size=300))
def test_our_frames_are_read_by_the_bridges_own_reader(text: str) -> None:
    (message,) = FrameReader(10_000, masked=True).feed(frame(text.encode()))
    assert message.data == text


def test_packets_are_sent_and_read_in_batches_and_told_apart_by_where_they_come_from() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        for one in (ours, theirs):
            one.bind(("127.0.0.1", 0))
            one.settimeout(10)
        receiver = Receiver(ours)
        sender = Sender(theirs, [ours.getsockname()] * 3, octets=172)
        sender.data[:, 0] = [1, 2, 3]
        before_ns = time.monotonic_ns()
        assert sender.send() == 0
        select.select([ours], [], [], 10)
        batch = receiver.receive()
        assert batch is not None
        assert batch.data[:, 0].tolist() == [1, 2, 3]
        assert set(batch.ports.tolist()) == {theirs.getsockname()[1]}
        assert before_ns - 10**9 < batch.at_ns.min() <= time.monotonic_ns()
        assert receiver.receive() is None


def test_a_bare_worker_still_finds_what_it_takes_out_and_all_that_it_asks_for_instead() -> None:
    for owner, name, _ in TAKEN_OUT:
        assert hasattr(owner, name), name
    observer = Nothing().call("facts", "dialplan")
    assert observer.ended("summary") is None
    assert observer.worst.told() is None
