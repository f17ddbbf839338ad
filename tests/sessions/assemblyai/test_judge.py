"""Every message that we send to AssemblyAI, judged by a second reading of the vendor's published facts.

There is no vendor SDK with a client for this API. The schema below is written from the tables of the vendor's
AsyncAPI file and events reference (assemblyai.com/docs/api-reference/specs/voice-agent-api.yaml,
voice-agent-api/events-reference, session-configuration), not from our settings, and lets no other key pass.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K
from telbridge.call.events import Said
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.assemblyai.protocol import PROVIDER
from telbridge.sessions.assemblyai.settings import AssemblyAISettings
from telbridge.sessions.base import Opening


def strict(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


def one_of(*values: Any) -> dict[str, Any]:
    return {"enum": list(values)}


STRING = {"type": "string"}
BOOL = {"type": "boolean"}
UNIT = {"type": "number", "minimum": 0, "maximum": 1}
PAUSE = {"type": "integer", "minimum": 50, "maximum": 10_000}
FORMAT = {
    "oneOf": [
        strict(["encoding"], encoding=one_of("audio/pcm"), sample_rate=one_of(24_000)),
        strict(["encoding"], encoding=one_of("audio/pcmu", "audio/pcma"), sample_rate=one_of(8000)),
    ]
}
TOOL = strict(
    ["type", "name"],
    type=one_of("function"),
    name={"type": "string", "minLength": 1},
    description=STRING,
    parameters={"type": "object", "properties": {"properties": {"type": "object"}}},
    execution_mode=one_of("interactive", "hold"),
    timeout_seconds={"type": "integer", "minimum": 1, "maximum": 300},
    response_instructions=strict(
        success={"type": "string", "maxLength": 500}, error={"type": "string", "maxLength": 500}
    ),
)
LISTENING = {
    "type": one_of("audio"),
    "keyterms": {"type": "array", "items": STRING, "maxItems": 100},
    "transcription_mode": one_of("min_latency", "balanced", "max_accuracy"),
    "transcription_prompt": {"type": "string", "maxLength": 1750},
    "language_codes": {"type": "array", "items": STRING},
    "voice_focus": one_of("near-field", "far-field"),
    "voice_focus_threshold": UNIT,
    "continuous_partials": BOOL,
    "turn_detection": strict(
        type=one_of("server_vad"),
        vad_threshold=UNIT,
        min_silence=PAUSE,
        max_silence=PAUSE,
        interrupt_response=BOOL,
        interruption_delay={"type": "integer", "minimum": 0, "maximum": 1000},
    ),
}
VOLUME = {"type": "integer", "minimum": 0, "maximum": 100}
CHANGEABLE = {
    "system_prompt": STRING,
    "tools": {"type": "array", "items": TOOL},
    "input": strict(**LISTENING),
    "output": strict(volume=VOLUME),
}
FIRST = {
    **CHANGEABLE,
    "greeting": {"type": "string", "minLength": 1},
    "input": strict(**LISTENING, format=FORMAT),
    "output": strict(type=one_of("audio"), voice=STRING, format=FORMAT, volume=VOLUME),
}
MESSAGES = {
    "session.resume": strict(["type", "session_id"], type=STRING, session_id=STRING),
    "input.audio": strict(["type", "audio"], type=STRING, audio=STRING),
    "tool.result": strict(
        ["type", "call_id", "result", "is_error"], type=STRING, call_id=STRING, result=STRING, is_error=BOOL
    ),
    "reply.create": strict(["type"], type=STRING, instructions=STRING),
    "conversation.message": strict(
        ["type", "role", "content"], type=STRING, role=one_of("user", "system"), content=STRING
    ),
    "session.end": strict(["type"], type=STRING),
}
OF_A_STORED_AGENT = strict(["agent_id"], agent_id=STRING)


def judging(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def update(session: dict[str, Any]) -> dict[str, Any]:
    return strict(["type", "session"], type=STRING, session=session)


JUDGES = {kind: judging(schema) for kind, schema in MESSAGES.items()}
FIRST_UPDATE = judging(update({"oneOf": [strict(**FIRST), OF_A_STORED_AGENT]}))
LATER_UPDATE = judging(update(strict(**CHANGEABLE)))


def judge(message: dict[str, Any], *, first: bool) -> None:
    """Fails for anything that the vendor's tables do not have. `first`: the first message of a connection."""
    kind = message["type"]
    if kind == "session.update":
        (FIRST_UPDATE if first else LATER_UPDATE).validate(message)
        return
    assert first == (kind == "session.resume"), f"{kind} out of its place"
    JUDGES[kind].validate(message)
    if kind == "tool.result":
        json.loads(message["result"])


