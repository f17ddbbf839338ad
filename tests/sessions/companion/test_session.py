"""A Companion session without a network: what the API says goes in, what we say comes out."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from telbridge.audio.formats import PCM_16K, PCMU_8K
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
    SessionExpiring,
    SessionReady,
    SessionUpdated,
    ToolCall,
    ToolCallCancelled,
    Unknown,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Greeting, TextRole, UpdateImpossible
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import HttpRequest, Opening
from telbridge.sessions.companion.protocol import PROVIDER, Companion
from telbridge.sessions.companion.settings import CompanionSettings

SECOND = 1_000_000_000
VOICE = {"voiceId": "alloy"}
SPEECH = bytes(range(64)) * 10
ENVIRON = {"NAPSTER_API_KEY": "key-secret"}


def token(**fields: Any) -> str:
    return base64.b64encode(json.dumps(fields).encode()).decode()


def created(**fields: Any) -> bytes:
    """The API's answer to the creation."""
    content = fields or {"url": "https://edge.example/ws?token=t0", "token": "t0", "expiresAt": 1}
    return json.dumps({"token": token(**content), "connection": {"id": "conn_1"}}).encode()


class Session:
    """The protocol under test with the server's vocabulary as methods."""

    def __init__(self, *, ready: bool = True, protocol: Companion | None = None, **settings: Any) -> None:
        if not {"agent_id", "companionId"} & set(settings):
            settings = {"companionId": "comp_1", "providerConfig": VOICE, **settings}
        self.now_ns = 10 * SECOND
        self.protocol = protocol or self.make(settings)
        self.body: Any = None
        self.all_sent: list[dict[str, Any]] = []
        if ready:
            self.connects()
            self.receives("avatar_state_changed", state="ready")

    @staticmethod
    def make(settings: Mapping[str, Any]) -> Companion:
        opened = PROVIDER.open(CompanionSettings(**settings), Opening("call-1", PCMU_8K, ENVIRON))
        assert isinstance(opened, Companion)
        return opened

    def connects(self) -> None:
        request = self.protocol.next_step()
        assert isinstance(request, HttpRequest)
        self.body = request.json
        self.protocol.http_answered(200, {}, created())
        self.protocol.next_step()
        self.protocol.connected(now_ns=self.now_ns)

    def receives(self, event: str, /, **data: Any) -> list[AgentEvent]:
        return self.protocol.receive(json.dumps({"event": event, "data": data}), now_ns=self.now_ns)

    def told(self, role: str, action: str, /, **fields: Any) -> list[AgentEvent]:
        message = {"type": "message", "role": role, "action": action, **fields}
        return self.receives("message_received", message=message)

    def talk(self, state: str) -> list[AgentEvent]:
        return self.receives("talk_state_changed", state=state)

    def speaks(self, audio: bytes = SPEECH) -> list[AgentEvent]:
        return self.receives("audio_received", data=base64.b64encode(audio).decode())

    def begins(self, response: str = "resp_1") -> list[AgentEvent]:
        """A reply with all its signs, until it is heard."""
        return [
            *self.talk("preparing"),
            *self.told("assistant", "created", response_id=response),
            *self.talk("started"),
            *self.speaks(),
        ]

    def waits(self, seconds: float) -> list[AgentEvent]:
        """Until then, with every deadline kept."""
        until = self.now_ns + round(seconds * SECOND)
        events: list[AgentEvent] = []
        while (due := self.protocol.deadline_ns()) is not None and due <= until:
            self.now_ns = max(self.now_ns, due)
            events += self.protocol.time_passed(now_ns=self.now_ns)
        self.now_ns = until
        return events

    def sent(self) -> list[dict[str, Any]]:
        """What we said since the last look, the silence that keeps the line alive apart."""
        messages = [json.loads(message) for message in self.protocol.data_to_send()]
        self.all_sent += messages
        return [message for message in messages if message["type"] != "send_audio"]

    def sent_silence(self) -> int:
        messages = [json.loads(message) for message in self.protocol.data_to_send()]
        return sum(message["type"] == "send_audio" for message in messages)


def system(text: str, *, respond: bool, delay: bool, role: str = "system") -> dict[str, Any]:
    data = {"role": role, "text": text, "trigger_response": respond, "delay": delay}
    return {"type": "send_message", "data": data}


def one(reply: int) -> ReplyId:
    return ReplyId(reply)


# -- the start


def test_ready_starts_the_session_once():
    agent = Session(ready=False)
    agent.connects()
    assert agent.receives("avatar_state_changed", state="preparing") == []
    assert agent.protocol.audio(bytes(640)) is None
    assert agent.receives("avatar_state_changed", state="ready") == [SessionReady(agent.now_ns)]
    assert agent.receives("avatar_state_changed", state="ready", details={"mode": "audio_video"}) == []
    assert agent.protocol.audio(bytes(640)) is not None


