"""Rules that hold for every agent API, told once."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from telbridge.call.events import (
    AgentAudio,
    AgentError,
    CallerStartedSpeaking,
    Ending,
    ReplyDone,
    ReplyStatus,
    Said,
    SessionReady,
    SessionUpdated,
    Unknown,
)
from telbridge.call.ports import Greeting, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing, SecretRef
from telbridge.sessions.provider import Ability, Lock, Way, problems
from telbridge.sessions.providers import PROVIDERS
from tests.sessions.every_api import ENVIRON, KEY_NAMES, SECOND, Line, opened, settings_of

every_api = pytest.mark.parametrize("name", PROVIDERS)


@pytest.fixture
def line(name: str) -> Line:
    return Line(name)


@every_api
def test_the_words_of_this_file_make_a_session(name):
    line = Line(name, ready=False)
    line.connects()
    assert [type(event) for event in line.says(line.words.ready)] == [SessionReady]


# ---------------------------------------------------------------- replies


def done_of(line: Line) -> list[tuple[int, ReplyStatus]]:
    return [(event.reply, event.status) for event in line.events if isinstance(event, ReplyDone)]


@every_api
def test_a_reply_that_began_ends_once(name, line):
    line.begins(1)
    line.speaks(1)
    line.ends(1)
    line.waits(6)
    assert done_of(line) == [(1, ReplyStatus.COMPLETED)]


@every_api
def test_so_does_one_that_the_caller_cut(name, line):
    line.begins(1)
    line.speaks(1)
    line.hears_the_caller()
    line.cuts(1)
    line.waits(6)
    assert done_of(line) == [(1, ReplyStatus.CANCELLED)]


@every_api
def test_so_does_one_that_the_call_cut(name, line):
    line.begins(1)
    line.speaks(1)
    line.protocol.interrupt()
    line.cuts(1)
    line.waits(6)
    assert done_of(line) == [(1, ReplyStatus.CANCELLED)]


@every_api
def test_so_does_one_that_the_call_cut_and_the_caller_spoke_into(name, line):
    line.begins(1)
    line.speaks(1)
    line.protocol.interrupt()
    line.hears_the_caller()
    line.cuts(1)
    line.waits(6)
    assert done_of(line) == [(1, ReplyStatus.CANCELLED)]


@every_api
@pytest.mark.parametrize("cut_by_us", [False, True])
def test_so_does_one_after_which_another_begins_before_its_end_came(name, line, cut_by_us):
    line.begins(1)
    line.speaks(1)
    if cut_by_us:
        line.protocol.interrupt()
    else:
        line.hears_the_caller()
    line.begins(2)
    line.speaks(2)
    line.cuts(1) if name in ("openai_realtime", "azure_voice_live") else None
    line.ends(2)
    line.waits(6)
    assert sorted(done_of(line)) == [(1, ReplyStatus.CANCELLED), (2, ReplyStatus.COMPLETED)]


@every_api
@pytest.mark.parametrize("cut_by_us", [False, True])
def test_late_audio_of_a_cut_reply_is_dropped_and_the_next_reply_is_heard(name, line, cut_by_us):
    line.begins(1)
    assert [type(event) for event in line.speaks(1)] == [AgentAudio]
    if cut_by_us:
        line.protocol.interrupt()
    else:
        line.hears_the_caller()
    if cut_by_us or name != "assemblyai":  # Which tells only by the reply's end that it was interrupted.
        assert [event for event in line.speaks(1) if isinstance(event, AgentAudio)] == []
    line.cuts(1)
    if not cut_by_us:
        assert [event for event in line.speaks(1) if isinstance(event, AgentAudio)] == []
    line.begins(2)
    assert [event.reply for event in line.speaks(2) if isinstance(event, AgentAudio)] == [2]


# ---------------------------------------------------------------- interruptions


@every_api
def test_the_callers_voice_stops_the_agent_only_where_it_may(name):
    for barge_in in (True, False):
        line = Line(name, neutral=NeutralSettings(barge_in=barge_in))
        line.begins(1)
        line.speaks(1)
        (started,) = [one for one in line.hears_the_caller() if isinstance(one, CallerStartedSpeaking)]
        assert started.interrupts is barge_in


# ---------------------------------------------------------------- what comes unasked


@every_api
def test_an_event_that_nobody_knows_is_named_and_changes_nothing(name, line):
    (unknown,) = line.says(line.words.unknown)
    assert isinstance(unknown, Unknown)
    line.begins(1)
    assert any(isinstance(event, AgentAudio) for event in line.speaks(1))


@every_api
def test_an_error_is_told_and_the_session_goes_on(name, line):
    (error,) = line.says(line.words.error)
    assert isinstance(error, AgentError)
    assert not error.at_setup
    line.begins(1)
    assert any(isinstance(event, AgentAudio) for event in line.speaks(1))


@every_api
def test_an_event_that_nobody_knows_is_told_each_time_by_the_same_name_for_the_call_counts_it(name, line):
    told = [line.says(line.words.unknown) for _ in range(3)]
    assert told == [[Unknown(told[0][0].type)]] * 3
    assert told[0][0].type in json.dumps(line.words.unknown)
    assert line.sent() == []


@every_api
def test_one_that_comes_while_the_session_is_set_up_does_not_stop_it(name):
    line = Line(name, ready=False)
    line.connects()
    for message in line.words.ready:
        line.says(line.words.unknown)
        line.says([message])
    told = [type(event) for event in line.events]
    assert told == [Unknown] * len(line.words.ready) + [SessionReady]


# ---------------------------------------------------------------- the end

LOST, HUNG_UP = Ending.AGENT_LOST, Ending.AGENT_HUNG_UP
UNREACHABLE, REFUSED = Ending.AGENT_UNREACHABLE, Ending.AGENT_REFUSED


@every_api
@pytest.mark.parametrize(
    ("code", "ending", "again"),
    [
        (None, LOST, True),
        (1000, HUNG_UP, False),
        (1005, HUNG_UP, False),
        (1001, LOST, True),
        (1006, LOST, True),
        (1011, LOST, True),
        (1012, LOST, True),
        (1013, LOST, True),
        (1014, LOST, True),
        (1002, LOST, False),
        (1003, LOST, False),
        (1007, LOST, False),
        (1008, LOST, False),
        (1009, LOST, False),
        (1010, LOST, False),
        (3000, LOST, True),
        (3999, LOST, True),
        (4321, LOST, True),
        (4999, LOST, True),
    ],
)
def test_a_close_code_means_the_same_with_all(name, line, code, ending, again):
    end = line.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (ending, again)


@every_api
@pytest.mark.parametrize(
    ("code", "ending", "again"),
    [
        (None, UNREACHABLE, True),
        (1000, UNREACHABLE, False),
        (1005, UNREACHABLE, False),
        (1006, UNREACHABLE, True),
        (1011, UNREACHABLE, True),
        (1008, REFUSED, False),
        (4321, UNREACHABLE, True),
    ],
)
def test_so_before_the_session_was_ready(name, code, ending, again):
    line = Line(name, ready=False)
    line.connects()
    end = line.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (ending, again)


@every_api
@pytest.mark.parametrize(
    ("status", "ending", "again"),
    [
        (401, REFUSED, False),
        (403, REFUSED, False),
        (404, REFUSED, False),
        (429, UNREACHABLE, True),
        (500, UNREACHABLE, True),
        (503, UNREACHABLE, True),
        (418, UNREACHABLE, False),
    ],
)
def test_an_http_status_in_place_of_the_websocket_means_the_same_with_all(name, status, ending, again):
    line = Line(name, ready=False)
    line.connects()
    end = line.protocol.refused(status)
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert end.detail.startswith(f"HTTP {status}")


@every_api
@pytest.mark.parametrize("code", [None, 1000, 1005, 1008, 1011])
def test_a_configuration_that_is_refused_is_the_end_whatever_close_code_follows(name, code):
    line = Line(name, ready=False)
    line.connects()
    (error,) = line.says(line.words.refused)
    assert isinstance(error, AgentError)
    assert error.at_setup
    assert line.protocol.audio(bytes(160)) is None
    end = line.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (REFUSED, False)


FATAL = {
    "openai_realtime": (REFUSED, False),
    "azure_voice_live": (LOST, True),  # The end that its pages name: a session that is too old.
    "deepgram": (LOST, False),
    "assemblyai": (REFUSED, False),
    "companion": (REFUSED, False),
}


@every_api
@pytest.mark.parametrize("code", [None, 1000, 1005, 1008, 1011])
def test_a_fatal_error_decides_the_end_whatever_close_code_follows(name, line, code):
    (error,) = line.says(line.words.fatal)
    assert isinstance(error, AgentError)
    end = line.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == FATAL[name]


# ---------------------------------------------------------------- what is locked

NEUTRAL_VALUES: dict[Ability, dict[str, Any]] = {
    Ability.VOICE: {"voice": "x"},
    Ability.LANGUAGE: {"language": "de"},
    Ability.NOISE_REDUCTION: {"noise_reduction": "near_field"},
    Ability.TOOLS: {"tools": []},
    Ability.TURN_MODE: {"turn_detection": {"mode": "semantic"}},
    Ability.USER_ID: {"user_id": "u"},
    Ability.USER_PROFILE: {"user_profile": {"a": "b"}},
    Ability.MEMORY_ID: {"memory_id": "m"},
    Ability.TAGS: {"tags": {"a": "b"}},
    Ability.MODALITIES: {"modalities": ["audio", "text"]},
}
LOCKED_NEUTRAL = [
    (name, ability)
    for name, provider in PROVIDERS.items()
    for ability, support in provider.abilities.items()
    if support.lock is not None and not ability.startswith("greeting")
]


def locked_fields(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """Paths of all that can't change in a running session, at any depth; a locked table counts as one."""
    found: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if {Lock.CONNECT, Lock.START} & {mark for mark in field.metadata if isinstance(mark, Lock)}:
            found.append((name,))
        else:
            found += [(name, *rest) for table in tables(field.annotation) for rest in locked_fields(table)]
    return found


def tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in tables(inner)]


LOCKED_VENDOR = [
    (name, path)
    for name, provider in PROVIDERS.items()
    for path in dict.fromkeys(locked_fields(provider.settings))
]


def refusal_of(line: Line, neutral: dict[str, Any], vendor: dict[str, Any]) -> UpdateImpossible:
    """Nothing of the update goes out, not even what could change, and the session goes on as it was."""
    with pytest.raises(UpdateImpossible) as refusal:
        line.protocol.update(NeutralSettings.model_validate({"instructions": "Refused.", **neutral}), vendor)
    assert line.sent() == []
    line.begins(9)
    assert any(isinstance(event, AgentAudio) for event in line.speaks(9))
    assert "Refused." not in all_said_by_the_next(line)
    return refusal.value


def all_said_by_the_next(line: Line) -> str:
    """In the HTTP request, if there is one, and until the session is ready and at once then."""
    line.protocol.closed(None, "")
    following = line.protocol.successor([])
    assert following is not None
    return Line(line.name, ready=False, protocol=following).set_up()


def test_each_api_has_a_neutral_and_a_vendors_field_that_is_locked():
    assert {name for name, _ in LOCKED_NEUTRAL} == {name for name, _ in LOCKED_VENDOR} == set(PROVIDERS)


