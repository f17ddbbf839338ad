"""What a call asks of a running OpenAI session: words, interruption, tools, expiry, another session."""

from __future__ import annotations

import json

import pytest

from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentInterrupted,
    AgentTranscript,
    AgentWarning,
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
)
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings

NOW_NS = 7_000_000
MS20 = bytes(range(160))
R1, R2 = ReplyId(1), ReplyId(2)
BUSY = "conversation_already_has_active_response"


def spoken(agent, response="resp_1"):
    agent.begins(response)
    agent.speaks(response, MS20)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(("role", "wire"), [(TextRole.CALLER, "user"), (TextRole.CONTEXT, "system")])
def test_text_joins_the_conversation_in_somebodys_name(openai_session, role, wire):
    agent = openai_session()
    agent.protocol.send_text("A fact.", role=role, respond=False)
    (item,) = agent.sent()
    assert item["item"] == {
        "type": "message",
        "role": wire,
        "content": [{"type": "input_text", "text": "A fact."}],
    }


def test_exact_words_are_a_response_without_tools(openai_session):
    agent = openai_session()
    agent.protocol.say("One moment.")
    assert agent.sent()[0]["response"] == {
        "instructions": "Say exactly: One moment.",
        "tool_choice": "none",
    }


def test_a_reply_can_be_asked_for_plainly_or_with_instructions_beside_the_sessions_own(openai_session):
    agent = openai_session(instructions="You are a clerk.")
    agent.protocol.request_reply(None)
    assert "response" not in agent.sent()[0]
    spoken(agent)
    agent.ends("resp_1")
    agent.protocol.request_reply("Ask whether they are there.")
    assert agent.sent()[0]["response"] == {"instructions": "You are a clerk.\n\nAsk whether they are there."}


def test_without_turn_detection_asking_for_a_reply_ends_the_callers_turn(openai_session):
    agent = openai_session(turn_detection="off")
    agent.protocol.request_reply(None)
    assert agent.sent_types() == ["input_audio_buffer.commit", "response.create"]


def test_written_answers_are_told_like_spoken_ones(openai_session):
    agent = openai_session(output_modalities=["text"])
    agent.begins("resp_1")
    assert agent.receives("response.output_text.done", response_id="resp_1", text="Hi.") == [
        AgentTranscript(R1, "Hi.")
    ]


# ---------------------------------------------------------------- interruption by command


def test_a_command_cancels_the_running_response_by_its_id_and_its_late_audio_is_dropped(openai_session):
    agent = openai_session()
    spoken(agent)
    agent.protocol.interrupt()
    (cancel,) = agent.sent()
    assert cancel == {"type": "response.cancel", "event_id": cancel["event_id"], "response_id": "resp_1"}
    assert agent.speaks("resp_1", MS20) == []
    assert agent.ends("resp_1", "cancelled", reason="client_cancelled") == [
        ReplyDone(R1, ReplyStatus.CANCELLED, "client_cancelled")
    ]


def test_a_reply_that_was_asked_for_and_has_not_begun_is_cancelled_when_it_begins(openai_session):
    agent = openai_session()
    agent.protocol.say("One.")
    agent.sent()
    agent.protocol.interrupt()
    assert agent.sent() == []
    agent.begins("resp_1")
    assert [(m["type"], m["response_id"]) for m in agent.sent()] == [("response.cancel", "resp_1")]
    assert agent.speaks("resp_1", MS20) == []
    agent.ends("resp_1", "cancelled")
    agent.begins("resp_2")
    assert agent.speaks("resp_2", MS20) == [AgentAudio(R2, MS20, NOW_NS)]


def test_a_reply_that_was_given_up_is_not_asked_for_again(openai_session):
    agent = openai_session()
    agent.protocol.say("One.")
    (create,) = agent.sent()
    agent.protocol.interrupt()
    assert agent.fails(BUSY, event_id=create["event_id"]) == []
    agent.begins("resp_vad")
    agent.ends("resp_vad")
    assert agent.sent() == []


