"""Turns, answers and interruptions of a speaking brain, with ears and voice that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest

from telbridge.agent.brains.talking import (
    Asked,
    CallTool,
    Idle,
    Prompt,
    Say,
    Spoken,
    TalkingBrain,
    Typed,
    Unclear,
)
from telbridge.agent.events import (
    AudioIn,
    Configured,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    Tool,
    TurnCommitted,
    TurnDetection,
    TurnId,
)
from telbridge.agent.levels import Samples
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.pool import OverloadedError, SpeechService
from telbridge.agent.speech.stt import Recognition
from telbridge.audio.formats import PCMU_8K, AudioFormat

VOICE = np.random.default_rng(1).integers(0, 256, 160, np.uint8).tobytes()  # loud
SILENCE = b"\xff" * 160
SECOND = b"\x00" * 8000


class LoudnessVad:
    """Speech is what is loud."""

    def push(self, hop: Samples) -> float:
        return 0.95 if float(np.abs(hop).mean()) > 0.01 else 0.01

    def reset(self) -> None: ...


class Speech:
    """Recognises what a test has written down; says a second for each sentence."""

    def __init__(self) -> None:
        self.heard: list[Recognition | Exception] = []
        self.recognised = 0

    async def recognize(self, pcm_8k: bytes) -> Recognition:
        self.recognised += 1
        result = self.heard.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def synthesize(self, text: str, output: AudioFormat) -> bytes:
        return SECOND


class Parrot:
    """A talker that writes down its prompts and says them back."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.was_said: list[str] = []

    def configured(self, instructions: str) -> None: ...

    def note(self, text: str) -> None: ...

    def said(self, text: str) -> None:
        self.was_said.append(text)

    async def answer(self, prompt: Prompt) -> AsyncIterator[Say | CallTool]:
        self.prompts.append(prompt)
        yield Say(f"You said {prompt.text}. So it is." if isinstance(prompt, Spoken) else "Well. Well.")
        yield CallTool(("nothing", "note_down"), {"a": 1})


class Conversation:
    """A brain on a recording line, in 20 ms steps."""

    def __init__(self, line: Any, **turns: Any) -> None:
        self.line, self.speech, self.talker = line, Speech(), Parrot()
        service = cast(SpeechService, self.speech)
        self.brain = TalkingBrain(line, self.talker, service, LoudnessVad(), AgentSettings())
        settings = {"idle_ms": None, "answers": True, "interrupts": True, **turns}
        detection = TurnDetection(0.5, 300, 500, **settings)
        self.configure(detection)

    def configure(self, turns: TurnDetection | None) -> None:
        tools = (Tool("note_down", ""),)
        self.brain.receive(Configured(PCMU_8K, PCMU_8K, "", turns, False, tools, True), 0)

    async def hears(self, frame: bytes, ms: int) -> None:
        for _ in range(ms // 20):
            self.line.time_ns += 20_000_000
            self.brain.receive(AudioIn(frame), self.line.time_ns)
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)

    async def caller_says(self, text: str, confidence: float = -0.1) -> None:
        self.speech.heard.append(Recognition(text, confidence))
        await self.hears(VOICE, 600)
        await self.hears(SILENCE, 600)

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.line.took()]


@pytest.fixture
def talk(line: Any) -> Conversation:
    return Conversation(line)


async def test_a_turn_is_heard_and_answered_sentence_by_sentence(talk: Conversation) -> None:
    await talk.caller_says("Hello")
    done = talk.line.took()
    assert [entry for entry in done if entry[0] != "audio"] == [
        ("speech_started", 0),
        ("speech_stopped", 608),
        ("heard", "Hello"),
        ("begin",),
        ("words", "You said Hello."),
        ("words", " So it is."),
        ("tool", "note_down", {"a": 1}),
        ("end",),
    ]
    assert talk.speech.recognised == 1


async def test_recognition_starts_in_the_pause_and_again_if_the_caller_goes_on(talk: Conversation) -> None:
    talk.speech.heard = [Recognition("I want", -0.1), Recognition("I want a table", -0.1)]
    for frame, ms in ((VOICE, 600), (SILENCE, 320), (VOICE, 400), (SILENCE, 600)):
        await talk.hears(frame, ms)
    assert talk.talker.prompts == [Spoken("I want a table")]


async def test_the_caller_interrupts_and_the_playout_is_forgotten(talk: Conversation) -> None:
    await talk.caller_says("Hello")
    talk.line.took()
    await talk.hears(SILENCE, 700)
    talk.speech.heard.append(Recognition("Stop", -0.1))
    await talk.hears(VOICE, 200)
    assert talk.kinds()[0] == "speech_started"
    await talk.hears(VOICE, 100)
    await talk.hears(SILENCE, 600)
    assert talk.talker.prompts[-1] == Spoken("Stop")


