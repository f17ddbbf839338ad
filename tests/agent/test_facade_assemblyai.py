"""AssemblyAI's facade against the vendor's pages; the vendor has no client for it, so one is written here
from the messages that the pages print."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.agent.events import (
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Misdeed,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
    TextIn,
    ToolResult,
    TurnId,
)
from telbridge.agent.facade import FacadeOptions, Updates, Wants
from telbridge.agent.facades.assemblyai import door as door_assemblyai
from telbridge.agent.facades.assemblyai.facade import AHEAD_MAX_MS, READY_AFTER_MS, AssemblyAIFacade
from telbridge.agent.facades.assemblyai.schema import CLIENT_EVENTS
from telbridge.agent.facades.assemblyai.store import GRACE_NS, Dropped, Tokens
from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K

Json = dict[str, Any]
MS = 1_000_000
FRAME = b"\x7f" * 160
FRAME_TEXT = b64encode(FRAME).decode()
PCMU = {"format": {"encoding": "audio/pcmu"}}
PHONE = {"input": PCMU, "output": PCMU}
WEATHER = {"type": "function", "name": "get_weather", "description": "Of a city.", "parameters": {}}

# All server messages of the vendor's events reference: what each must have, and what else it may have.
SERVER_MESSAGES: dict[str, tuple[set[str], set[str]]] = {
    "session.ready": ({"session_id", "config", "expires_at", "resume_token"}, set()),
    "session.updated": ({"config"}, set()),
    "session.ended": ({"session_duration_seconds", "audio_duration_seconds"}, set()),
    "session.error": ({"code", "message"}, {"param", "session_id"}),
    "input.speech.started": (set(), set()),
    "input.speech.stopped": (set(), set()),
    "transcript.user.delta": ({"item_id", "text"}, set()),
    "transcript.user": ({"item_id", "text"}, set()),
    "reply.started": ({"reply_id", "item_id"}, set()),
    "reply.audio": ({"data", "reply_id"}, set()),
    "transcript.agent.delta": ({"reply_id", "item_id", "delta", "start_ms", "end_ms"}, set()),
    "transcript.agent": ({"text", "reply_id", "item_id", "interrupted"}, set()),
    "reply.done": ({"reply_id", "status"}, set()),
    "tool.call": ({"call_id", "name", "arguments"}, set()),
}
ERROR_CODES = {
    "unauthorized",
    "internal_error",
    "session_not_found",
    "session_expired",
    "agent_not_found",
    "invalid_format",
    "invalid_audio",
    "invalid_value",
    "invalid_config",
    "immutable_field",
    "agent_id_not_first",
    "audio_rate_violation",
}


def judged(text: str | bytes) -> Json:
    """The message, if the vendor's reference knows it and all that is in it."""
    assert isinstance(text, str)  # the API has no binary frames
    message: Json = json.loads(text)
    must, may = SERVER_MESSAGES[message["type"]]
    keys = set(message) - {"type", "timestamp"}
    assert must <= keys <= must | may, message
    assert isinstance(message["timestamp"], float)
    assert message["type"] != "session.error" or message["code"] in ERROR_CODES
    assert message["type"] != "reply.done" or message["status"] in ("completed", "interrupted")
    return message


@dataclass
class Client:
    """A client of one facade, and its brain and clock."""

    facade: AssemblyAIFacade
    now_ns: int = 0

    def says(self, kind: str, **fields: Any) -> list[BrainEvent]:
        return self.sends(json.dumps({"type": kind, **fields}))

    def sends(self, text: str | bytes) -> list[BrainEvent]:
        return self.facade.receive(text, now_ns=self.now_ns)

    def updates(self, **session: Any) -> list[BrainEvent]:
        return self.says("session.update", session=session)

    def passes(self, ms: float) -> list[BrainEvent]:
        """Let time go by; what the facade does at its deadlines within it."""
        end_ns = self.now_ns + int(ms * MS)
        events: list[BrainEvent] = []
        while (at_ns := self.facade.deadline_ns()) is not None and at_ns <= end_ns:
            self.now_ns = max(self.now_ns, at_ns)
            events += self.facade.time_passed(now_ns=self.now_ns)
        self.now_ns = end_ns
        return events

    def gets(self) -> list[Json]:
        return [judged(text) for text in self.facade.take_messages()]

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.gets()]

    def error(self) -> tuple[str, str | None]:
        """Code and param of the one message that came."""
        (message,) = self.gets()
        assert message["type"] == "session.error", message
        return message["code"], message.get("param")

    def closed(self) -> int | None:
        return self.facade.close_with[0] if self.facade.close_with else None


