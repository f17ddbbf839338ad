"""The dialplans of a running worker: read, watched, replaced as a whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav, write_wav
from telbridge.call.ports import OutsideFailed
from telbridge.config import ConfigErrors, Settings
from telbridge.dialplan.facts import Facts
from telbridge.serving.dialplans import Dialplans, uses_local_agent
from telbridge.serving.last_good import LastGood
from telbridge.serving.outside import World

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
FACTS = Facts("c1", "sip", "+4930111", "+4930222", NOW)
POLL_S = 0.02


def settings(folder: Path | None, **call: Any) -> Settings:
    return Settings.model_validate({"dialplans": {"folder": folder}, "call": call})


def write(folder: Path, text: str, name: str = "line") -> None:
    """As a good editor or deployment does it: never half a file."""
    draft = folder / f"{name}.draft"
    draft.write_text(text, "utf-8")
    draft.replace(folder / f"{name}.toml")


def tone(path: Path, seconds: float = 0.5, rate_hz: int = 44_100, level: float = 8000) -> None:
    wave = level * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)
    write_wav(path, [wave.astype("<i2").tobytes()], rate_hz)


def greeting(dialplans: Dialplans) -> str:
    chosen = dialplans.plan_for(FACTS, NOW)
    assert chosen is not None
    return chosen.plan.opening(FACTS, NOW).greeting_text


class Log:
    """Collects what is logged, and wakes who waits for an event."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def __call__(self, _: Any, level: str, line: dict[str, Any]) -> Any:
        self.lines.append({**line, "level": level})
        self._more.set()
        raise structlog.DropEvent

    async def until(self, event: str) -> list[dict[str, Any]]:
        """The lines up to this event, which are forgotten then."""
        async with asyncio.timeout(20):
            while not any(line["event"] == event for line in self.lines):
                self._more.clear()
                await self._more.wait()
        end = next(at for at, line in enumerate(self.lines) if line["event"] == event) + 1
        lines, self.lines = self.lines[:end], self.lines[end:]
        return lines


@contextlib.contextmanager
def structlog_to(log: Log) -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Dialplans, Log]]:
    log = Log()
    with structlog_to(log):
        dialplans = Dialplans(settings(folder), poll_s=POLL_S)
        watching = asyncio.create_task(dialplans.watch())
        try:
            yield dialplans, log
            assert not watching.done(), "nobody watches any more"
        finally:
            watching.cancel()


# ---------------------------------------------------------------- hot reload


