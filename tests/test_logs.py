"""Log lines: levels that change while a process runs, and repeats that are counted instead of written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from telbridge import logs
from telbridge.logs import MOST_KINDS, Gate, LogLevel, Repeats
from telbridge.serving.admin import Admin
from telbridge.serving.admin_settings import AdminSection
from telbridge.serving.log_level import PATH, log_level_page
from tests.ports import free_port

S = 1_000_000_000
LONG_S = 30.0


class Told:
    """In place of the logger that tells what was left out."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.came = threading.Event()

    def log(self, level: int, event: str, **facts: Any) -> None:
        self.lines.append((logging.getLevelName(level), {"event": event, **facts}))
        self.came.set()

    def info(self, event: str, **facts: Any) -> None:
        self.log(logging.INFO, event, **facts)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    lines = Told()
    monkeypatch.setattr(logs, "log", lines)
    return lines


def passes(gate: Gate, event: str, method: str = "info") -> bool:
    try:
        gate(None, method, {"event": event})
    except structlog.DropEvent:
        return False
    return True


# -------------------------------------------------------------------- repeats


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4 * S)), max_size=200), st.integers(1, 5))
def test_every_line_is_written_or_counted_exactly_once(lines: list[tuple[str, int]], most: int) -> None:
    repeats = Repeats(most, window_ns=10 * S)
    now_ns, written, counted = 0, Counter[str](), Counter[str]()
    for event, later_ns in lines:
        now_ns += later_ns
        written[event] += repeats.passes(("info", event), now_ns)
        for (_, name), left_out in repeats.over(now_ns):
            counted[name] += left_out
    for (_, name), left_out in repeats.over():
        counted[name] += left_out
    assert written + counted == Counter(event for event, _ in lines)
    assert repeats.due_ns() is None and repeats.over() == []


@given(st.integers(1, 60), st.integers(1, 5))
def test_no_more_than_so_many_are_written_in_a_window(count: int, most: int) -> None:
    repeats = Repeats(most, window_ns=10 * S)
    written = sum(repeats.passes(("error", "broken"), number) for number in range(count))
    assert written == min(count, most)
    assert repeats.due_ns() == (10 * S if count > most else None)
    assert repeats.passes(("error", "broken"), 10 * S), "a new window"


def test_any_number_of_events_takes_bounded_memory_and_loses_nothing() -> None:
    repeats = Repeats(1)
    for number in range(3 * MOST_KINDS):
        for _ in range(2):
            repeats.passes(("error", f"line {number}"), number)
    assert len(repeats._windows) <= MOST_KINDS
    assert len(repeats.over()) == 3 * MOST_KINDS


def test_what_was_left_out_is_told_though_nothing_follows(told: Told) -> None:
    gate = Gate("info", repeats=2, window_ns=S // 20)
    assert [passes(gate, "broken", "error") for _ in range(5)] == [True, True, False, False, False]
    assert told.came.wait(LONG_S)
    assert told.lines == [("ERROR", {"event": "repeated", "of": "broken", "left_out": 3})]


def test_each_call_has_its_summary_line_whatever_comes(told: Told) -> None:
    gate = Gate("info", repeats=1)
    assert all(passes(gate, "call_ended") for _ in range(100))


def test_lines_of_other_libraries_are_one_event_whatever_they_fill_in() -> None:
    gate = Gate("info", repeats=2)
    lines = [logging.makeLogRecord({"name": "aiohttp", "msg": "bad %s", "args": (n,)}) for n in range(4)]
    assert [gate.filter(line) for line in lines] == [True, True, False, False]
    gate.tell(all_of_it=True)  # Ends its timer's work.


FLOOD = """
import structlog
from telbridge.ops import logging
logging.configure("info", "json", repeats=3, process="worker")
for _ in range(10):
    structlog.get_logger().warning("sip_stranger_dropped", peer="192.0.2.1")
"""


def test_a_process_that_ends_tells_what_it_left_out() -> None:
    printed = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=True).stderr
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["event"] for line in lines] == ["sip_stranger_dropped"] * 3 + ["repeated"]
    last = lines[-1]
    assert (last["of"], last["left_out"]) == ("sip_stranger_dropped", 7)
    assert (last["level"], last["process"]) == ("warning", "worker")


# -------------------------------------------------------------------- levels


def test_a_changed_level_holds_at_once_and_is_told_whichever_way_it_goes(told: Told) -> None:
    gate = Gate("info", repeats=0)
    assert not passes(gate, "detail", "debug")
    gate.change("debug")
    assert passes(gate, "detail", "debug")
    gate.change("error")
    assert not passes(gate, "trouble", "warning") and passes(gate, "broken", "error")
    gate.change("error")
    told_of = [(line["before"], line["now"]) for _, line in told.lines]
    assert told_of == [("info", "debug"), ("debug", "error")]


async def test_the_admin_port_changes_it_for_those_who_may() -> None:
    port = free_port()
    level: list[LogLevel] = ["info"]
    admin = Admin(AdminSection(port=port), list, log_level_page(lambda: level[-1], level.append))
    await admin.start()
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as http:

            async def put(word: str, **headers: str) -> int:
                async with http.put(PATH, data=word, headers=headers) as answer:
                    return answer.status

            assert await put("debug") == 200
            async with http.get(PATH) as answer:
                assert (await answer.text()).strip() == "debug"
            assert await put("loud") == 400
            assert await put("error", **{"Sec-Fetch-Site": "cross-site"}) == 403
            assert await put("error", Host="evil.example.com") == 403
            async with http.options(PATH, headers={"Origin": "http://evil.example.com"}) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers
            async with http.post(PATH, data="error") as answer:
                assert answer.status == 405
    finally:
        await admin.stop()
    assert level == ["info", "debug"]
