"""The SIP endpoint of a process: listens, hands each new call over as a leg, moves all audio at one tick."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import CallFacts, Ending
from telbridge.legs.sip import rounds
from telbridge.legs.sip.access import AccessPolicy
from telbridge.legs.sip.edge import Edge, response
from telbridge.legs.sip.front import LOOPBACK, PEER_HEADER, Front
from telbridge.legs.sip.gate import Gate
from telbridge.legs.sip.info import InfoKey
from telbridge.legs.sip.leg import LegParts, SipLeg
from telbridge.legs.sip.library import Library, SipUnavailable, load
from telbridge.legs.sip.message import Invite, header_values, offered_codec, parse_invite
from telbridge.legs.sip.peers import names_the_caller, peer_address, trunk_of
from telbridge.legs.sip.pjmedia import FRAME_MS
from telbridge.legs.sip.ports import Ports, Way, choose_way
from telbridge.legs.sip.settings import SipSettings
from telbridge.legs.sip.slots import Slots
from telbridge.legs.sip.stack import open_stack, verify_gate
from telbridge.legs.sip.sweeper import BridgeSweeper
from telbridge.legs.sip.tcp_filter import TcpFilter
from telbridge.legs.sip.throttle import throttle_for
from telbridge.legs.sip.ticker import Ticker

FRAME_NS: Final = FRAME_MS * 1_000_000
SPEAK_AFTER_NS: Final = 17_500_000
"""Legs speak so long after they listened: what leaves never stands behind the work on what came, and an agent
that answers each frame at once has this time to do so, or is heard a frame later each time. Of echoing calls
too many were late at 10 ms when there were forty, and half at 15 ms when there were eighty."""
FEW_CALLS: Final = 8
SPEAK_SOON_NS: Final = 10_000_000
"""The same where there are never more than these: with the wheel."""
MAX_FRAMES_DUE: Final = 10
"""After a longer stall the rest is skipped: the peer's jitter buffer would throw it away anyway."""
EVENTS_AT_ONCE_NS: Final = 8_000_000
"""A burst of SIP messages may take so much of a tick; the rest waits, audio does not."""
STOP_PATIENCE_S: Final = 2.5
RETRY_AFTER_S: Final = 5


@dataclass(slots=True)
class Counters:
    """What the endpoint counts since its start."""

    calls_offered: int = 0
    calls_refused_full: int = 0
    calls_refused_draining: int = 0
    calls_refused_codec: int = 0
    calls_throttled: int = 0
    """More INVITEs at once than the wheel survives (throttle.py)."""
    strangers_dropped: int = 0
    """SIP messages."""
    stranger_connections_dropped: int = 0
    """Packets that would have opened a TCP connection."""
    frames_skipped: int = 0
    """20 ms each, for all calls at once: the loop was stalled longer than a catch-up makes sense."""
    bugs: int = 0


