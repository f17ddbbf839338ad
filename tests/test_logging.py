"""What is logged of a bug: where it happened, and nothing of what the call was about."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BUG = """
import sys
import structlog
from telbridge.ops import logging
logging.configure("info", sys.argv[1], process="worker")
def call(phone_number, environ):
    raise LookupError("no such thing")
try:
    call("+15550100", {"OPENAI_API_KEY": "sk-secret"})
except LookupError:
    structlog.get_logger().exception("call_bug", call_id="c1")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_names_the_place_and_no_private_value(log_format: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", BUG, log_format], capture_output=True, text=True, check=True
    ).stderr
    assert "LookupError" in printed
    assert "no such thing" in printed
    assert "+15550100" not in printed
    assert "sk-secret" not in printed
    if log_format == "json":
        line = json.loads(printed)
        assert (line["call_id"], line["process"]) == ("c1", "worker")
        assert line["exception"][0]["frames"][-1]["name"] == "call"
