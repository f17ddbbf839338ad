"""`telbridge check`: every mistake of a settings file, before any call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from telbridge.config import ConfigErrors, load, warnings


def check(
    files: Annotated[list[Path], typer.Argument(help="Settings files (TOML).", metavar="FILE...")],
) -> None:
    """Check settings files; print each mistake as `file: key: what is wrong: what to write instead`.

    Settings that make no sense on a telephone get a warning. Exit status 1 if there is any mistake.
    Environment overrides (TELBRIDGE__SIP__PORT=5070) are checked too.
    """
    wrong = False
    for file in files:
        try:
            settings = load(file)
        except ConfigErrors as errors:
            wrong = True
            for error in errors.errors:
                typer.echo(str(error))
        else:
            for warning in warnings(settings):
                typer.echo(f"{file}: warning: {warning}")
            typer.echo(f"{file}: ok")
    if wrong:
        raise typer.Exit(1)