class SipEndpoint:
    """One a process at a time: pjsua's state is global. Everything runs on the loop that called `start`."""

    _running: SipEndpoint | None = None

    def __init__(
        self,
        settings: SipSettings,
        on_call: Callable[[SipLeg], None],
        log: Any,
        clock: Callable[[], int] = time.monotonic_ns,
        front: Front | None = None,
    ) -> None:
        """`front`: the dispatcher that stands before this endpoint; without one it owns the SIP port."""
        self._front, self.port = front, settings.port
        self._settings, self._on_call, self._log, self._clock = settings, on_call, log, clock
        self._library: Library = load()
        self._counters = Counters()
        self._legs: dict[int, SipLeg] = {}
        self._refused: dict[int, Any] = {}
        self._dropped: list[int] = []
        self._slots = Slots()
        self._draining = False
        self._emptied: asyncio.Event | None = None
        self._way: Way = "stream"
        self._ports: Ports | None = None
        self._endpoint: Any = None
        self._account: Any = None
        self._gate: Gate | None = None
        self._tcp_filter: TcpFilter | None = None
        self._sweeper: BridgeSweeper | None = None
        self._edge: Edge | None = None
        self._tickers: list[Ticker] = []
        cap = self._library.build.max_calls
        wanted = settings.max_calls or cap
        self._max_calls = min(wanted, cap)
        if wanted > cap:
            log.warning(
                "sip_max_calls_clamped", wanted=wanted, max_calls=cap, pjsua2=str(self._library.build)
            )

    # ---------------------------------------------------------------- what the process sees

    @property
    def max_calls(self) -> int:
        return self._max_calls

    @property
    def live_calls(self) -> int:
        return sum(not leg.over for leg in self._legs.values())

    @property
    def counters(self) -> Counters:
        self._refresh_counters()
        return self._counters

    def describe(self) -> dict[str, str | int]:
        """For a log or status line; known before `start`, but for the way of the audio."""
        settings = self._settings
        return {
            "pjsua2": str(self._library.build),
            "max_calls": self._max_calls,
            "audio": self._way,
            "sip": f"{settings.host}:{settings.port}/{'+'.join(sorted(settings.transports))}"
            if self._front is None
            else f"{LOOPBACK}:{self.port}/udp",
        }

    def start(self) -> None:
        """Listen. SipUnavailable with one line if that cannot be; nothing is left behind then."""
        if SipEndpoint._running is not None:
            raise RuntimeError("one SIP endpoint a process: stop the other first")
        SipEndpoint._running = self
        self._loop = asyncio.get_running_loop()
        self._edge = Edge(self._library.pj, self._bug)
        try:
            self._open()
        except Exception as error:
            self._close()
            if isinstance(error, self._library.pj.Error):
                raise SipUnavailable(f"SIP does not start: {error.reason}") from error
            raise
        speak_ns = SPEAK_SOON_NS if self._max_calls <= FEW_CALLS else SPEAK_AFTER_NS
        self._tickers = [
            Ticker(FRAME_NS, self._listen),
            Ticker(FRAME_NS, self._speak, delay_ns=speak_ns),
        ]
        self._log.info("sip_listening", **self.describe())

    def drain(self) -> None:
        """No new calls: 503 with Retry-After; OPTIONS too answers 503. Live calls go on."""
        self._draining = True
        if self._gate:
            self._gate.draining = True

    async def stop(self) -> None:
        """End every call, then the library; bounded, safe twice."""
        if SipEndpoint._running is not self:
            return
        self.drain()
        for leg in list(self._legs.values()):
            leg.end(Ending.DRAINED, status=503)
        if self._legs or self._refused:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), STOP_PATIENCE_S)
            except TimeoutError:
                self._log.warning("sip_stop_left_calls", calls=len(self._legs) + len(self._refused))
        self._close()

    # ---------------------------------------------------------------- edge.EndpointWatcher

    def incoming_call(self, parameters: Any) -> None:
        assert self._edge is not None
        call = self._edge.Call(self._account, parameters.callId)
        invite = parse_invite(parameters.rdata.wholeMsg)
        codec = offered_codec(invite.offer) if invite.offer is not None else PCMU_8K
        peer = self._peer(parameters.rdata)
        if peer is None:
            self._log.warning("sip_call_refused", status=403, why="it went round the dispatcher")
            self._refuse(call, parameters.callId, 403)
        elif self._draining:
            self._counters.calls_refused_draining += 1
            self._refuse(call, parameters.callId, 503, RETRY_AFTER_S)
        elif codec is None:
            self._counters.calls_refused_codec += 1
            self._log.info("sip_call_refused", status=488, why="neither PCMU nor PCMA offered")
            self._refuse(call, parameters.callId, 488)
        elif self.live_calls >= self._max_calls:
            self._counters.calls_refused_full += 1
            self._log.warning("sip_call_refused", status=503, why="no free slot", max_calls=self._max_calls)
            self._refuse(call, parameters.callId, 503, RETRY_AFTER_S)
        else:
            facts = _facts(invite, peer, codec, self._settings)
            self._counters.calls_offered += 1
            self._admit(call, parameters.callId, facts)

    def call_rejected(self, parameters: Any) -> None:
        """The library refused by itself; 486 is its answer when all compiled slots are taken."""
        if parameters.statusCode != self._library.pj.PJSIP_SC_BUSY_HERE or parameters.callId >= 0:
            return
        self._counters.calls_refused_full += 1
        self._log.warning("sip_call_refused", status=486, why="no free slot", pjsua2=str(self._library.build))

    def _info_key(self, key: InfoKey) -> bool:
        """From the gate: which call is it for?"""
        for leg in self._legs.values():
            if leg.facts.signalling_id == key.call_id and not leg.over:
                leg.info_key(key.digit)
                return True
        return False

    def drop_later(self, leg: SipLeg) -> None:
        self._dropped.append(id(leg))

    # ---------------------------------------------------------------- inside

    def _admit(self, call: Any, slot: int, facts: CallFacts) -> None:
        assert self._ports is not None
        leg = SipLeg(
            LegParts(
                facts=facts,
                pj=self._library.pj,
                call=call,
                port=self._ports.new(),
                line=self,
                loop=self._loop,
                clock=self._clock,
                log=self._log.bind(call_id=facts.call_id),
                media_timeout_s=self._settings.media_timeout_s,
                fixed_tone=self._library.build.fixed_tone,
            )
        )
        call.watcher = leg
        self._legs[id(leg)] = leg
        self._slots.take(slot, id(leg))
        try:
            self._on_call(leg)
        except Exception:  # noqa: BLE001 - the wall between calls
            self._bug("on_call")
            leg.end(Ending.INTERNAL_ERROR, status=500)

    def _peer(self, rdata: Any) -> str | None:
        """`host:port` of whoever sent the request; None for one that the dispatcher did not let through."""
        if self._front is None:
            return str(rdata.srcAddress)
        return self._front.peer(rdata.srcAddress, header_values(rdata.wholeMsg).get(PEER_HEADER.lower(), ""))

    def _refuse(self, call: Any, slot: int, status: int, retry_after_s: int | None = None) -> None:
        call.watcher = refused = _Refused(call, self._library.pj, self._refused_over)
        self._refused[id(refused)] = refused
        self._slots.take(slot, id(refused))
        refused.answer(status, retry_after_s)

    def _refused_over(self, refused: _Refused) -> None:
        self._dropped.append(id(refused))

    def _listen(self, due: int) -> None:
        """All legs listen."""
        frames = min(due, MAX_FRAMES_DUE)
        self._counters.frames_skipped += due - frames
        rounds.listen(self._legs.values(), frames, self._clock(), self._leg_failed)
        self._pump()
        if self._sweeper:
            self._sweeper.tick(self._endpoint, len(self._legs))

    def _speak(self, due: int) -> None:
        """All legs speak."""
        rounds.speak(self._legs.values(), min(due, MAX_FRAMES_DUE), self._clock(), self._leg_failed)
        self._pump()

    def _leg_failed(self, leg: SipLeg) -> None:
        self._bug("tick", call_id=leg.facts.call_id)
        leg.end(Ending.INTERNAL_ERROR)

    def _pump(self) -> None:
        enough_ns = time.monotonic_ns() + EVENTS_AT_ONCE_NS
        while self._endpoint.libHandleEvents(0) > 0 and time.monotonic_ns() < enough_ns:
            pass
        dropped, self._dropped = self._dropped, []
        for key in reversed(dropped):  # The newest first: an older call may have had its slot.
            if not self._slots.give_back(key):
                self._dropped.append(key)
            elif gone := self._legs.pop(key, None) or self._refused.pop(key, None):
                # The last reference to the pjsua2 call goes here, outside its own callback.
                gone.release()
        if self._emptied and not self._legs and not self._refused:
            self._emptied.set()

    def _refresh_counters(self) -> None:
        if self._gate:
            self._counters.strangers_dropped = self._gate.strangers_dropped
            self._counters.calls_throttled = self._gate.throttled
        if self._tcp_filter:
            self._counters.stranger_connections_dropped = self._tcp_filter.dropped

    def _bug(self, where: str, **context: Any) -> None:
        self._counters.bugs += 1
        self._log.exception("sip_bug", where=where, **context)

    def _open(self) -> None:
        assert self._edge is not None
        endpoint = self._endpoint = self._edge.Endpoint()
        endpoint.watcher = self
        policy = AccessPolicy(self._settings.allow, trust_private=self._settings.trust_private)
        if self._front is not None:
            # The dispatcher has asked the networks of the settings; from elsewhere nothing gets here.
            policy = AccessPolicy([ip_network(LOOPBACK)], trust_private=False)

        def initialised() -> None:
            self._way = choose_way(self._library, self._settings.audio)
            self._ports = Ports(self._library, self._way)
            throttle = throttle_for(self._library.build)
            self._gate = Gate(self._library.native, policy, throttle, self._log, self._clock, self._info_key)
            self._gate.draining = self._draining

        account = self._account = self._edge.Account()
        listening = open_stack(
            self._library.pj,
            endpoint,
            account,
            self._settings,
            lambda: self._way,
            initialised,
            front=self._front,
        )
        self.port = listening.port
        assert self._gate is not None
        verify_gate(self._gate, endpoint, listening)
        if self._way == "stream":
            self._sweeper = BridgeSweeper(self._library.native)
        if "tcp" in self._settings.transports and self._front is None:
            try:
                self._tcp_filter = TcpFilter(self._settings.host, self._settings.port, policy.networks)
            except OSError as error:
                # The gate still drops what strangers say; they can only hold connections open.
                self._log.warning("sip_tcp_filter_missing", why=str(error))
        account.watcher = self

    def _close(self) -> None:
        while self._tickers:
            self._tickers.pop().stop()
        self._sweeper = None
        for gone in (*self._legs.values(), *self._refused.values()):
            gone.release()
        self._legs.clear()
        self._refused.clear()
        self._dropped.clear()
        account, self._account = self._account, None
        if account is not None:
            account.watcher = None
            account.shutdown()
            del account
        self._refresh_counters()
        if self._tcp_filter is not None:
            self._tcp_filter.close()
            self._tcp_filter = None
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.watcher = None
            if self._ports is not None:
                self._ports.close(endpoint)
                self._ports = None
            # Without this flag it sleeps for a second.
            endpoint.libDestroy(self._library.pj.PJSUA_DESTROY_NO_RX_MSG)
            del endpoint
        # Only now: the library called into it until the end.
        self._gate = None
        SipEndpoint._running = None


