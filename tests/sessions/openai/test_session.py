"""OpenAI Realtime as told by its specification: one rule a test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from pydantic import ValidationError

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentTranscript,
    AgentWarning,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    SessionReady,
    ToolCall,
    Unknown,
)
from telbridge.call.ports import Greeting, TextRole
from telbridge.sessions.base import Opening
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings

NOW_NS = 7_000_000
MS20 = bytes(range(160))
R1, R2 = ReplyId(1), ReplyId(2)
KEY = {"OPENAI_API_KEY": "sk-secret"}


def opened(
    settings: OpenAISettings | None = None, environ: Mapping[str, str] = MappingProxyType(KEY)
) -> OpenAIRealtime:
    return OpenAIRealtime(settings or OpenAISettings(), Opening("call-1", PCMU_8K, environ))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("gpt-live-1", "different protocol"),
        ("gpt-live-1-mini", "different protocol"),
        ("gpt-4o-realtime-preview", "beta protocol"),
        ("gpt-4o-mini-realtime-preview-2024-12-17", "beta protocol"),
    ],
)
def test_models_of_other_protocols_are_refused_with_the_reason(model, line):
    with pytest.raises(ValidationError, match=line):
        OpenAISettings(model=model)


@pytest.mark.parametrize(
    "bad",
    [
        {"voice": "fable"},
        {"speed": 1.6},
        {"max_output_tokens": 5000},
        {"turn_detection": {"type": "server_vad", "threshold": 1.5}},
        {"turn_detection": {"type": "semantic_vad", "silence_duration_ms": 500}},
        {"temperature": 0.8},
        {"url": "https://api.openai.com/v1/realtime"},
        {"safety_identifier": "two words\r\nX: y"},
    ],
)
def test_what_the_api_would_refuse_is_refused_before_the_call(bad):
    with pytest.raises(ValidationError):
        OpenAISettings(**bad)


@pytest.mark.parametrize(
    ("audio", "wire", "session"),
    [
        ("g711", PCMU_8K, PCMU_8K),
        ("g711", PCMA_8K, PCMA_8K),
        ("g711", PCM_24K, PCMU_8K),
        ("pcm24k", PCMA_8K, PCM_24K),
    ],
)
def test_the_session_speaks_the_wires_own_law_unless_told_otherwise(openai_session, audio, wire, session):
    protocol = openai_session(audio=audio, wire=wire).protocol
    assert protocol.uplink_format == protocol.downlink_format == session


def test_every_setting_has_a_description():
    schema = OpenAISettings.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    fields = [(name, field) for model in models for name, field in model["properties"].items()]
    assert [name for name, field in fields if "description" not in field and name != "type"] == []


# ---------------------------------------------------------------- connecting


def test_connects_with_the_model_in_the_query_and_the_key_in_the_header():
    settings = OpenAISettings(safety_identifier="user-5f3a", organization="org-1", project="proj_1")
    request = opened(settings).next_step()
    assert request.url == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    assert request.headers == {
        "Authorization": "Bearer sk-secret",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj_1",
        "OpenAI-Safety-Identifier": "user-5f3a",
    }


def test_an_agent_on_this_machine_needs_no_key():
    settings = OpenAISettings(url="ws://127.0.0.1:8090/v1/realtime?script=echo")
    request = opened(settings, {}).next_step()
    assert request.headers == {}
    assert request.url == "ws://127.0.0.1:8090/v1/realtime?model=gpt-realtime-2.1&script=echo"


def test_the_key_shows_in_no_repr():
    protocol = opened()
    assert "sk-secret" not in f"{protocol!r} {protocol.next_step()!r}"


@pytest.mark.parametrize("key", ["sk-1\r\nX: y", "sk 1", "sk-ключ"])
def test_a_key_that_no_header_could_carry_is_refused_without_showing_it(key):
    with pytest.raises(SecretMissing, match="api_key") as refusal:
        opened(environ={"OPENAI_API_KEY": key})
    assert key not in str(refusal.value)


# ---------------------------------------------------------------- set-up


def test_the_first_update_follows_session_created_and_is_complete(openai_session):
    agent = openai_session(ready=False, instructions="Be brief.", transcription={"language": "en"})
    assert agent.sent() == []
    assert agent.receives("session.created", session={}) == []
    assert agent.sent() == [
        {
            "type": "session.update",
            "event_id": "tb_1",
            "session": {
                "type": "realtime",
                "output_modalities": ["audio"],
                "max_output_tokens": "inf",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcmu"},
                        "turn_detection": {
                            "type": "server_vad",
                            "threshold": 0.5,
                            "prefix_padding_ms": 300,
                            "silence_duration_ms": 500,
                            "interrupt_response": True,
                            "create_response": True,
                        },
                        "transcription": {"model": "gpt-4o-mini-transcribe", "language": "en"},
                    },
                    "output": {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.0},
                },
                "instructions": "Be brief.",
            },
        }
    ]


@pytest.mark.parametrize(
    ("model", "sent"), [("gpt-realtime-2.1", {"effort": "low"}), ("gpt-realtime-1.5", None)]
)
def test_reasoning_is_sent_only_to_models_that_take_it(openai_session, model, sent):
    agent = openai_session(ready=False, model=model, reasoning_effort="low")
    agent.receives("session.created", session={})
    assert agent.sent()[0]["session"].get("reasoning") == sent


def test_no_audio_goes_up_before_the_configuration_is_acknowledged(openai_session):
    agent = openai_session(ready=False)
    assert agent.protocol.audio(MS20) is None
    agent.receives("session.created", session={})
    assert agent.protocol.audio(MS20) is None
    assert agent.receives("session.updated", session={}) == [SessionReady(NOW_NS)]
    assert json.loads(agent.protocol.audio(MS20)) == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(MS20).decode(),
    }


@pytest.mark.parametrize("event_id", ["tb_1", None])
def test_a_refused_first_update_ends_the_set_up_even_if_it_does_not_say_which(openai_session, event_id):
    agent = openai_session(ready=False)
    agent.receives("session.created", session={})
    refusal = agent.fails("invalid_value", event_id=event_id, param="session.reasoning")
    assert refusal == [AgentError("invalid_value (session.reasoning)", "words of the API", at_setup=True)]
    assert agent.protocol.audio(MS20) is None
    end = agent.protocol.closed(None, "given up")
    assert end.ending is Ending.AGENT_REFUSED
    assert end.detail == "configuration refused: invalid_value (session.reasoning)"


def test_an_error_instead_of_session_created_is_a_refused_set_up(openai_session):
    agent = openai_session(ready=False)
    assert agent.fails("model_not_found") == [
        AgentError("model_not_found", "words of the API", at_setup=True)
    ]


def test_an_acknowledgement_of_another_format_is_a_refusal_for_it_would_be_noise(openai_session):
    agent = openai_session(ready=False)
    agent.receives("session.created", session={})
    pcm = {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}}}}
    (error,) = agent.receives("session.updated", session=pcm)
    assert error.at_setup
    assert error.code == "format_not_taken"


def test_session_events_out_of_order_break_the_contract_and_nothing_else(openai_session):
    agent = openai_session(ready=False)
    assert agent.receives("session.updated", session={}) == [
        BadMessage("session.updated: session.updated while connecting")
    ]
    agent.receives("session.created", session={})
    assert isinstance(agent.receives("session.created", session={})[0], BadMessage)
    assert agent.receives("session.updated", session={}) == [SessionReady(NOW_NS)]
    assert agent.receives("session.updated", session={}) == []


def test_what_was_asked_before_the_session_is_ready_waits_for_it_in_order(openai_session):
    agent = openai_session(ready=False)
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=False)
    agent.protocol.greet(Greeting("Hello."))
    agent.receives("session.created", session={})
    assert agent.sent_types() == ["session.update"]
    agent.receives("session.updated", session={})
    assert agent.sent_types() == ["conversation.item.create", "response.create"]


# ---------------------------------------------------------------- greeting, text, one response at a time


def test_a_verbatim_greeting_is_one_response_with_its_own_instructions(openai_session):
    agent = openai_session()
    agent.protocol.greet(Greeting("Welcome to the bank."))
    assert agent.sent() == [
        {
            "type": "response.create",
            "event_id": "tb_2",
            "response": {"instructions": "Say exactly: Welcome to the bank.", "tool_choice": "none"},
        }
    ]


def test_a_generated_greeting_keeps_the_sessions_instructions(openai_session):
    agent = openai_session()
    agent.protocol.greet(Greeting("Greet the caller in French.", verbatim=False))
    item, create = agent.sent()
    assert item["item"]["role"] == "system"
    assert "Greet the caller in French." in item["item"]["content"][0]["text"]
    assert create == {"type": "response.create", "event_id": "tb_3"}


def test_text_joins_the_conversation_at_once_but_its_answer_waits_for_the_running_response(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    assert agent.sent_types() == ["conversation.item.create"]
    agent.ends("resp_1")
    assert agent.sent_types() == ["response.create"]


def test_several_texts_waiting_for_an_answer_get_one(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    for digit in "123":
        agent.protocol.send_text(digit, role=TextRole.CALLER, respond=True)
    agent.ends("resp_1")
    assert agent.sent_types() == ["conversation.item.create"] * 3 + ["response.create"]
    agent.begins("resp_2")
    agent.ends("resp_2")
    assert agent.sent_types() == []


def test_a_response_asked_for_is_waited_for_before_the_next(openai_session):
    agent = openai_session()
    agent.protocol.greet(Greeting("One."))
    agent.protocol.greet(Greeting("Two."))
    assert agent.sent_types() == ["response.create"]
    agent.begins("resp_1")
    assert agent.sent_types() == []
    agent.ends("resp_1")
    assert agent.sent()[0]["response"]["instructions"] == "Say exactly: Two."


@pytest.mark.parametrize("beginning_seen", ["before", "after", "never"])
def test_a_response_refused_as_busy_is_asked_for_once_more_after_the_other_one(
    openai_session, beginning_seen
):
    agent = openai_session()
    agent.protocol.greet(Greeting("Hello."))
    asked = agent.sent()[0]
    if beginning_seen == "before":
        agent.begins("resp_vad")
    busy = "conversation_already_has_active_response"
    assert agent.fails(busy, event_id=asked["event_id"]) == []
    if beginning_seen == "after":
        agent.begins("resp_vad")
    assert agent.sent() == []
    agent.ends("resp_vad")
    (again,) = agent.sent()
    assert again["response"] == asked["response"]
    assert again["event_id"] != asked["event_id"]
    assert agent.fails(busy, event_id=again["event_id"]) == [AgentError(busy, "words of the API")]
    agent.ends("resp_other")
    assert agent.sent() == []


def test_a_response_refused_for_another_reason_frees_the_floor(openai_session):
    agent = openai_session()
    agent.protocol.greet(Greeting("One."))
    agent.protocol.greet(Greeting("Two."))
    asked = agent.sent()[0]
    assert agent.fails("invalid_value", event_id=asked["event_id"]) == [
        AgentError("invalid_value", "words of the API")
    ]
    assert agent.sent()[0]["response"]["instructions"] == "Say exactly: Two."


# ---------------------------------------------------------------- replies


def test_replies_are_numbered_as_they_are_announced(openai_session):
    agent = openai_session()
    agent.begins("resp_a")
    agent.begins("resp_b")
    assert agent.speaks("resp_b", MS20) == [AgentAudio(R2, MS20, NOW_NS)]
    assert agent.speaks("resp_a", MS20) == [AgentAudio(R1, MS20, NOW_NS)]


def test_a_reply_from_begin_to_end(openai_session):
    agent = openai_session()
    assert agent.begins("resp_1") == []
    assert agent.speaks("resp_1", MS20) == [AgentAudio(R1, MS20, NOW_NS)]
    assert agent.receives("response.output_audio.done", response_id="resp_1", item_id="item_1") == []
    said = agent.receives("response.output_audio_transcript.done", response_id="resp_1", transcript="Hi.")
    assert said == [AgentTranscript(R1, "Hi.")]
    assert agent.ends("resp_1") == [ReplyAudioDone(R1), ReplyDone(R1, ReplyStatus.COMPLETED)]
    assert agent.ends("resp_1") == []


def test_the_audio_of_a_reply_is_done_only_when_all_its_items_are(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20, item="item_1")
    assert agent.receives("response.output_audio.done", response_id="resp_1", item_id="item_1") == []
    assert agent.speaks("resp_1", MS20, item="item_2") == [AgentAudio(R1, MS20, NOW_NS)]
    assert agent.ends("resp_1")[0] == ReplyAudioDone(R1)


def test_the_transcripts_of_several_items_are_told_as_one_text(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    done = "response.output_audio_transcript.done"
    agent.receives(done, response_id="resp_1", item_id="item_1", transcript="One moment.")
    assert agent.receives(done, response_id="resp_1", item_id="item_2", transcript="Here it is.") == [
        AgentTranscript(R1, "One moment. Here it is.")
    ]


@pytest.mark.parametrize(
    ("status", "details", "told"),
    [
        ("cancelled", {"reason": "turn_detected"}, (ReplyStatus.CANCELLED, "turn_detected")),
        ("incomplete", {"reason": "max_output_tokens"}, (ReplyStatus.INCOMPLETE, "max_output_tokens")),
        ("failed", {"error": {"code": "insufficient_quota"}}, (ReplyStatus.FAILED, "insufficient_quota")),
        ("who_knows", {}, (ReplyStatus.FAILED, "who_knows")),
    ],
)
def test_how_a_reply_ended_is_told(openai_session, status, details, told):
    agent = openai_session()
    agent.begins("resp_1")
    assert agent.ends("resp_1", status, **details) == [ReplyDone(R1, *told)]


def test_audio_of_a_response_never_announced_is_one_complaint_and_the_call_goes_on(openai_session):
    agent = openai_session()
    assert agent.speaks("resp_x", MS20) == [
        BadMessage("response.output_audio.delta: of a response that was never announced")
    ]
    assert agent.speaks("resp_x", MS20) == []
    agent.begins("resp_1")
    assert agent.speaks("resp_1", MS20) == [AgentAudio(R1, MS20, NOW_NS)]


def test_thirty_seconds_in_one_message_are_one_event(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    assert agent.speaks("resp_1", MS20 * 1500) == [AgentAudio(R1, MS20 * 1500, NOW_NS)]


def test_a_sample_split_over_two_deltas_is_joined(openai_session):
    agent = openai_session(audio="pcm24k")
    agent.begins("resp_1")
    assert agent.speaks("resp_1", b"\x01\x02\x03") == [AgentAudio(R1, b"\x01\x02", NOW_NS)]
    assert agent.speaks("resp_1", b"\x04") == [AgentAudio(R1, b"\x03\x04", NOW_NS)]


# ---------------------------------------------------------------- interruption


def test_the_caller_interrupts_and_late_audio_of_the_cut_reply_is_dropped(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20)
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    assert agent.speaks("resp_1", MS20) == []
    assert agent.receives("response.output_audio.done", response_id="resp_1", item_id="item_1") == []
    assert agent.ends("resp_1", "cancelled", reason="turn_detected") == [
        ReplyDone(R1, ReplyStatus.CANCELLED, "turn_detected")
    ]
    assert agent.sent() == []  # no response.cancel: the server has cancelled
    agent.begins("resp_2")
    assert agent.speaks("resp_2", MS20) == [AgentAudio(R2, MS20, NOW_NS)]


def test_a_reply_generated_in_full_is_interrupted_all_the_same(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20 * 100)
    agent.ends("resp_1")
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    assert agent.heard(1, ms=500) == [("item_1", 500)]


def test_a_second_start_of_speech_changes_nothing(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20 * 10)
    agent.hears_the_caller()
    assert agent.heard(1, ms=100) == [("item_1", 100)]
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    assert agent.heard(1, ms=100) == []
    assert agent.speaks("resp_1", MS20) == []


def test_where_the_caller_may_not_interrupt_nothing_is_cut(openai_session):
    agent = openai_session(turn_detection={"type": "semantic_vad", "interrupt_response": False})
    agent.begins("resp_1")
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=False)]
    assert agent.speaks("resp_1", MS20) == [AgentAudio(R1, MS20, NOW_NS)]


def test_the_end_of_the_callers_turn_is_told(openai_session):
    stopped = openai_session().receives("input_audio_buffer.speech_stopped", audio_end_ms=1, item_id="i")
    assert stopped == [CallerStoppedSpeaking(NOW_NS)]


def test_truncation_never_exceeds_what_was_received(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", bytes(29_600))  # 3700 ms; live, 3760 were reported and refused
    agent.hears_the_caller()
    assert agent.heard(1, ms=3760) == []
    assert agent.heard(1, ms=3699) == [("item_1", 3699)]


def test_an_interruption_in_the_second_item_counts_from_its_own_beginning(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    for item in ("item_1", "item_2", "item_3"):
        agent.speaks("resp_1", MS20 * 50, item=item)  # 1000 ms each
    agent.hears_the_caller()
    assert agent.heard(1, ms=1300) == [("item_2", 300), ("item_3", 0)]


def test_an_interruption_before_anything_was_heard_truncates_at_zero(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20)
    assert agent.heard(1, ms=0) == [("item_1", 0)]


def test_nothing_received_and_replies_unknown_give_no_truncation(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    assert agent.heard(1, ms=0) == []
    assert agent.heard(9, ms=100) == []


@pytest.mark.parametrize(
    "error",
    [
        {"code": None, "message": "Audio content of 3700ms is already shorter than 3760ms"},
        {"code": "response_cancel_not_active"},
        {"code": "input_audio_buffer_commit_empty"},
    ],
)
def test_harmless_errors_are_no_events(openai_session, error):
    agent = openai_session()
    agent.begins("resp_1")
    assert agent.fails(**error) == []
    assert agent.speaks("resp_1", MS20) == [AgentAudio(R1, MS20, NOW_NS)]


def test_other_errors_are_told_and_the_session_goes_on(openai_session):
    agent = openai_session()
    assert agent.fails("rate_limit_exceeded") == [AgentError("rate_limit_exceeded", "words of the API")]
    assert agent.fails(None, type="server_error") == [AgentError("server_error", "words of the API")]
    assert agent.protocol.audio(MS20) is not None


# ---------------------------------------------------------------- words and tools


def test_the_callers_words_may_come_after_the_answer(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.ends("resp_1")
    kind = "conversation.item.input_audio_transcription.completed"
    assert agent.receives(kind, item_id="i", content_index=0, transcript="Yes.") == [CallerTranscript("Yes.")]


def test_a_failed_transcription_does_not_end_anything(openai_session):
    kind = "conversation.item.input_audio_transcription.failed"
    failed = openai_session().receives(kind, item_id="i", error={"code": "model_not_found", "message": "m"})
    assert failed == [AgentWarning("transcription_failed: model_not_found", "m")]


def test_a_tool_call_announced_twice_is_asked_for_once(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    call = {"call_id": "call_1", "name": "balance", "arguments": '{"a":1}'}
    item = {"type": "function_call", "status": "completed", **call}
    assert agent.receives("response.function_call_arguments.done", response_id="resp_1", **call) == []
    done = "response.output_item.done"
    assert agent.receives(done, response_id="resp_1", item=item) == [ToolCall("call_1", "balance", '{"a":1}')]
    assert agent.receives(done, response_id="resp_1", item=item) == []


def test_an_interrupted_tool_call_is_not_made(openai_session):
    item = {"type": "function_call", "status": "incomplete", "call_id": "c", "name": "n", "arguments": '{"a'}
    assert openai_session().receives("response.output_item.done", response_id="resp_1", item=item) == []


# ---------------------------------------------------------------- strangeness


@pytest.mark.parametrize("kind", ["conversation.item.truncated", "input_audio_buffer.timeout_triggered"])
def test_what_the_server_does_by_itself_is_no_news(openai_session, kind):
    assert openai_session().receives(kind, item_id="item_1", audio_end_ms=1) == []


def test_an_unknown_type_is_named_and_cut_short(openai_session):
    assert openai_session().receives("response.hologram") == [Unknown("response.hologram")]
    assert openai_session().receives("x" * 5000) == [Unknown("x" * 100)]


def test_beta_spellings_are_understood(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    delta = {"response_id": "resp_1", "item_id": "item_1", "delta": base64.b64encode(MS20).decode()}
    assert agent.receives("response.audio.delta", **delta) == [AgentAudio(R1, MS20, NOW_NS)]
    assert agent.receives("response.audio_transcript.done", response_id="resp_1", transcript="Hi") == [
        AgentTranscript(R1, "Hi")
    ]
    assert agent.receives("conversation.item.created", item={}) == []


@pytest.mark.parametrize(
    "message",
    [
        "",
        "not json",
        "[]",
        "null",
        "3",
        "[" * 50_000,
        "1" * 5000,
        "{}",
        '{"type":3}',
        b"\xff\xfe\x00",
        "\ud800",
    ],
)
def test_garbage_is_a_bad_message(openai_session, message):
    (event,) = openai_session().protocol.receive(message, now_ns=NOW_NS)
    assert isinstance(event, BadMessage)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"delta": "*not base64*"}, "`delta` is not base64"),
        ({"delta": "\u00e9"}, "`delta` is not base64"),
        ({"delta": None}, "`delta` is missing, not a string"),
        ({"item_id": 7}, "`item_id` is int, not a string"),
        ({"content_index": -1}, "`content_index` is int, not a whole number"),
        ({"response_id": []}, "`response_id` is list, not a string"),
    ],
)
def test_odd_fields_are_named_without_their_values(openai_session, changed, complaint):
    agent = openai_session()
    agent.begins("resp_1")
    fields = {"response_id": "resp_1", "item_id": "item_1", "content_index": 0, "delta": "AAAA", **changed}
    kind = "response.output_audio.delta"
    assert agent.receives(kind, **fields) == [BadMessage(f"{kind}: {complaint}")]


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (1000, Ending.AGENT_HUNG_UP),
        (1001, Ending.AGENT_LOST),
        (1005, Ending.AGENT_HUNG_UP),
        (1006, Ending.AGENT_LOST),
        (1011, Ending.AGENT_LOST),
        (4000, Ending.AGENT_REFUSED),
        (None, Ending.AGENT_LOST),
    ],
)
def test_the_end_of_a_ready_session_is_judged_by_its_close_code(openai_session, code, ending):
    assert openai_session().protocol.closed(code, "why").ending is ending


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, None])
def test_the_end_of_a_session_that_never_was_ready_is_unreachable(openai_session, code):
    assert openai_session(ready=False).protocol.closed(code, "").ending is Ending.AGENT_UNREACHABLE


def test_the_longest_session_is_told_apart_even_if_it_closes_politely(openai_session):
    agent = openai_session()
    assert agent.fails("session_expired") == [AgentError("session_expired", "words of the API")]
    assert agent.protocol.audio(MS20) is None
    end = agent.protocol.closed(1000, "")
    assert end.ending is Ending.AGENT_LOST
    assert "session_expired" in end.detail


@pytest.mark.parametrize(
    ("status", "ending", "remedy"),
    [
        (401, Ending.AGENT_REFUSED, "check the key"),
        (403, Ending.AGENT_REFUSED, "permissions"),
        (404, Ending.AGENT_REFUSED, "check url and model"),
        (429, Ending.AGENT_UNREACHABLE, "429"),
        (503, Ending.AGENT_UNREACHABLE, "503"),
    ],
)
def test_an_http_status_instead_of_the_upgrade_is_judged_with_a_remedy(
    openai_session, status, ending, remedy
):
    end = openai_session(ready=False).protocol.refused(status)
    assert end.ending is ending
    assert remedy in end.detail
