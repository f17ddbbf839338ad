"""`telbridge upgrade`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import typer

from telbridge.config import ConfigErrors, load
from telbridge.serving.upgrade import HEADER, PATH

TIMEOUT_S: Final = 180.0


def upgrade(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (TOML) of the server.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", "-u", help="Admin port, as http://127.0.0.1:8081; default: by the settings."),
    ] = None,
) -> None:
    """Have a running server load its code and settings anew, without dropping a call.

    New workers take the new calls; the old ones end with their last call. If anything is wrong with the new
    code or settings, the old workers go on.

    Exit status 1, with the reason, if nothing was changed.
    """
    try:
        admin = load(config).admin
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(1) from None
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    where = (url or f"http://{host}:{admin.port}").rstrip("/")
    try:
        done = asyncio.run(_ask(where))
    except (aiohttp.ClientError, TimeoutError) as error:
        typer.echo(f"telbridge: no admin port at {where}: {error or 'no answer'}", err=True)
        raise typer.Exit(1) from None
    if "error" in done:
        typer.echo(f"telbridge: nothing was changed: {done['error']}", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"telbridge {done['version']}: {done['workers']} new workers take the calls; "
        f"{done['retiring']} old ones end with theirs"
    )


async def _ask(where: str) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers={HEADER: "upgrade"}) as http,
        http.post(where + PATH) as answer,
    ):
        if answer.status not in (200, 409):
            answer.raise_for_status()
        said: dict[str, Any] = await answer.json()
        return said