def sent(protocol: Any, *, first: bool) -> list[dict[str, Any]]:
    messages = [json.loads(message) for message in protocol.data_to_send()]
    for number, message in enumerate(messages):
        judge(message, first=first and number == 0)
    return messages


def opened(values: dict[str, Any], wire: Any = PCMU_8K) -> Any:
    chosen = AssemblyAISettings.model_validate(values)
    return PROVIDER.open(chosen, Opening("c1", wire, {"ASSEMBLYAI_API_KEY": "aai-secret"}))


EVERYTHING: dict[str, Any] = {
    "system_prompt": "Answer briefly.",
    "greeting": "Hello.",
    "tools": [
        {
            "type": "function",
            "name": "look_up",
            "description": "Looks an order up.",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
            "execution_mode": "hold",
            "timeout_seconds": 30,
            "response_instructions": {"success": "Tell it.", "error": "Apologise."},
        }
    ],
    "input": {
        "type": "audio",
        "format": {"encoding": "audio/pcmu", "sample_rate": 8000},
        "keyterms": ["Telbridge"],
        "transcription_mode": "min_latency",
        "transcription_prompt": "An order line.",
        "language_codes": ["en", "de"],
        "voice_focus": "far-field",
        "voice_focus_threshold": 0.5,
        "continuous_partials": True,
        "turn_detection": {
            "type": "server_vad",
            "vad_threshold": 0.4,
            "min_silence": 400,
            "max_silence": 1200,
            "interrupt_response": True,
            "interruption_delay": 300,
        },
    },
    "output": {
        "type": "audio",
        "voice": "alba",
        "format": {"encoding": "audio/pcm", "sample_rate": 24_000},
        "volume": 80,
    },
}


def test_a_configuration_with_every_field_arrives_as_it_was_written():
    protocol = opened(EVERYTHING)
    protocol.connected(now_ns=0)
    assert sent(protocol, first=True) == [{"type": "session.update", "session": EVERYTHING}]


@pytest.mark.parametrize(
    ("wire", "encoding"), [(PCMU_8K, "audio/pcmu"), (PCMA_8K, "audio/pcma"), (PCM_24K, "audio/pcm")]
)
def test_a_configuration_without_any_field_holds_the_formats_only(wire, encoding):
    protocol = opened({}, wire)
    protocol.connected(now_ns=0)
    part = {"format": {"encoding": encoding}}
    session = {"input": part, "output": part}
    assert sent(protocol, first=True) == [{"type": "session.update", "session": session}]


def test_a_stored_agents_id_stands_alone_and_what_may_change_follows_when_ready():
    protocol = opened({"agent_id": "agent_1", "output": {"volume": 50}, "raw": {"tools": []}})
    protocol.connected(now_ns=0)
    assert sent(protocol, first=True)[0]["session"] == {"agent_id": "agent_1"}
    protocol.receive('{"type":"session.ready","session_id":"sess_1"}', now_ns=0)
    assert [one["session"] for one in sent(protocol, first=False)] == [
        {"output": {"volume": 50}, "tools": []}
    ]


def test_raw_is_merged_last_into_the_session():
    protocol = opened({"greeting": "Hello.", "raw": {"greeting": "Hi.", "output": {"style": "calm"}}})
    protocol.connected(now_ns=0)
    (message,) = protocol.data_to_send()
    session = json.loads(message)["session"]
    assert session["greeting"] == "Hi."
    assert session["output"] == {"format": {"encoding": "audio/pcmu"}, "style": "calm"}


