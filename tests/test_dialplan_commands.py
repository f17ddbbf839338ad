"""`telbridge check` and `telbridge route` on dialplans."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from telbridge.cli import app
from telbridge.cli.kinds import is_dialplan

GOOD = 'match.called = "+49 30 1*"\ngreeting = "Hello."\n'
BAD = 'greeting = "Hello."\nkeys.1 = "hangpu"\n'
WRONG = "keys.1: no such action 'hangpu': did you mean `hangup`?"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plans"
    made.mkdir()
    (made / "sales.toml").write_text(GOOD, "utf-8")
    return made


# ---------------------------------------------------------------- check


def test_a_folder_that_is_right(folder: Path) -> None:
    (folder / "rest.toml").write_text('greeting = "Hi."', "utf-8")
    assert run("check", folder) == (0, f"{folder}: ok (rest, sales)\n")


def test_each_mistake_of_a_folder_is_one_line(folder: Path) -> None:
    (folder / "bad.toml").write_text(BAD, "utf-8")
    (folder / "worse.toml").write_text("greting = 1\n", "utf-8")
    code, output = run("check", folder)
    assert code == 1
    first, second = sorted(output.splitlines())
    assert first == f"{folder / 'bad.toml'}:2: {WRONG}"
    assert second == f"{folder / 'worse.toml'}:1: greting: no such key: did you mean `greeting`?"


def test_a_file_that_is_no_toml(folder: Path) -> None:
    (folder / "worst.toml").write_text("greeting = \n", "utf-8")
    code, output = run("check", folder)
    assert code == 1
    assert output.startswith(f"{folder / 'worst.toml'}:1: greeting: is not TOML")


def test_no_mistake_hides_those_of_other_files(folder: Path) -> None:
    """Syntax, keys, functions, recordings: each is found by a step of its own."""
    (folder / "x.wav").write_bytes(b"no wave")
    for name, text in {
        "a": "greeting = [",
        "b": "greting = 1",
        "c": 'match.called = "1"\ngreeting.wav = "x.wav"',
        "d": 'match.called = "2"\ntools.x = { description = "X.", python = "no_such_module:x" }',
        "e": 'match.called = "3"\nkeys.1 = { goto = "nowhere" }',
    }.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    code, output = run("check", folder)
    assert code == 1
    assert sorted(Path(line.split(":")[0]).stem for line in output.splitlines()) == ["a", "b", "c", "d", "e"]


def test_a_broken_shared_file_hides_only_what_would_be_its_own_mistake(folder: Path) -> None:
    (folder / "_house.toml").write_text("[profiles.kind\n", "utf-8")
    (folder / "kind.toml").write_text('match.called = "1"\nsession.extends = "kind"\n', "utf-8")
    (folder / "bad.toml").write_text("greting = 1\n", "utf-8")
    code, output = run("check", folder)
    assert code == 1
    assert sorted(Path(line.split(":")[0]).stem for line in output.splitlines()) == ["_house", "bad"]


def test_one_file_is_checked_with_what_its_folder_shares(folder: Path) -> None:
    (folder / "_house.toml").write_text('[profiles.kind]\ninstructions = "Be kind."\n', "utf-8")
    (folder / "kind.toml").write_text('session.extends = "kind"\n', "utf-8")
    (folder / "bad.toml").write_text(BAD, "utf-8")
    assert run("check", folder / "kind.toml") == (0, f"{folder / 'kind.toml'}: ok\n")


def test_settings_and_dialplans_in_one_command(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "telbridge.toml"
    settings.write_text('[call]\nagent = "deepgram"\n', "utf-8")
    assert run("check", settings, folder) == (0, f"{settings}: ok\n{folder}: ok (sales)\n")
    (folder / "bad.toml").write_text(BAD, "utf-8")
    code, output = run("check", settings, folder)
    assert code == 1
    assert output == f"{settings}: ok\n{folder / 'bad.toml'}:2: {WRONG}\n"


def test_settings_are_checked_with_the_dialplans_that_they_name(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "telbridge.toml"
    settings.write_text(f'[dialplans]\nfolder = "{folder}"\n', "utf-8")
    assert run("check", settings) == (0, f"{settings}: ok\n{folder}: ok (sales)\n")
    (folder / "bad.toml").write_text(BAD, "utf-8")
    assert run("check", settings)[0] == 1


def test_dialplans_are_checked_against_the_agent_of_the_settings(folder: Path, tmp_path: Path) -> None:
    (folder / "sales.toml").write_text("session.temperature = 0.5\n", "utf-8")
    settings = tmp_path / "telbridge.toml"
    settings.write_text('[call]\nlocal_api = "azure_voice_live"\n', "utf-8")
    code, output = run("check", folder)
    assert code == 1
    assert output.startswith(f"{folder / 'sales.toml'}:1: session.temperature: ")
    assert run("check", "--settings", settings, folder)[0] == 0


def test_settings_for_the_check_that_are_wrong_themselves(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "telbridge.toml"
    settings.write_text("[sip]\nprot = 1\n", "utf-8")
    code, output = run("check", "--settings", settings, folder)
    assert (code, output) == (1, f"{settings}: sip.prot: no such setting: did you mean `port`?\n")


def test_a_missing_wav_and_a_broken_one_are_mistakes(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"no wave")
    (folder / "sales.toml").write_text('greeting.wav = "a.wav"\n', "utf-8")
    code, output = run("check", folder)
    assert code == 1
    assert output == (
        f"{folder / 'sales.toml'}:1: greeting[0].wav: {folder / 'a.wav'}: not a WAVE file: "
        "name a WAV file, from the dialplan's folder\n"
    ).replace("greeting[0].wav", "greeting.wav")


@pytest.mark.parametrize(
    ("text", "dialplan"),
    [
        (GOOD, True),
        ("[sip]\nport = 5070\n", False),
        ('[session]\ninstructions = "x"\n[call]\nagent = "local"\n', False),
        ('[session]\ninstructions = "x"\n[keys]\n1 = "hangup"\n', True),
        ("[keys\n1 = ", True),
        ("[sip\nport = ", False),
        ('[session]\ninstructions = "x"\n', False),
        ("", False),
    ],
)
def test_what_a_file_is_shows_in_what_it_holds(tmp_path: Path, text: str, dialplan: bool) -> None:
    file = tmp_path / "f.toml"
    file.write_text(text, "utf-8")
    assert is_dialplan(file) is dialplan


def test_where_that_does_not_show_it_is_the_place_that_counts(folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path / "dialplans", tmp_path / "named"):
        place.mkdir(exist_ok=True)
        (place / "f.toml").write_text('[session]\ninstructions = "x"\n', "utf-8")
    assert is_dialplan(folder / "f.toml")  # beside sales.toml
    assert is_dialplan(tmp_path / "dialplans/f.toml")
    assert is_dialplan(tmp_path / "named/f.toml", tmp_path / "named")
    assert not is_dialplan(tmp_path / "named/f.toml")


# ---------------------------------------------------------------- route

OFFICE = """
zone = "Europe/Berlin"
match = { called = "+49 30 1*", hours = "office", headers = { X-Tier = "gold" } }
[hours.office]
open = ["Mon-Fri 09:00-17:00"]
"""


def test_the_choice_is_told_with_the_reasons_of_all_others(folder: Path) -> None:
    (folder / "office.toml").write_text(OFFICE, "utf-8")
    (folder / "everyone.toml").write_text('greeting = "Hi."\n', "utf-8")
    code, output = run(
        "route",
        "--dialplans",
        folder,
        "--to",
        "+49301234",
        "--from",
        "+49170",
        "--at",
        "2026-12-24T18:00+01:00",
    )
    lines = output.splitlines()
    assert code == 0
    assert lines[0] == "+49170 calls +49301234 over sip, Thursday 2026-12-24 18:00 UTC+01:00"
    assert lines[2:4] == [
        "  office    no     headers.X-Tier: there is none",
        f"{'':19}hours: office: Thu 2026-12-24 18:00 (Europe/Berlin) is not in Mon-Fri 09:00-17:00",
    ]
    assert lines[4].startswith(f"→ sales     yes    {folder / 'sales.toml'}, version ")
    assert lines[4].endswith(", agent local")
    assert lines[5] == "  everyone  later  sales says more about `called`"


def test_headers_parameters_trunk_and_domain_count(folder: Path) -> None:
    (folder / "sales.toml").write_text(
        'match = { headers.X-Tier = "gold", parameters.shop = "7", trunk = "carrier", '
        'domain = "a.example", ingress = "twilio" }\n',
        "utf-8",
    )
    options = [
        "--header", "x-tier=gold", "--param", "shop=7", "--trunk", "carrier",
        "--domain", "a.example", "--ingress", "twilio",
    ]  # fmt: skip
    assert run("route", "--dialplans", folder, "--to", "1", *options)[0] == 0
    for left_out in range(0, len(options), 2):
        some = options[:left_out] + options[left_out + 2 :]
        code, output = run("route", "--dialplans", folder, "--to", "1", *some)
        assert code == 1
        assert output.endswith("\nNo dialplan is for this call: it would be refused.\n")


def test_the_folder_of_the_settings_and_the_usual_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "telbridge.toml"
    settings.write_text(f'[dialplans]\nfolder = "{folder}"\n', "utf-8")
    assert "→ sales" in run("route", "--settings", settings, "--to", "+49301")[1]
    monkeypatch.chdir(tmp_path)
    assert "→ settings  yes    the settings, version " in run("route", "--to", "+49301")[1]
    folder.rename(tmp_path / "dialplans")
    assert "→ sales" in run("route", "--to", "+49301")[1]


def test_broken_dialplans_are_told_as_by_check(folder: Path) -> None:
    (folder / "bad.toml").write_text(BAD, "utf-8")
    assert run("route", "--dialplans", folder, "--to", "1") == (1, f"{folder / 'bad.toml'}:2: {WRONG}\n")


@pytest.mark.parametrize(
    ("option", "what"),
    [(("--at", "noon"), "write it as"), (("--header", "X-Tier"), "write NAME=VALUE")],
)
def test_an_option_that_is_none_is_told(folder: Path, option: tuple[str, str], what: str) -> None:
    code, output = run("route", "--dialplans", folder, "--to", "1", *option)
    assert code == 2
    assert what in output
    assert "Traceback" not in output
