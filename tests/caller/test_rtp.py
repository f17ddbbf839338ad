"""RTP packets, telephone-events and what a receiver counts, with literal octets and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.caller.rtp import (
    DtmfEvent,
    Histogram,
    Packet,
    ReceiverStatistics,
    digit_payloads,
    pack,
    sequence_delta,
    timestamp_delta,
    unpack,
)

MS = 1_000_000


def packet(sequence, at_ms=0.0, timestamp=None, ssrc=1):
    samples = sequence * 160 if timestamp is None else timestamp
    return Packet(int(at_ms * MS), sequence & 0xFFFF, samples & 0xFFFFFFFF, b"", False, 0, ssrc)


def heard(*sequences):
    statistics = ReceiverStatistics()
    for place, sequence in enumerate(sequences):
        statistics.add(packet(sequence, at_ms=20 * place))
    return statistics


def test_a_packet_is_these_octets():
    golden = bytes.fromhex("80 80 ffff fffffff0 deadbeef ff7f")
    assert pack(0, 0xFFFF, 0xFFFFFFF0, 0xDEADBEEF, b"\xff\x7f", marker=True) == golden
    assert unpack(golden, 5) == Packet(5, 0xFFFF, 0xFFFFFFF0, b"\xff\x7f", True, 0, 0xDEADBEEF)


def test_numbers_wrap_when_packed():
    assert unpack(pack(8, 0x10000, 0x1_0000_0010, 1, b"")).sequence == 0
    assert unpack(pack(8, 0x10000, 0x1_0000_0010, 1, b"")).timestamp == 0x10


def test_extension_csrc_and_padding_are_taken_off():
    data = bytes.fromhex("b1 00 0001 00000002 00000003 cccccccc bede 0001 aaaaaaaa 1122 0002")
    assert unpack(data).payload == b"\x11\x22"


@pytest.mark.parametrize(
    "broken",
    [
        b"\x80" * 11,
        b"\x40" + bytes(11),  # version 1
        b"\x8f" + bytes(11),  # 15 CSRCs that are not there
        b"\x90" + bytes(11),  # an extension that is not there
        b"\xa0" + bytes(12),  # padding of none
        b"\xa0" + bytes(11) + b"\x09",  # padding longer than the payload
    ],
)
def test_what_is_no_packet_is_a_value_error(broken):
    with pytest.raises(ValueError):
        unpack(broken)


@given(
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=200),
    st.booleans(),
)
def test_pack_and_unpack_are_a_pair(payload_type, sequence, timestamp, payload, marker):
    made = unpack(pack(payload_type, sequence, timestamp, 9, payload, marker=marker), 3)
    assert made == Packet(3, sequence, timestamp, payload, marker, payload_type, 9)


def test_differences_are_right_across_the_wrap():
    assert sequence_delta(2, 0xFFFE) == 4
    assert sequence_delta(0xFFFE, 2) == -4
    assert timestamp_delta(0x50, 0xFFFFFFB0) == 160
    assert timestamp_delta(0xFFFFFFB0, 0x50) == -160


def test_a_digit_of_60_ms_is_these_octets():
    ticks = [[bytes(event).hex() for event in tick] for tick in digit_payloads("#", 60)]
    assert ticks == [["0b0a00a0"], ["0b0a0140"], ["0b8a01e0"] * 3]


@given(st.sampled_from("0123456789*#ABCD"), st.booleans(), st.integers(0, 63), st.integers(0, 0xFFFF))
def test_events_survive_the_wire(digit, end, volume, duration):
    event = DtmfEvent(digit, end, volume, duration)
    assert DtmfEvent.parse(bytes(event) + b"more") == event


@pytest.mark.parametrize("broken", [b"\x01\x0a\x00", b"\x10\x0a\x00\xa0"])
def test_what_is_no_digit_is_a_value_error(broken):
    with pytest.raises(ValueError):
        DtmfEvent.parse(broken)


def test_a_key_that_no_telephone_has_is_refused():
    with pytest.raises(ValueError, match="no DTMF digit"):
        list(digit_payloads("x", 100))


def test_nothing_is_lost_across_the_sequence_wrap():
    statistics = heard(*range(0xFFF0, 0x10010))
    assert (statistics.expected, statistics.lost, statistics.reordered) == (32, 0, 0)
    assert statistics.extended_highest == 0x1000F


def test_lost_reordered_and_duplicate_packets_are_told_apart():
    statistics = heard(10, 11, 13, 12, 12, 16)
    assert (statistics.expected, statistics.received, statistics.lost) == (7, 6, 2)
    assert (statistics.reordered, statistics.duplicates) == (1, 1)


def test_a_first_packet_that_was_overtaken_is_expected_too():
    statistics = heard(11, 10, 12)
    assert (statistics.expected, statistics.lost, statistics.reordered) == (3, 0, 1)


def test_a_new_source_begins_a_new_base():
    statistics = heard(10, 11)
    statistics.add(packet(40_000, ssrc=2))
    statistics.add(packet(40_002, ssrc=2))
    assert (statistics.sources, statistics.expected, statistics.lost) == (2, 5, 1)


def test_jitter_follows_the_recurrence_of_rfc_3550():
    statistics = ReceiverStatistics()
    for sequence, at_ms in enumerate((0, 20, 45, 60)):  # transit differs by 0, +5, -5 ms = 0, 40, 40 samples
        statistics.add(packet(sequence, at_ms))
    first = 40 / 16
    assert statistics.jitter == pytest.approx(first + (40 - first) / 16)
    assert statistics.jitter_ms == pytest.approx(statistics.jitter / 8)


def test_jitter_does_not_see_the_timestamp_wrap():
    statistics = ReceiverStatistics()
    for step in range(4):
        statistics.add(packet(step, 20 * step, timestamp=0xFFFFFF00 + 160 * step))
    assert statistics.jitter == pytest.approx(0, abs=1e-6)


def test_a_hold_makes_no_gap():
    statistics = heard(1, 2)
    statistics.pause()
    statistics.add(packet(3, at_ms=9_000))
    statistics.add(packet(4, at_ms=9_020))
    assert (statistics.gaps.count, statistics.gaps.max_ns, statistics.lost) == (2, 20 * MS, 0)


@given(st.permutations(range(40)), st.sets(st.integers(1, 38)), st.integers(0, 0xFFFF))
def test_every_packet_is_received_or_lost(order, dropped, start):
    arrivals = [one for one in order if one not in dropped]
    statistics = heard(*(start + one for one in arrivals))
    assert statistics.lost == len(dropped & set(range(min(arrivals), max(arrivals))))
    assert statistics.duplicates == 0


def test_percentiles_are_within_a_bucket():
    histogram = Histogram()
    for gap_ms in range(1, 101):
        histogram.add(gap_ms * MS)
    assert histogram.percentile_ms(50) == pytest.approx(50, abs=0.05)
    assert histogram.percentile_ms(99) == pytest.approx(99, abs=0.05)
    assert histogram.max_ns == 100 * MS
    assert Histogram().percentile_ms(50) is None
