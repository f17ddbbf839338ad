"""A softphone that others wrote: baresip calls, talks and hangs up."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import pytest
from sip_bed import HOST, Bridge, free_port

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


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_baresip_calls(bridge: Bridge, codec: str, tmp_path: Path) -> None:
    tone = tmp_path / "tone.wav"
    with wave.open(str(tone), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        # 440 Hz as a square wave, a second of it; the end of the file hangs up.
        out.writeframes(
            b"".join(
                (8000 if n * 880 // 8000 % 2 else -8000).to_bytes(2, "little", signed=True)
                for n in range(8000)
            )
        )
    rtp = free_port() & ~1
    (tmp_path / "config").write_text(
        CONFIG.format(host=HOST, port=free_port(), wav=tone, rtp=rtp, rtp_last=rtp + 10)
    )
    (tmp_path / "accounts").write_text(f"<sip:phone@{HOST}>;regint=0;audio_codecs={codec}/8000/1\n")
    (tmp_path / "contacts").write_text("")
    bridge.mark()
    command = ["baresip", "-f", str(tmp_path), "-e", f"/dial sip:echo@{HOST}:{bridge.port}", "-t", "8"]
    phone = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        call = bridge.wait("call")
        bridge.event("LegAnswered", call=call["call_id"])
        ended = bridge.event("LegEnded", call=call["call_id"])
        quality = bridge.wait("quality", call=call["call_id"])
    finally:
        phone.terminate()
        said, _ = phone.communicate(timeout=10)
    assert (call["caller"], call["codec"]) == ("phone", f"{codec}/8000"), said
    assert ended["ending"] == "caller_hung_up"
    assert quality["rx_packets"] > 30 and quality["rx_lost"] == 0 and quality["tx_packets"] > 30
