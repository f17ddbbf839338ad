"""The Companion facade against the vendor's pages; there is no public client for Python, so one is written
here from the requests and messages that the pages print."""

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
)
from telbridge.agent.facade import FacadeOptions, Updates, Wants
from telbridge.agent.facades.companion import door as door_companion
from telbridge.agent.facades.companion import schema as schema
from telbridge.agent.facades.companion.facade import READY_AFTER_NS, CompanionFacade
from telbridge.agent.facades.companion.schema import COMMANDS, RefusedBodyError, Turns, Wanted
from telbridge.agent.facades.companion.store import TOKEN_LIFE_S, CompanionOptions, Connections, TooManyError
from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_16K

Json = dict[str, Any]
MS = 1_000_000
READY_AFTER_MS = READY_AFTER_NS // MS
FRAME = b"\x01\x02" * 320
FRAME_TEXT = b64encode(FRAME).decode()
VOICE = {"providerConfig": {"voiceId": "alloy"}}
AD_HOC = {"companionId": "comp_abc123", **VOICE}

# All server events that the pages name and this agent sends: the keys of their data.
SERVER_EVENTS: dict[str, set[str]] = {
    "avatar_state_changed": {"state"},
    "talk_state_changed": {"state"},
    "audio_received": {"data"},
    "message_received": {"message"},
    "speech_started": set(),
    "function_implicitly_called": {"call_id", "name", "arguments"},
    "function_call_timeout": {"call_id"},
    "avatar_connection_warning": {"disconnect_after"},
    "session_expired": set(),
    "error": {"code", "message"},
}
MESSAGE_KEYS = {"type", "role", "action", "content", "item_id", "response_id", "timestamp", "reason"}
ACTIONS = {"user": {"completed"}, "assistant": {"created", "delta", "completed", "cancelled"}}


def judged(text: str | bytes) -> tuple[str, Json]:
    """Event and data, if the vendor's pages know the event and all that is in it."""
    assert isinstance(text, str)  # the API has no binary frames
    message: Json = json.loads(text)
    assert set(message) == {"event", "data"}
    event, data = message["event"], message["data"]
    assert set(data) == SERVER_EVENTS[event], message
    if event == "message_received" and data["message"]["type"] != "session":
        inner = data["message"]
        assert set(inner) <= MESSAGE_KEYS and inner["action"] in ACTIONS[inner["role"]], inner
    return event, data


def short(event: str, data: Json) -> str:
    """An event in a word or two."""
    if event == "message_received":
        message = data["message"]
        return f"{message['role']} {message['action']}" if message["type"] == "message" else "session"
    return f"{event.split('_')[0]} {data['state']}" if "state" in data else event


@dataclass
class Client:
    """A client of one facade, and its brain and clock."""

    facade: CompanionFacade
    now_ns: int = 0

    def says(self, kind: str, **data: Any) -> list[BrainEvent]:
        return self.sends(json.dumps({"type": kind, "data": data}))

    def sends(self, text: str | bytes) -> list[BrainEvent]:
        return self.facade.receive(text, now_ns=self.now_ns)

    def writes(self, text: str, role: str = "user", *, answer: bool, delay: bool = False) -> list[BrainEvent]:
        return self.says("send_message", role=role, text=text, trigger_response=answer, delay=delay)

    def passes(self, ms: float) -> list[BrainEvent]:
        """Let time go by; what the facade does at its deadlines within it."""
        end_ns = self.now_ns + int(ms * MS)
        events: list[BrainEvent] = []
        while (at_ns := self.facade.deadline_ns()) is not None and at_ns <= end_ns:
            self.now_ns = max(self.now_ns, at_ns)
            events += self.facade.time_passed(now_ns=self.now_ns)
        self.now_ns = end_ns
        return events

    def gets(self) -> list[tuple[str, Json]]:
        return [judged(text) for text in self.facade.take_messages()]

    def kinds(self) -> list[str]:
        return [short(*message) for message in self.gets()]

    def error(self) -> str:
        """Code of the one message that came."""
        ((event, data),) = self.gets()
        assert event == "error", (event, data)
        code: str = data["code"]
        return code

    def begins(self) -> ReplyId:
        reply = self.facade.begin_reply()
        assert reply is not None
        return reply


