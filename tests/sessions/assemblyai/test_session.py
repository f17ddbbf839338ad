"""AssemblyAI Voice Agent as told by its pages: one rule a test. Every message sent is judged as well."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from telbridge.audio.formats import PCM_24K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    AgentInterrupted,
    AgentTranscript,
    AgentWarning,
    BadMessage,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    Said,
    SessionEnd,
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    ToolCall,
    ToolCallCancelled,
    Unknown,
    UpdateRefused,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.assemblyai.protocol import PROVIDER, AssemblyAIVoiceAgent
from telbridge.sessions.assemblyai.settings import AssemblyAISettings
from telbridge.sessions.base import AgentProtocol, ConnectRequest, HttpRequest, Opening
from telbridge.sessions.credentials import SecretMissing
from tests.sessions.assemblyai.test_judge import judge

NOW_NS = 7_000_000_000
MS = 1_000_000
SECOND = 1_000 * MS
MS20 = bytes(range(160))
R1, R2 = ReplyId(1), ReplyId(2)
ENVIRON = {"ASSEMBLYAI_API_KEY": "aai-secret"}
NEUTRAL = NeutralSettings()


class Session:
    """The protocol under test with the server's vocabulary as methods."""

    def __init__(
        self,
        protocol: AssemblyAIVoiceAgent | None = None,
        *,
        wire: AudioFormat = PCMU_8K,
        ready: bool = True,
        config: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        chosen = AssemblyAISettings.model_validate(settings)
        self.protocol = protocol or AssemblyAIVoiceAgent(chosen, Opening("c1", wire, ENVIRON))
        self.now_ns = NOW_NS
        self.first = True
        if ready:
            self.connects()
            self.is_ready(config=config or {})
            self.sent()

    def connects(self) -> list[dict[str, Any]]:
        self.protocol.connected(now_ns=self.now_ns)
        return self.sent()

    def receives(self, type: str, /, **fields: Any) -> list[AgentEvent]:
        """A server event; returns what the call is told."""
        message = json.dumps({"type": type, "timestamp": 1790.0, **fields})
        return self.protocol.receive(message, now_ns=self.now_ns)

    def is_ready(self, session_id: str = "sess_1", **fields: Any) -> list[AgentEvent]:
        return self.receives("session.ready", **{"session_id": session_id, "config": {}, **fields})

    def sent(self) -> list[dict[str, Any]]:
        """What we said since the last look."""
        messages = [json.loads(message) for message in self.protocol.data_to_send()]
        for message in messages:
            judge(message, first=self.first)
            self.first = False
        return messages

    def begins(self, reply: str) -> list[AgentEvent]:
        return self.receives("reply.started", reply_id=reply, item_id="item_1")

    def speaks(self, reply: str | None, audio: bytes = MS20) -> list[AgentEvent]:
        named = {} if reply is None else {"reply_id": reply}
        return self.receives("reply.audio", data=base64.b64encode(audio).decode(), **named)

    def ends(self, reply: str, status: str | None = "completed") -> list[AgentEvent]:
        told = {} if status is None else {"status": status}
        return self.receives("reply.done", reply_id=reply, **told)

    def calls(self, call_id: str, name: str = "look_up", **fields: Any) -> list[AgentEvent]:
        return self.receives("tool.call", **{"call_id": call_id, "name": name, "arguments": {}, **fields})

    def fails(self, code: str, message: str = "words of the API", **fields: Any) -> list[AgentEvent]:
        return self.receives("session.error", code=code, message=message, **fields)

    def waits(self, ms: int) -> list[AgentEvent]:
        """The shell's part: `time_passed` whenever the protocol asks for it, until so much time is over."""
        end_ns, events = self.now_ns + ms * MS, []
        for _ in range(20):
            due_ns = self.protocol.deadline_ns()
            if due_ns is None or due_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            events += self.protocol.time_passed(now_ns=self.now_ns)
        else:
            raise AssertionError("the deadline does not move on")
        self.now_ns = end_ns
        return events

    def breaks(self) -> SessionEnd:
        return self.protocol.closed(1006, "")

    def next(self, *said: Said) -> Session:
        """The connection after this one, not connected yet."""
        following = self.protocol.successor(said)
        assert following is not None
        session = Session(following, ready=False)
        session.now_ns = self.now_ns
        return session


def audio_of(events: list[AgentEvent]) -> list[tuple[int, bytes]]:
    return [(event.reply, event.audio) for event in events if isinstance(event, AgentAudio)]


# ---------------------------------------------------------------- connecting


def test_it_is_an_agent_protocol():
    protocol: AgentProtocol = Session(ready=False).protocol
    assert protocol.uplink_is_text


def test_connects_with_the_key_in_the_header():
    request = Session(ready=False).protocol.next_step()
    assert isinstance(request, ConnectRequest)
    assert request.url == "wss://agents.assemblyai.com/v1/ws"
    assert request.headers == {"Authorization": "Bearer aai-secret"}


def test_or_with_a_token_that_is_fetched_with_the_key():
    token = {"expires_in_seconds": 30, "max_session_duration_seconds": 600, "product": "voice_agent"}
    protocol = Session(ready=False, auth="token", token=token).protocol
    request = protocol.next_step()
    assert isinstance(request, HttpRequest)
    assert (request.method, request.json) == ("GET", None)
    assert request.headers == {"Authorization": "Bearer aai-secret"}
    assert request.url == (
        "https://agents.assemblyai.com/v1/token?expires_in_seconds=30"
        "&max_session_duration_seconds=600&product=voice_agent"
    )
    protocol.http_answered(200, {}, b'{"token":"t+1","expires_in_seconds":30}')
    assert protocol.next_step() == ConnectRequest("wss://agents.assemblyai.com/v1/ws?token=t%2B1", {})


@pytest.mark.parametrize(
    ("status", "body", "ending", "again"),
    [
        (401, b"{}", Ending.AGENT_REFUSED, False),
        (404, b'{"detail":"Invalid API key"}', Ending.AGENT_REFUSED, False),
        (422, b"{}", Ending.AGENT_REFUSED, False),
        (503, b"", Ending.AGENT_UNREACHABLE, True),
        (None, b"", Ending.AGENT_UNREACHABLE, True),
        (200, b"<html>", Ending.AGENT_UNREACHABLE, False),
        (200, b'{"token":7}', Ending.AGENT_UNREACHABLE, False),
    ],
)
def test_without_a_token_there_is_no_connection(status, body, ending, again):
    protocol = Session(ready=False, auth="token").protocol
    protocol.next_step()
    protocol.http_answered(status, {}, body)
    end = protocol.next_step()
    assert isinstance(end, SessionEnd)
    assert (end.ending, end.may_reconnect) == (ending, again)


def test_each_connection_fetches_a_token_of_its_own():
    session = Session(auth="token")
    session.protocol.http_answered(200, {}, b'{"token":"t1"}')
    session.breaks()
    assert isinstance(session.next().protocol.next_step(), HttpRequest)


@pytest.mark.parametrize("auth", ["header", "token"])
def test_an_agent_on_this_machine_needs_no_key(auth):
    settings = AssemblyAISettings(url="ws://127.0.0.1:8090/v1/ws", auth=auth)
    protocol = PROVIDER.open(settings, Opening("c1", PCMU_8K, {}))
    assert protocol.next_step() == ConnectRequest("ws://127.0.0.1:8090/v1/ws", {})


@pytest.mark.parametrize("environ", [{}, {"ASSEMBLYAI_API_KEY": "two words"}])
def test_a_key_that_is_missing_or_none_is_told_by_its_place(environ):
    with pytest.raises(SecretMissing, match="api_key"):
        PROVIDER.open(AssemblyAISettings(), Opening("c1", PCMU_8K, environ))


def test_neither_key_nor_prompt_shows_in_a_repr():
    settings = AssemblyAISettings(system_prompt="secret words", greeting="secret hello")
    protocol = PROVIDER.open(settings, Opening("c1", PCMU_8K, ENVIRON))
    shown = f"{settings!r} {protocol!r} {protocol.next_step()!r}"
    assert "secret" not in shown.replace("api_key", "")


# ---------------------------------------------------------------- the first message


def test_speaks_first_and_sends_audio_only_when_the_session_is_ready():
    session = Session(ready=False)
    assert [one["type"] for one in session.connects()] == ["session.update"]
    assert session.protocol.audio(MS20) is None
    assert session.receives("session.updated", config={}) == []
    assert session.is_ready() == [SessionReady(NOW_NS)]
    message = json.loads(session.protocol.audio(MS20) or b"")
    assert message == {"type": "input.audio", "audio": base64.b64encode(MS20).decode()}


@pytest.mark.parametrize(
    ("settings", "wire", "up", "down"),
    [
        ({}, PCMU_8K, PCMU_8K, PCMU_8K),
        ({}, PCMA_8K, PCMA_8K, PCMA_8K),
        ({}, PCM_24K, PCM_24K, PCM_24K),
        ({"output": {"format": {"encoding": "audio/pcm"}}}, PCMA_8K, PCMA_8K, PCM_24K),
        ({"input": {"format": {"encoding": "audio/pcmu"}}}, PCMA_8K, PCMU_8K, PCMA_8K),
        ({"agent_id": "agent_1"}, PCMU_8K, PCM_24K, PCM_24K),
        (
            {"agent_id": "agent_1", "output": {"format": {"encoding": "audio/pcmu"}}},
            PCMU_8K,
            PCM_24K,
            PCMU_8K,
        ),
    ],
)
def test_the_wires_own_law_goes_untouched_unless_told_otherwise(settings, wire, up, down):
    protocol = Session(wire=wire, ready=False, **settings).protocol
    assert (protocol.uplink_format, protocol.downlink_format) == (up, down)


@pytest.mark.parametrize(
    "taken",
    [{"encoding": "audio/pcm", "sample_rate": 24000}, {"encoding": "audio/pcmu", "sample_rate": 16000}],
)
def test_a_session_in_another_format_than_asked_for_is_refused(taken):
    session = Session(ready=False)
    session.connects()
    (error,) = session.is_ready(config={"output": {"format": taken}})
    assert isinstance(error, AgentError)
    assert (error.code, error.at_setup) == ("format_not_taken", True)
    end = session.protocol.closed(None, "given up at set-up")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)


