"""Every body and every message we send, judged by strict JSON schemas of the vendor's tables.

There is no SDK for sessions in Python. The schemas are written from the vendor's pages alone
(developers.napster.com/docs: deploying-your-agent/configuration, …/connections/websockets,
deploying-your-omniagent/session-configuration; github.com/Napster/omniagent-api-skills: create-agent,
deploy-websocket, session-runtime), not from our settings: no key that is not in a table passes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from telbridge.call.events import Said
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.companion.protocol import Companion
from tests.sessions.companion.test_session import Session

STRING: dict[str, Any] = {"type": "string"}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
STRINGS: dict[str, Any] = {"type": "array", "items": STRING}


def table(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


TURN_DETECTION = table(
    threshold={"type": "number"},
    prefix_padding_ms={"type": "integer"},
    silence_duration_ms={"type": "integer"},
)
OF_BOTH: dict[str, Any] = {
    "modality": {"enum": ["audio", "text"]},
    "externalClientId": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"},
    "externalClientProfile": {"type": "object"},
    "initialSpeech": STRING,
    "tags": {
        "type": "object",
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    },
}
AGENT_BODY = table(["channelType"], channelType={"const": "websocket"}, **OF_BOTH)
AD_HOC_BODY = table(
    ["companionId"],
    companionId=STRING,
    functions=STRINGS,
    faqCollections=STRINGS,
    knowledgeBaseId=STRING,
    language=STRING,
    disableIdleTimeout=BOOLEAN,
    useWebSearch=BOOLEAN,
    mode={"enum": ["conversation", "puppeteer"]},
    providerConfig=table(
        voiceId=STRING,
        useGreenVideo=BOOLEAN,
        settings=table(
            instructions=STRING,
            temperature={"type": "number"},
            turnDetection=TURN_DETECTION,
            noiseReduction=table(["type"], type={"enum": ["nearField", "farField"]}),
        ),
    ),
    **OF_BOTH,
)
BASE64 = {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}


def command(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return table(["type", "data"], type={"const": name}, data=data)


COMMANDS = {
    "send_audio": command("send_audio", table(["data"], data=BASE64)),
    "send_message": command(
        "send_message",
        table(
            ["role", "text", "trigger_response"],
            role={"enum": ["user", "system"]},
            text=STRING,
            trigger_response=BOOLEAN,
            delay=BOOLEAN,
        ),
    ),
    "set_settings": command(
        "set_settings",
        {
            **table(instructions=STRING, temperature={"type": "number"}, turn_detection=TURN_DETECTION),
            "minProperties": 1,
        },
    ),
    "send_function_output": command(
        "send_function_output",
        table(["call_id", "output"], call_id=STRING, output={"type": "object"}, delay=BOOLEAN),
    ),
}
for schema in (AGENT_BODY, AD_HOC_BODY, *COMMANDS.values()):
    Draft202012Validator.check_schema(schema)


def judge(schema: dict[str, Any], instance: object) -> None:
    """As it goes over the wire."""
    Draft202012Validator(schema).validate(json.loads(json.dumps(instance, allow_nan=False)))


words = st.text(min_size=1, max_size=30)
profiles = st.dictionaries(words, st.none() | st.booleans() | st.integers() | words, max_size=3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


of_both = {
    "modality": st.sampled_from(["audio", "text"]),
    "externalClientId": st.from_regex(r"\A[A-Za-z0-9_-]{1,32}\Z"),
    "externalClientProfile": profiles,
    "initialSpeech": words,
    "tags": st.dictionaries(st.text(max_size=64), st.text(max_size=512), max_size=3),
}
changeable = {
    "instructions": words,
    "temperature": st.floats(0, 2),
    "turnDetection": some(
        threshold=st.floats(0, 1),
        prefix_padding_ms=st.integers(0, 5000),
        silence_duration_ms=st.integers(0, 5000),
    ),
}
ad_hoc = st.fixed_dictionaries(
    {"companionId": words},
    optional={
        **of_both,
        "functions": st.lists(words, max_size=3),
        "faqCollections": st.lists(words, max_size=3),
        "knowledgeBaseId": words,
        "language": words,
        "disableIdleTimeout": st.booleans(),
        "useWebSearch": st.booleans(),
        "mode": st.sampled_from(["conversation", "puppeteer"]),
        "providerConfig": some(
            voiceId=words,
            useGreenVideo=st.booleans(),
            settings=some(
                **changeable,
                noiseReduction=some(type=st.sampled_from(["nearField", "farField"])),
            ),
        ),
    },
)
of_an_agent = st.fixed_dictionaries(
    {"agent_id": words}, optional={**of_both, "providerConfig": some(settings=some(**changeable))}
)

EVERYTHING: dict[str, Any] = {
    "companionId": "comp_abc123",
    "functions": ["fn_weather", "fn_booking"],
    "faqCollections": ["faqc_returns", "faqc_shipping"],
    "knowledgeBaseId": "col_product_docs",
    "language": "Spanish",
    "externalClientId": "user_12345",
    "externalClientProfile": {"name": "Jane", "plan": "premium", "company": "Acme Corp"},
    "tags": {"source": "ios-app", "experiment": "v2-onboarding", "env": "production"},
    "initialSpeech": "Ask for the name.",
    "modality": "audio",
    "disableIdleTimeout": False,
    "useWebSearch": False,
    "mode": "conversation",
    "providerConfig": {
        "voiceId": "alloy",
        "useGreenVideo": True,
        "settings": {
            "instructions": "Be brief.",
            "temperature": 0.3,
            "turnDetection": {"threshold": 0.9, "prefix_padding_ms": 400, "silence_duration_ms": 500},
            "noiseReduction": {"type": "nearField"},
        },
    },
}


def test_every_field_of_the_vendors_tables_can_be_set_and_is_sent_as_it_was_written():
    assert set(EVERYTHING) == set(AD_HOC_BODY["properties"])
    provider = AD_HOC_BODY["properties"]["providerConfig"]["properties"]
    assert set(EVERYTHING["providerConfig"]) == set(provider)
    assert set(EVERYTHING["providerConfig"]["settings"]) == set(provider["settings"]["properties"])
    body = Session(**EVERYTHING).body
    assert json.loads(json.dumps(body)) == EVERYTHING
    judge(AD_HOC_BODY, body)


@given(ad_hoc)
@settings(deadline=None, max_examples=200)
def test_every_ad_hoc_body_is_one_of_the_vendors(configuration):
    judge(AD_HOC_BODY, Session(**configuration).body)


@given(of_an_agent)
@settings(deadline=None, max_examples=200)
def test_every_agent_body_and_its_first_command_are_the_vendors(configuration):
    agent = Session(**configuration)
    judge(AGENT_BODY, agent.body)
    for message in agent.sent():
        judge(COMMANDS[message["type"]], message)


@pytest.mark.parametrize("of", [{"companionId": "c"}, {"agent_id": "a"}], ids=["ad hoc", "agent"])
def test_all_that_a_call_says_is_what_the_vendor_would_say(of):
    agent = Session(ready=False, **of)
    agent.connects()
    agent.protocol.greet(Greeting("Hello, «you»."))
    agent.receives("avatar_state_changed", state="ready")
    agent.begins()
    for role in TextRole:
        for respond in (True, False):
            agent.protocol.send_text("5", role=role, respond=respond)
    agent.protocol.say("Good day.")
    agent.protocol.request_reply(None)
    agent.protocol.interrupt()
    for call_id, output in (("c1", '{"a": 1}'), ("c2", "words"), ("c3", "")):
        agent.receives("function_implicitly_called", call_id=call_id, name="n", arguments={})
        agent.protocol.tool_result(call_id, output, failed=call_id == "c3")
    agent.receives("function_implicitly_called", call_id="slow", name="n", arguments={})
    agent.waits(9)
    agent.protocol.tool_result("slow", "done", failed=False)
    agent.protocol.update(
        NeutralSettings.model_validate(
            {"instructions": "x", "temperature": 0.5, "turn_detection": {"threshold": 0.9}}
        ),
        {},
    )
    agent.receives("avatar_connection_warning", disconnect_after=30)
    agent.sent()
    heir = agent.protocol.successor([Said(True, "Hi."), Said(False, "Hello.")])
    assert isinstance(heir, Companion)
    after = Session(protocol=heir)
    judge(AGENT_BODY if "agent_id" in of else AD_HOC_BODY, after.body)
    after.sent()
    kinds = {message["type"] for message in agent.all_sent}
    assert kinds == set(COMMANDS)
    for message in agent.all_sent + after.all_sent:
        judge(COMMANDS[message["type"]], message)


@given(st.binary(max_size=1280).map(lambda half: half * 2))
def test_a_frame_of_audio_is_what_the_vendor_would_send(frame):
    message = json.loads(Session().protocol.audio(frame) or b"")
    judge(COMMANDS["send_audio"], message)
    assert base64.b64decode(message["data"]["data"], validate=True) == frame


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        (AD_HOC_BODY, {}),
        (AD_HOC_BODY, {"companionId": "c", "agent_id": "a"}),
        (AD_HOC_BODY, {"companionId": "c", "tags": {"k" * 65: "v"}}),
        (AD_HOC_BODY, {"companionId": "c", "providerConfig": {"settings": {"noiseReduction": {}}}}),
        (AGENT_BODY, {"channelType": "websocket", "disableIdleTimeout": True}),
        (COMMANDS["send_function_output"], {"type": "send_function_output", "data": {"call_id": "c"}}),
        (COMMANDS["set_settings"], {"type": "set_settings", "data": {}}),
    ],
)
def test_the_judge_is_awake(schema, wrong):
    with pytest.raises(ValidationError):
        judge(schema, wrong)
