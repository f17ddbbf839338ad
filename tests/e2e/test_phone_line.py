"""The telephone's page in the supervisor and the stream in the worker: they know each other's tickets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.bridge import serving

SETTINGS: dict[str, Any] = {"local_agent": {"brain": "echo"}, "call": {"greeting": '""'}}
START = {"type": "start", "format": {"encoding": "pcm16", "rate_hz": 24000}, "events": True}


async def test_the_page_calls_with_a_ticket_of_the_admin_port(any_pjsua2: str, tmp_path: Path) -> None:
    async with serving(any_pjsua2, tmp_path, SETTINGS) as bridge, aiohttp.ClientSession() as http:
        (announced,) = await bridge.until_logged("call_from_browser")
        assert announced["url"] == f"{bridge.admin}/phone"
        async with http.get(announced["url"]) as page:
            assert page.status == 200
        async with http.post(f"{announced['url']}/line") as answer:
            line = (await answer.json())["url"]
        headers = {"Origin": bridge.admin}
        async with http.ws_connect(line, headers=headers) as socket:
            await socket.send_json(START)
            assert await socket.receive_json() == {"type": "started"}
            while (said := await socket.receive_json())["type"] != "event":
                pass
            assert said == {"type": "event", "event": "answered"}
            await socket.send_json({"type": "stop"})
        (record,) = await bridge.records(1)
    assert (record["ingress"], record["ending"]) == ("generic", "caller_hung_up")