def test_interrupting_silence_sends_nothing(openai_session):
    agent = openai_session()
    agent.protocol.interrupt()
    assert agent.sent() == []
    spoken(agent)
    agent.ends("resp_1")
    agent.protocol.interrupt()
    assert agent.sent() == []


def test_a_reply_that_the_api_cut_by_itself_must_stop_here_too(openai_session):
    agent = openai_session(turn_detection={"interrupt_response": False})
    spoken(agent)
    assert agent.ends("resp_1", "cancelled", reason="turn_detected") == [
        AgentInterrupted(NOW_NS),
        ReplyDone(R1, ReplyStatus.CANCELLED, "turn_detected"),
    ]


def test_a_response_that_failed_by_the_apis_own_fault_is_asked_for_once_more(openai_session):
    agent = openai_session()
    agent.protocol.say("One moment.")
    (asked,) = agent.sent()
    fault = {"error": {"type": "server_error", "code": None}}
    agent.begins("resp_1")
    assert agent.ends("resp_1", "failed", **fault) == [AgentWarning("reply_asked_for_again", "")]
    (again,) = agent.sent()
    assert again["response"] == asked["response"]
    agent.begins("resp_2")
    assert agent.ends("resp_2", "failed", **fault) == [ReplyDone(R2, ReplyStatus.FAILED)]
    assert agent.sent() == []


def test_a_reply_that_was_heard_in_part_is_not_asked_for_again(openai_session):
    agent = openai_session()
    spoken(agent)
    assert agent.ends("resp_1", "failed", error={"type": "server_error", "code": "server_error"}) == [
        ReplyAudioDone(R1),
        ReplyDone(R1, ReplyStatus.FAILED, "server_error"),
    ]
    assert agent.sent() == []


# ---------------------------------------------------------------- tools


