"""Azure Voice Live where the space is larger than the examples."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

from azure.ai.voicelive.models import ServerEventType
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_24K, PCMU_8K
from telbridge.call.events import AgentAudio, AgentEvent, ReplyAudioDone, ReplyDone, ReplyId
from telbridge.call.playout import Heard
from telbridge.call.ports import TextRole
from telbridge.sessions.azure.protocol import AzureVoiceLive
from telbridge.sessions.azure.vocabulary import QUIET
from tests.sessions.azure.bed import AzureSession, judge
from tests.sessions.azure.bed import opening as an_opening
from tests.sessions.azure.bed import settings as azure_settings

PLACE = {"response_id": "r1", "item_id": "i1", "output_index": 0, "content_index": 0}
CALL = {"call_id": "c1", "name": "n", "arguments": "{}"}
VALID: list[dict[str, Any]] = [
    {"type": "session.created", "session": {"input_audio_format": "pcm16"}},
    {"type": "session.updated", "session": {"input_audio_format": "g711_ulaw"}},
    {"type": "response.created", "response": {"id": "r1"}},
    {"type": "response.audio.delta", **PLACE, "delta": "AAAA"},
    {"type": "error", "error": {"type": "t", "code": "c", "message": "m", "event_id": "tb_2", "param": "p"}},
    {"type": "warning", "warning": {"message": "m", "code": "c"}},
    {"type": "response.audio_transcript.delta", **PLACE, "delta": "words"},
    {"type": "response.audio_transcript.done", **PLACE, "transcript": "words"},
    {"type": "response.function_call_arguments.done", **PLACE, **CALL},
    {
        "type": "response.output_item.done",
        "response_id": "r1",
        "item": {"type": "function_call", "status": "completed", **CALL},
    },
    {
        "type": "response.done",
        "response": {"id": "r1", "status": "failed", "status_details": {"error": {"code": "c"}}},
    },
    {"type": "conversation.item.created", "item": {"type": "mcp_approval_request", "id": "m1", "name": "t"}},
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "i"},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "w"},
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i", "error": {"code": "c"}},
    {"type": "response.mcp_call.failed", "item_id": "i"},
]
KINDS = sorted({*(kind.value for kind in ServerEventType), *QUIET})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, here: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a message can be changed."""
    if not isinstance(value, dict):
        return [here]
    return [here, *(path for key, one in value.items() for path in paths(one, (*here, key)))]


def replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    return new if not path else {**value, path[0]: replaced(value[path[0]], path[1:], new)}


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    message = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 2))):
        message = replaced(message, draw(st.sampled_from(paths(message))), draw(json_values))
        if not isinstance(message, dict):
            break
    return json.dumps(message)


SETTINGS = azure_settings()


def fresh() -> AzureVoiceLive:
    return AzureVoiceLive(SETTINGS, an_opening())


def receive_all(protocol: AzureVoiceLive, messages: list[str | bytes]) -> list[AgentEvent]:
    events = [event for message in messages for event in protocol.receive(message, now_ns=0)]
    for message in map(json.loads, protocol.data_to_send()):
        # The configuration is always the same one, and judged elsewhere.
        assert message["type"] == "session.update" or judge(message) == []
    return events


@given(st.lists(st.text() | st.binary() | json_values.map(json.dumps), max_size=5))
@settings(deadline=None, max_examples=200)
def test_arbitrary_messages_never_raise(messages):
    receive_all(fresh(), messages)


@given(begun=st.integers(0, 4), messages=st.lists(nearly_valid(), max_size=6))
@settings(deadline=None, max_examples=1000)
def test_mutated_messages_in_any_order_never_raise(begun, messages):
    protocol = fresh()
    receive_all(protocol, [json.dumps(message) for message in VALID[:begun]])
    receive_all(protocol, messages)
    protocol.interrupt()
    protocol.tool_result("c1", "{}", failed=False)
    protocol.send_text("5", role=TextRole.CALLER, respond=True)
    protocol.report_heard([Heard(ReplyId(1), 100, 100, 8000)])
    protocol.closed(None, "")
    protocol.successor([])
    receive_all(protocol, [])


@given(st.sampled_from(KINDS), st.dictionaries(st.text(max_size=8), json_values))
@settings(deadline=None, max_examples=200)
def test_every_type_of_the_sdk_with_arbitrary_fields_never_raises(kind, fields):
    protocol = fresh()
    receive_all(protocol, [json.dumps(message) for message in VALID[:3]])
    receive_all(protocol, [json.dumps({**fields, "type": kind})])


def test_every_type_of_the_sdk_is_known():
    agent = AzureSession()
    assert {kind for kind in KINDS if "Unknown" in repr(agent.receives(kind))} == set()


@given(audio=st.binary(max_size=400).map(lambda b: b * 2), cuts=st.lists(st.integers(0, 800), max_size=6))
@settings(deadline=None)
def test_audio_does_not_depend_on_how_it_was_cut_into_deltas(audio, cuts):
    agent = AzureSession(wire=PCM_24K)
    agent.begins("r1")
    edges = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    got = b""
    for start, stop in pairwise(edges):
        for event in agent.speaks("r1", audio[start:stop]):
            assert isinstance(event, AgentAudio)
            got += event.audio
    assert got == audio


@given(st.binary(min_size=1, max_size=400))
def test_every_frame_comes_through_unchanged(frame):
    message = AzureSession(wire=PCMU_8K).protocol.audio(frame)
    assert message is not None
    assert base64.b64decode(json.loads(message)["audio"]) == frame


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "speak", "end", "caller", "interrupt"]), st.integers(1, 4)),
        max_size=30,
    )
)
@settings(deadline=None, max_examples=200)
def test_each_reply_ends_once_and_nothing_of_it_comes_after_its_end_or_its_cut(steps):
    agent = AzureSession()
    events: list[AgentEvent] = []
    cut: set[int] = set()
    for step, number in steps:
        match step:
            case "begin":
                agent.begins(f"r{number}")
            case "speak":
                events += [e for e in agent.speaks(f"r{number}", bytes(8)) if isinstance(e, AgentAudio)]
            case "end":
                events += agent.ends(f"r{number}")
            case "caller":
                agent.hears_the_caller()
            case "interrupt":
                agent.protocol.interrupt()
        if step in ("caller", "interrupt"):
            cut = {reply.reply for reply in events if isinstance(reply, AgentAudio | ReplyDone)}
            before = len(events)
        elif cut:
            late = [e for e in events[before:] if isinstance(e, AgentAudio | ReplyAudioDone)]
            assert not cut & {e.reply for e in late}
    for kind in (ReplyDone, ReplyAudioDone):
        ended = [event.reply for event in events if isinstance(event, kind)]
        assert len(set(ended)) == len(ended)