def test_without_ready_it_starts_three_seconds_after_connecting():
    agent = Session(ready=False)
    agent.connects()
    assert agent.waits(2.9) == []
    assert agent.waits(0.1) == [SessionReady(agent.now_ns)]
    assert agent.receives("avatar_state_changed", state="ready") == []


@pytest.mark.parametrize("wait_ready_s", [0, 0.5, 4.5])
def test_how_long_to_wait_for_ready_is_a_setting(wait_ready_s):
    agent = Session(ready=False, wait_ready_s=wait_ready_s)
    agent.connects()
    assert agent.protocol.deadline_ns() == agent.now_ns + wait_ready_s * SECOND


def test_nothing_is_due_before_the_connection():
    assert Session(ready=False).protocol.deadline_ns() is None


def test_what_is_asked_before_ready_is_sent_when_it_comes():
    agent = Session(ready=False)
    agent.protocol.send_text("[DTMF] 5", role=TextRole.CALLER, respond=True)
    agent.connects()
    assert agent.sent() == []
    agent.receives("avatar_state_changed", state="ready")
    assert agent.sent() == [system("[DTMF] 5", role="user", respond=True, delay=True)]


# -- greeting


def test_a_greeting_before_the_creation_is_the_initial_speech():
    agent = Session(ready=False, initialSpeech="Ask for the name.")
    agent.protocol.greet(Greeting("Hello, this is Ann."))
    agent.connects()
    assert agent.body["initialSpeech"] == "say exactly this once: Hello, this is Ann."
    agent.receives("avatar_state_changed", state="ready")
    assert agent.sent() == []


def test_a_greeting_in_the_agents_words_is_told_not_quoted():
    agent = Session(ready=False)
    agent.protocol.greet(Greeting("Greet the caller in French.", verbatim=False))
    agent.connects()
    assert agent.body["initialSpeech"] == "The call has just been connected. Greet the caller in French."


def test_without_a_greeting_the_initial_speech_of_the_settings_stands():
    agent = Session(initialSpeech="Ask for the name.")
    assert agent.body["initialSpeech"] == "Ask for the name."
    assert "initialSpeech" not in Session().body


def test_a_greeting_after_the_creation_is_a_message():
    agent = Session(ready=False)
    agent.connects()
    agent.protocol.greet(Greeting("Hello."))
    agent.receives("avatar_state_changed", state="ready")
    assert agent.sent() == [system("say exactly this once: Hello.", respond=True, delay=False)]


# -- audio


def test_audio_is_linear_16_khz_both_ways():
    agent = Session()
    assert agent.protocol.uplink_format == agent.protocol.downlink_format == PCM_16K
    assert agent.protocol.uplink_is_text


@pytest.mark.parametrize("key", ["data", "audio"])
def test_a_frame_goes_up_under_the_configured_key(key):
    frame = bytes(range(256)) * 2
    message = json.loads(Session(audio_key=key).protocol.audio(frame) or b"")
    assert message == {"type": "send_audio", "data": {key: base64.b64encode(frame).decode()}}


@pytest.mark.parametrize("key", ["data", "audio"])
@pytest.mark.parametrize("name", ["event", "type"])
def test_audio_comes_down_under_either_key(key, name):
    agent = Session()
    message = {name: "audio_received", "data": {key: base64.b64encode(SPEECH).decode()}}
    events = agent.protocol.receive(json.dumps(message), now_ns=5)
    assert events == [AgentAudio(one(1), SPEECH, 5)]


def test_half_a_sample_waits_for_its_other_half():
    agent = Session()
    (first,) = agent.speaks(b"\x01\x02\x03")
    (second,) = agent.speaks(b"\x04\x05\x06")
    assert isinstance(first, AgentAudio)
    assert isinstance(second, AgentAudio)
    assert first.audio + second.audio == b"\x01\x02\x03\x04\x05\x06"
    assert agent.speaks(b"\x07") == []


def test_a_silent_line_is_kept_alive_once_a_second():
    agent = Session()
    agent.sent()
    agent.waits(3)
    assert agent.sent_silence() == 3
    for _ in range(3):
        agent.protocol.audio(bytes(640))
        agent.waits(1)
    assert agent.sent_silence() == 0


def test_a_text_session_sends_no_audio_at_all():
    agent = Session(modality="text")
    assert agent.protocol.audio(bytes(640)) is None
    agent.waits(3)
    assert agent.sent_silence() == 0


# -- replies


