"""GET /metrics of a running telbridge after a real call."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from telbridge.caller.softphone import Softphone
from tests.e2e.bridge import serving
from tests.e2e.heard import until_heard
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


async def test_a_call_is_seen_on_the_page(any_pjsua2: str, tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    (plans / "desk.toml").write_text(DIALPLAN, "utf-8")
    settings = scripted(tmp_path, SCRIPT, dialplans={"folder": str(plans)})
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri, from_user="+49301234567")
        await call.wait_answered(30)
        await call.dtmf("5")
        await call.play(bytes(16_000) + noise(0.6) + bytes(16_000))
        await until_heard(call, 600)
        during = await scraped(bridge.admin)
        await call.hang_up()
        (record,) = await bridge.records(1)
        page = await scraped(bridge.admin)
    of_call = {"ingress": "sip", "dialplan": "desk", "agent": "local"}
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
    assert turn["gap_ms"] >= 300, "the gate waits for 200 ms and the script for 100"
    parts = ("uplink", "end_of_turn", "first_audio", "downlink", "wire")
    sums = [page.value(f"turn_{part}_seconds_sum") * 1000 for part in parts]
    assert sums == pytest.approx([turn["parts_ms"][part] for part in parts], abs=0.1)
    assert not list(_figures_of(bridge.process.pid)), "figures were left behind"
    for private in (record["caller"], record["call_id"], record["signalling_id"], record["peer"]):
        assert private
        assert private not in page.text
    _judged_by_promtool(page.text)


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