def connect(
    wanted: Wanted | None = None,
    wants: Wants = Wants.SAMPLES,
    updates: Updates = Updates.ANSWER,
    **more: Any,
) -> Client:
    options = FacadeOptions("t", wants, updates, silence_ms=500, now_ns=0, expires_at_unix_s=5_000)
    return Client(CompanionFacade(options, wanted or Wanted(), now_unix_s=1_000.0, **more))


def ready(wanted: Wanted | None = None, **more: Any) -> Client:
    """A client whose session is ready; its initial speech, if any, is still open."""
    client = connect(wanted, **more)
    client.passes(READY_AFTER_MS)
    client.gets()
    return client


# -- request bodies -------------------------------------------------------------------------------------


def body(**fields: Any) -> bytes:
    return json.dumps({**AD_HOC, **fields}).encode()


def test_the_pages_own_configuration_is_taken() -> None:
    wanted = schema.websocket_connection(
        body(
            functions=["fn_weather", "fn_booking"],
            faqCollections=["faqc_returns", "faqc_shipping"],
            knowledgeBaseId="col_product_docs",
            language="Spanish",
            externalClientId="user_12345",
            externalClientProfile={"name": "Jane", "plan": "premium", "company": "Acme Corp"},
            tags={"source": "ios-app", "experiment": "v2-onboarding"},
            disableIdleTimeout=True,
            useWebSearch=False,
            mode="conversation",
            modality="audio",
            initialSpeech="Greet the caller.",
            providerConfig={
                "voiceId": "alloy",
                "useGreenVideo": False,
                "settings": {
                    "instructions": "Be kind.",
                    "temperature": 0.3,
                    "turnDetection": {
                        "threshold": 0.9,
                        "prefix_padding_ms": 400,
                        "silence_duration_ms": 500,
                    },
                    "noiseReduction": {"type": "nearField"},
                },
            },
        )
    )
    assert wanted == Wanted(
        instructions="Be kind.",
        turns=Turns(threshold=0.9, prefix_padding_ms=400, silence_duration_ms=500),
        functions=("fn_weather", "fn_booking"),
        initial_speech="Greet the caller.",
        idle_timeout=False,
    )


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"companionId": None}, "companionId"),
        ({"companionId": 7}, "companionId"),
        ({"functions": "fn_weather"}, "functions"),
        ({"functions": [{"name": "inline"}]}, "functions[0]"),
        ({"externalClientId": "+1 555 0100"}, "externalClientId"),
        ({"externalClientId": "x" * 33}, "externalClientId"),
        ({"externalClientProfile": "Jane"}, "externalClientProfile"),
        ({"tags": {"env": 1}}, "tags.env"),
        ({"tags": {"env": "x" * 513}}, "tags.env"),
        ({"tags": {"x" * 65: "y"}}, f"tags.{'x' * 65}.[key]"),
        ({"disableIdleTimeout": "yes"}, "disableIdleTimeout"),
        ({"modality": "video"}, "modality"),
        ({"mode": "puppet"}, "mode"),
        ({"voice": "alloy"}, "voice"),
        (
            {"providerConfig": {"voiceId": "alloy", "settings": {"noiseReduction": {"type": "near_field"}}}},
            "providerConfig.settings.noiseReduction.type",
        ),
        (
            {"providerConfig": {"voiceId": "alloy", "settings": {"turnDetection": {"silenceDurationMs": 5}}}},
            "providerConfig.settings.turnDetection.silenceDurationMs",
        ),
        (
            {"providerConfig": {"voiceId": "alloy", "settings": {"turnDetection": {"threshold": 1.5}}}},
            "providerConfig.settings.turnDetection.threshold",
        ),
        (
            {"providerConfig": {"voiceId": "alloy", "settings": {"temperature": "warm"}}},
            "providerConfig.settings.temperature",
        ),
    ],
)
def test_a_bad_field_is_named_in_the_answer(fields: Json, path: str) -> None:
    with pytest.raises(RefusedBodyError) as caught:
        schema.websocket_connection(body(**fields))
    assert (caught.value.problem["status"], list(caught.value.problem["errors"])) == (400, [path])


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"companionId": NaN}'])
def test_a_body_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(RefusedBodyError):
        schema.websocket_connection(text)