def test_a_result_goes_back_and_the_agent_is_asked_to_use_it(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    assert agent.calls("resp_1", "call_1") == [ToolCall("call_1", "balance", '{"a":1}')]
    agent.ends("resp_1")
    agent.protocol.tool_result("call_1", '{"eur":5}', failed=False)
    output, create = agent.sent()
    assert output["item"] == {"type": "function_call_output", "call_id": "call_1", "output": '{"eur":5}'}
    assert create == {"type": "response.create", "event_id": create["event_id"]}


def test_a_result_that_comes_before_the_end_of_its_response_waits_for_it(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.protocol.tool_result("call_1", "5", failed=False)
    assert agent.sent() == []
    agent.ends("resp_1")
    assert agent.sent_types() == ["conversation.item.create", "response.create"]


def test_several_calls_of_one_response_are_answered_together(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.calls("resp_1", "call_2")
    agent.ends("resp_1")
    agent.protocol.tool_result("call_2", "2", failed=False)
    assert agent.sent_types() == ["conversation.item.create"]
    agent.protocol.tool_result("call_1", "1", failed=False)
    assert agent.sent_types() == ["conversation.item.create", "response.create"]


def test_the_answer_to_a_result_waits_for_a_response_that_began_meanwhile(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.ends("resp_1")
    agent.begins("resp_vad")
    agent.protocol.tool_result("call_1", "5", failed=False)
    assert agent.sent_types() == ["conversation.item.create"]
    agent.ends("resp_vad")
    assert agent.sent_types() == ["response.create"]


def test_the_result_of_an_interrupted_response_is_told_and_left_to_the_next_turn(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.hears_the_caller()
    agent.ends("resp_1", "cancelled", reason="turn_detected")
    agent.protocol.tool_result("call_1", "5", failed=False)
    assert agent.sent_types() == ["conversation.item.create"]


def test_a_failure_is_told_to_the_agent_in_words(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.ends("resp_1")
    agent.protocol.tool_result("call_1", "«no» line", failed=True)
    assert json.loads(agent.sent()[0]["item"]["output"]) == {"error": "«no» line"}


def test_results_nobody_asked_for_and_second_ones_are_ignored(openai_session):
    agent = openai_session()
    agent.protocol.tool_result("call_x", "5", failed=False)
    agent.begins("resp_1")
    agent.calls("resp_1", "call_1")
    agent.ends("resp_1")
    agent.protocol.tool_result("call_1", "5", failed=False)
    agent.sent()
    agent.protocol.tool_result("call_1", "6", failed=False)
    assert agent.sent() == []


def test_a_tool_of_an_mcp_server_that_wants_approval_is_denied_for_nobody_can_give_it(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    item = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "buy", "arguments": "{}"}
    assert agent.receives("response.output_item.done", response_id="resp_1", item=item) == [
        AgentWarning("mcp_approval_denied", "buy")
    ]
    (answer,) = agent.sent()
    assert answer["item"]["approval_request_id"] == "mcpr_1"
    assert answer["item"]["approve"] is False
    agent.ends("resp_1")
    assert agent.sent_types() == ["response.create"]


@pytest.mark.parametrize("kind", ["mcp_list_tools.failed", "response.mcp_call.failed"])
def test_a_failing_mcp_server_is_a_warning(openai_session, kind):
    assert openai_session().receives(kind, item_id="mcp_1") == [AgentWarning(kind, "mcp_1")]


# ---------------------------------------------------------------- quiet and unknown


def test_rate_limits_are_no_news(openai_session):
    limits = [{"name": "requests", "limit": 1, "remaining": 0, "reset_seconds": 1}]
    assert openai_session().receives("rate_limits.updated", rate_limits=limits) == []


@pytest.mark.parametrize("message", ['{"type":"response.new_thing"}', b'{"type":"response.new_thing"}'])
def test_an_unknown_event_is_named_whether_it_comes_as_text_or_binary(openai_session, message):
    assert openai_session().protocol.receive(message, now_ns=0) == [Unknown("response.new_thing")]


# ---------------------------------------------------------------- expiry


def test_the_longest_session_is_told_a_minute_before_its_end(openai_session):
    agent = openai_session(ready=False)
    assert agent.protocol.deadline_ns() is None
    agent.receives("session.created", session={"expires_at": 1_800_000_000})
    due_ns = agent.protocol.deadline_ns()
    assert due_ns == NOW_NS + 59 * 60 * 1_000_000_000
    assert agent.protocol.time_passed(now_ns=due_ns - 1) == []
    assert agent.protocol.time_passed(now_ns=due_ns) == [SessionExpiring(60, of_age=True)]
    assert agent.protocol.deadline_ns() is None
    assert agent.protocol.time_passed(now_ns=due_ns) == []


def test_an_agent_that_names_no_end_has_none(openai_session):
    assert openai_session().protocol.deadline_ns() is None


# ---------------------------------------------------------------- the end, and another session


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (None, True),
        (1000, False),
        (1001, True),
        (1002, False),
        (1005, False),
        (1006, True),
        (1008, False),
        (1009, False),
        (1011, True),
        (1012, True),
        (3000, True),
        (4000, False),
        (4321, True),
    ],
)
def test_a_new_connection_is_tried_only_where_it_could_help(openai_session, code, again):
    assert openai_session().protocol.closed(code, "").may_reconnect is again


def test_an_expired_session_can_be_carried_on_in_a_new_one(openai_session):
    agent = openai_session()
    agent.fails("session_expired")
    assert agent.protocol.closed(1000, "").may_reconnect


@pytest.mark.parametrize("code", ["invalid_api_key", "insufficient_quota"])
def test_after_an_error_that_nothing_mends_there_is_no_other_session(openai_session, code):
    agent = openai_session()
    assert agent.fails(code) == [AgentError(code, "words of the API")]
    end = agent.protocol.closed(None, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert agent.protocol.successor([]) is None


@pytest.mark.parametrize(
    ("status", "again"), [(400, False), (401, False), (403, False), (404, False), (429, True), (503, True)]
)
def test_an_http_refusal_says_whether_trying_again_makes_sense(openai_session, status, again):
    assert openai_session(ready=False).protocol.refused(status).may_reconnect is again


def test_there_is_no_farewell_but_the_close_frame(openai_session):
    protocol = openai_session().protocol
    assert protocol.say_goodbye() is False
    assert protocol.afterword() is None
    assert protocol.data_to_send() == []


def test_a_refused_configuration_has_no_successor(openai_session):
    agent = openai_session(ready=False)
    agent.receives("session.created", session={})
    agent.fails("invalid_value")
    assert agent.protocol.successor([Said(True, "Hello?")]) is None


def test_the_successor_is_told_what_was_said_with_the_settings_of_now_and_does_not_greet(openai_session):
    agent = openai_session(instructions="Old.")
    agent.protocol.greet(Greeting("Hello."))
    spoken(agent)
    agent.ends("resp_1")
    agent.protocol.update(NeutralSettings(instructions="New."), {})
    agent.takes_the_update()
    agent.protocol.update(NeutralSettings(max_output_tokens=50), {})
    agent.follows(
        agent.protocol.successor([Said(False, "Hello."), Said(True, "My balance?"), Said(True, "")]),
        ready=False,
    )
    agent.receives("session.created", session={})
    (first,) = agent.sent()
    assert first["session"]["instructions"] == "New."
    assert first["session"]["max_output_tokens"] == "inf"
    assert agent.takes_the_update() == [SessionReady(NOW_NS)]
    update, hello, question = agent.sent()
    assert update["session"] == {"type": "realtime", "max_output_tokens": 50}
    assert hello["item"] == {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello."}],
    }
    assert question["item"]["content"] == [{"type": "input_text", "text": "My balance?"}]
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]
    agent.begins("resp_9")
    assert agent.speaks("resp_9", MS20) == [AgentAudio(R2, MS20, NOW_NS)]
    assert agent.ends("resp_9") == [ReplyAudioDone(R2), ReplyDone(R2, ReplyStatus.COMPLETED)]


def test_the_successor_may_take_another_voice_for_it_has_not_spoken(openai_session):
    agent = openai_session()
    spoken(agent)
    agent.follows(agent.protocol.successor([]))
    agent.protocol.update(NeutralSettings(voice="ash"), {})
    assert agent.sent()[0]["session"]["audio"]["output"]["voice"] == "ash"


@pytest.mark.parametrize("configuring", [False, True])
def test_what_is_asked_while_there_is_no_session_goes_to_the_next_successor(openai_session, configuring):
    agent = openai_session()
    agent.follows(agent.protocol.successor([]), ready=False)
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    if configuring:
        agent.receives("session.created", session={})
    agent.protocol.say("One moment.")
    agent.follows(agent.protocol.successor([Said(True, "Hello?")]), ready=False)
    agent.receives("session.created", session={})
    agent.sent()
    agent.takes_the_update()
    hello, digit, create = agent.sent()
    assert [m["item"]["content"][0]["text"] for m in (hello, digit)] == ["Hello?", "[DTMF] 5"]
    assert create["type"] == "response.create"
    agent.begins("resp_1")
    agent.ends("resp_1")
    (exact,) = agent.sent()
    assert exact["response"]["instructions"] == "Say exactly: One moment."


def test_what_is_asked_of_the_successor_before_it_is_ready_comes_after_what_was_said(openai_session):
    agent = openai_session()
    agent.follows(agent.protocol.successor([Said(True, "Hello?")]), ready=False)
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    agent.receives("session.created", session={})
    agent.sent()
    agent.takes_the_update()
    hello, digit, create = agent.sent()
    assert [m["item"]["content"][0]["text"] for m in (hello, digit)] == ["Hello?", "[DTMF] 5"]
    assert create["type"] == "response.create"
