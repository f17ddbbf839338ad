"""One session of a call over as many connections as it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import aiohttp
from structlog.typing import FilteringBoundLogger

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentTranscript,
    CallerTranscript,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    Said,
    SessionBack,
    SessionEnd,
    SessionLost,
    SessionReady,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.base import AgentProtocol, HttpRequest
from telbridge.sessions.exchange import Relay
from telbridge.sessions.link import CLOSED_BY_US, RENEWED, Link, Patience, fetch
from telbridge.sessions.renewal import Renewal
from telbridge.sessions.websocket import AgentSocket
from telbridge.sockets.secured import TlsConnector
from telbridge.sockets.tls import client_context

RECONNECT_AFTER_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Waits before the tries to get a lost session back; the caller hears a filler meanwhile."""
LOSSES: Final = 5
"""In one call; a session that breaks more often is not worth another try."""
GIVE_UP_AFTER_S: Final = 15.0
"""From a loss on, all tries together: the caller hears nothing but fillers meanwhile."""
RENEWED_EVERY_NS: Final = 60_000_000_000
"""At the most: a server whose sessions never live longer is left to end them."""
AFTERWORD_S: Final = 2.0
REMEMBERED: Final = 200
"""Utterances of the conversation that a new session is told."""


def make_http_session() -> aiohttp.ClientSession:
    """The worker's one HTTP client, for all its sessions: no bound on connections (calls are bounded
    elsewhere), addresses cached for a minute, no cookies, certificates verified. Close it at the end."""
    return aiohttp.ClientSession(
        connector=TlsConnector(limit=0, ttl_dns_cache=60, ssl=client_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        ws_response_class=AgentSocket,
    )


class AgentConnection:
    """Implements `telbridge.call.ports.Session`.

    A connection that broke is replaced by one to the protocol's successor: the call sees `SessionLost`, then
    `SessionBack`. Neither words, audio nor keys are ever logged here.
    """

    def __init__(
        self,
        protocol: AgentProtocol,
        http: aiohttp.ClientSession,
        *,
        log: FilteringBoundLogger,
        clock: Callable[[], int] = time.monotonic_ns,
        patience: Patience | None = None,
        reconnect_after_s: Sequence[float] = RECONNECT_AFTER_S,
        replies_from: int = 0,
        says_exactly: bool = True,
    ) -> None:
        """`http`: made by `make_http_session`. `replies_from`: added to the protocol's reply ids, for a
        session that follows another one in the same call. `says_exactly`: what the API can."""
        self._replies_from = replies_from
        self.says_exactly = says_exactly
        self._protocol = protocol
        self._http = http
        self._log = log
        self._clock = clock
        self._patience = patience or Patience()
        self._reconnect_after_s = reconnect_after_s
        self._relay = Relay(self._news, replies_from)
        self._link = self._new_link()
        self.send_audio: Callable[[bytes], None] = self._link.send_audio
        """Of the link that there is now: the way of every frame."""
        self._dropped_octets = 0
        self._lost = False
        self._renewing = False
        """A session that is too old was left; the next one takes its place unheard."""
        self._renewal_timer: asyncio.TimerHandle | None = None
        self._renewed_ns: int | None = None
        self._ended = False
        self._closing = asyncio.Event()
        self._back_by: asyncio.Timeout | None = None
        self._said_meanwhile: list[Said] = []
        """As text while the session is lost: the protocols hand that on themselves until one is ready."""
        self._said: list[tuple[ReplyId | None, Said]] = []
        self._afterwords: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ what the call asks

    @property
    def uplink_format(self) -> AudioFormat:
        return self._protocol.uplink_format

    @property
    def downlink_format(self) -> AudioFormat:
        return self._protocol.downlink_format

    @property
    def uplink_dropped_ms(self) -> int:
        """Frames that came while there was no session are not counted: nobody was late."""
        octets = self._dropped_octets + self._link.dropped_octets
        return int(self._protocol.uplink_format.ms_in(octets))

    @property
    def connected_ns(self) -> int | None:
        return self._link.connected_ns

    @property
    def said(self) -> Sequence[Said]:
        return [said for _, said in self._said]

    def greet(self, greeting: Greeting) -> None:
        self._protocol.greet(greeting)

    def send_text(self, text: str, *, role: TextRole, respond: bool) -> None:
        if not self._ended:
            if role is TextRole.CALLER:
                said = Said(by_caller=True, text=text)
                if self._lost:
                    self._said_meanwhile.append(said)
                else:
                    self._remember(None, said)
            self._protocol.send_text(text, role=role, respond=respond)
            self._link.write()
            self._put_off_renewal()

    def say(self, text: str) -> None:
        if not self._ended:
            self._protocol.say(text)
            self._link.write()
            self._put_off_renewal()

    def request_reply(self, instructions: str | None = None) -> None:
        if not self._ended:
            self._protocol.request_reply(instructions)
            self._link.write()
            self._put_off_renewal()

    def interrupt(self) -> None:
        if not self._ended:
            self._protocol.interrupt()
            self._link.write()

    def tool_result(self, tool_call_id: str, output: str, *, failed: bool = False) -> None:
        if not self._ended:
            self._protocol.tool_result(tool_call_id, output, failed=failed)
            self._link.write()
            self._relay.renewal.answered(tool_call_id, self._clock())
            self._mind_renewal()

    def update(self, neutral: NeutralSettings, vendor: Json) -> None:
        if not self._ended:
            self._protocol.update(neutral, vendor)
            self._link.write()

    def report_heard(self, heard: Sequence[Heard]) -> None:
        if not self._ended:
            if self._replies_from:
                heard = [replace(one, reply=ReplyId(one.reply - self._replies_from)) for one in heard]
            self._protocol.report_heard([one for one in heard if one.reply > 0])
            self._link.write()

    def pause_reading(self) -> None:
        self._link.pause_reading()

    def resume_reading(self) -> None:
        self._link.resume_reading()

    def close(self) -> None:
        self._closing.set()
        self._link.close()

    # ------------------------------------------------------------ the run

    async def run(self, on_event: Callable[[AgentEvent], None]) -> SessionEnd:
        """Once. An exception of `on_event` or of the protocol is a bug: it comes out of here, after the
        connection was cut; so does a cancellation."""
        self._relay.on_event = on_event
        started_ns = self._clock()
        try:
            end = await self._hold()
        finally:
            self._ended = True
            self._stop_renewal_timer()
            await self._say_afterwords()
        self._log.info(
            "session_ended",
            ending=end.ending.value,
            detail=end.detail,
            duration_ms=(self._clock() - started_ns) // 1_000_000,
            uplink_dropped_ms=self.uplink_dropped_ms,
        )
        return end

    async def _hold(self) -> SessionEnd:
        """The first connection, and the next as long as the last one broke."""
        end = await self._connection()
        losses = 0
        while (
            self._link.ready
            and end.may_reconnect
            and (losses < LOSSES or end is RENEWED)
            and not self._closing.is_set()
            and self._hand_over()
        ):
            self._stop_renewal_timer()
            self._relay.renewal = Renewal()
            self._lost = True
            if end is RENEWED:
                end, came = await self._renew()
                if came or not end.may_reconnect:
                    continue
                if not self._hand_over():
                    return end
            losses += 1
            self._log.warning("session_lost", detail=end.detail, losses=losses)
            self._news(SessionLost(self._clock(), end.detail))
            end = await self._reconnect(end)
        return end

    async def _renew(self) -> tuple[SessionEnd, bool]:
        """One try, of which the call hears nothing if it succeeds: how that session ended, and whether it was
        ever ready."""
        self._log.info("session_renewing")
        self._renewing = True
        end = await self._connection()
        self._renewing = False
        return end, self._link.ready

    async def _reconnect(self, broken: SessionEnd) -> SessionEnd:
        """Try until a connection was ready; how that one ended, or how the first one broke if none was."""
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_S) as self._back_by:
                return await self._try_again(broken)
        except TimeoutError:
            if self._back_by is None or not self._back_by.expired():
                raise  # Not ours: a bug's.
            return broken
        finally:
            self._back_by = None

    async def _try_again(self, broken: SessionEnd) -> SessionEnd:
        for number, wait_s in enumerate(self._reconnect_after_s):
            if await self._was_closed_within(wait_s):
                return CLOSED_BY_US
            if number and not self._hand_over():
                return broken
            end = await self._connection()
            if self._link.ready or not end.may_reconnect:
                return end
        return broken

    def _hand_over(self) -> bool:
        """From here on all that is asked goes to the successor, if there can be one."""
        successor = self._protocol.successor(self.said)
        if successor is None:
            return False
        self._dropped_octets += self._link.dropped_octets
        self._protocol = successor
        self._link = self._new_link()
        self.send_audio = self._link.send_audio
        return True

    async def _connection(self) -> SessionEnd:
        try:
            return await self._link.run(self._relay.tell)
        finally:
            afterword = self._protocol.afterword()
            if afterword is not None:
                task = asyncio.create_task(self._say_afterword(afterword), name="afterword")
                self._afterwords.add(task)
                task.add_done_callback(self._afterwords.discard)

    async def _was_closed_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._closing.wait()
        except TimeoutError:
            pass
        return self._closing.is_set()

    # ------------------------------------------------------------ small parts

    def _new_link(self) -> Link:
        return Link(
            self._protocol,
            self._http,
            log=self._log,
            clock=self._clock,
            patience=self._patience,
        )

    def _news(self, event: AgentEvent) -> None:
        """All but more audio of a reply that has begun, with which nothing is to be done here."""
        self._relay.renewal.heed(event, self._clock())
        self._mind_renewal()
        match event:
            case SessionReady() if self._lost:
                self._lost = False
                for said in self._said_meanwhile:
                    self._remember(None, said)
                self._said_meanwhile.clear()
                if self._back_by is not None and not self._back_by.expired():
                    self._back_by.reschedule(None)
                if self._renewing:
                    self._renewing = False
                    self._log.info("session_renewed")
                    return
                self._log.info("session_back", resumed=event.resumed)
                event = SessionBack(event.at_ns, event.resumed)
            case CallerTranscript(text):
                self._remember(None, Said(by_caller=True, text=text))
            case AgentTranscript(reply, text):
                self._remember(reply, Said(by_caller=False, text=text))
            case _:
                pass
        self._relay.on_event(self._numbered(event) if self._replies_from else event)

    def _numbered(self, event: AgentEvent) -> AgentEvent:
        """With its reply's id in the call."""
        if isinstance(event, AgentAudio):
            return event._replace(reply=ReplyId(event.reply + self._replies_from))
        if isinstance(event, (ReplyAudioDone, ReplyDone, AgentTranscript)):
            return replace(event, reply=ReplyId(event.reply + self._replies_from))
        return event

    def _put_off_renewal(self) -> None:
        self._relay.renewal.asked(self._clock())
        self._mind_renewal()

    def _mind_renewal(self) -> None:
        """A timer for the moment at which an ageing session is left; nothing most of the time."""
        due_ns = self._relay.renewal.due_ns()
        if due_ns is None:
            return
        self._stop_renewal_timer()
        wait_s = max(0.0, (due_ns - self._clock()) / 1e9)
        self._renewal_timer = asyncio.get_running_loop().call_later(wait_s, self._leave)

    def _leave(self) -> None:
        self._renewal_timer = None
        now_ns = self._clock()
        fresh = self._renewed_ns is not None and now_ns - self._renewed_ns < RENEWED_EVERY_NS
        if self._link.ready and not self._closing.is_set() and not fresh:
            self._renewed_ns = now_ns
            self._link.give_up_for_a_new_one()

    def _stop_renewal_timer(self) -> None:
        if self._renewal_timer is not None:
            self._renewal_timer.cancel()
            self._renewal_timer = None

    def _remember(self, reply: ReplyId | None, said: Said) -> None:
        """A reply's transcript grows: the latest is all of it."""
        if reply is not None:
            for index in range(len(self._said) - 1, -1, -1):  # The caller's words may stand behind it.
                if self._said[index][0] == reply:
                    self._said[index] = (reply, said)
                    return
        self._said.append((reply, said))
        if len(self._said) > REMEMBERED:
            del self._said[0]

    async def _say_afterword(self, request: HttpRequest) -> None:
        try:
            async with asyncio.timeout(AFTERWORD_S):
                status, _, _ = await fetch(self._http, request)
            self._log.debug("session_afterword", status=status)
        except (aiohttp.ClientError, OSError) as fault:
            self._log.warning("session_afterword_failed", why=type(fault).__name__)

    async def _say_afterwords(self) -> None:
        if self._afterwords:
            await asyncio.wait(self._afterwords)
