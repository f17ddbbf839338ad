"""The Deepgram session, rule by rule."""

from __future__ import annotations

import json

import pytest

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentLatency,
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
    ToolCall,
    ToolCallCancelled,
    Unknown,
)
from telbridge.call.ports import Greeting, TextRole
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.credentials import SecretMissing
from telbridge.sessions.deepgram.settings import DeepgramSettings
from tests.sessions.deepgram.bed import KEY, NOW_NS, DeepgramSession, opened

MS20 = b"\x7e" * 160
SILENCE = b"\xff" * 160
R1, R2, R3 = ReplyId(1), ReplyId(2), ReplyId(3)
STORED = "12345678-1234-1234-1234-123456789abc"
STARTED = CallerStartedSpeaking(NOW_NS, interrupts=True)
STOPPED = CallerStoppedSpeaking(NOW_NS)
DONE = ReplyStatus.COMPLETED
CUT = ReplyStatus.CANCELLED


def audio(reply: ReplyId, octets: bytes = MS20, at_ns: int = NOW_NS) -> AgentAudio:
    return AgentAudio(reply, octets, at_ns)


# ---------------------------------------------------------------- access


def test_the_key_goes_as_token():
    step = DeepgramSession(ready=False).protocol.next_step()
    assert step == ConnectRequest(
        "wss://agent.deepgram.com/v1/agent/converse", {"Authorization": f"Token {KEY}"}
    )
    assert KEY not in repr(step)


def test_a_token_made_elsewhere_goes_as_bearer():
    settings = DeepgramSettings.model_validate({"access_token": {"env": "JWT"}})
    step = opened(settings, environ={"JWT": "eyJ"}).next_step()
    assert isinstance(step, ConnectRequest)
    assert step.headers == {"Authorization": "Bearer eyJ"}


def test_a_missing_key_is_told_at_once_but_an_agent_on_this_machine_needs_none():
    with pytest.raises(SecretMissing, match="api_key: DEEPGRAM_API_KEY is not set"):
        opened(DeepgramSettings(), environ={})
    local = DeepgramSettings.model_validate({"url": "ws://127.0.0.1:9/v1/agent/converse", "grant": {}})
    assert opened(local, environ={}).next_step() == ConnectRequest("ws://127.0.0.1:9/v1/agent/converse")


def test_a_key_that_would_break_the_header_is_refused():
    with pytest.raises(SecretMissing, match="store the key"):
        opened(DeepgramSettings(), environ={"DEEPGRAM_API_KEY": "a\nb"})


def test_a_short_lived_token_is_fetched_for_each_connection():
    protocol = DeepgramSession(ready=False, grant={"ttl_seconds": 60}).protocol
    for _ in range(2):
        assert protocol.next_step() == HttpRequest(
            "POST",
            "https://api.deepgram.com/v1/auth/grant",
            {"Authorization": f"Token {KEY}"},
            {"ttl_seconds": 60},
        )
        protocol.http_answered(200, {}, b'{"access_token":"eyJ","expires_in":60}')
        step = protocol.next_step()
        assert isinstance(step, ConnectRequest)
        assert step.headers == {"Authorization": "Bearer eyJ"}
        successor = protocol.successor([])
        assert successor is not None
        protocol = successor


@pytest.mark.parametrize(
    ("status", "body", "ending", "again"),
    [
        (401, b"", Ending.AGENT_REFUSED, False),
        (503, b"", Ending.AGENT_UNREACHABLE, True),
        (None, b"", Ending.AGENT_UNREACHABLE, True),
        (200, b"nonsense", Ending.AGENT_UNREACHABLE, True),
        (200, b'{"access_token":"a b"}', Ending.AGENT_UNREACHABLE, False),
    ],
)
def test_no_token_is_the_end(status, body, ending, again):
    protocol = DeepgramSession(ready=False, grant={}).protocol
    protocol.next_step()
    protocol.http_answered(status, {}, body)
    step = protocol.next_step()
    assert isinstance(step, SessionEnd)
    assert (step.ending, step.may_reconnect) == (ending, again)


# ---------------------------------------------------------------- opening