def connect(
    wants: Wants = Wants.SAMPLES, updates: Updates = Updates.ANSWER, key: str = "t", **more: Any
) -> Client:
    options = FacadeOptions(key, wants, updates, silence_ms=500, now_ns=0, expires_at_unix_s=5_000)
    return Client(AssemblyAIFacade(options, now_unix_s=1_000.0, **more))


def ready(**session: Any) -> Client:
    """A client whose session is ready, its greeting still open if it has one."""
    client = connect()
    client.updates(**(session or PHONE))
    client.passes(READY_AFTER_MS)
    client.gets()
    return client


# -- the beginning ------------------------------------------------------------------------------------


def test_the_server_says_nothing_before_the_client_does() -> None:
    client = connect()
    assert client.gets() == []
    assert client.facade.deadline_ns() is None
    assert client.facade.configured(by_client=False) is None


def test_an_update_is_answered_by_updated_and_then_ready_with_the_resolved_config() -> None:
    client = connect()
    assert client.updates(system_prompt="Be kind.", tools=[WEATHER], **PHONE) == []
    assert client.kinds() == ["session.updated"]
    (configured,) = client.passes(READY_AFTER_MS)
    assert isinstance(configured, Configured)
    assert (configured.input, configured.output, configured.instructions) == (PCMU_8K, PCMU_8K, "Be kind.")
    assert [tool.name for tool in configured.tools] == ["get_weather"]
    assert configured.by_client and not configured.text_only
    (message,) = client.gets()
    assert (message["type"], message["session_id"], message["expires_at"]) == (
        "session.ready",
        "sess_t",
        5_000.0,
    )
    config = message["config"]
    assert config["input"]["format"] == {"encoding": "audio/pcmu", "sample_rate": 8000}
    assert config["greeting"] is None and config["input"]["turn_detection"] is None
    assert config["tools"][0]["timeout_seconds"] == 120 and config["tools"][0]["http"] is None


def test_formats_default_to_pcm_and_may_differ() -> None:
    configured = connect_and_configure(input={"format": {"encoding": "audio/pcma"}})
    assert (configured.input, configured.output) == (PCMA_8K, PCM_24K)


def connect_and_configure(**session: Any) -> Configured:
    client = connect()
    client.updates(**session)
    (configured,) = client.passes(READY_AFTER_MS)
    assert isinstance(configured, Configured)
    return configured


def test_turn_detection_reaches_the_brain() -> None:
    turns = connect_and_configure(
        input={"turn_detection": {"vad_threshold": 0.3, "min_silence": 450, "interrupt_response": False}}
    ).turns
    assert turns is not None
    assert (turns.threshold, turns.silence_ms, turns.interrupts) == (0.3, 450, False)
    turns = connect_and_configure(input={"turn_detection": {"max_silence": 300}}).turns
    assert turns is not None and turns.silence_ms == 300


def test_the_greeting_is_an_ordinary_reply_right_behind_ready() -> None:
    client = connect()
    client.updates(greeting="Hello there.", **PHONE)
    client.gets()
    configured, request = client.passes(READY_AFTER_MS)
    assert isinstance(configured, Configured)
    assert isinstance(request, ReplyRequested)
    assert (request.instructions, request.output) == ("Say exactly: Hello there.", PCMU_8K)
    assert client.kinds() == ["session.ready", "reply.started"]
    client.facade.end_reply(request.reply)
    assert client.kinds() == ["reply.done"]


def test_audio_before_ready_is_dropped_and_everything_else_waits() -> None:
    client = connect()
    client.updates(**PHONE)
    assert client.says("input.audio", audio=FRAME_TEXT) == []
    assert client.says("conversation.message", role="system", content="A fact.") == []
    assert client.says("tool.result", call_id="nothing", result="{}") == []
    assert client.kinds() == ["session.updated"]
    assert client.passes(READY_AFTER_MS)[1:] == [TextIn("A fact.", "system")]
    assert client.kinds() == ["session.ready", "session.error"]
    assert client.says("input.audio", audio=FRAME_TEXT) == [AudioIn(FRAME)]


