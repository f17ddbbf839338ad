"""The page of a call in a real Chromium, while the call goes on and when it ends.

Pictures of it lie in the test's folder (`pytest --basetemp`): look at them after a change.
"""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from telbridge.caller.softphone import Softphone
from tests.e2e.bridge import serving
from tests.e2e.test_calls import noise, scripted
from tests.e2e.test_metrics import SCRIPT
from tests.interop.chromium import chromium, program

CHROMIUM = program()
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.timeout(300),
]
LONG_S = 60.0


async def test_it_keeps_up_with_the_call_and_shows_its_record_at_the_end(
    any_pjsua2: str, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    settings = scripted(tmp_path, SCRIPT)
    async with serving(any_pjsua2, tmp_path, settings) as bridge, Softphone("127.0.0.1") as phone:
        call = await phone.call(bridge.uri)
        await call.wait_answered(LONG_S)
        (arrived,) = await bridge.until_logged("call_arrived")
        url = f"{bridge.admin}/calls/{arrived['call_id']}"
        async with chromium(CHROMIUM) as tab:
            await tab.open(url)
            await tab.until("document.querySelector('h1').innerText.startsWith('On the phone')")
            await tab.run("window.still = true")
            await call.play(bytes(16_000) + noise(0.6) + bytes(16_000))
            await tab.until("document.querySelector('rect.caller') !== null", LONG_S)
            await tab.until("document.querySelector('.wait') !== null", LONG_S)
            assert await tab.run("window.still"), "it was renewed in place"
            for name, size in {"desk": (1280, 1000), "phone": (390, 844)}.items():
                picture = await tab.look(width=size[0], height=size[1])
                (tmp_path / f"live-{name}.png").write_bytes(picture)
                assert await tab.run("document.documentElement.scrollWidth <= innerWidth"), name
            await tab.reloads(call.hang_up(), LONG_S)
            assert "the caller hung up" in await tab.run("document.body.innerText")
            (tmp_path / "over.png").write_bytes(await tab.look(width=1280, height=1000))
            assert tab.complaints == []
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert (await answer.json())["ending"] == "caller_hung_up"