@pytest.mark.parametrize(("name", "ability"), LOCKED_NEUTRAL)
def test_a_neutral_field_that_is_locked_is_refused_by_its_name_once_the_agent_has_spoken(line, ability):
    line.begins(1)
    line.speaks(1)
    line.ends(1)
    line.sent()
    assert refusal_of(line, NEUTRAL_VALUES[ability], {}).key == ability


@pytest.mark.parametrize(("name", "path"), LOCKED_VENDOR, ids=lambda value: str(value).replace(" ", ""))
def test_so_is_each_field_of_the_vendors_that_is_locked(line, path):
    vendor: Any = "x"
    for part in reversed(path):
        vendor = {part: vendor}
    assert refusal_of(line, {}, vendor).key == ".".join(path)


# ---------------------------------------------------------------- the next session

BEGUN_ANEW: dict[str, dict[str, Any]] = {"assemblyai": {"resume": False}}
"""A session that AssemblyAI resumes has kept its configuration, so that none is sent."""


@every_api
@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("generations", [1, 2])
def test_what_an_update_changed_is_what_the_next_session_begins_with(name, answered, generations):
    line = Line(name, neutral=NeutralSettings(instructions="Be long."), **BEGUN_ANEW.get(name, {}))
    line.protocol.update(NeutralSettings(instructions="Be brief."), {})
    assert "Be brief." in json.dumps(line.sent())
    if answered:
        line.says(line.words.updated)
        line.waits(0.1)
        assert [type(event) for event in line.events[1:]] == [SessionUpdated]
    line.protocol.closed(None, "")
    protocol = line.protocol
    for _ in range(generations):
        following = protocol.successor([Said(by_caller=True, text="Hm.")])
        assert following is not None
        protocol = following
    said = Line(name, ready=False, protocol=protocol).set_up()
    assert said.rfind("Be brief.") > said.rfind("Be long.")  # Without an answer it may be asked for again.
    if answered:
        assert "Be long." not in said


