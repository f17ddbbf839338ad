"""What a child says goes out in its order; who does not read it loses lines, and the child no time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from telbridge.serving import outlet
from telbridge.serving.outlet import Outlet

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reads, writes = os.pipe()
    yield reads, writes
    for descriptor in (reads, writes):
        os.close(descriptor)


def test_all_is_written_before_the_end(pipe: Pipe) -> None:
    reads, writes = pipe
    said = Outlet(writes)
    print("one", "two", file=said, flush=True)
    print("three \N{SNOWMAN} \udcff", file=said)
    said.finish()
    assert os.read(reads, 1000) == "one two\nthree \N{SNOWMAN} ?\n".encode()
    assert (said.fileno(), said.isatty(), said.writable()) == (writes, False, True)


def test_a_line_after_a_pause_goes_out_at_once(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = pipe
    monkeypatch.setattr(outlet, "GATHER_S", 3600.0)
    said = Outlet(writes)
    said.write("one\n")
    assert os.read(reads, 1000) == b"one\n"
    said.finish()
    assert said._thread is not None and not said._thread.is_alive()


def test_lines_that_are_too_many_are_lost_and_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = pipe
    os.set_blocking(reads, False)
    monkeypatch.setattr(outlet, "MOST_WAITING", 10)
    said, line = Outlet(writes), "x" * 9_999 + "\n"
    with capture_logs() as logged:
        for _ in range(100):
            said.write(line)
        read = b""
        assert said._thread is not None
        said._waiting.put(None)
        while True:
            ended = not said._thread.is_alive()
            try:
                read += os.read(reads, 100_000)
            except BlockingIOError:
                if ended:
                    break
                said._thread.join(0.01)
    lost = sum(one["count"] for one in logged)
    assert lost and len(read) == (100 - lost) * len(line)
    assert {one["event"] for one in logged} == {"lines_lost"}


def test_where_nobody_reads_any_more_nothing_is_written_and_nobody_waits() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    said = Outlet(writes)
    said.write("anybody there?")
    said.finish()
    assert said._thread is not None and not said._thread.is_alive()
    assert said.write("hello?") == len("hello?")
    os.close(writes)


def test_one_that_said_nothing_has_no_thread(pipe: Pipe) -> None:
    said = Outlet(pipe[1])
    said.finish()
    assert said._thread is None
