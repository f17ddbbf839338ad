"""[records]: where records go, and the mistakes that its authors make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from telbridge.serving.records_settings import RecordsSection


def test_all_that_is_kept_lies_in_one_folder(tmp_path: Path) -> None:
    section = RecordsSection(folder=tmp_path)
    assert section.spool() == tmp_path / "spool"
    assert section.url() == f"sqlite:///{tmp_path}/records.db"
    assert RecordsSection(path=tmp_path / "calls.jsonl").home() == tmp_path
    assert RecordsSection().home({"XDG_STATE_HOME": "/state"}) == Path("/state/telbridge")


def test_the_password_is_put_in_where_it_is_used_and_shown_nowhere() -> None:
    section = RecordsSection.model_validate(
        {"database": "postgresql://telbridge@db.example:5433/records", "password": {"env": "PW"}}
    )
    assert section.url({"PW": "a/b@c"}) == "postgresql://telbridge:a%2Fb%40c@db.example:5433/records"
    assert section.where() == "postgresql://telbridge@db.example:5433/records"


def test_the_key_of_the_hash_is_wanted_only_where_numbers_are_hashed() -> None:
    hashed = RecordsSection.model_validate({"numbers": "hashed", "secret": {"env": "KEY"}})
    assert hashed.key({"KEY": "k"}) == b"k"
    assert RecordsSection().key({}) is None


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"database": "mysql://db/records"}, 'write "postgresql://'),
        ({"database": "sqlite://"}, 'write "postgresql://'),
        ({"database": "postgresql://me:secret@db/records"}, 'write password = { env = "NAME" }'),
        ({"numbers": "hashed"}, 'write secret = { env = "NAME" }'),
        ({"secret": "abc"}, "a secret must not stand here"),
    ],
)
def test_a_mistake_names_its_remedy_and_no_password(settings: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError) as raised:
        RecordsSection.model_validate(settings)
    message = str(raised.value.errors()[0]["msg"])
    assert remedy in message
    assert "secret@" not in message