# ---------------------------------------------------------------- keys

LOOPBACK = {"url": "ws://127.0.0.1:9/v1"}


def carries(protocol, key: str) -> bool:
    step = protocol.next_step()
    assert isinstance(step, ConnectRequest | HttpRequest)
    return key in f"{step.url} {step.headers}"


@every_api
def test_a_vendor_gets_the_key_of_the_environment_and_without_it_there_is_no_session(name):
    assert carries(opened(name), "key-1")
    with pytest.raises(SecretMissing) as missing:
        opened(name, environ={})
    assert missing.value.key == f"{name}.api_key"
    assert KEY_NAMES[name] in str(missing.value)


@every_api
@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_no_header_can_carry_is_refused_in_the_same_words(name, key):
    with pytest.raises(SecretMissing, match="is empty, or holds a space, a line break") as missing:
        opened(name, environ={KEY_NAMES[name]: key})
    assert key not in str(missing.value)


@every_api
def test_an_agent_on_this_machine_gets_no_key_of_the_vendors(name):
    section = {"resource": None} if name == "azure_voice_live" else {}
    assert not carries(opened(name, environ=ENVIRON, **LOOPBACK, **section), "key-1")
    assert not carries(opened(name, environ={}, **LOOPBACK, **section), "key-1")


@every_api
def test_it_gets_the_key_that_is_named_for_it_if_it_is_there(name):
    section = {"resource": None} if name == "azure_voice_live" else {}
    named = {"api_key": SecretRef(env="MINE"), **LOOPBACK, **section}
    assert carries(opened(name, environ={"MINE": "key-2"}, **named), "key-2")
    assert not carries(opened(name, environ={}, **named), "key-2")


# ---------------------------------------------------------------- what an API cannot do


def test_the_same_refusal_has_the_same_words():
    words: dict[Ability, set[str]] = {}
    for provider in PROVIDERS.values():
        for ability, support in provider.abilities.items():
            if support.way is Way.IMPOSSIBLE:
                words.setdefault(ability, set()).add(support.how)
    several = {ability for ability, how in words.items() if len(how) > 1}
    assert several == {Ability.IDLE_TIMEOUT}  # Companion has one, of 3 minutes.


VALUES = [{"turn_detection": {"mode": mode}} for mode in ("vad", "semantic", "off")] + [
    {"turn_detection": {"mode": "off"}, "barge_in": True},
    {"turn_detection": {"mode": "semantic", "threshold": 0.5}},
    {"turn_detection": {"mode": "vad", "eagerness": "low"}},
    {"turn_detection": {"mode": "vad", "silence_ms": 500}},
    {"noise_reduction": "off"},
    {"modalities": ["text"]},
    {"modalities": ["audio", "text"]},
]
REFUSED_VALUES = {
    "openai_realtime": {
        'barge_in of {"turn_detection":{"mode":"off"},"barge_in":true}',
        'turn_detection.threshold of {"turn_detection":{"mode":"semantic","threshold":0.5}}',
        'turn_detection.eagerness of {"turn_detection":{"mode":"vad","eagerness":"low"}}',
    },
    "azure_voice_live": {'barge_in of {"turn_detection":{"mode":"off"},"barge_in":true}'},
    "deepgram": {
        'turn_detection.threshold of {"turn_detection":{"mode":"semantic","threshold":0.5}}',
        'turn_detection.eagerness of {"turn_detection":{"mode":"vad","eagerness":"low"}}',
        'turn_detection.silence_ms of {"turn_detection":{"mode":"vad","silence_ms":500}}',
        'noise_reduction of {"noise_reduction":"off"}',
        'modalities of {"modalities":["text"]}',
    },
    "assemblyai": {
        'turn_detection.mode of {"turn_detection":{"mode":"off"}}',
        'turn_detection.mode of {"turn_detection":{"mode":"off"},"barge_in":true}',
        'noise_reduction of {"noise_reduction":"off"}',
        'modalities of {"modalities":["text"]}',
    },
    "companion": {
        'turn_detection.mode of {"turn_detection":{"mode":"off"}}',
        'turn_detection.mode of {"turn_detection":{"mode":"off"},"barge_in":true}',
        'turn_detection.mode of {"turn_detection":{"mode":"semantic"}}',
        'turn_detection.mode of {"turn_detection":{"mode":"semantic","threshold":0.5}}',
        'turn_detection.eagerness of {"turn_detection":{"mode":"vad","eagerness":"low"}}',
    },
}