@pytest.mark.parametrize("kind", ["input.audio", "reply.create", "session.end", "conversation.message"])
def test_anything_but_a_configuration_first_is_fatal(kind: str) -> None:
    client = connect()
    fields = {"input.audio": {"audio": ""}, "conversation.message": {"role": "user", "content": "x"}}
    assert client.says(kind, **fields.get(kind, {})) == []
    assert client.error()[0] == "invalid_format"
    assert client.closed() == 1008
    assert client.updates(**PHONE) == []
    assert client.gets() == []


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"output": {"voice": "claire"}}, "invalid_value", "session.output.voice"),
        ({"llm": []}, "invalid_value", "session.llm"),
        ({"pre_connect_requests": []}, "invalid_value", "session.pre_connect_requests"),
        ({"input": {"echo_cancellation": True}}, "invalid_value", "session.input.echo_cancellation"),
        (
            {"input": {"format": {"encoding": "audio/opus"}}},
            "invalid_value",
            "session.input.format.encoding",
        ),
        (
            {"input": {"format": {"encoding": "audio/pcmu", "sample_rate": 24000}}},
            "invalid_value",
            "session.input.format",
        ),
        (
            {"input": {"turn_detection": {"vad_threshold": 1.1}}},
            "invalid_value",
            "session.input.turn_detection.vad_threshold",
        ),
        (
            {"input": {"turn_detection": {"min_silence": 49}}},
            "invalid_value",
            "session.input.turn_detection.min_silence",
        ),
        (
            {"input": {"turn_detection": {"interruption_delay": 1001}}},
            "invalid_value",
            "session.input.turn_detection.interruption_delay",
        ),
        (
            {"input": {"turn_detection": {"min_silence": 900, "max_silence": 800}}},
            "invalid_config",
            "session.input.turn_detection",
        ),
        ({"input": {"keyterms": ["x"] * 101}}, "invalid_value", "session.input.keyterms"),
        (
            {"input": {"transcription_prompt": "x" * 1751}},
            "invalid_value",
            "session.input.transcription_prompt",
        ),
        ({"input": {"transcription_mode": "fast"}}, "invalid_value", "session.input.transcription_mode"),
        ({"input": {"voice_focus": "near_field"}}, "invalid_value", "session.input.voice_focus"),
        ({"output": {"volume": 101}}, "invalid_value", "session.output.volume"),
        ({"tools": [{"name": "x"}]}, "invalid_value", "session.tools[0].type"),
        (
            {"tools": [{**WEATHER, "timeout_seconds": 301}]},
            "invalid_value",
            "session.tools[0].timeout_seconds",
        ),
        (
            {"tools": [{**WEATHER, "parameters": {"properties": []}}]},
            "invalid_value",
            "session.tools[0].parameters.properties",
        ),
        (
            {"tools": [{**WEATHER, "dtmf_collected_arguments": []}]},
            "invalid_value",
            "session.tools[0].dtmf_collected_arguments",
        ),
        ({"tools": [{**WEATHER, "http": {"url": "https://x"}}]}, "invalid_value", "session.tools[0].http"),
        ({"tools": [WEATHER, WEATHER]}, "invalid_config", "session.tools"),
        ({"agent_id": "agent_" + "0" * 32, "greeting": "Hi"}, "invalid_value", "session.agent_id"),
        ({"agent_id": "nobody"}, "agent_not_found", "session.agent_id"),
    ],
)
def test_a_wrong_value_in_the_first_update_is_fatal_and_in_a_later_one_not(
    session: Json, code: str, param: str
) -> None:
    client = connect()
    assert client.updates(**session) == []
    assert client.error() == (code, param)
    assert client.closed() == 1008
    client = ready(system_prompt="kept")
    assert client.updates(system_prompt="lost", **session) == []
    assert client.error()[0] in (code, "immutable_field", "agent_id_not_first")
    assert client.closed() is None
    configured = client.facade.configured(by_client=True)
    assert configured is not None and configured.instructions == "kept"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"greeting": None}, "session.greeting"),
        ({"input": []}, "session.input"),
        ({"input": {"turn_detection": {"min_silence": "450"}}}, "session.input.turn_detection.min_silence"),
    ],
)
def test_a_misshapen_first_update_leaves_room_for_a_better_one(session: Json, param: str) -> None:
    client = connect()
    client.updates(**session)
    assert client.error() == ("invalid_format", param)
    assert client.closed() is None
    client.updates(**PHONE)
    assert client.kinds() == ["session.updated"]


@pytest.mark.parametrize("agent_id", ["agent_" + "0a" * 16, "123e4567-e89b-12d3-a456-426614174000"])
def test_a_stored_agent_stands_alone_and_may_be_changed_later(agent_id: str) -> None:
    client = ready(agent_id=agent_id)
    client.updates(system_prompt="You are Sam.")
    (message,) = client.gets()
    assert (message["config"]["id"], message["config"]["system_prompt"]) == (agent_id, "You are Sam.")
    client.updates(agent_id=agent_id)
    assert client.error() == ("agent_id_not_first", "session.agent_id")
    assert client.closed() is None