class _Refused:
    """A call that never becomes a leg: kept until the library is done with it."""

    def __init__(self, call: Any, pj: Any, over: Callable[[_Refused], None]) -> None:
        self._call, self._pj, self._over = call, pj, over

    def answer(self, status: int, retry_after_s: int | None) -> None:
        self._call.answer(response(self._pj, status, retry_after_s))

    def release(self) -> None:
        self._call.watcher = None
        self._call = None

    def call_state_changed(self) -> None:
        if self._call.getInfo().state == self._pj.PJSIP_INV_STATE_DISCONNECTED:
            self._over(self)

    def media_state_changed(self) -> None: ...
    def stream_created(self, parameters: Any) -> None: ...
    def stream_destroyed(self) -> None: ...
    def offer_received(self, parameters: Any) -> None: ...
    def dtmf(self, parameters: Any) -> None: ...
    def transaction(self, parameters: Any) -> None: ...


def _facts(invite: Invite, peer: str, codec: Any, settings: SipSettings) -> CallFacts:
    address = peer_address(peer)
    caller = invite.asserted if names_the_caller(address, settings) else ""
    return CallFacts(
        call_id=secrets.token_hex(5),
        ingress="sip",
        caller=caller or invite.caller,
        called=invite.called,
        peer=peer,
        wire_format=codec,
        signalling_id=invite.call_id,
        headers=invite.headers,
        domain=invite.domain,
        trunk=trunk_of(address, settings),
    )