def test_a_reply_with_all_its_signs():
    agent = Session()
    assert agent.talk("preparing") == []
    assert agent.told("assistant", "created", response_id="r", item_id="i") == []
    assert agent.talk("started") == []
    assert agent.speaks() == [AgentAudio(one(1), SPEECH, agent.now_ns)]
    assert agent.told("assistant", "delta", response_id="r", item_id="i", content="Good ") == [
        AgentTranscript(one(1), "Good ")
    ]
    assert agent.told("assistant", "delta", response_id="r", item_id="i", content="day.") == [
        AgentTranscript(one(1), "Good day.")
    ]
    assert agent.told("assistant", "completed", response_id="r", item_id="i", content="Good day.") == []
    assert agent.talk("ended") == [ReplyAudioDone(one(1)), ReplyDone(one(1), ReplyStatus.COMPLETED)]
    assert agent.waits(10) == []


def test_the_text_may_end_after_the_speech():
    agent = Session()
    agent.begins("r")
    assert agent.talk("ended") == []
    assert agent.told("assistant", "completed", response_id="r", content="Good day.") == [
        AgentTranscript(one(1), "Good day."),
        ReplyAudioDone(one(1)),
        ReplyDone(one(1), ReplyStatus.COMPLETED),
    ]


def over(reply: int) -> list[AgentEvent]:
    return [ReplyAudioDone(one(reply)), ReplyDone(one(reply), ReplyStatus.COMPLETED)]


@pytest.mark.parametrize("missing", ["preparing", "started", "created", "ended", "completed", "text", "talk"])
def test_a_reply_is_whole_though_one_of_its_signs_is_missing(missing):
    agent = Session()
    events: list[AgentEvent] = []
    for reply in ("r1", "r2"):
        signs = {
            "preparing": lambda: agent.talk("preparing"),
            "created": lambda reply=reply: agent.told("assistant", "created", response_id=reply),
            "started": lambda: agent.talk("started"),
            "audio": agent.speaks,
            "completed": lambda reply=reply: agent.told("assistant", "completed", response_id=reply),
            "ended": lambda: agent.talk("ended"),
        }
        left_out = {"text": ("created", "completed"), "talk": ("preparing", "started", "ended")}
        for name, sign in signs.items():
            if name not in left_out.get(missing, (missing,)):
                events += sign()
        events += agent.waits(5)
    audio = [AgentAudio(one(number), SPEECH, 0) for number in (1, 2)]
    plain = [AgentAudio(e.reply, e.audio, 0) if isinstance(e, AgentAudio) else e for e in events]
    assert plain == [audio[0], *over(1), audio[1], *over(2)]


def test_audio_alone_is_a_reply_that_ends_by_silence():
    agent = Session()
    agent.speaks()
    assert agent.waits(3.9) == []
    assert agent.waits(0.2) == over(1)


def test_the_next_reply_ends_the_one_before():
    agent = Session()
    agent.begins("r1")
    assert agent.talk("preparing") == over(1)
    assert agent.told("assistant", "created", response_id="r2") == []
    (audio,) = agent.speaks()
    assert isinstance(audio, AgentAudio)
    assert audio.reply == 2


def test_the_last_words_of_a_reply_may_come_while_the_next_one_runs():
    agent = Session()
    agent.begins("r1")
    agent.begins("r2")
    late = agent.told("assistant", "completed", response_id="r1", content="All of it.")
    assert late == [AgentTranscript(one(1), "All of it.")]


def test_text_long_before_its_speech_is_the_same_reply():
    agent = Session()
    agent.told("assistant", "created", response_id="r")
    agent.told("assistant", "completed", response_id="r", content="Good day.")
    assert agent.waits(2) == []
    agent.talk("preparing")
    agent.talk("started")
    assert agent.speaks() == [AgentAudio(one(1), SPEECH, agent.now_ns)]
    assert agent.talk("ended") == over(1)


def test_an_agent_that_thinks_is_given_its_time():
    agent = Session()
    agent.talk("preparing")
    agent.told("assistant", "created", response_id="r")
    assert agent.waits(30) == []
    assert agent.speaks() == [AgentAudio(one(1), SPEECH, agent.now_ns)]


def test_a_reply_without_audio_has_no_end_of_audio():
    agent = Session(modality="text")
    agent.told("assistant", "delta", response_id="r", content="Words")
    agent.told("assistant", "completed", response_id="r", content="Words.")
    assert agent.waits(5) == [ReplyDone(one(1), ReplyStatus.COMPLETED)]


def test_a_failed_reply_says_why():
    agent = Session()
    agent.begins("r")
    failed = agent.told("assistant", "failed", response_id="r", error={"code": "quota", "message": "m"})
    assert failed == [ReplyAudioDone(one(1)), ReplyDone(one(1), ReplyStatus.FAILED, "quota")]


