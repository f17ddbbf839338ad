"""Calls as Asterisk brings them, through a real server and the embedded agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import StreamPhone
from tests.e2e.bridge import serving
from tests.e2e.heard import contains, say_until
from tests.e2e.test_providers import noise
from tests.e2e.test_stream_calls import ECHO, heard
from tests.ports import free_port


async def test_an_echoing_agent_is_heard_by_audiosocket_and_by_chan_websocket(
    any_pjsua2: str, tmp_path: Path
) -> None:
    port = free_port()
    words = noise(0.3)
    async with (
        serving(any_pjsua2, tmp_path, {**ECHO, "audiosocket": {"port": port}}) as bridge,
        StreamPhone() as phone,
    ):
        http = f"127.0.0.1:{bridge.http_port}/asterisk"
        for number, address in enumerate(
            (
                f"audiosocket://127.0.0.1:{port}?announce=http://{http}/announce",
                f"asterisk-ws://{http}/media",
            ),
            1,
        ):
            call = await phone.call(address)
            await bridge.until_logged("answered", count=number)
            await say_until(call, bytes(1600) + words, lambda call=call: _is_heard(words, call))
            await call.hang_up()
            record = (await bridge.records(number))[-1]
            assert record["ingress"] == ("audiosocket", "chan_websocket")[number - 1]
            assert record["ending"] == "caller_hung_up"
            assert call.facts.complaints == []


def _is_heard(words: bytes, call: StreamCall) -> bool:
    return contains(heard(call), np.frombuffer(words, "<i2")) > 0.98