def test_nothing_is_sent_before_welcome_and_no_audio_before_the_settings_are_applied():
    agent = DeepgramSession(ready=False)
    agent.protocol.connected(now_ns=NOW_NS)
    agent.protocol.say("One moment.")
    assert agent.sent() == []
    assert agent.protocol.audio(MS20) is None
    assert agent.receives("Welcome", request_id="r") == []
    assert [message["type"] for message in agent.sent()] == ["Settings"]
    assert agent.protocol.audio(MS20) is None
    assert agent.receives("SettingsApplied") == [SessionReady(NOW_NS)]
    assert [message["type"] for message in agent.sent()] == ["InjectAgentMessage"]
    assert agent.protocol.audio(MS20) is MS20


def test_settings_are_sent_once():
    agent = DeepgramSession()
    assert agent.receives("Welcome", request_id="r") == [BadMessage("Welcome: while ready")]
    assert agent.receives("SettingsApplied") == [BadMessage("SettingsApplied: while ready")]
    assert agent.sent() == []


def test_audio_before_the_settings_are_applied_is_a_bad_message():
    assert DeepgramSession(ready=False).speaks(MS20) == [BadMessage("audio while connecting")]


@pytest.mark.parametrize(("wire", "name"), [(PCMU_8K, "mulaw"), (PCMA_8K, "alaw")], ids=str)
def test_the_telephones_law_goes_through_untouched_both_ways(wire, name):
    agent = DeepgramSession(wire=wire)
    assert agent.settings_sent["audio"]["input"] == {"encoding": name, "sample_rate": 8000}
    assert agent.protocol.uplink_format == agent.protocol.downlink_format == wire
    assert not agent.protocol.uplink_is_text
    assert agent.speaks(MS20) == [audio(R1)]


# ---------------------------------------------------------------- greeting


def test_a_verbatim_greeting_goes_with_the_settings_and_replaces_theirs():
    agent = DeepgramSession(ready=False, agent={"greeting": "Hi."})
    agent.protocol.greet(Greeting("Good morning."))
    agent.becomes_ready()
    assert agent.settings_sent["agent"]["greeting"] == "Good morning."
    assert agent.sent() == []


def test_without_another_one_the_greeting_of_the_settings_is_spoken():
    assert DeepgramSession(agent={"greeting": "Hi."}).settings_sent["agent"]["greeting"] == "Hi."


def test_a_greeting_in_the_agents_words_is_asked_for_once_the_session_is_ready():
    agent = DeepgramSession(ready=False, agent={"greeting": "Hi."})
    agent.protocol.greet(Greeting("Greet the caller in French.", verbatim=False))
    agent.becomes_ready()
    assert "greeting" not in agent.settings_sent["agent"]
    (asked,) = agent.sent()
    assert asked["type"] == "InjectUserMessage"
    assert asked["content"].endswith("Greet the caller in French.")


@pytest.mark.parametrize("stored", [True, False])
def test_a_greeting_that_comes_late_or_for_a_stored_agent_is_injected(stored):
    agent = DeepgramSession(ready=False, **({"agent": STORED} if stored else {}))
    if not stored:
        agent.becomes_ready()
        agent.sent()
    agent.protocol.greet(Greeting("Good morning."))
    if stored:
        agent.becomes_ready()
    assert agent.sent() == [{"type": "InjectAgentMessage", "message": "Good morning.", "behavior": "queue"}]


# ---------------------------------------------------------------- replies


def test_a_reply_from_begin_to_end():
    agent = DeepgramSession()
    assert agent.speaks(MS20) == [audio(R1)]  # Seen live: the greeting's audio before its text.
    assert agent.says("Hello.") == [AgentTranscript(R1, "Hello.")]
    assert agent.says("How are you?") == [AgentTranscript(R1, "Hello. How are you?")]
    assert agent.receives("AgentAudioDone") == [ReplyAudioDone(R1), ReplyDone(R1, DONE)]
    assert agent.receives("AgentAudioDone") == []
    assert agent.says("Next.") == [AgentTranscript(R2, "Next.")]
    assert agent.speaks(MS20) == [audio(R2)]


def test_words_behind_all_the_audio_still_belong_to_their_reply():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.receives("AgentAudioDone")
    assert agent.says("Hello.") == [AgentTranscript(R1, "Hello.")]


