"""AssemblyAI where the space is larger than the examples."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_24K, PCMU_8K
from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentInterrupted,
    CallerStartedSpeaking,
    ReplyAudioDone,
    ReplyDone,
    Said,
    UpdateRefused,
)
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.assemblyai.protocol import AssemblyAIVoiceAgent
from telbridge.sessions.assemblyai.settings import AssemblyAISettings
from telbridge.sessions.base import Opening
from tests.sessions.assemblyai.test_judge import judge

SOUND = base64.b64encode(bytes(300)).decode()
CONFIG = {
    "system_prompt": "Stored.",
    "greeting": "Hello.",
    "input": {
        "format": {"encoding": "audio/pcmu", "sample_rate": 8000},
        "turn_detection": {"interrupt_response": True},
    },
    "output": {"format": {"encoding": "audio/pcmu", "sample_rate": 8000}},
    "tools": [{"name": "look_up", "execution_mode": "hold", "http": None}],
}
VALID: tuple[dict[str, Any], ...] = (
    {
        "type": "session.ready",
        "session_id": "sess_1",
        "config": CONFIG,
        "expires_at": 1790003595.0,
        "resume_token": "t",
        "timestamp": 1790000000.5,
    },
    {"type": "session.updated", "config": CONFIG, "timestamp": 1790000000.5},
    {"type": "session.ended", "session_duration_seconds": 9.5, "audio_duration_seconds": None},
    {"type": "session.error", "code": "immutable_field", "message": "m", "param": "session.greeting"},
    {"type": "session.error", "code": "INTERNAL_ERROR", "message": "m", "session_id": None},
    {"type": "session.error", "code": "invalid_format", "message": "Unknown message type: x"},
    {"code": "invalid_audio", "message": "m"},
    {"type": "input.speech.started", "timestamp": 1.5},
    {"type": "input.speech.stopped", "timestamp": 1.5},
    {"type": "transcript.user.delta", "item_id": "i", "text": "My or"},
    {"type": "transcript.user", "item_id": "i", "text": "My order."},
    {"type": "reply.started", "reply_id": "r1", "item_id": "i"},
    {"type": "reply.started", "reply_id": "r2", "item_id": "i"},
    {"type": "reply.audio", "reply_id": "r1", "data": SOUND},
    {"type": "reply.audio", "reply_id": "r2", "data": SOUND},
    {"type": "reply.audio", "data": SOUND},
    {"type": "transcript.agent.delta", "reply_id": "r1", "delta": "One", "start_ms": 0, "end_ms": 90},
    {"type": "transcript.agent", "reply_id": "r1", "text": "One moment.", "interrupted": False},
    {"type": "reply.done", "reply_id": "r1", "status": "completed"},
    {"type": "reply.done", "reply_id": "r1", "status": "interrupted"},
    {"type": "reply.done", "reply_id": "r2"},
    {"type": "reply.interrupted", "reply_id": "r2"},
    {"type": "tool.call", "call_id": "c1", "name": "look_up", "arguments": {"order": 7}},
    {"type": "tool.call", "call_id": "c2", "name": "other", "args": {}},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


def paths(value: Any) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [(key, *rest) for rest in paths(inner)]
    return found


def replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    return {**value, path[0]: replaced(value[path[0]], path[1:], new)}


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    message: Any = draw(st.sampled_from(VALID))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        message = replaced(message, draw(st.sampled_from(paths(message))), draw(json_values))
        if not isinstance(message, dict):
            break
    return json.dumps(message)


server_says = nearly_valid() | json_values.map(json.dumps) | st.text(max_size=8) | st.binary(max_size=8)


class House:
    """What a call may do at any moment, and what it keeps an eye on."""

    def __init__(self, protocol: AssemblyAIVoiceAgent) -> None:
        self.protocol = protocol
        self.first = True
        self.now_ns = 0
        self.whole: set[int] = set()
        self.cut_through = self.highest = 0

    def take(self, events: list[AgentEvent]) -> None:
        """A reply's audio ends once, comes in order and never after it was cut."""
        for event in events:
            match event:
                case AgentAudio():
                    assert event.reply not in self.whole
                    assert event.reply > self.cut_through
                    assert event.reply >= self.highest
                    self.highest = event.reply
                case ReplyAudioDone():
                    assert event.reply not in self.whole
                    self.whole.add(event.reply)
                case CallerStartedSpeaking(interrupts=True) | AgentInterrupted():
                    self.cut_through = self.highest
                case _:
                    pass

    def look(self) -> None:
        for message in self.protocol.data_to_send():
            judge(json.loads(message), first=self.first)
            self.first = False

    def do(self, what: str) -> None:
        match what:
            case "reply":
                self.protocol.request_reply(None)
            case "say":
                self.protocol.say("Good bye.")
            case "text":
                self.protocol.send_text("42#", role=TextRole.CALLER, respond=True)
            case "context":
                self.protocol.send_text("Noon.", role=TextRole.CONTEXT, respond=False)
            case "update":
                self.protocol.update(NeutralSettings(instructions="Be kind."), {})
            case "interrupt":
                self.protocol.interrupt()
                self.cut_through = self.highest
            case "result":
                self.protocol.tool_result("c1", "done", failed=False)
            case "wait":
                self.now_ns += 160_000_000
                self.take(self.protocol.time_passed(now_ns=self.now_ns))
            case "break":
                self.protocol.closed(None, "")
                following = self.protocol.successor([Said(True, "Hi.")])
                if following is not None:
                    self.protocol, self.first = following, True
                    self.whole.clear()
                    self.protocol.connected(now_ns=self.now_ns)


