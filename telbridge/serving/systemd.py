"""sd_notify(3): a service manager is told when we serve, reload, stop, and that we live."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

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
