"""All legs listen, all legs speak, in plain calls (decision 15).

Two functions, not one that is given the step: compiled, each calls the leg's method without asking for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from telbridge.legs.sip.leg import SipLeg


def listen(legs: Iterable[SipLeg], due: int, now_ns: int, failed: Callable[[SipLeg], None]) -> None:
    """`failed` is the wall between calls: told, within the exception, of a leg that raised one."""
    for leg in list(legs):
        try:
            leg.listen(due, now_ns)
        except Exception:  # noqa: BLE001 - see above
            failed(leg)


def speak(legs: Iterable[SipLeg], due: int, now_ns: int, failed: Callable[[SipLeg], None]) -> None:
    """As `listen`."""
    for leg in list(legs):
        try:
            leg.speak(due, now_ns)
        except Exception:  # noqa: BLE001 - see there
            failed(leg)