def test_what_is_asked_before_the_session_is_ready_waits_for_it():
    session = Session(ready=False)
    session.protocol.update(NeutralSettings(instructions="Be brief."), {})
    session.protocol.request_reply("Hurry.")
    session.protocol.send_text("42#", role=TextRole.CALLER, respond=False)
    assert [one["type"] for one in session.connects()] == ["session.update"]
    assert session.protocol.deadline_ns() is None
    session.is_ready()
    assert [one["type"] for one in session.sent()] == [
        "session.update",
        "conversation.message",
        "reply.create",
    ]


# ---------------------------------------------------------------- greeting


def test_a_verbatim_greeting_is_part_of_the_first_update():
    session = Session(ready=False)
    session.protocol.greet(Greeting("Good day."))
    assert session.connects()[0]["session"]["greeting"] == "Good day."
    session.is_ready()
    assert session.sent() == []


def test_a_greeting_among_the_settings_wins_over_one_that_nobody_asked_for():
    session = Session(ready=False, greeting="Good day.")
    session.protocol.greet(Greeting(is_default=True, text="Hello."))
    assert session.connects()[0]["session"]["greeting"] == "Good day."


def test_without_one_the_session_has_no_greeting_not_even_a_null():
    assert "greeting" not in Session(ready=False).connects()[0]["session"]


