"""The dispatcher's process: one SIP port for several workers.

Forked by a nursery for the supervisor: what it needs comes as JSON lines on stdin, the settings first; its
ready line goes to stdout; it ends with SIGTERM, or when stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from typing import Any, Final

import structlog

from telbridge import logs
from telbridge.dispatch.core import Dispatcher, Terms
from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.shell import Place, Shell, inner_socket
from telbridge.legs.sip.access import AccessPolicy, StrangerLog
from telbridge.legs.sip.tcp_filter import TcpFilter
from telbridge.legs.sip.tls import Tls
from telbridge.ops import logging
from telbridge.serving.ingress_limits import Throttle
from telbridge.serving.nursery import lent_sockets
from telbridge.serving.vital import HAS_PULSE, LAST_PULSE, OBEYED, PULSE

log = structlog.get_logger()

BEAT_S: Final = 1.0
ADDRESSES_KEPT: Final = 1_024
_WAITED_FOR: Final = frozenset({"up", "retire"})
"""Orders of which the supervisor wants to know when they hold."""


@lru_cache(ADDRESSES_KEPT)
def _packed(host: str) -> bytes:
    return ip_address(host).packed


class Access:
    """Who may send us anything: the networks of [sip]."""

    def __init__(self, policy: AccessPolicy) -> None:
        self._policy, self._lines = policy, StrangerLog()
        self.strangers_dropped = 0

    def permits(self, host: str) -> bool:
        packed = _packed(host)
        if self._policy.permits(packed):
            return True
        self.strangers_dropped += 1
        if self._lines.due(packed, time.monotonic_ns()):
            log.warning(
                "sip_stranger_dropped",
                peer=host,
                dropped=self.strangers_dropped,
                remedy="add its network to sip.allow if it may call",
            )
        return False


class Dispatching:
    """From the first line to the end."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self._start = start
        networks = [ip_network(text) for text in start["allow"]]
        self._policy = AccessPolicy(networks, trust_private=start["trust_private"])
        self._access = Access(self._policy)
        self._admitted = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """OSError if a port cannot be had."""
        start = self._start
        tls = self._tls = Tls(**start["tls"]) if start["tls"] else None
        inner = inner_socket(start["inner_port"])
        inner_port = inner.getsockname()[1]
        self._dispatcher = Dispatcher(
            Terms(
                port=start["port"],
                inner_port=inner_port,
                max_calls=start["max_calls"],
                server=start["server"],
                public_address=start["public_address"],
                admits=Throttle(start["requests_per_second"]).admits,
                **({"tls_port": tls.port} if tls else {}),
            )
        )
        for order in start["orders"]:
            self._obey(order)  # Before anybody can call: one that was started again refuses nobody.
        place = self._place = Place(
            start["host"], start["port"], frozenset(start["transports"]), tls, lent_sockets()
        )
        self._shell = Shell(self._dispatcher, place, inner, self._access.permits, log)
        try:
            await self._shell.open()
            tcp_filters = list(self._filters(place))
            if start["orders"]:
                await self._admit()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
            ready = {"event": "ready", "sip": _where(place), "inner_port": inner_port, HAS_PULSE: True}
            print(json.dumps(ready), flush=True)
            tasks = [asyncio.create_task(self._listen()), asyncio.create_task(_beat())]
            done, _ = await asyncio.wait(
                [asyncio.create_task(self._stop.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # What broke is told, instead of a dispatcher that is deaf.
            for task in tasks:
                task.cancel()
            print(json.dumps({"event": LAST_PULSE}), flush=True)
            log.info(
                "dispatcher_stopped",
                **asdict(self._dispatcher.counters),
                strangers_dropped=self._access.strangers_dropped,
                stranger_connections_dropped=sum(tcp_filter.dropped for tcp_filter in tcp_filters),
                connections_cut_off=self._shell.cut_off,
            )
        finally:
            self._shell.close()

    async def _admit(self) -> None:
        """Calls are taken from when there is a worker: those that come sooner wait in the socket."""
        await self._shell.listen()
        self._admitted = True
        log.info("dispatcher_listening", sip=_where(self._place))

    def _filters(self, place: Place) -> Iterator[TcpFilter]:
        ports = [place.port] if "tcp" in place.transports else []
        for port in (*ports, *([place.tls.port] if place.tls else [])):
            try:
                yield TcpFilter(place.host, port, self._policy.networks)
            except OSError as error:
                # Strangers' connections are then closed as soon as they are there.
                log.warning("sip_tcp_filter_missing", port=port, why=str(error))

    def _reload(self) -> None:
        """A renewed certificate is for the connections that come."""
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except (OSError, ValueError) as error:
            log.error("sip_certificate_not_reloaded", why=str(error), remedy="the old one is shown meanwhile")
        else:
            log.info("sip_certificate_reloaded")

    async def _listen(self) -> None:
        """What the supervisor tells, until it is gone."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            partial(asyncio.StreamReaderProtocol, reader), sys.stdin
        )
        while line := await reader.readline():
            order = json.loads(line)
            self._obey(order)
            if order["do"] == "up" and not self._admitted:
                await self._admit()
            if order["do"] in _WAITED_FOR:
                print(json.dumps({"event": OBEYED, "order": order}), flush=True)
        self._stop.set()

    def _obey(self, order: Mapping[str, Any]) -> None:
        dispatcher, number = self._dispatcher, order.get("number", 0)
        match order["do"]:
            case "up":
                dispatcher.worker_up(Worker(number, order["port"], order["max_calls"]))
                dispatcher.worker_says(number, order["calls"], order["streams"])
            case "retire":
                dispatcher.worker_retires(number)
            case "gone":
                self._shell.send(dispatcher.worker_gone(number, time.monotonic_ns()))
            case "calls":
                dispatcher.worker_says(number, order["calls"], order["streams"])
            case "reload":
                self._reload()
            case "drain":
                dispatcher.drain()
            case "log_level":
                logs.change_level(order["level"])


def _where(place: Place) -> str:
    """For a log line: `0.0.0.0:5060/tcp+udp, 0.0.0.0:5061/tls`."""
    there = [f"{place.host}:{place.port}/{'+'.join(sorted(place.transports))}"]
    return ", ".join([*there, *([f"{place.host}:{place.tls.port}/tls"] if place.tls else [])])


async def _beat() -> None:
    """Tell the supervisor that the event loop turns."""
    while True:
        await asyncio.sleep(BEAT_S)
        print(json.dumps({"event": PULSE}), flush=True)


def main() -> int:
    # One line, no more: what stands behind it is read later.
    start = json.loads(_first_line())
    section = start["log"]
    logging.configure(section["level"], section["format"], repeats=section["repeats"], process="dispatcher")
    try:
        asyncio.run(Dispatching(start).run())
    except OSError as error:
        ports = f"{start['port']}" + (f" and {start['tls']['port']}" if start["tls"] else "")
        fault = f"SIP cannot listen on {start['host']}:{ports}: {error.strerror or error}"
        failed = {"event": "failed", "error": fault}
        print(json.dumps(failed), flush=True)
        return 1
    return 0


def _first_line() -> bytes:
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
        return stdin.readline()


if __name__ == "__main__":
    sys.exit(main())
