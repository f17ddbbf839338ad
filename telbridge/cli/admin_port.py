"""The admin port of a running server, for commands that ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from telbridge.config import ConfigErrors, load

TIMEOUT_S: Final = 5.0


def admin_url(config: Path | None, url: str | None) -> str:
    """As given, or by the settings. Ends the command where these are wrong."""
    try:
        admin = load(config).admin
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(1) from None
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    return (url or f"http://{host}:{admin.port}").rstrip("/")


def no_answer(where: str, error: Exception) -> typer.Exit:
    """Told; raise what comes back."""
    typer.echo(f"telbridge: no admin port at {where}: {error or 'no answer'}", err=True)
    return typer.Exit(1)