def test_a_generated_greeting_is_asked_for_when_the_session_is_ready():
    session = Session(ready=False)
    session.protocol.greet(Greeting("Welcome them.", verbatim=False))
    assert "greeting" not in session.connects()[0]["session"]
    session.is_ready()
    (create,) = session.sent()
    assert create["type"] == "reply.create"
    assert "Welcome them." in create["instructions"]


def test_a_stored_agent_is_told_to_greet_in_our_words():
    session = Session(ready=False, agent_id="agent_1")
    session.protocol.greet(Greeting("Good day."))
    assert session.connects()[0]["session"] == {"agent_id": "agent_1"}
    session.is_ready(config={"greeting": "Its own."})
    (create,) = session.sent()
    assert "Good day." in create["instructions"]


def test_nothing_is_asked_for_while_the_greeting_is_due():
    session = Session(ready=False, greeting="Good day.")
    session.connects()
    session.is_ready()
    session.protocol.request_reply(None)
    assert session.sent() == []
    session.begins("r1")
    session.ends("r1")
    assert session.sent() == [{"type": "reply.create"}]


# ---------------------------------------------------------------- replies


def test_a_reply_from_its_first_audio_to_its_end():
    session = Session()
    assert session.begins("resp_1") == []
    assert session.speaks("resp_1") == [AgentAudio(R1, MS20, NOW_NS)]
    assert session.speaks("resp_1", b"x" * 300) == [AgentAudio(R1, b"x" * 300, NOW_NS)]
    assert session.ends("resp_1") == [ReplyAudioDone(R1), ReplyDone(R1, ReplyStatus.COMPLETED)]
    assert session.ends("resp_1") == []
    session.begins("resp_2")
    assert audio_of(session.speaks("resp_2")) == [(R2, MS20)]


def test_audio_without_an_id_belongs_to_the_newest_reply():
    session = Session()
    session.begins("r1")
    assert audio_of(session.speaks(None)) == [(R1, MS20)]


def test_audio_of_a_reply_that_never_began_is_complained_of_once():
    session = Session()
    assert [type(event) for event in session.speaks("r9")] == [BadMessage]
    assert session.speaks("r9") == []


def test_half_samples_are_carried_over():
    session = Session(wire=PCM_24K)
    session.begins("r1")
    got = [session.speaks("r1", part) for part in (b"abc", b"d", b"e", b"fgh")]
    assert [audio_of(events) for events in got] == [[(R1, b"ab")], [(R1, b"cd")], [], [(R1, b"efgh")]]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (None, ReplyStatus.COMPLETED),
        ("completed", ReplyStatus.COMPLETED),
        ("interrupted", ReplyStatus.CANCELLED),
        ("cancelled", ReplyStatus.CANCELLED),
        ("failed", ReplyStatus.FAILED),
        ("paused", ReplyStatus.INCOMPLETE),
    ],
)
def test_each_status_of_a_reply(status, outcome):
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    (done,) = (event for event in session.ends("r1", status) if isinstance(event, ReplyDone))
    assert done.status is outcome


def test_a_newer_reply_ends_the_audio_of_the_one_before():
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    assert session.begins("r2") == [ReplyAudioDone(R1)]
    assert session.speaks("r1") == []
    session.speaks("r2")
    # What plays is the second one's: it goes on.
    assert session.ends("r1", "interrupted") == [ReplyDone(R1, ReplyStatus.CANCELLED, "interrupted")]
    assert session.ends("r2")[0] == ReplyAudioDone(R2)


def test_a_reply_without_a_sound_or_word_is_warned_of():
    session = Session()
    session.begins("r1")
    session.speaks("r1", b"\xff" * 160)
    assert session.ends("r1")[-1] == AgentWarning(
        "silent_reply", "a reply ended without a word or a tool call"
    )
    session.begins("r2")
    session.speaks("r2", b"\xff" * 160)
    session.calls("c1")
    assert not any(isinstance(event, AgentWarning) for event in session.ends("r2"))


def test_transcripts_of_both_sides():
    session = Session()
    assert session.receives("transcript.user.delta", item_id="u", text="My or") == []
    assert session.receives("transcript.user", item_id="u", text="My order.") == [
        CallerTranscript("My order.")
    ]
    session.begins("r1")
    words = ["Your", "order", " is", "on its way", "."]
    said = [session.receives("transcript.agent.delta", reply_id="r1", delta=word) for word in words]
    assert said[-1] == [AgentTranscript(R1, "Your order is on its way.")]
    session.ends("r1", "interrupted")
    # The final one may come after the reply's end, and is cut to what was spoken.
    final = {"reply_id": "r1", "text": "Your order", "interrupted": True}
    assert session.receives("transcript.agent", **final) == [AgentTranscript(R1, "Your order")]
    assert session.receives("transcript.agent", **final) == []


# ---------------------------------------------------------------- interruption


def test_speech_of_the_caller_stops_what_is_played():
    session = Session()
    assert session.receives("input.speech.started") == [CallerStartedSpeaking(NOW_NS, interrupts=True)]
    assert session.receives("input.speech.stopped") == [CallerStoppedSpeaking(NOW_NS)]


def test_audio_after_an_interrupted_reply_is_dropped():
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    session.receives("input.speech.started")
    assert session.ends("r1", "interrupted") == [
        AgentInterrupted(NOW_NS),
        ReplyDone(R1, ReplyStatus.CANCELLED, "interrupted"),
    ]
    assert session.speaks("r1") == []
    session.begins("r2")
    assert session.speaks("r1") == []
    assert audio_of(session.speaks("r2")) == [(R2, MS20)]