@pytest.mark.parametrize(
    ("config", "detail"),
    [(None, "Voice id is required."), ({"voiceId": "nova"}, "Voice 'nova' is not supported.")],
)
def test_a_voice_is_needed_whatever_the_page_says(config: Json | None, detail: str) -> None:
    with pytest.raises(RefusedBodyError) as caught:
        schema.websocket_connection(body(providerConfig=config))
    assert caught.value.problem["detail"] == detail


def test_an_agents_connection_takes_less() -> None:
    wanted = schema.agent_connection(b'{"channelType": "websocket", "modality": "text", "tags": {"a": "b"}}')
    assert wanted == Wanted(text_only=True)
    for text in (b"{}", b'{"channelType": "webrtc"}', b'{"channelType": "websocket", "language": "es"}'):
        with pytest.raises(RefusedBodyError):
            schema.agent_connection(text)


# -- pending and live connections -----------------------------------------------------------------------


def test_a_token_opens_one_session_within_its_time() -> None:
    connections = Connections(CompanionOptions())
    wanted = Wanted(instructions="x")
    for name in ("a", "b"):
        connections.create(name, f"token {name}", wanted, now_ns=0)
    assert connections.redeem("token a", now_ns=0) == ("a", wanted)
    assert connections.redeem("token a", now_ns=0) is None
    assert connections.redeem("", now_ns=0) is None
    assert connections.redeem("token b", now_ns=TOKEN_LIFE_S * 1000 * MS) is None


def test_as_many_sessions_as_may_be_and_no_more() -> None:
    connections = Connections(CompanionOptions(concurrent_max=2))
    for name in ("a", "b"):
        connections.create(name, name, Wanted(), now_ns=0)
    with pytest.raises(TooManyError) as caught:
        connections.create("c", "c", Wanted(), now_ns=0)
    assert caught.value.retry_after_s is None
    connections.redeem("a", now_ns=0)
    connections.create("c", "c", Wanted(), now_ns=TOKEN_LIFE_S * 1000 * MS)  # b has lapsed, a is live
    connections.ended("a")
    connections.create("d", "d", Wanted(), now_ns=TOKEN_LIFE_S * 1000 * MS)


def test_creations_keep_their_distance() -> None:
    connections = Connections(CompanionOptions(creation_interval_s=5))
    connections.pace(now_ns=0)
    with pytest.raises(TooManyError) as caught:
        connections.pace(now_ns=2_000 * MS)
    assert caught.value.retry_after_s == 3
    connections.pace(now_ns=5_000 * MS)


def test_a_session_deleted_while_its_socket_opens_is_over_at_once() -> None:
    connections = Connections(CompanionOptions())
    connections.create("a", "token", Wanted(), now_ns=0)
    connections.redeem("token", now_ns=0)
    assert connections.abort("a")
    client = connect()
    connections.begun("a", client.facade)
    assert client.facade.close_with == (1000, "connection_aborted")
    assert not connections.abort("a")


# -- the beginning ----------------------------------------------------------------------------------------


def test_a_session_prepares_and_then_is_ready() -> None:
    client = connect(Wanted(instructions="Be kind.", functions=("fn_weather",)))
    assert client.kinds() == ["avatar preparing"]
    assert client.facade.configured(by_client=False) is None
    assert client.facade.begin_reply() is None
    (configured,) = client.passes(READY_AFTER_MS)
    assert isinstance(configured, Configured) and configured.turns is not None
    assert (configured.input, configured.output, configured.instructions) == (PCM_16K, PCM_16K, "Be kind.")
    assert [tool.name for tool in configured.tools] == ["fn_weather"]
    assert (configured.turns.silence_ms, configured.turns.interrupts) == (500, True)
    assert client.kinds() == ["avatar ready", "session"]