def test_words_of_the_next_turn_never_belong_to_a_reply_before_it():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.receives("AgentAudioDone")
    agent.hears("Yes?")
    assert agent.says("Hello.") == [AgentTranscript(R2, "Hello.")]


def test_a_reply_without_audio_has_no_end_of_audio():
    agent = DeepgramSession()
    agent.says("Hm.")
    assert agent.receives("AgentAudioDone") == [ReplyDone(R1, DONE)]


def test_a_reply_of_ten_seconds_may_come_in_one_message():
    assert DeepgramSession().speaks(MS20 * 500) == [audio(R1, MS20 * 500)]


def test_half_a_sample_waits_for_its_rest_and_not_for_the_next_reply():
    linear = {"audio": {"output": {"encoding": "linear16", "sample_rate": 8000}}}
    agent = DeepgramSession(**linear)
    assert agent.speaks(b"\x01\x02\x03") == [audio(R1, b"\x01\x02")]
    assert agent.speaks(b"\x04\x05") == [audio(R1, b"\x03\x04")]
    agent.receives("AgentAudioDone")
    assert agent.speaks(b"\x06\x07") == [audio(R2, b"\x06\x07")]


# ---------------------------------------------------------------- barge-in


def interrupted() -> DeepgramSession:
    agent = DeepgramSession()
    agent.says("A long story.")
    agent.speaks(MS20)
    assert agent.caller_starts() == [STARTED, ReplyDone(R1, CUT)]
    return agent


def test_late_audio_of_an_interrupted_reply_is_dropped_and_its_end_is_no_event():
    agent = interrupted()
    assert agent.speaks(MS20) == []
    assert agent.receives("AgentAudioDone") == []
    assert agent.speaks(MS20) == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ConversationText", {"role": "user", "content": "Stop."}),
        ("EndOfTurn", {"trigger": "model"}),
        ("AgentThinking", {"content": "…"}),
        ("AgentStartedSpeaking", {"total_latency": 1.0}),
        (
            "FunctionCallRequest",
            {"functions": [{"id": "c", "name": "n", "arguments": "{}", "client_side": False}]},
        ),
    ],
)
def test_the_next_turn_lets_audio_through_again(kind, fields):
    agent = interrupted()
    agent.receives(kind, **fields)
    assert agent.speaks(MS20) == [audio(R2)]


def test_words_of_the_interrupted_reply_do_not_let_its_audio_through():
    agent = interrupted()
    assert agent.says("Once upon a time.") == [AgentTranscript(R1, "A long story. Once upon a time.")]
    assert agent.speaks(MS20) == []


def test_a_cough_that_becomes_no_turn_does_not_leave_the_agent_dumb():
    agent = interrupted()
    agent.later(2000)
    assert agent.speaks(MS20) == [audio(R2, at_ns=agent.now_ns)]


def test_a_reply_sent_in_full_is_interrupted_all_the_same():
    agent = DeepgramSession()
    agent.speaks(MS20 * 100)
    agent.receives("AgentAudioDone")
    assert agent.caller_starts() == [STARTED]
    assert agent.speaks(MS20) == [audio(R2)]  # Nothing was under way: nothing is dropped.


def test_the_caller_may_start_several_times_before_anything_is_said():
    agent = DeepgramSession()
    assert agent.caller_starts() == [STARTED]
    assert agent.caller_starts() == [STARTED]
    assert agent.hears("Hello?") == [STOPPED, CallerTranscript("Hello?")]


@pytest.mark.parametrize("flux", [True, False])
def test_the_end_of_the_callers_turn_is_told_once(flux):
    agent = DeepgramSession()
    agent.caller_starts()
    if flux:
        assert agent.receives("EndOfTurn", trigger="model") == [STOPPED]
        assert agent.hears("Yes.") == [CallerTranscript("Yes.")]
    else:
        assert agent.hears("Yes.") == [STOPPED, CallerTranscript("Yes.")]


def test_where_the_caller_may_not_interrupt_they_are_not_heard_while_the_agent_is():
    agent = DeepgramSession(barge_in=False)
    agent.speaks(MS20 * 2)
    assert agent.protocol.audio(MS20) == SILENCE
    assert agent.protocol.audio(MS20) == SILENCE
    assert agent.protocol.audio(MS20) is MS20


