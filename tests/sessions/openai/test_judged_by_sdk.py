"""Every message we send, judged by the vendor's own models (openai.types.realtime).

The models allow extra keys and coerce, so three judges are needed: validation, a walk over what they took
as extra, and a round trip. What no model knows is a rule here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent
from openai.types.realtime.realtime_session_create_request import RealtimeSessionCreateRequest
from pydantic import BaseModel

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.call.events import Said
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings

VOICES = ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]


def _client_models() -> dict[str, type[BaseModel]]:
    (union, *_rest) = get_args(RealtimeClientEvent)
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


MODELS = _client_models()


def extras(value: Any, path: str = "") -> list[str]:
    """Paths of all keys that a model took without knowing them."""
    found: list[str] = []
    if isinstance(value, BaseModel):
        found += [f"{path}.{key}" for key in value.__pydantic_extra__ or {}]
        for key in type(value).model_fields:
            found += extras(getattr(value, key), f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            found += extras(one, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            found += extras(one, f"{path}.{key}")
    return found


def judge(message: dict[str, Any]) -> None:
    judged = MODELS[message["type"]].model_validate(message)
    assert extras(judged) == []
    assert judged.to_dict(mode="json", exclude_unset=True) == message  # type: ignore[attr-defined]
    own_rules(message)


def own_rules(message: dict[str, Any]) -> None:
    """What the API refuses and the SDK's types let through."""
    assert message["type"] != "output_audio_buffer.clear"  # not over a WebSocket
    if message["type"] == "conversation.item.truncate":
        assert type(message["audio_end_ms"]) is int
        assert message["audio_end_ms"] >= 0
    if message["type"] == "session.update":
        rules_of_a_session(message["session"])


def rules_of_a_session(session: dict[str, Any]) -> None:
    if "output_modalities" in session:
        assert len(session["output_modalities"]) == 1
    if "audio" in session:
        heard, said = session["audio"]["input"], session["audio"]["output"]
        for audio_format in (heard["format"], said["format"]):
            assert ("rate" in audio_format) == (audio_format["type"] == "audio/pcm")
        if "voice" in said:
            assert said["voice"] in VOICES or said["voice"]["id"]
        assert 0.25 <= said.get("speed", 1) <= 1.5
        assert 0 <= (heard.get("turn_detection") or {}).get("threshold", 0) <= 1
    tokens = session.get("max_output_tokens", "inf")
    assert tokens == "inf" or 1 <= tokens <= 4096


def test_the_judge_knows_every_client_event():
    assert len(MODELS) == 11


# ---------------------------------------------------------------- every field that the SDK knows

FUNCTION = {"type": "function", "name": "balance", "description": "d", "parameters": {"type": "object"}}
MCP = {
    "type": "mcp",
    "server_label": "shop",
    "server_url": "https://shop.example/mcp",
    "server_description": "The shop.",
    "authorization": {"env": "OPENAI_API_KEY"},
    "headers": {"X-Shop": "1", "X-Key": {"env": "OPENAI_API_KEY"}},
    "allowed_tools": {"read_only": True, "tool_names": ["find"]},
    "require_approval": {
        "always": {"read_only": False, "tool_names": ["buy"]},
        "never": {"read_only": True, "tool_names": ["find"]},
    },
    "allowed_callers": ["direct", "programmatic"],
    "defer_loading": True,
}
WHOLE: list[dict[str, Any]] = [
    {
        "instructions": "Be brief.",
        "prompt": {
            "id": "p",
            "version": "1",
            "variables": {"a": "b", "c": {"type": "input_text", "text": "d"}},
        },
        "output_modalities": ["audio"],
        "voice": {"id": "voice_1"},
        "speed": 1.25,
        "max_output_tokens": 4096,
        "reasoning_effort": "xhigh",
        "tools": [FUNCTION, MCP],
        "tool_choice": {"type": "function", "name": "balance"},
        "parallel_tool_calls": True,
        "truncation": {"retention_ratio": 0.8, "token_limits": {"post_instructions": 5000}},
        "tracing": {"workflow_name": "w", "group_id": "g", "metadata": {"a": "b"}},
        "include": ["item.input_audio_transcription.logprobs"],
        "turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000},
        "transcription": {
            "model": "gpt-transcribe",
            "language": "de",
            "languages": ["de"],
            "keywords": ["Gandalf"],
            "prompt": "A shop.",
        },
        "noise_reduction": {"type": "far_field", "strength": 1.5},
        "audio": "pcm24k",
        "input_format": "audio/pcma",
    },
    {
        "tools": [
            {"type": "mcp", "server_label": "a", "connector_id": "connector_gmail", "allowed_tools": ["b"]},
            {"type": "mcp", "server_label": "b", "tunnel_id": "t", "require_approval": "never"},
        ],
        "tool_choice": {"type": "mcp", "server_label": "a", "name": "b"},
        "transcription": {"model": "gpt-realtime-whisper", "delay": "minimal"},
        "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
        "tracing": "auto",
        "truncation": "disabled",
    },
    {
        "turn_detection": "off",
        "transcription": "off",
        "noise_reduction": "off",
        "tracing": "off",
        "prompt": "off",
    },
]

