"""Lets the conference bridge forget the streams that ended, though nothing drives it.

The library adds each stream to its bridge, and (2.15) takes it out again only when the bridge's clock ticks.
On the stream way that clock stands still: after 253 streams no call would get media any more.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from telbridge.legs.sip.pjmedia import StillFrame

EVERY_TICKS: Final = 12
TOLERATED: Final = 96
"""Dead ports that may stay while calls talk; the wheel's bridge has 254."""


class BridgeSweeper:
    """Holds the bridge's master port: one frame pulled from it is one tick of its clock."""

    def __init__(self, native: ctypes.CDLL) -> None:
        still = native.pjsua_set_no_snd_dev
        still.restype = ctypes.c_void_p
        self._master = still()
        self._pull = native.pjmedia_port_get_frame
        self._frame = StillFrame()
        self._ticks = 0

    def tick(self, endpoint: Any, calls: int) -> None:
        """Sweep when it costs nothing (no call), or when it must be: then the RTP time of each live call
        jumps by one frame, which a receiver takes for a pause."""
        self._ticks += 1
        if self._ticks % EVERY_TICKS:
            return
        # The master port is one of them.
        dead = endpoint.mediaActivePorts() - 1 - calls
        if dead > (TOLERATED if calls else 0) and self._master:
            self._pull(self._master, self._frame.reference())
