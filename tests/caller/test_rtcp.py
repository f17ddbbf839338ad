"""RTCP reports."""

import pytest

from telbridge.caller.rtcp import ReportBlock, Reporter, parse, sender_report
from telbridge.caller.rtp import Packet, ReceiverStatistics

BLOCK = ReportBlock(7, 128, -1, 0x1000F, 12, 0xABCD1234, 65536)


def report(block=BLOCK, ssrc=9):
    return sender_report(
        ssrc=ssrc, wall_ns=1_500_000_000, timestamp=160, packets=3, octets=480, block=block, cname="caller@x"
    )


def test_a_sender_report_is_these_octets():
    head = bytes.fromhex("81c8000c 00000009 83aa7e81 80000000 000000a0 00000003 000001e0")
    block = bytes.fromhex("00000007 80ffffff 0001000f 0000000c abcd1234 00010000")
    description = bytes.fromhex("81ca0004 00000009 0108") + b"caller@x" + b"\0\0"
    assert report() == head + block + description


def test_a_compound_packet_gives_its_reports():
    (one,) = parse(report())
    assert (one.ssrc, one.packets, one.octets, one.blocks) == (9, 3, 480, (BLOCK,))
    assert parse(report(block=None))[0].blocks == ()


@pytest.mark.parametrize(
    "broken", [b"\x81\xc8", report()[:-1], b"\x41" + report()[1:], bytes.fromhex("81c9000100000001")]
)
def test_a_cut_report_is_a_value_error(broken):
    with pytest.raises(ValueError):
        parse(broken)


def test_our_block_tells_the_loss_since_the_block_before():
    statistics, reporter = ReceiverStatistics(), Reporter()
    for sequence in (1, 2, 4):
        statistics.add(Packet(sequence * 20_000_000, sequence, sequence * 160, b"", False, 0, 5))
    reporter.receive(report(), now_ns=0)
    first = reporter.block(5, statistics, now_ns=500_000_000)
    assert (first.fraction_lost, first.cumulative_lost) == (64, 1)
    assert (first.last_sender_report, first.delay) == (0x7E818000, 32768)
    assert reporter.block(5, statistics, now_ns=0).fraction_lost == 0