def test_older_message_shape_is_understood():
    agent = Session()
    assert agent.receives("message_received", role="user", action="completed", content="Hi.") == [
        CallerTranscript("Hi.")
    ]


def test_the_session_marker_is_skipped():
    assert Session().receives("message_received", message={"type": "session", "role": "assistant"}) == []


def test_an_empty_transcript_is_none():
    agent = Session()
    agent.told("user", "speech_started")
    assert agent.told("user", "completed", content="") == [CallerStoppedSpeaking(agent.now_ns)]


# -- interruption

SIGNS = {
    "speech_started": lambda agent: agent.receives("speech_started"),
    "user speech_started": lambda agent: agent.told("user", "speech_started"),
    "user interrupted": lambda agent: agent.told("user", "interrupted"),
    "assistant cancelled": lambda agent: agent.told("assistant", "cancelled", response_id="resp_1"),
    "assistant canceled": lambda agent: agent.told("assistant", "canceled"),
    "talk canceled": lambda agent: agent.talk("canceled"),
    "talk cancelled": lambda agent: agent.receives("talk_state_changed", talk_state="cancelled"),
}


def flushes(events: list[AgentEvent]) -> int:
    return sum(
        isinstance(event, AgentInterrupted) or (isinstance(event, CallerStartedSpeaking) and event.interrupts)
        for event in events
    )


@pytest.mark.parametrize("first", SIGNS)
def test_any_sign_of_an_interruption_flushes_and_all_of_them_flush_once(first):
    agent = Session()
    agent.begins()
    events = SIGNS[first](agent)
    assert flushes(events) == 1
    for sign in SIGNS.values():
        events += sign(agent)
    assert flushes(events) == 1
    assert sum(isinstance(event, CallerStartedSpeaking) for event in events) == 1
    assert [event for event in events if isinstance(event, ReplyDone)] == [
        ReplyDone(one(1), ReplyStatus.CANCELLED)
    ]
    assert not any(isinstance(event, ReplyAudioDone) for event in events)


@pytest.mark.parametrize("first", SIGNS)
def test_audio_of_the_cut_reply_is_dropped_however_late_it_comes(first):
    agent = Session()
    agent.begins()
    SIGNS[first](agent)
    assert agent.speaks() == []
    agent.waits(7)
    assert agent.speaks() == []
    (audio,) = [event for event in agent.begins("resp_2") if isinstance(event, AgentAudio)]
    assert audio.reply == 2


@pytest.mark.parametrize("begin", ["preparing", "started", "created"])
def test_each_sign_of_a_new_reply_lets_audio_through_again(begin):
    agent = Session()
    agent.begins()
    agent.told("user", "speech_started")
    events = agent.told("assistant", "created", response_id="r2") if begin == "created" else agent.talk(begin)
    assert events == [CallerStoppedSpeaking(agent.now_ns), ReplyDone(one(1), ReplyStatus.CANCELLED)]
    assert agent.speaks() == [AgentAudio(one(2), SPEECH, agent.now_ns)]


def test_an_api_that_announces_nothing_is_heard_again_after_a_pause():
    agent = Session()
    agent.speaks()
    agent.receives("speech_started")
    for _ in range(5):
        agent.waits(0.1)
        assert agent.speaks() == []
    agent.waits(0.4)
    events = agent.speaks()
    assert AgentAudio(one(2), SPEECH, agent.now_ns) in events


def test_the_second_interruption_flushes_again():
    agent = Session()
    for number in (1, 2):
        agent.begins(f"r{number}")
        assert flushes(agent.receives("speech_started")) == 1
        agent.told("user", "completed", content="Wait.")


def test_a_caller_who_goes_on_for_long_without_an_answer_is_heard_each_time():
    agent = Session()
    assert flushes(agent.receives("speech_started")) == 1
    agent.waits(3)
    assert flushes(agent.receives("speech_started")) == 1


def test_the_late_end_of_an_older_reply_does_not_cut_the_new_one():
    agent = Session()
    agent.begins("r1")
    agent.begins("r2")
    assert agent.told("assistant", "cancelled", response_id="r1") == []
    assert agent.speaks() == [AgentAudio(one(2), SPEECH, agent.now_ns)]


def test_speech_that_was_generated_to_its_end_can_still_be_interrupted():
    agent = Session()
    agent.begins()
    agent.told("assistant", "completed", response_id="resp_1", content="Long.")
    agent.talk("ended")
    assert agent.receives("speech_started") == [CallerStartedSpeaking(agent.now_ns, interrupts=True)]


