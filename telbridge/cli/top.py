"""`telbridge top`: the calls that go on, refreshed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.live import Live

from telbridge.cli.admin_port import TIMEOUT_S, admin_url, no_answer
from telbridge.ops.view.terminal import top_text


def top(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (TOML) of the server.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", help="Admin port, as http://127.0.0.1:8081; default: by the settings."),
    ] = None,
    every: Annotated[float, typer.Option("--every", "-e", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
) -> None:
    """Show the live calls of a running server, with turn gap and MOS, until Ctrl-C."""
    where = admin_url(config, url)
    try:
        asyncio.run(_show(where, every, once=once))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise no_answer(where, error) from None
    except KeyboardInterrupt:
        return


async def _show(where: str, every_s: float, *, once: bool) -> None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        calls = await _live(http, where)
        if once:
            Console().print(top_text(calls))
            return
        with Live(top_text(calls), screen=True, auto_refresh=False) as screen:
            while True:
                await asyncio.sleep(every_s)
                screen.update(top_text(await _live(http, where)), refresh=True)


async def _live(http: aiohttp.ClientSession, where: str) -> list[dict[str, Any]]:
    async with http.get(
        f"{where}/calls", params={"live": "1", "format": "json"}, raise_for_status=True
    ) as answer:
        found: list[dict[str, Any]] = (await answer.json())["live"]
        return found
