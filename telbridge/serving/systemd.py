"""sd_notify(3): a service manager is told when we serve, reload, stop, and that we live.
sd_listen_fds(3): it may have opened our sockets for us."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from telbridge.config import ConfigError, ConfigErrors
from telbridge.legs.sip.settings import SipSettings

_FIRST_PASSED: Final = 3
_READY: Final = "READY=1"


class ServiceManager:
    """What listens at NOTIFY_SOCKET; without one nothing is said."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a zero, written as @.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period_us = environ.get("WATCHDOG_USEC", "") if ours and address else ""
        self.watchdog_s: Final = int(period_us) / 1e6 if period_us.isdigit() else None
        """It restarts us if it hears nothing for so long; None: it does not look."""

    def ready(self, status: str) -> None:
        """We serve, from now on or again."""
        self._tell(_READY, f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` follows, whatever comes of it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, limit_s: float) -> None:
        """It takes up to so long, whatever TimeoutStopSec says."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(limit_s * 1e6)}")

    def alive(self) -> None:
        """For the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            try:
                to.setblocking(False)
                to.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                pass  # A manager that is gone or overrun must not stop calls.


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Those of our socket unit, once: children of ours are not told of them this way. ConfigErrors."""
    ours = environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = environ.pop("LISTEN_FDS", "0")
    environ.pop("LISTEN_FDNAMES", None)
    if not ours or not count.isdigit():
        return []
    try:
        passed = [socket.socket(fileno=_FIRST_PASSED + index) for index in range(int(count))]
    except OSError as error:
        what = f"passes what is no socket ({error.strerror})"
        raise ConfigErrors(
            [ConfigError("socket unit", "", what, "write Listen… lines for SIP alone")]
        ) from None
    for each in passed:
        each.set_inheritable(False)
    return passed


def check_passed(sockets: Sequence[socket.socket], sip: SipSettings) -> None:
    """ConfigErrors for those on which SIP is not expected by the settings."""
    faults = [fault for each in sockets if (fault := _fault(each, sip)) is not None]
    if faults:
        raise ConfigErrors(faults)


def _fault(passed: socket.socket, sip: SipSettings) -> ConfigError | None:
    name = passed.getsockname()
    where = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else repr(name)
    listed = f"ListenDatagram={sip.host}:{sip.port} or ListenStream={sip.host}:{sip.port}"
    if passed.family != socket.AF_INET:
        return ConfigError("socket unit", where, "is not an IPv4 address", f"write {listed}")
    if passed.type == socket.SOCK_DGRAM:
        ports = {sip.port} if "udp" in sip.transports else set()
    else:
        ports = {sip.port} if "tcp" in sip.transports else set()
        ports |= {sip.tls.port} if sip.tls else set()
    if name[0] != sip.host or name[1] not in ports:
        return ConfigError("socket unit", where, "is not where [sip] has us listen", f"write {listed}")
    return None
