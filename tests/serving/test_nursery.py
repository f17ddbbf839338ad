"""The nursery: children are born in it, and it, they and the supervisor may die in any order."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from telbridge.serving.births import UNKNOWN, BirthFailed, Newborn, Nursery
from telbridge.serving.children import Child, ChildFailed
from telbridge.serving.nursery import Job

CHILD = """
import json, os, signal, sys
loads = 0
def warm():
    global loads
    loads += 1
def main():
    what, *rest = sys.argv[1:] or ["echo"]
    if what == "facts":
        print(json.dumps({
            "pid": os.getpid(), "parent": os.getppid(), "loads": loads, "argv": sys.argv, "rest": rest,
            "mood": os.environ.get("MOOD"), "name": open("/proc/self/comm").read().strip(),
            "session": os.getsid(0), "threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }), flush=True)
    elif what == "lent":
        from telbridge.serving.nursery import lent_sockets
        for each in lent_sockets():
            each.sendto(b"from the child", each.getsockname())
        print(len(lent_sockets()), flush=True)
    elif what == "raise":
        raise KeyError("nobody knows this")
    elif what == "exit":
        sys.exit(int(rest[0]))
    elif what == "flood":
        import structlog
        from telbridge import logs
        chain = [logs.gate("info", 1), structlog.processors.JSONRenderer()]
        structlog.configure(chain, logger_factory=structlog.PrintLoggerFactory(sys.stdout))
        for _ in range(4):
            structlog.get_logger().warning("same_again")
        return 0
    elif what == "talk":
        for number in range(int(rest[0])):
            print(json.dumps({"number": number, "text": "x" * 1000}), flush=True)
        open(rest[1], "w").close()
    elif what == "deaf":
        print("deaf", flush=True)
        while True:
            signal.pause()
    for line in sys.stdin:
        print(line.upper(), end="", flush=True)
    return 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "small_child.py").write_text(CHILD, "utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return "small_child"


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    made = Nursery()
    yield made
    await made.aclose()


async def line_of(child: Newborn) -> str:
    return (await asyncio.wait_for(child.readline(), 20)).decode()


async def end_of(child: Newborn) -> int:
    return await asyncio.wait_for(child.wait(), 20)


async def facts_of(nursery: Nursery, job: Job) -> tuple[Newborn, dict[str, Any]]:
    child = await nursery.birth(job)
    return child, json.loads(await line_of(child))


async def test_a_child_has_its_own_arguments_pipes_session_and_name(nursery: Nursery, module: str) -> None:
    job = Job("worker 12", module, ["facts", "a b"], {"MOOD": "good"})
    child, facts = await facts_of(nursery, job)
    assert facts["pid"] == child.pid == facts["session"]
    assert (facts["rest"], facts["mood"], facts["name"]) == (["a b"], "good", "tb-worker-12")
    child.write(b"hello\n")
    assert await line_of(child) == "HELLO\n"
    child.send_signal(signal.SIGTERM)
    assert await end_of(child) == -signal.SIGTERM
    assert await child.readline() == b""


async def test_descriptors_are_lent_to_a_child_and_stay_ours(nursery: Nursery, module: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.settimeout(20)
        for _ in range(2):
            child = await nursery.birth(Job("a", module, ["lent"]), [ours.fileno()])
            assert json.loads(await line_of(child)) == 0, "they are told of once"
            assert ours.recv(100) == b"from the child"
            child.send_signal(signal.SIGKILL)
            await end_of(child)
        _, before = await facts_of(nursery, Job("a", module, ["facts"]))
        child = await nursery.birth(Job("b", module, ["deaf"]), [ours.fileno()])
        assert await line_of(child) == "deaf\n"
        _, after = await facts_of(nursery, Job("c", module, ["facts"]))
        assert before["descriptors"] == after["descriptors"], "the nursery kept one"
        child.send_signal(signal.SIGKILL)


async def test_modules_are_loaded_once_for_all(nursery: Nursery, module: str) -> None:
    first, one = await facts_of(nursery, Job("a", module, ["facts"]))
    second, two = await facts_of(nursery, Job("b", module, ["facts"]))
    assert (one["loads"], two["loads"], two["threads"]) == (1, 1, 1)
    assert one["parent"] == two["parent"] != os.getpid()
    assert one["descriptors"] == two["descriptors"], "the second has something of the first"
    first.send_signal(signal.SIGKILL)
    assert await end_of(first) == -signal.SIGKILL
    second.write(b"still here\n")
    assert await line_of(second) == "STILL HERE\n"
    assert first.returncode is not None and second.returncode is None
    second.send_signal(signal.SIGKILL)
    await end_of(second)


@pytest.mark.parametrize(("what", "status"), [(["exit", "3"], 3), (["raise"], 1)])
async def test_an_end_is_told(nursery: Nursery, module: str, what: list[str], status: int) -> None:
    assert await end_of(await nursery.birth(Job("a", module, what))) == status


async def test_a_child_never_waits_for_who_reads_what_it_says(
    nursery: Nursery, module: str, tmp_path: Path
) -> None:
    all_said = tmp_path / "all_said"
    child = await nursery.birth(Job("a", module, ["talk", "2000", str(all_said)]))
    async with asyncio.timeout(30):
        while not all_said.exists():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.02)
    numbers = [json.loads(await line_of(child))["number"] for _ in range(2000)]
    assert numbers == list(range(2000))
    child.send_signal(signal.SIGKILL)
    await end_of(child)


async def test_a_child_that_ends_tells_which_log_lines_it_left_out(nursery: Nursery, module: str) -> None:
    child = await nursery.birth(Job("a", module, ["flood"]))
    assert await end_of(child) == 0
    lines = [json.loads(await line_of(child)) for _ in range(2)]
    assert [(line["event"], line.get("left_out")) for line in lines] == [
        ("same_again", None),
        ("repeated", 3),
    ]


async def test_what_cannot_be_loaded_is_told_and_harms_nobody(nursery: Nursery, module: str) -> None:
    with pytest.raises(BirthFailed, match="ModuleNotFoundError: No module named 'no_such_child'"):
        await nursery.birth(Job("a", "no_such_child"))
    with pytest.raises(ChildFailed, match="a did not start: ModuleNotFoundError"):
        await Child(nursery, lambda: Job("a", "no_such_child")).start()
    child = await nursery.birth(Job("a", module))
    child.write(b"x\n")
    assert await line_of(child) == "X\n"
    child.send_signal(signal.SIGKILL)
    await end_of(child)


async def test_children_outlive_their_nursery_and_the_next_gets_a_new_one(module: str) -> None:
    nursery = Nursery()
    child, facts = await facts_of(nursery, Job("a", module, ["facts"]))
    os.kill(facts["parent"], signal.SIGKILL)
    later, its_facts = await facts_of(nursery, Job("b", module, ["facts"]))
    assert its_facts["parent"] != facts["parent"]
    child.write(b"an orphan\n")
    assert await line_of(child) == "AN ORPHAN\n"
    child.send_signal(signal.SIGTERM)
    assert await end_of(child) == UNKNOWN
    later.send_signal(signal.SIGTERM)
    assert await end_of(later) == -signal.SIGTERM
    await nursery.aclose()


SUPERVISOR = """
import asyncio
from telbridge.serving import nursery
from telbridge.serving.births import Nursery
nursery.ORPHANS_S = 1.0
born_in = Nursery(["small_child"], forked=True)
async def main():
    good = await born_in.birth(nursery.Job("good", "small_child"))
    deaf = await born_in.birth(nursery.Job("deaf", "small_child", ["deaf"]))
    await deaf.readline()
    print(good.pid, deaf.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_nobody_is_left_behind_when_a_supervisor_is_killed(module: str) -> None:
    """The one that heeds the end of its stdin, and the one that does not."""
    command = [sys.executable, "-c", SUPERVISOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        ends = [os.pidfd_open(pid) for pid in pids]
        supervisor.kill()
    for end in ends:
        assert select.select([end], [], [], 30)[0], "it lives on"
        os.close(end)
