"""A dialplan against the agent APIs as the settings have them: what cannot be is told before any call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telbridge.config import Settings
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.serving.agent_apis import AgentApis
from telbridge.serving.dialplans import read
from telbridge.sessions.providers import PROVIDERS

UPDATE = "\n[keys]\n1 = { update = {%s} }\n"


def mistakes(folder: Path, text: str, **sections: Any) -> list[str]:
    (folder / "p.toml").write_text(text, "utf-8")
    try:
        read(folder, AgentApis(Settings.model_validate(sections)))
    except DialplanErrors as errors:
        return [str(one).removeprefix(f"{folder}/") for one in errors.mistakes]
    return []


def test_all_agent_apis_are_there_and_the_embedded_agent() -> None:
    apis = AgentApis(Settings.model_validate({"call": {"agent": "deepgram"}}))
    assert list(apis.names) == ["local", *PROVIDERS]
    assert apis.default == "deepgram"


@pytest.mark.parametrize(
    ("agent", "text", "lines"),
    [
        # neutral: impossible at all
        ("openai_realtime", "session.temperature = 0.5", ["p.toml:1: session.temperature: "]),
        # neutral: locked once it runs
        ("openai_realtime", UPDATE % 'voice = "cedar"', ["p.toml:3: keys.1.update.voice: "]),
        ("assemblyai", UPDATE % 'voice = "cedar"', ["p.toml:3: keys.1.update.voice: "]),
        # the vendor's own: unknown, wrong type, out of range, not one of
        (
            "openai_realtime",
            "session.openai_realtime.sped = 1",
            ["p.toml:1: session.openai_realtime.sped: no such key: did you mean `speed`?"],
        ),
        (
            "openai_realtime",
            "session.openai_realtime.speed = 9",
            ["p.toml:1: session.openai_realtime.speed: 9: input should be less than or equal to 1.5: "],
        ),
        (
            "openai_realtime",
            'session.openai_realtime.speed = "fast"',
            ["p.toml:1: session.openai_realtime.speed: 'fast': "],
        ),
        (
            "openai_realtime",
            'session.openai_realtime.audio = "mp3"',
            ["p.toml:1: session.openai_realtime.audio: 'mp3' is not accepted: write 'g711' or 'pcm24k'"],
        ),
        # the vendor's own: locked once it runs
        (
            "openai_realtime",
            UPDATE % 'openai_realtime.model = "gpt-realtime"',
            ["p.toml:3: keys.1.update.openai_realtime.model: "],
        ),
        (
            "azure_voice_live",
            UPDATE % "azure_voice_live.input_audio_sampling_rate = 8000",
            ["p.toml:3: keys.1.update.azure_voice_live.input_audio_sampling_rate: "],
        ),
        # a secret has no place in a dialplan
        (
            "deepgram",
            'session.deepgram.api_key = "sk-4711"',
            ["p.toml:1: session.deepgram.api_key: a secret must not stand here: "],
        ),
    ],
)
def test_each_mistake_is_one_line_with_its_place(
    tmp_path: Path, agent: str, text: str, lines: list[str]
) -> None:
    sections: dict[str, Any] = {"call": {"agent": agent}}
    if agent == "azure_voice_live":
        sections[agent] = {"resource": "mine"}
    found = mistakes(tmp_path, text, **sections)
    assert len(found) == len(lines), found
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start), line
        assert "4711" not in line


@pytest.mark.parametrize(
    "text",
    [
        UPDATE % 'instructions = "Be brief."',
        UPDATE % "openai_realtime.speed = 1.2",
        "session.openai_realtime.speed = 1.2",
        'session.openai_realtime.speed = "{{ answers.shop.speed }}"\n'
        'on.ringing = { webhook = "https://a.example/", as = "shop" }',
    ],
)
def test_what_can_be_done_passes(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text, call={"agent": "openai_realtime"}) == []


def test_what_an_api_must_have_may_stand_in_the_settings_or_in_the_dialplan(tmp_path: Path) -> None:
    text = '[session]\nagent = "azure_voice_live"\n'
    assert mistakes(tmp_path, text) != []
    assert mistakes(tmp_path, text, azure_voice_live={"resource": "mine"}) == []
    assert mistakes(tmp_path, text + 'azure_voice_live.resource = "mine"') == []


def test_the_embedded_agent_can_what_the_api_can_in_which_it_is_spoken_to(tmp_path: Path) -> None:
    text = "session.temperature = 0.5"
    assert mistakes(tmp_path, text, call={"local_api": "azure_voice_live"}) == []
    (line,) = mistakes(tmp_path, text, call={"local_api": "openai_realtime"})
    assert line.startswith("p.toml:1: session.temperature: ")


def test_an_agent_that_does_not_exist(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, 'session.agent = "openai"')
    assert line.startswith(
        "p.toml:1: session.agent: no such agent API `openai`: did you mean `openai_realtime`?"
    )
