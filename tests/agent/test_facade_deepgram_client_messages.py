"""What clients of Deepgram's facade put in besides audio: functions, injected words, updates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from telbridge.agent.events import (
    ReplyCancelled,
    ReplyRequested,
    TextIn,
    ToolResult,
    TurnCommitted,
)
from telbridge.agent.facade import Updates
from telbridge.audio.formats import PCMU_8K
from tests.agent.deepgram_client import (
    AURA,
    CLAUDE,
    FLUX,
    FRAME,
    GPT,
    NOVA,
    OWN,
    TRANSFER,
    Client,
    changed,
    configured,
    connected,
    phone,
    speaking,
    turn,
)
from tests.agent.deepgram_judge import Json

# -- functions ----------------------------------------------------------------------------------------


def called(client: Client, name: str = "transfer") -> str:
    """The brain calls a function; its id."""
    reply = client.facade.begin_reply()
    assert reply is not None
    call_id = client.facade.call_tool(reply, name, {"to": "sales"})
    client.facade.end_reply(reply)
    return call_id


def test_a_function_call_and_its_response() -> None:
    client = configured()
    call_id = called(client)
    (request,) = client.gets()
    call = {"id": call_id, "name": "transfer", "arguments": '{"to": "sales"}', "client_side": True}
    assert request == {"type": "FunctionCallRequest", "functions": [call]}
    response = {"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": '{"ok":true}'}
    assert client.says(response) == [ToolResult(call_id, '{"ok":true}')]
    echo, history = client.gets()
    assert echo == response
    assert history == {"type": "History", "function_calls": [{**call, "response": '{"ok":true}'}]}
    (answer,) = client.waits(0)
    assert answer == ReplyRequested(answer.reply, None, PCMU_8K, False)


def test_a_brain_that_answers_a_response_by_itself_is_not_asked() -> None:
    client = configured()
    call_id = called(client)
    client.says({"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": ""})
    client.facade.end_reply(speaking(client))
    assert client.waits(0) == []


def test_a_caller_who_speaks_on_cancels_the_call_and_a_late_response_is_dropped() -> None:
    client = configured()
    call_id = called(client)
    client.gets()
    client.facade.speech_started(0)
    assert client.gets()[1:] == [
        {"type": "FunctionCallCancelled", "functions": [{"id": call_id, "name": "transfer"}]}
    ]
    assert (
        client.says({"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": ""}) == []
    )
    assert client.gets() == []


def test_a_call_that_was_deferred_to_the_end_of_the_turn_stays() -> None:
    client = configured(phone(think={"functions": [{**TRANSFER, "defer_until_eot": True}]}))
    call_id = called(client)
    client.gets()
    client.facade.speech_started(0)
    assert client.kinds() == ["UserStartedSpeaking"]
    assert client.says({"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": ""})
    assert client.waits(100) == []  # not while the caller speaks
    client.facade.speech_stopped(0)
    assert len(client.waits(0)) == 1


def test_the_agent_goes_on_when_all_calls_are_answered() -> None:
    client = configured()
    first, second = called(client), called(client)
    response = {"type": "FunctionCallResponse", "name": "transfer", "content": ""}
    assert client.says(response) == []  # without its id it answers nothing
    client.says({**response, "id": second})
    assert client.waits(0) == []
    client.says({**response, "id": first, "thought_signature": "x"})
    assert len(client.waits(0)) == 1


@pytest.mark.parametrize("content", [{"ok": True}, None, 1])
def test_the_content_of_a_response_is_a_string(content: Any) -> None:
    client = configured()
    client.says({"type": "FunctionCallResponse", "id": "1", "name": "transfer", "content": content})
    assert client.error()["code"] == "UNPARSABLE_CLIENT_MESSAGE"


def test_a_function_that_nobody_defined_ends_the_session() -> None:
    client = configured()
    called(client, "fly")
    assert client.error()["code"] == "NON_EXISTENT_FUNCTION_CALLED"


def test_a_function_of_the_server_is_not_the_clients_to_answer() -> None:
    endpoint = {"url": "https://x.example", "method": "post"}
    client = configured(phone(think={"functions": [{**TRANSFER, "endpoint": endpoint}]}))
    call_id = called(client)
    request, warning = client.gets()
    assert request["functions"][0]["client_side"] is False and warning["code"] == "FUNCTION_CALL_FAILED"
    assert (
        client.says({"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": ""}) == []
    )


# -- what the client puts in --------------------------------------------------------------------------


def test_a_user_message_is_a_turn_that_is_answered() -> None:
    client = configured()
    assert client.says({"type": "InjectUserMessage", "content": "The caller pressed 5"}) == [
        TextIn("The caller pressed 5", "user")
    ]
    ended, text, history = client.gets()
    assert ended == {"type": "EndOfTurn", "trigger": "manual"}
    assert (text["role"], text["content"], history["type"]) == ("user", "The caller pressed 5", "History")
    (answer,) = client.waits(0)
    assert isinstance(answer, ReplyRequested) and answer.instructions is None


def test_a_user_message_stops_what_is_being_said() -> None:
    client = configured()
    reply = speaking(client)
    cancelled, _ = client.says({"type": "InjectUserMessage", "content": "Stop"})
    assert cancelled == ReplyCancelled(reply) and not client.facade.is_open(reply)


def inject(client: Client, text: str = "One moment.", **more: Any) -> list[Any]:
    return client.says({"type": "InjectAgentMessage", "message": text, **more})


def test_an_agent_message_is_spoken_word_for_word() -> None:
    client = configured()
    (request,) = inject(client)
    assert request.instructions == "Say exactly: One moment."
    client.facade.audio(request.reply, FRAME)
    client.facade.end_reply(request.reply)
    assert client.kinds() == ["audio", "ConversationText", "History", "AgentAudioDone"]


@pytest.mark.parametrize("behavior", ["default", "queue", "interrupt"])
def test_who_may_speak_while_the_caller_does(behavior: str) -> None:
    client = configured()
    client.facade.speech_started(0)
    client.gets()
    events = inject(client, behavior=behavior)
    if behavior == "interrupt":
        assert len(events) == 1
    else:
        assert events == []
        (refused,) = client.gets()
        assert refused["type"] == "InjectionRefused" and "user speech" in refused["message"]


def test_an_agent_message_does_not_cut_into_a_reply() -> None:
    client = configured()
    speaking(client)
    assert inject(client) == []
    assert client.kinds() == ["InjectionRefused"]


def test_an_agent_message_may_wait_for_the_reply_to_end() -> None:
    client = configured()
    reply = speaking(client)
    assert inject(client, behavior="queue") == [] and client.waits(100) == []
    client.facade.end_reply(reply)
    (request,) = client.waits(0)
    assert request.instructions == "Say exactly: One moment."


def test_what_waits_to_be_said_is_given_up_when_the_caller_speaks() -> None:
    client = configured()
    speaking(client)
    inject(client, behavior="queue")
    turn(client, "Wait!")
    assert client.waits(0) == []


def test_an_agent_message_may_interrupt_a_reply() -> None:
    client = configured()
    reply = speaking(client)
    cancelled, request = inject(client, behavior="interrupt")
    assert cancelled == ReplyCancelled(reply) and client.facade.is_open(request.reply)


@pytest.mark.parametrize(
    "wrong",
    [{"content": "x"}, {"message": "x", "behavior": "now"}, {"is_dynamic": True}, {"message": 1}],
)
def test_an_agent_message_has_one_shape(wrong: Json) -> None:
    client = configured()
    client.says({"type": "InjectAgentMessage", **wrong})
    assert client.error()["code"] == "UNPARSABLE_CLIENT_MESSAGE"


def test_a_turn_ended_by_the_client_is_answered() -> None:
    client = configured()
    client.facade.speech_started(0)
    client.gets()
    paused, committed = client.says({"type": "ForceEndTurn"})
    assert paused.turns is None and isinstance(committed, TurnCommitted)
    assert client.gets() == [{"type": "EndOfTurn", "trigger": "manual"}]
    request, resumed = client.waits(0)
    assert isinstance(request, ReplyRequested) and resumed == replace(paused, turns=resumed.turns)
    assert resumed.turns is not None


def test_no_turn_cannot_be_ended_and_nobody_minds() -> None:
    client = configured()
    assert client.says({"type": "ForceEndTurn"}) == [] and client.gets() == []


def test_turns_of_nova_cannot_be_ended_by_the_client() -> None:
    client = configured(phone(NOVA))
    assert client.says({"type": "ForceEndTurn"}) == []
    assert client.warning() == "FORCE_END_TURN_UNSUPPORTED"


def test_keep_alive_and_private_messages_have_no_answer() -> None:
    client = configured()
    assert client.says({"type": "KeepAlive"}) == []
    assert client.says({"type": "__customToThinkProvider", "content": {"a": 1}}) == []
    assert client.gets() == []


# -- updates ------------------------------------------------------------------------------------------


def test_a_prompt_is_added_to_the_one_before() -> None:
    client = configured()
    (event,) = client.says({"type": "UpdatePrompt", "prompt": "Speak slowly."})
    assert event.instructions == "Be kind.\nSpeak slowly." and event.by_client
    assert client.gets() == [{"type": "PromptUpdated"}]


@pytest.mark.parametrize("own_model", [False, True])
def test_a_long_prompt_is_cut_unless_the_model_is_the_clients_own(own_model: bool) -> None:
    client = configured(phone(think={"endpoint": OWN} if own_model else {}))
    (event,) = client.says({"type": "UpdatePrompt", "prompt": "x" * 25_000})
    assert client.kinds() == ["PromptUpdated"] + ([] if own_model else ["Warning"])
    assert len(event.instructions) == (25_009 if own_model else 25_000)


def test_think_is_replaced_as_a_whole() -> None:
    client = configured()
    (event,) = client.says({"type": "UpdateThink", "think": {"provider": GPT, "prompt": "New."}})
    assert (event.instructions, event.tools) == ("New.", ())
    assert client.gets() == [{"type": "ThinkUpdated"}]


def test_the_voice_may_change_but_not_to_what_the_format_forbids() -> None:
    client = configured(changed("audio.output.container", "wav"))
    client.says({"type": "UpdateSpeak", "speak": [{"provider": AURA | {"model": "aura-2-zeus-en"}}]})
    assert client.gets() == [{"type": "SpeakUpdated"}]
    client.says(
        {
            "type": "UpdateSpeak",
            "speak": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-kit-en"}},
        }
    )
    assert client.error()["code"] == "INVALID_SETTINGS"


def test_listening_is_updated_in_part_but_for_the_language_hints() -> None:
    multi = FLUX | {"model": "flux-general-multi"}
    client = configured(phone(multi | {"eot_threshold": 0.84, "language_hints": ["de"]}))
    (event,) = client.says({"type": "UpdateListen", "listen": {"provider": multi | {"eot_timeout_ms": 550}}})
    assert event.turns.silence_ms == 550
    assert client.gets() == [{"type": "ListenUpdated"}]
    turn(client, "x")
    assert client.gets()[2]["languages_hinted"] == []
    (event,) = client.says({"type": "UpdateListen", "listen": {"provider": NOVA}})
    assert event.turns.silence_ms == 500 and client.kinds() == ["ListenUpdated"]
    assert client.says({"type": "UpdateListen", "listen": {"provider": NOVA | {"keyterms": ["Ada"]}}}) == []
    assert client.warning() == "UPDATE_LISTEN_UNSUPPORTED_FIELDS_CHANGED"


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ({"type": "UpdatePrompt"}, "UNPARSABLE_CLIENT_MESSAGE"),
        ({"type": "UpdatePrompt", "content": "x"}, "UNPARSABLE_CLIENT_MESSAGE"),
        (
            {"type": "UpdateSpeak", "speak": {"provider": AURA | {"language": "en"}}},
            "UNPARSABLE_CLIENT_MESSAGE",
        ),
        ({"type": "UpdateThink", "think": {"provider": CLAUDE}}, "INVALID_SETTINGS"),
        ({"type": "UpdateThink_Live", "think_live": {}}, "UNPARSABLE_CLIENT_MESSAGE"),
        ({"type": "UpdateListen", "listen": {}}, "UNPARSABLE_CLIENT_MESSAGE"),
    ],
)
def test_a_wrong_update_ends_the_session(update: Json, code: str) -> None:
    client = configured()
    assert client.says(update) == []
    assert client.error()["code"] == code


def test_a_script_may_ignore_the_configuration_or_refuse_it() -> None:
    client = connected(updates=Updates.IGNORE)
    assert client.says(phone()) == [] and client.says(FRAME) == [] and client.gets() == []
    client = connected(updates=Updates.REFUSE)
    client.says(phone())
    assert client.error()["code"] == "INVALID_SETTINGS"