def test_the_callers_turn_ends_with_its_transcript_or_the_answer():
    agent = Session()
    agent.receives("speech_started")
    assert agent.talk("preparing") == [CallerStoppedSpeaking(agent.now_ns)]
    assert agent.told("user", "completed", content="Hi.") == [CallerTranscript("Hi.")]


def test_what_was_heard_is_of_no_interest_to_this_api():
    agent = Session()
    agent.begins()
    agent.protocol.report_heard([Heard(one(1), 100, 100, 8000)])
    assert agent.sent() == []


def test_a_cut_by_command_is_told_to_the_api_and_drops_the_rest():
    agent = Session()
    agent.begins()
    agent.protocol.interrupt()
    (message,) = agent.sent()
    assert message["data"]["trigger_response"] is False
    assert message["data"]["delay"] is False
    assert agent.speaks() == []
    assert agent.told("assistant", "cancelled", response_id="resp_1") == [
        ReplyDone(one(1), ReplyStatus.CANCELLED)
    ]


def test_with_nothing_being_said_there_is_nothing_to_cut():
    agent = Session()
    agent.protocol.interrupt()
    assert agent.sent() == []


def test_without_barge_in_silence_goes_up_for_as_long_as_the_agent_speaks():
    agent = Session(barge_in=False)
    caller = b"\x11" * 320

    def goes_up() -> bytes:
        message = json.loads(agent.protocol.audio(caller) or b"")
        return base64.b64decode(message["data"]["data"])

    assert goes_up() == caller
    agent.speaks(bytes(640))
    assert [goes_up(), goes_up(), goes_up()] == [bytes(320), bytes(320), caller]
    agent.speaks(bytes(640))
    agent.protocol.update(NeutralSettings(barge_in=True), {})
    assert goes_up() == caller


# -- text


@pytest.mark.parametrize(
    ("role", "respond", "message"),
    [
        (TextRole.CALLER, True, system("x", role="user", respond=True, delay=True)),
        (TextRole.CALLER, False, system("x", role="user", respond=False, delay=True)),
        (TextRole.CONTEXT, True, system("x", respond=True, delay=True)),
        (TextRole.CONTEXT, False, system("x", respond=False, delay=True)),
    ],
)
def test_a_text_interrupts_nobody(role, respond, message):
    agent = Session()
    agent.protocol.send_text("x", role=role, respond=respond)
    assert agent.sent() == [message]


def test_say_and_request_reply_are_messages_that_wait():
    agent = Session()
    agent.protocol.say("We close at six.")
    agent.protocol.request_reply("Ask for the date.")
    agent.protocol.request_reply(None)
    assert agent.sent() == [
        system("say exactly this once: We close at six.", respond=True, delay=True),
        system("Ask for the date.", respond=True, delay=True),
        system("Speak to the caller now.", respond=True, delay=True),
    ]


# -- tools


def calls(agent: Session, **fields: Any) -> list[AgentEvent]:
    return agent.receives(
        "function_implicitly_called", **{"call_id": "c1", "name": "book", "arguments": {"day": 1}, **fields}
    )


def test_a_tool_call_is_told_once():
    agent = Session()
    assert calls(agent) == [ToolCall("c1", "book", '{"day":1}')]
    assert calls(agent) == []
    assert calls(agent, call_id="c2", arguments='{"day": 2}') == [ToolCall("c2", "book", '{"day": 2}')]


@pytest.mark.parametrize(
    ("output", "failed", "sent"),
    [
        ('{"free": true}', False, {"free": True}),
        ("[1, 2]", False, {"result": [1, 2]}),
        ("booked", False, {"result": "booked"}),
        ("NaN", False, {"result": "NaN"}),
        ("unknown_function", True, {"ok": False, "error": "unknown_function"}),
        ('{"why": "full"}', True, {"ok": False, "error": {"why": "full"}}),
    ],
)
def test_a_result_goes_back_as_an_object(output, failed, sent):
    agent = Session()
    calls(agent)
    agent.protocol.tool_result("c1", output, failed=failed)
    data = {"call_id": "c1", "output": sent, "delay": False}
    assert agent.sent() == [{"type": "send_function_output", "data": data}]


def test_a_result_can_be_sent_as_a_string():
    agent = Session(output_as_string=True)
    calls(agent)
    agent.protocol.tool_result("c1", '{"free": true}', failed=False)
    assert agent.sent()[0]["data"]["output"] == '{"free":true}'


def test_unknown_and_answered_calls_get_nothing():
    agent = Session()
    calls(agent)
    agent.protocol.tool_result("c1", "1", failed=False)
    agent.sent()
    agent.protocol.tool_result("c1", "2", failed=False)
    agent.protocol.tool_result("c9", "3", failed=False)
    assert agent.sent() == []


