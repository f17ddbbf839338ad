"""The header fields of a message: as `sipmessage` has them, whatever is done to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sipmessage import Headers as Theirs
from sipmessage import Message

from telbridge.dispatch.headers import Headers

NAMES = st.sampled_from(["Via", "via", "v", "From", "FROM", "f", "X-Own", "x-own", "Contact", "Route"])
VALUES = st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([":", " :", ": "]), VALUES), max_size=12)


def both(fields: list[tuple[str, str, str]]) -> tuple[Headers, Theirs]:
    lines = [f"{name}{colon}{value}" for name, colon, value in fields]
    theirs = "\r\n".join(["SIP/2.0 200 OK", *(line.replace(" :", ":", 1) for line in lines), "", ""])
    return Headers.parse("\r\n".join(lines)), Message.parse(theirs.encode()).headers


@given(FIELDS, NAMES, st.lists(VALUES, min_size=1, max_size=3))
def test_they_are_read_changed_and_written_as_the_librarys(
    fields: list[tuple[str, str, str]], name: str, values: list[str]
) -> None:
    ours, theirs = both(fields)
    assert str(ours) == str(theirs)
    assert (ours.get(name), ours.getlist(name)) == (theirs.get(name), theirs.getlist(name))
    for headers in (ours, theirs):
        headers.set("Max-Forwards", "69")
        headers.setlist(name, list(values))
        headers.remove("From")
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("line", ["no colon", "two words: x", ": x", "Nöme: x", "\N{NO-BREAK SPACE}: x"])
def test_what_is_no_header_field_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        Headers.parse(f"Via: x\r\n{line}")


def test_one_that_is_missing_is_no_value() -> None:
    headers = Headers.parse("")
    assert headers.get("Via") is None and headers.getlist("Via") == []
    with pytest.raises(KeyError):
        headers["Via"]
    assert str(headers) == "\r\n"
