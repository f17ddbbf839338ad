"""OpenAI Realtime where the space is larger than the examples."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_24K, PCMU_8K
from telbridge.call.events import AgentAudio, AgentEvent, ReplyId
from telbridge.call.playout import Heard
from telbridge.sessions.openai_realtime import OpenAIRealtime
from telbridge.sessions.openai_replies import AudioItem, positions
from telbridge.sessions.openai_settings import OpenAISettings
from telbridge.sessions.openai_vocabulary import BETA_NAMES, QUIET

HANDLED = (
    "session.created",
    "session.updated",
    "error",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed",
    "response.created",
    "response.output_audio.delta",
    "response.output_audio_transcript.done",
    "response.output_item.done",
    "response.done",
)

VALID: list[dict[str, Any]] = [
    {"type": "session.created", "session": {"audio": {"output": {"format": {"type": "audio/pcmu"}}}}},
    {"type": "session.updated", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
    {"type": "error", "error": {"type": "t", "code": "c", "message": "m", "event_id": "tb_2", "param": "p"}},
    {"type": "response.created", "response": {"id": "r1"}},
    {
        "type": "response.output_audio.delta",
        "response_id": "r1",
        "item_id": "i1",
        "content_index": 0,
        "delta": "AAAA",
    },
    {"type": "response.output_audio_transcript.done", "response_id": "r1", "transcript": "words"},
    {
        "type": "response.output_item.done",
        "response_id": "r1",
        "item": {
            "type": "function_call",
            "status": "completed",
            "call_id": "c1",
            "name": "n",
            "arguments": "{}",
        },
    },
    {
        "type": "response.done",
        "response": {"id": "r1", "status": "failed", "status_details": {"error": {"code": "c"}}},
    },
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "i"},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "w"},
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i", "error": {"code": "c"}},
]

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
    if not path:
        return new
    return {**value, path[0]: replaced(value[path[0]], path[1:], new)}


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    message = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(paths(message)))
        message = replaced(message, path, draw(json_values))
        if not isinstance(message, dict):
            break
    return json.dumps(message)


def fresh() -> OpenAIRealtime:
    return OpenAIRealtime(OpenAISettings(), wire_format=PCMU_8K, api_key=None)


def receive_all(protocol: OpenAIRealtime, messages: list[str | bytes]) -> list[AgentEvent]:
    events = [event for message in messages for event in protocol.receive(message, now_ns=0)]
    for message in protocol.data_to_send():
        json.loads(message)
    return events


@given(st.lists(st.text() | st.binary(), max_size=5))
@settings(deadline=None)
def test_arbitrary_bytes_and_text_never_raise(messages):
    receive_all(fresh(), messages)


@given(begun=st.integers(0, 5), messages=st.lists(nearly_valid(), max_size=10))
@settings(deadline=None, max_examples=100)
def test_mutated_messages_in_any_order_never_raise(begun, messages):
    protocol = fresh()
    order = (VALID[0], VALID[1], VALID[3], VALID[4], VALID[5])[:begun]
    receive_all(protocol, [json.dumps(message) for message in order])
    receive_all(protocol, messages)
    protocol.report_heard([Heard(ReplyId(1), 100, 100, 8000)])
    protocol.closed(None, "")
    receive_all(protocol, [])


@given(st.sampled_from((*HANDLED, *QUIET, *BETA_NAMES)), st.dictionaries(st.text(max_size=8), json_values))
@settings(deadline=None)
def test_known_types_with_arbitrary_fields_never_raise(kind, fields):
    receive_all(fresh(), [json.dumps({**fields, "type": kind})])


items = st.lists(st.integers(0, 4000), min_size=1, max_size=6)


@given(received=items, heard=st.integers(0, 20_000), wide=st.booleans())
def test_heard_is_split_over_the_items_and_conserved(received, heard, wide):
    """Items heard in full and the positions in the others add up to what was heard, less the rounding
    of one item; no position exceeds what was received; order is kept."""
    audio_format = PCM_24K if wide else PCMU_8K
    ledger = [
        AudioItem(f"i{n}", 0, octets=samples * audio_format.sample_bytes)
        for n, samples in enumerate(received)
    ]
    cut = positions(ledger, Heard(ReplyId(1), heard, 0, audio_format.rate_hz), audio_format)
    position_of = {item.item_id: ms for item, ms in cut}
    whole = [item for item in ledger if item.item_id not in position_of]

    for item, ms in cut:
        assert 0 <= ms <= audio_format.ms_in(item.octets)
    told = sum(audio_format.samples_in(item.octets) for item in whole)
    told += sum(ms * audio_format.rate_hz // 1000 for ms in position_of.values())
    truth = min(heard, sum(received))
    assert truth - audio_format.rate_hz // 1000 < told <= truth
    # Not begun means zero: at most one item is cut at a place of its own.
    begun = [ms for _, ms in cut if ms > 0]
    assert len(begun) <= 1
    assert begun == [ms for _, ms in cut[:1] if ms > 0]


@given(heard=st.integers(0, 16_000), leg_rate=st.sampled_from([8000, 16_000, 48_000]))
def test_a_position_of_the_legs_clock_is_the_same_time_in_the_sessions_samples(heard, leg_rate):
    item = AudioItem("i", 0, octets=PCM_24K.bytes_for_ms(10_000))
    ((_, ms),) = positions([item], Heard(ReplyId(1), heard, 0, leg_rate), PCM_24K)
    assert ms == heard * 1000 // leg_rate


@given(audio=st.binary(max_size=400).map(lambda b: b * 2), cuts=st.lists(st.integers(0, 800), max_size=6))
@settings(deadline=None)
def test_audio_does_not_depend_on_how_it_was_cut_into_deltas(audio, cuts):
    protocol = OpenAIRealtime(OpenAISettings(audio="pcm24k"), wire_format=PCMU_8K, api_key=None)
    protocol.receive(json.dumps({"type": "session.created"}), now_ns=0)
    protocol.receive(json.dumps({"type": "response.created", "response": {"id": "r"}}), now_ns=0)
    edges = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    got = b""
    for start, stop in pairwise(edges):
        delta = base64.b64encode(audio[start:stop]).decode()
        message = {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": delta}
        for event in protocol.receive(json.dumps(message), now_ns=0):
            assert isinstance(event, AgentAudio)
            assert len(event.audio) % 2 == 0
            got += event.audio
    assert got == audio