async def test_what_is_said_before_the_answer_belongs_to_the_question(talk: Conversation) -> None:
    hold = asyncio.Event()
    ready = talk.speech.synthesize

    async def slow(text: str, output: AudioFormat) -> bytes:
        await hold.wait()
        return await ready(text, output)

    talk.speech.synthesize = slow  # type: ignore[method-assign]
    await talk.caller_says("A table")
    hold.set()
    await talk.caller_says("for two")
    assert [prompt.text for prompt in talk.talker.prompts if isinstance(prompt, Spoken)] in (
        ["A table", "A table for two"],
        ["A table", "for two"],
    )


@pytest.mark.parametrize(("text", "confidence"), [("You", -0.7), ("Mumble", -0.9), ("", -0.1)])
async def test_noise_is_not_words(talk: Conversation, text: str, confidence: float) -> None:
    talk.speech.heard.append(Recognition(text, confidence))
    await talk.hears(VOICE, 1200)
    await talk.hears(SILENCE, 600)
    assert talk.talker.prompts == [Unclear()]
    await talk.hears(SILENCE, 3000)
    talk.speech.heard.append(Recognition(text, confidence))
    await talk.hears(VOICE, 200)  # a cough
    await talk.hears(SILENCE, 600)
    assert talk.talker.prompts == [Unclear()]


async def test_too_much_work_is_a_turn_not_understood(talk: Conversation) -> None:
    talk.speech.heard.append(OverloadedError("full"))
    await talk.hears(VOICE, 1200)
    await talk.hears(SILENCE, 600)
    assert talk.talker.prompts == [Unclear()]


async def test_say_exactly_is_said_exactly(talk: Conversation) -> None:
    reply = talk.line.requested()
    talk.brain.receive(ReplyRequested(reply, "Say exactly: Hi. I am Sam.", PCMU_8K, False), 0)
    await talk.line.finish_works()
    assert [entry for entry in talk.line.took() if entry[0] == "words"] == [
        ("words", "Hi."),
        ("words", " I am Sam."),
    ]
    assert talk.talker.prompts == []


async def test_a_text_is_answered_when_a_reply_is_asked_for(talk: Conversation) -> None:
    talk.brain.receive(TextIn("[DTMF] caller pressed 5", "user"), 0)
    assert talk.line.took() == []
    talk.brain.receive(ReplyRequested(talk.line.requested(), None, PCMU_8K, False), 0)
    await talk.line.finish_works()
    talk.brain.receive(ReplyRequested(talk.line.requested(), "Go on.", PCMU_8K, False), 0)
    await talk.line.finish_works()
    assert talk.talker.prompts == [Typed("[DTMF] caller pressed 5"), Asked("Go on.")]


async def test_truncation_tells_the_talker_what_was_heard(talk: Conversation) -> None:
    reply = talk.line.requested()
    talk.brain.receive(ReplyRequested(reply, "Say exactly: One two three four. Five six.", PCMU_8K, False), 0)
    await talk.line.finish_works()
    talk.brain.receive(ReplyTruncated(reply, 1500), 0)
    assert talk.talker.was_said[-1] == "One two three four. Five"


async def test_without_create_response_it_only_listens(line: Any) -> None:
    talk = Conversation(line, answers=False)
    await talk.caller_says("Hello")
    assert talk.kinds() == ["speech_started", "speech_stopped", "heard"]


async def test_a_client_that_cuts_its_own_turns_is_answered_when_it_asks(talk: Conversation) -> None:
    talk.configure(None)
    talk.speech.heard.append(Recognition("Hello", -0.1))
    await talk.hears(VOICE, 500)
    talk.brain.receive(TurnCommitted(TurnId("t")), 0)
    talk.brain.receive(ReplyRequested(talk.line.requested(), None, PCMU_8K, False), 0)
    await talk.line.finish_works()
    assert talk.talker.prompts == [Spoken("Hello")]
    assert "heard" in talk.kinds()


async def test_a_long_silence_is_a_turn_if_the_client_wants_it(line: Any) -> None:
    talk = Conversation(line, idle_ms=5000)
    await talk.hears(SILENCE, 4980)
    assert talk.kinds() == []
    await talk.hears(SILENCE, 40)
    assert talk.kinds()[0] == "idle"
    assert talk.talker.prompts == [Idle()]
