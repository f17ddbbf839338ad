"""OpenAI Realtime where the space is larger than the examples."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel

from telbridge.audio.formats import PCM_24K, PCMU_8K
from telbridge.call.events import AgentAudio, AgentEvent, ReplyId, Said, Unknown
from telbridge.call.playout import Heard
from telbridge.call.ports import TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import AgentProtocol, Opening
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.replies import AudioItem, positions
from telbridge.sessions.openai.settings import OpenAISettings
from telbridge.sessions.openai.vocabulary import BETA_NAMES, QUIET

OPENING = Opening("call-1", PCMU_8K, {"OPENAI_API_KEY": "sk-secret"})

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
    "response.output_text.done",
    "response.output_item.done",
    "response.done",
    "response.mcp_call.failed",
    "mcp_list_tools.failed",
)


def sample(annotation: Any) -> Any:
    """A value of the vendor's own type: every field is there, of each union the first choice."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return inner[0]
    if origin is Annotated:
        return sample(inner[0])
    if origin in (Union, UnionType):
        return sample(inner[0])
    if origin is list:
        return [sample(inner[0])]
    if origin is dict:
        return {"k": sample(inner[1])}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: sample(field.annotation) for name, field in annotation.model_fields.items()}
    return {str: "r1", int: 1, float: 0.5, bool: True}.get(annotation)


CALL = {"type": "function_call", "status": "completed", "call_id": "c1", "name": "n", "arguments": "{}"}
APPROVAL = {"type": "mcp_approval_request", "id": "a1", "name": "n", "arguments": "{}"}
VENDORS: list[dict[str, Any]] = [sample(model) for model in get_args(get_args(RealtimeServerEvent)[0])]
"""One of each of the vendor's 46 server events."""
PCMU = {"format": {"type": "audio/pcmu"}}
VALID: list[dict[str, Any]] = [
    {"type": "session.created", "session": {"expires_at": 1, "audio": {"input": PCMU, "output": PCMU}}},
    {"type": "session.updated", "session": {"audio": {"input": PCMU, "output": PCMU}}},
    {"type": "response.created", "response": {"id": "r1"}},
    {
        "type": "response.output_audio.delta",
        "response_id": "r1",
        "item_id": "i1",
        "content_index": 0,
        "delta": "AAAA",
    },
    {"type": "response.output_audio_transcript.done", "response_id": "r1", "transcript": "words"},
    {"type": "error", "error": {"type": "t", "code": "c", "message": "m", "event_id": "tb_2", "param": "p"}},
    {"type": "error", "error": {"type": "t", "code": "session_expired", "message": "m"}},
    {"type": "response.output_item.done", "response_id": "r1", "item": CALL},
    {"type": "response.output_item.done", "response_id": "r1", "item": APPROVAL},
    {
        "type": "response.done",
        "response": {"id": "r1", "status": "failed", "status_details": {"error": {"code": "c"}}},
    },
    {"type": "response.done", "response": {"id": "r1", "status": "cancelled"}},
    *VENDORS,
]
SET_UP = VALID[:5]

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


ODD = (None, True, -1, 0, 7, 2**70, 0.5, "", "x", "r2", "AAA", "*", [], [None], {}, {"id": "r1"}, {"id": 3})


def nearly_valid(script: bytes) -> list[str | bytes]:
    """Messages of the vendor's, as they should be or with up to two of their values replaced. Five octets
    of the script make one: which message, and twice which place and what stands there."""
    messages: list[str | bytes] = []
    for which, *changes in batched(script, 5):
        message = VALID[which % len(VALID)]
        for where, odd in batched(changes, 2):
            places = paths(message)
            if odd % 32 < len(ODD):
                message = replaced(message, places[where % len(places)], ODD[odd % 32])
        messages.append(json.dumps(message))
    return messages


def batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Whole batches only."""
    return (values[at : at + size] for at in range(0, len(values) - size + 1, size))


def fresh() -> OpenAIRealtime:
    return OpenAIRealtime(OpenAISettings(), OPENING)


def receive_all(protocol: AgentProtocol, messages: list[str | bytes]) -> list[AgentEvent]:
    events = [event for message in messages for event in protocol.receive(message, now_ns=0)]
    for message in protocol.data_to_send():
        json.loads(message)
    return events


@given(st.lists(st.text() | st.binary(), max_size=5))
@settings(deadline=None)
def test_arbitrary_bytes_and_text_never_raise(messages):
    receive_all(fresh(), messages)


def asked_of(protocol: OpenAIRealtime) -> None:
    """Everything a call may ask."""
    protocol.say("words")
    protocol.send_text("words", role=TextRole.CONTEXT, respond=True)
    protocol.request_reply("words")
    protocol.interrupt()
    protocol.tool_result("c1", "{}", failed=False)
    protocol.report_heard([Heard(ReplyId(1), 100, 100, 8000)])
    protocol.update(NeutralSettings(instructions="words", barge_in=False), {})
    protocol.audio(b"\xff")


@given(
    begun=st.integers(0, len(SET_UP)),
    before=st.binary(max_size=40),
    after=st.binary(max_size=40),
)
@settings(deadline=None, max_examples=1000)
def test_a_thousand_sequences_of_mutated_messages_never_raise(begun, before, after):
    protocol = fresh()
    receive_all(protocol, [json.dumps(message) for message in SET_UP[:begun]])
    receive_all(protocol, nearly_valid(before))
    asked_of(protocol)
    receive_all(protocol, nearly_valid(after))
    protocol.time_passed(now_ns=1 << 62)
    protocol.closed(None, "")
    if (following := protocol.successor([Said(True, "words")])) is not None:
        receive_all(following, [json.dumps(message) for message in SET_UP])


def test_the_vendor_knows_46_server_events_and_all_are_known_here_but_those_of_another_transport():
    unknown = {
        event.type
        for message in VENDORS
        for event in fresh().receive(json.dumps(message), now_ns=0)
        if isinstance(event, Unknown)
    }
    assert len(VENDORS) == 46
    assert unknown == {
        "input_audio_buffer.dtmf_event_received",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
    }


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
    protocol = OpenAIRealtime(OpenAISettings(audio="pcm24k"), OPENING)
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
