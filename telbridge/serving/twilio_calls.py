"""What Twilio can do with a call besides its stream, and what it tells of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp

from telbridge.legs.streams.tickets import Ticket
from telbridge.legs.streams.twilio_webhook import TOLD
from telbridge.legs.streams.verbs import ENDED

REQUEST_S: Final = 5.0
TRIES: Final = 2
CLOSE_S: Final = 2.0
LAST_WORD_S: Final = 2.0
"""For the status callback that follows the end of a call."""
_OVER: Final = frozenset({400, 404})
"""The call has ended already (Twilio's errors 21220 and 20404)."""


class TwilioRest:
    """Twilio's REST API, as far as hanging up needs it. Nothing here is waited for by a call."""

    def __init__(self, url: str, user: str, secret: str, log: Any) -> None:
        """`user` and `secret`: an API key, or an AccountSid and its auth token."""
        basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._url, self._headers, self._log = url, {"Authorization": f"Basic {basic}"}, log
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def end_call(self, ticket: Ticket) -> None:
        """`Status=completed`: from whatever TwiML it is at. Failures are logged; the TwiML ends it, too."""
        task = asyncio.create_task(self._complete(ticket), name="twilio rest")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _complete(self, ticket: Ticket) -> None:
        url = f"{self._url}/2010-04-01/Accounts/{ticket.account}/Calls/{ticket.call}.json"
        why = ""
        for _ in range(TRIES):
            try:
                status = await self._post(url, {"Status": "completed"})
            except (aiohttp.ClientError, TimeoutError, OSError) as fault:
                why = type(fault).__name__
                continue
            if status < 300 or status in _OVER:
                return
            why = f"answered {status}"
            if status < 500 and status != 429:
                break
        self._log.warning("twilio_rest_failed", what="hanging up", why=why)

    async def _post(self, url: str, form: Mapping[str, str]) -> int:
        if self._http is None:
            self._http = aiohttp.ClientSession(headers=self._headers, cookie_jar=aiohttp.DummyCookieJar())
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        async with self._http.post(url, data=form, timeout=timeout, allow_redirects=False) as answer:
            return answer.status

    async def aclose(self) -> None:
        """What is on its way gets a moment; safe twice."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in list(self._tasks):
            task.cancel()
        if self._http is not None:
            http, self._http = self._http, None
            await http.close()


class TwilioCall:
    """Implements `telbridge.legs.streams.transfer.CallControl`."""

    def __init__(
        self, ticket: Ticket, rest: TwilioRest | None, *, expects_status: Callable[[], bool]
    ) -> None:
        """`expects_status`: whether a status callback will come at the end."""
        self._ticket, self._rest, self._expects_status = ticket, rest, expects_status
        self._told: dict[str, str] = {}
        self._final = asyncio.Event()

    def note(self, form: Mapping[str, Sequence[str]]) -> None:
        """A webhook of this call. They may overtake each other: what is final stays."""
        news = {name: form[name][0][:64] for name in TOLD if form.get(name, [""])[0]}
        if self._final.is_set():
            news.pop("CallStatus", None)
        self._told.update(news)
        if news.get("CallStatus") in ENDED:
            self._final.set()

    def end_call(self) -> None:
        if self._rest is not None:
            self._rest.end_call(self._ticket)

    async def told(self) -> Mapping[str, str]:
        if self._expects_status() and not self._final.is_set():
            try:
                await asyncio.wait_for(self._final.wait(), LAST_WORD_S)
            except TimeoutError:
                pass  # Somebody else talks with the caller, or the callback was lost.
        return dict(self._told)
