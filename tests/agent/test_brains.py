"""The brains that do what they are told: echo and script; and the one that asks a model."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from telbridge.agent.brains.chat import NOT_REACHED, ChatTalker
from telbridge.agent.brains.echo import EchoBrain
from telbridge.agent.brains.script import ScriptBrain, load_script
from telbridge.agent.brains.talking import Say, Spoken
from telbridge.agent.events import (
    AudioIn,
    AudioText,
    Configured,
    ReplyCancelled,
    ReplyRequested,
    TextIn,
)
from telbridge.agent.settings import ChatSettings
from telbridge.agent.toml_file import ScriptError
from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat


def configured(
    source: AudioFormat = PCMU_8K, output: AudioFormat = PCMU_8K, *, by_client: bool = True
) -> Configured:
    return Configured(source, output, "", None, False, (), by_client)


# -- echo -----------------------------------------------------------------------------------------------


def test_echo_passes_the_text_on_untouched_within_one_reply(line: Any) -> None:
    brain = EchoBrain(line)
    brain.receive(configured(), 0)
    for text in ("AAAA", "no base64 at all", "////"):
        brain.receive(AudioText(text), 0)
    assert line.took() == [
        ("begin",),
        ("audio_text", "AAAA"),
        ("audio_text", "no base64 at all"),
        ("audio_text", "////"),
    ]


def test_echo_takes_the_greeting_for_its_reply_and_another_after_a_cancel(line: Any) -> None:
    brain = EchoBrain(line)
    brain.receive(configured(), 0)
    reply = line.requested()
    brain.receive(ReplyRequested(reply, None, PCMU_8K, False), 0)
    brain.receive(AudioText("AAAA"), 0)
    assert line.took() == [("audio_text", "AAAA")]
    line.open.clear()
    brain.receive(ReplyCancelled(reply), 0)
    brain.receive(AudioText("AAAA"), 0)
    assert line.took() == [("begin",), ("audio_text", "AAAA")]


def test_echo_converts_only_where_the_directions_differ(line: Any) -> None:
    brain = EchoBrain(line)
    brain.receive(configured(PCMU_8K, PCMA_8K), 0)
    brain.receive(AudioText(b64encode(b"\xff\x80").decode()), 0)
    brain.receive(AudioText("*"), 0)
    assert line.took()[1] == ("audio", b"\xd5\xaa")


# -- script ---------------------------------------------------------------------------------------------


def script(tmp_path: Path, line: Any, text: str) -> ScriptBrain:
    path = tmp_path / "script.toml"
    path.write_text(text)
    brain = ScriptBrain(line, load_script(path), None)
    brain.receive(configured(by_client=False), 0)
    return brain


def test_a_reply_may_come_at_a_given_moment_and_pace(tmp_path: Path, line: Any) -> None:
    brain = script(
        tmp_path,
        line,
        '[[step]]\non = "configured"\nafter_ms = 500\n'
        'reply = { silence = true, ms = 60, chunk_ms = 20, pace = 1.0, words = "Hm." }',
    )
    brain.receive(configured(), 0)
    line.pass_ms(499)
    assert line.took() == []
    line.pass_ms(1)
    chunk = ("audio", b"\xff" * 160)
    assert line.took() == [("begin",), ("words", "Hm."), chunk]
    line.pass_ms(20)
    assert line.took() == [chunk]
    line.pass_ms(20)
    assert line.took() == [chunk, ("end",)]


def test_speech_started_can_follow_the_reply_or_the_caller(tmp_path: Path, line: Any) -> None:
    brain = script(
        tmp_path,
        line,
        '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 5000 }\n'
        '[[step]]\non = "reply_started"\nafter_ms = 1500\nevent = "speech_started"\n'
        '[[step]]\non = "caller_stops"\nevent = "speech_stopped"\nheard = "Hello."',
    )
    brain.receive(ReplyRequested(line.requested(), None, PCMU_8K, False), 0)
    assert sum(len(payload) for kind, *rest in line.took() if kind == "audio" for payload in rest) == 40_000
    line.pass_ms(1500)
    assert line.took() == [("speech_started", 0)]
    for frame in [b"\x20" * 160] * 5 + [b"\xff" * 160] * 25:
        brain.receive(AudioIn(frame), 0)
    assert line.took() == [("speech_stopped", 500), ("heard", "Hello.")]


def test_a_request_without_a_step_is_answered_by_nothing(tmp_path: Path, line: Any) -> None:
    script(tmp_path, line, "").receive(ReplyRequested(line.requested(), None, PCMU_8K, False), 0)
    assert line.took() == [("end",)]


def test_texts_are_matched_and_steps_wear_out(tmp_path: Path, line: Any) -> None:
    brain = script(tmp_path, line, "[[step]]\non = 'text'\nmatch = 'pressed 5$'\nreply = { words = 'Five.' }")
    for text in ("[DTMF] caller pressed 4", "[DTMF] caller pressed 5", "[DTMF] caller pressed 5"):
        brain.receive(TextIn(text, "user"), 0)
    assert line.took() == [("begin",), ("words", "Five."), ("end",)]


@pytest.mark.parametrize(
    "misdeed",
    [
        "garbage",
        "not_an_object",
        "unknown_event",
        "missing_fields",
        "bad_base64",
        "strange_audio",
        "server_error",
    ],
)
def test_misdeeds_are_one_message(tmp_path: Path, line: Any, misdeed: str) -> None:
    script(tmp_path, line, f'[[step]]\non = "start"\nmisdeed = "{misdeed}"')
    assert [kind for kind, *_ in line.took()] == ["misdeed"]


def test_half_a_minute_in_one_message(tmp_path: Path, line: Any) -> None:
    script(tmp_path, line, '[[step]]\non = "start"\nmisdeed = "huge_audio"')
    assert [len(payload) for kind, *rest in line.took() if kind == "audio" for payload in rest] == [240_000]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[step]]\non = "start"', "step.1: exactly one of `reply`, `event`, `misdeed`"),
        (
            '[[step]]\non = "start"\nreply = { tone_hs = 3 }',
            "step.1.reply.tone_hs: no such setting; did you mean `tone_hz`?",
        ),
        ('[[step]]\non = "start"\nreply = { wav = "no.wav" }', "step.1.reply.wav: "),
        ('[[step]]\non = "text"\nmatch = "("\nmisdeed = "close"', "step.1.match: not a regular expression"),
    ],
)
def test_faults_of_a_script_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    assert caught.value.lines[0].startswith(f"{path}: {said}")


# -- chat -----------------------------------------------------------------------------------------------


class Model:
    """An OpenAI-compatible endpoint that writes what it was told, a few letters at a time."""

    def __init__(self, answer: str, status: int = 200) -> None:
        self.answer, self.status = answer, status
        self.requests: list[tuple[str, dict[str, Any]]] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.headers.get("Authorization", ""), await request.json()))
        if self.status != 200:
            return web.Response(status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for start in range(0, len(self.answer), 5):
            delta = {"choices": [{"delta": {"content": self.answer[start : start + 5]}}]}
            await response.write(f"data: {json.dumps(delta)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def serve(self) -> TestServer:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        return TestServer(app)


async def answers(talker: ChatTalker, text: str) -> list[str]:
    return [part.text async for part in talker.answer(Spoken(text)) if isinstance(part, Say)]


async def test_chat_speaks_sentence_by_sentence_and_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_TEST_KEY", "secret")
    model = Model("Dr. Low is in. He is free at 3.30 today! Shall I book?")
    async with model.serve() as server, aiohttp.ClientSession() as http:
        talker = ChatTalker(http, ChatSettings(url=str(server.make_url("/v1")), key_env="CHAT_TEST_KEY"))
        talker.configured("You work for a doctor.")
        assert await answers(talker, "Hello") == [
            "Dr. Low is in.",
            "He is free at 3.30 today!",
            "Shall I book?",
        ]
        talker.said("Dr. Low is in.")
        await answers(talker, "What?")
    key, request = model.requests[-1]
    assert key == "Bearer secret"
    assert "You work for a doctor." in request["messages"][0]["content"]
    assert [m["content"] for m in request["messages"][1:]] == ["Hello", "Dr. Low is in.", "What?"]


async def test_chat_without_its_model_says_so() -> None:
    async with Model("", status=500).serve() as server, aiohttp.ClientSession() as http:
        talker = ChatTalker(http, ChatSettings(url=str(server.make_url("/v1"))))
        assert await answers(talker, "Hello") == [NOT_REACHED]
