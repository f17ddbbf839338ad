"""HTML by hand: what comes from a call is escaped where it enters a page, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

_ASSETS: Final = files("telbridge") / "assets"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything, as it is to be read."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, /, *inside: object, **attributes: object) -> Html:
    """An element. A trailing underscore in an attribute's name goes (`class_`), others become hyphens; None
    leaves it out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(inside)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """One after the other."""
    return Html("".join(text(part) for part in parts))


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def page(title: str, *body: object, script: bool = False) -> Html:
    """A whole page, in one piece."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        Html(f"<style>{_asset('calls.css')}</style>"),
    )
    last = Html(f"<script>{_asset('calls.js')}</script>") if script else ""
    whole = tag("html", tag("head", *head), tag("body", tag("main", *body), last), lang="en")
    return join((Html("<!doctype html>"), whole))


_VOID: Final = frozenset({"meta", "input", "br"})


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text("utf-8")