async def test_a_changed_file_is_the_next_calls_and_a_live_call_keeps_its_own(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        live = dialplans.plan_for(FACTS, NOW)
        first = dialplans.plans.version
        write(tmp_path, 'greeting = "two"')
        (line,) = await log.until("dialplans_loaded")
        assert greeting(dialplans) == "two"
        assert line["version"] == dialplans.plans.version != first
        assert live is not None
        assert live.plan.opening(FACTS, NOW).greeting_text == "one"


async def test_a_broken_file_keeps_the_old_version_and_says_why_until_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        version = dialplans.plans.version
        write(tmp_path, 'greeting = "two"\nstart = "nowhere"\nkeys.1 = "hangpu"\n')
        lines = await log.until("dialplans_kept")
        told = [line["what"] for line in lines if line["event"] == "dialplan_mistake"]
        assert [line["level"] for line in lines] == ["error"] * len(lines)
        assert any(
            one.startswith(f"{tmp_path / 'line.toml'}:3: keys.1: no such action 'hangpu'") for one in told
        )
        assert all("\n" not in one for one in told)
        assert greeting(dialplans) == "one"
        assert dialplans.plans.version == version
        write(tmp_path, 'greeting = "three"')
        await log.until("dialplans_loaded")
        assert greeting(dialplans) == "three"


async def test_one_broken_file_holds_back_the_whole_folder(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        write(tmp_path, 'greeting = "two"')
        write(tmp_path, "greeting = ", "other")
        await log.until("dialplans_kept")
        assert greeting(dialplans) == "one"
        (tmp_path / "other.toml").unlink()
        await log.until("dialplans_loaded")
        assert greeting(dialplans) == "two"


async def test_a_mistake_is_told_once_not_every_second(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        write(tmp_path, "greeting = ")
        await log.until("dialplans_kept")
        for _ in range(5):
            dialplans.ask_reload()  # … but each time somebody asks
            assert [line["event"] for line in await log.until("dialplans_kept")] == [
                "dialplan_mistake",
                "dialplans_kept",
            ]
        await asyncio.sleep(5 * POLL_S)
        assert log.lines == []


async def test_a_folder_that_is_emptied_or_gone_keeps_the_old_version(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write(folder, 'greeting = "one"')
    async with watched(folder) as (dialplans, log):
        folder.rename(tmp_path / "e")
        await log.until("dialplans_kept")
        assert greeting(dialplans) == "one"
        (tmp_path / "e").rename(folder)
        await log.until("dialplans_loaded")


async def test_a_file_that_is_still_being_written_is_left_alone_until_it_is_still(tmp_path: Path) -> None:
    """Written in place, in pieces: no mistake is told of a half."""
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        with (tmp_path / "line.toml").open("w", encoding="utf-8") as file:
            for piece in ['greeting = "', "t", "w", "o", '"', "\n"]:
                file.write(piece)
                file.flush()
                os.utime(file.fileno())
                await asyncio.sleep(POLL_S / 2)
        (line,) = await log.until("dialplans_loaded")
        assert line["event"] == "dialplans_loaded"
        assert greeting(dialplans) == "two"


async def test_on_request_the_folder_is_read_though_nothing_changed(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    dialplans = Dialplans(settings(tmp_path), poll_s=60)
    watching = asyncio.create_task(dialplans.watch())
    before = dialplans.plan_for(FACTS, NOW)
    dialplans.ask_reload()
    async with asyncio.timeout(20):
        while (after := dialplans.plan_for(FACTS, NOW)) is not None and before is not None:
            if after.plan is not before.plan:
                break
            await asyncio.sleep(0.005)
    watching.cancel()


async def test_a_bug_while_reading_does_not_end_the_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 'greeting = "one"')
    async with watched(tmp_path) as (dialplans, log):
        with monkeypatch.context() as patch:
            patch.setattr("telbridge.serving.dialplans.examine", lambda *_: 1 / 0)
            write(tmp_path, 'greeting = "two"')
            await log.until("dialplans_kept")
        dialplans.ask_reload()
        await log.until("dialplans_loaded")
        assert greeting(dialplans) == "two"


# ---------------------------------------------------------------- a worker that is started again


async def test_a_worker_that_is_started_again_has_what_the_one_before_it_had(sounds: Path) -> None:
    """Texts and recordings, though both are broken or gone by now; what is mended is read again."""
    good = LastGood(sounds.parent)
    before = Dialplans(settings(sounds), last_good=good)
    (sounds / "hello.wav").unlink()
    write(sounds, "greeting = ")
    log = Log()
    with structlog_to(log):
        after = Dialplans(settings(sounds), last_good=good, poll_s=POLL_S)
        told = await log.until("dialplans_kept")
        assert [line["what"].split(":")[0] for line in told[:-1]] == [str(sounds / "line.toml")]
        assert after.plans.version == before.plans.version
        old, new = before.plan_for(FACTS, NOW), after.plan_for(FACTS, NOW)
        assert old is not None
        assert new is not None
        assert new.plan == old.plan
        assert new.recordings == old.recordings
        watching = asyncio.create_task(after.watch())
        await asyncio.sleep(5 * POLL_S)
        assert log.lines == [], "told again and again"
        write(sounds, 'greeting = "mended"')
        await log.until("dialplans_loaded")
        watching.cancel()
    write(sounds, "greeting = ")
    assert greeting(Dialplans(settings(sounds), last_good=good)) == "mended"


def test_a_first_start_with_a_broken_folder_fails_with_its_lines(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write(folder, "greeting = ")
    with pytest.raises(ConfigErrors, match="greeting: is not TOML"):
        Dialplans(settings(folder), last_good=LastGood(tmp_path))


def test_what_was_kept_is_of_no_use_when_it_was_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write(folder, 'greeting = "one"')
    Dialplans(settings(folder), last_good=LastGood(tmp_path))
    (kept,) = tmp_path.glob("*.zip")
    kept.write_bytes(kept.read_bytes()[:40])
    write(folder, "greeting = ")
    with pytest.raises(ConfigErrors, match="greeting: is not TOML"):
        Dialplans(settings(folder), last_good=LastGood(tmp_path))


def test_a_disk_that_keeps_nothing_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    write(tmp_path, 'greeting = "one"')
    assert greeting(Dialplans(settings(tmp_path), last_good=LastGood(tmp_path / "gone"))) == "one"


# ---------------------------------------------------------------- recordings

SPOKEN = """
greeting.wav = "hello.wav"
keys.1 = { play = "sounds/one.wav" }
keys.2 = { collect = "account", prompt_wav = "hello.wav" }
keys.3 = { hold_music = "music.wav" }
"""


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    tone(tmp_path / "hello.wav", 0.5)
    tone(tmp_path / "sounds/one.wav", 1.0, 16_000)
    tone(tmp_path / "music.wav", 2.0, 8_000)
    write(tmp_path, SPOKEN)
    return tmp_path


async def test_every_wav_is_there_in_the_legs_format_by_its_name_in_the_dialplan(sounds: Path) -> None:
    chosen = Dialplans(settings(sounds)).plan_for(FACTS, NOW)
    assert chosen is not None
    world = World(Settings().local_agent)
    outside = world.for_call(chosen.recordings)
    assert PCM_8K.ms_in(len(outside.recording("hello.wav"))) == pytest.approx(500, abs=1)
    assert PCM_8K.ms_in(len(outside.recording("sounds/one.wav"))) == 1000
    assert PCM_8K.ms_in(len(outside.recording("music.wav"))) == 2000
    for other in ("one.wav", "../hello.wav", "/etc/passwd"):
        with pytest.raises(OutsideFailed, match="no such recording"):
            outside.recording(other)
    await world.aclose()


def test_a_wav_that_many_dialplans_name_is_converted_once(
    sounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[str] = []

    def counted(path: Path, format: Any) -> bytes:
        converted.append(path.name)
        return load_wav(path, format)

    monkeypatch.setattr("telbridge.serving.recordings.load_wav", counted)
    for name in ("a", "b", "c"):
        write(sounds, f'match.called = "{name}"\n{SPOKEN}', name)
    Dialplans(settings(sounds))
    assert sorted(converted) == ["hello.wav", "music.wav", "one.wav"]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: path.write_bytes(b"no wave"), "not a WAVE file"),
        (lambda path: tone(path, 0.0), "holds no audio"),
        (lambda path: os.truncate(path, 60_000_000), "is larger than 50 MB"),
    ],
    ids=["garbage", "empty", "huge"],
)
def test_a_wav_that_cannot_be_played_is_a_mistake_with_file_line_and_key(
    sounds: Path, spoil: Any, what: str
) -> None:
    spoil(sounds / "sounds/one.wav")
    with pytest.raises(ConfigErrors) as caught:
        Dialplans(settings(sounds))
    place, remedy = (
        f"{sounds / 'line.toml'}:3: keys.1.play: ",
        ": name a WAV file, from the dialplan's folder",
    )
    assert str(caught.value) == f"{place}{sounds / 'sounds/one.wav'}: {what}{remedy}"


def test_a_wav_that_is_missing_is_a_mistake_with_file_line_and_key(sounds: Path) -> None:
    (sounds / "music.wav").unlink()
    with pytest.raises(ConfigErrors) as caught:
        Dialplans(settings(sounds))
    (error,) = caught.value.errors
    assert (error.file, error.key) == (f"{sounds / 'line.toml'}:5", "keys.3.hold_music")


async def test_a_changed_wav_is_the_next_calls_and_a_live_call_keeps_its_own(sounds: Path) -> None:
    async with watched(sounds) as (dialplans, log):
        live = dialplans.plan_for(FACTS, NOW)
        tone(sounds / "hello.wav", 0.25)
        await log.until("dialplans_loaded")
        after = dialplans.plan_for(FACTS, NOW)
        assert live is not None
        assert after is not None
        assert len(after.recordings["hello.wav"]) < len(live.recordings["hello.wav"])
        assert after.recordings["music.wav"] is live.recordings["music.wav"], "converted again"
        (sounds / "hello.wav").write_bytes(b"broken")
        lines = await log.until("dialplans_kept")
        assert "keys.2.prompt_wav" in str(lines)
        (sounds / "hello.wav").unlink()
        await log.until("dialplans_kept")
        tone(sounds / "hello.wav")
        await log.until("dialplans_loaded")


def test_what_is_played_is_part_of_the_version(sounds: Path) -> None:
    """Of the dialplans that play it, and of no other."""
    write(sounds, 'match.called = "2"\ngreeting = "Hi."', "other")
    before = Dialplans(settings(sounds)).plans
    assert Dialplans(settings(sounds)).plans.version == before.version
    tone(sounds / "hello.wav", 0.5, level=4000)
    after = Dialplans(settings(sounds)).plans
    assert after.version != before.version
    assert after.plan("line").version != before.plan("line").version
    assert after.plan("other").version == before.plan("other").version


async def test_a_wav_outside_the_folder_is_watched_too_and_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    tone(tmp_path / "far.wav", 0.5)
    write(folder, 'greeting = "one"')
    async with watched(folder) as (_, log):
        write(folder, 'greeting.wav = "../far.wav"')
        await log.until("dialplans_loaded")
        await asyncio.sleep(5 * POLL_S)
        assert log.lines == []
        tone(tmp_path / "far.wav", 0.25)
        await log.until("dialplans_loaded")


# ---------------------------------------------------------------- Python tools, agents


def test_a_python_tool_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, '[tools.find]\ndescription = "Finds."\npython = "no_such_module_here:find"\n')
    with pytest.raises(ConfigErrors) as caught:
        Dialplans(settings(tmp_path))
    (error,) = caught.value.errors
    assert (error.file, error.key) == (f"{tmp_path / 'line.toml'}:3", "tools.find.python")
    assert error.what == "there is no module no_such_module_here"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('greeting = "x"', False),
        ('session.agent = "local"', True),
        ('[keys]\n1 = { switch_agent = "local" }', True),
        ('[profiles.ours]\nagent = "local"\n[keys]\n1 = { switch_agent = "ours" }', True),
        ("greeting = ", False),
    ],
)
def test_the_embedded_agent_is_started_for_the_dialplans_that_want_it(
    tmp_path: Path, text: str, wanted: bool
) -> None:
    write(tmp_path, text)
    assert uses_local_agent(settings(tmp_path, agent="openai_realtime")) is wanted
    assert uses_local_agent(settings(tmp_path))