@pytest.mark.parametrize(
    ("given_text", "asked"),
    [
        ("Greet the caller warmly.", "Greet the caller warmly."),
        ("say exactly this once: Hello there.", "Say exactly: Hello there."),
    ],
)
def test_the_initial_speech_is_an_instruction(given_text: str, asked: str) -> None:
    client = connect(Wanted(initial_speech=given_text))
    _, request = client.passes(READY_AFTER_MS)
    assert isinstance(request, ReplyRequested) and request.instructions == asked
    assert client.kinds()[-2:] == ["talk preparing", "assistant created"]


def test_before_ready_audio_is_lost_and_commands_wait() -> None:
    client = connect()
    assert client.says("send_audio", data=FRAME_TEXT) == []
    assert client.writes("Greet now.", "system", answer=True) == []
    assert client.says("set_settings", instructions="Be brief.") == []
    _, text, changed, request = client.passes(READY_AFTER_MS)
    assert text == TextIn("Greet now.", "system")
    assert isinstance(changed, Configured) and changed.instructions == "Be brief."
    assert isinstance(request, ReplyRequested) and request.instructions == "Greet now."


# -- commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["data", "audio"])
def test_caller_audio_under_the_new_key_and_the_old(key: str) -> None:
    assert ready().says("send_audio", **{key: FRAME_TEXT}) == [AudioIn(FRAME)]
    assert ready(wants=Wants.BASE64).says("send_audio", **{key: FRAME_TEXT}) == [AudioText(FRAME_TEXT)]


def test_half_a_sample_is_cut_off() -> None:
    assert ready().says("send_audio", data=b64encode(b"\x01\x02\x03").decode()) == [AudioIn(b"\x01\x02")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid_message"),
        ("[]", "invalid_message"),
        (b"{}", "invalid_message"),
        ("{}", "unknown_command"),
        ('{"type": "talk", "data": {}}', "unknown_command"),
        ('{"type": "cancel"}', "unknown_command"),
        ('{"type": ["send_audio"]}', "unknown_command"),
        ('{"type": "send_audio"}', "invalid_command"),
        ('{"type": "send_audio", "data": {}}', "invalid_command"),
        ('{"type": "send_audio", "audio": "AAAA"}', "invalid_command"),
        ('{"type": "send_audio", "data": {"data": "*"}}', "invalid_audio"),
        ('{"type": "send_message", "data": {"role": "user", "text": "x"}}', "invalid_command"),
        (
            '{"type": "send_message", "data": {"role": "assistant", "text": "x", "trigger_response": true}}',
            "invalid_command",
        ),
        ('{"type": "set_settings", "data": {"voice": "alloy"}}', "invalid_command"),
        ('{"type": "set_settings", "data": {"turnDetection": {}}}', "invalid_command"),
        ('{"type": "send_function_output", "data": {"call_id": "c", "output": 7}}', "invalid_command"),
        ('{"type": "send_function_output", "data": {"call_id": "c", "output": {}}}', "invalid_command"),
    ],
)
def test_what_is_refused_is_an_error_and_the_session_goes_on(text: str | bytes, code: str) -> None:
    client = ready()
    assert client.sends(text) == []
    assert client.error() == code
    assert client.facade.close_with is None


def test_settings_replace_what_they_name() -> None:
    client = ready(Wanted(instructions="Old.", turns=Turns(threshold=0.9)))
    (configured,) = client.says("set_settings", turn_detection={"silence_duration_ms": 800})
    assert isinstance(configured, Configured) and configured.turns is not None
    assert (configured.instructions, configured.turns.silence_ms) == ("Old.", 800)
    assert configured.turns.threshold == 0.5
    assert client.gets() == []


