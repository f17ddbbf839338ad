"""The Companion API where the space is larger than the examples."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentInterrupted,
    BadMessage,
    CallerStartedSpeaking,
    ReplyAudioDone,
    ReplyDone,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.companion.protocol import Companion
from tests.sessions.companion.test_session import SECOND, Session


def message(role: str, action: str, **fields: Any) -> dict[str, Any]:
    content = {"type": "message", "role": role, "action": action, "response_id": "r1", "item_id": "i1"}
    return {"event": "message_received", "data": {"message": {**content, **fields}}}


VALID: list[dict[str, Any]] = [
    {"event": "avatar_state_changed", "data": {"state": "ready", "details": {"mode": "audio_only"}}},
    {"event": "talk_state_changed", "data": {"state": "preparing"}},
    {"event": "talk_state_changed", "data": {"state": "started"}},
    {"event": "talk_state_changed", "data": {"state": "ended"}},
    {"event": "talk_state_changed", "data": {"talk_state": "cancelled"}},
    {"event": "audio_received", "data": {"data": "AAAA"}},
    {"type": "audio_received", "data": {"audio": "AAA="}},
    {"event": "message_received", "data": {"message": {"type": "session"}}},
    message("user", "speech_started"),
    message("user", "completed", content="words"),
    message("assistant", "created"),
    message("assistant", "created", response_id="r2"),
    message("assistant", "delta", content="wo"),
    message("assistant", "completed", content="words"),
    message("assistant", "cancelled", reason="turn_detected"),
    message("assistant", "failed", error={"code": "c", "message": "m"}),
    {"event": "speech_started", "data": {}},
    {
        "event": "function_implicitly_called",
        "data": {"call_id": "c1", "name": "n", "arguments": {"a": 1}},
    },
    {"event": "function_call_timeout", "data": {"call_id": "c1"}},
    {"event": "ui_update", "data": {}},
    {"event": "avatar_connection_warning", "data": {"disconnect_after": 30}},
    {"event": "session_expired"},
    {"event": "no_credits_left"},
    {
        "event": "provider_connection_aborted",
        "data": {"error": {"code": "connection_failed", "message": "m"}},
    },
    {"event": "reaching_rate_limits"},
    {"event": "error", "data": {"error": {"code": "c", "message": "m"}}},
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
    made = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(paths(made)))
        made = replaced(made, path, draw(json_values))
        if not isinstance(made, dict):
            break
    return json.dumps(made)


ASKS: dict[str, Callable[[Companion], object]] = {
    "greet": lambda protocol: protocol.greet(Greeting("Hi.")),
    "text": lambda protocol: protocol.send_text("5", role=TextRole.CALLER, respond=True),
    "say": lambda protocol: protocol.say("x"),
    "reply": lambda protocol: protocol.request_reply(None),
    "interrupt": lambda protocol: protocol.interrupt(),
    "result": lambda protocol: protocol.tool_result("c1", "1", failed=False),
    "update": lambda protocol: protocol.update(NeutralSettings(temperature=0.1), {}),
    "audio": lambda protocol: protocol.audio(bytes(640)),
    "heard": lambda protocol: protocol.report_heard([Heard(protocol._talk.replies._next, 1, 1, 8000)]),  # type: ignore[arg-type]
}

steps = st.lists(
    st.one_of(
        nearly_valid(),
        st.sampled_from(VALID).map(json.dumps),
        st.text(max_size=20),
        st.binary(max_size=20),
        st.sampled_from(sorted(ASKS)).map(lambda name: ("ask", name)),
        st.floats(0, 12).map(lambda seconds: ("wait", seconds)),
    ),
    max_size=25,
)


def walk(agent: Session, moves: list[Any]) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    for move in moves:
        if isinstance(move, tuple):
            kind, what = move
            if kind == "ask":
                ASKS[what](agent.protocol)
            else:
                events += agent.waits(what)
        else:
            events += agent.protocol.receive(move, now_ns=agent.now_ns)
        due = agent.protocol.deadline_ns()
        assert due is None or due > agent.now_ns - 20 * SECOND
        for written in agent.protocol.data_to_send():
            json.loads(written)
    return events


def contract(events: list[AgentEvent]) -> None:
    """What the call may rely on, whatever the API sends."""
    done: set[int] = set()
    audible: set[int] = set()
    whole: set[int] = set()
    flushed_through = 0
    for event in events:
        match event:
            case AgentAudio():
                assert len(event.audio) % 2 == 0
                assert event.audio
                assert event.reply not in whole
                assert event.reply not in done
                assert event.reply > flushed_through
                audible.add(event.reply)
            case ReplyAudioDone():
                assert event.reply in audible
                assert event.reply not in whole
                assert event.reply > flushed_through
                whole.add(event.reply)
            case ReplyDone():
                assert event.reply not in done
                done.add(event.reply)
            case AgentInterrupted() | CallerStartedSpeaking(interrupts=True):
                flushed_through = max(audible, default=0)
            case BadMessage():
                assert len(event.what) < 300
            case _:
                pass
    numbers = sorted(done | audible)
    assert all(number >= 1 for number in numbers)
    assert [event.reply for event in events if isinstance(event, AgentAudio)] == sorted(
        event.reply for event in events if isinstance(event, AgentAudio)
    )


@given(ready=st.booleans(), barge_in=st.booleans(), moves=steps)
@settings(deadline=None, max_examples=1000)
def test_no_sequence_of_messages_breaks_the_session_or_its_contract(ready, barge_in, moves):
    agent = Session(ready=ready, barge_in=barge_in)
    if not ready:
        agent.connects()
    contract(walk(agent, moves))
    agent.protocol.closed(None, "")
    assert isinstance(agent.protocol.afterword(), HttpRequest | None)
    heir = agent.protocol.successor([])
    assert isinstance(heir, Companion)
    assert heir._talk.replies.next_id == agent.protocol._talk.replies.next_id


@given(st.lists(st.sampled_from(VALID[1:17]).map(json.dumps) | st.just(("wait", 0.4)), max_size=40))
@settings(deadline=None, max_examples=300)
def test_signs_of_talk_in_any_order_keep_the_contract(moves):
    agent = Session()
    events = walk(agent, moves)
    events += agent.waits(10)
    contract(events)
    audible = {event.reply for event in events if isinstance(event, AgentAudio)}
    done = {event.reply for event in events if isinstance(event, ReplyDone)}
    assert audible <= done


@given(audio=st.binary(max_size=400).map(lambda b: b * 2), cuts=st.lists(st.integers(0, 800), max_size=6))
@settings(deadline=None)
def test_audio_does_not_depend_on_how_it_was_cut_into_frames(audio, cuts):
    agent = Session()
    edges = [0, *sorted(min(cut, len(audio)) for cut in cuts), len(audio)]
    got = b""
    for start, stop in pairwise(edges):
        encoded = base64.b64encode(audio[start:stop]).decode()
        for event in agent.receives("audio_received", data=encoded):
            assert isinstance(event, AgentAudio)
            got += event.audio
    assert got == audio


@given(
    answers=st.lists(
        st.tuples(
            st.none() | st.integers(100, 599),
            st.dictionaries(st.sampled_from(["Retry-After", "date", "x"]), st.text(max_size=30)),
            st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
        ),
        max_size=8,
    )
)
@settings(deadline=None)
def test_no_answer_over_http_breaks_the_opening(answers):
    agent = Session(ready=False)
    for status, headers, body in answers:
        step = agent.protocol.next_step()
        if not isinstance(step, HttpRequest):
            break
        assert 0 <= step.after_s <= 11
        agent.protocol.http_answered(status, headers, body)
    step = agent.protocol.next_step()
    if isinstance(step, ConnectRequest):
        assert step.url.startswith(("ws://", "wss://"))
    agent.protocol.afterword()
