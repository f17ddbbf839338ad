"""What a tick sends."""

import pytest

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.caller.rtp import DtmfEvent, unpack
from telbridge.caller.sdp import Codec
from telbridge.caller.sender import RtpSender

ULAW, ALAW = Codec(0, PCMU_8K), Codec(8, PCMA_8K)
PCM = bytes(range(256)) * 3  # 384 samples: two frames and 64 samples


def phone(sequence=0xFFFE, timestamp=0xFFFFFF60):
    one = RtpSender(ULAW, ssrc=1, sequence=sequence, timestamp=timestamp)
    one.event_payload_type = 101
    return one


def ticks(sender, count):
    return [[unpack(data) for data in sender.tick(20_000_000 * tick)] for tick in range(count)]


def test_silence_flows_without_end_and_numbers_wrap():
    packets = [tick[0] for tick in ticks(phone(), 4)]
    assert [one.sequence for one in packets] == [0xFFFE, 0xFFFF, 0, 1]
    assert [one.timestamp for one in packets] == [0xFFFFFF60, 0, 160, 320]
    assert [one.marker for one in packets] == [True, False, False, False]
    assert {one.payload for one in packets} == {b"\xff" * 160}


def test_speech_is_sent_once_and_filled_up_with_silence():
    done = []
    sender = phone()
    sender.say(PCM, done.append)
    payload = b"".join(tick[0].payload for tick in ticks(sender, 4))
    assert payload == pcm16_to_ulaw(PCM) + b"\xff" * (640 - 384)
    (played,) = done
    assert (played.first_ns, played.last_ns, played.complete) == (0, 40_000_000, True)


def test_a_digit_keeps_its_timestamp_while_time_goes_on():
    sender = phone(sequence=10, timestamp=1000)
    sender.press("5", 60, lambda _: None)
    sent = ticks(sender, 4)
    events = [one for tick in sent[:3] for one in tick]
    assert [one.timestamp for one in events] == [1000] * 5
    assert [one.marker for one in events] == [True, False, False, False, False]
    assert [one.sequence for one in events] == [10, 11, 12, 13, 14]
    assert [DtmfEvent.parse(one.payload).end for one in events] == [False, False, True, True, True]
    assert (sent[3][0].payload_type, sent[3][0].timestamp) == (0, 1480)


def test_a_change_of_codec_holds_in_the_middle_of_a_line():
    sender = phone()
    sender.say(PCM * 2, lambda _: None)
    before = ticks(sender, 1)[0][0]
    sender.codec = ALAW
    after = ticks(sender, 1)[0][0]
    assert (before.payload_type, after.payload_type) == (0, 8)
    assert len(after.payload) == 160


def test_on_hold_time_goes_on_the_queue_waits_and_a_spurt_begins():
    sender = phone(sequence=5, timestamp=0)
    sender.say(PCM, lambda _: None)
    ticks(sender, 1)
    sender.enabled = False
    assert ticks(sender, 3) == [[], [], []]
    sender.enabled = True
    resumed = ticks(sender, 1)[0][0]
    assert (resumed.sequence, resumed.timestamp, resumed.marker) == (6, 640, True)
    assert resumed.payload == pcm16_to_ulaw(PCM)[160:320]


def test_what_is_cut_short_says_so():
    done = []
    sender = phone()
    sender.say(PCM, done.append)
    sender.say(PCM, done.append)
    ticks(sender, 1)
    sender.stop()
    assert [(one.first_ns, one.complete) for one in done] == [(0, False), (None, False)]
    assert sender.idle


def test_without_telephone_event_no_digit_is_sent():
    sender = RtpSender(ULAW, ssrc=1, sequence=0, timestamp=0)
    with pytest.raises(ValueError, match="telephone-event"):
        sender.press("1", 100, lambda _: None)
