"""Changes of a running OpenAI session: what is sent, in which order, and what may not change any more."""

from __future__ import annotations

import pytest

from telbridge.call.events import (
    AgentWarning,
    CallerStartedSpeaking,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    SessionReady,
    SessionUpdated,
    UpdateRefused,
)
from telbridge.call.ports import Greeting, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings

NOW_NS = 7_000_000
MS20 = bytes(range(160))
NONE = NeutralSettings()
PCMU = {"type": "audio/pcmu"}


def asked(agent, vendor=None, /, **neutral):
    """Asks for a change; the session objects that are sent for it."""
    agent.protocol.update(NeutralSettings(**neutral), vendor or {})
    return updates(agent)


def updates(agent):
    return [message["session"] for message in agent.sent() if message["type"] == "session.update"]


def speaks_a_reply(agent):
    agent.begins("resp_1")
    agent.speaks("resp_1", MS20)
    agent.ends("resp_1")


def test_only_what_changes_is_sent_and_the_api_acknowledges_it(openai_session):
    agent = openai_session(instructions="Be brief.")
    assert asked(agent, instructions="Be long.") == [{"type": "realtime", "instructions": "Be long."}]
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]


def test_where_audio_is_touched_both_formats_are_repeated_and_the_voice_is_not(openai_session):
    agent = openai_session()
    assert asked(agent, noise_reduction="near_field") == [
        {
            "type": "realtime",
            "audio": {
                "input": {"format": PCMU, "noise_reduction": {"type": "near_field"}},
                "output": {"format": PCMU},
            },
        }
    ]


def test_the_vendors_own_fields_are_merged_over_the_neutral_ones(openai_session):
    agent = openai_session(truncation={"retention_ratio": 0.5})
    vendor = {"truncation": {"token_limits": {"post_instructions": 900}}, "raw": {"hologram": 1}}
    assert asked(agent, vendor, instructions="New.") == [
        {
            "type": "realtime",
            "instructions": "New.",
            "truncation": {
                "type": "retention_ratio",
                "retention_ratio": 0.5,
                "token_limits": {"post_instructions": 900},
            },
            "hologram": 1,
        }
    ]


def test_a_field_of_the_vendors_that_was_set_by_name_can_be_changed_by_its_neutral_one(openai_session):
    agent = openai_session(voice="ash", turn_detection={"type": "server_vad", "threshold": 0.9})
    (session,) = asked(agent, voice="cedar", turn_detection={"threshold": 0.2})
    assert session["audio"]["output"]["voice"] == "cedar"
    assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.2


def test_an_update_that_changes_nothing_is_acknowledged_like_any_other(openai_session):
    agent = openai_session()
    assert asked(agent) == [{"type": "realtime"}]
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]


def test_null_clears_and_another_mode_of_turn_detection_starts_afresh(openai_session):
    agent = openai_session(turn_detection={"type": "server_vad", "threshold": 0.9}, transcription={})
    (session,) = asked(agent, {"transcription": "off"}, turn_detection={"mode": "semantic"})
    assert session["audio"]["input"]["transcription"] is None
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }
    agent.takes_the_update()
    (session,) = asked(agent, {"turn_detection": {"type": "server_vad", "silence_duration_ms": 100}})
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 100


def test_functions_are_replaced_as_a_whole_and_mcp_servers_stay(openai_session):
    server = {"type": "mcp", "server_label": "s", "server_url": "https://s", "require_approval": "never"}
    agent = openai_session(tools=[{"type": "function", "name": "old"}, server])
    (session,) = asked(agent, tools=({"name": "new"},))
    assert [tool.get("name", tool["type"]) for tool in session["tools"]] == ["new", "mcp"]


# ---------------------------------------------------------------- one at a time


def test_one_update_is_in_flight_the_next_waits_for_its_answer(openai_session):
    agent = openai_session()
    assert len(asked(agent, instructions="One.")) == 1
    assert asked(agent, instructions="Two.") == []
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]
    assert updates(agent) == [{"type": "realtime", "instructions": "Two."}]
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]
    assert updates(agent) == []


@pytest.mark.parametrize("says_which", [True, False])
def test_a_refused_update_changes_nothing_and_the_next_is_made_without_it(openai_session, says_which):
    agent = openai_session()
    agent.protocol.update(NeutralSettings(instructions="One."), {})
    (sent,) = agent.sent()
    agent.protocol.update(NeutralSettings(noise_reduction="far_field"), {})
    event_id = sent["event_id"] if says_which else None
    assert agent.fails("invalid_value", event_id=event_id, param="session.instructions") == [
        UpdateRefused("invalid_value (session.instructions)", "words of the API")
    ]
    (session,) = updates(agent)
    assert "instructions" not in session
    assert session["audio"]["input"]["noise_reduction"] == {"type": "far_field"}
    assert agent.protocol.audio(MS20) is not None


def test_a_busy_error_is_never_taken_for_the_refusal_of_an_update(openai_session):
    agent = openai_session()
    agent.protocol.say("Hello.")
    asked(agent, instructions="One.")
    assert agent.fails("conversation_already_has_active_response") == []
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]


