"""How many workers there are, and what of the SIP settings each of them gets. Pure."""

from __future__ import annotations

from typing import Final

from telbridge.config import ConfigError, ConfigErrors
from telbridge.legs.sip.settings import SipSettings

CALLS_A_CORE: Final = 100
"""What one event loop carries on any machine: `make bench` finds 0.1 to 0.9 % of a core a call."""
PORTS_A_CALL: Final = 2
"""RTP and RTCP."""


def shares(sip: SipSettings, cap: int, cores: int) -> list[SipSettings]:
    """One for each worker; a single one is what the settings say. `cap`: calls in one process of the
    installed pjsua2. Few big workers beat many small ones: there are as many as `max_calls` needs, but not
    more than keep the cores busy. ConfigErrors if the RTP ports do not suffice."""
    if sip.max_calls is None:
        return [sip]
    busy = min(cap, CALLS_A_CORE)
    most = max(1, cores * CALLS_A_CORE // busy)
    count = min(-(-sip.max_calls // busy), most)
    if count == 1:
        return [sip]
    calls = min(-(-sip.max_calls // count), cap)
    ports = (sip.rtp_port_last + 1 - sip.rtp_port_first) // count // 2 * 2
    if ports < calls * PORTS_A_CALL:
        what = f"{ports} RTP ports for each of {count} workers are too few for its {calls} calls"
        raise ConfigErrors([ConfigError("settings", "sip.rtp_port_last", what, "widen the range")])
    firsts = [sip.rtp_port_first + index * ports for index in range(count)]
    return [
        sip.model_copy(
            update={"max_calls": calls, "rtp_port_first": first, "rtp_port_last": first + ports - 1}
        )
        for first in firsts
    ]