def test_where_the_caller_may_not_interrupt_what_came_of_a_stopped_reply_is_played():
    agent = DeepgramSession(barge_in=False)
    agent.speaks(MS20)
    assert agent.caller_starts() == [
        CallerStartedSpeaking(NOW_NS, interrupts=False),
        ReplyAudioDone(R1),
        ReplyDone(R1, CUT),
    ]


def test_audio_that_was_heard_long_ago_mutes_nobody_when_barge_in_is_switched_off():
    agent = DeepgramSession()
    agent.speaks(MS20 * 2)
    for _ in range(2):
        assert agent.protocol.audio(MS20) is MS20
    agent.protocol.update(_neutral(barge_in=False), {})
    assert agent.protocol.audio(MS20) is MS20


# ---------------------------------------------------------------- what the call asks


def _neutral(**fields: object) -> NeutralSettings:
    return NeutralSettings.model_validate(fields)


def test_exact_words_wait_for_the_agents_own():
    agent = DeepgramSession()
    agent.protocol.say("Please hold.")
    assert agent.sent() == [{"type": "InjectAgentMessage", "message": "Please hold.", "behavior": "queue"}]


def test_exact_words_refused_while_the_caller_speaks_are_said_over_them():
    agent = DeepgramSession()
    agent.protocol.say("Please hold.")
    agent.sent()
    assert agent.receives("InjectionRefused", message="user is speaking") == []
    assert agent.sent() == [
        {"type": "InjectAgentMessage", "message": "Please hold.", "behavior": "interrupt"}
    ]
    assert agent.receives("InjectionRefused") == [AgentWarning("InjectionRefused", "")]
    assert agent.sent() == []


def test_words_that_were_spoken_are_not_taken_for_refused():
    agent = DeepgramSession()
    agent.protocol.say("One.")
    agent.says("One.")
    agent.sent()
    assert agent.receives("InjectionRefused", message="m") == [AgentWarning("InjectionRefused", "m")]


def test_an_interruption_by_command_drops_the_rest_of_the_reply():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.protocol.interrupt()
    assert agent.sent() == []  # There is no message for it.
    agent.later(60_000)
    assert agent.speaks(MS20) == []
    assert agent.receives("AgentAudioDone") == [ReplyDone(R1, ReplyStatus.CANCELLED)]
    assert agent.speaks(MS20) == [audio(R2, at_ns=agent.now_ns)]


def test_an_interruption_by_command_and_then_by_the_caller_is_over_when_theirs_is():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.protocol.interrupt()
    assert agent.caller_starts() == [STARTED, ReplyDone(R1, ReplyStatus.CANCELLED)]
    assert agent.speaks(MS20) == []
    agent.later(2000)
    assert agent.speaks(MS20) == [audio(R2, at_ns=agent.now_ns)]


def test_an_interruption_while_nothing_is_said_drops_nothing():
    agent = DeepgramSession()
    agent.protocol.interrupt()
    assert agent.speaks(MS20) == [audio(R1)]


def test_words_said_after_an_interruption_by_command_stop_the_api_too():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.protocol.interrupt()
    agent.protocol.say("Goodbye.")
    assert agent.sent()[0]["behavior"] == "interrupt"
    assert agent.speaks(MS20) == []  # Still under way.
    agent.later(200)
    cut = ReplyDone(R1, ReplyStatus.CANCELLED)
    assert agent.speaks(MS20) == [cut, audio(R2, at_ns=agent.now_ns)]


def test_text_as_the_callers_is_answered_and_its_echo_is_not_theirs():
    agent = DeepgramSession()
    agent.protocol.send_text("5", role=TextRole.CALLER, respond=True)
    assert agent.sent() == [{"type": "InjectUserMessage", "content": "5"}]
    assert agent.hears("5") == []
    assert agent.receives("EndOfTurn", trigger="manual") == []
    assert agent.hears("5") == [CallerTranscript("5")]