def test_an_update_asked_for_before_the_session_is_ready_goes_out_first_thing(openai_session):
    agent = openai_session(ready=False)
    agent.protocol.greet(Greeting("Hello."))
    agent.protocol.update(NeutralSettings(instructions="New."), {})
    agent.receives("session.created", session={})
    assert agent.sent_types() == ["session.update"]
    assert agent.takes_the_update() == [SessionReady(NOW_NS)]
    assert agent.sent_types() == ["session.update", "response.create"]
    assert agent.takes_the_update() == [SessionUpdated(NOW_NS)]


def test_the_speed_waits_for_the_end_of_the_running_response(openai_session):
    agent = openai_session()
    agent.begins("resp_1")
    assert asked(agent, {"speed": 1.2}) == []
    assert asked(agent, instructions="Behind it.") == []
    assert agent.ends("resp_1") == [ReplyDone(ReplyId(1), ReplyStatus.COMPLETED)]
    (session,) = updates(agent)
    assert session["audio"]["output"]["speed"] == 1.2


def test_a_value_that_came_back_changed_is_a_warning_by_its_name(openai_session):
    agent = openai_session()
    asked(agent, {"speed": 1.2, "max_output_tokens": 500})
    session = {"max_output_tokens": 400, "audio": {"output": {"speed": 1.2000000476837158}}}
    assert agent.takes_the_update(**session) == [
        SessionUpdated(NOW_NS),
        AgentWarning("setting_not_taken", "max_output_tokens"),
    ]


def test_barge_in_follows_the_update_once_it_is_acknowledged(openai_session):
    agent = openai_session()
    asked(agent, barge_in=False)
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    agent.takes_the_update()
    assert agent.hears_the_caller() == [CallerStartedSpeaking(NOW_NS, interrupts=False)]


# ---------------------------------------------------------------- what cannot change


def test_the_voice_may_change_until_the_agent_has_spoken(openai_session):
    agent = openai_session()
    (session,) = asked(agent, voice="ash")
    assert session["audio"]["output"]["voice"] == "ash"
    agent.takes_the_update()
    speaks_a_reply(agent)
    with pytest.raises(UpdateImpossible, match="voice"):
        agent.protocol.update(NeutralSettings(voice="cedar"), {})
    with pytest.raises(UpdateImpossible, match="voice"):
        agent.protocol.update(NONE, {"voice": "cedar"})
    assert agent.sent() == []
    assert "voice" not in asked(agent, noise_reduction="off")[0]["audio"]["output"]


def test_a_voice_that_waited_until_the_agent_had_spoken_is_refused_here_for_the_api_would_drop_all(
    openai_session,
):
    agent = openai_session()
    asked(agent, instructions="One.")
    asked(agent, voice="ash")
    asked(agent, instructions="Three.")
    speaks_a_reply(agent)
    updated, refused = agent.takes_the_update()
    assert updated == SessionUpdated(NOW_NS)
    assert isinstance(refused, UpdateRefused)
    assert refused.code == "impossible_by_now"
    assert updates(agent) == [{"type": "realtime", "instructions": "Three."}]


@pytest.mark.parametrize(
    ("vendor", "key"),
    [
        ({"model": "gpt-realtime-2"}, "model"),
        ({"url": "wss://other/v1/realtime"}, "url"),
        ({"api_key": {"env": "OTHER"}}, "api_key"),
        ({"audio": "pcm24k"}, "audio"),
        ({"input_format": "audio/pcm"}, "input_format"),
        ({"output_format": "audio/pcm"}, "output_format"),
        ({"safety_identifier": "u"}, "safety_identifier"),
        ({"tracing": "auto"}, "tracing"),
        ({"temperature": 0.5}, "temperature"),
        ({"speed": 9}, "speed"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        (
            {
                "tools": [
                    {
                        "type": "mcp",
                        "server_label": "s",
                        "server_url": "https://s",
                        "authorization": {"env": "NOT_THERE"},
                    }
                ]
            },
            "openai_realtime.tools[0].authorization",
        ),
    ],
)
def test_what_the_running_session_cannot_take_is_refused_before_anything_is_sent(openai_session, vendor, key):
    agent = openai_session()
    with pytest.raises(UpdateImpossible) as refusal:
        agent.protocol.update(NONE, vendor)
    assert refusal.value.key == key
    assert agent.sent() == []


@pytest.mark.parametrize(
    ("neutral", "key"),
    [
        ({"user_id": "u"}, "user_id"),
        ({"tags": {"a": "b"}}, "tags"),
        ({"echo_cancellation": True}, "echo_cancellation"),
        ({"temperature": 0.1}, "temperature"),
        ({"turn_detection": {"mode": "semantic", "threshold": 0.1}}, "turn_detection.threshold"),
        ({"turn_detection": {"mode": "off"}, "barge_in": True}, "barge_in"),
        ({"turn_detection": {"mode": "semantic"}, "idle_timeout_s": 6}, "idle_timeout_s"),
    ],
)
def test_neutral_settings_without_a_place_are_refused_by_their_own_name(openai_session, neutral, key):
    agent = openai_session()
    with pytest.raises(UpdateImpossible) as refusal:
        agent.protocol.update(NeutralSettings.model_validate(neutral), {})
    assert refusal.value.key == key
    assert agent.sent() == []