@pytest.mark.parametrize(("treatment", "answers"), [(Updates.IGNORE, 0), (Updates.REFUSE, 1)])
def test_a_script_may_ignore_or_refuse_settings(treatment: Updates, answers: int) -> None:
    client = ready(updates=treatment)
    assert client.says("set_settings", instructions="x") == []
    assert len(client.gets()) == answers


def test_a_text_without_an_answer_is_only_told() -> None:
    client = ready()
    assert client.writes("A fact.", "system", answer=False, delay=True) == [TextIn("A fact.", "system")]
    assert client.passes(1000) == [] and client.gets() == []


def test_a_text_with_an_answer_cuts_the_agent_short() -> None:
    client = ready()
    reply = client.begins()
    client.facade.audio(reply, FRAME)
    client.gets()
    assert client.writes("(caller pressed 4 2 #)", answer=True) == [
        ReplyCancelled(reply),
        TextIn("(caller pressed 4 2 #)", "user"),
    ]
    (request,) = client.passes(0)
    assert isinstance(request, ReplyRequested) and request.instructions is None
    assert client.kinds() == ["assistant cancelled", "talk ended", "talk preparing", "assistant created"]


def test_a_delayed_text_waits_for_the_agent_to_finish() -> None:
    client = ready()
    reply = client.begins()
    assert client.writes("Later.", answer=True, delay=True) == []
    assert client.passes(1000) == []
    client.facade.end_reply(reply)
    text, request = client.passes(0)
    assert text == TextIn("Later.", "user") and isinstance(request, ReplyRequested)


def test_a_brain_that_answers_by_itself_is_not_asked_again() -> None:
    client = ready()
    client.writes("Hello?", answer=True)
    client.facade.end_reply(client.begins())
    assert client.passes(1000) == []


# -- replies and turns ------------------------------------------------------------------------------------


def test_a_reply_from_its_start_to_its_end() -> None:
    client = ready()
    reply = client.begins()
    assert client.facade.begin_reply() is None
    client.facade.words(reply, "Good ")
    client.facade.audio(reply, FRAME)
    client.facade.words(reply, "day.")
    client.facade.audio_text(reply, FRAME_TEXT)
    client.facade.end_reply(reply)
    messages = client.gets()
    assert [short(*message) for message in messages] == [
        "talk preparing",
        "assistant created",
        "assistant delta",
        "talk started",
        "audio_received",
        "assistant delta",
        "audio_received",
        "assistant completed",
        "talk ended",
    ]
    assert b64decode(messages[4][1]["data"]) == FRAME == b64decode(messages[6][1]["data"])
    completed = messages[7][1]["message"]
    assert (completed["content"], completed["response_id"]) == ("Good day.", reply)
    client.facade.audio(reply, FRAME)
    assert client.gets() == []


def test_the_caller_interrupts() -> None:
    client = ready()
    reply = client.begins()
    client.facade.audio(reply, FRAME)
    client.gets()
    client.facade.speech_started(0)
    messages = client.gets()
    assert [short(*message) for message in messages] == [
        "speech_started",
        "assistant cancelled",
        "talk ended",
    ]
    assert messages[1][1]["message"]["reason"] == "turn_detected"
    assert not client.facade.is_open(reply)
    client.facade.audio(reply, FRAME)
    assert client.gets() == []


def test_what_the_caller_said_comes_last_and_may_be_nothing() -> None:
    client = ready()
    for said in ("Hello?", ""):
        client.facade.speech_started(0)
        turn = client.facade.speech_stopped(900)
        client.facade.heard(turn, said, 900)
        (_, (_, data)) = client.gets()
        message = data["message"]
        assert (message["role"], message["action"], message["content"]) == ("user", "completed", said)
        assert message["item_id"] == turn


def test_a_text_session_has_no_sound() -> None:
    client = ready(Wanted(text_only=True))
    assert client.says("send_audio", data=FRAME_TEXT) == []
    client.writes("Hello?", answer=True)
    (request,) = client.passes(0)
    assert isinstance(request, ReplyRequested) and request.text_only
    client.facade.words(request.reply, "Yes.")
    client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    assert client.kinds() == ["assistant created", "assistant delta", "assistant completed"]


