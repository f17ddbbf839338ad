"""Rules that hold for every agent API, told once."""

from __future__ import annotations

import pytest

from telbridge.call.events import (
    AgentAudio,
    AgentError,
    CallerStartedSpeaking,
    Ending,
    ReplyDone,
    ReplyStatus,
    SessionReady,
    Unknown,
)
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing, SecretRef
from telbridge.sessions.providers import PROVIDERS
from tests.sessions.every_api import ENVIRON, KEY_NAMES, Line, opened

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
