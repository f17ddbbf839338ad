"""Sound out of packets: timelines, and when somebody speaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller.ear import Ear, Span, SpeechEnded, SpeechStarted
from telbridge.caller.rtp import Packet
from telbridge.caller.timeline import by_arrival, by_timestamp, gaps_ms, voiced_frames

MS = 1_000_000
LOUD = pcm16_to_ulaw((8000 * np.sin(np.arange(160) / 3)).astype("<i2").tobytes())
QUIET = b"\xff" * 160


def packet(step, payload=LOUD, at_ms=None, timestamp=None, ssrc=1, payload_type=0):
    at_ns = int((20 * step if at_ms is None else at_ms) * MS)
    samples = 160 * step if timestamp is None else timestamp
    return Packet(at_ns, step & 0xFFFF, samples & 0xFFFFFFFF, payload, False, payload_type, ssrc)


def levels(timeline):
    """Level of each 20 ms: the code it came from, as the frames of these tests are constant."""
    frames = np.frombuffer(timeline.pcm, "<i2").reshape(-1, 160)
    return [pcm16_to_ulaw(frame.tobytes())[0] for frame in frames]


@given(st.permutations(range(6)))
def test_order_and_duplicates_do_not_matter_for_the_timestamp(order):
    order = [0, *(one for one in order if one), 3]
    packets = [packet(one, bytes([0x10 + one]) * 160, at_ms=20 * place) for place, one in enumerate(order)]
    assert levels(by_timestamp(packets)) == [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]


def test_a_lost_packet_is_silence_and_the_timestamp_may_wrap():
    packets = [packet(step, bytes([0x10]) * 160, timestamp=0xFFFFFF60 + 160 * step) for step in (0, 1, 3)]
    assert levels(by_timestamp(packets)) == [0x10, 0x10, 0xFF, 0x10]


@pytest.mark.parametrize(("ssrc", "start"), [(2, 77), (1, 123_456_789), (1, -50_000)])
def test_a_restarted_clock_is_put_where_it_arrived(ssrc, start):
    again = [packet(10, timestamp=start, ssrc=ssrc), packet(11, timestamp=start + 160, ssrc=ssrc)]
    packets = [packet(0), packet(1), *again]
    assert len(by_timestamp(packets).pcm) == 12 * 320


def test_by_arrival_nothing_overlaps():
    late = [
        packet(0, at_ms=0),
        packet(1, at_ms=50),
        packet(2, at_ms=51),
        packet(3, payload_type=101, at_ms=60),
    ]
    assert len(by_arrival(late).pcm) == 2 * (400 + 160 + 160)
    assert gaps_ms(late) == [50, 1, 9]


def test_a_timeline_is_aligned_by_cutting_or_by_silence():
    timeline = by_timestamp([packet(0, at_ms=100)])
    assert timeline.aligned(90 * MS) == bytes(160) + timeline.pcm
    assert timeline.aligned(110 * MS) == timeline.pcm[160:]


def test_voice_is_found_between_silences():
    silence, tone = bytes(320), (8000 * np.sin(np.arange(160) / 3)).astype("<i2").tobytes()
    assert voiced_frames(silence * 2 + tone * 3 + silence, -50) == (2, 4)
    assert voiced_frames(silence, -50) is None


def listen(pattern, hangover_ms=100):
    """One character per 20 ms packet: `x` loud, `.` quiet, space: none came."""
    ear, events = Ear(hangover_ms=hangover_ms), []
    for step, what in enumerate(pattern):
        events += ear.tick(20 * step * MS)
        if what != " ":
            events += ear.hear(packet(step, LOUD if what == "x" else QUIET))
    return ear, events


def test_speech_is_told_by_its_first_and_last_loud_packet():
    _, events = listen("..xx.x.......")
    assert events == [SpeechStarted(40 * MS), SpeechEnded(Span(40 * MS, 100 * MS))]


def test_a_click_is_no_speech_and_short_pauses_do_not_end_it():
    ear, events = listen("x....xx...xx")
    assert events == [SpeechStarted(100 * MS)]
    assert ear.speaking


def test_speech_ends_although_packets_stop_coming():
    assert listen("xx       ")[1][-1] == SpeechEnded(Span(0, 20 * MS))


def test_a_reply_soon_after_an_interruption_is_found_within_the_hangover():
    ear, _ = listen("xxxxxxxx............xxx", hangover_ms=700)
    silence = ear.silence_before_reply(onset_ns=90 * MS, end_ns=200 * MS)
    assert silence == Span(140 * MS, 400 * MS)
    assert Ear().silence_before_reply(0, 0) is None
