"""What a peer is told of the talk: the agent's words as they are heard, gaps, interruptions, its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telbridge.call.events import (
    AgentAudio,
    AgentTranscript,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    SessionLost,
)
from telbridge.call.narration import Fact, Narration, beginning
from telbridge.call.playout import Heard
from tests.call.sides import MS_NS
from tests.call.test_call import WORDS, Scene, a_call
from tests.call.test_latency import LOUD, QUIET

R1, R2 = ReplyId(1), ReplyId(2)


class Ear:
    """A peer that listens."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Fact]]] = []

    def tell(self, event: str, facts: Mapping[str, Fact]) -> None:
        self.told.append((event, facts))


def said(reply: int, text: str, *, final: bool, **more: Fact) -> tuple[str, dict[str, Fact]]:
    return "agent_said", {"reply": reply, "text": text, "final": final, **more}


def told(scene: Scene, *events: str) -> list[tuple[str, dict[str, Any]]]:
    return [one for one in scene.leg.told if one[0] in events]


async def answers(scene: Scene, reply: ReplyId, text: str) -> None:
    """One reply, whole, in one burst."""
    scene.session.emit(AgentAudio(reply, WORDS, scene.leg.now_ns))
    scene.session.emit(AgentTranscript(reply, text))
    scene.session.emit(ReplyAudioDone(reply))
    scene.session.emit(ReplyDone(reply, ReplyStatus.COMPLETED))
    await scene.settled()


async def test_a_reply_is_told_when_it_is_first_heard_and_again_when_it_is_over() -> None:
    async with a_call(greeting="") as scene:
        await scene.answered()
        await answers(scene, R1, "Good day.")
        assert told(scene, "agent_said") == [], "nothing was heard yet"
        scene.leg.hears()
        await scene.settled()
        assert told(scene, "agent_said") == [said(1, "Good day.", final=False)]
        scene.leg.hears(12)
        await scene.settled()
        assert told(scene, "agent_said")[1:] == [said(1, "Good day.", final=True)]


async def test_a_turn_is_told_with_its_gap_and_an_interruption_with_what_was_heard() -> None:
    async with a_call(greeting="") as scene:
        await scene.answered()
        for frame in [LOUD] * 20 + [QUIET] * 10:
            scene.leg.hears()
            scene.leg.speaks(frame)
            if scene.leg.now_ns == 100 * MS_NS:
                scene.session.emit(CallerStartedSpeaking(scene.leg.now_ns, interrupts=True))
        scene.session.emit(CallerStoppedSpeaking(scene.leg.now_ns))
        scene.session.emit(CallerTranscript("When are you open?"))
        await answers(scene, R1, "From nine to five, every day but Sunday.")
        scene.leg.hears(4)  # 80 ms of 200
        await scene.settled()
        scene.session.emit(CallerStartedSpeaking(scene.leg.now_ns, interrupts=True))
        await scene.settled()
        assert told(scene, "caller_said", "turn", "interrupted") == [
            ("caller_said", {"text": "When are you open?"}),
            ("turn", {"gap_ms": 220}),  # 200 ms of silence, and the frame
            ("interrupted", {"heard_ms": 85, "discarded_ms": 115}),
        ]
        assert told(scene, "agent_said")[-1] == said(1, "From nine to", final=True, cut=True)


async def test_a_call_that_we_end_tells_why_before_it_hangs_up() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.ends(Ending.AGENT_LOST, "HTTP 500 of somebody's server")
        await scene.until_hung_up()
        assert scene.leg.told[-1] == ("ended", {"cause": "agent_lost"})


async def test_of_what_broke_the_peer_learns_no_detail() -> None:
    async with a_call() as scene:
        await scene.answered()
        scene.session.emit(SessionLost(scene.leg.now_ns, "wss://inside.example.com: refused"))
        await scene.settled()
        assert told(scene, "session_lost") == [("session_lost", {})]


def test_words_that_come_after_the_cut_are_cut_too() -> None:
    ear = Ear()
    narration = Narration(ear.tell)
    narration.began(R1, [])
    narration.cut([Heard(R1, 500, 500, 8000)], interrupted=True)
    narration.wrote(R1, "One two three four.")
    assert ear.told[-1] == said(1, "One two", final=True, cut=True)


def test_an_api_that_shortens_the_words_itself_knows_better() -> None:
    ear = Ear()
    narration = Narration(ear.tell)
    narration.began(R1, [])
    narration.wrote(R1, "One two three four.")
    narration.cut([Heard(R1, 500, 500, 8000)], interrupted=True)
    narration.wrote(R1, "One two three")
    assert ear.told[-1] == said(1, "One two three", final=True, cut=True)


def test_a_reply_that_was_never_heard_is_never_told() -> None:
    ear = Ear()
    narration = Narration(ear.tell)
    narration.wrote(R1, "Never mind.")
    narration.cut([Heard(R1, 0, 800, 8000)], interrupted=False)
    narration.settle(lambda reply: False)
    assert ear.told == []


@given(st.text(" ab", max_size=40), st.floats(0, 1))
def test_what_was_heard_of_a_text_is_its_first_whole_words(text: str, share: float) -> None:
    heard = beginning(text, share)
    assert text.startswith(heard)
    if share < 1:
        assert len(heard) <= len(text) * share
        assert text[len(heard) : len(heard) + 1] in ("", " ") or not heard
    else:
        assert heard == text
