"""How many workers there are, and what each of them gets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.config import ConfigErrors
from telbridge.legs.sip.settings import SipSettings
from telbridge.serving.shares import shares

WHEEL, BUILT = 4, 1024


@pytest.mark.parametrize(
    ("max_calls", "cap", "cores", "workers"),
    [
        (None, BUILT, 8, 1),
        (None, WHEEL, 8, 1),
        (4, WHEEL, 2, 1),
        (5, WHEEL, 2, 2),
        (40, WHEEL, 2, 10),
        (1000, WHEEL, 2, 50),
        (100, BUILT, 8, 1),
        (101, BUILT, 8, 2),
        (400, BUILT, 8, 4),
        (400, BUILT, 2, 2),
        (400, BUILT, 1, 1),
    ],
)
def test_as_many_workers_as_the_calls_need_and_the_cores_carry(
    max_calls: int | None, cap: int, cores: int, workers: int
) -> None:
    assert len(shares(SipSettings(max_calls=max_calls), cap, cores)) == workers


def test_one_worker_gets_what_the_settings_say() -> None:
    sip = SipSettings(max_calls=3)
    assert shares(sip, WHEEL, 2) == [sip]


@given(st.integers(5, 2000), st.sampled_from([WHEEL, BUILT]), st.integers(1, 16), st.integers(0, 20_000))
def test_no_two_workers_have_an_rtp_port_in_common(max_calls: int, cap: int, cores: int, spare: int) -> None:
    sip = SipSettings(max_calls=max_calls, rtp_port_first=20_001, rtp_port_last=40_000 + spare)
    parts = shares(sip, cap, cores)
    ranges = [range(part.rtp_port_first, part.rtp_port_last + 1) for part in parts]
    assert all(before.stop <= after.start for before, after in pairwise(ranges))
    assert ranges[0].start == 20_001 and ranges[-1].stop <= sip.rtp_port_last + 1
    if len(parts) > 1:
        most = [part.max_calls or 0 for part in parts]
        assert all(len(ports) >= 2 * calls for ports, calls in zip(ranges, most, strict=True))
        assert max(most) <= cap
        assert sum(most) >= min(max_calls, len(parts) * cap)


def test_too_few_rtp_ports_are_one_clear_line() -> None:
    sip = SipSettings(max_calls=100, rtp_port_first=20_000, rtp_port_last=20_099)
    with pytest.raises(
        ConfigErrors, match=r"sip\.rtp_port_last: 4 RTP ports for each of 25 workers.*: widen"
    ):
        shares(sip, WHEEL, 2)
