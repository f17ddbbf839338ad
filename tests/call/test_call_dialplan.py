"""A call that follows its dialplan: what each order does to the caller's ears and to the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from telbridge.call.call import Call, CallPlan
from telbridge.call.events import (
    AgentAudio,
    AgentTranscript,
    CallerStartedSpeaking,
    CallerTranscript,
    Dtmf,
    DtmfSent,
    Ending,
    ReplyAudioDone,
    ReplyDone,
    ReplyId,
    ReplyStatus,
    Said,
    SessionReady,
    ToolCall,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
)
from telbridge.call.ports import Greeting
from tests.call.sides import HandAgents, HandLeg, HandOutside, HandSession, a_script
from tests.call.test_call import FRAME, MOMENT, R1, R2, SORRY, WORDS, Scene, _soon

VOICE = b"\x05\x06" * 800  # 100 ms


class Played(Scene):
    """A scene with the whole cast."""

    agents: HandAgents
    outside: HandOutside

    def presses(self, *keys: str) -> None:
        for key in keys:
            self.leg.now_ns += 900_000_000
            self.leg.emit(Dtmf(key, "rfc4733", 100, self.leg.now_ns))

    def agent_says(self, reply: ReplyId, audio: bytes = WORDS) -> None:
        self.session.emit(AgentAudio(reply, audio, self.leg.now_ns))
        self.session.emit(ReplyAudioDone(reply))
        self.session.emit(ReplyDone(reply, ReplyStatus.COMPLETED))

    async def hears(self, frames: int) -> bytes:
        """So many frames, with time for what follows from each."""
        heard = b""
        for _ in range(frames):
            heard += self.leg.hears()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return heard


@asynccontextmanager
async def played(
    dialplan: str, *, ready: bool = True, others: int = 0, **outside: object
) -> AsyncIterator[Played]:
    leg, session, world = HandLeg(), HandSession(), HandOutside()
    for name, value in outside.items():
        setattr(world, name, value)
    agents = HandAgents(session, *(HandSession() for _ in range(others)))
    plan = CallPlan(a_script(dialplan), False, SORRY, MOMENT, 60.0)
    call = Call(leg, agents, plan, world, clock=leg.clock, log=structlog.get_logger())
    scene = Played(leg, session, call)
    scene.agents, scene.outside = agents, world
    if ready:
        await scene.answered()
    try:
        yield scene
    finally:
        if not scene.task.done():
            leg.caller_hangs_up()
            await _soon(scene.task)
    assert len(asyncio.all_tasks()) == 1, "the call left a task behind"


# ---------------------------------------------------------------- before the answer


async def test_a_dialplan_can_refuse_a_call_while_it_rings() -> None:
    async with played('on.ringing = { hangup = "busy" }', ready=False) as scene:
        summary = await scene.summary()
        assert scene.leg.said[:2] == ["180", "486"]
        assert summary.ending is Ending.DIALPLAN_HUNG_UP
        assert scene.agents.wanted == []


async def test_what_is_looked_up_while_it_rings_is_in_the_prompt() -> None:
    text = """
        session.instructions = "You talk with {{ answers.crm.name }}."
        [[on.ringing]]
        do = { webhook = "https://crm.example/who", as = "crm" }
        """
    async with played(text, ready=False, answers={"https://crm.example/who": {"name": "Ada"}}) as scene:
        await scene.session.running.wait()
        assert scene.agents.wanted[0].neutral.instructions == "You talk with Ada."
        assert scene.leg.said == ["180"]


async def test_no_agent_to_be_had_ends_in_an_apology() -> None:
    async with played("", ready=False) as scene:
        scene.agents.left.clear()
        await scene.settled()
        heard = await scene.until_hung_up()
        assert SORRY in heard
        assert (await scene.summary()).ending is Ending.AGENT_REFUSED


# ---------------------------------------------------------------- greetings and notices


async def test_the_agent_greets_with_the_words_of_the_dialplan() -> None:
    async with played('greeting = "Luigi\'s."') as scene:
        assert scene.session.greetings == [Greeting("Luigi's.")]


async def test_a_greeting_from_a_file_is_heard_from_its_first_sample() -> None:
    text = 'greeting = { wav = "hello.wav" }\non.greeting_done = { tag = "greeted" }'
    async with played(text, wavs={"hello.wav": VOICE}) as scene:
        assert scene.session.greetings == []
        heard = await scene.hears(8)
        assert heard.startswith(VOICE)
        scene.leg.caller_hangs_up()
        assert (await scene.summary()).marks.tags == ["greeted"]


async def test_nobody_talks_down_a_greeting_that_must_be_heard() -> None:
    async with played('greeting = { say = "Hear me.", barge_in = false }') as scene:
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.session.emit(CallerStartedSpeaking(0, interrupts=True))
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink == [bytes(FRAME)], "the agent hears silence meanwhile"
        scene.session.emit(ReplyDone(R1, ReplyStatus.COMPLETED))
        assert WORDS in await scene.hears(12)
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink[-1] == b"\x11\x11" * 160, "from now on it hears the caller"


async def test_a_notice_is_heard_first_and_the_greeting_waits_for_it() -> None:
    text = 'notice = "This call is recorded."\ngreeting = "Hello."'
    async with played(text, voice=VOICE) as scene:
        scene.agent_says(R1)
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink == [], "the agent hears nothing before"
        heard = await scene.hears(20)
        assert heard.startswith(VOICE)
        assert heard.index(WORDS) >= len(VOICE)
        assert scene.outside.asked == ["voice: This call is recorded."]


# ---------------------------------------------------------------- keys and the session


async def test_a_key_changes_the_running_session() -> None:
    async with played('keys.1 = { update.instructions = "Take an order." }') as scene:
        scene.presses("1")
        assert scene.session.asked == [("update", "['instructions']")]


async def test_a_change_that_the_api_cannot_take_leaves_the_call_unharmed() -> None:
    text = 'keys.1 = { update.voice = "marin", on_error = { tag = "kept its voice" } }'
    async with played(text) as scene:
        scene.session.refuses = "can't be changed now"
        scene.presses("1")
        scene.leg.caller_hangs_up()
        assert (await scene.summary()).marks.tags == ["kept its voice"]


async def test_a_key_that_nothing_is_bound_to_is_told_to_the_agent() -> None:
    async with played("") as scene:
        scene.presses("7")
        assert scene.session.texts == ["[DTMF] caller pressed 7"]


async def test_masked_digits_reach_neither_agent_nor_record() -> None:
    text = """
        [[on.answered]]
        do = { collect = "pin", masked = true, min = 4, max = 4 }
        """
    async with played(text) as scene:
        scene.presses("4", "7", "1")
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink == [bytes(FRAME)], "the tones of the keys are kept from the agent"
        scene.presses("1")
        assert scene.session.texts == []
        scene.leg.caller_hangs_up()
        assert "4711" not in repr(await scene.summary())


# ---------------------------------------------------------------- words


async def test_say_goes_through_the_agent_and_is_waited_for() -> None:
    async with played('keys.2 = [{ say = "We open at nine." }, { tag = "said" }]') as scene:
        scene.presses("2")
        assert scene.session.asked == [("say", "We open at nine.")]
        scene.agent_says(R1)
        await scene.hears(3)
        assert scene.call._stage.marks.tags == []
        await scene.hears(12)
        assert scene.call._stage.marks.tags == ["said"]


async def test_say_by_ourselves_where_the_agent_cannot() -> None:
    async with played('keys.2 = { say = "We open at nine." }', voice=VOICE) as scene:
        scene.session.says_exactly = False
        scene.presses("2")
        await scene.settled()
        assert VOICE in await scene.hears(8)
        assert scene.session.asked == []


async def test_a_file_is_played_and_can_be_talked_down() -> None:
    text = 'keys.2 = [{ play = "ad.wav" }, { tag = "over" }]'
    async with played(text, wavs={"ad.wav": VOICE * 10}) as scene:
        scene.presses("2")
        await scene.hears(5)
        scene.session.emit(CallerStartedSpeaking(scene.leg.now_ns, interrupts=True))
        assert scene.call._stage.marks.tags == ["over"]
        assert not any((await scene.hears(5))[2 * FRAME :])


async def test_a_file_that_is_not_there_is_an_error_of_its_action() -> None:
    async with played('keys.2 = { play = "ad.wav", on_error = { tag = "no file" } }') as scene:
        scene.presses("2")
        assert scene.call._stage.marks.tags == ["no file"]


async def test_text_for_the_agent_and_an_answer_at_once() -> None:
    async with played('keys.3 = [{ send_text = "He is in a hurry." }, { reply = "Be brief." }]') as scene:
        scene.presses("3")
        assert scene.session.texts == ["He is in a hurry."]
        assert scene.session.asked == [("reply", "Be brief.")]


# ---------------------------------------------------------------- events


async def test_what_is_said_can_be_acted_on() -> None:
    text = """
        [[on.caller_said]]
        matches = "human"
        do = { tag = "wants a human" }
        [[on.agent_said]]
        matches = "sorry"
        do = { metric = "apologies", add = 2.0, labels.line = "main" }
        """
    async with played(text) as scene:
        scene.session.emit(CallerTranscript("A human, please."))
        scene.session.emit(AgentTranscript(R1, "I am so"))
        scene.session.emit(AgentTranscript(R1, "I am so sorry."))
        scene.session.emit(ReplyDone(R1, ReplyStatus.COMPLETED))
        scene.leg.caller_hangs_up()
        marks = (await scene.summary()).marks
        assert marks.tags == ["wants a human"]
        assert marks.counts == {"apologies{line=main}": 2.0}


async def test_an_agent_is_heard_to_begin_and_to_end_once_each() -> None:
    text = 'on.agent_speaking = { metric = "began" }\non.agent_stopped = { metric = "ended" }'
    async with played(text) as scene:
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        await scene.hears(20)  # it stalls …
        scene.agent_says(R1)  # … and goes on
        await scene.hears(20)
        assert scene.call._stage.marks.counts == {"began": 1.0, "ended": 1.0}


async def test_after_hang_up_a_webhook_may_still_be_told() -> None:
    text = 'on.hangup = { webhook = "https://crm.example/over" }'
    async with played(text, answers={"https://crm.example/over": {}}) as scene:
        scene.leg.caller_hangs_up()
        await scene.summary()
        assert scene.outside.asked == ["https://crm.example/over"]


# ---------------------------------------------------------------- ends and transfers


async def test_last_words_are_said_before_the_line_is_cut() -> None:
    async with played('keys.9 = { hangup = "normal", last_words = "Good-bye." }') as scene:
        scene.presses("9")
        await scene.settled()
        assert scene.session.asked[-1] == ("say", "Good-bye.")
        scene.agent_says(R1)
        heard = await scene.until_hung_up()
        assert WORDS in heard
        summary = await scene.summary()
        assert (summary.ending, summary.detail) == (Ending.DIALPLAN_HUNG_UP, "normal")


async def test_a_transfer_that_fails_gives_the_caller_back() -> None:
    text = """
        keys.0 = { transfer = "sip:desk@10.0.0.5", music = "" }
        on.transfer_ringing = { tag = "rings" }
        on.transfer_failed = { reply = "Nobody is there." }
        """
    async with played(text) as scene:
        scene.presses("0")
        assert scene.leg.said[-1] == "REFER sip:desk@10.0.0.5"
        assert any(await scene.hears(4)), "music on hold"
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink == [bytes(FRAME)], "the agent does not answer what is said meanwhile"
        scene.leg.emit(TransferRinging(scene.leg.now_ns))
        scene.leg.emit(TransferFailed(486, scene.leg.now_ns))
        assert scene.session.asked == [("reply", "Nobody is there.")]
        assert scene.call._stage.marks.tags == ["rings"]
        assert not any((await scene.hears(4))[FRAME:])


async def test_a_transfer_that_succeeds() -> None:
    text = 'keys.0 = { transfer = "sip:desk@10.0.0.5" }\non.transfer_answered = { tag = "handed over" }'
    async with played(text) as scene:
        scene.presses("0")
        scene.leg.emit(TransferAnswered(scene.leg.now_ns))
        scene.leg.caller_hangs_up()
        assert (await scene.summary()).marks.tags == ["handed over"]


async def test_keys_go_out_one_order_after_the_other() -> None:
    async with played('keys.5 = [{ send_dtmf = "12#" }, { tag = "keyed" }]') as scene:
        scene.presses("5")
        assert scene.leg.said[-1] == "keys 12#"
        assert scene.call._stage.marks.tags == []
        scene.leg.emit(DtmfSent(scene.leg.now_ns))
        assert scene.call._stage.marks.tags == ["keyed"]


# ---------------------------------------------------------------- another agent


SWITCHES = 'keys.4 = [{ switch_agent = "deepgram" }, { tag = "switched" }]'


async def test_another_agent_takes_over_with_the_conversation() -> None:
    async with played(SWITCHES, others=1) as scene:
        scene.session.said = [Said(True, "I am Ada.")]
        other = scene.agents.left[0]
        scene.session.emit(AgentAudio(R1, WORDS, 0))
        scene.presses("4")
        await other.running.wait()
        assert scene.agents.told[-1] == [Said(True, "I am Ada.")]
        scene.leg.speaks(b"\x11\x11" * 160)
        assert len(scene.session.uplink) == 1, "until the new one is there the old one listens"
        other.emit(SessionReady(scene.leg.now_ns))
        await scene.settled()
        assert scene.session.closed
        assert scene.call._stage.marks.tags == ["switched"]
        scene.leg.speaks(b"\x12\x12" * 160)
        assert other.uplink == [b"\x12\x12" * 160]
        other.emit(AgentAudio(ReplyId(scene.agents.replies_from + 1), VOICE, 0))
        assert VOICE[:FRAME] in await scene.hears(16)


async def test_an_agent_that_does_not_come_leaves_the_old_one_in_its_seat() -> None:
    text = 'keys.4 = { switch_agent = "deepgram", on_error = { tag = "kept the old one" } }'
    async with played(text, others=1) as scene:
        other = scene.agents.left[0]
        scene.presses("4")
        await other.running.wait()
        other.ends(Ending.AGENT_UNREACHABLE)
        await scene.settled()
        assert scene.call._stage.marks.tags == ["kept the old one"]
        scene.agent_says(R2)
        assert WORDS[:FRAME] in await scene.hears(4)


# ---------------------------------------------------------------- tools, music, mute


async def test_a_tool_of_an_http_server() -> None:
    text = """
        [tools.order_state]
        description = "Where is it?"
        parameters.number = { type = "string" }
        http = "https://shop.example/orders/{{ arguments.number }}"
        """
    answers = {"https://shop.example/orders/7": {"state": "sent"}}
    async with played(text, answers=answers) as scene:
        scene.session.emit(ToolCall("t1", "order_state", '{"number": "7"}'))
        await scene.settled()
        assert scene.session.asked == [("result", "t1")]
        scene.session.emit(ToolCall("t2", "order_state", '{"number": "8"}'))
        await scene.settled()
        assert scene.session.asked[-1] == ("failed", "t2")


async def test_music_on_hold_gives_way_to_speech_and_comes_back() -> None:
    async with played('keys.6 = "hold_music"\nkeys.8 = { hold_music = false }') as scene:
        scene.presses("6")
        assert any(await scene.hears(3))
        scene.agent_says(R1)
        assert WORDS[FRAME : 5 * FRAME] in await scene.hears(12)
        assert any(await scene.hears(3))
        scene.presses("8")
        assert not any((await scene.hears(4))[FRAME:])


async def test_a_muted_caller_and_a_muted_agent() -> None:
    text = 'keys.1 = { mute = "caller" }\nkeys.2 = { mute = "agent" }\nkeys.3 = { unmute = "both" }'
    async with played(text) as scene:
        scene.presses("1")
        scene.leg.speaks(b"\x11\x11" * 160)
        assert scene.session.uplink == [bytes(FRAME)]
        scene.presses("2")
        scene.agent_says(R1)
        assert not any(await scene.hears(5))
        scene.presses("3")
        scene.leg.speaks(b"\x11\x11" * 160)
        scene.agent_says(R2)
        assert scene.session.uplink[-1] == b"\x11\x11" * 160
        assert any(await scene.hears(5))
