"""The telephone in the browser, in a real Chromium whose microphone is a WAV file.

Pictures of it in mid-call lie in the test's folder (`pytest --basetemp`): look at them after a change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telbridge.audio.wav import write_wav
from telbridge.cli.voice import make_voice
from tests.e2e.bridge import Bridge, serving
from tests.interop.chromium import Tab, chromium, program
from tests.ports import free_port

CHROMIUM = program()
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]

MS = 16
"""Octets of linear 8 kHz."""
ECHO: dict[str, Any] = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}
DIALPLAN = """
greeting = "Hello, this is telbridge. How can I help you?"
keys.5 = { say = "You pressed five." }
"""
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TALKING = "document.body.dataset.state === 'talking'"
OVER = "document.body.dataset.state === 'idle'"


def caller_wav(folder: Path, pcm: bytes) -> Path:
    """What the microphone hears, once."""
    path = folder / "caller.wav"
    write_wav(path, [pcm], 8000)
    return path


def noise(seconds: float) -> bytes:
    return np.random.default_rng(4).normal(0, 4000, int(8000 * seconds)).astype("<i2").tobytes()


@asynccontextmanager
async def a_browser(microphone: Path | None = None) -> AsyncIterator[Tab]:
    assert CHROMIUM is not None
    switches = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if microphone is None:
        switches = ["--use-fake-device-for-media-stream", "--deny-permission-prompts"]
    else:
        switches.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    async with chromium(CHROMIUM, *switches) as tab:
        yield tab


@asynccontextmanager
async def a_phone(
    build: str, folder: Path, settings: dict[str, Any], microphone: Path | None
) -> AsyncIterator[tuple[Bridge, Tab]]:
    """A real server, and its page in a browser; nothing there may have complained at the end."""
    async with serving(build, folder, settings) as bridge, a_browser(microphone) as tab:
        await tab.look(**DESK)
        await tab.open(f"{bridge.admin}/phone")
        yield bridge, tab
        assert tab.complaints == []


def lines(who: str) -> str:
    """The words of one side so far."""
    return f"[...document.querySelectorAll('li.{who} span')].map((one) => one.textContent)"


@pytest.mark.models
async def test_a_caller_is_understood_answered_interrupts_presses_a_key_and_hangs_up(
    any_pjsua2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = make_voice()
    spoken = (
        bytes(7000 * MS),  # The greeting is heard to its end.
        say("What are your opening hours?"),
        bytes(2800 * MS),  # The answer, which takes nine seconds, has begun.
        say("I would like to book a table for two."),
        bytes(30_000 * MS),
    )
    plans = tmp_path / "dialplans"
    plans.mkdir()
    (plans / "phone.toml").write_text(DIALPLAN, "utf-8")
    monkeypatch.setenv("GENERIC_TOKEN", "0123456789abcdef")
    settings: dict[str, Any] = {
        "dialplans": {"folder": str(plans)},
        "generic": {"token": '{ env = "GENERIC_TOKEN" }'},
    }
    microphone = caller_wav(tmp_path, b"".join(spoken))
    async with a_phone(any_pjsua2, tmp_path, settings, microphone) as (bridge, tab):
        await tab.run("document.getElementById('called').value = '+49 30 1234567'")
        await tab.click("#call")
        await tab.until(TALKING)
        await tab.until(f"{lines('agent')}[0] === 'Hello, this is telbridge. How can I help you?'")
        await tab.until("+document.getElementById('agent-level').ariaValueNow > 30")
        await tab.until("+document.getElementById('you-level').ariaValueNow > 30")
        await tab.until(f"{lines('you')}.some((text) => /opening hours/i.test(text))")
        await tab.until("document.querySelector('li.agent span.cut')")
        heard = await tab.run("document.querySelector('li.agent span.cut').textContent")
        await tab.until(f"{lines('you')}.some((text) => /table for two/i.test(text))")
        for dark in (False, True):
            for screen, size in (("desk", DESK), ("phone", PHONE)):
                picture = await tab.look(**size, dark=dark)
                (tmp_path / f"{screen}{'-dark' if dark else ''}.png").write_bytes(picture)
        await tab.click("#keys")
        await tab.click("#keypad button:nth-child(5)")
        await tab.until(f"{lines('agent')}.includes('You pressed five.')")
        gaps = await tab.run("document.getElementById('figures').textContent")
        await tab.click("#call")
        await tab.until(OVER)
        assert await tab.run("document.getElementById('state').textContent") == "You hung up"
        (record,) = await bridge.records(1)
    assert (record["ending"], record["called"]) == ("caller_hung_up", "+49 30 1234567")
    assert record["codec"] == "pcm16/24000"
    assert record["dtmf_count"] == 1
    (cut,) = [turn for turn in record["turns"] if (turn["interruption"] or {}).get("by") == "api"]
    assert cut["agent_text"].startswith(heard)
    assert 0 < len(heard) < len(cut["agent_text"]) / 2, "about a quarter was heard"
    assert gaps.startswith("typical answer ")


async def test_where_the_browser_does_not_resample_the_page_does(any_pjsua2: str, tmp_path: Path) -> None:
    """As Firefox: it gives a microphone to no AudioContext of another rate."""
    microphone = caller_wav(tmp_path, bytes(1000 * MS) + noise(4) + bytes(30_000 * MS))
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, a_browser(microphone) as tab:
        await tab.ask(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""const give = AudioContext.prototype.createMediaStreamSource;
                      AudioContext.prototype.createMediaStreamSource = function (stream) {
                        if (this.sampleRate === 24000) throw new DOMException("", "NotSupportedError");
                        window.contextRate = this.sampleRate;
                        return give.call(this, stream);
                      };""",
        )
        await tab.open(f"{bridge.admin}/phone")
        await tab.click("#call")
        await tab.until("+document.getElementById('agent-level').ariaValueNow > 30")
        assert await tab.run("window.contextRate") in (44100, 48000)
        await tab.until("+document.getElementById('agent-level').ariaValueNow < 5")
        await tab.click("#call")
        (record,) = await bridge.records(1)
    # Twenty-four thousand samples a second, as promised, and not the microphone's 44 100: what a busy browser
    # had captured before its stream was open is half a second at most.
    assert record["rtp"]["rx_packets"] == pytest.approx(record["duration_ms"] / 20, rel=0.25, abs=30)


