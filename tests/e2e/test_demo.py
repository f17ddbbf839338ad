"""What a newcomer does first: `telbridge demo`, `telbridge serve` and `telbridge call`, as commands."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import wave
from pathlib import Path

import pytest

from tests.e2e.bridge import serving


async def telbridge(*arguments: str) -> tuple[int, str]:
    """Run the command; its exit status and all it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "telbridge",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TELBRIDGE__")},
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.models
async def test_the_demo_ends_with_a_transcript_of_three_exchanges_one_interrupted() -> None:
    status, output = await telbridge("demo")
    assert status == 0, output
    assert len(re.findall(r"^ *\d+  caller: \w", output, re.M)) >= 3, output
    assert len(re.findall(r"^ *\d+  agent:  \w", output, re.M)) >= 4, output
    assert output.count("✂ interrupted") == 1, output
    assert "What the caller's side measured" in output


@pytest.mark.models
async def test_a_call_from_the_command_line_speaks_is_answered_and_recorded(
    any_pjsua2: str, tmp_path: Path
) -> None:
    recording = tmp_path / "call.wav"
    async with serving(any_pjsua2, tmp_path) as bridge:
        status, output = await telbridge(
            "call",
            bridge.uri,
            "--say",
            "What are your opening hours?",
            "--dtmf",
            "0",
            "--record",
            str(recording),
        )
        (record,) = await bridge.records(1)
    assert status == 0, output
    assert "we say: What are your opening hours?" in output
    assert "0 lost (0.0 %)" in output
    assert "open" in record["turns"][1]["caller_text"].lower()
    assert "open" in record["turns"][1]["agent_text"].lower()
    assert record["dtmf_count"] == 1
    with wave.open(str(recording)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
        assert file.getnframes() > 5 * 8000


async def test_a_call_to_nobody_says_so_and_fails() -> None:
    status, output = await telbridge("call", "sip:127.0.0.1:9", "--max-s", "1")
    assert status == 1
    assert "Traceback" not in output