doings = st.sampled_from(
    ["reply", "say", "text", "context", "update", "interrupt", "result", "wait", "break"]
).map(lambda what: ("do", what))
steps = st.lists(server_says.map(lambda message: ("hear", message)) | doings, max_size=10)
AGENTS = (
    {},
    {"greeting": "Hello."},
    {"agent_id": "agent_1", "output": {"format": {"encoding": "audio/pcmu"}}},
)


def opened(wire: Any = PCMU_8K, **values: Any) -> AssemblyAIVoiceAgent:
    chosen = AssemblyAISettings.model_validate(values)
    return AssemblyAIVoiceAgent(chosen, Opening("c1", wire, {"ASSEMBLYAI_API_KEY": "k"}))


@given(agent=st.sampled_from(AGENTS), begun=st.integers(0, 3), script=steps)
@settings(deadline=None, max_examples=1000)
def test_no_sequence_of_messages_breaks_the_protocol_or_its_promises(agent, begun, script):
    house = House(opened(**agent))
    house.protocol.greet(Greeting("Good day."))
    house.protocol.connected(now_ns=0)
    house.look()
    for message in (VALID[0], VALID[11], VALID[13])[:begun]:
        house.take(house.protocol.receive(json.dumps(message), now_ns=0))
    for kind, what in script:
        if kind == "hear":
            house.now_ns += 10_000_000
            house.take(house.protocol.receive(what, now_ns=house.now_ns))
        else:
            house.do(what)
        due_ns = house.protocol.deadline_ns()
        assert due_ns is None or isinstance(due_ns, int)
        house.protocol.audio(bytes(160))
        house.look()


KINDS = sorted({message["type"] for message in VALID if "type" in message})


@given(st.sampled_from(KINDS), st.dictionaries(st.text(max_size=8), json_values))
@settings(deadline=None)
def test_known_types_with_arbitrary_fields_never_raise(kind, fields):
    protocol = opened()
    protocol.connected(now_ns=0)
    protocol.receive(json.dumps({**fields, "type": kind}), now_ns=0)


@given(audio=st.binary(max_size=400).map(lambda b: b * 2), cuts=st.lists(st.integers(0, 800), max_size=6))
@settings(deadline=None)
def test_audio_does_not_depend_on_how_it_was_cut_into_messages(audio, cuts):
    protocol = opened(PCM_24K)
    protocol.receive(json.dumps({"type": "reply.started", "reply_id": "r"}), now_ns=0)
    edges = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    got = b""
    for start, stop in pairwise(edges):
        data = base64.b64encode(audio[start:stop]).decode()
        for event in protocol.receive(json.dumps({"type": "reply.audio", "data": data}), now_ns=0):
            assert isinstance(event, AgentAudio)
            assert len(event.audio) % 2 == 0
            got += event.audio
    assert got == audio


@given(
    st.lists(st.tuples(st.sampled_from(["Be kind.", "Be brief.", "Be quick."]), st.booleans()), max_size=6)
)
@settings(deadline=None, max_examples=50)
def test_the_settings_are_what_the_server_took_however_it_answered(answers):
    protocol = opened(system_prompt="Be there.", resume=False)
    protocol.connected(now_ns=0)
    protocol.receive(json.dumps(VALID[0]), now_ns=0)
    for prompt, _ in answers:
        protocol.update(NeutralSettings(instructions=prompt), {})
    events: list[AgentEvent] = []
    for _, taken in answers:
        answer = VALID[1] if taken else VALID[3]
        events += protocol.receive(json.dumps(answer), now_ns=0)
    refused = [event for event in events if isinstance(event, UpdateRefused)]
    assert len(refused) == sum(not taken for _, taken in answers)
    protocol.closed(None, "")
    following = protocol.successor([])
    assert following is not None
    following.connected(now_ns=0)
    session = json.loads(following.data_to_send()[0])["session"]
    assert session["system_prompt"] == ([prompt for prompt, taken in answers if taken] or ["Be there."])[-1]


@given(st.lists(st.sampled_from(["start", "speak", "heard", "interrupted", "done"]), max_size=12))
@settings(deadline=None, max_examples=200)
def test_each_reply_that_was_heard_gets_one_end(script):
    """Of a well-behaved server: one reply after the other."""
    protocol = opened()
    protocol.connected(now_ns=0)
    protocol.receive(json.dumps(VALID[0]), now_ns=0)
    number, runs, events = 0, False, []
    for step in script:
        message: dict[str, Any] | None = None
        if step == "start" and not runs:
            number, runs = number + 1, True
            message = {"type": "reply.started", "reply_id": f"r{number}"}
        elif step == "speak" and runs:
            message = {"type": "reply.audio", "reply_id": f"r{number}", "data": SOUND}
        elif step == "heard":
            message = {"type": "input.speech.started"}
        elif step in ("interrupted", "done") and runs:
            runs = False
            status = {"status": step} if step == "interrupted" else {}
            message = {"type": "reply.done", "reply_id": f"r{number}", **status}
        if message is not None:
            events += protocol.receive(json.dumps(message), now_ns=0)
    ended = [event.reply for event in events if isinstance(event, ReplyDone)]
    assert len(ended) == len(set(ended))
    heard = {event.reply for event in events if isinstance(event, AgentAudio)}
    open_ones = heard - set(ended)
    assert len(open_ones) <= int(runs)