@pytest.mark.parametrize("treatment", [Updates.IGNORE, Updates.REFUSE])
def test_a_script_may_leave_updates_unanswered_or_refuse_them(treatment: Updates) -> None:
    client = connect(updates=treatment)
    client.updates(**PHONE)
    if treatment is Updates.IGNORE:
        assert client.gets() == [] and client.closed() is None
    else:
        assert client.error() == ("invalid_value", "session")
        assert client.closed() == 1008


# -- updates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"greeting": "Hi"}, "session.greeting"),
        ({"output": {"voice": "alba"}}, "session.output.voice"),
        ({"output": {"format": {"encoding": "audio/pcmu"}}}, "session.output.format"),
    ],
)
def test_what_is_locked_cannot_be_set_again(session: Json, param: str) -> None:
    client = ready()
    assert client.updates(**session) == []
    assert client.error() == ("immutable_field", param)
    assert client.closed() is None


def test_an_update_is_a_patch_but_tools_are_replaced() -> None:
    client = ready(system_prompt="Old.", tools=[WEATHER], input={"turn_detection": {"min_silence": 300}})
    (configured,) = client.updates(
        tools=[{**WEATHER, "name": "other"}],
        input={"keyterms": ["telbridge"], "turn_detection": {"vad_threshold": 0.2}},
        output={"volume": 50},
    )
    assert isinstance(configured, Configured) and configured.turns is not None
    assert (configured.instructions, [tool.name for tool in configured.tools]) == ("Old.", ["other"])
    assert (configured.turns.silence_ms, configured.turns.threshold) == (300, 0.2)
    (message,) = client.gets()
    assert message["type"] == "session.updated"
    assert (message["config"]["output"]["volume"], message["config"]["input"]["keyterms"]) == (
        50,
        ["telbridge"],
    )


# -- messages that cannot be understood ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{",
        b"\xff\xfe",
        "[]",
        '{"type": "session.update", "session": {"tools": NaN}}',
        "{}",
        '{"type": 7}',
        '{"type": "reply.cancel", "reply_id": "resp_1"}',
        '{"type": "session.resume", "session_id": "sess_t"}',
        '{"type": "input.audio"}',
        '{"type": "input.audio", "data": "AAAA"}',
        '{"type": "tool.result", "call_id": "c", "result": {"ok": true}}',
        '{"type": "conversation.message", "role": "assistant", "content": "x"}',
        '{"type": "session.update"}',
    ],
)
def test_what_cannot_be_understood_is_an_error_and_the_session_goes_on(text: str | bytes) -> None:
    client = ready()
    assert client.sends(text) == []
    assert client.error() == ("invalid_format", None)
    assert client.closed() is None


def test_an_unknown_type_is_named() -> None:
    client = ready()
    client.says("reply.truncate")
    assert client.gets()[0]["message"] == "Unknown message type: reply.truncate"


# -- caller audio -------------------------------------------------------------------------------------


def test_audio_that_is_no_base64_is_refused() -> None:
    client = ready()
    assert client.says("input.audio", audio="*") == []
    assert client.error() == ("invalid_audio", None)


def test_a_brain_that_passes_audio_on_gets_it_undecoded() -> None:
    client = connect(wants=Wants.BASE64)
    client.updates(**PHONE)
    client.passes(READY_AFTER_MS)
    assert client.says("input.audio", audio=FRAME_TEXT) == [AudioText(FRAME_TEXT)]


