"""Changing a running Deepgram session: what is sent, what is acknowledged, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from telbridge.call.events import (
    AgentError,
    Ending,
    SessionUpdated,
    UpdateRefused,
)
from telbridge.call.ports import TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from tests.sessions.deepgram.bed import NOW_NS, DeepgramSession

GPT = {"provider": {"type": "open_ai", "model": "gpt-4.1-mini"}}
STORED = "12345678-1234-1234-1234-123456789abc"
UPDATED = [SessionUpdated(NOW_NS)]
NOVA = {"listen": {"provider": {"model": "nova-3", "keyterms": ["a"]}}}


def change(agent: DeepgramSession, vendor: dict[str, Any] | None = None, /, **neutral: Any) -> list[Any]:
    agent.protocol.update(NeutralSettings.model_validate(neutral), vendor or {})
    return agent.sent()


def impossible(agent: DeepgramSession, vendor: dict[str, Any] | None = None, /, **neutral: Any) -> str:
    """The key that is complained of; nothing was sent and nothing changed."""
    with pytest.raises(UpdateImpossible) as raised:
        change(agent, vendor, **neutral)
    assert agent.sent() == []
    assert change(agent) == []
    return raised.value.key


# ---------------------------------------------------------------- what is sent


def test_new_instructions_replace_the_old_ones_by_the_whole_think_block():
    """UpdatePrompt would only add to them."""
    function = {"name": "f", "description": "d", "parameters": {}}
    agent = DeepgramSession(agent={"think": {**GPT, "prompt": "Old.", "functions": [function]}})
    assert change(agent, instructions="New.") == [
        {"type": "UpdateThink", "think": {**GPT, "prompt": "New.", "functions": [function]}}
    ]
    assert agent.receives("ThinkUpdated") == UPDATED


def test_context_told_since_is_not_lost_with_the_old_instructions():
    agent = DeepgramSession()
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.sent()
    (update,) = change(agent, instructions="New.")
    assert update["think"]["prompt"] == "New.\n\nVIP."
    assert change(agent, voice="aura-2-apollo-en")[0]["type"] == "UpdateSpeak"


def test_only_what_changed_is_sent_and_one_acknowledgement_follows():
    agent = DeepgramSession()
    sent = change(agent, instructions="New.", voice="flux-kit-en")
    assert sent == [
        {
            "type": "UpdateSpeak",
            "speak": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-kit-en"}},
        },
        {"type": "UpdateThink", "think": {**GPT, "prompt": "New."}},
    ]
    assert agent.receives("SpeakUpdated") == []
    assert agent.receives("ThinkUpdated") == UPDATED
    assert agent.receives("ThinkUpdated") == []


def test_two_changes_are_acknowledged_one_by_one():
    agent = DeepgramSession()
    change(agent, instructions="One.")
    change(agent, instructions="Two.", voice="aura-2-apollo-en")
    assert agent.receives("ThinkUpdated") == UPDATED
    assert agent.receives("ThinkUpdated") == []
    assert agent.receives("SpeakUpdated") == UPDATED


def test_a_new_language_changes_the_recogniser_as_a_whole():
    agent = DeepgramSession(agent={"listen": {"provider": {"model": "flux-general-en", "keyterms": ["a"]}}})
    assert change(agent, language="de", turn_detection={"eagerness": "low"}) == [
        {
            "type": "UpdateListen",
            "listen": {
                "provider": {
                    "type": "deepgram",
                    "version": "v2",
                    "model": "flux-general-multi",
                    "language_hints": ["de"],
                    "keyterms": ["a"],
                    "eot_threshold": 0.85,
                }
            },
        }
    ]
    assert agent.receives("ListenUpdated") == UPDATED


def test_language_hints_go_with_every_change_for_they_are_cleared_where_they_are_missing():
    provider = {"model": "flux-general-multi", "language_hints": ["de"]}
    agent = DeepgramSession(agent={"listen": {"provider": provider}})
    (update,) = change(agent, key_terms=["telbridge"])
    assert update["listen"]["provider"]["language_hints"] == ["de"]
    assert update["listen"]["provider"]["keyterms"] == ["telbridge"]


def test_nova_is_told_a_new_language_but_no_key_terms():
    agent = DeepgramSession(agent=NOVA)
    (update,) = change(agent, language="de")
    assert update["listen"]["provider"] == {
        "type": "deepgram",
        "version": "v1",
        "model": "nova-3",
        "language": "de",
    }


def test_the_vendors_own_fields_go_over_the_neutral_ones():
    agent = DeepgramSession()
    (update,) = change(
        agent, {"agent": {"think": {"provider": {"temperature": 0.1}}}}, temperature=0.9, instructions="New."
    )
    assert update["think"] == {
        "provider": {"type": "open_ai", "model": "gpt-4.1-mini", "temperature": 0.1},
        "prompt": "New.",
    }


def test_of_several_voices_the_first_is_changed():
    aura = {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}}
    polly = {
        "provider": {"type": "cartesia", "model_id": "sonic-2", "voice": {"mode": "id", "id": "old"}},
    }
    agent = DeepgramSession(agent={"speak": [aura, polly]})
    (update,) = change(agent, voice="flux-kit-en")
    assert [one["provider"].get("model") for one in update["speak"]] == ["flux-kit-en", None]
    other = DeepgramSession(agent={"speak": polly})
    (update,) = change(other, voice="new")
    assert update["speak"]["provider"]["voice"] == {"mode": "id", "id": "new"}


@pytest.mark.parametrize("asked", [{}, {"barge_in": False}])
def test_a_change_that_the_api_need_not_know_is_acknowledged_at_once(asked):
    agent = DeepgramSession()
    assert change(agent, **asked) == []
    assert agent.protocol.deadline_ns() == 0
    assert agent.later(1) == [SessionUpdated(agent.now_ns)]
    assert agent.later(1) == []


def test_a_change_before_the_start_goes_with_the_settings():
    agent = DeepgramSession(ready=False)
    assert change(agent, instructions="New.") == []
    agent.becomes_ready()
    assert agent.settings_sent["agent"]["think"]["prompt"] == "New."
    assert agent.sent() == []
    assert agent.later(1) == [SessionUpdated(agent.now_ns)]


def test_a_change_while_the_settings_are_under_way_follows_them():
    agent = DeepgramSession(ready=False)
    agent.receives("Welcome")
    agent.sent()
    assert change(agent, instructions="New.") == []
    agent.receives("SettingsApplied")
    assert [message["type"] for message in agent.sent()] == ["UpdateThink"]


def test_a_stored_agent_is_told_new_instructions_behind_its_own():
    agent = DeepgramSession(agent=STORED)
    assert change(agent, instructions="Be brief.") == [{"type": "UpdatePrompt", "prompt": "Be brief."}]
    assert agent.receives("PromptUpdated") == UPDATED


def test_context_and_a_change_of_a_stored_agent_are_acknowledged_each():
    agent = DeepgramSession(agent=STORED)
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    change(agent, instructions="Be brief.")
    assert agent.receives("PromptUpdated") == []
    assert agent.receives("PromptUpdated") == UPDATED


def test_the_next_session_starts_with_the_settings_as_they_stand():
    agent = DeepgramSession()
    change(agent, instructions="New.", barge_in=False)
    following = agent.next_session()
    assert following.settings_sent["agent"]["think"]["prompt"] == "New."
    assert following.later(1) == [SessionUpdated(following.now_ns)]


# ---------------------------------------------------------------- what is impossible


@pytest.mark.parametrize(
    "vendor",
    [
        {"tags": ["b"]},
        {"experimental": True},
        {"mip_opt_out": True},
        {"flags": {"history": False}},
        {"audio": {"input": {"encoding": "alaw", "sample_rate": 8000}}},
        {"url": "wss://api.eu.deepgram.com/v1/agent/converse"},
        {"access_token": {"env": "T"}},
        {"raw": {"new": 1}},
        {"agent": STORED},
        {"agent": {"greeting": "Hi."}},
        {"agent": {"language": "de"}},
        {"agent": {"context": {"messages": []}}},
    ],
    ids=str,
)
def test_what_is_fixed_at_the_start_cannot_be_changed(vendor):
    key = impossible(DeepgramSession(), vendor)
    assert key.split(".")[0] in vendor or key == "new"


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"tags": {"a": "b"}}, "tags"),
        ({"turn_detection": {"mode": "vad"}}, "turn_detection.mode"),
        ({"turn_detection": {"threshold": 0.5}}, "turn_detection.threshold"),
        ({"noise_reduction": "off"}, "noise_reduction"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"language": "pl"}, "language"),
    ],
)
def test_what_deepgram_cannot_do_in_a_running_session_is_refused(asked, key):
    assert impossible(DeepgramSession(), **asked) == key


def test_nova_takes_neither_new_key_terms_nor_turn_detection():
    assert impossible(DeepgramSession(agent=NOVA), key_terms=["b"]) == "agent.listen.provider.keyterms"
    key = impossible(DeepgramSession(agent=NOVA), turn_detection={"silence_ms": 900})
    assert key == "turn_detection.silence_ms"


def test_a_model_without_reasoning_is_told_none():
    claude = {"think": {"provider": {"type": "anthropic", "model": "claude-haiku-4-5"}}}
    assert impossible(DeepgramSession(agent=claude), reasoning_effort="low") == "reasoning_effort"


def test_elevenlabs_has_its_voice_in_the_url():
    speak = {
        "provider": {"type": "eleven_labs", "model_id": "m"},
        "endpoint": {"url": "https://api.elevenlabs.io/v1/x"},
    }
    assert impossible(DeepgramSession(agent={"speak": speak}), voice="Ann") == "voice"


def test_of_a_stored_agent_nothing_else_is_known():
    assert impossible(DeepgramSession(agent=STORED), voice="flux-kit-en") == "voice"


def test_a_detail_of_what_was_never_set_changes_what_is_sent_in_its_place():
    (update,) = change(DeepgramSession(), {"agent": {"think": {"provider": {"temperature": 0.1}}}})
    assert update["think"] == {"provider": {**GPT["provider"], "temperature": 0.1}}


def test_a_block_that_was_never_set_may_be_set_whole():
    listen = {"provider": {"model": "nova-3"}}
    (update,) = change(DeepgramSession(), {"agent": {"listen": listen}})
    assert update["listen"]["provider"] == {"type": "deepgram", "version": "v1", "model": "nova-3"}


def test_a_wrong_value_is_named_by_its_key():
    key = impossible(DeepgramSession(), {"agent": {"think": {"provider": {"temperature": 3}}}})
    assert key.endswith("temperature")


def test_think_live_cannot_be_taken_away():
    agent = DeepgramSession(agent={"think_live": {"provider": {}}})
    assert impossible(agent, {"agent": {"think_live": None}}) == "agent.think_live"


def test_a_secret_that_is_not_there_is_told_before_anything_is_sent():
    speak = {
        "provider": {"type": "eleven_labs", "model_id": "m"},
        "endpoint": {"url": "https://api.elevenlabs.io/v1/x", "headers": {"xi-api-key": {"env": "NONE"}}},
    }
    key = impossible(DeepgramSession(), {"agent": {"speak": [speak]}})
    assert key == "agent.speak.0.endpoint.headers.xi-api-key"


# ---------------------------------------------------------------- what the API refuses


def test_a_refused_change_is_taken_back_and_the_next_session_does_without_it():
    agent = DeepgramSession(agent={"think": {**GPT, "prompt": "Old."}})
    change(agent, instructions="New.", voice="nobody")
    assert agent.fails("UNPARSABLE_CLIENT_MESSAGE") == [
        UpdateRefused("UNPARSABLE_CLIENT_MESSAGE", "words of the API"),
        AgentError("UNPARSABLE_CLIENT_MESSAGE", "words of the API"),
    ]
    end = agent.protocol.closed(1005, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_LOST, True)
    assert agent.next_session().settings_sent["agent"]["think"]["prompt"] == "Old."


def test_a_change_that_was_acknowledged_is_not_taken_back():
    agent = DeepgramSession()
    change(agent, instructions="New.")
    agent.receives("ThinkUpdated")
    assert agent.fails("UNPARSABLE_CLIENT_MESSAGE") == [
        AgentError("UNPARSABLE_CLIENT_MESSAGE", "words of the API")
    ]
    assert agent.next_session().settings_sent["agent"]["think"]["prompt"] == "New."


def test_a_fault_of_the_server_refuses_no_change():
    agent = DeepgramSession()
    change(agent, instructions="New.")
    assert agent.fails("INTERNAL_SERVER_ERROR") == [AgentError("INTERNAL_SERVER_ERROR", "words of the API")]
    assert agent.next_session().settings_sent["agent"]["think"]["prompt"] == "New."
