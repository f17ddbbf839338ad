"""GET /metrics of a running telbridge after a real call."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from telbridge.caller.softphone import Softphone
from tests.e2e.bridge import PATIENCE_S, Bridge, serving
from tests.e2e.metrics_page import scraped
from tests.e2e.test_calls import noise, scripted

SCRIPT = """
gate.stop_ms = 200
[[step]]
on = "request"
reply = { tone_hz = 400, ms = 300, words = "Hello." }
[[step]]
on = "caller_starts"
event = "speech_started"
[[step]]
on = "caller_stops"
event = "speech_stopped"
heard = "Are you open?"
[[step]]
on = "caller_stops"
after_ms = 100
reply = { tone_hz = 600, ms = 300, words = "We are." }
"""
DIALPLAN = """
greeting = "Hello."
keys.5 = { metric = "fives", labels.who = "{{ caller }}", labels.kind = "key", add = 2 }
on.hangup = { metric = "ends" }
"""


async def _exemplars(admin: str) -> dict[str, list[tuple[str, float]]]:
    """Call id and value, by the name of the sample."""
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with aiohttp.ClientSession(admin) as http, http.get("/metrics", headers=headers) as answer:
        text = await answer.text()
    found: dict[str, list[tuple[str, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.exemplar is not None:
                told = sample.exemplar.labels["call_id"], sample.exemplar.value
                found.setdefault(sample.name, []).append(told)
    return found


async def test_a_call_is_seen_on_the_page(any_pjsua2: str, tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    (plans / "desk.toml").write_text(DIALPLAN, "utf-8")
    settings = scripted(tmp_path, SCRIPT, dialplans={"folder": str(plans)}, recording={"calls": "on"})
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        before = await scraped(bridge.admin)
        call = await phone.call(bridge.uri, from_user="+49301234567")
        await call.wait_answered(30)
        await call.dtmf("5")
        await call.play(bytes(16_000) + noise(0.6) + bytes(16_000))
        (arrived,) = bridge.logged("call_arrived")
        so_far = await _once_answered(bridge, arrived["call_id"])
        during = await scraped(bridge.admin)
        await call.hang_up()
        (record,) = await bridge.records(1)
        page = await scraped(bridge.admin)
        async with aiohttp.ClientSession(bridge.admin) as http:
            recorded = await (await http.get(f"/calls/{record['call_id']}/recording")).read()
        exemplars = await _exemplars(bridge.admin)
    of_call = {"ingress": "sip", "dialplan": "desk", "agent": "local"}
    # Who looks at a live call sees how far it has come.
    assert (so_far["ending"], so_far["dtmf_count"], bool(so_far["turns"])) == ("", 1, True)
    # Alerts see the first bad call, too.
    assert before.value("calls_ended_total", **of_call, ending="agent_lost") == 0
    assert before.value("calls_rejected_total", ingress="sip", reason="full") == 0
    assert during.value("calls_live", ingress="sip") == 1
    assert page.value("calls_live", ingress="sip") == 0
    assert page.value("calls_offered_total", ingress="sip") == 1
    assert page.value("calls_answered_total", **of_call) == 1
    assert page.value("calls_ended_total", **of_call, ending="caller_hung_up") == 1
    assert page.value("workers_up") == 1
    assert page.value("event_loop_lag_seconds_count") > 10
    assert page.value("dtmf_digits_total", ingress="sip", method="rfc4733") == 1
    # What the dialplan counts; a label that may be anything is none.
    counted = {"dialplan": "desk", "metric": "fives", "kind": "key", "who": "other"}
    assert page.value("dialplan_events_total", **counted) == 2
    assert page.value("dialplan_events_total", dialplan="desk", metric="ends") == 1
    # The turn's figures are those of the record, and its parts add up.
    (turn,) = [turn for turn in record["turns"] if turn["gap_ms"] is not None]
    assert page.value("turn_gap_seconds_count", ingress="sip", agent="local") == 1
    assert page.value("turn_gap_seconds_sum") * 1000 == pytest.approx(turn["gap_ms"], abs=0.1)
    assert sum(turn["parts_ms"].values()) == pytest.approx(turn["gap_ms"], abs=0.01)
    assert turn["gap_ms"] > 200, "the script's delays, less what this machine lost of the caller's audio"
    parts = ("uplink", "end_of_turn", "first_audio", "downlink", "wire")
    sums = [page.value(f"turn_{part}_seconds_sum") * 1000 for part in parts]
    assert sums == pytest.approx([turn["parts_ms"][part] for part in parts], abs=0.1)
    assert page.value("recordings_total", ingress="sip", result="whole") == 1
    _hears_both(recorded, record)
    # A bucket names the call.
    ((call_id, seconds),) = exemplars["telbridge_turn_gap_seconds_bucket"]
    assert call_id == record["call_id"]
    assert seconds * 1000 == pytest.approx(turn["gap_ms"], abs=0.1)
    assert not list(_figures_of(bridge.process.pid)), "figures were left behind"
    for private in (record["caller"], record["call_id"], record["signalling_id"], record["peer"]):
        assert private
        assert private not in page.text
    _judged_by_promtool(page.text)


async def _once_answered(bridge: Bridge, call_id: str) -> dict[str, Any]:
    """The live call's record so far, once the agent has answered the caller."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            so_far = await bridge.kept(call_id)
            if any(turn["gap_ms"] is not None for turn in so_far["turns"]):
                return so_far
            await asyncio.sleep(0.2)


def _hears_both(wav: bytes, record: dict[str, Any]) -> None:
    """The caller left, the agent right, where the record says that their voices are."""
    assert Path(record["recording"]["path"]).read_bytes() == wav
    loud = np.abs(np.frombuffer(wav[44:], "<i2").reshape(-1, 2)) > 500
    for channel, name in enumerate(("caller", "agent")):
        from_ms, to_ms = record["voices"][name][-1]
        within = slice(*(int((at - record["recording"]["from_ms"]) * 8) for at in (from_ms, to_ms)))
        assert loud[within, channel].mean() > 0.5, name
        assert loud[within, 1 - channel].mean() < 0.1, name


def _figures_of(supervisor: int) -> Iterator[Path]:
    for base in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        yield from base.glob(f"telbridge-figures-{supervisor}-*")


def _judged_by_promtool(text: str) -> None:
    """Where there is one (Debian: prometheus)."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        judged = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (judged.returncode, judged.stderr) == (0, "")
