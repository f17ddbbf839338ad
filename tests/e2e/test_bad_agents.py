"""An agent that fails, however it fails: spoken words instead of silence, and the process lives."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import load_wav, write_wav
from telbridge.caller.softphone import Softphone
from telbridge.serving.apology import apology_path
from tests.e2e.bridge import serving
from tests.e2e.heard import Samples, contains, heard, tones_hz

REFUSED = '[[step]]\non = "start"\nmisdeed = "{misdeed}"\n'
AT_GREETING = '[[step]]\non = "request"\nmisdeed = "{misdeed}"\n'

CASES = {
    "closes at once": (REFUSED.format(misdeed="close"), "agent_unreachable"),
    "breaks the connection at once": (REFUSED.format(misdeed="abort"), "agent_unreachable"),
    "sends garbage at once": (REFUSED.format(misdeed="garbage"), "agent_unreachable"),
    "sends no object at once": (REFUSED.format(misdeed="not_an_object"), "agent_unreachable"),
    "never takes the configuration": ('updates = "ignore"\n', "agent_unreachable"),
    "refuses the configuration": ('updates = "refuse"\n', "agent_refused"),
    "sends garbage instead of a greeting": (AT_GREETING.format(misdeed="garbage"), "agent_lost"),
    "sends audio of an unknown reply": (AT_GREETING.format(misdeed="strange_audio"), "agent_lost"),
    "sends no base64": (AT_GREETING.format(misdeed="bad_base64"), "agent_lost"),
    "closes in mid-call": (AT_GREETING.format(misdeed="close"), "agent_lost"),
    "breaks in mid-call": (AT_GREETING.format(misdeed="abort"), "agent_lost"),
    "expires": (AT_GREETING.format(misdeed="expire"), "agent_lost"),
}


@pytest.fixture(scope="module")
def sorry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Samples]:
    """The first words of the apology, so that the tests need not hear all of it."""
    file = tmp_path_factory.mktemp("apology") / "sorry.wav"
    words = load_wav(apology_path(), PCM_8K)[: 16 * 800]
    write_wav(file, [words], 8000)
    return file, np.frombuffer(words, "<i2")


def settings_for(folder: Path, script: str, sorry: Path) -> dict[str, Any]:
    file = folder / "script.toml"
    file.write_text(script, "utf-8")
    return {
        "local_agent": {"brain": "script", "script": str(file)},
        "call": {
            "apology_wav": str(sorry),
            "setup_timeout_s": 1,
            "connect_timeout_s": 1,
            "reply_timeout_s": 1,
        },
    }


@pytest.mark.parametrize("case", CASES)
async def test_the_caller_hears_an_apology_and_the_server_goes_on(
    any_pjsua2: str, tmp_path: Path, sorry: tuple[Path, Samples], case: str
) -> None:
    script, ending = CASES[case]
    file, words = sorry
    async with (
        serving(any_pjsua2, tmp_path, settings_for(tmp_path, script, file)) as bridge,
        Softphone("127.0.0.1") as phone,
    ):
        for number in (1, 2):
            call = await phone.call(bridge.uri)
            await call.wait_answered(10)
            await call.wait_ended(10)
            assert contains(heard(call), words) > 0.9, f"no apology was heard in call {number}"
            assert (await bridge.records(number))[-1]["ending"] == ending
        assert len(bridge.logged("apology")) == 2
        assert not bridge.logged("child_died")


async def test_an_agent_that_cannot_be_reached_is_replaced_by_an_apology(
    any_pjsua2: str, tmp_path: Path, sorry: tuple[Path, Samples]
) -> None:
    """A port that takes connections and never says a word."""
    file, words = sorry
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings: dict[str, Any] = {
            "call": {"agent": "openai_realtime", "apology_wav": str(file), "connect_timeout_s": 1},
            "openai_realtime": {
                "url": f"ws://127.0.0.1:{silent.getsockname()[1]}",
                "api_key": '{ env = "HOME" }',
            },
        }
        async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
            call = await phone.call(bridge.uri)
            await call.wait_answered(10)
            await call.wait_ended(10)
            assert contains(heard(call), words) > 0.9
            (record,) = await bridge.records(1)
            assert record["ending"] == "agent_unreachable"


async def test_thirty_seconds_of_audio_in_one_message_are_played_and_can_be_interrupted(
    any_pjsua2: str, tmp_path: Path, sorry: tuple[Path, Samples]
) -> None:
    script = AT_GREETING.format(misdeed="huge_audio")
    script += '[[step]]\non = "caller_starts"\nevent = "speech_started"\n'
    async with (
        serving(any_pjsua2, tmp_path, settings_for(tmp_path, script, sorry[0])) as bridge,
        Softphone("127.0.0.1") as phone,
    ):
        call = await phone.call(bridge.uri)
        await call.wait_answered(10)
        rng = np.random.default_rng(1)
        await call.play(bytes(16000) + (rng.standard_normal(4000) * 3000).astype("<i2").tobytes())
        (cut,) = await bridge.until_logged("barge_in")
        await call.hang_up()
    assert cut["heard_ms"] + cut["discarded_ms"] == pytest.approx(30_000, abs=2)
    assert set(tones_hz(heard(call))) == {440}


async def test_an_unknown_message_changes_nothing(
    any_pjsua2: str, tmp_path: Path, sorry: tuple[Path, Samples]
) -> None:
    script = REFUSED.format(misdeed="unknown_event")
    script += '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 300 }\n'
    async with (
        serving(any_pjsua2, tmp_path, settings_for(tmp_path, script, sorry[0])) as bridge,
        Softphone("127.0.0.1") as phone,
    ):
        call = await phone.call(bridge.uri)
        await call.wait_answered(10)
        await call.play(bytes(16000))
        await call.hang_up()
        (record,) = await bridge.records(1)
    assert set(tones_hz(heard(call))) == {440}
    assert record["faults"] == {"unknown_message": 1}