@pytest.mark.parametrize(
    ("role", "prompt"), [(TextRole.CONTEXT, "VIP."), (TextRole.CALLER, "The caller: VIP.")]
)
def test_text_that_wants_no_answer_is_put_behind_the_prompt(role, prompt):
    agent = DeepgramSession()
    agent.protocol.send_text("VIP.", role=role, respond=False)
    assert agent.sent() == [{"type": "UpdatePrompt", "prompt": prompt}]
    assert agent.receives("PromptUpdated") == []


def test_context_known_before_the_start_goes_with_the_settings():
    agent = DeepgramSession(
        ready=False, agent={"think": {"provider": {"type": "open_ai", "model": "m"}, "prompt": "Be kind."}}
    )
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.becomes_ready()
    assert agent.settings_sent["agent"]["think"]["prompt"] == "Be kind.\n\nVIP."
    assert agent.sent() == []


def test_context_that_comes_between_settings_and_their_answer_follows_them():
    agent = DeepgramSession(ready=False)
    agent.receives("Welcome")
    agent.sent()
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.receives("SettingsApplied")
    assert agent.sent() == [{"type": "UpdatePrompt", "prompt": "VIP."}]


def test_a_reply_now_is_asked_for_in_a_users_turn_that_nobody_said():
    agent = DeepgramSession()
    agent.protocol.request_reply("Ask for the name.")
    agent.protocol.request_reply(None)
    agent.protocol.send_text("Line is bad.", role=TextRole.CONTEXT, respond=True)
    asked = agent.sent()
    assert [one["type"] for one in asked] == ["InjectUserMessage"] * 3
    assert "Ask for the name." in asked[0]["content"]
    assert all(one["content"].startswith("[Not said by the caller]") for one in asked)
    assert agent.hears(asked[0]["content"]) == []


def test_while_the_caller_speaks_flux_is_told_that_the_turn_is_over():
    agent = DeepgramSession()
    agent.caller_starts()
    agent.protocol.request_reply(None)
    assert agent.sent() == [{"type": "ForceEndTurn"}]


def test_nova_cannot_be_told_that_the_turn_is_over():
    agent = DeepgramSession(agent={"listen": {"provider": {"model": "nova-3"}}})
    agent.caller_starts()
    agent.protocol.request_reply(None)
    assert agent.sent()[0]["type"] == "InjectUserMessage"


def test_what_was_heard_interests_nobody():
    agent = DeepgramSession()
    agent.protocol.report_heard([])
    assert agent.sent() == []


# ---------------------------------------------------------------- tools


def test_a_tool_call_and_its_result():
    agent = DeepgramSession()
    assert agent.calls("c1", "balance") == [ToolCall("c1", "balance", '{"a":1}')]
    agent.protocol.tool_result("c1", '{"eur":3}', failed=False)
    assert agent.sent() == [
        {"type": "FunctionCallResponse", "id": "c1", "name": "balance", "content": '{"eur":3}'}
    ]
    assert agent.receives("FunctionCallResponse", id="c1", name="balance", content="x") == []
    agent.protocol.tool_result("c1", "again", failed=False)
    assert agent.sent() == []


def test_a_failed_tool_says_so_in_its_result():
    agent = DeepgramSession()
    agent.calls("c1")
    agent.protocol.tool_result("c1", "no such account", failed=True)
    assert json.loads(agent.sent()[0]["content"]) == {"error": "no such account"}


def test_a_function_that_deepgram_calls_itself_is_not_ours():
    assert DeepgramSession().calls("c1", client_side=False) == []


def test_arguments_that_come_as_an_object_are_understood():
    assert DeepgramSession().calls("c1", arguments={"a": 1}) == [ToolCall("c1", "balance", '{"a": 1}')]


def test_a_call_asked_for_twice_is_made_once():
    agent = DeepgramSession()
    agent.calls("c1")
    assert agent.calls("c1") == []


def test_a_thought_signature_goes_back_as_it_came():
    agent = DeepgramSession()
    agent.calls("c1", thought_signature="opaque")
    agent.protocol.tool_result("c1", "1", failed=False)
    assert agent.sent()[0]["thought_signature"] == "opaque"


def test_a_cancelled_call_gets_no_result():
    agent = DeepgramSession()
    agent.calls("c1")
    cancelled = [{"id": "c1", "name": "balance"}, {"id": "c9", "name": "balance"}]
    assert agent.receives("FunctionCallCancelled", functions=cancelled) == [ToolCallCancelled("c1")]
    agent.protocol.tool_result("c1", "late", failed=False)
    assert agent.sent() == []


