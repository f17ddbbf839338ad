"""Which worker takes the next call, what room there is, and a request that is written again."""

from __future__ import annotations

import io
from collections import Counter
from http.client import parse_headers
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.serving.ingress_limits import Throttle
from telbridge.serving.ingress_moving import written_again
from telbridge.serving.ingress_port import listening
from telbridge.serving.ingress_room import SETTLE_NS, UNKNOWN, Load, Room
from tests.ports import free_port


class Workers:
    """Rooms that tell each other at once, or later."""

    def __init__(self, count: int, most: int = 1_000) -> None:
        self.now_ns = 0
        self.live: Counter[str] = Counter()
        self.rooms = {name: self._room(name, most) for name in map(str, range(count))}
        self.tell()

    def _room(self, name: str, most: int) -> Room:
        return Room(
            name,
            most,
            live=lambda: self.live[name],
            by_sip=lambda: 0,
            clock=lambda: self.now_ns,
            on_change=lambda: None,
        )

    def tell(self) -> None:
        for room in self.rooms.values():
            for other in self.rooms.values():
                if other is not room:
                    other.told(room.name, room.load)


@settings(max_examples=50)
@given(
    count=st.integers(1, 6),
    asked=st.lists(st.integers(0, 5), max_size=120),
    told_every=st.integers(1, 200),
    gap_ns=st.sampled_from([0, 1_000_000, 300_000_000]),
)
def test_calls_are_even_whoever_is_asked_and_however_late_the_news(
    count: int, asked: list[int], told_every: int, gap_ns: int
) -> None:
    workers = Workers(count)
    if gap_ns > SETTLE_NS:
        told_every = 1  # News are never so late.
    for number, at in enumerate(asked, 1):
        chosen = workers.rooms[str(at % count)].roomiest()
        workers.live[chosen] += 1
        workers.now_ns += gap_ns
        if number % told_every == 0:
            workers.tell()
    spread = [workers.live[name] for name in workers.rooms]
    # Each of them spreads what it is asked itself evenly, and starts with itself.
    assert max(spread) - min(spread) <= count + 1


def test_whoever_takes_no_calls_gets_none_and_the_last_keeps_them() -> None:
    workers = Workers(2)
    ours = workers.rooms["0"]
    workers.live["0"] = 50
    assert ours.roomiest() == "1"
    ours.told("1", Load(closing=True))
    assert ours.roomiest() == "0" and not ours.others_take_calls
    ours.told("1", Load())
    ours.gone("1")
    assert ours.roomiest() == "0" and ours.workers == 1
    ours.close()
    assert ours.roomiest() == "0", "it says itself that there is no room"


def test_one_worker_takes_the_connection_to_asterisk_and_keeps_it_while_it_takes_calls() -> None:
    workers = Workers(3)
    first, second, third = workers.rooms.values()
    assert [room.is_to_take_ari for room in workers.rooms.values()] == [True, False, False]
    second.take_ari(True)  # It was alone when it came.
    workers.tell()
    assert not any(room.is_to_take_ari for room in workers.rooms.values())
    second.close()
    workers.tell()
    assert first.is_to_take_ari and not third.is_to_take_ari
    first.told("4", UNKNOWN)
    assert not first.is_to_take_ari, "the one that has just come may have it"
    first.gone("4")
    assert first.is_to_take_ari


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_one_address_gets_no_more_from_many_workers_than_from_one(workers: int) -> None:
    throttles = [Throttle(20) for _ in range(workers)]
    for each in throttles:
        each.shared_by = workers
    admitted = sum(
        each.admits("198.51.100.1", ms * 1_000_000) for ms in range(0, 10_000, 20) for each in throttles
    )
    assert admitted == pytest.approx(20 * 10 + workers * 2 * 20, abs=workers)


def test_a_promise_is_a_place() -> None:
    workers = Workers(2, most=3)
    ours, other = workers.rooms.values()
    workers.live["1"] = 1
    workers.tell()
    assert ours.promise("a") and ours.promise("b") and ours.promise("b")
    assert not ours.promise("c") and not ours.may_come("c")
    workers.tell()
    assert not other.has_room()
    ours.close()
    assert ours.may_come("a"), "a promise holds while we close"
    assert not ours.promise("d")
    assert dict(ours.no_room) == {"full": 2, "draining": 1}
    ours.let_go("a")
    assert ours.promised == 1 and not ours.may_come("a")
    workers.tell()
    assert other.has_room()


NAMES = st.sampled_from([b"X-Twilio-Signature", b"Cookie", b"x", b"Content-Type", b"Transfer-Encoding"])
VALUES = st.text("aZ9=/+, ;:", min_size=1, max_size=30).map(lambda text: f"x{text}x".encode())


@settings(max_examples=50)
@given(
    path=st.text("az09/%?=&+.-", max_size=40).map("/{}".format),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    body=st.none() | st.binary(max_size=300),
)
def test_a_request_is_read_again_as_it_came(
    path: str, headers: list[tuple[bytes, bytes]], body: bytes | None
) -> None:
    headers = [(b"Host", b"voice.example.com"), *headers]
    method = "GET" if body is None else "POST"
    octets = io.BytesIO(written_again(method, path, (1, 1), headers, body, behind=b"\x81"))
    assert octets.readline() == f"{method} {path} HTTP/1.1\r\n".encode()
    read = [(name.encode(), value.encode()) for name, value in parse_headers(octets).items()]
    if body is None:
        assert (read, octets.read()) == (headers, b"\x81")
    else:
        length = (b"Content-Length", str(len(body)).encode())
        assert read == [*(each for each in headers if each[0] != b"Transfer-Encoding"), length]
        assert octets.read() == body + b"\x81"


def test_a_port_is_shared_by_those_who_meet_in_a_folder_and_by_nobody_else(tmp_path: Path) -> None:
    port = free_port()
    ours, stranger = tmp_path / "ours", tmp_path / "stranger's"
    ours.mkdir()
    stranger.mkdir()
    sockets = [*listening("127.0.0.1", port, ours), *listening("127.0.0.1", port, ours)]
    for folder in (stranger, None):
        with pytest.raises(OSError):
            listening("127.0.0.1", port, folder)
    for each in sockets:
        each.close()
    for each in listening("127.0.0.1", port, stranger):
        each.close()
