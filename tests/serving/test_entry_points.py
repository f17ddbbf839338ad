"""Python tools: the user's own code cannot hold up or break a call."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from telbridge.call.ports import OutsideFailed
from telbridge.dialplan.orders import CallPython
from telbridge.serving.entry_points import MOST_THREADS, EntryPoints

CODE = """
import asyncio, sys, threading, time

imported = threading.current_thread().name
gate = threading.Event()
entered = threading.Semaphore(0)

def plain(city): return {"city": city, "thread": threading.current_thread().name, "pair": (1, 2)}
async def coroutine(city): return [city, threading.current_thread().name]
def blocks():
    entered.release()
    gate.wait(30)
async def sleeps(): await asyncio.sleep(30)
async def stubborn():
    while True:
        try: await asyncio.sleep(30)
        except asyncio.CancelledError: pass
        if gate.is_set(): return
def fails(): raise KeyError("4711")
async def fails_too(): raise KeyError("4711")
def exits(): sys.exit(3)
async def exits_too(): sys.exit(3)
def iterates(): raise StopIteration
async def times_out(): raise TimeoutError("4711")
def huge(): return "x" * 70_000
def odd(): return object()
def no_number(): return float("nan")
value = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_tools.py").write_text(CODE, "utf-8")
    (tmp_path / "broken_tools.py").write_text("raise RuntimeError('4711')", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_tools", raising=False)
    yield
    if found := sys.modules.pop("own_tools", None):
        found.gate.set()


def order(name: str, timeout_s: float = 5.0, **arguments: Any) -> CallPython:
    entry = name if ":" in name else f"own_tools:{name}"
    return CallPython(id=1, entry=entry, arguments=arguments, timeout_s=timeout_s)


async def failure(name: str, timeout_s: float = 5.0) -> str:
    with pytest.raises(OutsideFailed) as caught:
        async with asyncio.timeout(20):
            await EntryPoints().call(order(name, timeout_s))
    assert "4711" not in str(caught.value)
    return str(caught.value)


async def test_a_plain_function_runs_beside_the_event_loop(module: Any) -> None:
    result = await EntryPoints().call(order("plain", city="Bonn"))
    assert result == {"city": "Bonn", "thread": "telbridge-tool", "pair": [1, 2]}


async def test_a_coroutine_function_runs_on_the_event_loop(module: Any) -> None:
    result = await EntryPoints().call(order("coroutine", city="Bonn"))
    assert result == ["Bonn", threading.current_thread().name]


async def test_the_module_is_imported_beside_the_event_loop_and_found_once(module: Any) -> None:
    tools = EntryPoints()
    await tools.call(order("plain", city="Bonn"))
    assert sys.modules["own_tools"].imported == "telbridge-tool"
    del sys.modules["own_tools"].plain
    assert (await tools.call(order("plain", city="Ulm")))["city"] == "Ulm"


@pytest.mark.parametrize("name", ["blocks", "sleeps", "stubborn"])
async def test_it_takes_no_longer_than_the_dialplan_says(module: Any, name: str) -> None:
    started = asyncio.get_running_loop().time()
    assert await failure(name, 0.2) == f"own_tools:{name}: took longer than 0.2 s"
    assert asyncio.get_running_loop().time() - started < 2
    sys.modules["own_tools"].gate.set()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fails", "own_tools:fails: KeyError"),
        ("fails_too", "own_tools:fails_too: KeyError"),
        ("plain", "own_tools:plain: TypeError"),
        ("exits", "a Python tool ended with SystemExit"),
        ("exits_too", "a Python tool ended with SystemExit"),
        ("iterates", "a Python tool ended with StopIteration"),
        ("times_out", "a Python tool ended with TimeoutError"),
        ("huge", "own_tools:huge: returned more than 64 kB"),
        ("odd", "own_tools:odd: returned what JSON has no form for (object)"),
        ("no_number", "own_tools:no_number: returned what JSON has no form for (float)"),
        ("value", "own_tools:value: own_tools has no function value"),
        ("nothing_there:f", "nothing_there:f: there is no module nothing_there"),
        ("broken_tools:f", "broken_tools:f: RuntimeError"),
    ],
)
async def test_whatever_goes_wrong_is_told_by_its_type_alone(module: Any, name: str, what: str) -> None:
    assert await failure(name) == what


async def test_the_log_says_where_it_went_wrong_but_not_with_what(module: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        await failure("fails")
    (line,) = lines
    assert (line["event"], line["error"]) == ("tool_failed", "KeyError")
    assert line["at"].startswith("own_tools.py:")


async def test_functions_that_never_return_do_not_pile_up(module: Any) -> None:
    tools = EntryPoints()
    await tools.call(order("plain", city="Bonn"))
    stuck = [asyncio.create_task(tools.call(order("blocks", 30))) for _ in range(MOST_THREADS)]
    for _ in stuck:
        assert await asyncio.to_thread(sys.modules["own_tools"].entered.acquire, timeout=10)
    with pytest.raises(OutsideFailed, match="are running already"):
        await tools.call(order("blocks", 30))
    sys.modules["own_tools"].gate.set()
    await asyncio.gather(*stuck)
    assert (await tools.call(order("plain", city="Bonn")))["city"] == "Bonn"
