"""An agent that speaks in real time, without pauses, over a stalled line: for how long is it heard late?

The real leg, downlink and peer; network, carrier and clock are simulated, so a minute passes in a moment.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCMU_8K
from telbridge.audio.speech import SpeechMeter
from telbridge.call.downlink import Downlink
from telbridge.call.events import CallFacts, ReplyId
from telbridge.call.playout import WAITS_FROM_MS
from telbridge.call.taping import Taping
from telbridge.call.turns import TurnBook
from telbridge.legs.streams.leg import StreamLeg, StreamParts
from telbridge.legs.streams.socket import frame
from telbridge.legs.streams.twilio import TwilioPeer

MS = 1_000_000
FRAME = 160
START = {"streamSid": "MZ1", "accountSid": "AC1", "callSid": "CA1"}
FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


class Line:
    """Wire, network and carrier: plays each frame in real time, `way_ms` later, and sends marks back."""

    def __init__(self, way_ms: int) -> None:
        self.way_ns, self.now_ns, self.stalled_until_ns = way_ms * MS, 0, 0
        self.played: list[tuple[int, int]] = []
        """Number of each frame of speech, and when it began to be heard."""
        self.left_ms: list[int] = []
        """The same frames: when they left."""
        self._end_ns = 0
        self._marks: deque[tuple[int, str]] = deque()

    framed = staticmethod(frame)

    def write(self, frames: bytes) -> None:
        arrival_ns = max(self.now_ns, self.stalled_until_ns) + self.way_ns
        while frames:
            size, head = frames[1], 2
            if size == 126:
                size, head = int.from_bytes(frames[2:4], "big"), 4
            message, frames = json.loads(frames[head : head + size]), frames[head + size :]
            if message["event"] == "media":
                begin_ns = max(arrival_ns, self._end_ns)
                self.played.append((_number(base64.b64decode(message["media"]["payload"])), begin_ns))
                self.left_ms.append(self.now_ns // MS)
                self._end_ns = begin_ns + 20 * MS
            elif message["event"] == "mark":
                back_ns = max(arrival_ns, self._end_ns) + self.way_ns
                self._marks.append((back_ns, message["mark"]["name"]))

    def returned(self) -> list[str]:
        names = []
        while self._marks and self._marks[0][0] <= self.now_ns:
            names.append(self._marks.popleft()[1])
        return names

    @property
    def holds_ns(self) -> int:
        """What the carrier has not played yet."""
        return max(0, self._end_ns - self.now_ns)

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(reason)

    is_stuck = False


class Voice:
    """The call, as far as the leg asks: all that is heard is the downlink."""

    has_words = False

    def __init__(self) -> None:
        self.downlink: Downlink | None = None

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> bytes | memoryview | None:
        assert self.downlink is not None
        return self.downlink.speech(now_ns, ahead=ahead, standing_ms=standing_ms)

    @property
    def more_speech(self) -> bool:
        assert self.downlink is not None
        return self.downlink.more

    def lagged(self, frames: int, *, just_now: bool) -> None:
        assert self.downlink is not None
        self.downlink.audible.lagged(frames, just_now=just_now)

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None: ...

    def downlink_frame(self, now_ns: int) -> bytes | memoryview:
        raise AssertionError


def _number(payload: bytes) -> int:
    """Loud frames carry their number in their first octets; -1: the frame is quiet, or a fade."""
    digits = payload[8:40]
    if len(payload) < FRAME or any(code not in (0x00, 0x10) for code in digits):
        return -1
    return sum((code == 0x10) << bit for bit, code in enumerate(digits))


def _frame(number: int) -> bytes:
    """Every fifth frame is quiet, as in speech; the others are loud and tell which they are."""
    if number % 5 == 4:
        return b"\xff" * FRAME
    digits = bytes(0x10 if number >> bit & 1 else 0x00 for bit in range(32))
    return (b"\x00" * 8 + digits).ljust(FRAME, b"\x00")


@dataclass
class Bed:
    """One call in which the agent says a frame every 20 ms."""

    leg: StreamLeg
    line: Line
    downlink: Downlink
    said_ms: list[int]
    """When each frame was said."""
    tick_at_ms: int = 11
    """Of each 20 ms; a frame is said at 3."""
    brought: int = 0
    """So many of them have come."""

    def run(
        self, from_ms: int, to_ms: int, *, stalled: bool = False, late_by_ms: Sequence[int] = (0,)
    ) -> None:
        """`stalled`: our event loop stands still, and what is said waits outside. `late_by_ms`: so late each
        frame comes, by turns."""
        for ms in range(from_ms, to_ms):
            self.line.now_ns = ms * MS
            if ms % 20 == 3:
                self.said_ms.append(ms)
            if stalled:
                continue
            for name in self.line.returned():
                mark = {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}
                self.leg.receive(json.dumps(mark), self.line.now_ns)
            while self.brought < len(self.said_ms):
                if self.said_ms[self.brought] + late_by_ms[self.brought % len(late_by_ms)] > ms:
                    break
                self.brought += 1
                self.downlink.playout.append(ReplyId(1), _frame(self.brought - 1))
                self.leg.wake()
            if ms % 20 == self.tick_at_ms:
                self.leg.tick(self.line.now_ns)

    def late_ms(self, from_ms: int, to_ms: int) -> float:
        """From saying to hearing, at most, of what was said in that time."""
        return max(
            begin_ns / MS - self.said_ms[number]
            for number, begin_ns in self.line.played
            if number >= 0 and from_ms <= self.said_ms[number] < to_ms
        )

    def waited(self, from_ms: int) -> int:
        """So many of the loud frames that were said after that did not leave at once."""
        return sum(
            left_ms > self.said_ms[number]
            for (number, _), left_ms in zip(self.line.played, self.line.left_ms, strict=True)
            if number >= 0 and self.said_ms[number] >= from_ms
        )

    def loud_frames(self) -> list[int]:
        return [number for number, _ in self.line.played if number >= 0]


def bed(way_ms: int) -> Bed:
    line, voice, peer = Line(way_ms), Voice(), TwilioPeer()
    peer.receive(json.dumps({"event": "start", "start": {**START, "mediaFormat": FORMAT}}))
    parts = StreamParts(
        facts=CallFacts("c", "twilio", "", "", "", PCMU_8K),
        format=PCMU_8K,
        peer=peer,
        wire=line,
        clock=lambda: line.now_ns,
        log=structlog.get_logger(),
        lead_ms=200,
        media_timeout_s=3600,
        on_over=lambda _: None,
    )
    leg = StreamLeg(parts)
    turns = TurnBook(0, SpeechMeter(PCMU_8K))
    loop = asyncio.get_running_loop()
    taping = Taping(None, asks_first=False, started_ns=0, later=loop.call_later)
    voice.downlink = Downlink(leg, turns, taping, tell=_nobody, said=_nobody, clock=lambda: line.now_ns)
    voice.downlink.connect()
    leg.attach(voice, lambda _: None)  # type: ignore[arg-type]
    leg.answer()
    return Bed(leg, line, voice.downlink, [])


def _nobody(_: object) -> None:
    """Nobody asks."""


SETTLED_MS = 12_000
"""Some 1.5 s after a stall every fourth frame begins to go: 1.5 s of delay in 6 to 8 s."""


@settings(max_examples=12, deadline=None)
@given(
    way_ms=st.integers(0, 120),
    at_ms=st.integers(1500, 1700),
    stall_ms=st.integers(20, 1500),
    ours=st.booleans(),
)
def test_after_a_stall_an_agent_without_pauses_is_soon_heard_as_early_as_before(
    way_ms: int, at_ms: int, stall_ms: int, ours: bool
) -> None:
    """Whether our event loop stood still or the network to the carrier; and no word is lost for it."""

    async def scene() -> Bed:
        one = bed(way_ms)
        one.run(0, at_ms)
        end_ms = at_ms + stall_ms
        if not ours:
            one.line.stalled_until_ns = end_ms * MS
        one.run(at_ms, end_ms, stalled=ours)
        one.run(end_ms, end_ms + SETTLED_MS + 1000)
        return one

    one = asyncio.run(scene())
    end_ms = at_ms + stall_ms
    before = one.late_ms(1000, at_ms - 200)
    after = one.late_ms(end_ms + SETTLED_MS - 1000, end_ms + SETTLED_MS)
    assert after <= before + WAITS_FROM_MS + 20
    loud = one.loud_frames()
    spoken = [number for number in range(loud[-1] + 1) if number % 5 != 4]
    missing = set(spoken) - set(loud)
    totals = one.downlink.playout.totals
    # Nor can two frames that have become one, or a frame that fades in or out around a gap, be recognised.
    assert len(missing) <= 2 + 2 * totals.shortened_frames, missing
    # A gap of less than two frames is owed, but no underrun.
    assert totals.shortened_frames <= totals.underrun_frames + 2
    assert loud == sorted(loud)


@settings(max_examples=40, deadline=None)
@given(stall_ms=st.integers(20, 150), at_ms=st.integers(1500, 1519), tick_at_ms=st.integers(0, 19))
def test_what_little_stays_after_a_stall_holds_nothing_up(stall_ms: int, at_ms: int, tick_at_ms: int) -> None:
    """Who holds a frame back to join it with the next one must get to join them."""

    async def scene() -> Bed:
        one = bed(20)
        one.tick_at_ms = tick_at_ms
        one.run(0, at_ms)
        one.run(at_ms, at_ms + stall_ms, stalled=True)
        one.run(at_ms + stall_ms, at_ms + 20_000)
        return one

    one = asyncio.run(scene())
    assert one.waited(at_ms + stall_ms + 500) <= one.downlink.playout.totals.shortened_frames


@settings(deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=60))
def test_what_is_said_leaves_at_once_while_the_lead_is_not_full(pauses_ms: list[int]) -> None:
    """Not with the next tick: frames that come in bursts, late, or on time."""

    async def scene() -> Bed:
        one = bed(0)
        for number, pause_ms in enumerate(pauses_ms):
            one.line.now_ns += pause_ms * MS
            sent, holds_ns = len(one.line.played), one.line.holds_ns
            one.downlink.playout.append(ReplyId(1), _frame(number))
            one.leg.wake()
            leaves = holds_ns + 20 * MS <= 200 * MS
            assert len(one.line.played) - sent == leaves
            if not leaves:
                break
        return one

    asyncio.run(scene())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.integers(1, 300), st.integers(1, 5000)), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_a_leg_that_rests_sends_as_one_that_looks_at_every_tick(bits: list[tuple[int, bool]]) -> None:
    """Speech in pieces of any size, with pauses or without; `bool`: all of it is thrown away first."""

    async def scene(*, resting: bool) -> list[tuple[int, int]]:
        one = bed(0)
        for octets, cut in bits:
            if cut:
                one.downlink.flush(one.line.now_ns)
            one.downlink.playout.append(ReplyId(one.line.now_ns // MS + 1), b"\x10" * octets)
            one.leg.wake()
            for _ in range(3):
                one.line.now_ns += 20 * MS
                if not resting:
                    one.leg._rests_until_ns = 0
                one.leg.tick(one.line.now_ns)
        return one.line.played

    async def both() -> None:
        assert await scene(resting=True) == await scene(resting=False)

    asyncio.run(both())


@settings(max_examples=30, deadline=None)
@given(late_by_ms=st.lists(st.integers(0, 150), min_size=20, max_size=60))
def test_delay_that_jitter_has_built_up_goes_when_the_jitter_does(late_by_ms: list[int]) -> None:
    """Silence of a few ms at a time is none that anybody counts as a gap, and yet what comes next is heard
    later."""

    async def scene() -> Bed:
        one = bed(20)
        one.run(0, 1500)
        one.run(1500, 4500, late_by_ms=late_by_ms)
        one.run(4500, 4500 + SETTLED_MS + 4000)
        return one

    one = asyncio.run(scene())
    before = one.late_ms(1000, 1300)
    assert one.late_ms(15_500, 4500 + SETTLED_MS + 3000) <= before + WAITS_FROM_MS + 20


def test_without_a_stall_nothing_is_shortened() -> None:
    async def scene() -> Bed:
        one = bed(40)
        one.run(0, 10_000)
        return one

    one = asyncio.run(scene())
    assert one.downlink.playout.totals.shortened_frames == one.downlink.playout.totals.underruns == 0
    assert one.late_ms(1000, 9000) <= 40 + 20


def test_an_agent_that_is_far_ahead_keeps_its_pauses() -> None:
    """Though silence stood inside its reply: nobody waits for the end of a burst."""

    async def scene() -> Bed:
        one = bed(20)
        one.run(0, 1500)
        one.line.now_ns = 1500 * MS
        for number in range(len(one.said_ms), len(one.said_ms) + 1000):
            one.downlink.playout.append(ReplyId(1), _frame(number))
        one.said_ms += [1500] * 1000
        one.brought = len(one.said_ms)
        one.run(1500, 2100, stalled=True)
        one.brought = len(one.said_ms)
        one.run(2100, 14_000)
        return one

    totals = asyncio.run(scene()).downlink.playout.totals
    assert 0 < totals.underrun_frames <= 600 // 20
    assert totals.shortened_frames == 0


def test_many_short_stalls_do_not_add_up() -> None:
    """Each a little longer than what the ones before have left standing at the carrier."""

    async def scene() -> Bed:
        one = bed(20)
        at_ms = 1500
        one.run(0, at_ms)
        for stall_ms in range(24, 200, 12):
            one.run(at_ms, at_ms + stall_ms, stalled=True)
            one.run(at_ms + stall_ms, at_ms + 1000)
            at_ms += 1000
        one.run(at_ms, at_ms + 10_000)
        return one

    one = asyncio.run(scene())
    end_ms = len(one.said_ms) * 20
    assert one.late_ms(end_ms - 1000, end_ms - 200) <= one.late_ms(1000, 1400) + WAITS_FROM_MS + 20
