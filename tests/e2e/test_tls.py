"""SIP over TLS with a telephone that others wrote: baresip, which checks our certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from telbridge.legs.sip.library import built_folder
from tests.e2e.bridge import serving
from tests.e2e.test_several_workers import ECHO
from tests.ports import free_port

CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{port}
sip_cafile {root}
sip_verify_server yes
net_interface 127.0.0.1
audio_player aubridge,none
audio_source aubridge,none
audio_alert aubridge,none
rtp_ports {rtp}-{rtp_last}
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module_app account.so
module_app menu.so
"""


def _configure(folder: Path, root: Path) -> None:
    rtp = free_port() & ~1
    config = CONFIG.format(port=free_port(), root=root, rtp=rtp, rtp_last=rtp + 10)
    folder.mkdir()
    (folder / "config").write_text(config)
    (folder / "accounts").write_text(
        "<sip:phone@127.0.0.1;transport=tls>;regint=0;audio_codecs=pcmu/8000/1\n"
    )
    (folder / "contacts").write_text("")


@asynccontextmanager
async def baresip(folder: Path, root: Path, uri: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A telephone that calls, until it is told to quit."""
    _configure(folder, root)
    phone = await asyncio.create_subprocess_exec(
        *("baresip", "-f", str(folder), "-e", f"/dial {uri}", "-t", "60"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield phone
    finally:
        if phone.returncode is None:
            phone.terminate()
        await asyncio.wait_for(phone.wait(), 20)


async def says(phone: asyncio.subprocess.Process, words: bytes) -> None:
    assert phone.stdout is not None
    said = b""
    async with asyncio.timeout(20):
        while words not in said:
            more = await phone.stdout.read(4096)
            assert more, said
            said += more


async def test_a_call_by_tls_is_ended_by_either_side(tmp_path: Path) -> None:
    if built_folder() is None:
        pytest.skip("no built pjsua2")
    authority, port = trustme.CA(), free_port()
    root, ours = tmp_path / "root.pem", tmp_path / "ours.pem"
    authority.cert_pem.write_to_path(str(root))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(ours))
    tls = {"tls__certificate": str(ours), "tls__port": port}
    async with serving("built", tmp_path, {"sip": tls, **ECHO}) as bridge:
        uri = f"sip:agent@127.0.0.1:{port};transport=tls"
        async with baresip(tmp_path / "one", root, uri) as phone:
            await says(phone, b"Call established")
        (record,) = await bridge.records(1)
        assert record["ending"] == "caller_hung_up"
        async with baresip(tmp_path / "two", root, uri) as phone:
            await says(phone, b"Call established")
            bridge.kill("worker 1")
            await says(phone, b"session closed")
