"""The SIP leg with the real library and real clients, on both builds of pjsua2."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sip_bed import Bridge

from telbridge.legs.sip.library import built_folder


@pytest.fixture(scope="session", params=["wheel", "built"])
def pjsua2(request: pytest.FixtureRequest) -> str:
    """Which build the bridge under test runs on."""
    kind = str(request.param)
    missing = None
    if kind == "built" and built_folder() is None:
        missing = "no built pjsua2 for this Python: `make pjsua2`"
    elif kind == "wheel" and sys.version_info >= (3, 13):
        pytest.skip("there is no pjsua2 wheel for this Python")
    if missing and os.environ.get("TELBRIDGE_REQUIRE_BUILT") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return kind


@pytest.fixture(scope="module")
def bridge(pjsua2: str) -> Iterator[Bridge]:
    """One that answers every call and echoes; shared by the tests of a module."""
    with Bridge(pjsua2) as running:
        yield running
