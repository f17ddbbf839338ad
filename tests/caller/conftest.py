"""Real callees on loopback: SIPp playing a scenario of ours, and baresip. A test ends what it starts."""

import asyncio
import json
import random
import shutil
import signal
import socket
import wave
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCENARIOS = Path(__file__).parent / "scenarios"
START_S = 30


def free_port(kind=socket.SOCK_DGRAM):
    """A port pair free for UDP and TCP, outside the ephemeral range and outside the softphone's own."""
    while True:
        port = random.randrange(12_000, 19_000, 4)
        try:
            for number, one in ((port, socket.SOCK_DGRAM), (port, socket.SOCK_STREAM), (port + 2, kind)):
                with closing(socket.socket(socket.AF_INET, one)) as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


async def bound(port, protocol="udp"):
    """Wait until somebody has the port (the kernel's table tells; there is no event for it)."""
    async with asyncio.timeout(START_S):
        while not is_bound(port, protocol):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def is_bound(port, protocol):
    return f":{port:04X} " in Path(f"/proc/net/{protocol}").read_text()


async def end(process):
    """By its own id only."""
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


class Sipp:
    """A running `sipp` as callee."""

    def __init__(self, process, port, transport):
        self.process = process
        self.uri = f"sip:echo@127.0.0.1:{port}" + (";transport=tcp" if transport == "tcp" else "")

    async def passed(self):
        """Whether its one call went as the scenario says."""
        async with asyncio.timeout(START_S):
            return await self.process.wait() == 0


@pytest.fixture
async def sipp(tmp_path):
    """`await sipp("echo")`: SIPp plays that scenario once, echoing RTP."""
    if shutil.which("sipp") is None:
        pytest.skip("needs SIPp (Debian: sip-tester)")
    async with AsyncExitStack() as running:

        async def start(scenario, transport="udp", calls=1):
            port = free_port()
            process = await asyncio.create_subprocess_exec(
                *("sipp", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-rtp_echo", "-t", f"{transport[0]}1"),
                *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(port), "-mp", str(port + 2)),
                *("-m", str(calls), "-nostdin", "-timeout", "20"),
                cwd=tmp_path,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            running.push_async_callback(end, process)
            await bound(port, transport)
            return Sipp(process, port, transport)

        yield start


class Baresip:
    """A running baresip that answers by itself, plays a 440 Hz tone and is driven over ctrl_tcp."""

    def __init__(self, process, port, folder):
        self.process = process
        self.folder = folder
        self._port = port
        self._reader = self._writer = None
        self._buffer = b""

    def uri(self, transport="udp"):
        return f"sip:callee@127.0.0.1:{self._port}" + (";transport=tcp" if transport == "tcp" else "")

    async def connect(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port + 2)

    async def command(self, name, params=""):
        body = json.dumps({"command": name, "params": params}).encode()
        self._writer.write(b"%d:%s," % (len(body), body))
        await self._writer.drain()

    async def event(self, kind):
        """The next event of this type (netstrings of JSON)."""
        async with asyncio.timeout(START_S):
            while True:
                size = int((await self._reader.readuntil(b":"))[:-1])
                message = json.loads((await self._reader.readexactly(size + 1))[:-1])
                if message.get("type") == kind:
                    return message

    def heard(self):
        """What it decoded, as samples (a file it writes when the call ends)."""
        (path,) = self.folder.glob("dump-*-dec.wav")
        return samples_of(path)

    async def close(self):
        self._writer.close()
        await end(self.process)


def samples_of(path, channel=0):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())[
            :, channel
        ]


def tone(frequency_hz=1000, duration_s=1.0, amplitude=8000):
    """Linear 16-bit 8 kHz."""
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(int(8000 * duration_s)) / 8000)).astype(
        "<i2"
    )


def loudest_hz(samples):
    """The strongest frequency in it."""
    spectrum = np.abs(np.fft.rfft(np.asarray(samples, float) * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[spectrum.argmax()])


@pytest.fixture
def sound():
    """`tone`, `loudest_hz`, `samples_of`: in importlib mode, test modules cannot import from here."""
    return SimpleNamespace(tone=tone, loudest_hz=loudest_hz, samples_of=samples_of)


BARESIP_CONFIG = """
poll_method epoll
call_local_timeout 120
call_max_calls 4
audio_buffer 40-100
audio_txmode thread
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtcp_mux no
jitter_buffer_delay 2-10
net_interface 127.0.0.1
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app debug_cmd.so
module_app ctrl_tcp.so
ringback_disabled yes
menu_bell no
sip_listen 127.0.0.1:{port}
rtp_ports {rtp}-{rtp_end}
audio_source aufile,{folder}/tone.wav
audio_player aubridge,p1
audio_alert aubridge,a1
snd_path {folder}
ctrl_tcp_listen 127.0.0.1:{control}
"""


@asynccontextmanager
async def running_baresip(folder, codecs):
    port = free_port(socket.SOCK_STREAM)
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(tone(440, 30).tobytes())
    rtp = free_port()
    names = {"port": port, "control": port + 2, "rtp": rtp, "rtp_end": rtp + 3, "folder": folder}
    (folder / "config").write_text(BARESIP_CONFIG.format(**names))
    (folder / "accounts").write_text(
        f"<sip:callee@127.0.0.1:{port}>;regint=0;answermode=auto;audio_codecs={codecs}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *("baresip", "-f", str(folder), "-v"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    callee = Baresip(process, port, folder)
    try:
        await bound(port + 2, "tcp")
        await bound(port)
        await callee.connect()
        yield callee
    finally:
        if callee._writer is not None:
            await callee.close()
        else:
            await end(process)


@pytest.fixture
async def baresip(tmp_path):
    """`await baresip("PCMA/8000/1")`: a callee with those codecs."""
    if shutil.which("baresip") is None:
        pytest.skip("needs baresip (Debian: baresip-core)")
    async with AsyncExitStack() as running:

        async def start(codecs="PCMU/8000/1,PCMA/8000/1"):
            return await running.enter_async_context(running_baresip(tmp_path, codecs))

        yield start