def test_audio_too_far_ahead_of_time_is_discarded_until_time_has_caught_up() -> None:
    client = ready()
    second = b64encode(b"\xff" * 8000).decode()
    for _ in range(AHEAD_MAX_MS // 1000):
        assert len(client.says("input.audio", audio=second)) == 1
    assert client.says("input.audio", audio=second) == []
    assert client.error() == ("audio_rate_violation", None)
    client.passes(1000)
    assert len(client.says("input.audio", audio=second)) == 1


# -- replies and turns --------------------------------------------------------------------------------


def begin(client: Client) -> ReplyId:
    reply = client.facade.begin_reply()
    assert reply is not None
    return reply


def test_a_reply_from_its_start_to_its_end() -> None:
    client = ready()
    reply = begin(client)
    assert client.facade.begin_reply() is None
    client.facade.words(reply, "Good day, Sam.")
    client.facade.audio(reply, FRAME)
    client.facade.audio_text(reply, FRAME_TEXT)
    client.facade.end_reply(reply)
    assert not client.facade.is_open(reply)
    client.passes(40)
    messages = client.gets()
    assert [message["type"] for message in messages] == [
        "reply.started",
        *["transcript.agent.delta"] * 3,
        *["reply.audio"] * 2,
        "transcript.agent",
        "reply.done",
    ]
    assert {message["reply_id"] for message in messages} == {reply}
    assert "".join(message["delta"] for message in messages[1:4]) == "Good day, Sam."
    assert messages[1]["end_ms"] == messages[2]["start_ms"]
    assert b64decode(messages[4]["data"]) == FRAME == b64decode(messages[5]["data"])
    assert (messages[6]["text"], messages[6]["interrupted"]) == ("Good day, Sam.", False)
    assert messages[7]["status"] == "completed"


def test_the_caller_cuts_a_reply_short_and_its_transcript_holds_what_was_spoken() -> None:
    client = ready()
    reply = begin(client)
    client.facade.words(reply, "One two three four")
    client.facade.audio(reply, b"\xff" * 8000)
    client.gets()
    client.passes(480)
    client.says("input.audio", audio=FRAME_TEXT)
    client.facade.speech_started(480)
    started, transcript, done = client.gets()
    assert started["type"] == "input.speech.started"
    assert (transcript["text"], transcript["interrupted"]) == ("One two", True)
    assert (done["type"], done["status"]) == ("reply.done", "interrupted")
    assert not client.facade.is_open(reply)
    client.facade.audio(reply, FRAME)
    client.facade.words(reply, "five")
    client.facade.end_reply(reply)
    assert client.gets() == []


def test_a_reply_is_not_over_before_it_has_been_heard() -> None:
    client = ready()
    reply = begin(client)
    client.facade.words(reply, "One two")
    client.facade.audio(reply, b"\xff" * 8000)
    client.facade.end_reply(reply)
    client.passes(500)
    assert "reply.done" not in client.kinds()
    client.says("input.audio", audio=FRAME_TEXT)
    client.facade.speech_started(500)
    _, transcript, done = client.gets()
    assert (transcript["text"], done["status"]) == ("One", "interrupted")


def test_the_brain_may_go_on_at_once() -> None:
    client = ready()
    reply = begin(client)
    client.facade.audio(reply, b"\xff" * 8000)
    client.facade.end_reply(reply)
    begin(client)
    kinds = [(message["type"], message.get("status")) for message in client.gets()]
    assert kinds[2:] == [("reply.done", "completed"), ("reply.started", None)]


def test_with_barge_in_off_the_reply_goes_on() -> None:
    client = ready(input={"turn_detection": {"interrupt_response": False}})
    reply = begin(client)
    client.facade.speech_started(0)
    assert client.facade.is_open(reply)
    assert client.kinds() == ["reply.started", "input.speech.started"]


def test_a_turn_of_the_callers_and_its_words() -> None:
    client = ready()
    client.facade.speech_started(0)
    turn = client.facade.speech_stopped(900)
    client.facade.heard(turn, "Hello?", 900)
    client.facade.heard(TurnId("cough"), "", 100)
    messages = client.gets()
    assert [message["type"] for message in messages] == [
        "input.speech.started",
        "input.speech.stopped",
        "transcript.user.delta",
        "transcript.user",
    ]
    assert (messages[3]["item_id"], messages[3]["text"]) == (turn, "Hello?")


def test_a_reply_that_is_asked_for_takes_the_place_of_the_running_one() -> None:
    client = ready()
    (request,) = client.says("reply.create", instructions="Say exactly: Hi.")
    assert isinstance(request, ReplyRequested) and request.instructions == "Say exactly: Hi."
    cancelled, other = client.says("reply.create")
    assert cancelled == ReplyCancelled(request.reply)
    assert isinstance(other, ReplyRequested) and other.instructions is None
    assert client.kinds() == ["reply.started", "reply.done", "reply.started"]


def test_a_message_of_the_conversation_asks_for_no_reply() -> None:
    client = ready()
    assert client.says("conversation.message", role="user", content="42#") == [TextIn("42#", "user")]
    assert client.gets() == [] and client.facade.deadline_ns() is None


# -- tools --------------------------------------------------------------------------------------------


def call(client: Client, reply: ReplyId) -> str:
    return client.facade.call_tool(reply, "get_weather", {"city": "Rome"})


def test_a_result_is_answered_by_a_reply_of_its_own_once_the_calls_reply_is_over() -> None:
    client = ready(tools=[WEATHER])
    reply = begin(client)
    call_id = call(client, reply)
    message = client.gets()[1]
    assert (message["call_id"], message["name"], message["arguments"]) == (
        call_id,
        "get_weather",
        {"city": "Rome"},
    )
    assert client.says("tool.result", call_id=call_id, result='{"sky":"blue"}') == [
        ToolResult(call_id, '{"sky":"blue"}')
    ]
    assert client.passes(1000) == []
    client.facade.end_reply(reply)
    (request,) = client.passes(0)
    assert isinstance(request, ReplyRequested) and request.instructions is None
    assert client.kinds() == ["reply.done", "reply.started"]


def test_the_answer_waits_for_the_last_result_and_is_given_once() -> None:
    client = ready(tools=[WEATHER])
    reply = begin(client)
    first, second = call(client, reply), call(client, reply)
    client.facade.end_reply(reply)
    client.says("tool.result", call_id=first, result="{}")
    assert client.passes(100) == []
    client.says("tool.result", call_id=second, result="{}", is_error=True)
    client.facade.end_reply(begin(client))  # the brain answers by itself
    assert client.passes(100) == []


@pytest.mark.parametrize("again", [True, False])
def test_a_result_for_no_call_is_refused(again: bool) -> None:
    client = ready(tools=[WEATHER])
    call_id = call(client, begin(client))
    if again:
        client.says("tool.result", call_id=call_id, result="{}")
    client.gets()
    assert client.says("tool.result", call_id=call_id if again else "other", result="{}") == []
    assert client.error() == ("invalid_value", "call_id")


def test_an_interruption_discards_the_calls_of_its_reply() -> None:
    client = ready(tools=[WEATHER])
    call_id = call(client, begin(client))
    client.facade.speech_started(0)
    client.gets()
    assert client.says("tool.result", call_id=call_id, result="{}") == []
    assert client.gets() == [] and client.passes(200_000) == []


def test_the_agent_apologises_for_a_function_that_takes_too_long() -> None:
    client = ready(tools=[{**WEATHER, "timeout_seconds": 2}])
    reply = begin(client)
    call_id = call(client, reply)
    client.facade.end_reply(reply)
    assert client.passes(1999) == []
    (request,) = client.passes(1)
    assert isinstance(request, ReplyRequested) and (request.instructions or "").startswith("Say exactly: ")
    client.gets()
    assert client.says("tool.result", call_id=call_id, result="{}") == []
    assert client.gets() == []


# -- the end, and resumption ----------------------------------------------------------------------------


def test_an_orderly_end() -> None:
    client = ready()
    client.says("input.audio", audio=FRAME_TEXT)
    client.passes(960)
    client.says("session.end")
    (message,) = client.gets()
    assert (message["type"], message["session_duration_seconds"]) == ("session.ended", 1.0)
    assert message["audio_duration_seconds"] == 0.02
    assert client.closed() == 1000
    assert client.says("input.audio", audio=FRAME_TEXT) == []


def test_the_longest_session_ends_with_an_error() -> None:
    client = ready()
    assert client.facade.expire() == (1008, "session_expired")
    assert client.error() == ("session_expired", None)


def test_a_tokens_cap_ends_the_session() -> None:
    client = connect(session_max_s=60)
    client.updates(**PHONE)
    client.passes(READY_AFTER_MS)
    assert client.gets()[1]["expires_at"] == 1_060.0
    client.passes(60_000)
    assert client.error() == ("session_expired", None)
    assert client.closed() == 1008


def test_a_dropped_session_is_resumed_without_its_greeting() -> None:
    dropped = Dropped()
    first = connect(dropped=dropped)
    first.updates(system_prompt="Be kind.", greeting="Hi", **PHONE)
    first.passes(READY_AFTER_MS)
    first.facade.left(now_ns=0)
    second = connect(dropped=dropped, key="u")
    second.now_ns = GRACE_NS
    assert second.says("session.resume", session_id="sess_t") == []
    (configured,) = second.passes(READY_AFTER_MS)
    assert isinstance(configured, Configured) and configured.instructions == "Be kind."
    (message,) = second.gets()
    assert (message["type"], message["session_id"]) == ("session.ready", "sess_t")


def test_what_has_ended_or_waited_too_long_cannot_be_resumed() -> None:
    dropped = Dropped()
    ended, late = connect(dropped=dropped), connect(dropped=dropped, key="late")
    for client in (ended, late):
        client.updates(**PHONE)
        client.passes(READY_AFTER_MS)
    ended.says("session.end")
    for client in (ended, late):
        client.facade.left(now_ns=0)
    for session_id, code in (("sess_t", "session_not_found"), ("sess_late", "session_expired")):
        client = connect(dropped=dropped)
        client.now_ns = GRACE_NS + 1
        client.says("session.resume", session_id=session_id)
        assert client.error() == (code, None)
        assert client.closed() == 1008


def test_a_token_opens_one_session_within_its_time() -> None:
    tokens = Tokens()
    tokens.add("a", expires_ns=10, session_max_s=60, now_ns=0)
    tokens.add("b", expires_ns=10, session_max_s=60, now_ns=0)
    assert tokens.redeem("a", now_ns=9) == 60
    assert tokens.redeem("a", now_ns=9) is None
    assert tokens.redeem("b", now_ns=10) is None


# -- robustness ---------------------------------------------------------------------------------------


FACADE_MISDEEDS = [
    Misdeed.GARBAGE,
    Misdeed.NOT_AN_OBJECT,
    Misdeed.UNKNOWN_EVENT,
    Misdeed.MISSING_FIELDS,
    Misdeed.BAD_BASE64,
    Misdeed.STRANGE_AUDIO,
    Misdeed.SERVER_ERROR,
]


@pytest.mark.parametrize("misdeed", FACADE_MISDEEDS)
def test_every_misdeed_is_worded(misdeed: Misdeed) -> None:
    (text,) = ready().facade.wrong(misdeed)
    if misdeed is Misdeed.GARBAGE:
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(text)
    else:
        json.loads(text)


JUNK = st.sampled_from([None, True, -1, 0.5, 10**400, float("nan"), "", "x", "\ud800", [], [None], {}]) | (
    st.sampled_from(
        [{"type": "server_vad"}, WEATHER, [WEATHER], {"encoding": "audio/pcma"}, {"min_silence": 900}]
    )
)
KEYS = ("session", "audio", "call_id", "result", "role", "content", "instructions", "session_id")
SESSIONS = st.dictionaries(
    st.sampled_from(["agent_id", "system_prompt", "greeting", "tools", "input", "output", "llm"]),
    JUNK
    | st.dictionaries(st.sampled_from(["format", "turn_detection", "voice", "volume"]), JUNK)
    | st.just({"format": {"encoding": "audio/pcmu"}}),
    max_size=3,
)
MESSAGES = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.fixed_dictionaries(
        {"type": st.sampled_from(list(CLIENT_EVENTS))},
        optional={**dict.fromkeys(KEYS, JUNK), "session": SESSIONS},
    ).map(json.dumps),
    st.sampled_from(
        [
            json.dumps({"type": "session.update", "session": PHONE}),
            json.dumps({"type": "input.audio", "audio": FRAME_TEXT}),
            json.dumps({"type": "reply.create"}),
            json.dumps({"type": "session.end"}),
        ]
    ),
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.sampled_from([0, 20, 50, 40_000])), max_size=6))
def test_no_client_can_make_the_facade_fail(messages: list[tuple[str | bytes, int]]) -> None:
    client = connect(session_max_s=60)
    for message, ms in messages:
        events = client.sends(message)
        events += client.passes(ms)
        for event in events:
            if isinstance(event, ReplyRequested):
                client.facade.words(event.reply, "Yes.")
                client.facade.call_tool(event.reply, "f", {})
                client.facade.end_reply(event.reply)
        client.gets()


