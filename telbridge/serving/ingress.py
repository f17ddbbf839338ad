"""The public HTTP port of a worker: webhooks and media streams become calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from telbridge.call.events import Ending
from telbridge.call.ports import Leg
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.legs.streams.announcements import Announcements
from telbridge.legs.streams.audiosocket import AUDIOSOCKET
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Door, Terms
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.tickets import TicketOffice
from telbridge.serving.carriers import carriers_of
from telbridge.serving.ingress_address import Addresses
from telbridge.serving.ingress_ari import AriIngress
from telbridge.serving.ingress_asterisk import AsteriskIngress
from telbridge.serving.ingress_audiosocket import AudioSocketIngress
from telbridge.serving.ingress_carrier import CarrierIngress
from telbridge.serving.ingress_doorkeeper import Doorkeeper, connections_of
from telbridge.serving.ingress_elsewhere import Elsewhere, Taker, note_of
from telbridge.serving.ingress_generic import GenericIngress
from telbridge.serving.ingress_limits import Throttle
from telbridge.serving.ingress_port import listening
from telbridge.serving.ingress_twilio import TwilioIngress
from telbridge.serving.twilio_calls import TwilioRest
from telbridge.sessions.credentials import SecretMissing, SecretRef

MAX_BODY_OCTETS: Final = 64 * 1024
MAX_HEAD_LINE: Final = 4_096
IDLE_S: Final = 10.0
"""For a request's head to arrive whole, the first on a connection and each after it."""
STOP_S: Final = 2.0
MAX_IDLE: Final = 400
"""Connections that carry no call; of one address:"""
MAX_IDLE_OF_ONE: Final = 128
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ingress:
    """Listens from `start` to `stop`; `on_leg` starts a call."""

    def __init__(
        self,
        settings: Settings,
        on_leg: Callable[[Leg], None],
        log: Any,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        environ: Mapping[str, str] = os.environ,
        ticket_key: bytes | None = None,
        number: int = 1,
        siblings: Path | None = None,
        by_sip: Callable[[], int] = lambda: 0,
    ) -> None:
        """ConfigErrors if a secret that the settings name is missing. `ticket_key`: of those who issue
        tickets for us. `number`: of this worker; `siblings`: a folder where it meets the others that share
        its ports; None: it is alone. `by_sip`: calls that it has besides."""
        self._settings, self._on_leg, self._log, self._clock = settings, on_leg, log, clock
        self._environ = environ
        self._folder = siblings
        self._elsewhere = Elsewhere(
            siblings,
            number,
            ticket_key=ticket_key,
            most_streams=settings.streams.max_calls,
            live=lambda: self.live_calls,
            by_sip=by_sip,
            on_others=self._mind_ari,
            clock=clock,
            log=log,
        )
        self._room = self._elsewhere.room
        self._office = TicketOffice(ticket_key, home=self._elsewhere.name)
        self._taker: Taker | None = None
        self._legs: dict[str, StreamLeg] = {}
        self._live: dict[int, StreamLeg] = {}
        self._throttle = Throttle(settings.http.requests_per_second)
        self._addresses = Addresses(settings.http.public_url, settings.http.trusted_proxies)
        self._tokens = self._twilio_tokens()
        self._twilio_rest = self._rest()
        self._carriers = carriers_of(settings, environ)
        token = settings.generic.token
        self._generic_token = None if token is None else self._secret(token, "generic.token")
        token = settings.asterisk.token
        self._asterisk_token = None if token is None else self._secret(token, "asterisk.token")
        password = settings.ari.password if settings.ari.url else None
        self._ari_password = None if password is None else self._secret(password, "ari.password")
        self._ari: AriIngress | None = None
        self._taking_ari: asyncio.Task[None] | None = None
        self._announcements = Announcements()
        self._audiosocket: AudioSocketIngress | None = None
        self._ticking: StreamClock | None = None
        self._runner: web.AppRunner | None = None
        self._listeners: list[asyncio.Server] = []
        self.cut_off = 0
        """Connections not taken: there were too many."""

    @property
    def no_room(self) -> Counter[str]:
        """Calls refused, by why: "full" or "draining"."""
        return self._room.no_room

    @property
    def live_calls(self) -> int:
        return len(self._live) + (self._ari.live_calls if self._ari else 0)

    @property
    def throttled(self) -> int:
        """Requests refused because their address asked too often."""
        return self._throttle.refused

    def describe(self) -> dict[str, str]:
        """For a log or status line; {} while it does not listen."""
        http = self._settings.http
        described = {"http": f"{http.host}:{http.port}"} if self._runner else {}
        described |= self._ari.describe() if self._ari else {}
        return described | (self._audiosocket.describe() if self._audiosocket else {})

    async def start(self) -> None:
        """Listen. ConfigErrors if a port that was asked for cannot be had; the default port is only tried."""
        self._ticking = StreamClock(self._clock, self._log)
        self._audiosocket = self._audiosocket_port(self._ticking)
        try:
            await self._audiosocket.start()
            await self._listen(self._application(self._ticking))
            self._elsewhere.open()  # Not before: now connections can be given to us.
            if self._ari_password is not None and self._room.is_to_take_ari:
                await self._take_ari(self._ari_password)
        except ConfigErrors:
            await self.stop()
            raise

    async def _listen(self, application: web.Application) -> None:
        http = self._settings.http
        runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=STOP_S,
            max_line_size=MAX_HEAD_LINE,
            max_field_size=MAX_HEAD_LINE,
        )
        await runner.setup()
        try:
            server = runner.server
            assert server is not None
            for each in listening(http.host, http.port, self._folder):
                listener = await asyncio.get_running_loop().create_server(
                    lambda: Doorkeeper(server, partial(self._admits, server)), sock=each
                )
                self._listeners.append(listener)
        except OSError as error:
            await runner.cleanup()
            if "port" in http.model_fields_set:
                what = f"cannot listen on {http.host}:{http.port}: {error.strerror}"
                raise ConfigErrors([ConfigError("settings", "http.port", what, "choose another")]) from None
            self._log.warning("http_off", why=f"port {http.port} is taken", instead="set http.port")
            return
        self._runner = runner
        self._taker = Taker(server)
        self._elsewhere.on_take("http", self._taker.take)
        self._log.info("http_listening", **self.describe())
        if not self._settings.twilio.verify_signatures:
            self._log.warning("twilio_signatures_off", danger="anybody may start calls at your cost")

    def drain(self) -> None:
        """No new calls. Live ones go on, and streams that were promised still come. While other workers take
        calls, the ports are theirs alone; the last one stays, to answer 503."""
        self._room.close()
        if self._room.others_take_calls:
            self._leave_ports()

    @property
    def promised(self) -> int:
        """Calls whose streams are still to come."""
        return self._room.promised

    async def promises_kept(self) -> None:
        """Until they have come, or will not."""
        await self._elsewhere.promises_kept.wait()

    def count(self) -> None:
        """There is another number of calls by SIP: the other workers are to know."""
        self._elsewhere.changed()

    async def stop(self) -> None:
        """End every stream and stop listening; safe twice."""
        self.drain()
        for leg in list(self._live.values()):
            leg.end(Ending.DRAINED)
        self._leave_ports()
        if self._audiosocket is not None:
            await self._audiosocket.stop()
        if self._taking_ari is not None:
            await self._taking_ari
        if self._ari is not None:
            await self._ari.stop()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        if self._ticking is not None:
            self._ticking.stop()
        if self._twilio_rest is not None:
            await self._twilio_rest.aclose()
        self._elsewhere.close()

    # ------------------------------------------------------------ inside

    async def _take_ari(self, password: str) -> None:
        """Asterisk tells one client of an application alone."""
        assert self._ticking is not None
        self._room.take_ari(True)
        self._ari = self._ari_client(self._ticking, password)
        await self._ari.start()

    def _mind_ari(self) -> None:
        """Where the worker that had the connection takes no more calls, another one does."""
        if self._ari is None and self._ari_password is not None and self._room.is_to_take_ari:
            self._room.take_ari(True)
            self._taking_ari = asyncio.create_task(self._take_ari_now(self._ari_password))

    async def _take_ari_now(self, password: str) -> None:
        try:
            await self._take_ari(password)
        except ConfigErrors as errors:
            self._log.error("ari_off", why=str(errors))

    def _leave_ports(self) -> None:
        while self._listeners:
            self._listeners.pop().close()
        if self._audiosocket is not None:
            self._audiosocket.leave_port()

    def _application(self, ticking: StreamClock) -> web.Application:
        twilio = self._settings.twilio
        door = Door(self._terms(), self._admit, self._forget, ticking, self._clock, self._log)
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_OCTETS)
        application.add_routes(
            TwilioIngress(
                tokens=self._tokens,
                account_sid=twilio.account_sid,
                caller_id=twilio.caller_id,
                verify=twilio.verify_signatures,
                addresses=self._addresses,
                door=door,
                elsewhere=self._elsewhere,
                welcome=self._welcome,
                legs=self._legs,
                rest=self._twilio_rest,
                clock=self._clock,
                log=self._log,
            ).routes()
        )
        for carrier in self._carriers:
            application.add_routes(
                CarrierIngress(
                    carrier,
                    addresses=self._addresses,
                    door=door,
                    elsewhere=self._elsewhere,
                    welcome=self._welcome,
                    legs=self._legs,
                    clock=self._clock,
                    log=self._log,
                ).routes()
            )
        application.add_routes(
            GenericIngress(
                token=self._generic_token,
                office=self._office,
                addresses=self._addresses,
                door=door,
                elsewhere=self._elsewhere,
                welcome=self._welcome,
                clock=self._clock,
                log=self._log,
            ).routes()
        )
        listens = self._settings.audiosocket.port is not None
        application.add_routes(
            AsteriskIngress(
                token=self._asterisk_token,
                announcements=self._announcements if listens else None,
                addresses=self._addresses,
                door=door,
                elsewhere=self._elsewhere,
                welcome=self._welcome,
                clock=self._clock,
                log=self._log,
            ).routes()
        )
        return application

    def _audiosocket_port(self, ticking: StreamClock) -> AudioSocketIngress:
        return AudioSocketIngress(
            self._settings.audiosocket,
            self._announcements,
            terms=self._terms(),
            on_leg=self._admit,
            on_gone=self._forget,
            elsewhere=self._elsewhere,
            folder=self._folder,
            ticking=ticking,
            clock=self._clock,
            log=self._log,
        )

    def _ari_client(self, ticking: StreamClock, password: str) -> AriIngress:
        return AriIngress(
            self._settings.ari,
            password,
            terms=self._terms(),
            on_leg=self._on_leg,
            elsewhere=self._elsewhere,
            ticking=ticking,
            clock=self._clock,
            log=self._log,
        )

    def _terms(self) -> Terms:
        streams = self._settings.streams
        return Terms(
            lead_ms=streams.lead_ms,
            start_timeout_s=streams.start_timeout_s,
            media_timeout_s=streams.media_timeout_s,
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whoever asks too often without being welcome is turned away before anything is looked at."""
        assert self._taker is not None
        self._taker.note(request)
        if note_of(request) is not None:  # Whoever has moved it to us has looked.
            return await handler(request)
        address = self._addresses.client(request)
        self._throttle.shared_by = self._room.workers
        if not self._throttle.admits(address, self._clock()):
            return web.Response(status=429, headers={"Retry-After": "1", "Connection": "close"})
        response = await handler(request)
        if self._room.closing and not response.prepared:
            response.force_close()  # The next request is for another worker.
        return response

    def _admits(self, server: web.Server, address: str) -> bool:
        """Whether one more connection of this address is taken. Streams that carry a call do not count, and a
        trusted proxy has many callers behind it."""
        on_http = [leg.facts.peer for leg in self._live.values() if leg.facts.ingress != AUDIOSOCKET.name]
        idle = len(server.connections) - len(on_http)
        if idle < MAX_IDLE and not self._addresses.is_proxy(address):
            live = on_http.count(address)
            admitted = connections_of(server, address) - live < MAX_IDLE_OF_ONE
        else:
            admitted = idle < MAX_IDLE
        self.cut_off += not admitted
        return admitted

    def _welcome(self, request: web.Request) -> None:
        """Who asks has shown that it may: this request counts for nothing."""
        self._throttle.give_back(self._addresses.client(request), self._clock())

    def _admit(self, leg: StreamLeg) -> None:
        self._live[id(leg)] = leg
        self._room.let_go(leg.facts.signalling_id)
        self._elsewhere.changed()
        self._legs[leg.facts.signalling_id] = leg
        self._on_leg(leg)

    def _forget(self, leg: StreamLeg) -> None:
        self._live.pop(id(leg), None)
        if self._legs.get(leg.facts.signalling_id) is leg:
            del self._legs[leg.facts.signalling_id]
        self._elsewhere.changed()

    def _twilio_tokens(self) -> list[str]:
        """None where nobody named any and the usual variable is not set: Twilio is refused then."""
        twilio = self._settings.twilio
        try:
            return [self._secret(token, "twilio.auth_tokens") for token in twilio.auth_tokens]
        except ConfigErrors:
            if "auth_tokens" in twilio.model_fields_set and twilio.verify_signatures:
                raise
            return []

    def _rest(self) -> TwilioRest | None:
        twilio = self._settings.twilio
        if twilio.api_key_sid is None or twilio.api_key_secret is None:
            return None
        secret = self._secret(twilio.api_key_secret, "twilio.api_key_secret")
        return TwilioRest(twilio.api_url.rstrip("/"), twilio.api_key_sid, secret, self._log)

    def _secret(self, reference: SecretRef, key: str) -> str:
        try:
            return reference.resolve(key, self._environ)
        except SecretMissing as missing:
            raise ConfigErrors([ConfigError("settings", key, missing.what, missing.instead)]) from None
