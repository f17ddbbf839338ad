"""Who gets what a peer sends, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import WSMessage, WSMsgType

from telbridge.sockets.incoming import MESSAGES_A_TURN, UNREAD_OCTETS, Incoming

MAX = 1 << 20


class Transport:
    """Of a connection whose octets the test feeds."""

    def __init__(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def text(payload: str) -> bytes:
    size = len(payload).to_bytes(2, "big")
    return b"\x81" + (size[1:] if len(payload) < 126 else b"\x7e" + size) + payload.encode()


def an_incoming() -> tuple[Incoming, Transport, list[Any]]:
    transport, heard = Transport(), []
    incoming = Incoming(cast("asyncio.Transport", transport), max_octets=MAX)
    incoming.on_data = heard.append
    return incoming, transport, heard


async def taken(incoming: Incoming) -> WSMessage:
    await incoming.arrival()
    return incoming.take()


async def test_data_is_heard_at_once() -> None:
    incoming, _, heard = an_incoming()
    incoming.feed_data(text("a") + text("b"))
    assert heard == ["a", "b"]


async def test_what_is_too_much_for_one_turn_waits_and_all_behind_it_keeps_its_place() -> None:
    incoming, _, heard = an_incoming()
    names = [str(number) for number in range(MESSAGES_A_TURN + 3)]
    incoming.feed_data(b"".join(map(text, names)))
    incoming.feed_data(text("later"))
    assert heard == names[:MESSAGES_A_TURN]
    rest = [(await taken(incoming)).data for _ in range(4)]
    assert rest == [*names[MESSAGES_A_TURN:], "later"]
    incoming.feed_data(text("straight"))
    assert heard[-1] == "straight"


async def test_on_hold_nothing_is_heard_and_the_network_keeps_the_rest() -> None:
    incoming, transport, heard = an_incoming()
    incoming.hold(True)
    incoming.feed_data(text("a"))
    assert (heard, transport.reading) == ([], False)
    incoming.hold(False)
    assert transport.reading
    assert (await taken(incoming)).data == "a"


async def test_a_peer_that_sends_more_than_is_taken_is_not_read_any_further() -> None:
    incoming, transport, _ = an_incoming()
    incoming.on_data = None
    kept = 0
    while transport.reading:
        incoming.feed_data(text("x" * 1_000))
        kept += 1_000
    assert kept <= UNREAD_OCTETS + 1_000
    while not transport.reading:
        await taken(incoming)


async def test_the_end_wakes_who_waits_and_is_told_once() -> None:
    incoming, _, _ = an_incoming()
    waiting = asyncio.create_task(taken(incoming))
    await asyncio.sleep(0)
    incoming.feed_eof()
    incoming.set_exception(OSError())
    assert (await waiting).type is WSMsgType.CLOSED
    assert not incoming.arrival().done()
