"""What the record tells of a call besides its turns: stretches of speech; events without words or keys."""

from __future__ import annotations

from telbridge.call.events import AgentAudio, CallerStartedSpeaking, LegQuality, SessionUpdated
from telbridge.call.journal import MOST, Journal, Speech
from tests.call.test_call_dialplan import played
from tests.call.test_latency import LOUD, MS_NS, TICK_MS, _over, staged


async def test_both_voices_stand_in_the_record_from_their_first_frame_to_their_last() -> None:
    async with staged() as (stage, task):
        begun_ns = stage.leg.now_ns
        stage.at(5, AgentAudio(stage.new_reply(), LOUD * 500, 0))
        await stage.passes(1000)
        onset_ns = stage._tick_ns + TICK_MS * MS_NS
        event_ns = onset_ns + 230 * MS_NS
        stage._due.append((event_ns, CallerStartedSpeaking(event_ns, interrupts=True)))
        await stage.passes(600, loud=True)
        await stage.passes(600)
        summary = await _over(stage, task)
    started_ns = onset_ns - round(summary.caller_speech[0][0] * MS_NS)
    ((onset, last),) = summary.caller_speech
    assert last - onset == 600 - TICK_MS
    ((first, silent),) = summary.agent_speech
    assert 0 <= started_ns + first * MS_NS - begun_ns <= (5 + 2 * TICK_MS) * MS_NS
    assert started_ns + silent * MS_NS == event_ns + 5 * MS_NS


async def test_keys_updates_and_losses_are_events_and_a_key_has_no_digit() -> None:
    async with played('keys.4 = { update.instructions = "Four." }') as scene:
        scene.presses("4")
        scene.session.emit(SessionUpdated(scene.leg.now_ns))
        lost = LegQuality("pcma", 90, 10, 0, 1.0, 100, 0, 1.0, None)
        scene.leg.quality = lambda: lost  # type: ignore[method-assign]
        scene.call.look_at_line()
        scene.call.look_at_line()
        scene.leg.caller_hangs_up()
        summary = await scene.summary()
    kinds = [event.kind for event in summary.events]
    assert [kind for kind in kinds if kind in ("key", "update", "updated", "loss")] == [
        "key",
        "update",
        "updated",
        "loss",
    ]
    facts = {event.kind: event.facts for event in summary.events}
    assert facts["key"] == {"method": "rfc4733"}
    assert facts["loss"] == {"packets": "10", "way": "from the caller"}
    assert [event.at_ms for event in summary.events] == sorted(event.at_ms for event in summary.events)


def test_a_peer_in_a_loop_fills_no_memory() -> None:
    journal, speech = Journal(0), Speech()
    for number in range(MOST + 3):
        journal.note("key", number)
        speech.began(number)
        speech.ended(number + 0.5)
    assert (len(journal.events), journal.dropped, len(speech.stretches)) == (MOST, 3, MOST)
