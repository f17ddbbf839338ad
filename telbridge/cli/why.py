"""`telbridge why`: one call, turn by turn, with what was worst in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from telbridge.config import ConfigErrors, load
from telbridge.ops.archive import Archive
from telbridge.ops.asking import StoreDown, Wanted
from telbridge.ops.view.terminal import call_text
from telbridge.serving.records_settings import RecordsSection
from telbridge.sessions.credentials import SecretMissing

LAST = "last"


def why(
    call: Annotated[str, typer.Argument(help='Id of a call that is over, or "last".', metavar="CALL")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (TOML) of the server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record itself.")] = False,
) -> None:
    """Tell what was worst in a call and whose it was; show both voices, each turn's wait, all that happened.

    Reads the records themselves: the server need not run.
    """
    try:
        section = load(config).records
        record = _record(section, call)
    except (ConfigErrors, SecretMissing) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except StoreDown as error:
        typer.echo(f"telbridge: {section.where()} does not answer: {error}", err=True)
        raise typer.Exit(1) from None
    if record is None:
        where = f"{section.where()} or {section.spool()}"
        typer.echo(f"telbridge: no call {call!r} in {where}; one that goes on has no record yet", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    console.print(call_text(record, console.width))


def _record(section: RecordsSection, call: str) -> dict[str, Any] | None:
    archive = Archive(section.url(), section.spool(), 0)
    try:
        if call != LAST:
            return archive.get(call)
        newest = archive.find(Wanted(), 1)
        return archive.get(newest[0]["call_id"]) if newest else None
    finally:
        archive.stop()