def test_a_reply_that_goes_on_after_all_is_heard_under_a_new_number():
    """The playout takes no more of what it has thrown away."""
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    session.receives("input.speech.started")
    first, second = session.speaks("r1")
    assert isinstance(first, ReplyDone)
    assert (first.reply, first.status) == (R1, ReplyStatus.CANCELLED)
    assert second == AgentAudio(R2, MS20, NOW_NS)
    assert session.receives("transcript.agent", reply_id="r1", text="Hello") == [AgentTranscript(R1, "Hello")]
    assert session.ends("r1") == [ReplyAudioDone(R2), ReplyDone(R2, ReplyStatus.COMPLETED)]


def test_what_was_thrown_away_gets_no_end_of_its_audio():
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    session.receives("input.speech.started")
    assert session.ends("r1") == [ReplyDone(R1, ReplyStatus.COMPLETED)]


def test_flushing_at_the_first_sound_can_be_switched_off():
    session = Session(flush_on_speech_started=False)
    session.begins("r1")
    session.speaks("r1")
    assert session.receives("input.speech.started") == [CallerStartedSpeaking(NOW_NS, interrupts=False)]
    assert audio_of(session.speaks("r1")) == [(R1, MS20)]
    assert session.ends("r1", "interrupted")[0] == AgentInterrupted(NOW_NS)


@pytest.mark.parametrize("by", ["settings", "stored agent", "update"])
def test_without_barge_in_the_callers_voice_stops_nothing(by):
    off = {"turn_detection": {"interrupt_response": False}}
    session = Session(
        input=off if by == "settings" else {}, config={"input": off} if by == "stored agent" else {}
    )
    if by == "update":
        session.protocol.update(NeutralSettings(barge_in=False), {})
        session.sent()
        session.receives("session.updated")
    assert session.receives("input.speech.started") == [CallerStartedSpeaking(NOW_NS, interrupts=False)]


def test_the_older_name_of_an_interruption():
    session = Session()
    session.begins("r1")
    assert session.receives("reply.interrupted", reply_id="r1")[0] == AgentInterrupted(NOW_NS)


def test_an_interruption_by_command_drops_the_rest_here():
    session = Session()
    session.begins("r1")
    session.speaks("r1")
    session.protocol.interrupt()
    assert session.sent() == []
    assert session.speaks("r1") == []
    assert session.ends("r1") == [ReplyDone(R1, ReplyStatus.COMPLETED)]


def test_what_was_heard_is_told_to_nobody():
    session = Session()
    session.protocol.report_heard([Heard(R1, 800, 800, 8000)])
    assert session.sent() == []


# ---------------------------------------------------------------- asking for replies


def test_a_reply_is_asked_for_only_while_none_runs():
    session = Session()
    session.begins("r1")
    session.protocol.say("Good bye.")
    assert session.sent() == []
    session.ends("r1", "interrupted")
    (create,) = session.sent()
    assert "Good bye." in create["instructions"]


def test_and_only_one_at_a_time():
    session = Session()
    session.protocol.request_reply("One.")
    session.protocol.request_reply("Two.")
    assert [one["instructions"] for one in session.sent()] == ["One."]
    session.begins("r1")
    session.ends("r1")
    assert [one["instructions"] for one in session.sent()] == ["Two."]


def test_after_the_callers_turn_the_agents_own_answer_gets_150_ms():
    session = Session()
    session.receives("input.speech.stopped")
    session.protocol.request_reply(None)
    assert session.protocol.deadline_ns() == NOW_NS + 150 * MS
    session.waits(149)
    assert session.sent() == []
    session.waits(1)
    assert session.sent() == [{"type": "reply.create"}]


def test_an_answer_that_begins_in_time_goes_first():
    session = Session()
    session.receives("input.speech.stopped")
    session.protocol.request_reply(None)
    session.begins("r1")
    session.waits(1000)
    assert session.sent() == []
    session.ends("r1")
    assert session.sent() == [{"type": "reply.create"}]


def test_a_turn_long_past_delays_nothing():
    session = Session()
    session.receives("input.speech.stopped")
    session.waits(10_000)
    session.protocol.request_reply(None)
    session.waits(0)
    assert session.sent() == [{"type": "reply.create"}]


def test_a_reply_that_never_comes_is_waited_for_five_seconds():
    session = Session()
    session.protocol.request_reply("One.")
    session.protocol.request_reply("Two.")
    session.sent()
    session.waits(4999)
    assert session.sent() == []
    session.waits(1)
    assert [one["instructions"] for one in session.sent()] == ["Two."]


def test_a_refused_one_makes_room_for_the_next():
    session = Session()
    session.protocol.request_reply("One.")
    session.protocol.request_reply("Two.")
    session.sent()
    assert session.fails("invalid_format")[0] == AgentError("invalid_format", "words of the API")
    assert [one["instructions"] for one in session.sent()] == ["Two."]


# ---------------------------------------------------------------- text


def test_text_of_the_caller_is_a_message_and_the_matter_of_the_answer():
    session = Session()
    session.protocol.send_text("42#", role=TextRole.CALLER, respond=True)
    message, create = session.sent()
    assert message == {"type": "conversation.message", "role": "user", "content": "42#"}
    assert "42#" in create["instructions"]


def test_context_joins_the_prompt_and_stays_there():
    session = Session(system_prompt="Be brief.")
    session.protocol.send_text("The caller is on hold.", role=TextRole.CONTEXT, respond=False)
    session.protocol.send_text("Ada wrote.", role=TextRole.CONTEXT, respond=True)
    first, second, create = session.sent()
    assert first["session"] == {"system_prompt": "Be brief.\n\nThe caller is on hold."}
    assert second["session"] == {"system_prompt": "Be brief.\n\nThe caller is on hold.\n\nAda wrote."}
    assert "Ada wrote." in create["instructions"]
    # Nobody asked for an update, so nobody is told of one.
    assert session.receives("session.updated", config={}) == []
    assert session.fails("invalid_value") == [AgentWarning("invalid_value", "words of the API")]


