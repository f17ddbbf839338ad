"""What the checker of dialplans says by the five agent APIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from telbridge.dialplan.asking import ABILITIES
from telbridge.dialplan.loader import load
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.sessions.dialplan_agents import DialplanAgents
from telbridge.sessions.providers import PROVIDERS

NEEDS = {
    "azure_voice_live": {"resource": "mine"},
    "companion": {"companionId": "c", "providerConfig": {"voiceId": "alloy"}},
}
SECTIONS = {name: PROVIDERS[name].settings.model_validate(known) for name, known in NEEDS.items()}


def found(folder: Path, text: str, agents: DialplanAgents | None = None) -> list[str]:
    path = folder / "plan.toml"
    path.write_text(text, "utf-8")
    try:
        load(path, agents or DialplanAgents(sections=SECTIONS))
    except DialplanErrors as errors:
        return [str(one).replace(f"{folder}/", "") for one in errors.mistakes]
    return []


@pytest.mark.parametrize("agent", ["local", *PROVIDERS])
class TestEvery:
    def test_a_plain_dialplan_is_right(self, tmp_path: Path, agent: str) -> None:
        text = f"""
        greeting = "Hello {{{{ caller }}}}."
        session.agent = "{agent}"
        session.instructions = "Be {{{{ 'brief' if time.hour > 12 else 'kind' }}}}."
        keys.1 = [{{ update.instructions = "The caller is {{{{ caller }}}}." }}, "reply"]
        keys.2 = {{ send_text = "pressed", as = "caller" }}
        tools.bye = {{ description = "Ends it.", use = "hangup" }}
        """
        assert found(tmp_path, text) == []

    def test_every_ability_is_known(self, agent: str, tmp_path: Path) -> None:
        assert [DialplanAgents().cannot(agent, one) for one in ABILITIES] == [None] * len(ABILITIES)

    def test_a_wrong_value_of_its_own(self, tmp_path: Path, agent: str) -> None:
        lines = found(tmp_path, f'[session]\nagent = "{agent}"\n{agent}.nonsense = 1')
        assert len(lines) == 1
        assert lines[0].startswith(f"plan.toml:3: session.{agent}.nonsense: ")


@pytest.mark.parametrize(
    ("agent", "change", "key"),
    [
        ("openai_realtime", 'voice = "cedar"', "voice"),
        ("openai_realtime", 'openai_realtime.model = "gpt-realtime"', "openai_realtime.model"),
        ("openai_realtime", 'voice = "{{ vars.voice }}"', "voice"),
        ("deepgram", 'turn_detection.mode = "vad"', "turn_detection.mode"),
        ("deepgram", 'deepgram.tags = ["{{ caller }}"]', "deepgram.tags"),
        ("assemblyai", 'voice = "x"', "voice"),
        ("azure_voice_live", 'voice = "en-US-AvaNeural"', "voice"),
        ("companion", 'language = "de"', "language"),
        ("companion", 'voice = "{{ vars.voice }}"', "voice"),
    ],
)
def test_a_locked_field_in_an_update_is_refused_with_its_line_and_key(
    tmp_path: Path, agent: str, change: str, key: str
) -> None:
    text = f'session.agent = "{agent}"\nvars.voice = "x"\n[[keys.1]]\n'
    text += f'do = [\n  "reply",\n  {{ update.{change} }},\n]'
    lines = found(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(f"plan.toml:6: keys.1[0].do[1].update.{key}: ")
    assert lines[0].endswith("set it in the session, or `switch_agent` to a profile that has it")


def test_what_is_locked_by_speaking_is_free_while_the_agent_waits(tmp_path: Path) -> None:
    text = 'agent_waits = true\nkeys.1 = [{ update.voice = "cedar" }, "connect"]'
    assert found(tmp_path, text, DialplanAgents("openai_realtime")) == []


def test_a_change_is_checked_for_every_agent_that_it_can_meet(tmp_path: Path) -> None:
    text = 'keys.1 = { switch_agent = "companion" }\nkeys.2 = { update.language = "de" }'
    assert [
        line[:40] for line in found(tmp_path, text, DialplanAgents("openai_realtime", sections=SECTIONS))
    ] == ["plan.toml:2: keys.2.update.language: bel"]


def test_a_value_is_checked_by_its_range_and_type(tmp_path: Path) -> None:
    text = '[session]\nagent = "openai_realtime"\n[session.openai_realtime]\nspeed = "fast"\n[keys]\n'
    text += "1 = { update.openai_realtime.speed = 7 }"
    assert [line.partition(": ")[0] for line in found(tmp_path, text)] == ["plan.toml:4", "plan.toml:6"]


def test_what_must_be_given_may_stand_in_the_settings_or_the_dialplan(tmp_path: Path) -> None:
    text = '[session]\nagent = "azure_voice_live"\n'
    assert found(tmp_path, text, DialplanAgents())
    assert found(tmp_path, text) == []
    assert found(tmp_path, f'{text}azure_voice_live.resource = "mine"', DialplanAgents()) == []


def test_a_profile_that_is_switched_to_is_checked_by_its_own_agent(tmp_path: Path) -> None:
    text = 'keys.1 = { switch_agent = "other" }\n[profiles.other]\nagent = "deepgram"\n'
    text += "turn_detection.prefix_ms = 1"
    assert found(tmp_path, text)[0].startswith(
        "plan.toml:4: profiles.other.turn_detection.prefix_ms: Deepgram"
    )
