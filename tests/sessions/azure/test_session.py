"""Azure Voice Live, rule by rule."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from telbridge.audio.formats import PCM_16K, PCM_24K, PCMA_8K
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentInterrupted,
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
    Said,
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    ToolCall,
    Unknown,
    UpdateRefused,
)
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.azure.vocabulary import QUIET
from tests.sessions.azure.bed import NOW_NS, AzureSession

ONE, TWO = ReplyId(1), ReplyId(2)
HOUR_NS = 3600 * 10**9


def words_asked(message: dict[str, Any]) -> str:
    """The exact words of a response.create."""
    (part,) = message["response"]["pre_generated_assistant_message"]["content"]
    assert part["type"] == "text"
    return str(part["text"])


# ---------------------------------------------------------------- opening


def test_nothing_is_said_before_the_api_has_spoken():
    agent = AzureSession(ready=False)
    agent.protocol.connected(now_ns=NOW_NS)
    assert agent.sent() == []


def test_one_whole_update_follows_session_created_and_its_answer_makes_the_session_ready():
    agent = AzureSession(ready=False, instructions="Be brief.")
    assert agent.receives("session.created", session={}) == []
    assert agent.sent_session()["instructions"] == "Be brief."
    assert agent.protocol.audio(bytes(160)) is None
    assert agent.receives("session.updated", session={}) == [SessionReady(NOW_NS)]
    assert agent.protocol.audio(bytes(160)) is not None


def test_audio_goes_out_as_it_came():
    agent = AzureSession(wire=PCMA_8K)
    frame = bytes(range(160))
    message = agent.protocol.audio(frame)
    assert message is not None
    assert json.loads(message) == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(frame).decode(),
    }
    assert agent.protocol.uplink_is_text


@pytest.mark.parametrize(
    "taken",
    [
        {"input_audio_format": "pcm16"},
        {"output_audio_format": "pcm16"},
    ],
)
def test_a_session_with_another_format_is_refused_before_it_makes_noise(taken):
    agent = AzureSession(ready=False)
    agent.receives("session.created")
    (error,) = agent.receives("session.updated", session=taken)
    assert isinstance(error, AgentError)
    assert (error.code, error.at_setup) == ("format_not_taken", True)
    assert agent.protocol.closed(1000, "").ending is Ending.AGENT_REFUSED


def test_the_formats_come_back_in_older_spellings_and_with_unproven_rates():
    agent = AzureSession(ready=False, wire=PCM_16K)
    agent.receives("session.created")
    taken = {"output_audio_format": "pcm16-16000hz", "input_audio_sampling_rate": 16000}
    assert agent.receives("session.updated", session=taken) == [SessionReady(NOW_NS)]
    agent = AzureSession(ready=False)
    agent.receives("session.created")
    taken = {"input_audio_format": "g711_ulaw", "input_audio_sampling_rate": 24000}
    assert agent.receives("session.updated", session=taken) == [SessionReady(NOW_NS)]


def test_a_linear_rate_that_was_not_taken_is_noticed():
    agent = AzureSession(ready=False, wire=PCM_16K)
    agent.receives("session.created")
    (error,) = agent.receives("session.updated", session={"input_audio_sampling_rate": 24000})
    assert isinstance(error, AgentError)


# ---------------------------------------------------------------- greeting and speaking


def test_azures_voices_are_given_the_words_of_the_greeting():
    agent = AzureSession(ready=False)
    agent.protocol.greet(Greeting("Hello."))
    _, create = agent.configured()
    assert create["type"] == "response.create"
    assert words_asked(create) == "Hello."


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt-realtime", "voice": "marin"},
        {"model": "gpt-realtime-2.1"},
        {"model": "azure-realtime", "voice": {"type": "azure-realtime-native", "name": "ava"}},
        {"profile": "byom-azure-openai-realtime", "model": "mine"},
        {"api_version": "2025-10-01"},
    ],
)
def test_the_models_own_voices_and_older_versions_are_told_what_to_say(fields):
    agent = AzureSession(ready=False, **fields)
    agent.protocol.greet(Greeting("Hello."))
    _, create = agent.configured()
    assert create["response"] == {"instructions": "Say exactly: Hello."}


def test_a_realtime_model_with_azures_voice_is_given_the_words():
    voice = {"type": "azure-standard", "name": "en-US-AvaNeural"}
    agent = AzureSession(model="gpt-realtime", voice=voice)
    agent.protocol.say("Hello.")
    assert words_asked(agent.sent()[0]) == "Hello."


def test_a_greeting_in_the_agents_words():
    agent = AzureSession(ready=False)
    agent.protocol.greet(Greeting("Greet Ann.", verbatim=False))
    _, item, create = agent.configured()
    assert item["item"]["role"] == "system"
    assert item["item"]["content"][0]["text"].endswith("Greet Ann.")
    assert "response" not in create


def test_text_as_the_callers_and_as_context():
    agent = AzureSession()
    agent.protocol.send_text("5", role=TextRole.CALLER, respond=True)
    item, create = agent.sent()
    assert (item["item"]["role"], create["type"]) == ("user", "response.create")
    agent.protocol.send_text("VIP", role=TextRole.CONTEXT, respond=False)
    (item,) = agent.sent()
    assert item["item"]["role"] == "system"


def test_a_reply_by_instructions_keeps_the_sessions_own():
    agent = AzureSession(instructions="Be brief.")
    agent.protocol.request_reply("Ask for the name.")
    (create,) = agent.sent()
    assert create["response"] == {"instructions": "Be brief.\n\nAsk for the name."}
    agent = AzureSession(agent={"agent_name": "a", "agent_project_name": "p"})
    agent.protocol.request_reply("Ask for the name.")
    (create,) = agent.sent()
    assert create["additional_instructions"] == "Ask for the name."
    assert "response" not in create


def test_with_turns_by_hand_asking_for_a_reply_ends_the_callers_turn():
    agent = AzureSession(turn_detection="off")
    agent.protocol.request_reply(None)
    assert agent.sent_types() == ["input_audio_buffer.commit", "response.create"]
    assert agent.fails("input_audio_buffer_commit_empty") == []


def test_one_response_at_a_time():
    agent = AzureSession()
    agent.begins("r1")
    agent.protocol.say("One.")
    agent.protocol.say("Two.")
    assert agent.sent() == []
    agent.ends("r1")
    (create,) = agent.sent()
    assert words_asked(create) == "One."
    agent.begins("r2")
    agent.ends("r2")
    (create,) = agent.sent()
    assert words_asked(create) == "Two."


def test_a_response_refused_as_busy_is_asked_for_again_once():
    agent = AzureSession()
    agent.protocol.say("One.")
    (create,) = agent.sent()
    busy = "conversation_already_has_active_response"
    assert agent.fails(busy, event_id=create["event_id"]) == []
    agent.begins("r1")
    assert agent.sent() == []
    agent.ends("r1")
    (again,) = agent.sent()
    assert words_asked(again) == "One."
    (error,) = agent.fails(busy, event_id=again["event_id"])
    assert isinstance(error, AgentError)


# ---------------------------------------------------------------- replies


def test_a_reply_from_its_first_audio_to_its_end():
    agent = AzureSession()
    agent.begins("r1")
    assert agent.speaks("r1", b"\x01" * 100) == [AgentAudio(ONE, b"\x01" * 100, NOW_NS)]
    assert agent.of("response.audio.done", "r1") == []
    assert agent.ends("r1") == [ReplyAudioDone(ONE), ReplyDone(ONE, ReplyStatus.COMPLETED)]
    assert agent.ends("r1") == []
    agent.begins("r2")
    assert agent.ends("r2") == [ReplyDone(TWO, ReplyStatus.COMPLETED)]


def test_two_items_are_one_reply():
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(10), item="a")
    agent.speaks("r1", bytes(10), item="b")
    assert agent.ends("r1").count(ReplyAudioDone(ONE)) == 1


def test_samples_cut_in_two_by_the_api_are_joined():
    agent = AzureSession(wire=PCM_24K)
    agent.begins("r1")
    events = agent.speaks("r1", b"\x01\x02\x03") + agent.speaks("r1", b"\x04")
    assert events == [AgentAudio(ONE, b"\x01\x02", NOW_NS), AgentAudio(ONE, b"\x03\x04", NOW_NS)]


@pytest.mark.parametrize(
    ("status", "details", "outcome"),
    [
        ("incomplete", {"reason": "max_output_tokens"}, (ReplyStatus.INCOMPLETE, "max_output_tokens")),
        (
            "failed",
            {"error": {"code": "message_creation_failed"}},
            (ReplyStatus.FAILED, "message_creation_failed"),
        ),
        ("unheard_of", {}, (ReplyStatus.FAILED, "unheard_of")),
    ],
)
def test_a_reply_that_ends_otherwise(status, details, outcome):
    agent = AzureSession()
    agent.begins("r1")
    assert agent.ends("r1", status, **details) == [ReplyDone(ONE, *outcome)]


def test_what_the_agent_says_is_told_from_its_beginning():
    agent = AzureSession()
    agent.begins("r1")
    assert agent.of("response.audio_transcript.delta", "r1", delta="Hel") == [AgentTranscript(ONE, "Hel")]
    assert agent.of("response.audio_transcript.delta", "r1", delta="lo.") == [AgentTranscript(ONE, "Hello.")]
    assert agent.of("response.audio_transcript.done", "r1", transcript="Hello.") == []
    told = agent.of("response.audio_transcript.done", "r1", "item_2", transcript="Bye.")
    assert told == [AgentTranscript(ONE, "Hello. Bye.")]
    assert agent.of("response.text.done", "r1", "item_3", text="Text.") == [
        AgentTranscript(ONE, "Hello. Bye. Text.")
    ]


def test_what_the_caller_says():
    agent = AzureSession()
    event = "conversation.item.input_audio_transcription"
    completed = {"item_id": "i", "content_index": 0, "language": "en-US"}
    assert agent.receives(f"{event}.completed", transcript="Hi.", **completed) == [CallerTranscript("Hi.")]
    assert agent.receives(f"{event}.completed", transcript=" ", **completed) == []
    (warning,) = agent.receives(f"{event}.failed", item_id="i", content_index=0, error={"code": "c"})
    assert isinstance(warning, AgentWarning)
    assert warning.code == "transcription_failed: c"


# ---------------------------------------------------------------- interruption


def test_the_callers_voice_stops_the_agent_and_nothing_is_sent_for_it():
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(8000))
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    assert agent.sent() == []
    assert agent.receives("input_audio_buffer.speech_stopped", audio_end_ms=1, item_id="i") == [
        CallerStoppedSpeaking(NOW_NS)
    ]


def test_audio_that_comes_after_an_interruption_is_dropped():
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(100))
    agent.hears_the_caller()
    assert agent.speaks("r1", bytes(100)) == []
    assert agent.ends("r1", "cancelled", reason="turn_detected") == [
        ReplyDone(ONE, ReplyStatus.CANCELLED, "turn_detected")
    ]
    assert agent.speaks("r1", bytes(100)) == []
    agent.begins("r2")
    assert agent.speaks("r2", bytes(100)) != []


@pytest.mark.parametrize("details", [{"reason": "turn_detected"}, {"reason": "other"}, {}])
def test_an_api_that_stops_by_itself_is_an_interruption_too(details):
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(100))
    assert agent.ends("r1", "cancelled", **details) == [
        AgentInterrupted(NOW_NS),
        ReplyDone(ONE, ReplyStatus.CANCELLED, details.get("reason", "")),
    ]


def test_without_barge_in_the_agent_speaks_on():
    agent = AzureSession(turn_detection={"interrupt_response": False})
    agent.begins("r1")
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=False)]
    assert agent.speaks("r1", bytes(100)) != []


def test_what_was_heard_is_told_item_by_item_and_never_more_than_came():
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(800), item="a")
    agent.speaks("r1", bytes(800), item="b")
    agent.hears_the_caller()
    assert agent.heard(1, ms=150) == [("b", 50)]
    assert agent.heard(1, ms=5000) == []
    assert agent.heard(9, ms=10) == []
    assert agent.fails(None, message="Audio content of 9ms is already shorter than 10ms") == []


def test_a_server_that_truncates_by_itself_is_not_told_what_was_heard():
    agent = AzureSession(turn_detection={"auto_truncate": True})
    agent.begins("r1")
    agent.speaks("r1", bytes(800))
    agent.hears_the_caller()
    assert agent.heard(1, ms=50) == []
    assert agent.receives("conversation.item.truncated", item_id="item_1") == []


def test_interrupting_at_our_own_will_cancels_the_response_once():
    agent = AzureSession()
    agent.begins("r1")
    agent.speaks("r1", bytes(100))
    agent.protocol.interrupt()
    (cancel,) = agent.sent()
    assert (cancel["type"], cancel["response_id"]) == ("response.cancel", "r1")
    assert agent.speaks("r1", bytes(100)) == []
    agent.protocol.interrupt()
    assert agent.sent() == []
    assert agent.ends("r1", "cancelled", reason="client_cancelled") == [
        ReplyDone(ONE, ReplyStatus.CANCELLED, "client_cancelled")
    ]
    assert agent.fails("response_cancel_not_active") == []


def test_interrupting_before_the_response_began_cancels_it_when_it_does():
    agent = AzureSession()
    agent.protocol.say("Long.")
    agent.sent()
    agent.protocol.interrupt()
    assert agent.sent() == []
    agent.begins("r1")
    (cancel,) = agent.sent()
    assert cancel["response_id"] == "r1"
    assert agent.speaks("r1", bytes(100)) == []


def test_interrupting_nobody_says_nothing():
    agent = AzureSession()
    agent.protocol.interrupt()
    assert agent.sent() == []


# ---------------------------------------------------------------- tools


def test_a_tool_is_called_once_and_answered_when_its_response_is_over():
    agent = AzureSession()
    agent.begins("r1")
    assert agent.calls("r1", "c1") == [ToolCall("c1", "look_up", "{}")]
    agent.protocol.tool_result("c1", '{"a":1}', failed=False)
    assert agent.sent() == []
    assert agent.ends("r1") == [ReplyDone(ONE, ReplyStatus.COMPLETED)]
    output, create = agent.sent()
    assert output["item"] == {"type": "function_call_output", "call_id": "c1", "output": '{"a":1}'}
    assert create["type"] == "response.create"
    agent.protocol.tool_result("c1", "again", failed=False)
    agent.protocol.tool_result("never", "asked", failed=False)
    assert agent.sent() == []


def test_all_outputs_come_before_the_one_response():
    agent = AzureSession()
    agent.begins("r1")
    agent.calls("r1", "c1")
    agent.calls("r1", "c2")
    agent.ends("r1")
    agent.protocol.tool_result("c2", "2", failed=False)
    assert agent.sent_types() == ["conversation.item.create"]
    agent.protocol.tool_result("c1", "1", failed=True)
    output, create = agent.sent()
    assert output["item"]["output"] == '{"error": "1"}'
    assert create["type"] == "response.create"


def test_a_call_whose_item_never_ends_counts_when_its_response_completed():
    agent = AzureSession()
    agent.begins("r1")
    call = {"call_id": "c1", "name": "n", "arguments": "{}"}
    assert agent.of("response.function_call_arguments.done", "r1", **call) == []
    assert agent.ends("r1") == [ToolCall("c1", "n", "{}"), ReplyDone(ONE, ReplyStatus.COMPLETED)]
    agent.protocol.tool_result("c1", "{}", failed=False)
    assert agent.sent_types() == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("status", ["cancelled", "completed"])
def test_a_call_that_was_interrupted_is_not_made(status):
    agent = AzureSession()
    agent.begins("r1")
    assert agent.calls("r1", "c1", status="incomplete", arguments='{"a') == []
    assert agent.ends("r1", status) == [ReplyDone(ONE, ReplyStatus(status))]


def test_the_agent_is_asked_to_speak_about_what_an_mcp_server_answered():
    agent = AzureSession()
    agent.begins("r1")
    assert agent.receives("response.mcp_call.completed", item_id="i", output_index=0) == []
    assert agent.sent() == []
    agent.ends("r1")
    assert agent.sent_types() == ["response.create"]
    agent.begins("r2")
    (warning,) = agent.receives("response.mcp_call.failed", item_id="i", output_index=0)
    assert isinstance(warning, AgentWarning)
    (warning,) = agent.receives("mcp_list_tools.failed", item_id="i")
    assert isinstance(warning, AgentWarning)


def test_a_tool_that_wants_approval_is_denied_rather_than_waited_for():
    agent = AzureSession()
    item = {"type": "mcp_approval_request", "id": "m1", "name": "buy", "server_label": "s"}
    (warning,) = agent.receives("conversation.item.created", item=item)
    assert isinstance(warning, AgentWarning)
    assert warning.code == "mcp_approval_denied"
    answer, create = agent.sent()
    assert answer["item"] == {
        "type": "mcp_approval_response",
        "approval_request_id": "m1",
        "approve": False,
    }
    assert create["type"] == "response.create"


# ---------------------------------------------------------------- updates


def test_an_update_says_what_differs_and_is_acknowledged():
    agent = AzureSession(instructions="Be brief.")
    assert agent.updated_neutrally(instructions="Be long.") == {"instructions": "Be long."}
    assert agent.receives("session.updated", session={}) == [SessionUpdated(NOW_NS)]
    assert agent.receives("session.updated", session={}) == []


def test_a_table_is_sent_whole():
    agent = AzureSession(turn_detection={"type": "server_vad", "threshold": 0.3})
    session = agent.updated(turn_detection={"silence_duration_ms": 900})
    assert session == {
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.3,
            "silence_duration_ms": 900,
            "create_response": True,
            "interrupt_response": True,
        }
    }


def test_another_detector_keeps_the_fields_that_both_have():
    agent = AzureSession(
        turn_detection={"type": "azure_semantic_vad", "threshold": 0.3, "remove_filler_words": True}
    )
    session = agent.updated_neutrally(barge_in=False, turn_detection={"mode": "vad"})
    assert session["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.3,
        "create_response": True,
        "interrupt_response": False,
    }
    agent.receives("session.updated")
    agent.begins("r1")
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=False)]


def test_a_part_is_switched_off_by_null():
    agent = AzureSession(input_audio_noise_reduction={"type": "azure_deep_noise_suppression"})
    assert agent.updated_neutrally(noise_reduction="off") == {"input_audio_noise_reduction": None}
    agent.receives("session.updated")
    assert agent.updated(turn_detection=None) == {"turn_detection": None}


def test_functions_are_replaced_and_servers_stay():
    server = {"type": "mcp", "server_label": "s", "server_url": "https://s", "require_approval": "never"}
    agent = AzureSession(tools=[server, {"type": "function", "name": "old"}])
    session = agent.updated_neutrally(tools=[{"name": "new"}])
    assert [tool.get("name", "s") for tool in session["tools"]] == ["new", "s"]


def test_updates_go_one_by_one():
    agent = AzureSession()
    agent.updated_neutrally(instructions="One.")
    agent.protocol.update(NeutralSettings(instructions="Two."), {})
    assert agent.sent() == []
    assert agent.receives("session.updated") == [SessionUpdated(NOW_NS)]
    assert agent.sent_session() == {"instructions": "Two."}


def test_an_update_asked_for_before_the_session_is_ready_waits():
    agent = AzureSession(ready=False)
    agent.protocol.update(NeutralSettings(instructions="Late."), {})
    first, second = agent.configured()
    assert "instructions" not in first["session"]
    assert second["session"] == {"instructions": "Late."}


@pytest.mark.parametrize("attributed", [True, False])
def test_a_refused_update_leaves_the_session_as_it_was(attributed):
    agent = AzureSession(instructions="Be brief.")
    agent.protocol.update(NeutralSettings(), {"turn_detection": {"auto_truncate": True}})
    (update,) = agent.sent()
    agent.protocol.update(NeutralSettings(instructions="Be long."), {})
    event_id = update["event_id"] if attributed else None
    refused = agent.fails("invalid_value", event_id=event_id)
    assert refused == [UpdateRefused("invalid_value", "words of the API")]
    assert agent.sent_session() == {"instructions": "Be long."}
    agent.receives("session.updated")
    agent.begins("r1")
    agent.speaks("r1", bytes(800))
    assert agent.heard(1, ms=10) == [("item_1", 10)]


def test_an_error_of_something_else_is_not_charged_to_the_update():
    agent = AzureSession()
    agent.updated_neutrally(instructions="x")
    (error,) = agent.fails("unknown_item", event_id="tb_elsewhere")
    assert isinstance(error, AgentError)
    assert agent.receives("session.updated") == [SessionUpdated(NOW_NS)]


@pytest.mark.parametrize(
    "vendor",
    [
        {"model": "gpt-5"},
        {"api_version": "2026-04-10"},
        {"agent": {"agent_name": "a", "agent_project_name": "p"}},
        {"input_audio_format": "pcm16"},
        {"input_audio_sampling_rate": 8000},
        {"output_audio_format": "pcm16"},
        {"avatar": {"character": "lisa", "customized": False}},
        {"input_audio_echo_cancellation": {"reference_source": "server"}},
        {"input_audio_echo_cancellation": {"channels": 1}},
        {"temperature": 7},
        {"no_such_field": 1},
        {"voice": {"type": "openai", "name": "marin"}},  # not of this model
    ],
)
def test_what_cannot_change_is_refused_before_anything_is_sent(vendor):
    agent = AzureSession()
    with pytest.raises(UpdateImpossible):
        agent.protocol.update(NeutralSettings(), vendor)
    assert agent.sent() == []


def test_the_voice_may_change_until_the_agent_has_spoken():
    agent = AzureSession()
    voice = {"type": "azure-standard", "name": "en-US-AvaNeural"}
    assert agent.updated_neutrally(voice="en-US-AvaNeural") == {"voice": voice}
    agent.receives("session.updated")
    agent.begins("r1")
    agent.speaks("r1", bytes(100))
    for neutral, vendor in ((NeutralSettings(voice="x"), {}), (NeutralSettings(), {"voice": voice})):
        with pytest.raises(UpdateImpossible, match="until the agent has spoken"):
            agent.protocol.update(neutral, vendor)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({"idle_timeout_s": 5}, {}),
        ({"memory_id": "m"}, {}),
        ({"reasoning_effort": "low"}, {}),
        ({"temperature": 0.7}, {"model": "gpt-5"}),
        ({"turn_detection": {"threshold": 0.5}}, {"turn_detection": "off"}),
        ({"barge_in": True}, {"turn_detection": "off"}),
        (
            {"turn_detection": {"silence_ms": 5}},
            {"model": "gpt-realtime", "turn_detection": {"type": "semantic_vad"}},
        ),
        ({"instructions": "x"}, {"agent": {"agent_name": "a", "agent_project_name": "p"}}),
    ],
)
def test_neutral_changes_that_have_no_place_are_refused(asked, fields):
    agent = AzureSession(**fields)
    with pytest.raises(UpdateImpossible):
        agent.protocol.update(NeutralSettings.model_validate(asked), {})
    assert agent.sent() == []


def test_turn_detection_comes_back_with_a_mode():
    agent = AzureSession(turn_detection="off")
    session = agent.updated_neutrally(turn_detection={"mode": "vad", "threshold": 0.4})
    assert session["turn_detection"]["type"] == "server_vad"
    agent.receives("session.updated")
    assert agent.updated_neutrally(turn_detection={"mode": "off"}) == {"turn_detection": None}


def test_a_secret_that_an_update_names_must_be_there():
    agent = AzureSession()
    tool = {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://s",
        "authorization": {"env": "NONE"},
    }
    with pytest.raises(UpdateImpossible, match="NONE is not set"):
        agent.protocol.update(NeutralSettings(), {"tools": [tool]})


# ---------------------------------------------------------------- errors and warnings


def test_an_error_in_the_conversation_is_told_and_the_session_goes_on():
    agent = AzureSession()
    assert agent.fails("server_error") == [AgentError("server_error", "words of the API")]
    assert agent.protocol.audio(bytes(160)) is not None


def test_a_response_that_is_refused_makes_way_for_the_next():
    agent = AzureSession()
    agent.protocol.say("One.")
    agent.protocol.say("Two.")
    (create,) = agent.sent()
    (error,) = agent.fails("invalid_value", event_id=create["event_id"])
    assert isinstance(error, AgentError)
    assert words_asked(agent.sent()[0]) == "Two."


@pytest.mark.parametrize("after_created", [True, False])
def test_an_error_at_setup_is_the_end_of_the_session(after_created):
    agent = AzureSession(ready=False)
    if after_created:
        agent.receives("session.created")
    (error,) = agent.fails("invalid_request_error", param="session.voice")
    assert isinstance(error, AgentError)
    assert error.at_setup
    assert agent.begins("r1") == []
    assert agent.protocol.audio(bytes(160)) is None
    end = agent.protocol.closed(1000, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert agent.protocol.successor([]) is None


def test_a_warning_is_passed_on():
    agent = AzureSession()
    assert agent.receives("warning", warning={"message": "m", "code": "c"}) == [AgentWarning("c", "m")]


def test_unknown_events_are_counted_and_otherwise_ignored():
    agent = AzureSession()
    assert agent.receives("response.output_audio.delta", delta="AA==") == [
        Unknown("response.output_audio.delta")
    ]
    assert agent.receives("x" * 1000) == [Unknown("x" * 100)]


@pytest.mark.parametrize("kind", QUIET)
def test_quiet_events_tell_nothing(kind):
    assert AzureSession().receives(kind) == []


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", '"x"', "null", "{}", '{"type":5}', b"\xff\xfe", '{"type":"response.created"}'],
)
def test_what_breaks_the_contract_is_told(message):
    (bad,) = AzureSession().protocol.receive(message, now_ns=0)
    assert isinstance(bad, BadMessage)


def test_a_binary_frame_with_json_is_read_like_text():
    agent = AzureSession()
    message = b'{"type":"warning","warning":{"message":"m"}}'
    assert agent.protocol.receive(message, now_ns=0) == [AgentWarning("unknown", "m")]


def test_audio_of_a_reply_never_announced_is_told_once():
    agent = AzureSession()
    assert [type(event) for event in agent.speaks("r9", bytes(4))] == [BadMessage]
    assert agent.speaks("r9", bytes(4)) == []


def test_audio_that_is_not_base64_is_told():
    agent = AzureSession()
    agent.begins("r1")
    (bad,) = agent.of("response.audio.delta", "r1", delta="???")
    assert bad == BadMessage("response.audio.delta: `delta` is not base64")


# ---------------------------------------------------------------- the end


def test_the_longest_session_is_told_a_minute_before():
    agent = AzureSession(ready=False)
    assert agent.protocol.deadline_ns() is None
    agent.receives("session.created")
    due = NOW_NS + HOUR_NS - 60 * 10**9
    assert agent.protocol.deadline_ns() == due
    assert agent.protocol.time_passed(now_ns=due - 1) == []
    assert agent.protocol.time_passed(now_ns=due) == [SessionExpiring(60.0, of_age=True)]
    assert agent.protocol.deadline_ns() is None
    assert agent.protocol.time_passed(now_ns=due + 1) == []


def test_an_expired_session_can_be_carried_on():
    agent = AzureSession()
    (error,) = agent.fails("session_expired")
    assert isinstance(error, AgentError)
    assert agent.protocol.audio(bytes(160)) is None
    end = agent.protocol.closed(1000, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_LOST, True)


@pytest.mark.parametrize(
    ("code", "ending", "again"),
    [
        (1000, Ending.AGENT_HUNG_UP, False),
        (1001, Ending.AGENT_LOST, True),
        (1005, Ending.AGENT_HUNG_UP, False),
        (1006, Ending.AGENT_LOST, True),
        (1008, Ending.AGENT_LOST, False),
        (1009, Ending.AGENT_LOST, False),
        (1011, Ending.AGENT_LOST, True),
        (1013, Ending.AGENT_LOST, True),
        (4001, Ending.AGENT_LOST, True),
        (None, Ending.AGENT_LOST, True),
    ],
)
def test_how_a_session_that_was_ready_ends(code, ending, again):
    end = AzureSession().protocol.closed(code, "why")
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert "why" in end.detail


@pytest.mark.parametrize(("code", "again"), [(1000, False), (1006, True), (None, True)])
def test_a_session_that_never_became_ready_was_unreachable(code, again):
    end = AzureSession(ready=False).protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_UNREACHABLE, again)


@pytest.mark.parametrize(
    ("status", "ending", "again"),
    [
        (400, Ending.AGENT_REFUSED, False),
        (401, Ending.AGENT_REFUSED, False),
        (403, Ending.AGENT_REFUSED, False),
        (404, Ending.AGENT_REFUSED, False),
        (302, Ending.AGENT_UNREACHABLE, False),
        (429, Ending.AGENT_UNREACHABLE, True),
        (503, Ending.AGENT_UNREACHABLE, True),
    ],
)
def test_an_http_status_instead_of_a_websocket(status, ending, again):
    end = AzureSession(ready=False).protocol.refused(status)
    assert (end.ending, end.may_reconnect) == (ending, again)


def test_the_next_session_knows_what_was_said_and_does_not_greet():
    agent = AzureSession(ready=False)
    agent.protocol.greet(Greeting("Hello."))
    agent.configured()
    agent.begins("r1")
    agent.speaks("r1", bytes(100))
    agent.protocol.update(NeutralSettings(instructions="Be long."), {})
    agent.receives("session.updated")
    agent.protocol.update(NeutralSettings(temperature=0.9), {})

    new = agent.succeeded(Said(False, "Hello."), Said(True, "Hi."))
    assert new.protocol.next_step() == agent.protocol.next_step()
    update, *items = new.configured()
    assert (update["session"]["instructions"], update["session"]["temperature"]) == ("Be long.", 0.9)
    said = [(one["item"]["role"], one["item"]["content"][0]) for one in items]
    assert said == [
        ("assistant", {"type": "text", "text": "Hello."}),
        ("user", {"type": "input_text", "text": "Hi."}),
    ]
    new.begins("r1")
    assert new.speaks("r1", bytes(4)) == [AgentAudio(TWO, bytes(4), NOW_NS)]


@pytest.mark.parametrize("configuring", [False, True])
def test_what_is_asked_while_there_is_no_session_goes_to_the_next_successor(configuring):
    first = AzureSession()
    agent = first.succeeded()
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    if configuring:
        agent.receives("session.created", session={})
    agent = agent.succeeded(Said(True, "Hello?"))
    _, hello, digit, create = agent.configured()
    assert [one["item"]["content"][0]["text"] for one in (hello, digit)] == ["Hello?", "[DTMF] 5"]
    assert create["type"] == "response.create"


def test_who_waits_for_the_answer_to_an_update_gets_it_from_the_next_session():
    agent = AzureSession()
    agent.protocol.update(NeutralSettings(instructions="Be long."), {})
    agent.protocol.update(NeutralSettings(temperature=0.9), {})
    agent = agent.succeeded()
    agent.protocol.update(NeutralSettings(instructions="Be brief."), {})
    agent = agent.succeeded()
    agent.receives("session.created", session={})
    events = agent.receives("session.updated", session={})
    assert events == [SessionReady(NOW_NS)] + [SessionUpdated(NOW_NS)] * 3
    assert agent.sent()[0]["session"]["instructions"] == "Be brief."


def test_there_is_no_farewell_and_no_afterword():
    protocol = AzureSession().protocol
    assert protocol.say_goodbye() is False
    assert protocol.afterword() is None
