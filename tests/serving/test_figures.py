"""One page of metrics over processes that come, count and die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families

from telbridge.ops import catalogue
from telbridge.serving.figures import ALIVE, PREFIX, Figures, Own

WORKER = """
import time
from prometheus_client import Counter, Gauge, Histogram
Counter("telbridge_calls_offered", "x").inc()
Histogram("telbridge_turn_gap_seconds", "What it means.", ["agent"]).labels("local").observe(0.7)
Gauge("telbridge_calls_live", "x", multiprocess_mode="livesum").inc()
print("counted", flush=True)
time.sleep(60)
"""
"""As `Metrics` does it; that takes seconds to import."""


@pytest.fixture
def figures(tmp_path: Path) -> Iterator[Figures]:
    figures = Figures(tmp_path)
    figures.open()
    yield figures
    figures.close()
    assert not list(tmp_path.glob(f"{PREFIX}*"))


@pytest.fixture
def start(figures: Figures) -> Iterator[list[subprocess.Popen[str]]]:
    workers: list[subprocess.Popen[str]] = []
    yield workers
    for worker in workers:
        killed(worker)


def a_worker(figures: Figures, workers: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """One that has counted a call and lives."""
    worker = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER],
        env={**os.environ, **figures.environ},
        stdout=subprocess.PIPE,
        text=True,
    )
    workers.append(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "counted\n"
    return worker


def killed(worker: subprocess.Popen[str]) -> int:
    worker.kill()
    worker.wait()
    assert worker.stdout is not None
    worker.stdout.close()
    return worker.pid


async def page(figures: Figures, accept: str = "") -> tuple[str, str]:
    """Text and content type of a scrape."""

    def own() -> Iterator[Own]:
        yield catalogue.WORKERS, (), 1.0
        yield catalogue.CHILD_RESTARTS, ("worker",), 2.0
        yield catalogue.CHILD_RESTARTS, ("agent",), 0.0

    application = web.Application()
    application.add_routes([figures.page(own)])
    async with (
        TestServer(application, host="127.0.0.1") as server,
        aiohttp.ClientSession(headers={"Accept": accept}) as http,
        http.get(server.make_url("/metrics")) as answer,
    ):
        return await answer.text(), answer.headers["Content-Type"]


async def values(figures: Figures) -> dict[str, float]:
    """By the name of the sample."""
    text, _ = await page(figures)
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name.removeprefix("telbridge_"): sample.value for sample in found}


async def test_figures_of_all_workers_are_added_up_and_those_of_the_dead_stay(
    figures: Figures, start: list[subprocess.Popen[str]]
) -> None:
    first, _ = a_worker(figures, start), a_worker(figures, start)
    now = await values(figures)
    assert (now["calls_offered_total"], now["turn_gap_seconds_count"], now["calls_live"]) == (2, 2, 2)
    figures.forget(killed(first))
    now = await values(figures)
    assert (now["calls_offered_total"], now["turn_gap_seconds_count"], now["calls_live"]) == (2, 2, 1)
    assert now["turn_gap_seconds_sum"] == pytest.approx(1.4)


async def test_workers_that_die_again_and_again_do_not_fill_the_directory(
    figures: Figures, start: list[subprocess.Popen[str]]
) -> None:
    counts = set()
    for _ in range(3):
        figures.forget(killed(a_worker(figures, start)))
        counts.add(len(list(figures.directory.iterdir())))
    assert len(counts) == 1
    now = await values(figures)
    assert (now["calls_offered_total"], now["turn_gap_seconds_count"]) == (3, 3)
    assert "calls_live" not in now


async def test_the_page_is_prometheus_text_or_open_metrics_as_is_asked(
    figures: Figures, start: list[subprocess.Popen[str]]
) -> None:
    a_worker(figures, start)
    plain, plain_type = await page(figures)
    modern, modern_type = await page(figures, "application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert modern.endswith("# EOF\n")
    assert "# HELP telbridge_turn_gap_seconds What it means." in plain
    assert 'telbridge_child_restarts_total{process="worker"} 2.0' in plain


def test_what_a_killed_supervisor_left_is_cleared_away_and_what_lives_is_not(tmp_path: Path) -> None:
    killed, living, new = Figures(tmp_path), Figures(tmp_path), Figures(tmp_path)
    killed.directory.mkdir()
    (killed.directory / ALIVE).touch()
    living.open()
    new.open()
    assert not killed.directory.exists()
    assert living.directory.exists()
    for figures in (living, new):
        figures.close()
        figures.close()
        assert not figures.directory.exists()
