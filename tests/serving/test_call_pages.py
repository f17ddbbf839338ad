"""GET /calls and /calls/ID: live and past calls, for people and programs; and those whose worker died."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from telbridge.cli import app
from telbridge.ops import spool
from telbridge.ops.store import Store
from telbridge.serving import live
from telbridge.serving.admin import Admin
from telbridge.serving.admin_settings import AdminSection
from telbridge.serving.calls import Calls
from telbridge.serving.live import PIECE, pieces
from telbridge.serving.recording_settings import RecordingSection
from telbridge.serving.records_settings import RecordsSection
from tests.records.made import NOON, answered, greeting, record

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def section(tmp_path: Path) -> RecordsSection:
    return RecordsSection(folder=tmp_path, retention_days=0)


@pytest.fixture
async def calls(section: RecordsSection) -> AsyncIterator[Calls]:
    calls = Calls(section, RecordingSection())
    lost = record("lost", minute=2, ending="agent_lost", agent="openai_realtime")
    store = Store(section.url())
    store.add([record("good", minute=1), lost, record("late", minute=3, caller="+49 30 <b>")])
    store.close()
    calls.start()
    yield calls
    await calls.stop()


@pytest.fixture
async def http(calls: Calls) -> AsyncIterator[aiohttp.ClientSession]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    admin = Admin(AdminSection(port=port), list, calls.pages())
    await admin.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await admin.stop()


async def got(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(path) as answer:
        assert answer.status == status
        return await answer.json() if status == 200 else await answer.text()


def begin(calls: Calls, call_id: str) -> None:
    calls.on_message(1, {"event": "call_started", "record": record(call_id, turns=[])})
    figures = {"answered_ms": 900.0, "turns": 2, "interruptions": 0, "gap_ms": 700.0, "mos": 4.2}
    calls.on_message(1, {"event": "call_figures", "call_id": call_id, "figures": figures})


async def test_programs_get_json_newest_first_and_filtered(http: aiohttp.ClientSession) -> None:
    assert [call["call_id"] for call in (await got(http, "/calls"))["over"]] == ["late", "lost", "good"]
    answer = await got(http, "/calls?whose=agent&agent=openai_realtime")
    assert [(call["call_id"], call["worst"]) for call in answer["over"]] == [("lost", "agent_lost")]
    page = await got(http, "/calls?most=2")
    assert page["older"] == NOON.replace(minute=2).isoformat()
    rest = await http.get("/calls", params={"before": page["older"]})
    assert [call["call_id"] for call in (await rest.json())["over"]] == ["good"]


async def test_browsers_get_a_page_that_runs_nothing_of_a_callers(http: aiohttp.ClientSession) -> None:
    async with http.get("/calls", headers=HTML) as answer:
        text = await answer.text()
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "+49 30 &lt;b&gt;" in text
    assert 'href="/calls/lost"' in text


async def test_one_call_is_told_with_what_was_worst(http: aiohttp.ClientSession) -> None:
    answer = await got(http, "/calls/lost")
    assert answer["verdict"]["whose"] == "agent"
    async with http.get("/calls/lost", headers=HTML) as page:
        assert "The agent was lost in mid-call" in await page.text()


async def test_live_calls_are_told_while_they_go_on(calls: Calls, http: aiohttp.ClientSession) -> None:
    begin(calls, "now")
    (live,) = (await got(http, "/calls?live=1"))["live"]
    assert (live["call_id"], live["live"]["gap_ms"], live["ending"]) == ("now", 700.0, "")
    assert (await got(http, "/calls/now"))["live"]["turns"] == 2
    assert (await got(http, "/calls?caller=%2B1"))["live"] == []
    spool.write(calls._folder, record("now"))
    calls.on_message(1, {"event": "call_ended", "call_id": "now"})
    assert (await got(http, "/calls?live=1"))["live"] == []
    assert (await got(http, "/calls/now"))["ending"] == "caller_hung_up"


async def test_who_looks_at_a_live_call_sees_it_as_its_worker_has_it_now(
    calls: Calls, http: aiohttp.ClientSession
) -> None:
    begin(calls, "now")
    asked: list[tuple[int, str]] = []
    long = answered(5000.0, more={"caller_text": "ä" * 3 * PIECE})

    def tells(worker: int, call_id: str) -> None:
        asked.append((worker, call_id))
        text = json.dumps(record(call_id, turns=[greeting(), long], ending="internal_error"))
        for part, last in pieces(text):
            line = json.dumps({"event": "call_now", "call_id": call_id, "part": part, "last": last})
            assert len(line) < 65_536
            calls.on_message(worker, json.loads(line))

    calls.live.ask = tells
    now = await got(http, "/calls/now")
    assert (len(now["turns"]), now["ending"], now["ended_at"], now["live"]["gap_ms"]) == (2, "", None, 700.0)
    assert now["turns"][1]["caller_text"] == "ä" * 3 * PIECE
    assert asked == [(1, "now")]
    async with http.get("/calls/now", headers=HTML) as page:
        assert "On the phone for" in await page.text()


async def test_a_worker_that_does_not_tell_is_not_waited_for_long(
    calls: Calls, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.01)
    begin(calls, "now")
    calls.live.ask = lambda worker, call_id: None
    assert (await got(http, "/calls/now"))["live"]["turns"] == 2


async def test_a_call_that_ends_while_somebody_looks_is_shown_as_it_was(
    calls: Calls, http: aiohttp.ClientSession
) -> None:
    begin(calls, "now")

    def ends(worker: int, call_id: str) -> None:
        spool.write(calls._folder, record(call_id))
        calls.on_message(worker, {"event": "call_ended", "call_id": call_id})

    calls.live.ask = ends
    assert (await got(http, "/calls/now"))["ending"] == "caller_hung_up"


@given(st.text(max_size=3 * PIECE))
@settings(max_examples=20)
def test_pieces_make_the_whole(text: str) -> None:
    parts = list(pieces(text))
    assert "".join(part for part, _ in parts) == text
    assert [last for _, last in parts] == [False] * (len(parts) - 1) + [True]


async def test_what_is_asked_wrongly_is_told(http: aiohttp.ClientSession) -> None:
    assert "no call 'never'" in await got(http, "/calls/never", 404)
    assert "write a number from 1 to 500" in await got(http, "/calls?most=0", 400)
    assert "write a time with its zone" in await got(http, "/calls?since=yesterday", 400)


async def test_calls_that_a_worker_took_with_it_leave_their_records(
    calls: Calls, http: aiohttp.ClientSession
) -> None:
    begin(calls, "gone")
    begin(calls, "written")
    spool.write(calls._folder, record("written"))  # but its line was never heard
    with capture_logs() as lines:
        calls.on_worker_end(2)  # another one
        calls.on_worker_end(1)
    assert sorted(line["call_id"] for line in lines if line["event"] == "call_lost") == ["gone", "written"]
    gone = await got(http, "/calls/gone")
    assert (gone["ending"], gone["answered_ms"], gone["verdict"]["whose"]) == (
        "worker_died",
        900.0,
        "telbridge",
    )
    assert (await got(http, "/calls/written"))["ending"] == "caller_hung_up"


async def test_hashed_numbers_are_found_by_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBERS", "key")
    calls = Calls(
        RecordsSection.model_validate(
            {"folder": tmp_path, "numbers": "hashed", "secret": {"env": "NUMBERS"}}
        ),
        RecordingSection(),
    )
    wanted = calls._pages._wanted({"caller": "+491701"})
    assert wanted.caller is not None
    assert wanted.caller.startswith("#")
    assert calls._pages._wanted({"caller": wanted.caller}).caller == wanted.caller
    await calls.stop()


async def test_a_recording_is_heard_on_the_calls_page(
    http: aiohttp.ClientSession, calls: Calls, section: RecordsSection
) -> None:
    inside = section.home() / "recordings" / "2026-11-21" / "heard.wav"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"RIFF of a call")
    outside = section.home() / "secret.wav"
    outside.write_bytes(b"of somebody else")
    about = {"from_ms": 900.0, "lost_ms": 0, "trouble": ""}
    for call_id, path in (("heard", inside), ("odd", outside), ("gone", inside.with_name("gone.wav"))):
        spool.write(calls._folder, record(call_id, recording={"path": str(path), **about}))
    async with http.get("/calls/heard/recording", headers={"Range": "bytes=0-3"}) as answer:
        assert (answer.status, answer.content_type) == (206, "audio/wav")
        assert await answer.read() == b"RIFF"
    async with http.get("/calls/heard", headers=HTML) as answer:
        text = await answer.text()
    assert 'src="/calls/heard/recording"' in text
    assert "media-src 'self'" in answer.headers["Content-Security-Policy"]
    for call_id in ("odd", "gone", "good", "never"):
        await got(http, f"/calls/{call_id}/recording", status=404)
    environ = {"TELBRIDGE__RECORDS__FOLDER": str(section.home())}
    told = CliRunner().invoke(app, ["why", "heard"], env=environ)
    assert "heard.wav" in told.output.replace("\n", "")


# ---------------------------------------------------------------- telbridge why


async def test_why_tells_a_call_from_its_record(calls: Calls, section: RecordsSection) -> None:
    environ = {"TELBRIDGE__RECORDS__FOLDER": str(section.home())}
    told = CliRunner().invoke(app, ["why", "lost"], env=environ)
    assert told.exit_code == 0
    assert "The agent was lost in mid-call" in told.output
    assert "late" in CliRunner().invoke(app, ["why", "last"], env=environ).output
    assert '"call_id": "good"' in CliRunner().invoke(app, ["why", "good", "--json"], env=environ).output
    missing = CliRunner().invoke(app, ["why", "never"], env=environ)
    assert (missing.exit_code, "no call 'never'" in missing.output) == (1, True)