def test_a_stored_agents_prompt_is_continued_not_replaced():
    session = Session(agent_id="agent_1", config={"system_prompt": "Stored."})
    session.protocol.send_text("Noon.", role=TextRole.CONTEXT, respond=False)
    assert session.sent()[0]["session"] == {"system_prompt": "Stored.\n\nNoon."}


def test_a_prompt_that_is_not_known_is_left_alone():
    session = Session(agent_id="agent_1")
    session.protocol.send_text("Noon.", role=TextRole.CONTEXT, respond=False)
    assert session.sent() == [{"type": "conversation.message", "role": "system", "content": "Noon."}]
    with pytest.raises(UpdateImpossible, match="caller_facts"):
        session.protocol.update(NeutralSettings(user_profile={"name": "Ada"}), {})


# ---------------------------------------------------------------- tools


def test_a_result_waits_for_the_end_of_the_reply_and_holds_json():
    session = Session()
    session.begins("r1")
    assert session.calls("c1", arguments={"order": 7}) == [ToolCall("c1", "look_up", '{"order": 7}')]
    session.protocol.tool_result("c1", '{"ok":true}', failed=False)
    assert session.sent() == []
    session.ends("r1")
    result = {"type": "tool.result", "call_id": "c1", "result": '{"ok":true}', "is_error": False}
    assert session.sent() == [result]


def test_a_result_that_is_late_goes_at_once():
    session = Session()
    session.begins("r1")
    session.calls("c1")
    session.ends("r1")
    session.protocol.tool_result("c1", "1", failed=False)
    assert [one["type"] for one in session.sent()] == ["tool.result"]


@pytest.mark.parametrize("by", ["settings", "stored agent"])
def test_during_a_hold_tool_nothing_is_waited_for(by):
    tools = [{"type": "function", "name": "look_up", "execution_mode": "hold"}]
    session = Session(tools=tools) if by == "settings" else Session(config={"tools": tools})
    session.begins("r1")
    session.calls("c1")
    session.protocol.tool_result("c1", "1", failed=False)
    assert [one["type"] for one in session.sent()] == ["tool.result"]


def test_or_if_the_settings_say_so():
    session = Session(tool_results="at_once")
    session.begins("r1")
    session.calls("c1")
    session.protocol.tool_result("c1", "1", failed=False)
    assert [one["type"] for one in session.sent()] == ["tool.result"]


@pytest.mark.parametrize(
    ("output", "failed", "result"),
    [
        ("done", False, '"done"'),
        ("[1, 2]", False, "[1, 2]"),
        ("NaN", False, '"NaN"'),
        ("no such order", True, '{"error": "no such order"}'),
        ('{"error": "gone"}', True, '{"error": "gone"}'),
        ("17", True, '{"error": 17}'),
    ],
)
def test_a_result_is_always_json(output, failed, result):
    session = Session()
    session.calls("c1")
    session.protocol.tool_result("c1", output, failed=failed)
    (message,) = session.sent()
    assert (message["result"], message["is_error"]) == (result, failed)


def test_an_interrupted_reply_takes_its_tool_calls_along():
    session = Session()
    session.begins("r1")
    session.calls("c1")
    session.calls("c2")
    session.protocol.tool_result("c1", "1", failed=False)
    events = session.ends("r1", "interrupted")
    assert [event for event in events if isinstance(event, ToolCallCancelled)] == [
        ToolCallCancelled("c1"),
        ToolCallCancelled("c2"),
    ]
    session.protocol.tool_result("c2", "2", failed=False)
    assert session.sent() == []


def test_the_answer_to_a_result_comes_by_itself():
    session = Session()
    session.calls("c1")
    session.protocol.tool_result("c1", "1", failed=False)
    session.sent()
    session.protocol.request_reply("Hurry.")
    session.waits(1000)
    assert session.sent() == []
    session.begins("r1")
    session.ends("r1")
    assert [one["type"] for one in session.sent()] == ["reply.create"]


@pytest.mark.parametrize("name", ["weather", "aai_transfer"])
def test_calls_of_tools_that_the_vendor_runs_are_not_ours_to_answer(name):
    session = Session(config={"tools": [{"name": "weather", "http": {"url": "https://example.org"}}]})
    assert session.calls("c1", name) == []
    session.protocol.tool_result("c1", "1", failed=False)
    assert session.sent() == []


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"arguments": '{"a":1}'}, '{"a":1}'),
        ({"arguments": None}, "{}"),
        ({"arguments": ""}, "{}"),
    ],
)
def test_arguments_are_read_in_every_spelling(fields, arguments):
    assert Session().calls("c1", **fields) == [ToolCall("c1", "look_up", arguments)]


def test_arguments_by_their_older_name():
    events = Session().receives("tool.call", call_id="c1", name="look_up", args={"a": 1})
    assert events == [ToolCall("c1", "look_up", '{"a": 1}')]


def test_a_call_is_told_once_and_answered_once():
    session = Session()
    session.calls("c1")
    assert session.calls("c1") == []
    session.protocol.tool_result("c1", "1", failed=False)
    session.protocol.tool_result("c1", "2", failed=False)
    session.protocol.tool_result("c9", "3", failed=False)
    assert [one["result"] for one in session.sent()] == ["1"]


# ---------------------------------------------------------------- updates


