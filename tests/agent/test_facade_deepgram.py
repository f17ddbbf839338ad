"""The facade against the vendor's pages; every message it makes passes the vendor's own models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.agent.events import (
    AudioIn,
    Configured,
    Misdeed,
    ReplyId,
    ReplyRequested,
)
from telbridge.agent.facade import Facade
from telbridge.agent.facades.deepgram.facade import CLOSE, DeepgramFacade
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat, Encoding
from tests.agent.deepgram_client import (
    AURA,
    FLUX,
    FRAME,
    GPT,
    MS,
    NOVA,
    TRANSFER,
    Client,
    changed,
    configured,
    connected,
    phone,
    speaking,
    turn,
)
from tests.agent.deepgram_judge import Json, judge_text

# -- the beginning ------------------------------------------------------------------------------------


def test_it_is_a_facade() -> None:
    facade: Facade = DeepgramFacade(session_id="x")
    assert facade.configured(by_client=False) is None


def test_welcome_comes_unasked_and_names_the_session() -> None:
    (text,) = DeepgramFacade(session_id="abcd1234").take_messages()
    assert isinstance(text, str)
    assert judge_text(text)["request_id"].startswith("abcd1234-")


def test_settings_are_applied_and_tell_the_brain_all_it_needs() -> None:
    client = connected(silence_ms=500)
    (event,) = client.says(phone())
    assert isinstance(event, Configured)
    assert (event.input, event.output, event.instructions) == (PCMU_8K, PCMU_8K, "Be kind.")
    assert event.turns is not None and (event.turns.silence_ms, event.turns.answers) == (500, True)
    assert [(tool.name, tool.description) for tool in event.tools] == [("transfer", "Transfers.")]
    assert client.gets() == [{"type": "SettingsApplied"}]


@pytest.mark.parametrize(
    ("audio", "input_format", "output_format"),
    [
        ({}, PCM_24K, PCM_24K),
        ({"input": {"encoding": "alaw", "sample_rate": 8000}}, PCMA_8K, PCM_24K),
        ({"output": {"encoding": "alaw"}}, PCM_24K, PCMA_8K),
        (
            {"output": {"encoding": "mulaw", "sample_rate": 16000}},
            PCM_24K,
            AudioFormat(Encoding.PCMU, 16_000),
        ),
        (
            {"output": {"encoding": "linear16", "sample_rate": 48000}},
            PCM_24K,
            AudioFormat(Encoding.PCM16, 48_000),
        ),
    ],
)
def test_formats_and_their_defaults(
    audio: Json, input_format: AudioFormat, output_format: AudioFormat
) -> None:
    (event,) = connected().says({**phone(), "audio": audio})
    assert (event.input, event.output) == (input_format, output_format)


def test_the_example_of_the_vendors_page_is_taken() -> None:
    linear = {"encoding": "linear16", "sample_rate": 24000}
    speak = {"provider": AURA}
    think = {"provider": {"type": "open_ai", "model": "gpt-4o-mini", "temperature": 0.7}}
    client = configured(
        {
            "type": "Settings",
            "audio": {"input": linear, "output": {**linear, "container": "none"}},
            "agent": {
                "language": "en",
                "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
                "think": think,
                "speak": speak,
            },
        }
    )
    assert client.facade.close_with is None


def test_nothing_but_what_must_be_there_is_enough() -> None:
    (event,) = connected().says({"type": "Settings", "audio": {}, "agent": {}})
    assert event.instructions == "" and event.tools == ()


def test_the_greeting_is_spoken_word_for_word_and_its_text_follows_its_first_sound() -> None:
    client = connected()
    _, request = client.says(phone(greeting="Hello there."))
    assert request == ReplyRequested(request.reply, "Say exactly: Hello there.", PCMU_8K, False)
    assert client.kinds() == ["SettingsApplied"]
    client.facade.words(request.reply, "hello there")
    client.facade.audio(request.reply, FRAME)
    client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    audio, text, history, more, done = client.gets()
    assert (audio, more) == (FRAME, FRAME)
    assert (text["role"], text["content"]) == ("assistant", "Hello there.")
    assert history == {"type": "History", "role": "assistant", "content": "Hello there."}
    assert done == {"type": "AgentAudioDone"}


def test_what_was_said_before_is_known_to_the_brain() -> None:
    said = {"type": "History", "role": "user", "content": "My name is Ada."}
    call = {"id": "1", "name": "look_up", "client_side": True, "arguments": "{}", "response": "gold"}
    messages = [said, {"type": "History", "function_calls": [call]}]
    (event,) = connected().says(phone(context={"messages": messages}))
    assert event.instructions.startswith("Be kind.\n\n")
    assert "user: My name is Ada." in event.instructions and "look_up({}): gold" in event.instructions


def test_without_the_flag_there_is_no_history() -> None:
    client = configured({**phone(), "flags": {"history": False}})
    turn(client, "Hello?")
    assert client.kinds() == ["UserStartedSpeaking", "EndOfTurn", "ConversationText"]


def test_a_stored_agent_is_one_with_nothing_but_defaults() -> None:
    client = configured({**phone(), "agent": "8a1f4b1e-0000-4000-8000-3f2d1c0b9a87"})
    assert client.facade.configured(by_client=True).instructions == ""  # type: ignore[union-attr]


# -- audio --------------------------------------------------------------------------------------------


def test_audio_goes_through_as_it_came() -> None:
    client = configured()
    assert client.says(FRAME) == [AudioIn(FRAME)]
    assert client.says(b"") == [] and client.gets() == []


def test_frames_may_cut_a_sample_in_two() -> None:
    client = configured({**phone(), "audio": {}})
    assert client.says(b"\x01\x02\x03") == [AudioIn(b"\x01\x02")]
    assert client.says(b"\x04") == [AudioIn(b"\x03\x04")]


@pytest.mark.parametrize("magic", [b"RIFF", b"OggS"])
def test_a_file_is_no_stream(magic: bytes) -> None:
    client = configured()
    client.says(magic + FRAME)
    assert client.error()["code"] == "USER_AUDIO_FORMAT"


def test_a_wave_container_heads_each_reply() -> None:
    client = configured(changed("audio.output.container", "wav"))
    for _ in range(2):
        reply = speaking(client)
        client.facade.end_reply(reply)
        client.gets()
        reply = client.facade.begin_reply()
        assert reply is not None
        client.facade.audio(reply, FRAME)
        client.facade.audio(reply, FRAME)
        first, second = client.gets()
        assert first[:4] == b"RIFF" and first[8:12] == b"WAVE" and first[44:] == FRAME and second == FRAME
        client.facade.end_reply(reply)


# -- replies and turns --------------------------------------------------------------------------------


def test_a_turn_and_its_answer() -> None:
    client = configured()
    turn(client, "What time is it?")
    started, ended, text, history = client.gets()
    assert started == {"type": "UserStartedSpeaking"}
    assert ended == {"type": "EndOfTurn", "trigger": "model"}
    assert (text["role"], text["content"]) == ("user", "What time is it?")
    assert history == {"type": "History", "role": "user", "content": "What time is it?"}
    reply = client.facade.begin_reply()
    assert reply is not None and client.facade.begin_reply() is None
    client.facade.words(reply, "It is ten.")
    client.facade.audio(reply, FRAME)
    client.facade.words(reply, " Anything else?")
    client.facade.audio(reply, FRAME)
    client.facade.end_reply(reply)
    client.facade.end_reply(reply)
    said = ["ConversationText", "History", "audio"]
    assert client.kinds() == [*said, *said, "AgentAudioDone"]


def test_only_flux_tells_the_end_of_a_turn() -> None:
    client = configured(phone(NOVA))
    turn(client, "Hello?")
    assert client.kinds() == ["UserStartedSpeaking", "ConversationText", "History"]


def test_a_multilingual_model_tells_the_language() -> None:
    client = configured(phone(FLUX | {"model": "flux-general-multi", "language_hints": ["de"]}))
    turn(client, "Hello?")
    text = client.gets()[2]
    assert (text["languages_hinted"], text["languages"]) == (["de"], ["en"])


def test_an_interruption_ends_the_reply_without_a_word_and_a_little_of_it_still_comes() -> None:
    client = configured()
    reply = speaking(client)
    client.facade.speech_started(0)
    client.facade.audio(reply, FRAME)
    client.facade.words(reply, "and more")
    client.facade.end_reply(reply)
    assert client.gets() == [{"type": "UserStartedSpeaking"}, FRAME, FRAME]
    assert not client.facade.is_open(reply)


def test_what_has_been_sent_whole_leaves_nothing_late() -> None:
    client = configured()
    client.facade.end_reply(speaking(client))
    client.gets()
    client.facade.speech_started(0)
    assert client.kinds() == ["UserStartedSpeaking"]


def test_a_turn_that_was_not_understood_is_closed_for_the_client_before_the_answer() -> None:
    client = configured(phone(NOVA))
    turn(client, "")
    assert client.kinds() == ["UserStartedSpeaking"]
    reply = client.facade.begin_reply()
    assert reply is not None
    client.facade.words(reply, "Pardon?")
    assert client.kinds() == ["AgentThinking", "ConversationText", "History"]


def test_the_end_of_a_turn_is_enough_for_the_client() -> None:
    client = configured()
    turn(client, "")
    speaking_after = client.facade.begin_reply()
    assert speaking_after is not None
    client.facade.words(speaking_after, "Pardon?")
    assert "AgentThinking" not in client.kinds()


def test_very_words_answer_no_turn_and_their_latency_is_that_of_the_voice() -> None:
    client = configured()
    turn(client, "")
    client.gets_all()
    (request,) = client.says({"type": "InjectAgentMessage", "message": "Hello."})
    client.now_ms = 200
    client.says(FRAME)
    client.facade.audio(request.reply, FRAME)
    assert client.gets_all()[-1] == {"type": "LatencyReport", "tts_latency": 0.2}


def test_latency_comes_figure_by_figure() -> None:
    client = configured()
    client.facade.speech_started(0)
    client.now_ms = 1000
    client.says(FRAME)
    ended = client.facade.speech_stopped(0)
    client.now_ms = 1200
    client.says(FRAME)
    client.facade.heard(ended, "Hello?", 900)
    client.now_ms = 1500
    client.says(FRAME)
    reply = client.facade.begin_reply()
    assert reply is not None
    client.facade.words(reply, "Yes.")
    client.now_ms = 1600
    client.says(FRAME)
    client.facade.audio(reply, FRAME)
    client.facade.audio(reply, FRAME)
    reports: Json = {}
    for message in client.gets_all():
        if isinstance(message, dict) and message.pop("type") == "LatencyReport":
            reports |= message
    assert reports == {
        "stt_latency": 0.2,
        "ttt_token_latency": 0.3,
        "ttt_text_latency": 0.3,
        "tts_latency": 0.1,
        "total_latency": 0.6,
    }


def test_listening_is_reported_five_times_a_second_while_the_caller_speaks() -> None:
    client = configured()
    for _ in range(50):
        client.says(FRAME)
    assert client.gets_all() == []
    client.facade.speech_started(0)
    client.gets_all()
    for _ in range(50):
        client.says(FRAME)
    assert client.gets_all() == [{"type": "LatencyReport", "stt_latency": 0.0}] * 5


def test_agent_started_speaking_is_for_experimental_clients() -> None:
    client = configured({**phone(), "experimental": True})
    reply = client.facade.begin_reply()
    assert reply is not None
    client.facade.audio(reply, FRAME)
    assert client.kinds() == ["AgentStartedSpeaking", "audio"]


@pytest.mark.parametrize(
    ("provider", "silence_ms", "trigger"),
    [
        (NOVA, 500, "model"),
        (FLUX | {"eot_threshold": 0.84}, 600, "model"),
        (FLUX | {"eot_threshold": 0.9, "eot_timeout_ms": 600}, 600, "timeout"),
        (FLUX | {"eot_threshold": 1.0, "eot_timeout_ms": 600}, 3_600_000, "timeout"),
    ],
)
def test_confidence_in_the_end_of_a_turn_becomes_silence(
    provider: Json, silence_ms: int, trigger: str
) -> None:
    client = connected(silence_ms=500)
    (event,) = client.says(phone(provider))
    assert event.turns.silence_ms == silence_ms
    client.gets()
    turn(client, "x")
    if provider["version"] == "v2":
        assert client.gets()[1]["trigger"] == trigger


# -- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True])
def test_a_silent_client_is_sent_away(applied: bool) -> None:
    client = configured(client_timeout_ms=3000) if applied else connected(client_timeout_ms=3000)
    client.waits(2999)
    assert client.gets() == []
    client.waits(1)
    error = client.error()
    assert error["code"] == "CLIENT_MESSAGE_TIMEOUT"
    assert ("user speech" in error["description"]) is applied


@pytest.mark.parametrize("message", [FRAME, {"type": "KeepAlive"}])
def test_whatever_a_client_sends_keeps_the_session(message: Any) -> None:
    client = configured(client_timeout_ms=3000)
    for _ in range(10):
        client.waits(2000)
        client.says(message)
    assert client.gets() == []


def test_a_slow_answer_is_warned_of_every_five_seconds() -> None:
    client = configured(client_timeout_ms=60_000)
    client.says({"type": "InjectUserMessage", "content": "Think hard"})
    (request,) = client.waits(4999)
    client.gets()
    client.waits(1)
    assert client.warning() == "SLOW_THINK_REQUEST"
    client.waits(5000)
    assert client.warning() == "SLOW_THINK_REQUEST"
    client.facade.words(request.reply, "Well.")
    client.gets()
    client.waits(20_000)
    assert client.gets() == []


def test_the_end_of_the_longest_session_is_announced_five_minutes_before() -> None:
    client = configured(ends_ns=301_000 * MS, client_timeout_ms=3_600_000)
    client.waits(1000)
    assert client.warning() == "MAXIMUM_SESSION_LENGTH_APPROACHING"
    client.waits(100_000)
    assert client.gets() == []
    assert client.facade.expire() == CLOSE
    assert client.error()["code"] == "MAXIMUM_SESSION_LENGTH_REACHED"


# -- misdeeds -----------------------------------------------------------------------------------------


def test_misdeeds_have_the_shape_of_this_api() -> None:
    facade = configured({**phone(), "audio": {}}).facade
    (garbage,), (no_object,) = facade.wrong(Misdeed.GARBAGE), facade.wrong(Misdeed.NOT_AN_OBJECT)
    with pytest.raises(ValueError):
        json.loads(garbage)
    assert isinstance(json.loads(no_object), list)
    (unknown,), (missing,) = facade.wrong(Misdeed.UNKNOWN_EVENT), facade.wrong(Misdeed.MISSING_FIELDS)
    for text in (unknown, missing):
        with pytest.raises((ValueError, KeyError)):
            judge_text(str(text))
    (half,), (strange,) = facade.wrong(Misdeed.BAD_BASE64), facade.wrong(Misdeed.STRANGE_AUDIO)
    assert isinstance(half, bytes) and len(half) % 2 == 1
    assert isinstance(strange, bytes) and len(strange) == PCM_24K.bytes_for_ms(20)
    (warning,) = facade.wrong(Misdeed.SERVER_ERROR)
    assert judge_text(str(warning))["type"] == "Warning" and facade.close_with is None


# -- anything at all ----------------------------------------------------------------------------------

SCRAPS = st.sampled_from(
    [
        phone(),
        phone(NOVA, greeting="Hello."),
        {"type": "KeepAlive"},
        {"type": "UpdatePrompt", "prompt": "More."},
        {"type": "UpdateThink", "think": {"provider": GPT, "functions": [TRANSFER]}},
        {"type": "UpdateSpeak", "speak": {"provider": AURA}},
        {"type": "UpdateListen", "listen": {"provider": FLUX}},
        {"type": "InjectUserMessage", "content": "5"},
        {"type": "InjectAgentMessage", "message": "Hm.", "behavior": "queue"},
        {"type": "InjectAgentMessage", "message": "Hm.", "behavior": "interrupt"},
        {"type": "FunctionCallResponse", "id": "call_abcd12343", "name": "transfer", "content": ""},
        {"type": "ForceEndTurn"},
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BROKEN = st.builds(
    lambda scrap, key, value: {**scrap, key: value},
    SCRAPS,
    st.sampled_from(["type", "audio", "agent", "prompt", "think", "speak", "listen", "content", "id", "new"]),
    ANYTHING,
)
MESSAGES = st.one_of(
    SCRAPS, SCRAPS, BROKEN, st.binary(max_size=400), st.text(max_size=40), ANYTHING.map(json.dumps)
)
BRAIN = st.sampled_from(["begin", "words", "audio", "tool", "end", "starts", "stops", "wait"])


@settings(max_examples=1000, deadline=None)
@given(st.booleans(), st.lists(MESSAGES | BRAIN.map(lambda name: f"brain:{name}"), max_size=14))
def test_no_client_and_no_brain_makes_the_facade_fall_over(begun: bool, moves: list[Any]) -> None:
    client = configured(client_timeout_ms=60_000) if begun else connected(client_timeout_ms=60_000)
    reply = ReplyId("none")
    for move in moves:
        if isinstance(move, str) and move.startswith("brain:"):
            reply = brain_moves(client, move.removeprefix("brain:"), reply)
        else:
            for event in client.says(move):
                reply = event.reply if isinstance(event, ReplyRequested) else reply
        messages = client.gets_all()
        over = client.facade.close_with is not None
        errors = [m for m in messages if isinstance(m, dict) and m["type"] == "Error"]
        assert not errors or (over and messages[-1] == errors[0] and len(errors) == 1)


def brain_moves(client: Client, move: str, reply: ReplyId) -> ReplyId:
    facade = client.facade
    match move:
        case "begin":
            return facade.begin_reply() or reply
        case "words":
            facade.words(reply, "Yes.")
        case "audio":
            facade.audio(reply, FRAME)
        case "tool":
            facade.call_tool(reply, "transfer", {})
        case "end":
            facade.end_reply(reply)
        case "starts" if facade.configured(by_client=True) is not None:
            facade.speech_started(0)
        case "stops" if facade.configured(by_client=True) is not None:
            facade.heard(facade.speech_stopped(0), "Hello?", 100)
        case "wait":
            for event in client.waits(2000):
                reply = event.reply if isinstance(event, ReplyRequested) else reply
    return reply