async def test_an_agent_that_cannot_be_reached_is_heard_to_be_sorry_and_named(
    any_pjsua2: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "call": {"agent": "openai_realtime", "connect_timeout_s": 1},
        "openai_realtime": {
            "url": f"ws://127.0.0.1:{free_port()}/v1/realtime",
            "api_key": '{ env = "HOME" }',
        },
    }
    microphone = caller_wav(tmp_path, bytes(30_000 * MS))
    async with a_phone(any_pjsua2, tmp_path, settings, microphone) as (_, tab):
        await tab.click("#call")
        await tab.until("+document.getElementById('agent-level').ariaValueNow > 30")
        await tab.until(OVER)
        said = await tab.run("document.getElementById('state').textContent")
        assert said == "The agent could not be reached"


async def test_a_page_without_a_microphone_says_what_to_do(any_pjsua2: str, tmp_path: Path) -> None:
    async with a_phone(any_pjsua2, tmp_path, ECHO, None) as (_, tab):
        await tab.click("#call")
        await tab.until("/may not use the microphone/.test(document.getElementById('notice').textContent)")
        assert await tab.run("document.getElementById('call').textContent") == "Call"


async def test_who_hangs_up_before_the_microphone_is_allowed_has_called_nobody(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, a_browser(caller_wav(tmp_path, b"")) as tab:
        await tab.ask(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""const devices = MediaDevices.prototype, ask = devices.getUserMedia;
                      devices.getUserMedia = async function (wish) {
                        const stream = await ask.call(this, wish);
                        window.track = stream.getTracks()[0];
                        document.body.dataset.asked = "yes";
                        await new Promise((allow) => (window.allow = allow));
                        return stream;
                      };""",
        )
        await tab.open(f"{bridge.admin}/phone")
        await tab.click("#call")
        await tab.until("document.body.dataset.asked")
        await tab.click("#call")
        assert await tab.run("document.getElementById('state').textContent") == "You hung up"
        await tab.run("(window.allow(), new Promise((done) => setTimeout(done)))")
        assert await tab.run("window.track.readyState") == "ended"
        assert await tab.run("document.getElementById('notice').hidden")
        assert tab.complaints == []
        assert bridge.logged("call_arrived") == []


async def test_a_page_that_is_not_secure_says_what_to_do(any_pjsua2: str, tmp_path: Path) -> None:
    async with serving(any_pjsua2, tmp_path, ECHO) as bridge, a_browser() as tab:
        await tab.ask(
            "Page.addScriptToEvaluateOnNewDocument",
            source="""Object.defineProperty(window, "isSecureContext", { value: false });
                      Object.defineProperty(navigator, "mediaDevices", { value: undefined });""",
        )
        await tab.open(f"{bridge.admin}/phone")
        await tab.until("document.getElementById('call').disabled")
        notice = await tab.run("document.getElementById('notice').textContent")
        assert "ssh -L" in notice
        assert "HTTPS" in notice


# ---------------------------------------------------------------- the audio threads' code, as it is served

PLAYOUT = """(async () => {
  const { Playout } = await import("./phone/playout.js");
  const rate = 24000, hz = 200, steps = [], acked = [];
  let seed = 7, t = 0, sent = 0, last = 0, steepest = 0, sounding = 0, late = 0;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const playout = new Playout(rate);
  const wave = (n) => Int16Array.from({ length: n }, () => 20000 * Math.sin(2 * Math.PI * hz * t++ / rate));
  for (let i = 0; i < 20000; i++) {
    if (random() < 0.25) playout.push(wave(480 * Math.ceil(3 * random() ** 3)));
    if (random() < 0.05) playout.mark(sent++);
    const cleared = random() < 0.01;
    if (cleared) acked.push(...playout.clear());
    const out = new Float32Array(128);
    acked.push(...playout.render(out));
    for (const sample of out) {
      steepest = Math.max(steepest, Math.abs(sample - last));
      sounding += sample !== 0;
      last = sample;
    }
    if (cleared) {
      const rest = new Float32Array(128);
      acked.push(...playout.render(rest));
      for (const sample of rest) { steepest = Math.max(steepest, Math.abs(sample - last)); last = sample; }
      late += playout.queued === 0 && rest.slice(0.005 * rate - 128).some((sample) => sample !== 0);
    }
  }
  playout.clear().forEach((name) => acked.push(name));
  return { steepest, smooth: (20000 / 32768) * 2 * Math.PI * hz / rate, sounding, late,
           acked: acked.length, sent, inOrder: acked.every((name, i) => name === i) };
})()"""

RESAMPLED = """(async () => {
  const { Resampler } = await import("./phone/microphone.js");
  const level = (from, hz) => {
    const resampler = new Resampler(from, 24000);
    const out = [];
    for (let block = 0; block < from / 128; block++) {
      out.push(...resampler.push(Float32Array.from({ length: 128 },
        (_, i) => Math.sin(2 * Math.PI * hz * (128 * block + i) / from))));
    }
    let [c, s, power] = [0, 0, 0];
    const middle = out.slice(1000, -1000);
    middle.forEach((sample, i) => {
      c += sample * Math.cos(2 * Math.PI * hz * i / 24000);
      s += sample * Math.sin(2 * Math.PI * hz * i / 24000);
      power += sample * sample;
    });
    const amplitude = 2 * Math.hypot(c, s) / middle.length;
    return { count: out.length, amplitude, rms: Math.sqrt(power / middle.length) };
  };
  const tones = [1000, 7000, 15000];
  return [44100, 48000, 16000, 96000].map((from) => tones.map((hz) => level(from, hz)));
})()"""


async def test_bursts_gaps_and_clears_are_played_without_a_click(any_pjsua2: str, tmp_path: Path) -> None:
    async with a_phone(any_pjsua2, tmp_path, ECHO, None) as (_, tab):
        played = await tab.run(PLAYOUT)
    assert played["sounding"] > 200_000
    assert played["steepest"] <= 1.1 * played["smooth"], "a click"
    assert played["late"] == 0, "sound later than 5 ms after a clear"
    assert played["inOrder"]
    assert played["acked"] == played["sent"]


async def test_what_the_page_resamples_keeps_its_level_and_its_length(
    any_pjsua2: str, tmp_path: Path
) -> None:
    async with a_phone(any_pjsua2, tmp_path, ECHO, None) as (_, tab):
        found = await tab.run(RESAMPLED)
    for from_hz, (low, high, above) in zip((44100, 48000, 16000, 96000), found, strict=True):
        for tone in (low, high):
            assert tone["count"] == pytest.approx(24000, abs=300), from_hz
            assert tone["amplitude"] == pytest.approx(1, abs=0.03), from_hz
            assert tone["rms"] == pytest.approx(np.sqrt(0.5), abs=0.03), from_hz
        if from_hz > 24000:
            assert above["rms"] < 0.01, "it came back as another tone"