# -- a raw client on the running server -----------------------------------------------------------------


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch, settings: AgentSettings) -> AsyncIterator[str]:
    monkeypatch.setattr("telbridge.agent.server.DOORS", (door_assemblyai.routes,))
    async with serve(settings) as port:
        yield f"http://127.0.0.1:{port}"


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> list[Json]:
    """All messages up to the first of a kind, each judged."""
    messages: list[Json] = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(judged(await asyncio.wait_for(socket.receive_str(), 30)))
    return messages


async def closing_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    message = await asyncio.wait_for(socket.receive(), 30)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return int(message.data)


def script(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return AgentSettings(brain="script", script=path)


WHOLE_SESSION = """
[[step]]
on = "request"
reply = { tone_hz = 440, ms = 300, words = "Welcome." }

[[step]]
on = "caller_stops"
event = "speech_stopped"
heard = "What is the weather?"

[[step]]
on = "caller_stops"
reply = { words = "One moment.", tool = "get_weather", arguments = { city = "Rome" } }

[[step]]
on = "caller_starts"
times = 0
event = "speech_started"

[[step]]
on = "tool_result"
reply = { tone_hz = 440, ms = 20000, words = "Blue sky all over Rome.", pace = 1, open = true }
"""


async def test_a_whole_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Connect, configure, greeting, a spoken turn, a function, an interruption, the end."""
    loud, quiet = (b64encode(octet * 160).decode() for octet in (b"\x00", b"\xff"))

    async def speaks(socket: aiohttp.ClientWebSocketResponse) -> None:
        for frame in (loud, quiet):
            for _ in range(25):
                await socket.send_json({"type": "input.audio", "audio": frame})

    async with (
        running(monkeypatch, script(tmp_path, WHOLE_SESSION)) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/v1/ws", headers={"Authorization": "Bearer k"}) as socket,
    ):
        session = {"system_prompt": "…", "greeting": "Welcome.", "tools": [WEATHER], **PHONE}
        await socket.send_json({"type": "session.update", "session": session})
        opening = await until(socket, "session.ready")
        assert opening[-1]["config"]["output"]["format"]["encoding"] == "audio/pcmu"
        greeting = await until(socket, "reply.done")
        octets = sum(len(b64decode(m["data"])) for m in greeting if m["type"] == "reply.audio")
        assert octets == 300 * 8
        await speaks(socket)
        turn = await until(socket, "reply.done")
        kinds = [message["type"] for message in turn]
        assert kinds.index("input.speech.started") < kinds.index("transcript.user") < kinds.index("tool.call")
        call_id = next(message["call_id"] for message in turn if message["type"] == "tool.call")
        await socket.send_json({"type": "tool.result", "call_id": call_id, "result": '{"sky":"blue"}'})
        await until(socket, "reply.audio")
        await speaks(socket)
        cut = await until(socket, "reply.done")
        assert cut[-1]["status"] == "interrupted"
        await socket.send_json({"type": "session.end"})
        ended = (await until(socket, "session.ended"))[-1]
        assert ended["audio_duration_seconds"] == 2.0
        assert await closing_code(socket) == 1000


async def test_the_echo_gives_back_what_it_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        running(monkeypatch, AgentSettings(brain="echo")) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/v1/ws") as socket,
    ):
        await socket.send_json({"type": "session.update", "session": PHONE})
        await until(socket, "session.ready")
        frames = [b64encode(bytes([n]) * 160).decode() for n in range(20)]
        for frame in frames:
            await socket.send_json({"type": "input.audio", "audio": frame})
        assert [(await until(socket, "reply.audio"))[-1]["data"] for _ in frames] == frames


async def test_a_wrong_key_is_told_after_the_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    settings = AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")
    async with running(monkeypatch, settings) as url, aiohttp.ClientSession() as http:
        for query, headers in [("", {"Authorization": "Bearer wrong"}), ("?token=invented", {}), ("", {})]:
            async with http.ws_connect(f"{url}/v1/ws{query}", headers=headers) as socket:
                (error,) = await until(socket, "session.error")
                assert (error["code"], error["session_id"], error["param"]) == ("unauthorized", None, None)
                assert await closing_code(socket) == 1008
        for key in ("right", "Bearer right"):
            async with http.ws_connect(f"{url}/v1/ws", headers={"Authorization": key}) as socket:
                await socket.send_json({"type": "session.update", "session": {}})
                await until(socket, "session.ready")


async def test_a_temporary_token_in_place_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    settings = AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")
    headers = {"Authorization": "right"}
    async with running(monkeypatch, settings) as url, aiohttp.ClientSession() as http:

        async def get(query: str, headers: dict[str, str]) -> tuple[int, Json]:
            async with http.get(f"{url}/v1/token{query}", headers=headers) as response:
                return response.status, await response.json()

        assert (await get("?expires_in_seconds=60", {}))[0] == 422
        wrong = await get("?expires_in_seconds=60", {"Authorization": "wrong"})
        assert wrong == (404, {"detail": "Invalid API key"})
        for query in ("", "?expires_in_seconds=601", "?expires_in_seconds=x"):
            status, body = await get(query, headers)
            assert (status, body["detail"][0]["loc"]) == (422, ["query", "expires_in_seconds"])
        status, body = await get("?expires_in_seconds=60&max_session_duration_seconds=60", headers)
        assert (status, body["expires_in_seconds"]) == (200, 60)
        async with http.ws_connect(f"{url}/v1/ws?token={body['token']}") as socket:
            await socket.send_json({"type": "session.update", "session": {}})
            await until(socket, "session.ready")
        async with http.ws_connect(f"{url}/v1/ws?token={body['token']}") as socket:
            assert (await until(socket, "session.error"))[-1]["code"] == "unauthorized"


async def test_a_client_comes_back_to_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, AgentSettings(brain="echo")) as url, aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{url}/v1/ws") as socket:
            await socket.send_json({"type": "session.update", "session": PHONE})
            before = (await until(socket, "session.ready"))[-1]
        async with http.ws_connect(f"{url}/v1/ws") as socket:
            await socket.send_json({"type": "session.resume", "session_id": before["session_id"]})
            after = (await until(socket, "session.ready"))[-1]
            assert (after["session_id"], after["config"]) == (before["session_id"], before["config"])
            await socket.send_json({"type": "input.audio", "audio": FRAME_TEXT})
            await until(socket, "reply.audio")
