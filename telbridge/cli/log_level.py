"""`telbridge log-level`: what a running server logs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import aiohttp
import typer

from telbridge.cli.admin_port import TIMEOUT_S, admin_url, no_answer
from telbridge.serving.log_level import PATH


def log_level(
    level: Annotated[
        str | None, typer.Argument(help="debug, info, warning or error; without it the level is told.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (TOML) of the server.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", help="Admin port, as http://127.0.0.1:8081; default: by the settings."),
    ] = None,
) -> None:
    """Tell or change the least level that a running server logs, in all its processes, until it ends."""
    where = admin_url(config, url)
    try:
        status, text = asyncio.run(_ask(where, level))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise no_answer(where, error) from None
    typer.echo(text.strip(), err=status != 200)
    raise typer.Exit(0 if status == 200 else 1)


async def _ask(where: str, level: str | None) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.request("GET" if level is None else "PUT", where + PATH, data=level) as answer,
    ):
        return answer.status, await answer.text()
