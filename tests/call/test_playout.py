"""Playout: every word is heard or accounted for, and nothing clicks."""

from __future__ import annotations

import array
import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_8K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.call.events import ReplyId
from telbridge.call.playout import PATIENCE_FRAMES, Playout
from telbridge.call.standing import KEPT_MS, LITTLE_FRAMES, PAUSE_FRAMES, SOON_FRAMES, WINDOW_FRAMES

R1, R2, R3 = ReplyId(1), ReplyId(2), ReplyId(3)
FRAME = 320
MS = 16  # bytes of linear 8 kHz a millisecond


def tone(ms: int, hz: float = 440.0, level: int = 8000) -> bytes:
    return array.array(
        "h", (round(level * math.sin(2 * math.pi * hz * n / 8000)) for n in range(ms * 8))
    ).tobytes()


VOICED = tone(20)


def numbered(samples: int, first: int = 1) -> bytes:
    """Samples that can be told apart and are never zero."""
    return array.array("h", (first + n % 30_000 for n in range(samples))).tobytes()


def samples(audio: bytes | memoryview) -> list[int]:
    return array.array("h", bytes(audio)).tolist()


def playout() -> Playout:
    return Playout(PCM_8K, frame_ms=20)


def drain(out: Playout, most: int = 100_000) -> bytes:
    heard = b""
    for _ in range(most):
        frame = bytes(out.pull())
        heard += frame
        if out.idle:
            return heard
    raise AssertionError("playout never became idle")


def largest_step(audio: bytes) -> int:
    values = samples(audio)
    return max(abs(b - a) for a, b in pairwise(values))


# ---------------------------------------------------------------- words


def test_an_empty_playout_gives_silence() -> None:
    out = playout()
    assert bytes(out.pull()) == bytes(FRAME)
    assert out.idle


def test_a_burst_is_played_frame_by_frame_as_it_came() -> None:
    out, speech = playout(), numbered(160 * 50)
    out.append(R1, speech)
    out.complete(R1)
    assert b"".join(bytes(out.pull()) for _ in range(50)) == speech


def test_a_whole_frame_is_a_window_on_the_burst_not_a_copy() -> None:
    out, speech = playout(), numbered(1600)
    out.append(R1, speech)
    frame = out.pull()
    assert isinstance(frame, memoryview)
    assert frame.obj is speech


@given(
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 500), min_size=1, max_size=30),
)
def test_no_sample_of_complete_replies_is_lost_whatever_the_chunks(
    lengths: list[int], cuts: list[int]
) -> None:
    out = playout()
    speech = b""
    for number, length in enumerate(lengths, 1):
        words = numbered(length, first=number * 1000)
        speech += words
        at, turn = 0, 0
        while at < len(words):
            step = 2 * cuts[turn % len(cuts)]
            out.append(ReplyId(number), words[at : at + step])
            at, turn = at + step, turn + 1
        out.complete(ReplyId(number))
    assert drain(out).startswith(speech)
    assert out.totals.heard_samples == len(speech) // 2
    assert out.totals.discarded_samples == 0


@given(
    length=st.integers(1, 3000),
    chunk=st.integers(1, 400),
    flush_after=st.integers(0, 25),
    late=st.integers(0, 500),
)
def test_every_sample_is_heard_or_discarded_exactly_once(
    length: int, chunk: int, flush_after: int, late: int
) -> None:
    out, speech = playout(), numbered(length)
    for at in range(0, len(speech), 2 * chunk):
        out.append(R1, speech[at : at + 2 * chunk])
    for _ in range(flush_after):
        out.pull()
    fates = out.flush()
    out.append(R1, numbered(late))
    assert sum(fate.heard_samples + fate.discarded_samples for fate in fates) == length
    assert out.totals.heard_samples + out.totals.discarded_samples == length + late
    assert out.totals.heard_samples == sum(fate.heard_samples for fate in fates)


def test_two_complete_replies_follow_each_other_without_a_gap() -> None:
    out = playout()
    out.append(R1, numbered(100))
    out.complete(R1)
    out.append(R2, numbered(60, first=500))
    assert bytes(out.pull()) == numbered(100) + numbered(60, first=500)