# -- functions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [{"sky": "blue"}, '{"sky": "blue"}'])
def test_a_functions_output_is_answered_behind_the_reply_that_called_it(output: Json | str) -> None:
    client = ready()
    reply = client.begins()
    call_id = client.facade.call_tool(reply, "fn_weather", {"city": "Rome"})
    event, data = client.gets()[-1]
    assert (event, data["call_id"], data["arguments"]) == (
        "function_implicitly_called",
        call_id,
        {"city": "Rome"},
    )
    assert client.says("send_function_output", call_id=call_id, output=output) == [
        ToolResult(call_id, '{"sky": "blue"}')
    ]
    assert client.passes(1000) == []
    client.facade.end_reply(reply)
    (request,) = client.passes(0)
    assert isinstance(request, ReplyRequested)


def test_a_function_has_ten_seconds() -> None:
    client = ready()
    reply = client.begins()
    call_id = client.facade.call_tool(reply, "fn_weather", {})
    client.facade.end_reply(reply)
    client.gets()
    assert client.passes(9_999) == []
    result, request = client.passes(1)
    assert isinstance(result, ToolResult) and "error" in result.output
    assert isinstance(request, ReplyRequested)
    assert client.gets()[0] == ("function_call_timeout", {"call_id": call_id})
    client.gets()
    assert client.says("send_function_output", call_id=call_id, output={}) == []
    assert client.gets() == []


def test_a_call_may_be_told_twice() -> None:
    client = ready(duplicate_calls=True)
    call_id = client.facade.call_tool(client.begins(), "fn_weather", {})
    assert [data["call_id"] for event, data in client.gets() if event.startswith("function")] == [call_id] * 2
    assert len(client.says("send_function_output", call_id=call_id, output={})) == 1


# -- the end ----------------------------------------------------------------------------------------------


def test_an_idle_client_is_warned_three_times_and_then_left() -> None:
    client = ready()
    warned: list[tuple[int, int]] = []
    while client.facade.close_with is None:
        client.passes(1000)
        warned += [(client.now_ns // (1000 * MS), data["disconnect_after"]) for _, data in client.gets()]
    assert warned == [(120, 60), (150, 30), (170, 10)]
    assert client.facade.close_with == (1000, "idle_timeout")
    assert client.now_ns // (1000 * MS) == 180


def test_audio_and_messages_of_either_side_end_the_idleness() -> None:
    client = ready()
    for deed in (
        lambda: client.says("send_audio", data=FRAME_TEXT),
        lambda: client.writes("x", answer=False),
        lambda: client.facade.words(client.begins(), "Hm."),
    ):
        client.passes(175_000)
        client.gets()
        deed()
    client.gets()
    client.passes(119_000)
    assert client.gets() == [] and client.facade.close_with is None


def test_the_idle_timeout_can_be_switched_off() -> None:
    client = ready(Wanted(idle_timeout=False))
    client.passes(1_000_000)
    assert client.gets() == [] and client.facade.close_with is None


def test_the_longest_session_ends_with_an_event() -> None:
    client = ready()
    assert client.facade.expire() == (1000, "session_expired")
    assert client.kinds() == ["session_expired"]
    assert client.says("send_audio", data=FRAME_TEXT) == []


# -- robustness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("misdeed", list(Misdeed)[list(Misdeed).index(Misdeed.GARBAGE) :])
def test_every_misdeed_is_worded(misdeed: Misdeed) -> None:
    (text,) = ready().facade.wrong(misdeed)
    if misdeed is Misdeed.GARBAGE:
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(text)
    else:
        json.loads(text)


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0.5, 10**400, float("nan"), "", "x", "\ud800", [], [None], {}]
) | (st.sampled_from([{"threshold": 0.5}, "user", "system", FRAME_TEXT, "call_t3"]))
KEYS = ("data", "audio", "role", "text", "trigger_response", "delay", "instructions", "call_id", "output")
MESSAGES = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.fixed_dictionaries(
        {"type": st.sampled_from(list(COMMANDS))},
        optional={"data": JUNK | st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4)},
    ).map(json.dumps),
    st.builds(
        lambda answer, delay: json.dumps(
            {
                "type": "send_message",
                "data": {"role": "user", "text": "x", "trigger_response": answer, "delay": delay},
            }
        ),
        st.booleans(),
        st.booleans(),
    ),
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.sampled_from([0, 20, 50, 12_000])), max_size=6))
def test_no_client_can_make_the_facade_fail(messages: list[tuple[str | bytes, int]]) -> None:
    client = connect()
    for number, (message, ms) in enumerate(messages):
        for event in client.sends(message) + client.passes(ms):
            if isinstance(event, ReplyRequested):
                client.facade.words(event.reply, "Yes.")
                client.facade.call_tool(event.reply, "f", {})
                if number % 2:
                    client.facade.end_reply(event.reply)
        client.gets()


