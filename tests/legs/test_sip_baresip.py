"""A softphone that others wrote: baresip calls, talks and hangs up."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sip_bed import HOST, Bridge

from tests.ports import free_port

pytestmark = pytest.mark.sip

CONFIG = """\
poll_method epoll
sip_listen {host}:{port}
net_interface {host}
audio_player aubridge,none
audio_source aufile,{wav}
audio_alert aubridge,none
ausrc_srate 8000
auplay_srate 8000
audio_channels 1
rtp_ports {rtp}-{rtp_last}
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module_app account.so
module_app menu.so
"""


@contextmanager
def baresip(bridge: Bridge, folder: Path, codec: str, seconds: int) -> Iterator[subprocess.Popen[str]]:
    """A telephone that calls the bridge and plays a tone for so long."""
    tone = folder / "tone.wav"
    with wave.open(str(tone), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        # 440 Hz as a square wave; the end of the file hangs up.
        out.writeframes(
            b"".join(
                (8000 if n * 880 // 8000 % 2 else -8000).to_bytes(2, "little", signed=True)
                for n in range(8000)
            )
            * seconds
        )
    rtp = free_port() & ~1
    (folder / "config").write_text(
        CONFIG.format(host=HOST, port=free_port(), wav=tone, rtp=rtp, rtp_last=rtp + 10)
    )
    (folder / "accounts").write_text(f"<sip:phone@{HOST}>;regint=0;audio_codecs={codec}/8000/1\n")
    (folder / "contacts").write_text("")
    command = ["baresip", "-f", str(folder), "-e", f"/dial sip:echo@{HOST}:{bridge.port}", "-t", "15"]
    phone = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield phone
    finally:
        phone.terminate()
        print(phone.communicate(timeout=10)[0])


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_baresip_calls(bridge: Bridge, codec: str, tmp_path: Path) -> None:
    bridge.mark()
    with baresip(bridge, tmp_path, codec, 1):
        call = bridge.wait("call")
        bridge.event("LegAnswered", call=call["call_id"])
        ended = bridge.event("LegEnded", call=call["call_id"])
        quality = bridge.wait("quality", call=call["call_id"])
    assert (call["caller"], call["codec"]) == ("phone", f"{codec}/8000")
    assert ended["ending"] == "caller_hung_up"
    assert quality["rx_packets"] > 30 and quality["rx_lost"] == 0 and quality["tx_packets"] > 30


def test_baresip_is_transferred_and_comes_back_from_a_busy_one(bridge: Bridge, tmp_path: Path) -> None:
    """It makes the second call to the bridge itself: first to somebody busy, then to an echo."""
    bridge.mark()
    with baresip(bridge, tmp_path, "pcmu", 12):
        call = bridge.event("LegAnswered")["call"]
        bridge.do("transfer", call=call, target=f"sip:reject-486@{HOST}:{bridge.port}")
        bridge.wait("call", called="reject-486")
        assert bridge.event("TransferFailed", call=call)["status"] == 486
        bridge.do("transfer", call=call, target=f"sip:echo2@{HOST}:{bridge.port}")
        second = bridge.wait("call", called="echo2")["call_id"]
        bridge.event("LegAnswered", call=second)
        bridge.event("TransferAnswered", call=call)
        assert bridge.event("LegEnded", call=call)["ending"] == "transferred"
    bridge.event("LegEnded", call=second)