# ---------------------------------------------------------------- keep-alive


def test_a_silent_line_is_kept_alive_and_one_with_audio_needs_nothing():
    agent = DeepgramSession()
    assert agent.protocol.deadline_ns() == NOW_NS + 4_000_000_000
    agent.protocol.audio(MS20)
    assert agent.later(4000) == []
    assert agent.sent() == []
    agent.later(3999)
    assert agent.sent() == []
    agent.later(1)
    assert agent.sent() == [{"type": "KeepAlive"}]
    agent.later(4000)
    assert agent.sent() == [{"type": "KeepAlive"}]


def test_before_the_session_is_ready_nothing_is_kept_alive():
    agent = DeepgramSession(ready=False)
    assert agent.protocol.deadline_ns() is None
    assert agent.later(60_000) == []
    assert agent.sent() == []


# ---------------------------------------------------------------- latency


def test_the_figures_of_a_turn_are_told_together_in_milliseconds():
    agent = DeepgramSession()
    agent.caller_starts()
    for _ in range(3):
        assert agent.receives("LatencyReport", stt_latency=0.02) == []
    agent.hears("Yes.")
    assert agent.receives("LatencyReport", ttt_token_latency=0.5) == []
    assert agent.receives("LatencyReport", tts_latency=0.125) == []
    assert agent.receives("LatencyReport", total_latency=0.75) == []
    agent.speaks(MS20)
    figures = {
        "stt_latency": 20.0,
        "ttt_token_latency": 500.0,
        "tts_latency": 125.0,
        "total_latency": 750.0,
    }
    assert agent.receives("AgentAudioDone")[-1] == AgentLatency(figures)
    assert agent.caller_starts() == [STARTED]


def test_figures_that_follow_the_audio_are_told_with_their_sum():
    agent = DeepgramSession()
    agent.speaks(MS20)
    agent.receives("AgentAudioDone")
    assert agent.receives("LatencyReport", tts_latency=0.25) == []
    assert agent.receives("LatencyReport", total_latency=0.5) == [
        AgentLatency({"tts_latency": 250.0, "total_latency": 500.0})
    ]


def test_a_turn_that_never_came_to_its_end_tells_what_it_has():
    agent = DeepgramSession()
    agent.receives("LatencyReport", ttt_token_latency=0.25)
    assert agent.caller_starts() == [STARTED, AgentLatency({"ttt_token_latency": 250.0})]


@pytest.mark.parametrize("odd", [None, "1", True, -1, 1e9, float("nan"), 10**400])
def test_a_figure_that_is_none_is_left_out(odd):
    agent = DeepgramSession()
    agent.receives("LatencyReport", tts_latency=odd)
    assert agent.caller_starts() == [STARTED]


# ---------------------------------------------------------------- strangeness


def test_a_warning_is_told_and_the_session_goes_on():
    agent = DeepgramSession()
    warned = agent.receives("Warning", code="SLOW_THINK_REQUEST", description="slow")
    assert warned == [AgentWarning("SLOW_THINK_REQUEST", "slow")]
    assert agent.protocol.audio(MS20) is MS20


def test_the_end_of_a_session_for_its_age_is_told_five_minutes_before():
    expiring = DeepgramSession().receives(
        "Warning", code="MAXIMUM_SESSION_LENGTH_APPROACHING", description=""
    )
    assert expiring == [SessionExpiring(300.0, of_age=True)]


@pytest.mark.parametrize("kind", ["EndOfTurnMaybe", "x" * 5000])
def test_an_unknown_type_is_named_and_cut_short(kind):
    assert DeepgramSession().receives(kind) == [Unknown(kind[:100])]


def test_what_tells_a_call_nothing_is_no_event():
    agent = DeepgramSession()
    assert agent.receives("History", role="user", content="Yes.") == []
    assert agent.receives("History", function_calls=[]) == []
    assert agent.receives("FrustrationDetected", count=1, escalated=False) == []
    assert agent.receives("__customFromThinkProvider", content={}) == []