_NOT_SENT = {
    # It stands in the query of the connection.
    ("RealtimeSessionCreateRequest", "model"),
    # Of the variables of a prompt, which are passed on as tables.
    ("ResponseInputText", "prompt_cache_breakpoint"),
}
_OTHERS = {"ResponseInputImage", "ResponseInputFile", "PromptCacheBreakpoint"}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def fields_below(model: type[BaseModel], found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of the models that a session is made of: all fields, each with its model's name."""
    for name, field in model.model_fields.items():
        if (model.__name__, name) not in found:
            found.add((model.__name__, name))
            for inner in models_in(field.annotation):
                fields_below(inner, found)
    return found


def fields_used(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield type(value).__name__, name
            yield from fields_used(getattr(value, name))
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from fields_used(one)


def first_update(agent: Any) -> dict[str, Any]:
    agent.receives("session.created", session={})
    (update,) = agent.sent()
    return update


def test_the_settings_reach_every_field_of_the_session_that_the_sdk_knows(openai_session):
    used: set[tuple[str, str]] = set()
    for whole in WHOLE:
        update = first_update(openai_session(ready=False, **whole))
        judge(update)
        used |= set(fields_used(RealtimeSessionCreateRequest.model_validate(update["session"])))
    known = fields_below(RealtimeSessionCreateRequest, set())
    assert {(model, name) for model, name in known - used if model not in _OTHERS} == _NOT_SENT


names = st.text("abcXYZ_", min_size=1, max_size=8)
optional: dict[str, st.SearchStrategy[Any]] = {
    "instructions": st.text(max_size=30),
    "voice": st.sampled_from([*VOICES, "voice_123"]) | st.builds(dict, id=names),
    "speed": st.floats(0.25, 1.5),
    "max_output_tokens": st.integers(1, 4096) | st.just("inf"),
    "reasoning_effort": st.sampled_from(["minimal", "low", "medium", "high", "xhigh"]),
    "model": st.sampled_from(["gpt-realtime-2.1", "gpt-realtime-1.5", "gpt-realtime"]),
    "tool_choice": st.sampled_from(["auto", "none", "required"]),
    "output_modalities": st.sampled_from([["audio"], ["text"]]),
    "audio": st.sampled_from(["g711", "pcm24k"]),
    "input_format": st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma"]),
    "output_format": st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma"]),
    "noise_reduction": st.sampled_from(
        ["near_field", "far_field", "off", {"type": "far_field", "strength": 2}]
    ),
    "truncation": st.sampled_from(["auto", "disabled"])
    | st.builds(dict, type=st.just("retention_ratio"), retention_ratio=st.floats(0, 1)),
    "tools": st.lists(
        st.fixed_dictionaries(
            {"type": st.just("function"), "name": names}, optional={"description": st.text(max_size=9)}
        )
        | st.just(MCP),
        max_size=3,
    ),
    "turn_detection": st.just("off")
    | st.fixed_dictionaries(
        {"type": st.just("server_vad")},
        optional={
            "threshold": st.floats(0, 1),
            "silence_duration_ms": st.integers(0, 5000),
            "idle_timeout_ms": st.integers(5000, 30_000) | st.just("off"),
            "create_response": st.booleans(),
            "interrupt_response": st.booleans(),
        },
    )
    | st.fixed_dictionaries(
        {"type": st.just("semantic_vad")}, optional={"eagerness": st.sampled_from(["low", "auto"])}
    ),
    "transcription": st.sampled_from(["off", {}, {"model": "whisper-1"}, {"model": "gpt-live-transcribe"}]),
    "language": st.sampled_from(["de", "yue-HK", "en-GB"]),
    "key_terms": st.lists(names, max_size=3),
    "user_profile": st.dictionaries(names, st.text(max_size=9), max_size=2),
}
configurations = st.fixed_dictionaries({}, optional=optional)
FIXED = {"model", "audio", "input_format", "output_format"}
changes = st.fixed_dictionaries({}, optional={k: v for k, v in optional.items() if k not in FIXED})


@given(configured=configurations, asked=changes, wire=st.sampled_from([PCMU_8K, PCMA_8K]))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_configuration_and_every_change_of_it_is_what_the_vendor_would_say(
    openai_session, configured, asked, wire
):
    agent = openai_session(ready=False, wire=wire, **configured)
    first = first_update(agent)
    judge(first)
    agent.takes_the_update()
    try:
        agent.protocol.update(NeutralSettings(), asked)
    except UpdateImpossible:
        assert agent.sent() == []
        return
    (second,) = agent.sent()
    judge(second)
    if "audio" in second["session"]:
        for way in ("input", "output"):
            assert second["session"]["audio"][way]["format"] == first["session"]["audio"][way]["format"]


# ---------------------------------------------------------------- every message


@pytest.mark.parametrize("wire", [PCMU_8K, PCMA_8K], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"audio": "pcm24k", "instructions": "Be brief.", "max_output_tokens": 1024, "speed": 1.1},
        {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}, "noise_reduction": "far_field"},
        {"transcription": {}, "voice": "voice_1234", "reasoning_effort": "minimal"},
        {"transcription": {"model": "whisper-1", "language": "de"}, "noise_reduction": "near_field"},
    ],
    ids=["defaults", "pcm24k", "semantic", "custom-voice", "whisper"],
)
def test_all_that_a_call_says_is_what_the_vendor_would_say(openai_session, settings, wire):
    agent = openai_session(ready=False, wire=wire, **settings)
    protocol = agent.protocol
    protocol.greet(Greeting("Hello, «you»."))
    agent.receives("session.created", session={})
    agent.receives("session.updated", session={})
    agent.begins("resp_1")
    agent.speaks("resp_1", bytes(32_000))
    agent.calls("resp_1", "call_1")
    agent.calls("resp_1", "call_2")
    item = {"type": "mcp_approval_request", "id": "mcpr_" + "x" * 40, "name": "buy", "arguments": "{}"}
    agent.receives("response.output_item.done", response_id="resp_1", item=item)
    protocol.greet(Greeting("Greet the caller.", verbatim=False))
    protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    protocol.send_text("A fact.", role=TextRole.CONTEXT, respond=False)
    agent.sent()
    agent.hears_the_caller()
    agent.heard(1, ms=100)
    protocol.interrupt()
    agent.ends("resp_1", "cancelled")
    protocol.tool_result("call_1", "", failed=False)
    protocol.tool_result("call_2", "no line", failed=True)
    protocol.update(NeutralSettings(instructions="New.", barge_in=False, tools=({"name": "a"},)), {})
    agent.takes_the_update()
    protocol.update(NeutralSettings(turn_detection={"mode": "off"}), {"prompt": {"id": "p"}})
    agent.takes_the_update()
    protocol.request_reply("Ask whether they are there.")
    protocol.say("One moment.")
    agent.begins("resp_2")
    agent.ends("resp_2")
    agent.begins("resp_3")
    agent.ends("resp_3")
    agent.sent()
    agent.follows(protocol.successor([Said(False, "Hello."), Said(True, "«Hi.»")]), ready=False)
    agent.receives("session.created", session={})
    agent.receives("session.updated", session={})
    agent.sent()
    kinds = {message["type"] for message in agent.all_sent}
    assert kinds == {
        "session.update",
        "response.create",
        "response.cancel",
        "conversation.item.create",
        "conversation.item.truncate",
        "input_audio_buffer.commit",
    }
    for message in agent.all_sent:
        judge(message)


def test_every_message_has_an_id_of_its_own(openai_session):
    agent = openai_session(ready=False)
    agent.protocol.greet(Greeting("Hello.", verbatim=False))
    agent.receives("session.created", session={})
    agent.takes_the_update()
    agent.protocol.update(NeutralSettings(instructions="New."), {})
    agent.takes_the_update()
    agent.protocol.interrupt()
    agent.sent()
    identities = [message["event_id"] for message in agent.all_sent]
    assert len(set(identities)) == len(identities) == 4


@pytest.mark.parametrize("audio", ["g711", "pcm24k"])
def test_a_frame_of_audio_is_what_the_vendor_would_send(openai_session, audio):
    protocol = openai_session(audio=audio).protocol
    judge(json.loads(protocol.audio(bytes(protocol.uplink_format.bytes_for_ms(20)))))


def test_the_judge_is_awake():
    session = {"type": "realtime", "output_modalities": ["audio"], "voice": "marin"}
    update = {"type": "session.update", "session": session}
    with pytest.raises(AssertionError, match="voice"):
        judge(update)