@every_api
def test_values_that_an_api_has_no_place_for_are_refused_at_check_time(name):
    refused = {
        f"{key} of {json.dumps(value, separators=(',', ':'))}"
        for value in VALUES
        for key, why in problems(PROVIDERS[name], NeutralSettings.model_validate(value))
        if why.startswith(f"{PROVIDERS[name].title} cannot do this: ")
    }
    assert refused == REFUSED_VALUES[name]


@every_api
def test_what_check_refuses_an_update_refuses_too(name):
    for value in VALUES:
        neutral = NeutralSettings.model_validate(value)
        if not problems(PROVIDERS[name], neutral):
            continue
        line = Line(name)
        with pytest.raises(UpdateImpossible):
            line.protocol.update(neutral, {})
        assert line.sent() == []


@pytest.mark.parametrize(
    ("name", "section", "neutral", "key"),
    [
        ("deepgram", {"agent": "b7f8a2c4-1111-4222-8333-444455556666"}, {"voice": "x"}, "voice"),
        ("companion", {"companionId": None, "providerConfig": {}, "agent_id": "a"}, {"voice": "x"}, "voice"),
        ("azure_voice_live", {}, {"memory_id": "m"}, "memory_id"),
        ("azure_voice_live", {"model": "gpt-4o"}, {"reasoning_effort": "low"}, "reasoning_effort"),
        (
            "openai_realtime",
            {"turn_detection": {"type": "semantic_vad"}},
            {"turn_detection": {"threshold": 0.5}},
            "turn_detection.threshold",
        ),
    ],
)
def test_with_the_section_known_what_it_rules_out_is_refused_as_well(name, section, neutral, key):
    asked = NeutralSettings.model_validate(neutral)
    assert problems(PROVIDERS[name], asked) == []
    found = problems(PROVIDERS[name], asked, settings_of(name, **section))
    assert [one for one, _ in found] == [key]


# ---------------------------------------------------------------- greetings

OWN_GREETING = {
    "deepgram": {"agent": {"greeting": "Their words."}},
    "assemblyai": {"greeting": "Their words."},
    "companion": {"initialSpeech": "Their words."},
}


def opening_of(name: str, asked: Greeting, /, **section: Any) -> str:
    """All that goes out until the session is ready, and at once then."""
    line = Line(name, ready=False, **section)
    line.protocol.greet(asked)
    return line.set_up()


@pytest.mark.parametrize("verbatim", [True, False])
@pytest.mark.parametrize("name", OWN_GREETING)
def test_the_calls_greeting_replaces_the_one_of_the_section_unless_nobody_asked_for_it(name, verbatim):
    asked = opening_of(name, Greeting("Our words.", verbatim), **OWN_GREETING[name])
    assert "Our words." in asked
    assert "Their words." not in asked
    unasked = opening_of(name, Greeting("Our words.", verbatim, is_default=True), **OWN_GREETING[name])
    assert "Our words." not in unasked
    assert "Their words." in unasked


@every_api
def test_without_one_in_the_section_the_default_greeting_is_said(name):
    assert "Our words." in opening_of(name, Greeting("Our words.", is_default=True))


def test_a_stored_agent_does_not_greet_again_after_a_lost_connection():
    stored = "b7f8a2c4-1111-4222-8333-444455556666"
    line = Line("deepgram", agent=stored)
    assert any(isinstance(event, AgentAudio) for event in line.speaks(1))
    line.ends(1)
    again = Line("deepgram", protocol=line.protocol.successor([Said(by_caller=True, text="Hm.")]))
    greeting = {"type": "ConversationText", "role": "assistant", "content": "Hello, I am stored."}
    assert again.speaks(2) + again.says([greeting]) + again.ends(2) == []
    assert [type(event) for event in again.speaks(3)] == [AgentAudio]


def test_one_that_has_no_greeting_is_heard_when_it_is_asked_to_go_on():
    stored = "b7f8a2c4-1111-4222-8333-444455556666"
    line = Line("deepgram", agent=stored)
    for go_on in ("AgentThinking", "say"):
        again = Line("deepgram", protocol=line.protocol.successor([]))
        if go_on == "say":
            again.protocol.say("Where were we?")
            assert again.sent()[-1]["behavior"] == "interrupt"
            again.now_ns += SECOND
        else:
            again.says([{"type": go_on, "content": ""}])
        assert [type(event) for event in again.speaks(2)] == [AgentAudio]
