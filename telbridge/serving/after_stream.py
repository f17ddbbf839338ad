"""What a carrier is told when it asks what comes next: we closed the stream, or a call to somebody else
ended."""

from __future__ import annotations

from enum import Enum, auto

from telbridge.call.events import Ending
from telbridge.legs.streams.carrier import DialEnded
from telbridge.legs.streams.leg import StreamLeg
from telbridge.legs.streams.transfer import OtherWebhook, Wish


class Next(Enum):
    STREAM = auto()
    """Another one: nobody took the call, it comes back."""
    END = auto()


def what_follows(leg: StreamLeg | None, ended: DialEnded | None) -> Wish | Next:
    """`leg`: None for a call that we know nothing of any more. `ended`: the dial before, if it was one."""
    if leg is None:
        return Next.END
    if ended is not None:
        return _after_dial(leg, ended)
    wish = leg.next_wish()
    if wish is not None and isinstance(wish.to, OtherWebhook):
        leg.transfer_answered()
    return wish or Next.END


def _after_dial(leg: StreamLeg, ended: DialEnded) -> Next:
    if ended.talked:
        leg.transfer_answered()
    elif ended.over:
        leg.end(Ending.CALLER_HUNG_UP, f"call status {ended.over}")
    elif leg.transfer_failed(ended.status, ended.detail):
        return Next.STREAM
    return Next.END


def tell_progress(leg: StreamLeg | None, answered: bool | None) -> None:
    """Who is dialled is rung, or has answered; None: neither."""
    if leg is None or answered is None:
        return
    if answered:
        leg.transfer_answered()
    else:
        leg.transfer_rings()