def test_an_update_holds_only_what_changes_and_is_acknowledged():
    session = Session(system_prompt="Be brief.", input={"keyterms": ["Ada"]})
    session.protocol.update(NeutralSettings(barge_in=False), {"output": {"volume": 60}})
    detection = {"turn_detection": {"interrupt_response": False}}
    assert session.sent()[0]["session"] == {"input": detection, "output": {"volume": 60}}
    assert session.receives("session.updated", config={}) == [SessionUpdated(NOW_NS)]
    assert session.receives("session.updated", config={}) == []


def test_a_new_prompt_keeps_what_was_added_to_the_old_one():
    session = Session(system_prompt="Be brief.", caller_facts={"name": "Ada"})
    session.protocol.send_text("Noon.", role=TextRole.CONTEXT, respond=False)
    session.sent()
    session.protocol.update(NeutralSettings(instructions="Be kind."), {})
    assert session.sent()[0]["session"]["system_prompt"] == (
        'Be kind.\n\nFacts about the caller: {"name": "Ada"}\n\nNoon.'
    )


@pytest.mark.parametrize(
    ("neutral", "vendor", "key"),
    [
        (NeutralSettings(voice="anna"), {}, "voice"),
        (NeutralSettings(temperature=0.5), {}, "temperature"),
        (NeutralSettings(noise_reduction="off"), {}, "noise_reduction"),
        (NeutralSettings.model_validate({"turn_detection": {"mode": "off"}}), {}, "turn_detection.mode"),
        (NEUTRAL, {"greeting": "Hi."}, "greeting"),
        (NEUTRAL, {"agent_id": "agent_2"}, "agent_id"),
        (NEUTRAL, {"output": {"voice": "anna"}}, "output.voice"),
        (NEUTRAL, {"output": {"format": {"encoding": "audio/pcm"}}}, "output.format"),
        (NEUTRAL, {"input": {"format": {"encoding": "audio/pcm"}}}, "input.format"),
        (NEUTRAL, {"url": "wss://example.org"}, "url"),
        (NEUTRAL, {"output": {"volume": 101}}, "output.volume"),
        (NEUTRAL, {"colour": "red"}, "colour"),
        (NEUTRAL, {}, "update"),
    ],
)
def test_what_cannot_change_is_refused_before_anything_is_sent(neutral, vendor, key):
    session = Session(greeting="Hello.")
    session.sent()
    with pytest.raises(UpdateImpossible) as refusal:
        session.protocol.update(neutral, vendor)
    assert refusal.value.key == key
    assert session.sent() == []


@pytest.mark.parametrize("code", ["immutable_field", "IMMUTABLE_FIELD", "invalid_value", "invalid_format"])
def test_an_update_that_the_server_refuses_changes_nothing(code):
    session = Session(system_prompt="Be brief.")
    session.protocol.update(NeutralSettings(instructions="Be rude."), {})
    session.protocol.update(NeutralSettings(key_terms=("Ada",)), {})
    session.sent()
    assert session.fails(code, param="session.system_prompt") == [
        UpdateRefused(code.lower(), "words of the API")
    ]
    assert session.receives("session.updated") == [SessionUpdated(NOW_NS)]
    session.fails("session_expired")
    session.protocol.closed(1008, "")
    first = session.next().connects()[0]["session"]
    assert first["system_prompt"] == "Be brief."
    assert first["input"]["keyterms"] == ["Ada"]


def test_an_unknown_message_of_ours_is_no_refused_update():
    session = Session()
    session.protocol.update(NeutralSettings(instructions="Be kind."), {})
    events = session.fails("invalid_format", "Unknown message type: 'reply.create'")
    assert events == [AgentError("invalid_format", "Unknown message type: 'reply.create'")]
    assert session.receives("session.updated") == [SessionUpdated(NOW_NS)]


# ---------------------------------------------------------------- errors


def test_messages_of_an_unknown_type_are_passed_over():
    assert Session().receives("session.telemetry") == [Unknown("session.telemetry")]


@pytest.mark.parametrize("message", ["", "[]", "{", b"\x00\xff", '{"kind":1}', '{"type":7}'])
def test_what_is_no_message_is_called_bad(message):
    events = Session().protocol.receive(message, now_ns=0)
    assert [type(event) for event in events] == [BadMessage]


@pytest.mark.parametrize("code", ["invalid_audio", "audio_rate_violation"])
def test_a_lost_frame_is_a_warning(code):
    session = Session()
    assert session.fails(code) == [AgentWarning(code, "words of the API")]
    assert session.protocol.audio(MS20) is not None


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.error", "code": "Odd", "message": "m", "timestamp": "2026-09-24T10:00:00Z"},
        {"type": "error", "code": "odd", "message": "m"},
        {"type": "error", "error": {"code": "odd", "message": "m"}},
        {"code": "ODD", "message": "m"},
    ],
)
def test_errors_are_read_in_every_spelling(message):
    session = Session()
    assert session.protocol.receive(json.dumps(message), now_ns=0) == [AgentError("odd", "m")]
    assert session.protocol.audio(MS20) is not None


@pytest.mark.parametrize(
    "code", ["UNAUTHORIZED", "forbidden", "agent_not_found", "invalid_value", "invalid_format"]
)
def test_a_refusal_of_the_first_update_is_final(code):
    session = Session(ready=False)
    session.connects()
    (error,) = session.fails(code, param="session.output.voice")
    assert isinstance(error, AgentError)
    assert error.at_setup
    assert session.is_ready() == []
    end = session.protocol.closed(1008, "policy")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert code.lower() in end.detail
    assert session.protocol.successor([]) is None


@pytest.mark.parametrize("code", ["at_capacity", "concurrency_exceeded", "server_error", "INTERNAL_ERROR"])
def test_a_server_without_room_may_be_tried_again(code):
    session = Session(ready=False)
    session.connects()
    assert session.fails(code) == [AgentError(code.lower(), "words of the API")]
    end = session.protocol.closed(1011, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_UNREACHABLE, True)


