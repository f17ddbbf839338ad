"""`telbridge check`: every mistake of settings and dialplans, before any call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from telbridge.cli.kinds import is_dialplan
from telbridge.config import ConfigErrors, Settings, load, warnings
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.serving import dialplans
from telbridge.serving.agent_apis import AgentApis


def check(
    files: Annotated[
        list[Path],
        typer.Argument(help="Settings files, dialplan files, folders of dialplans.", metavar="FILE|FOLDER"),
    ],
    settings: Annotated[
        Path | None,
        typer.Option("--settings", "-s", help="Settings (TOML) that the dialplans are checked against."),
    ] = None,
) -> None:
    """Check settings and dialplans; print each mistake as `file:line: key: what is wrong: what to write`.

    Dialplans are checked against the agent APIs that they name, and --settings for all that they do not say.
    Settings that name a folder of dialplans are checked with it.
    What makes no sense on a telephone gets a warning.
    Environment overrides (TELBRIDGE__SIP__PORT=5070) are checked too.

    Exit status 1 if there is any mistake.
    """
    try:
        around = load(settings)
    except ConfigErrors as errors:
        _print(errors)
        raise typer.Exit(1) from None
    fine = [
        _dialplans(file, around) if is_dialplan(file, around.dialplans.folder) else _settings(file)
        for file in files
    ]
    if not all(fine):
        raise typer.Exit(1)


def _settings(file: Path) -> bool:
    try:
        found = load(file)
    except ConfigErrors as errors:
        _print(errors)
        return False
    for warning in warnings(found):
        typer.echo(f"{file}: warning: {warning}")
    typer.echo(f"{file}: ok")
    folder = found.dialplans.folder
    return folder is None or _dialplans(folder, found)


def _dialplans(path: Path, settings: Settings) -> bool:
    try:
        loaded = dialplans.read(path, AgentApis(settings))
    except DialplanErrors as errors:
        for mistake in errors.mistakes:
            typer.echo(str(mistake))
        return False
    names = ", ".join(plan.name for plan in loaded.plans.plans)
    typer.echo(f"{path}: ok" + (f" ({names})" if path.is_dir() else ""))
    return True


def _print(errors: ConfigErrors) -> None:
    for error in errors.errors:
        typer.echo(str(error))