@pytest.mark.parametrize("message", ["", "no json", "[]", "null", "[" * 50_000, "{}", '{"type":3}', "\ud800"])
def test_garbage_is_a_bad_message(message):
    (event,) = DeepgramSession().protocol.receive(message, now_ns=NOW_NS)
    assert isinstance(event, BadMessage)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ConversationText", {"role": "user"}),
        ("ConversationText", {"role": "system", "content": "x"}),
        ("FunctionCallRequest", {"functions": "x"}),
        ("FunctionCallRequest", {"functions": [1]}),
        ("FunctionCallRequest", {"functions": [{"id": "c", "name": "n", "arguments": 3}]}),
        ("FunctionCallCancelled", {"functions": [{"id": 3}]}),
    ],
)
def test_odd_fields_are_named_without_their_values(kind, fields):
    (event,) = DeepgramSession().receives(kind, **fields)
    assert isinstance(event, BadMessage)
    assert event.what.startswith(f"{kind}: `")


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("code", "ending", "again"),
    [
        (1000, Ending.AGENT_HUNG_UP, False),
        (1001, Ending.AGENT_LOST, True),
        (1005, Ending.AGENT_HUNG_UP, False),
        (1006, Ending.AGENT_LOST, True),
        (1008, Ending.AGENT_LOST, False),
        (1011, Ending.AGENT_LOST, True),
        (4321, Ending.AGENT_LOST, True),
        (None, Ending.AGENT_LOST, True),
    ],
)
def test_a_close_without_an_error_is_judged_by_its_code(code, ending, again):
    end = DeepgramSession().protocol.closed(code, "why")
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert "req-1" in end.detail  # What Deepgram's support asks for.


@pytest.mark.parametrize(("code", "again"), [(1000, False), (1011, True), (None, True)])
def test_the_end_of_a_session_that_never_was_ready_is_unreachable(code, again):
    end = DeepgramSession(ready=False).protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_UNREACHABLE, again)


@pytest.mark.parametrize(
    ("error", "ending", "again"),
    [
        ("INTERNAL_SERVER_ERROR", Ending.AGENT_LOST, True),
        ("ASR_CONNECTION_CLOSED", Ending.AGENT_LOST, True),
        ("SERVER_GOING_AWAY", Ending.AGENT_LOST, True),
        ("MAXIMUM_SESSION_LENGTH_REACHED", Ending.AGENT_LOST, True),
        ("CLIENT_MESSAGE_TIMEOUT", Ending.AGENT_LOST, True),
        ("SOMETHING_NEW", Ending.AGENT_LOST, True),
        ("FAILED_TO_THINK", Ending.AGENT_LOST, False),
        ("FAILED_TO_SPEAK", Ending.AGENT_LOST, False),
        ("UNPARSABLE_CLIENT_MESSAGE", Ending.AGENT_REFUSED, False),
        ("USER_AUDIO_FORMAT", Ending.AGENT_REFUSED, False),
    ],
)
@pytest.mark.parametrize("code", [1000, 1005, 1011, None])
def test_an_error_before_the_close_decides(error, ending, again, code):
    agent = DeepgramSession()
    assert agent.fails(error) == [AgentError(error, "words of the API")]
    end = agent.protocol.closed(code, "")
    assert (end.ending, end.may_reconnect) == (ending, again)
    assert error in end.detail


def test_an_error_that_the_session_survived_is_forgotten():
    agent = DeepgramSession()
    agent.fails("FAILED_TO_THINK")
    agent.hears("Under way.")
    assert agent.protocol.closed(1000, "").ending is Ending.AGENT_LOST
    agent.later(10_000)
    agent.caller_starts()
    assert agent.protocol.closed(1000, "").ending is Ending.AGENT_HUNG_UP


def test_a_refused_configuration_is_final_and_a_fault_of_the_server_is_not():
    agent = DeepgramSession(ready=False)
    agent.receives("Welcome")
    refused = agent.receives("Error", code="INVALID_SETTINGS", description="d")
    assert refused == [AgentError("INVALID_SETTINGS", "d", at_setup=True)]
    assert agent.protocol.closed(None, "given up") == SessionEnd(
        Ending.AGENT_REFUSED, "INVALID_SETTINGS; given up"
    )
    other = DeepgramSession(ready=False)
    assert other.fails("SERVER_GOING_AWAY") == [AgentError("SERVER_GOING_AWAY", "words of the API")]
    assert other.protocol.closed(1001, "").may_reconnect