@pytest.mark.parametrize(
    ("fault", "code", "ending", "again"),
    [
        (None, 1000, Ending.AGENT_HUNG_UP, False),
        (None, 1006, Ending.AGENT_LOST, True),
        (None, None, Ending.AGENT_LOST, True),
        (None, 1011, Ending.AGENT_LOST, True),
        (None, 1008, Ending.AGENT_LOST, False),
        (None, 1003, Ending.AGENT_LOST, False),
        ("internal_error", 1011, Ending.AGENT_LOST, True),
        ("session_expired", 1008, Ending.AGENT_LOST, True),
        ("unauthorized", 1008, Ending.AGENT_REFUSED, False),
        ("agent_init_failed", 1011, Ending.AGENT_LOST, False),
    ],
)
def test_each_end_of_a_running_session(fault, code, ending, again):
    session = Session()
    if fault is not None:
        session.fails(fault)
    end = session.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert (session.protocol.successor([]) is not None) == again


@pytest.mark.parametrize(
    ("code", "ending", "again"),
    [
        (None, Ending.AGENT_UNREACHABLE, True),
        (1006, Ending.AGENT_UNREACHABLE, True),
        (1008, Ending.AGENT_REFUSED, False),
        (1000, Ending.AGENT_UNREACHABLE, False),
    ],
)
def test_each_end_before_the_session_is_ready(code, ending, again):
    session = Session(ready=False)
    session.connects()
    end = session.protocol.closed(code, "reason")
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert "reason" in end.detail


@pytest.mark.parametrize(
    ("status", "ending", "again"),
    [
        (401, Ending.AGENT_REFUSED, False),
        (429, Ending.AGENT_UNREACHABLE, True),
        (502, Ending.AGENT_UNREACHABLE, True),
    ],
)
def test_each_http_status_instead_of_a_websocket(status, ending, again):
    end = Session(ready=False).protocol.refused(status)
    assert (end.ending, end.may_reconnect) == (ending, again)


# ---------------------------------------------------------------- the end


def test_says_goodbye_and_lets_the_api_close():
    session = Session()
    assert session.protocol.say_goodbye()
    assert session.sent() == [{"type": "session.end"}]
    assert session.receives("session.ended", session_duration_seconds=9.5, audio_duration_seconds=None) == []
    assert session.protocol.closed(1000, "") == SessionEnd(Ending.AGENT_HUNG_UP, "close 1000")
    assert not session.protocol.say_goodbye()


def test_nothing_is_said_to_a_session_that_never_was():
    assert not Session(ready=False).protocol.say_goodbye()


@pytest.mark.parametrize(
    ("now", "expires"), [(1_790_000_000.5, 1_790_003_595.5), ("2026-09-24T10:00:00Z", "2026-09-24T10:59:55Z")]
)
def test_a_session_is_told_to_expire_a_minute_before_it_does(now, expires):
    session = Session(ready=False)
    session.connects()
    assert session.is_ready(timestamp=now, expires_at=expires) == [SessionReady(NOW_NS)]
    assert session.protocol.deadline_ns() == NOW_NS + (3595 - 60) * SECOND
    assert session.waits(3_595_000) == [SessionExpiring(60.0, of_age=True)]
    assert session.protocol.deadline_ns() is None


def test_a_session_that_is_short_is_told_to_expire_at_once():
    session = Session(ready=False)
    session.connects()
    assert session.is_ready(timestamp=100, expires_at=120) == [
        SessionReady(NOW_NS),
        SessionExpiring(20.0, of_age=True),
    ]


# ---------------------------------------------------------------- carrying on


SAID = (Said(True, "My order?"), Said(False, "One moment."))


def test_a_lost_session_is_resumed():
    session = Session(greeting="Hello.", system_prompt="Be brief.")
    session.begins("r1")
    session.speaks("r1")
    session.calls("c1")
    session.breaks()
    following = session.next(*SAID)
    assert following.connects() == [{"type": "session.resume", "session_id": "sess_1"}]
    assert following.is_ready() == [SessionReady(NOW_NS, resumed=True)]
    assert audio_of(following.speaks("r1")) == [(R1, MS20)]
    following.ends("r1")
    following.begins("r2")
    assert audio_of(following.speaks("r2")) == [(R2, MS20)]
    following.protocol.tool_result("c1", "1", failed=False)
    following.ends("r2")
    assert [one["type"] for one in following.sent()] == ["tool.result"]
    # The session knows the conversation: the prompt tells it nothing twice.
    following.protocol.update(NeutralSettings(instructions="Be kind."), {})
    assert following.sent()[0]["session"] == {"system_prompt": "Be kind."}


def test_what_cannot_be_resumed_is_begun_anew_with_the_conversation_and_without_a_greeting():
    session = Session(greeting="Hello.", system_prompt="Be brief.")
    session.begins("r1")
    session.speaks("r1")
    session.calls("c1")
    session.breaks()
    resuming = session.next(*SAID)
    resuming.connects()
    assert resuming.fails("SESSION_NOT_FOUND") == [AgentWarning("session_not_found", "words of the API")]
    end = resuming.protocol.closed(1008, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_LOST, True)
    fresh = resuming.next(*SAID)
    (first,) = fresh.connects()
    assert "greeting" not in first["session"]
    assert first["session"]["system_prompt"].startswith("Be brief.\n\n")
    assert first["session"]["system_prompt"].endswith("\nCaller: My order?\nYou: One moment.")
    # What the old session left open ends; numbers go on, although the API's ids begin anew.
    assert fresh.is_ready("sess_2") == [
        SessionReady(NOW_NS),
        ReplyAudioDone(R1),
        ReplyDone(R1, ReplyStatus.INCOMPLETE, "connection lost"),
        ToolCallCancelled("c1"),
    ]
    fresh.begins("r1")
    assert audio_of(fresh.speaks("r1")) == [(R2, MS20)]