# ---------------------------------------------------------------- any configuration, any order of asking


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with any of these keys."""
    return st.fixed_dictionaries({}, optional=fields)


words = st.text(max_size=12)
silence = st.integers(50, 10_000)
detection = some(
    type=st.just("server_vad"),
    vad_threshold=st.floats(0, 1),
    min_silence=st.integers(50, 2000),
    max_silence=st.integers(2000, 10_000),
    interrupt_response=st.booleans(),
    interruption_delay=st.integers(0, 1000),
)
tools = st.lists(
    st.fixed_dictionaries(
        {"name": st.from_regex(r"[a-z_]{1,8}", fullmatch=True)},
        optional={
            "description": words,
            "parameters": st.just({"type": "object", "properties": {}, "default": None}),
            "execution_mode": st.sampled_from(["interactive", "hold"]),
            "timeout_seconds": st.integers(1, 300),
            "response_instructions": some(success=words, error=words),
        },
    ),
    max_size=3,
    unique_by=lambda tool: tool["name"],
)
listening = {
    "keyterms": st.lists(words, max_size=4),
    "transcription_mode": st.sampled_from(["min_latency", "balanced", "max_accuracy"]),
    "transcription_prompt": words,
    "language_codes": st.lists(st.sampled_from(["en", "de", "pt"])),
    "voice_focus": st.sampled_from(["near-field", "far-field"]),
    "voice_focus_threshold": st.floats(0, 1),
    "continuous_partials": st.booleans(),
    "turn_detection": detection,
}
audio_format = st.sampled_from(
    [
        {"encoding": "audio/pcm"},
        {"encoding": "audio/pcm", "sample_rate": 24_000},
        {"encoding": "audio/pcmu"},
        {"encoding": "audio/pcma", "sample_rate": 8000},
        {"sample_rate": 24_000},
        {"sample_rate": 8000},
        {},
    ]
)
configurations = some(
    system_prompt=words,
    greeting=st.text(min_size=1, max_size=12),
    tools=tools,
    input=some(**listening, type=st.just("audio"), format=audio_format),
    output=some(
        type=st.just("audio"), voice=st.just("alba"), format=audio_format, volume=st.integers(0, 100)
    ),
    caller_facts=st.just({"name": "Ada"}),
)
changes = some(
    system_prompt=words,
    tools=tools,
    input=some(**listening),
    output=some(volume=st.integers(0, 100)),
    caller_facts=st.just({"name": "Bob"}),
)
neutral = some(
    instructions=words,
    language=st.sampled_from(["en", "de-DE"]),
    key_terms=st.lists(words, max_size=3),
    turn_detection=some(
        mode=st.sampled_from(["vad", "semantic"]),
        threshold=st.floats(0, 1),
        silence_ms=st.integers(0, 10_000),
        eagerness=st.sampled_from(["low", "medium", "high", "auto"]),
    ),
    barge_in=st.booleans(),
    noise_reduction=st.sampled_from(["near_field", "far_field"]),
    tools=st.just([{"name": "hang_up"}]),
    user_profile=st.just({"name": "Ada"}),
)


@given(configurations, neutral, st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_configuration_is_one_that_the_vendor_names(configuration, asked, is_stored):
    named = AssemblyAISettings.model_validate(configuration)
    try:
        chosen = PROVIDER.with_neutral(named, NeutralSettings.model_validate(asked))
    except ValueError:
        assert "min_silence is longer" in str(asked) or "silence_ms" in str(asked)
        return
    if is_stored:
        chosen = chosen.model_copy(update={"agent_id": "agent_1"})
    protocol = PROVIDER.open(chosen, Opening("c1", PCMA_8K, {"ASSEMBLYAI_API_KEY": "aai-secret"}))
    protocol.connected(now_ns=0)
    assert len(sent(protocol, first=True)) == 1
    protocol.receive(
        '{"type":"session.ready","session_id":"s","config":{"system_prompt":"Stored."}}', now_ns=0
    )
    sent(protocol, first=False)


@given(changes, neutral, st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_change_is_one_that_the_vendor_names(vendor, asked, is_ready):
    protocol = opened({"greeting": "Hello."})
    protocol.connected(now_ns=0)
    sent(protocol, first=True)
    if is_ready:
        protocol.receive('{"type":"session.ready","session_id":"s"}', now_ns=0)
    try:
        protocol.update(NeutralSettings.model_validate(asked), vendor)
    except UpdateImpossible:
        return
    protocol.receive('{"type":"session.ready","session_id":"s"}', now_ns=0)
    assert len(sent(protocol, first=False)) == 1


def test_everything_else_that_we_can_say():
    protocol = opened({})
    protocol.greet(Greeting("Welcome them.", verbatim=False))
    protocol.connected(now_ns=0)
    kinds = {message["type"] for message in sent(protocol, first=True)}
    for line in (
        {"type": "session.ready", "session_id": "s"},
        {"type": "reply.started", "reply_id": "r"},
        {"type": "tool.call", "call_id": "t", "name": "look_up", "arguments": {}},
        {"type": "reply.done", "reply_id": "r"},
    ):
        protocol.receive(json.dumps(line), now_ns=0)
    protocol.tool_result("t", "plain words", failed=False)
    for role in TextRole:
        for respond in (True, False):
            protocol.send_text("42#", role=role, respond=respond)
    protocol.say("Good bye.")
    judge(json.loads(protocol.audio(bytes(160))), first=False)
    kinds |= {message["type"] for message in sent(protocol, first=False)}
    following = protocol.successor([Said(True, "Hello?")])
    following.connected(now_ns=0)
    kinds |= {message["type"] for message in sent(following, first=True)}
    protocol.say_goodbye()
    kinds |= {message["type"] for message in sent(protocol, first=False)}
    assert kinds == {"session.update", *MESSAGES} - {"input.audio"}
