"""The SIP leg with the real library and real clients, on both builds of pjsua2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sip_bed import Bridge


@pytest.fixture(scope="module")
def bridge(pjsua2: str) -> Iterator[Bridge]:
    """One that answers every call and echoes; shared by the tests of a module."""
    with Bridge(pjsua2) as running:
        yield running
