"""Deepgram where the space is larger than the examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentTranscript,
    ReplyAudioDone,
    ReplyDone,
    Said,
)
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.deepgram.protocol import DeepgramVoiceAgent
from telbridge.sessions.deepgram.settings import DeepgramSettings
from tests.sessions.deepgram.bed import opened

VALID: list[dict[str, Any]] = [
    {"type": "Welcome", "request_id": "r"},
    {"type": "SettingsApplied"},
    {
        "type": "ConversationText",
        "role": "user",
        "content": "words",
        "conversational_behavior": "default",
        "languages": ["en"],
    },
    {"type": "ConversationText", "role": "assistant", "content": "words"},
    {"type": "UserStartedSpeaking"},
    {"type": "EndOfTurn", "trigger": "model"},
    {"type": "AgentThinking", "content": "hm"},
    {
        "type": "FunctionCallRequest",
        "functions": [
            {"id": "c1", "name": "n", "arguments": "{}", "client_side": True, "thought_signature": "s"}
        ],
    },
    {"type": "FunctionCallCancelled", "functions": [{"id": "c1", "name": "n"}]},
    {"type": "FunctionCallResponse", "id": "c1", "name": "n", "content": "x"},
    {"type": "AgentStartedSpeaking", "total_latency": 1.0, "tts_latency": 0.1, "ttt_latency": 0.5},
    {"type": "LatencyReport", "stt_latency": 0.02, "total_latency": 1.2},
    {"type": "AgentAudioDone"},
    {"type": "PromptUpdated"},
    {"type": "SpeakUpdated"},
    {"type": "ThinkUpdated"},
    {"type": "ListenUpdated"},
    {"type": "ThinkLiveUpdated"},
    {"type": "InjectionRefused", "message": "m"},
    {"type": "History", "role": "user", "content": "words"},
    {"type": "History", "function_calls": [{"id": "c1", "name": "n"}]},
    {"type": "FrustrationDetected", "count": 1, "escalated": False},
    {"type": "__customFromThinkProvider", "content": {}},
    {"type": "Warning", "description": "d", "code": "MAXIMUM_SESSION_LENGTH_APPROACHING"},
    {"type": "Error", "description": "d", "code": "UNPARSABLE_CLIENT_MESSAGE"},
]
KINDS = tuple({message["type"] for message in VALID})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=4,
)


def paths(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where a message can be changed."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    return [here, *(path for key, one in inside for path in paths(one, (*here, key)))]


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf")),
    *("", "x" * 300, "\ud800", "user", "c1", "{}", "FAILED_TO_THINK"),
    *([], [None], [[]], {}, {"": {}}, {"type": 3}, [{"id": "c1"}]),
]
PLACES = [(message, path) for message in VALID for path in paths(message)]
nearly_valid = st.builds(
    lambda place, odd: json.dumps(replaced(*place, odd)), st.sampled_from(PLACES), st.sampled_from(ODD)
)
valid = st.sampled_from(VALID).map(json.dumps)


ASKS = ("greet", "say", "caller", "context", "reply", "interrupt", "result", "update", "audio", "time")
asks = st.sampled_from(ASKS)
PLAIN = DeepgramSettings()


def ask(protocol: DeepgramVoiceAgent, what: str) -> None:
    """Something a call may ask at any moment."""
    match what:
        case "greet":
            protocol.greet(Greeting("Hello."))
        case "say":
            protocol.say("words")
        case "caller" | "context":
            role = TextRole.CALLER if what == "caller" else TextRole.CONTEXT
            protocol.send_text("words", role=role, respond=what == "caller")
        case "reply":
            protocol.request_reply(None)
        case "interrupt":
            protocol.interrupt()
        case "result":
            protocol.tool_result("c1", "x", failed=False)
        case "update":
            try:
                protocol.update(NeutralSettings(instructions="New.", voice="flux-kit-en"), {})
            except UpdateImpossible:
                pass
        case "audio":
            protocol.audio(b"\xff" * 160)
        case "time":
            protocol.time_passed(now_ns=10**12)


def fresh(**fields: Any) -> DeepgramVoiceAgent:
    return opened(DeepgramSettings.model_validate(fields) if fields else PLAIN)


def begun(**fields: Any) -> DeepgramVoiceAgent:
    protocol = fresh(**fields)
    receive_all(protocol, [json.dumps(message) for message in VALID[:2]])
    return protocol


def receive_all(protocol: DeepgramVoiceAgent, messages: Sequence[str | bytes]) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    for position, message in enumerate(messages):
        events += protocol.receive(message, now_ns=position * 100_000_000)
    for sent in protocol.data_to_send():
        assert isinstance(sent, str)
        json.loads(sent)
    return events


@given(st.booleans(), st.lists(st.text() | st.binary(), max_size=5))
@settings(deadline=None)
def test_arbitrary_bytes_and_text_never_raise(ready, messages):
    receive_all(begun() if ready else fresh(), messages)


steps = valid | nearly_valid | st.binary(max_size=9) | asks


@given(ready=st.booleans(), script=st.lists(steps, max_size=8))
@settings(deadline=None, max_examples=1000)
def test_a_thousand_mutated_sessions_never_raise(ready, script):
    protocol = begun() if ready else fresh()
    for step in script:
        if step in ASKS:
            ask(protocol, step)
        else:
            receive_all(protocol, [step])
    protocol.deadline_ns()
    protocol.closed(None, "")
    successor = protocol.successor([Said(True, "words")])
    assert successor is not None
    receive_all(successor, [json.dumps(message) for message in VALID[:2]])


@given(st.sampled_from(KINDS), st.dictionaries(st.text(max_size=8), json_values, max_size=3))
@settings(deadline=None, max_examples=50)
def test_known_types_with_arbitrary_fields_never_raise(kind, fields):
    receive_all(begun(), [json.dumps({**fields, "type": kind})])


@given(st.lists(st.sampled_from(VALID[2:]).map(json.dumps) | st.binary(min_size=1, max_size=9), max_size=30))
@settings(deadline=None, max_examples=200)
def test_each_reply_ends_once_and_nothing_follows_its_end(messages):
    """Whatever the order: reply ids only grow, no audio comes after a reply's end, and the audio of a reply
    is complete at most once, right before that end."""
    ended: set[int] = set()
    sounding: set[int] = set()
    complete: set[int] = set()
    last = 0
    for event in receive_all(begun(), messages):
        match event:
            case AgentAudio(reply=reply):
                assert reply not in ended
                assert reply >= last
                sounding.add(reply)
                last = reply
            case ReplyAudioDone(reply=reply):
                assert reply in sounding
                assert reply not in complete | ended
                complete.add(reply)
            case ReplyDone(reply=reply):
                assert reply not in ended
                ended.add(reply)
            case AgentTranscript(reply=reply):
                assert reply >= last
            case _:
                pass


@given(octets=st.binary(max_size=400).map(lambda b: b * 2), cuts=st.lists(st.integers(0, 800), max_size=6))
@settings(deadline=None)
def test_audio_does_not_depend_on_how_it_was_cut_into_messages(octets, cuts):
    protocol = begun(audio={"output": {"encoding": "linear16", "sample_rate": 24000}})
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    got = b""
    for start, stop in pairwise(edges):
        for event in receive_all(protocol, [octets[start:stop]]):
            assert isinstance(event, AgentAudio)
            assert len(event.audio) % 2 == 0
            got += event.audio
    assert got == octets
