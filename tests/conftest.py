"""Fixtures for all tests: the two builds of pjsua2, recorded speech."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from telbridge.legs.sip.library import built_folder

# How long an example takes tells of the machine, and of who else is on it.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


@pytest.fixture(scope="session", params=["wheel", "built"])
def pjsua2(request: pytest.FixtureRequest) -> str:
    """Which pjsua2 the bridge under test runs on; absent ones fail where CI asks for them."""
    kind = str(request.param)
    if kind == "built" and built_folder() is None:
        missing = "no built pjsua2 for this Python: `make pjsua2`"
        if os.environ.get("TELBRIDGE_REQUIRE_BUILT") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    if kind == "wheel" and sys.version_info >= (3, 13):
        pytest.skip("there is no pjsua2 wheel for this Python")
    return kind


@pytest.fixture(scope="session")
def any_pjsua2() -> str:
    """The build that `telbridge serve` would take: for tests that do not depend on which."""
    return "built" if built_folder() is not None else "wheel"