def test_slow_work_is_put_off_in_time_and_told_by_a_message_later():
    agent = Session()
    calls(agent)
    agent.waits(7.4)
    assert agent.sent() == []
    agent.waits(0.2)
    (interim,) = agent.sent()
    assert interim["type"] == "send_function_output"
    assert interim["data"]["output"]["status"] == "pending"
    agent.waits(20)
    agent.protocol.tool_result("c1", '{"free": true}', failed=False)
    (message,) = agent.sent()
    assert message["type"] == "send_message"
    assert message["data"]["trigger_response"] is True
    assert '{"free": true}' in message["data"]["text"]


@pytest.mark.parametrize("named", [True, False])
def test_a_call_that_the_api_gave_up_is_cancelled_and_its_late_result_dropped(named):
    agent = Session()
    calls(agent)
    data = {"call_id": "c1"} if named else {}
    assert agent.receives("function_call_timeout", **data) == [ToolCallCancelled("c1")]
    assert agent.receives("function_call_timeout", **data) == []
    agent.protocol.tool_result("c1", "1", failed=False)
    agent.waits(10)
    assert agent.sent() == []


# -- updates


def test_an_update_is_set_settings_and_acknowledged_when_sent():
    agent = Session()
    agent.protocol.update(NeutralSettings(instructions="Be brief.", temperature=0.3), {})
    assert agent.protocol.time_passed(now_ns=agent.now_ns) == []
    assert agent.sent() == [
        {"type": "set_settings", "data": {"instructions": "Be brief.", "temperature": 0.3}}
    ]
    assert agent.protocol.deadline_ns() == agent.now_ns
    assert agent.waits(0) == [SessionUpdated(agent.now_ns)]
    assert agent.waits(0.5) == []


def test_turn_detection_is_sent_whole_for_a_key_replaces_what_was_there():
    agent = Session(providerConfig={**VOICE, "settings": {"turnDetection": {"threshold": 0.9}}})
    agent.protocol.update(NeutralSettings.model_validate({"turn_detection": {"silence_ms": 800}}), {})
    assert agent.sent() == [
        {
            "type": "set_settings",
            "data": {"turn_detection": {"threshold": 0.9, "silence_duration_ms": 800}},
        }
    ]


def test_vendor_fields_win_over_neutral_ones_and_raw_goes_last():
    agent = Session()
    vendor = {
        "providerConfig": {"settings": {"instructions": "Vendor."}},
        "raw": {"temperature": 0.1, "new_field": True},
    }
    agent.protocol.update(NeutralSettings(instructions="Neutral.", temperature=0.5), vendor)
    assert agent.sent()[0]["data"] == {"instructions": "Vendor.", "temperature": 0.1, "new_field": True}


@pytest.mark.parametrize(
    ("neutral", "vendor", "key"),
    [
        ({"voice": "echo"}, {}, "voice"),
        ({"language": "de"}, {}, "language"),
        ({"tools": []}, {}, "tools"),
        ({"noise_reduction": "near_field"}, {}, "noise_reduction"),
        ({"key_terms": ["Ann"]}, {}, "key_terms"),
        ({"turn_detection": {"mode": "semantic"}}, {}, "turn_detection.mode"),
        ({}, {"providerConfig": {"voiceId": "echo"}}, "providerConfig.voiceId"),
        (
            {},
            {"providerConfig": {"settings": {"noiseReduction": {"type": "farField"}}}},
            "providerConfig.settings.noiseReduction",
        ),
        ({}, {"companionId": "c2"}, "companionId"),
        ({}, {"tags": {}}, "tags"),
        ({}, {"nonsense": 1}, "nonsense"),
        ({}, {"providerConfig": {"settings": {"temperature": 3}}}, "providerConfig.settings.temperature"),
        ({}, {"providerConfig": "alloy"}, "providerConfig"),
    ],
)
def test_what_cannot_change_is_refused_before_anything_is_sent(neutral, vendor, key):
    agent = Session()
    with pytest.raises(UpdateImpossible) as refusal:
        agent.protocol.update(NeutralSettings.model_validate({"temperature": 0.2, **neutral}), vendor)
    assert refusal.value.key == key
    assert agent.sent() == []
    assert agent.waits(0.5) == []


def test_barge_in_may_change_and_needs_no_message():
    agent = Session()
    agent.protocol.update(NeutralSettings(barge_in=False), {})
    assert agent.sent() == []
    assert agent.waits(0) == [SessionUpdated(agent.now_ns)]