def test_the_end_of_a_complete_reply_is_played_though_it_fills_no_frame() -> None:
    out = playout()
    out.append(R1, numbered(170))
    out.complete(R1)
    out.pull()
    assert bytes(out.pull()).startswith(numbered(170)[FRAME:])


def test_a_chunk_shorter_than_a_frame_waits_for_the_rest_of_its_reply() -> None:
    out = playout()
    out.append(R1, numbered(100))
    assert bytes(out.pull()) == bytes(FRAME)
    out.append(R1, numbered(100, first=101))
    assert bytes(out.pull()) == numbered(160)


def test_a_short_chunk_at_the_start_does_not_wait_for_ever() -> None:
    out = playout()
    out.append(R1, numbered(100))
    for _ in range(PATIENCE_FRAMES):
        assert bytes(out.pull()) == bytes(FRAME)
    assert bytes(out.pull()).startswith(numbered(100))


# ---------------------------------------------------------------- flush


def test_after_a_flush_at_most_a_short_fade_is_heard() -> None:
    out = playout()
    out.append(R1, tone(10_000))
    for _ in range(10):
        out.pull()
    out.flush()
    fade = bytes(out.pull())
    assert fade[5 * MS :] == bytes(FRAME - 5 * MS)
    assert bytes(out.pull()) == bytes(FRAME)


def test_flush_says_of_each_reply_what_was_heard_and_what_was_not() -> None:
    out = playout()
    out.append(R1, tone(100))
    out.complete(R1)
    out.append(R2, tone(200))
    out.complete(R2)
    out.append(R3, tone(300))
    for _ in range(7):
        out.pull()
    cut, unheard = out.flush()
    assert (cut.reply, cut.heard_ms, cut.discarded_ms) == (R2, 45, 155)  # 40 ms played and 5 ms of fade
    assert (unheard.reply, unheard.heard_ms, unheard.discarded_ms) == (R3, 0, 300)


def test_a_reply_heard_to_its_end_is_not_reported() -> None:
    out = playout()
    out.append(R1, tone(100))
    out.complete(R1)
    drain(out)
    assert out.flush() == []


def test_flushing_silence_reports_nothing_and_makes_no_sound() -> None:
    out = playout()
    assert out.flush() == []
    assert bytes(out.pull()) == bytes(FRAME)


def test_late_audio_of_a_cut_reply_is_never_heard() -> None:
    out = playout()
    out.append(R1, tone(100))
    out.pull()
    out.flush()
    assert out.append(R1, tone(1000)) is False
    out.pull()
    assert bytes(out.pull()) == bytes(FRAME)


def test_ten_interruptions_in_a_row_leave_only_the_newest_reply() -> None:
    out = playout()
    for number in range(1, 11):
        out.append(ReplyId(number), tone(500, hz=300))
        out.pull()
        out.flush()
        for old in range(1, number + 1):
            assert not out.append(ReplyId(old), tone(20))
    out.pull()
    newest = numbered(160)
    out.append(ReplyId(11), newest)
    assert bytes(out.pull()) == newest


# ---------------------------------------------------------------- clicks

LARGEST_STEP_OF_TONE = largest_step(tone(1000))


@given(frames=st.integers(1, 40), hz=st.floats(200, 900))
def test_a_flush_does_not_click(frames: int, hz: float) -> None:
    out, speech = playout(), tone(2000, hz)
    out.append(R1, speech)
    heard = b"".join(bytes(out.pull()) for _ in range(frames))
    out.flush()
    heard += bytes(out.pull()) + bytes(out.pull())
    assert largest_step(heard) <= largest_step(speech) * 1.15


