"""Secrets are references until the moment they go on the wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from telbridge.sessions.credentials import SecretMissing, SecretRef, revealed


class Endpoint(BaseModel):
    url: str
    headers: dict[str, SecretRef | str] = {}


class Settings(BaseModel):
    api_key: SecretRef
    endpoints: list[Endpoint] = []


SETTINGS = Settings(
    api_key=SecretRef(env="KEY"),
    endpoints=[Endpoint(url="https://x", headers={"authorization": SecretRef(env="OTHER"), "x-plain": "1"})],
)
ENVIRON = {"KEY": "s3cret", "OTHER": "t0ken"}


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n", "utf-8")
    assert SecretRef(file=file).resolve("k") == "s3cret"
    assert SecretRef(env="KEY").resolve("k", ENVIRON) == "s3cret"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (SecretRef(env="KEY"), "k: KEY is not set: export KEY=…"),
        (SecretRef(file=Path("/nowhere")), "k: /nowhere: No such file or directory: name a readable file"),
    ],
)
def test_one_that_is_missing_is_told_with_its_remedy(reference: SecretRef, words: str) -> None:
    with pytest.raises(SecretMissing) as caught:
        reference.resolve("k", {})
    assert str(caught.value) == words


def test_secrets_at_any_depth_are_revealed_for_the_wire_and_nowhere_else() -> None:
    assert revealed(SETTINGS, ENVIRON) == {
        "api_key": "s3cret",
        "endpoints": [{"url": "https://x", "headers": {"authorization": "t0ken", "x-plain": "1"}}],
    }
    for shown in (repr(SETTINGS), SETTINGS.model_dump_json()):
        assert "s3cret" not in shown
        assert "t0ken" not in shown
    assert Settings.model_validate_json(SETTINGS.model_dump_json()) == SETTINGS


def test_one_that_is_missing_at_any_depth_is_told_by_its_key() -> None:
    with pytest.raises(SecretMissing) as caught:
        revealed(SETTINGS, {"KEY": "s3cret"}, key="vendor")
    assert caught.value.key == "vendor.endpoints[0].headers.authorization"


def test_what_is_left_out_is_not_looked_for() -> None:
    assert revealed(SETTINGS, {}, exclude={"api_key", "endpoints"}) == {}
    assert revealed(SETTINGS, {"KEY": "s3cret"}, include={"api_key"}) == {"api_key": "s3cret"}
    unset = Settings.model_construct(_fields_set=set(), api_key=SecretRef(env="KEY"), endpoints=[])
    assert revealed(unset, {}, exclude_unset=True) == {}


def test_a_secret_in_the_place_of_a_reference_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="a secret must not stand here") as caught:
        Settings.model_validate({"api_key": "sk-123"})
    assert "sk-123" not in str(caught.value.errors(include_input=False))