def test_an_agents_session_gets_its_changeable_settings_by_command():
    settings = {"instructions": "Be brief.", "temperature": 0.4, "turnDetection": {"threshold": 0.95}}
    agent = Session(agent_id="agent_1", providerConfig={"settings": settings})
    assert agent.sent() == [
        {
            "type": "set_settings",
            "data": {"instructions": "Be brief.", "temperature": 0.4, "turn_detection": {"threshold": 0.95}},
        }
    ]
    assert agent.waits(0.5) == []


# -- warnings, errors, unknown things


def test_an_idle_warning_tells_how_long_is_left_and_is_answered_with_audio():
    agent = Session()
    assert agent.receives("avatar_connection_warning", disconnect_after=60) == [SessionExpiring(60.0)]
    assert agent.sent_silence() == 1


def test_rate_limits_near_are_a_warning():
    assert Session().receives("reaching_rate_limits") == [AgentWarning("reaching_rate_limits", "")]


@pytest.mark.parametrize(
    ("data", "event"),
    [
        ({"code": "c", "message": "m"}, AgentError("c", "m")),
        ({"error": {"code": "c", "message": "m"}}, AgentError("c", "m")),
        ({"error": "c"}, AgentError("c", "")),
        ({}, AgentError("unknown", "")),
    ],
)
def test_an_error_is_not_fatal_whatever_its_shape(data, event):
    agent = Session()
    assert agent.receives("error", **data) == [event]
    assert agent.protocol.closed(1006, "").may_reconnect


@pytest.mark.parametrize(
    "message",
    ['{"event": "brand_new", "data": {}}', '{"type": "brand_new"}', b"\x00\x01"],
)
def test_unknown_messages_are_told_as_unknown(message):
    (event,) = Session().protocol.receive(message, now_ns=0)
    assert isinstance(event, Unknown)


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        '{"data": {}}',
        '{"event": 7}',
        '{"event": "audio_received", "data": {}}',
        '{"event": "audio_received", "data": {"data": "…"}}',
        '{"event": "function_implicitly_called", "data": {"name": "x"}}',
        '{"event": "avatar_connection_warning", "data": {"disconnect_after": "soon"}}',
    ],
)
def test_what_breaks_the_contract_is_told_and_nothing_more(message):
    (event,) = Session().protocol.receive(message, now_ns=0)
    assert isinstance(event, BadMessage)


def test_ui_updates_are_nobodys_business_here():
    assert Session().receives("ui_update", anything={"a": 1}) == []


# -- the end


def test_session_expired_ends_so_that_a_new_one_may_carry_on():
    agent = Session()
    assert agent.receives("session_expired") == [SessionExpiring(0.0)]
    end = agent.protocol.closed(1000, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_LOST, True)
    assert agent.protocol.afterword() is None


def test_without_credits_the_end_is_final():
    agent = Session()
    assert agent.receives("no_credits_left") == [AgentError("no_credits_left", "", at_setup=True)]
    end = agent.protocol.closed(None, "given up")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert "no_credits_left" in end.detail
    assert agent.protocol.afterword() is None