@given(length_ms=st.integers(21, 400), hz=st.floats(200, 900))
def test_running_dry_and_going_on_does_not_click(length_ms: int, hz: float) -> None:
    out, speech = playout(), tone(800, hz)
    cut = length_ms * MS
    out.append(R1, speech[:cut])
    heard = b"".join(bytes(out.pull()) for _ in range(length_ms // 20 + 5))
    out.append(R1, speech[cut:])
    out.complete(R1)
    heard += drain(out)
    assert largest_step(heard) <= largest_step(speech) * 1.15


@given(extra=st.integers(0, 159))
def test_a_reply_that_ends_in_the_middle_of_a_wave_does_not_click(extra: int) -> None:
    out, speech = playout(), tone(200, 600)[: (160 * 3 + extra) * 2]
    out.append(R1, speech)
    out.complete(R1)
    assert largest_step(drain(out) + bytes(out.pull())) <= largest_step(speech) * 1.15


def test_an_underrun_is_counted_once_with_its_length() -> None:
    out = playout()
    out.append(R1, tone(40))
    for _ in range(5):
        out.pull()
    out.append(R1, tone(40))
    out.pull()
    assert (out.totals.underruns, out.totals.underrun_frames) == (1, 3)


def test_silence_between_replies_is_no_underrun() -> None:
    out = playout()
    out.append(R1, tone(40))
    out.complete(R1)
    drain(out)
    out.pull()
    out.append(R2, tone(40))
    out.pull()
    assert out.totals.underruns == 0


# ---------------------------------------------------------------- formats and clocks


def test_g711_is_played_untouched_and_its_silence_is_the_laws_own() -> None:
    for law, octet in ((PCMU_8K, b"\xff"), (PCMA_8K, b"\xd5")):
        out = Playout(law, frame_ms=20)
        speech = bytes(range(256)) * 5
        out.append(R1, speech)
        assert b"".join(bytes(out.pull()) for _ in range(8)) == speech
        assert bytes(Playout(law, frame_ms=20).pull()) == octet * 160


def test_g711_fades_too() -> None:
    for law, decode in ((PCMU_8K, ulaw_to_pcm16), (PCMA_8K, alaw_to_pcm16)):
        out = Playout(law, frame_ms=20)
        loud = pcm16_to_ulaw(tone(100)) if law is PCMU_8K else bytes([0x2A]) * 800
        out.append(R1, loud)
        out.pull()
        out.flush()
        faded = samples(decode(bytes(out.pull())))
        assert abs(faded[39]) <= 64
        assert all(abs(value) <= 8 for value in faded[40:])


@given(ptime=st.sampled_from([10, 20, 30, 40, 60]), rate=st.sampled_from([8000, 16000, 24000]))
def test_frames_have_the_legs_ptime(ptime: int, rate: int) -> None:
    out = Playout(AudioFormat(PCM_8K.encoding, rate), frame_ms=ptime)
    out.append(R1, numbered(rate))
    assert len(out.pull()) == rate * ptime // 1000 * 2


def test_a_late_clock_pulls_what_is_due_and_is_on_time_again() -> None:
    on_time, late = playout(), playout()
    for out in (on_time, late):
        out.append(R1, numbered(160 * 20))
    for _ in range(8):
        on_time.pull()
    for due in (1, 0, 0, 4, 0, 3):  # ticks that came late bring several frames at once
        for _ in range(due):
            late.pull()
    assert bytes(on_time.pull()) == bytes(late.pull())


def test_queued_ms_tells_how_much_speech_waits() -> None:
    out = playout()
    out.append(R1, tone(1000))
    assert out.queued_ms == 1000
    out.pull()
    assert out.queued_ms == 980
    out.flush()
    assert out.queued_ms == 0


# ---------------------------------------------------------------- a live agent that was late once


def live(out: Playout, frames: int, sound: bytes) -> bytes:
    """An agent that speaks as fast as it is heard: one frame in, one frame out."""
    heard = b""
    for _ in range(frames):
        out.append(R1, sound)
        heard += bytes(out.pull())
    return heard


def stall(out: Playout, frames: int, sound: bytes) -> None:
    """The agent is late by so many frames, and what it owes comes at once."""
    for _ in range(frames):
        out.pull()
    out.append(R1, sound * frames)


def test_the_delay_that_a_stall_left_is_given_back_though_speech_never_pauses() -> None:
    out, loud = playout(), tone(20)
    live(out, 5, loud)
    stall(out, 25, loud)
    live(out, 250, loud)
    assert out.queued_ms <= KEPT_MS + 20, "the last frame waits for a pause"
    live(out, PAUSE_FRAMES + WINDOW_FRAMES, loud)
    assert out.queued_ms <= KEPT_MS
    assert out.totals.shortened_frames == out.totals.underrun_frames - out.queued_ms // 20


def test_in_a_pause_it_is_given_back_at_once() -> None:
    out, loud = playout(), tone(20)
    live(out, 5, loud)
    stall(out, 25, loud)
    live(out, 2 * WINDOW_FRAMES, loud)
    assert out.queued_ms >= 460
    live(out, out.queued_ms // 20 + WINDOW_FRAMES, bytes(FRAME))
    assert out.queued_ms <= KEPT_MS


def a_little_late(loud: bytes) -> Playout:
    """A live agent that is heard a frame later than it need be."""
    out = playout()
    live(out, 5, loud)
    stall(out, 1, loud)
    out.append(R1, loud * 2)  # Its lead, which is its own.
    live(out, 3 * WINDOW_FRAMES, loud)
    assert (out.queued_ms, out.totals.shortened_frames) == (60, 0)
    return out


def test_a_little_delay_is_given_back_in_a_pause_and_costs_no_speech() -> None:
    out, words = a_little_late(VOICED), numbered(160, 8000)
    heard = live(out, 1, bytes(FRAME)) + live(out, 8, words)
    assert out.totals.shortened_frames == 0, "one frame is no pause: half of what goes would be a word's"
    heard += live(out, 8, bytes(FRAME))
    assert heard.count(words) == 8
    assert (out.queued_ms, out.totals.shortened_frames) == (40, 1)


def test_ahead_of_the_clock_a_little_waits_for_the_next_frame_in_a_pause_only() -> None:
    out = a_little_late(VOICED)
    while out.queued_ms >= 40:
        out.pull()
    assert not out.holds_back(100)
    out.pull()
    out.append(R1, bytes(FRAME))
    assert out.holds_back(100)


def test_speech_made_shorter_does_not_click() -> None:
    out, voice = playout(), tone(7000, hz=210.0)
    frames = [voice[at : at + FRAME] for at in range(0, len(voice), FRAME)]
    for sound in frames[:5]:
        live(out, 1, sound)
    stall(out, 20, frames[5])
    heard = b"".join(live(out, 1, sound) for sound in frames[25:])
    assert out.totals.shortened_frames > 10
    # The stall itself repeats one frame; what follows is one wave, but for the cuts.
    assert largest_step(heard[FRAME * 22 :]) <= 1.5 * largest_step(voice)


def test_no_more_goes_than_silence_stood_there() -> None:
    """The agent has a lead of 380 ms besides: that is its own."""
    out = playout()
    live(out, 5, tone(20))
    out.pull()
    out.append(R1, tone(20) * 20)
    live(out, 500, bytes(FRAME))
    assert (out.totals.underrun_frames, out.totals.shortened_frames, out.queued_ms) == (1, 1, 380)


@given(
    bursts=st.lists(
        st.tuples(st.integers(0, 100), st.integers(30, 400), st.sampled_from((1.5, 2.0, 5.0, 100.0))),
        min_size=1,
        max_size=6,
    ),
    quiet=st.booleans(),
)
def test_what_comes_faster_than_it_is_heard_is_never_shortened(
    bursts: list[tuple[int, int, float]], quiet: bool
) -> None:
    """Pieces of a reply, each so many frames after the one before has been played, so long, so fast. Where
    one follows at once, the queue that falls and rises may look like jitter: a frame may go, no more."""
    out, sound = playout(), bytes(FRAME) if quiet else VOICED
    for pause, length, speed in bursts:
        for _ in range(pause):
            out.pull()
        came, ticks = 0, 0
        while came < length or out.queued_octets:
            ticks += 1
            due = min(length, int(ticks * speed))
            out.append(R1, sound * (due - came))
            came = due
            out.pull()
    seams = sum(pause == 0 for pause, _, _ in bursts[1:])
    assert out.totals.shortened_frames <= seams
    assert out.totals.heard_samples == sum(length for _, length, _ in bursts) * 160


@given(
    stalls=st.lists(st.integers(2, 30), min_size=1, max_size=4),
    piece=st.integers(1, 8),
)
@settings(max_examples=40, deadline=None)
def test_an_agent_in_real_time_is_soon_heard_as_early_as_before(stalls: list[int], piece: int) -> None:
    """It sends pieces of up to 160 ms, and stalls for up to 0.6 s; each time the delay is gone after 5 s, but
    for the little that waits for a pause."""
    out, said, delays = playout(), 0, list[int]()

    def speak(frames: int, *, stalled: bool = False) -> None:
        nonlocal said
        for _ in range(frames):
            said += 1
            if said % piece == 0 and not stalled:
                have = out.totals.heard_samples // 160 + out.queued_ms // 20
                out.append(R1, VOICED * (said - have))
            out.pull()
            delays.append(said - out.totals.heard_samples // 160)

    speak(50)
    before = max(delays[-25:])
    for length in stalls:
        speak(length, stalled=True)
        speak(SOON_FRAMES)
        assert max(delays[-10:]) <= before + 2 + LITTLE_FRAMES
        speak(SOON_FRAMES)
    assert out.totals.shortened_frames <= out.totals.underrun_frames


def test_a_burst_without_underruns_is_played_to_the_last_sample_of_its_pauses() -> None:
    out, speech = playout(), tone(500) + bytes(FRAME * 100) + tone(500)
    out.append(R1, speech)
    out.complete(R1)
    assert drain(out).startswith(speech)


# ---------------------------------------------------------------- a carrier that had not played all


def test_what_the_carrier_threw_away_was_not_heard() -> None:
    out = playout()
    out.append(R1, tone(1000))
    for _ in range(10):
        out.pull()
    (fate,) = out.flush(unplayed_ms=130)
    assert (fate.reply, fate.heard_ms, fate.discarded_ms) == (R1, 70, 930)
    assert (out.totals.heard_samples, out.totals.discarded_samples) == (70 * 8, 930 * 8)
    assert bytes(out.pull()) == bytes(FRAME), "nothing is left to fade"


def test_a_reply_pulled_to_its_end_is_cut_by_what_the_carrier_still_held() -> None:
    out = playout()
    for reply, ms in ((R1, 50), (R2, 100)):
        out.append(reply, tone(ms))
        out.complete(reply)
    drain(out)
    first, second = out.flush(unplayed_ms=130)
    assert (first.reply, first.heard_ms, first.discarded_ms) == (R1, 30, 20), "10 ms of padding came last"
    assert (second.reply, second.heard_ms, second.discarded_ms) == (R2, 0, 100)


def test_padding_behind_the_last_word_is_nothing_that_was_missed() -> None:
    out = playout()
    out.append(R1, tone(50))
    out.complete(R1)
    for _ in range(3):
        out.pull()
    assert out.flush(unplayed_ms=10) == []


def test_without_a_carrier_nothing_changes() -> None:
    out = playout()
    out.append(R1, tone(100))
    out.complete(R1)
    drain(out)
    assert out.flush() == []


@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=4),
    pulled=st.integers(0, 120),
    unplayed_ms=st.integers(0, 600),
)
def test_every_sample_is_heard_or_discarded_also_with_a_carrier(
    lengths: list[int], pulled: int, unplayed_ms: int
) -> None:
    out = playout()
    for number, samples_ in enumerate(lengths, 1):
        out.append(ReplyId(number), numbered(samples_))
        out.complete(ReplyId(number))
    for _ in range(pulled):
        out.pull()
    fates = out.flush(unplayed_ms)
    assert out.totals.heard_samples + out.totals.discarded_samples == sum(lengths)
    assert out.totals.discarded_samples == sum(fate.discarded_samples for fate in fates)
    for fate in fates:
        assert fate.heard_samples + fate.discarded_samples == lengths[fate.reply - 1]
    assert [fate.reply for fate in fates] == sorted(fate.reply for fate in fates)


def test_a_frame_is_certain_once_nothing_can_change_it() -> None:
    out = playout()
    assert not out.whole_frame_waits
    out.append(R1, tone(19))
    assert not out.whole_frame_waits
    out.append(R1, tone(1))
    assert out.whole_frame_waits
    out.pull()
    out.append(R1, tone(5))
    assert not out.whole_frame_waits
    out.complete(R1)
    assert out.whole_frame_waits
    out.pull()
    assert not out.starved
    out.pull()
    assert out.starved