def test_a_dialplan_cannot_ask_for_an_embedded_agent_that_was_not_started(tmp_path: Path) -> None:
    write(tmp_path, '[session]\nagent = "local"\n')
    with pytest.raises(ConfigErrors, match=r"line.toml:2: session.agent: the embedded agent is not running"):
        Dialplans(settings(tmp_path, agent="openai_realtime"), local_runs=False)
    Dialplans(settings(tmp_path, agent="openai_realtime"))


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ('greeting = "x"', False),
        ('notice = "This call is recorded."', True),
        ('keys.1 = { say = "x", by = "local" }', True),
        ('keys.1 = { say = "x" }', False),
    ],
)
def test_our_own_voice_is_started_for_the_dialplans_that_need_it(
    tmp_path: Path, text: str, needed: bool
) -> None:
    write(tmp_path, text)
    assert Dialplans(settings(tmp_path)).needs_voice is needed


# ---------------------------------------------------------------- without a folder


def test_without_a_folder_the_settings_are_the_dialplan() -> None:
    text = "Costs {{ 20 }} or }} {{ less."
    chosen = Dialplans(settings(None, greeting=text)).plan_for(FACTS, NOW)
    assert chosen is not None
    opening = chosen.plan.opening(FACTS, NOW)
    assert opening.greeting_text == text
    assert opening.greeting is not None
    assert opening.greeting.say is not None
    assert [tool.name for tool in opening.wanted.neutral.tools or ()] == ["hang_up"]
    assert chosen.plan.dialplan.tools["hang_up"].use == "hangup"
    assert chosen.plan.default_agent == "local"


def test_a_greeting_in_the_agents_words_and_none_at_all() -> None:
    free = Dialplans(settings(None, greeting="Be kind.", greeting_verbatim=False)).plan_for(FACTS, NOW)
    none = Dialplans(settings(None, greeting="", agent_may_hang_up=False)).plan_for(FACTS, NOW)
    assert free is not None
    assert none is not None
    found = free.plan.opening(FACTS, NOW).greeting
    assert found is not None
    assert found.say is None
    assert free.plan.opening(FACTS, NOW).greeting_text == "Be kind."
    assert none.plan.opening(FACTS, NOW).greeting is None
    assert none.plan.opening(FACTS, NOW).wanted.neutral.tools is None
    assert free.plan.version != none.plan.version


async def test_without_a_folder_there_is_nothing_to_watch_or_to_read() -> None:
    dialplans = Dialplans(settings(None))
    await asyncio.wait_for(dialplans.watch(), 20)
    assert not await dialplans.reload()


def test_a_folder_whose_dialplans_are_for_other_calls_gives_none(tmp_path: Path) -> None:
    write(tmp_path, 'match.called = "+491"\ngreeting = "x"')
    assert Dialplans(settings(tmp_path)).plan_for(FACTS, NOW) is None
