"""The facade against the vendor's pages; every event it makes passes the vendor's own models (conftest)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.agent.events import (
    AudioCleared,
    AudioIn,
    AudioText,
    ReplyCancelled,
    ReplyRequested,
    ReplyTruncated,
    TextIn,
    ToolResult,
    TurnCommitted,
)
from telbridge.agent.facades.openai.facade import OpenAIFacade, Wants
from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K

Connect = Callable[..., Any]
FRAME = b"\x7f" * 160
FRAME_TEXT = b64encode(FRAME).decode()
PCMU = {"type": "audio/pcmu"}
PCMU_BOTH = {"input": {"format": PCMU}, "output": {"format": PCMU}}


def user_text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **more}


# -- session ------------------------------------------------------------------------------------------


def test_an_update_is_a_patch_and_the_answer_shows_the_whole_session(connect: Connect) -> None:
    client = connect()
    client.updates(instructions="Be kind.", audio=PCMU_BOTH)
    (message,) = client.gets()
    session = message["session"]
    assert message["type"] == "session.updated"
    assert session["instructions"] == "Be kind."
    assert session["audio"]["input"]["format"] == PCMU
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500
    client.updates(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}})
    vad = client.gets()[0]["session"]["audio"]["input"]["turn_detection"]
    assert (vad["silence_duration_ms"], vad["threshold"]) == (300, 0.5)


def test_null_clears_what_may_be_absent(connect: Connect) -> None:
    client = connect()
    (configured,) = client.updates(audio={"input": {"turn_detection": None}})
    assert configured.turns is None
    assert client.gets()[0]["session"]["audio"]["input"]["turn_detection"] is None


def test_semantic_turn_detection_keeps_nothing_of_server_vad(connect: Connect) -> None:
    client = connect()
    (configured,) = client.updates(
        audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}
    )
    assert configured.turns.silence_ms == 400
    assert "threshold" not in client.gets()[0]["session"]["audio"]["input"]["turn_detection"]


def test_the_two_directions_have_formats_of_their_own(connect: Connect) -> None:
    client = connect()
    (configured,) = client.updates(
        audio={"input": {"format": {"type": "audio/pcma"}}, "output": {"format": PCMU}}
    )
    assert (configured.input, configured.output) == (PCMA_8K, PCMU_8K)
    assert connect().facade.configured(by_client=False).input == PCM_24K


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "marin"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
        (
            {"type": "realtime", "output_modalities": ["audio", "text"]},
            "invalid_value",
            "session.output_modalities",
        ),
        ({"type": "realtime", "max_output_tokens": 5000}, "invalid_value", "session.max_output_tokens"),
        (
            {"type": "realtime", "audio": {"output": {"voice": "nova"}}},
            "invalid_value",
            "session.audio.output.voice",
        ),
        (
            {"type": "realtime", "audio": {"output": {"speed": 2.0}}},
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm"}}}},
            "missing_required_parameter",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}},
            "unknown_parameter",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "g711_ulaw"}}}},
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": "pcmu"}}},
            "invalid_type",
            "session.audio.input.format",
        ),
        (
            {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 1.5}}},
            },
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": "500"}}},
            },
            "invalid_type",
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        (
            {"type": "realtime", "tools": [{"type": "function", "function": {"name": "x"}}]},
            "missing_required_parameter",
            "session.tools[0].name",
        ),
    ],
)
def test_a_bad_update_is_refused_as_a_whole(
    connect: Connect, session: dict[str, Any], code: str, param: str
) -> None:
    client = connect()
    before = client.facade.configured(by_client=False)
    assert client.says("session.update", event_id="e1", session={"instructions": "lost", **session}) == []
    error = client.error()
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "e1")
    assert client.facade.configured(by_client=False) == before


@pytest.mark.parametrize("option", [{"reasoning": {"effort": "low"}}, {"parallel_tool_calls": True}])
def test_options_of_reasoning_models_are_refused_by_others(connect: Connect, option: dict[str, Any]) -> None:
    client = connect(model="gpt-realtime-1.5")
    client.updates(**option)
    assert client.error()["code"] == "invalid_value"
    client = connect(model="gpt-realtime-2.1")
    client.updates(**option)
    assert client.kinds() == ["session.updated"]


def test_the_voice_is_locked_by_the_first_audio_and_the_update_lost(connect: Connect) -> None:
    client = connect()
    client.updates(audio={"output": {"voice": "cedar"}})
    assert client.kinds() == ["session.updated"]
    client.facade.audio(client.facade.begin_reply(), FRAME)
    client.gets()
    client.updates(instructions="lost", audio={"output": {"voice": "marin"}})
    error = client.error()
    assert (error["code"], error["event_id"], error["param"]) == ("cannot_update_voice", None, None)
    assert client.facade.configured(by_client=False).instructions != "lost"


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_type", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": "transcription_session.update"}', "invalid_value", "type"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value", "type"),
        (
            '{"type": "response.create", "response": {"modalities": []}}',
            "unknown_parameter",
            "response.modalities",
        ),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "*"}', "invalid_value", "audio"),
        (
            json.dumps(
                {
                    "type": "conversation.item.create",
                    "item": {
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_audio", "transcript": "x"}],
                    },
                }
            ),
            "invalid_value",
            "item.content[0].type",
        ),
    ],
)
def test_what_cannot_be_understood_is_an_error_and_the_session_goes_on(
    connect: Connect, text: str, code: str, param: str | None
) -> None:
    client = connect()
    assert client.facade.receive(text) == []
    error = client.error()
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    client.updates()
    assert client.kinds() == ["session.updated"]


# -- caller audio -------------------------------------------------------------------------------------


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("extra", [{}, {"event_id": "a1"}])
def test_audio_arrives_however_the_client_writes_it(
    connect: Connect, separators: tuple[str, str], extra: dict[str, str]
) -> None:
    client = connect()
    frames = [bytes([n]) * 160 for n in range(4)]
    for frame in frames:
        message = {"type": "input_audio_buffer.append", "audio": b64encode(frame).decode(), **extra}
        assert client.facade.receive(json.dumps(message, separators=separators)) == [AudioIn(frame)]
    assert client.gets() == []


HARMLESS = st.characters(exclude_characters='"\\').filter(str.isprintable)


@given(text=st.text(HARMLESS, max_size=20), first=st.binary(min_size=1, max_size=40))
def test_the_short_way_reads_an_append_as_json_does(text: str, first: bytes) -> None:
    facade = OpenAIFacade(session_id="t", model="gpt-realtime-2.1", wants=Wants.BASE64)
    facade.receive(json.dumps({"type": "input_audio_buffer.append", "audio": b64encode(first).decode()}))
    message = json.dumps({"type": "input_audio_buffer.append", "audio": text})
    assert facade.receive(message) == [AudioText(text)]


@pytest.mark.parametrize("text", ['AA"AA', "AA\\AA", "AA\nAA", "AA\x00AA"])
def test_what_would_break_the_json_around_it_is_not_echoed(text: str) -> None:
    facade = OpenAIFacade(session_id="t", model="gpt-realtime-2.1", wants=Wants.BASE64)
    facade.receive(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"}))
    facade.take_messages()
    assert facade.receive(json.dumps({"type": "input_audio_buffer.append", "audio": text})) == []
    (error,) = (json.loads(message) for message in facade.take_messages())
    assert error["error"]["code"] == "invalid_value"


def test_a_commit_needs_100_ms(connect: Connect) -> None:
    client = connect()
    client.updates(audio={**PCMU_BOTH, "input": {"format": PCMU, "turn_detection": None}})
    client.gets()
    for _ in range(4):
        client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    client.says("input_audio_buffer.commit")
    assert client.error()["code"] == "input_audio_buffer_commit_empty"
    client.says("input_audio_buffer.append", audio=FRAME_TEXT)
    (event,) = client.says("input_audio_buffer.commit")
    committed, added, done = client.gets()
    assert event == TurnCommitted(committed["item_id"])
    assert added["item"]["id"] == done["item"]["id"] == committed["item_id"]
    assert client.says("input_audio_buffer.clear") == [AudioCleared()]
    assert client.kinds() == ["input_audio_buffer.cleared"]


# -- conversation -------------------------------------------------------------------------------------


def test_items_are_kept_in_their_order(connect: Connect) -> None:
    client = connect()
    assert client.says("conversation.item.create", item=user_text("[DTMF] caller pressed 5", id="a")) == [
        TextIn("[DTMF] caller pressed 5", "user")
    ]
    assert client.kinds() == ["conversation.item.added", "conversation.item.done"]
    client.says("conversation.item.create", item=user_text("before", id="b"), previous_item_id="root")
    assert client.gets()[0]["previous_item_id"] is None
    client.says("conversation.item.create", item=user_text("last", id="c"))
    assert client.gets()[0]["previous_item_id"] == "a"
    client.says("conversation.item.retrieve", item_id="b")
    assert client.gets()[0]["item"]["content"][0]["text"] == "before"
    client.says("conversation.item.delete", item_id="b")
    assert client.kinds() == ["conversation.item.deleted"]
    client.says("conversation.item.retrieve", item_id="b")
    assert client.error()["code"] == "item_retrieve_invalid_item_id"


# -- responses ----------------------------------------------------------------------------------------

RESPONSE = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def test_a_response_goes_through_its_events_in_the_documented_order(connect: Connect) -> None:
    client = connect()
    client.updates(audio=PCMU_BOTH)
    client.gets()
    (request,) = client.says(
        "response.create", response={"instructions": "Say exactly: Hi.", "metadata": {"k": "v"}}
    )
    assert isinstance(request, ReplyRequested)
    assert (request.instructions, request.output) == ("Say exactly: Hi.", PCMU_8K)
    client.facade.words(request.reply, "Hi.")
    client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    events = client.gets()
    assert [event["type"] for event in events] == RESPONSE
    assert events[6]["delta"] == FRAME_TEXT
    done = events[-1]["response"]
    assert (done["status"], done["metadata"]) == ("completed", {"k": "v"})
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hi."}]
    assert len({event["event_id"] for event in events}) == len(events)


def test_a_reply_with_nothing_in_it_has_no_item(connect: Connect) -> None:
    client = connect()
    client.facade.end_reply(client.facade.begin_reply())
    events = client.gets()
    assert [event["type"] for event in events] == ["response.created", "rate_limits.updated", "response.done"]
    assert events[-1]["response"]["output"] == []


def test_a_text_response_has_no_audio(connect: Connect) -> None:
    client = connect()
    client.updates(output_modalities=["text"])
    client.gets()
    reply = client.facade.begin_reply()
    client.facade.audio(reply, FRAME)
    client.facade.words(reply, "Hi.")
    client.facade.end_reply(reply)
    kinds = client.kinds()
    assert "response.output_text.delta" in kinds and "response.output_audio.delta" not in kinds


def test_one_response_at_a_time(connect: Connect) -> None:
    client = connect()
    (first,) = client.says("response.create")
    assert client.facade.begin_reply() is None
    client.gets()
    assert client.says("response.create", event_id="mine") == []
    error = client.error()
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "mine")
    (aside,) = client.says("response.create", response={"conversation": "none"})
    assert client.gets()[0]["response"]["conversation_id"] is None
    client.facade.end_reply(aside.reply)
    client.facade.end_reply(first.reply)
    client.gets()
    assert client.says("response.create") != []


def test_cancel_closes_the_response_and_a_late_part_of_it_is_dropped(connect: Connect) -> None:
    client = connect()
    reply = client.facade.begin_reply()
    client.facade.audio(reply, FRAME)
    client.gets()
    assert client.says("response.cancel") == [ReplyCancelled(reply)]
    done = client.gets()[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert done["output"][0]["status"] == "incomplete"
    client.facade.audio(reply, FRAME)
    client.facade.end_reply(reply)
    assert client.gets() == []
    client.says("response.cancel")
    assert client.error()["code"] == "response_cancel_not_active"


def test_a_function_call_is_an_item_of_its_own(connect: Connect) -> None:
    client = connect()
    client.updates(tools=[{"type": "function", "name": "transfer", "parameters": {"type": "object"}}])
    client.gets()
    reply = client.facade.begin_reply()
    client.facade.words(reply, "One moment.")
    call = client.facade.call_tool(reply, "transfer", {"to": "sales"})
    client.facade.end_reply(reply)
    events = client.gets()
    (done,) = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert (done["call_id"], json.loads(done["arguments"])) == (call, {"to": "sales"})
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "function_call"]
    output = {"type": "function_call_output", "call_id": call, "output": "{}"}
    assert client.says("conversation.item.create", item=output) == [ToolResult(call, "{}")]


# -- turns --------------------------------------------------------------------------------------------


def test_the_callers_speech_cancels_the_response(connect: Connect) -> None:
    client = connect()
    client.facade.audio(client.facade.begin_reply(), FRAME)
    client.gets()
    client.facade.speech_started(1200)
    events = client.gets()
    assert (events[0]["type"], events[0]["audio_start_ms"]) == ("input_audio_buffer.speech_started", 1200)
    assert events[-1]["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}


def test_interrupt_response_false_lets_the_response_go_on(connect: Connect) -> None:
    client = connect()
    client.updates(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    reply = client.facade.begin_reply()
    client.gets()
    client.facade.speech_started(0)
    assert client.kinds() == ["input_audio_buffer.speech_started"]
    assert client.facade.is_open(reply)


def test_a_turn_becomes_an_item_and_its_words_come_if_they_were_asked_for(connect: Connect) -> None:
    client = connect()
    client.facade.speech_started(100)
    turn = client.facade.speech_stopped(900)
    started, stopped, committed, added, _ = client.gets()
    assert turn == started["item_id"] == stopped["item_id"] == committed["item_id"] == added["item"]["id"]
    client.facade.heard(turn, "Hello.", 800)
    assert client.gets() == []
    client.updates(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    client.gets()
    client.facade.heard(turn, "Hello.", 800)
    (message,) = client.gets()
    assert (message["item_id"], message["transcript"]) == (turn, "Hello.")


def test_truncation_counts_from_the_item_and_not_past_it(connect: Connect) -> None:
    client = connect()
    client.updates(audio=PCMU_BOTH)
    for _ in range(2):
        reply = client.facade.begin_reply()
        client.facade.audio(reply, FRAME * 50)
        client.facade.end_reply(reply)
    item = client.gets()[-1]["response"]["output"][0]["id"]
    assert client.says("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1000) == [
        ReplyTruncated(reply, 1000)
    ]
    assert client.kinds() == ["conversation.item.truncated"]
    client.says("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1001)
    assert client.error()["message"] == "Audio content of 1000ms is already shorter than 1001ms"
    client.says("conversation.item.truncate", item_id="item_x", content_index=0, audio_end_ms=0)
    assert client.error()["code"] == "item_truncate_invalid_item_id"


def test_an_idle_time_out_commits_the_silence(connect: Connect) -> None:
    client = connect()
    client.facade.idle(1000, 7000)
    assert client.kinds()[:2] == ["input_audio_buffer.timeout_triggered", "input_audio_buffer.committed"]


def test_the_end_of_the_hour(connect: Connect) -> None:
    client = connect()
    assert client.facade.expire()[0] == 1001
    assert client.error()["code"] == "session_expired"