# -- a raw client on the running server ---------------------------------------------------------------------


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, settings: AgentSettings, options: CompanionOptions | None = None
) -> AsyncIterator[str]:
    door = door_companion.routes if options is None else door_companion.door_with(options)
    monkeypatch.setattr("telbridge.agent.server.DOORS", (door,))
    async with serve(settings) as port:
        yield f"http://127.0.0.1:{port}"


def unpacked(answer: Json) -> Json:
    """What a token holds."""
    inside: Json = json.loads(b64decode(answer["token"]))
    return inside


async def create(http: aiohttp.ClientSession, url: str, key: str = "k", **fields: Any) -> Json:
    """An ad-hoc session, as the page creates it."""
    request = http.post(f"{url}/public/ws-connections", json={**AD_HOC, **fields}, headers={"X-Api-Key": key})
    async with request as response:
        assert response.status == 201
        answer: Json = await response.json()
        return answer


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> list[tuple[str, Json]]:
    """All events up to the first of a kind, each judged."""
    messages: list[tuple[str, Json]] = []
    while not messages or short(*messages[-1]) != kind:
        messages.append(judged(await asyncio.wait_for(socket.receive_str(), 30)))
    return messages


async def closing(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    message = await asyncio.wait_for(socket.receive(), 30)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return int(message.data), str(message.extra)


def command(kind: str, **data: Any) -> Json:
    return {"type": kind, "data": data}


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
reply = { words = "One moment.", tool = "fn_weather", arguments = { city = "Rome" } }

[[step]]
on = "caller_starts"
times = 0
event = "speech_started"

[[step]]
on = "tool_result"
reply = { tone_hz = 440, ms = 20000, words = "Blue sky all over Rome.", pace = 1, open = true }

[[step]]
on = "text"
match = "4 2 #"
reply = { tone_hz = 440, ms = 100, words = "Forty-two." }
"""


async def test_a_whole_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Create, connect, greeting, a spoken turn, a function, an interruption, keys, the end."""
    path = tmp_path / "script.toml"
    path.write_text(WHOLE_SESSION)
    loud, quiet = (b64encode(sample * 320).decode() for sample in (b"\x00\x40\x00\xc0", b"\x00" * 4))

    async def speaks(socket: aiohttp.ClientWebSocketResponse) -> None:
        for frame in (loud, quiet):
            for _ in range(25):
                await socket.send_json(command("send_audio", data=frame))

    async with (
        running(monkeypatch, AgentSettings(brain="script", script=path)) as url,
        aiohttp.ClientSession() as http,
    ):
        answer = await create(http, url, functions=["fn_weather"], initialSpeech="Greet the caller.")
        inside = unpacked(answer)
        assert inside["url"].startswith("http") and inside["connection"]["id"] == answer["connection"]["id"]
        async with http.ws_connect(inside["url"]) as socket:
            opening = await until(socket, "talk ended")
            octets = sum(len(b64decode(data["data"])) for event, data in opening if event == "audio_received")
            assert octets == 300 * 32
            await speaks(socket)
            turn = await until(socket, "talk ended")
            kinds = [short(*message) for message in turn]
            assert kinds.index("speech_started") < kinds.index("user completed")
            call_id = turn[kinds.index("function_implicitly_called")][1]["call_id"]
            await socket.send_json(command("send_function_output", call_id=call_id, output={"sky": "blue"}))
            await until(socket, "audio_received")
            await speaks(socket)
            await until(socket, "assistant cancelled")
            keys = {"role": "user", "text": "(caller pressed 4 2 #)"}
            await socket.send_json(command("send_message", **keys, trigger_response=True, delay=False))
            said = (await until(socket, "assistant completed"))[-1][1]["message"]
            assert said["content"] == "Forty-two."


async def test_the_echo_gives_back_what_it_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, AgentSettings(brain="echo")) as url, aiohttp.ClientSession() as http:
        inside = unpacked(await create(http, url))
        socket_url = inside["url"].partition("?")[0]
        async with http.ws_connect(
            socket_url, headers={"Authorization": f"Bearer {inside['token']}"}
        ) as socket:
            await until(socket, "session")
            frames = [b64encode(bytes([n]) * 640).decode() for n in range(20)]
            for frame in frames:
                await socket.send_json(command("send_audio", data=frame))
            assert [(await until(socket, "audio_received"))[-1][1]["data"] for _ in frames] == frames


