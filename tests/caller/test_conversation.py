"""A conversation with an agent whose habits are known: the times taken must be those habits."""

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest

from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller.conversation import Conversation, Line, Listen, Patience, Press
from telbridge.caller.rtp import Packet
from telbridge.caller.sender import Played

MS = 1_000_000
TONE = (8000 * np.sin(np.arange(160) / 3)).astype("<i2").tobytes()
LOUD, QUIET = pcm16_to_ulaw(TONE), b"\xff" * 160
PATIENCE = Patience(greeting_s=0.3, reply_s=0.5, speech_s=5, hangover_ms=200)


class Agent:
    """Stands in for a call: greets for 300 ms, answers `reply_after_ms` after our last word for 300 ms, stops
    `stop_after_ms` after we begin. Every 20 ms one packet, as the pacer and the socket would."""

    def __init__(self, *, greets=True, reply_after_ms=160, stop_after_ms=100, stubborn=False):
        self.media = SimpleNamespace(on_packet=[], on_tick=[])
        self.reply_after_ms, self.stop_after_ms, self.stubborn = reply_after_ms, stop_after_ms, stubborn
        self.speaks_until = time.monotonic_ns() + 300 * MS if greets else 0
        self.reply_at = None
        self.playing = None  # first_ns, frames left, future
        self.hung_up = asyncio.Event()

    def play(self, pcm):
        future = asyncio.get_running_loop().create_future()
        self.playing = [None, len(pcm) // 320, future]
        return future

    def dtmf(self, digits):
        raise ValueError("the peer's SDP has no telephone-event (RFC 4733)")

    async def wait_ended(self):
        await self.hung_up.wait()

    async def live(self):
        due = time.monotonic_ns()
        for step in range(1_000):
            self._step(step, due)
            due += 20 * MS
            await asyncio.sleep(max(0, (due - time.monotonic_ns()) / 1e9))

    def _step(self, step, now_ns):
        self._listen(now_ns)
        if self.reply_at is not None and now_ns >= self.reply_at:
            self.reply_at, self.speaks_until = None, now_ns + 300 * MS
        payload = LOUD if now_ns < self.speaks_until else QUIET
        for watch in self.media.on_packet:
            watch(Packet(now_ns, step, step * 160, payload, False, 0, 1))
        for watch in self.media.on_tick:
            watch(now_ns)

    def _listen(self, now_ns):
        if self.playing is None:
            return
        if self.playing[0] is None:
            self.playing[0] = now_ns
            if not self.stubborn:
                self.speaks_until = min(self.speaks_until, now_ns + self.stop_after_ms * MS)
        self.playing[1] -= 1
        if self.playing[1] == 0:
            self.playing[2].set_result(Played(self.playing[0], now_ns, True))
            self.playing = None
            self.reply_at = None if self.stubborn else now_ns + self.reply_after_ms * MS


async def talk(agent, *steps):
    ladder = []
    conversation = Conversation(
        agent,
        steps,
        patience=PATIENCE,
        on_trace=lambda _, direction, text: ladder.append(f"{direction} {text}"),
    )
    life = asyncio.create_task(agent.live())
    try:
        return await conversation.run(), ladder
    finally:
        life.cancel()


def line(duration_ms, text, **more):
    return Line(TONE * (duration_ms // 20), text, **more)


async def test_the_turn_gap_is_from_our_last_word_to_the_agents_first():
    (turn,), ladder = await talk(Agent(reply_after_ms=160), line(200, "hello"))
    assert turn.gap_ms == pytest.approx(160, abs=21)
    assert (turn.end_ns - turn.onset_ns, turn.barge_in_stop_ms) == (
        pytest.approx(180 * MS, abs=25 * MS),
        None,
    )
    assert [text.split(" spoke")[0] for text in ladder] == [
        *("<- agent speaks", "<- agent", "-> we say: hello", "<- agent speaks", "<- agent")
    ]


async def test_an_interruption_takes_the_time_until_the_agent_is_silent():
    turns, ladder = await talk(Agent(stop_after_ms=100), line(300, "stop", interrupt_after_ms=100))
    assert turns[0].barge_in_stop_ms == pytest.approx(
        80, abs=21
    )  # its last packet began 80 ms after our first
    assert turns[0].gap_ms == pytest.approx(160, abs=21)
    assert "-> we interrupt: stop" in ladder


async def test_silence_around_our_words_does_not_count_as_words():
    padded = Line(bytes(3200) + TONE * 10 + bytes(6400), "padded")
    (turn,), _ = await talk(Agent(reply_after_ms=0), padded)
    # The agent of this test answers the end of the file, 400 ms after the last word.
    assert turn.gap_ms == pytest.approx(400, abs=41)


async def test_an_agent_that_says_nothing_is_told_and_waited_for_no_longer_than_said():
    turns, ladder = await talk(Agent(greets=False, reply_after_ms=60_000), line(100, "hello"))
    assert turns[0].gap_ms is None
    assert ladder[-1] == "!! no answer within 0.5 s"


async def test_an_agent_that_does_not_stop_has_no_stop_time():
    agent = Agent(stubborn=True)
    agent.speaks_until += 700 * MS
    turns, _ = await talk(agent, line(100, "stop", interrupt_after_ms=100), Listen(20))
    assert (turns[0].gap_ms, turns[0].barge_in_stop_ms) == (None, None)


async def test_digits_that_cannot_be_sent_are_told_and_the_conversation_goes_on():
    turns, ladder = await talk(Agent(), Press("1"), line(100, "hello"))
    assert [turn.text for turn in turns] == ["hello"]
    assert any("telephone-event" in text for text in ladder)


async def test_a_hang_up_ends_the_conversation():
    agent = Agent()
    asyncio.get_running_loop().call_later(0.1, agent.hung_up.set)
    turns, _ = await talk(agent, line(100, "never said"))
    assert turns == []
