"""GET /calls and /calls/ID on the admin port: for people as HTML, for programs as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from telbridge.ops.archive import Archive
from telbridge.ops.asking import StoreDown, Wanted
from telbridge.ops.recording_files import CONTENT_TYPES
from telbridge.ops.verdict import judge
from telbridge.ops.view.call_page import call_page
from telbridge.ops.view.list_page import CHOICES, FILTERS, list_page
from telbridge.serving.live import LiveCalls

MOST: Final = 50
"""Calls on one page, unless `most` asks for others."""
MOST_OF_ALL: Final = 500
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class CallPages:
    """Routes for the admin port."""

    def __init__(
        self, live: LiveCalls, archive: Archive, number: Callable[[str], str], recordings: Path
    ) -> None:
        """`number`: a telephone number as records keep it; `recordings`: their folder."""
        self._live, self._archive, self._number, self._recordings = live, archive, number, recordings

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/calls", self._list),
            web.get("/calls/{call_id}", self._call),
            web.get("/calls/{call_id}/recording", self._recording),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        """Filters: those of `Wanted`, by name; `most`; `live=1` for the live ones alone."""
        asked = {name: value.strip() for name, value in request.query.items() if value.strip()}
        wanted, most = self._wanted(asked), _most(asked)
        live = [call for call in self._live.all() if _is_wanted(call, wanted)]
        over: list[dict[str, Any]] = []
        trouble = ""
        if asked.get("live") != "1":
            try:
                over = await asyncio.to_thread(self._archive.find, wanted, most)
            except StoreDown as error:
                trouble = str(error)
        older = over[-1]["ended_at"].isoformat() if len(over) == most else None
        if _wants_json(request):
            rows = [{**row, **_times(row)} for row in over]
            answer = {"live": live, "over": rows, "older": older, "trouble": trouble}
            return web.json_response(answer, status=503 if trouble else 200, headers=_HEADERS)
        return _html(list_page(live, over, _carried(asked), older=older, trouble=trouble))

    async def _call(self, request: web.Request) -> web.Response:
        record = await self._live.look(request.match_info["call_id"])
        live = record is not None
        if record is None:
            record = await self._kept(request)
        if _wants_json(request):
            return web.json_response({**record, **({} if live else _judged(record))}, headers=_HEADERS)
        return _html(call_page(record, live=live))

    async def _kept(self, request: web.Request) -> dict[str, Any]:
        """The record of a call that is over."""
        call_id = request.match_info["call_id"]
        try:
            record = await asyncio.to_thread(self._archive.get, call_id)
        except StoreDown as error:
            raise web.HTTPServiceUnavailable(text=f"the database does not answer: {error}\n") from None
        if record is None:
            raise web.HTTPNotFound(text=f"no call {call_id!r}: it has no record, or one too old\n")
        return record

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        """Only what lies in our folder, whatever a record says."""
        recording = (await self._kept(request)).get("recording") or {}
        path = await asyncio.to_thread(_inside, self._recordings, str(recording.get("path") or ""))
        if path is None:
            raise web.HTTPNotFound(text="no recording of this call is here\n")
        return web.FileResponse(path, headers={**_HEADERS, "Content-Type": CONTENT_TYPES[path.suffix]})

    def _wanted(self, asked: Mapping[str, str]) -> Wanted:
        names = {*FILTERS, *CHOICES, "worst"} & set(asked)
        found: dict[str, Any] = {name: asked[name] for name in names}
        for name in {"caller", "called"} & set(found):
            if not found[name].startswith("#"):
                found[name] = self._number(found[name])
        return Wanted(**found, since=_moment(asked, "since"), before=_moment(asked, "before"))


def _inside(folder: Path, named: str) -> Path | None:
    """A recording of this folder. Blocks."""
    path = Path(named).resolve()
    ours = path.suffix in CONTENT_TYPES and path.is_relative_to(folder.resolve()) and path.is_file()
    return path if ours else None


def _judged(record: Mapping[str, Any]) -> dict[str, Any]:
    verdict = judge(record)
    return {
        "verdict": {
            "worst": verdict.kind,
            "whose": verdict.whose.value,
            "sentence": verdict.sentence,
            "at_ms": verdict.at_ms,
        }
    }


def _is_wanted(call: Mapping[str, Any], wanted: Wanted) -> bool:
    """A live call has not ended, nor been judged."""
    if wanted.ending or wanted.whose or wanted.worst or wanted.before:
        return False
    names = ("ingress", "trunk", "agent", "dialplan", "caller", "called")
    return all(getattr(wanted, name) in (None, call.get(name)) for name in names)


def _times(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: row[name].isoformat(timespec="milliseconds") for name in ("started_at", "ended_at")}


def _moment(asked: Mapping[str, str], name: str) -> datetime | None:
    if name not in asked:
        return None
    try:
        moment = datetime.fromisoformat(asked[name].replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise web.HTTPBadRequest(text=f"{name}: write a time with its zone, as 2026-11-21T12:00:00Z\n")
    return moment


def _most(asked: Mapping[str, str]) -> int:
    text = asked.get("most", str(MOST))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_OF_ALL:
        raise web.HTTPBadRequest(text=f"most: write a number from 1 to {MOST_OF_ALL}\n")
    return int(text)


def _carried(asked: Mapping[str, str]) -> dict[str, str]:
    """What the next page asks for, too."""
    return {name: value for name, value in asked.items() if name not in ("before", "format")}


def _wants_json(request: web.Request) -> bool:
    """A browser asks for HTML; programs rarely say."""
    if (chosen := request.query.get("format")) is not None:
        return chosen == "json"
    return "text/html" not in request.headers.get("Accept", "")


def _html(text: str) -> web.Response:
    return web.Response(text=str(text), content_type="text/html", charset="utf-8", headers=_HEADERS)
