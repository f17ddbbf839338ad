"""Settings: every mistake is one line that names file, key, fault and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scripts import metrics_reference, providers_reference, settings_reference, streams_reference
from telbridge.cli import app
from telbridge.config import ConfigErrors, load, warnings
from telbridge.sessions.providers import PROVIDERS


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    file = tmp_path / "t.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigErrors) as caught:
        load(file, environ)
    return [str(error).replace(str(file), "t.toml") for error in caught.value.errors]


def test_nothing_needs_to_be_set() -> None:
    settings = load(None, {})
    assert (settings.sip.port, settings.call.agent) == (5060, "local")


def test_a_file_and_the_environment_over_it(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('[sip]\nport = 5070\nhost = "127.0.0.1"\n', "utf-8")
    settings = load(file, {"TELBRIDGE__SIP__PORT": "5080", "TELBRIDGE__CALL__GREETING": "Hi there"})
    assert (settings.sip.port, settings.sip.host, settings.call.greeting) == (5080, "127.0.0.1", "Hi there")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[sip]\nprot = 5060\n", "t.toml: sip.prot: no such setting: did you mean `port`?"),
        ("[spi]\nport = 5060\n", "t.toml: spi: no such setting: did you mean `sip`?"),
        (
            "[sip]\nport = 0\n",
            "t.toml: sip.port: 0: input should be greater than or equal to 1: "
            "SIP port, the same for UDP and TCP",
        ),
        (
            '[call]\nagent = "siri"\n',
            "t.toml: call.agent: 'siri' is not accepted: write 'local', "
            + ", ".join(map(repr, list(PROVIDERS)[:-1]))
            + f" or {list(PROVIDERS)[-1]!r}",
        ),
        (
            '[session]\nlanguage = "English"\n',
            "t.toml: session.language: 'English': string should match pattern "
            "'^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$': BCP 47 tag, such as en or de-DE",
        ),
        (
            "[session.turn_detection]\nsilence = 500\n",
            "t.toml: session.turn_detection.silence: no such setting: did you mean `silence_ms`?",
        ),
        (
            '[openai_realtime]\napi_key = "sk-123"\n',
            "t.toml: openai_realtime.api_key: a secret must not stand here: "
            'write { env = "NAME" } or { file = "/path" }',
        ),
        ("sip = 5060\n", "t.toml: sip: is a table: write [sip] and its settings below"),
        (
            '[sip]\nallow = ["203.0.113.1/24"]\n',
            "t.toml: sip.allow: 203.0.113.1/24 has host bits set: write a network as 203.0.113.0/24",
        ),
        (
            '[local_agent.chat]\nmodle = "x"\n',
            "t.toml: local_agent.chat.modle: no such setting: did you mean `model`?",
        ),
    ],
)
def test_a_mistake_names_file_key_fault_and_remedy(tmp_path: Path, text: str, line: str) -> None:
    assert mistakes(tmp_path, text) == [line]


def test_every_mistake_is_named_not_only_the_first(tmp_path: Path) -> None:
    assert len(mistakes(tmp_path, '[sip]\nport = 0\nfoo = 1\n[log]\nlevel = "loud"\n')) == 3


def test_a_secret_is_never_repeated_in_the_complaint(tmp_path: Path) -> None:
    assert "sk-123" not in mistakes(tmp_path, '[openai_realtime]\napi_key = "sk-123"\n')[0]


def test_a_mistake_in_the_environment_says_so(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "", TELBRIDGE__SIP__PRT="5070")
    assert line == "environment TELBRIDGE__SIP__PRT: sip.prt: no such setting: did you mean `port`?"


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, "[sip\n")
    assert line.startswith("t.toml: is not TOML: ")


def test_what_an_agent_api_cannot_do_is_told_before_any_call(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, '[call]\nagent = "assemblyai"\n[session]\ntemperature = 0.5\n')
    assert line.startswith("t.toml: session.temperature: AssemblyAI Voice Agent cannot do this: ")
    assert line.endswith(": remove it, or choose another call.agent")


def test_an_agent_api_that_needs_settings_says_which_only_when_it_is_chosen(tmp_path: Path) -> None:
    assert load(None, {}).call.agent == "local"
    (line,) = mistakes(tmp_path, '[call]\nagent = "companion"\n')
    assert (
        line == "t.toml: companion.companionId: is missing: write the id of a companion, or agent_id instead"
    )


def test_what_makes_no_sense_on_a_telephone_is_passed_on_with_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(
        '[call]\nagent = "azure_voice_live"\n[azure_voice_live]\nresource = "mine"\n'
        '[azure_voice_live.animation]\noutputs = ["viseme_id"]\n',
        "utf-8",
    )
    (line,) = warnings(load(file, {}))
    assert line.startswith("azure_voice_live.animation: ")
    result = CliRunner().invoke(app, ["check", str(file)])
    assert result.exit_code == 0
    assert f"{file}: warning: {line}" in result.output


def test_check_prints_one_line_a_mistake_and_fails(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[sip]\nport = 5070\n", "utf-8")
    bad.write_text("[sip]\nprot = 1\n", "utf-8")
    assert CliRunner().invoke(app, ["check", str(good)]).exit_code == 0
    result = CliRunner().invoke(app, ["check", str(good), str(bad)])
    assert result.exit_code == 1
    assert f"{bad}: sip.prot: no such setting: did you mean `port`?" in result.output


@pytest.mark.parametrize(
    "reference", [settings_reference, providers_reference, streams_reference, metrics_reference]
)
def test_the_reference_pages_are_made_from_the_code(reference: Any) -> None:
    assert reference.PAGE.read_text("utf-8") == reference.page(), (
        f"run: .venv/bin/python {reference.__file__}"
    )