@pytest.mark.parametrize("code", [1008, 1011, None])
def test_a_resumption_that_ends_without_a_word_may_be_followed_by_a_new_session(code):
    session = Session()
    session.breaks()
    resuming = session.next()
    resuming.connects()
    assert resuming.protocol.closed(code, "").may_reconnect
    assert resuming.next().connects()[0]["type"] == "session.update"


def test_after_30_seconds_nothing_is_resumed():
    session = Session()
    session.breaks()
    following = session.next()
    following.now_ns += 30 * SECOND + 1
    assert following.connects()[0]["type"] == "session.update"


def test_resumption_can_be_switched_off():
    session = Session(resume=False)
    session.breaks()
    assert session.next().connects()[0]["type"] == "session.update"


def test_a_resumed_session_can_be_lost_and_resumed_again():
    session = Session()
    session.breaks()
    second = session.next()
    second.connects()
    second.is_ready("sess_1")
    second.breaks()
    assert second.next().connects() == [{"type": "session.resume", "session_id": "sess_1"}]


def test_an_update_without_an_answer_is_made_again_in_a_resumed_session():
    session = Session(system_prompt="Be brief.")
    session.protocol.update(NeutralSettings(instructions="Be kind."), {})
    session.sent()
    session.breaks()
    following = session.next()
    following.connects()
    following.is_ready()
    assert following.sent()[0]["session"]["system_prompt"] == "Be kind."


def test_a_new_session_has_what_was_changed_and_noted_in_the_old_one():
    session = Session(system_prompt="Be brief.", resume=False)
    session.protocol.update(NeutralSettings(key_terms=("Ada",)), {})
    session.protocol.send_text("Noon.", role=TextRole.CONTEXT, respond=False)
    session.protocol.request_reply("Hurry.")
    session.begins("r1")
    session.protocol.request_reply("Go on.")
    session.breaks()
    following = session.next(Said(True, "Hi."))
    first = following.connects()[0]["session"]
    assert first["input"]["keyterms"] == ["Ada"]
    assert first["system_prompt"].startswith("Be brief.")
    assert first["system_prompt"].endswith("Caller: Hi.\n\nNoon.")
    following.is_ready()
    assert [one["instructions"] for one in following.sent()] == ["Go on."]


def test_the_greeting_of_a_stored_agent_is_not_heard_twice():
    session = Session(
        agent_id="agent_1", resume=False, config={"system_prompt": "Stored.", "greeting": "Hello."}
    )
    session.breaks()
    following = session.next(*SAID)
    assert following.connects()[0]["session"] == {"agent_id": "agent_1"}
    following.is_ready("sess_2", config={"system_prompt": "Stored.", "greeting": "Hello."})
    assert following.sent()[0]["session"]["system_prompt"].startswith("Stored.\n\nYou are in the middle")
    following.begins("r1")
    assert following.speaks("r1") == []
    assert following.ends("r1") == [ReplyDone(R1, ReplyStatus.COMPLETED)]
    following.begins("r2")
    assert audio_of(following.speaks("r2")) == [(R2, MS20)]


def test_a_greeting_that_was_never_spoken_is_not_lost():
    session = Session(ready=False)
    session.protocol.greet(Greeting("Good day."))
    session.connects()
    session.breaks()
    assert session.next().connects()[0]["session"]["greeting"] == "Good day."


def test_a_very_long_conversation_is_told_from_its_end():
    session = Session(resume=False)
    session.breaks()
    said = [Said(True, f"{number} " + "word " * 100) for number in range(200)]
    prompt = session.next(*said).connects()[0]["session"]["system_prompt"]
    assert len(prompt) < 13_000
    assert "Caller: 199 " in prompt
    assert "Caller: 0 " not in prompt


def test_an_answer_is_never_taken_for_the_greeting():
    session = Session(agent_id="agent_1", resume=False)
    session.breaks()
    following = session.next(*SAID)
    following.connects()
    following.is_ready("sess_2", config={"greeting": "Hello."})
    following.receives("input.speech.stopped")
    following.begins("r1")
    assert audio_of(following.speaks("r1")) == [(R1, MS20)]


@pytest.mark.parametrize("resume", [True, False])
def test_who_waits_for_the_answer_to_an_update_gets_it_from_the_next_session(resume):
    session = Session(resume=resume)
    session.protocol.update(NeutralSettings(instructions="Be kind."), {})
    session.breaks()
    following = session.next()
    following.connects()
    events = following.is_ready() + following.receives("session.updated")
    assert [event for event in events if isinstance(event, SessionUpdated)] == [SessionUpdated(NOW_NS)]


@pytest.mark.parametrize(("resume", "tries"), [(True, 1), (False, 1), (False, 2)])
def test_each_update_is_answered_however_often_the_connection_breaks(resume, tries):
    session = Session(resume=resume)
    session.protocol.update(NeutralSettings(instructions="Be kind."), {})
    session.protocol.update(NeutralSettings(key_terms=("Ada",)), {})
    for _ in range(tries):
        session.breaks()
        session = session.next()
        session.connects()
    events = session.is_ready() + session.receives("session.updated")
    assert events.count(SessionUpdated(NOW_NS)) == 2


def test_a_fault_that_passed_ends_no_later_session():
    session = Session(ready=False)
    session.connects()
    session.fails("server_error")
    session.is_ready()
    assert session.protocol.closed(1000, "") == SessionEnd(Ending.AGENT_HUNG_UP, "close 1000")