def test_the_second_spelling_of_an_error_is_understood():
    assert DeepgramSession().receives("Error", err_code="X", err_msg="m") == [AgentError("X", "m")]
    assert DeepgramSession().receives("Error") == [AgentError("unknown", "")]


@pytest.mark.parametrize(
    ("status", "ending", "again"),
    [
        (400, Ending.AGENT_REFUSED, False),
        (401, Ending.AGENT_REFUSED, False),
        (402, Ending.AGENT_REFUSED, False),
        (403, Ending.AGENT_REFUSED, False),
        (404, Ending.AGENT_REFUSED, False),
        (418, Ending.AGENT_UNREACHABLE, False),
        (429, Ending.AGENT_UNREACHABLE, True),
        (503, Ending.AGENT_UNREACHABLE, True),
    ],
)
def test_an_http_status_instead_of_the_upgrade(status, ending, again):
    end = DeepgramSession(ready=False).protocol.refused(status)
    assert (end.ending, end.may_reconnect) == (ending, again)


def test_there_is_no_farewell():
    agent = DeepgramSession()
    assert agent.protocol.say_goodbye() is False
    assert agent.protocol.afterword() is None
    assert agent.sent() == []


# ---------------------------------------------------------------- carrying on

SAID = (Said(False, "Hello."), Said(True, "My name is Ann."), Said(True, ""))


def test_the_next_session_knows_what_was_said_and_does_not_greet_again():
    agent = DeepgramSession(ready=False, agent={"greeting": "Hello."})
    agent.protocol.greet(Greeting("Good morning."))
    agent.becomes_ready()
    agent.speaks(MS20)
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    agent.sent()
    following = agent.next_session(*SAID)
    assert "greeting" not in following.settings_sent["agent"]
    assert following.settings_sent["agent"]["context"] == {
        "messages": [
            {"type": "History", "role": "assistant", "content": "Hello."},
            {"type": "History", "role": "user", "content": "My name is Ann."},
        ]
    }
    assert following.settings_sent["agent"]["think"]["prompt"] == "VIP."
    assert following.speaks(MS20) == [audio(R2)]


def test_context_of_the_settings_stays_before_what_was_said():
    before = {"type": "History", "role": "user", "content": "Last week."}
    agent = DeepgramSession(agent={"context": {"messages": [before]}})
    messages = agent.next_session(Said(True, "Now.")).settings_sent["agent"]["context"]["messages"]
    assert [one["content"] for one in messages] == ["Last week.", "Now."]


def test_a_stored_agent_is_told_what_was_said_behind_its_prompt():
    agent = DeepgramSession(agent=STORED)
    following = agent.next_session(*SAID, ready=False)
    following.becomes_ready()
    assert following.settings_sent["agent"] == STORED
    assert following.sent() == [
        {
            "type": "UpdatePrompt",
            "prompt": "The conversation so far:\nYou: Hello.\nCaller: My name is Ann.",
        }
    ]


def test_a_session_that_never_was_ready_leaves_all_it_was_asked_to_the_next():
    agent = DeepgramSession(ready=False)
    agent.protocol.greet(Greeting("Good morning."))
    agent.receives("Welcome")
    agent.sent()
    agent.protocol.say("One moment.")
    agent.protocol.send_text("VIP.", role=TextRole.CONTEXT, respond=False)
    following = agent.next_session(ready=False)
    following.becomes_ready()
    assert following.settings_sent["agent"]["greeting"] == "Good morning."
    assert following.settings_sent["agent"]["think"]["prompt"] == "VIP."
    assert following.sent() == [{"type": "InjectAgentMessage", "message": "One moment.", "behavior": "queue"}]
    third = following.next_session()
    assert "greeting" not in third.settings_sent["agent"]


def test_a_secret_that_vanished_leaves_no_next_session():
    environ = {"DEEPGRAM_API_KEY": KEY}
    protocol = opened(DeepgramSettings(), environ=environ)
    environ.clear()
    assert protocol.successor([]) is None