async def test_a_token_is_good_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, AgentSettings(brain="echo")) as url, aiohttp.ClientSession() as http:
        socket_url = unpacked(await create(http, url))["url"]
        async with http.ws_connect(socket_url) as socket:
            await until(socket, "session")
        for bad in (socket_url, socket_url.partition("?")[0]):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(bad)
            assert caught.value.status == 401


async def test_the_key_goes_into_a_header_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    settings = AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")
    async with running(monkeypatch, settings) as url, aiohttp.ClientSession() as http:
        await create(http, url, key="right")
        for headers in ({}, {"X-Api-Key": "wrong"}, {"Authorization": "Bearer right"}):
            async with http.post(f"{url}/public/ws-connections", json=AD_HOC, headers=headers) as response:
                assert response.status == 401
        async with http.delete(f"{url}/public/connections/x") as response:
            assert response.status == 401


async def test_an_agents_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, AgentSettings(brain="echo")) as url, aiohttp.ClientSession() as http:
        path = f"{url}/public/agents/agent_1/connections"
        async with http.post(path, json={"channelType": "websocket"}) as response:
            assert response.status == 201
            socket_url = unpacked(await response.json())["url"]
        async with http.ws_connect(socket_url) as socket:
            await until(socket, "session")
        async with http.post(path, json={"channelType": "websocket", "tags": {"a": 1}}) as response:
            assert (response.status, (await response.json())["errors"].keys()) == (400, {"tags.a"})


async def test_the_limits_are_told_as_the_service_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    options = CompanionOptions(concurrent_max=1, creation_interval_s=0.05)
    async with (
        running(monkeypatch, AgentSettings(brain="echo"), options) as url,
        aiohttp.ClientSession() as http,
    ):
        await create(http, url)
        async with http.post(f"{url}/public/ws-connections", json=AD_HOC) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert (await response.json())[0]["code"] == "RequestRateLimitExceeded"
        await asyncio.sleep(0.06)
        async with http.post(f"{url}/public/ws-connections", json=AD_HOC) as response:
            assert response.status == 409
            assert (await response.json())[0]["code"] == "ConcurrentSessionLimitReached"


async def test_a_live_session_can_be_deleted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch, AgentSettings(brain="echo")) as url, aiohttp.ClientSession() as http:
        answer = await create(http, url)
        path = f"{url}/public/connections/{answer['connection']['id']}"
        async with http.ws_connect(unpacked(answer)["url"]) as socket:
            await until(socket, "session")
            async with http.delete(path) as response:
                assert response.status == 204
            assert await closing(socket) == (1000, "connection_aborted")
        async with http.delete(path) as response:
            assert (response.status, (await response.json())[0]["code"]) == (400, "ConnectionNotFound")
