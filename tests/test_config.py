"""Settings: every mistake is one line that names file, key, fault and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.settings_reference import PAGE, page
from telbridge.cli import app
from telbridge.config import ConfigErrors, SecretRef, load


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
            "t.toml: call.agent: 'siri' is not accepted: write 'local' or 'openai_realtime'",
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


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n", "utf-8")
    assert SecretRef(file=file).resolve("k") == "s3cret"
    assert SecretRef(env="KEY").resolve("k", {"KEY": "s3cret"}) == "s3cret"
    with pytest.raises(ConfigErrors, match="settings: k: KEY is not set: export KEY="):
        SecretRef(env="KEY").resolve("k", {})


def test_check_prints_one_line_a_mistake_and_fails(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[sip]\nport = 5070\n", "utf-8")
    bad.write_text("[sip]\nprot = 1\n", "utf-8")
    assert CliRunner().invoke(app, ["check", str(good)]).exit_code == 0
    result = CliRunner().invoke(app, ["check", str(good), str(bad)])
    assert result.exit_code == 1
    assert f"{bad}: sip.prot: no such setting: did you mean `port`?" in result.output


def test_the_reference_page_is_made_from_the_code() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: .venv/bin/python scripts/settings_reference.py"