@pytest.mark.parametrize("code", ["invalid_voice", "invalid_credentials", "instructions_too_long"])
def test_an_abort_by_our_configuration_is_final(code):
    agent = Session()
    (event,) = agent.receives("provider_connection_aborted", error={"code": code, "message": "m"})
    assert event == AgentError(f"provider_connection_aborted: {code}", "m", at_setup=True)
    end = agent.protocol.closed(1000, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert code in end.detail
    assert agent.protocol.afterword() is None


def test_an_abort_by_a_broken_connection_is_worth_another_try():
    agent = Session()
    (event,) = agent.receives("provider_connection_aborted", error={"code": "connection_failed"})
    assert event == AgentError("provider_connection_aborted: connection_failed", "")
    end = agent.protocol.closed(1000, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_LOST, True)


@pytest.mark.parametrize(
    ("code", "reason", "ending", "may_reconnect"),
    [
        (None, "", Ending.AGENT_LOST, True),
        (1000, "", Ending.AGENT_HUNG_UP, False),
        (1005, "", Ending.AGENT_HUNG_UP, False),
        (1001, "", Ending.AGENT_LOST, True),
        (1006, "", Ending.AGENT_LOST, True),
        (1011, "", Ending.AGENT_LOST, True),
        (1012, "", Ending.AGENT_LOST, True),
        (4321, "", Ending.AGENT_LOST, True),
        (1007, "", Ending.AGENT_LOST, False),
        (1008, "", Ending.AGENT_LOST, False),
        (4401, "", Ending.AGENT_LOST, False),
        (1000, "application_shutdown", Ending.AGENT_LOST, True),
        (1000, "session_expired", Ending.AGENT_LOST, True),
        (1011, "idle_timeout", Ending.AGENT_HUNG_UP, False),
        (1011, "no_credits_left", Ending.AGENT_LOST, False),
    ],
)
def test_close_codes(code, reason, ending, may_reconnect):
    end = Session().protocol.closed(code, reason)
    assert (end.ending, end.may_reconnect) == (ending, may_reconnect)
    assert reason in end.detail


@pytest.mark.parametrize(
    ("code", "ending"),
    [(None, Ending.AGENT_UNREACHABLE), (1000, Ending.AGENT_UNREACHABLE), (1008, Ending.AGENT_REFUSED)],
)
def test_close_codes_before_the_session_was_ready(code, ending):
    agent = Session(ready=False)
    agent.connects()
    assert agent.protocol.closed(code, "").ending is ending


def test_a_close_after_an_idle_warning_says_so():
    agent = Session()
    agent.receives("avatar_connection_warning", disconnect_after=10)
    assert "idle" in agent.protocol.closed(1000, "").detail


@pytest.mark.parametrize(
    ("status", "ending", "may_reconnect"),
    [
        (401, Ending.AGENT_REFUSED, False),
        (404, Ending.AGENT_REFUSED, False),
        (429, Ending.AGENT_UNREACHABLE, True),
        (503, Ending.AGENT_UNREACHABLE, True),
    ],
)
def test_an_upgrade_that_is_refused(status, ending, may_reconnect):
    end = Session().protocol.refused(status)
    assert (end.ending, end.may_reconnect) == (ending, may_reconnect)


# -- afterwards


def test_the_sessions_place_is_given_back_when_we_or_the_network_end_it():
    for lost in (False, True):
        agent = Session()
        if lost:
            agent.protocol.closed(None, "")
        request = agent.protocol.afterword()
        assert request is not None
        assert (request.method, request.json) == ("DELETE", None)
        assert request.url == "https://companion-api.napster.com/public/connections/conn_1"
        assert request.headers == {"X-Api-Key": "key-secret"}


def test_nothing_is_deleted_that_the_api_has_ended_or_never_made():
    agent = Session()
    agent.protocol.closed(1000, "")
    assert agent.protocol.afterword() is None
    assert Session(ready=False).protocol.afterword() is None


def test_a_successor_knows_the_conversation_and_does_not_greet():
    agent = Session(ready=False, raw={"initialSpeech": "Hello again."})
    agent.protocol.greet(Greeting("Hello."))
    agent.connects()
    agent.receives("avatar_state_changed", state="ready")
    agent.begins()
    agent.protocol.update(NeutralSettings(instructions="By now."), {"raw": {"new_field": 1}})
    agent.protocol.closed(1006, "")
    heir = agent.protocol.successor([Said(True, "I want two."), Said(False, "Two it is.")])
    assert isinstance(heir, Companion)
    after = Session(protocol=heir)
    assert "initialSpeech" not in after.body
    assert "new_field" not in after.body
    assert after.body["providerConfig"]["settings"]["instructions"] == "By now."
    command, message = after.sent()
    assert command == {"type": "set_settings", "data": {"new_field": 1}}
    assert message["data"]["trigger_response"] is False
    assert "Caller: I want two.\nYou: Two it is." in message["data"]["text"]
    (audio,) = [event for event in after.begins() if isinstance(event, AgentAudio)]
    assert audio.reply == 2


def test_what_is_asked_while_there_is_no_session_goes_to_the_next_successor():
    heir = Session().protocol.successor([])
    assert isinstance(heir, Companion)
    heir.send_text("[DTMF] 1", role=TextRole.CALLER, respond=True)
    next_heir = heir.successor([])
    assert isinstance(next_heir, Companion)
    assert Session(protocol=next_heir).sent() == [system("[DTMF] 1", role="user", respond=True, delay=True)]


def test_an_update_sent_just_before_the_connection_broke_is_told_by_the_next_session():
    agent = Session()
    agent.protocol.update(NeutralSettings(temperature=0.2), {})
    agent.sent()
    heir = agent.protocol.successor([])
    assert isinstance(heir, Companion)
    after = Session(protocol=heir)
    after.sent()
    assert after.waits(0.1) == [SessionUpdated(after.now_ns - SECOND // 10)]


def test_neither_key_nor_words_are_in_a_repr():
    agent = Session(
        providerConfig={"settings": {"instructions": "PROMPT"}},
        initialSpeech="PROMPT",
        externalClientProfile={"name": "PROMPT"},
    )
    shown = repr(agent.protocol) + repr(agent.protocol._settings) + repr(agent.protocol.next_step())
    assert "PROMPT" not in shown
    assert "key-secret" not in shown
    assert "t0" not in shown
