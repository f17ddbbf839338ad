"""A real Chromium without a window, driven by the DevTools protocol over its WebSocket."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

START_S = 60.0
PATIENCE_S = 60.0


def program() -> str | None:
    """Where it is, if it is."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """One page. `complaints`: uncaught exceptions, console errors, and what its security policy refused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (answer := self._answers.pop(said.get("id", 0), None)) is not None:
                answer.set_result(said)
                continue
            match said.get("method"):
                case "Page.loadEventFired":
                    self._loaded.set()
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(said["params"]["exceptionDetails"]))
                case "Log.entryAdded" if said["params"]["entry"]["level"] in ("error", "warning"):
                    self.complaints.append(str(said["params"]["entry"]))
                case "Runtime.consoleAPICalled" if said["params"]["type"] in ("error", "warning", "assert"):
                    self.complaints.append(str(said["params"]))

    async def ask(self, method: str, **parameters: Any) -> Any:
        """One command; its result."""
        number = self._asked = self._asked + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, PATIENCE_S + 5)
        assert "error" not in said, f"{method}: {said}"
        return said["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")
        self._loaded.clear()
        await self.ask("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE_S)

    async def reloads(self, after: Awaitable[object], within_s: float = PATIENCE_S) -> None:
        """Do something upon which the page loads itself anew."""
        self._loaded.clear()
        await after
        await asyncio.wait_for(self._loaded.wait(), within_s)

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        said = await self.ask(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, condition: str, within_s: float = PATIENCE_S) -> None:
        """Wait until an expression is true of the page, looking at each change of it."""
        true = await self.run(
            f"""new Promise((resolve) => {{
              const look = () => {{ if ({condition}) {{ changes.disconnect(); resolve(true); }} }};
              const changes = new MutationObserver(look);
              changes.observe(document, {{ subtree: true, childList: true, attributes: true,
                                           characterData: true }});
              setTimeout(() => {{ changes.disconnect(); resolve(false); }}, {within_s * 1000});
              look();
            }})"""
        )
        text = await self.run("document.body.innerText")
        assert true, f"never: {condition}\n{text}\n{self.complaints}"

    async def click(self, selector: str) -> None:
        """As a finger does: at its middle."""
        x, y = await self.run(
            f"""(() => {{
              const it = document.querySelector({json.dumps(selector)});
              it.scrollIntoView({{ block: "nearest" }});
              const {{ x, y, width, height }} = it.getBoundingClientRect();
              return [x + width / 2, y + height / 2];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def look(self, *, width: int, height: int, dark: bool = False, scale: float = 1) -> bytes:
        """A picture of it (PNG) on such a screen."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        picture = await self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])

    async def close(self) -> None:
        await self._socket.close()
        await self._reader


@asynccontextmanager
async def chromium(executable: str, *switches: str) -> AsyncIterator[Tab]:
    """One that knows nothing of any other, and its first tab."""
    with tempfile.TemporaryDirectory(prefix="telbridge-chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            executable,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            "--remote-debugging-address=127.0.0.1",
            "--remote-debugging-port=0",
            *switches,
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await asyncio.wait_for(_port(process), START_S)
            draining = asyncio.create_task(_drain(process))
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    targets = await answer.json()
                page = next(target for target in targets if target["type"] == "page")
                tab = Tab(await http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0))
                try:
                    yield tab
                finally:
                    await tab.close()
        finally:
            process.terminate()
            await process.wait()
        await draining


async def _port(process: asyncio.subprocess.Process) -> int:
    """Of the DevTools, as it says on stderr."""
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"DevTools listening on ws://"):
            return int(line.split(b"//")[1].split(b"/")[0].rpartition(b":")[2])
    raise AssertionError("Chromium did not start")


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async for _ in process.stderr:
        pass
