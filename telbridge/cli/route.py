"""`telbridge route`: which dialplan a call would get, and why no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from telbridge.config import ConfigErrors, Settings, load
from telbridge.dialplan.facts import Facts
from telbridge.dialplan.loader import DialplanSet
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.serving import dialplans
from telbridge.serving.agent_apis import AgentApis

USUAL: Final = Path("dialplans")
"""Where dialplans lie if nobody says so."""


def route(
    to: Annotated[str, typer.Option("--to", help="Number or user that is called.", metavar="NUMBER")],
    caller: Annotated[
        str, typer.Option("--from", help="Number or user that calls; left out: hidden.", metavar="NUMBER")
    ] = "",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", help="A SIP header; may be given several times.", metavar="NAME=VALUE"),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="A parameter of a media stream; may be given several times.", metavar="NAME=VALUE"
        ),
    ] = None,
    ingress: Annotated[str, typer.Option(help="Kind of telephone side: sip, twilio …")] = "sip",
    trunk: Annotated[str, typer.Option(help="Name of the trunk that the call comes over.")] = "",
    peer: Annotated[str, typer.Option(help="Address of the peer.", metavar="ADDRESS")] = "",
    domain: Annotated[str, typer.Option(help="Host part of the called address.")] = "",
    direction: Annotated[Literal["in", "out"], typer.Option(help="out: a call that we make.")] = "in",
    call_id: Annotated[
        str, typer.Option(help="Our id of the call, by which `share` with by = call sorts.", metavar="ID")
    ] = "route",
    at: Annotated[
        str | None,
        typer.Option(
            help="When it comes, as 2026-12-24T18:00 (this machine's time zone) or with +01:00 behind it. "
            "Default: now.",
            metavar="TIME",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dialplans", help="Folder of the dialplans. Default: that of the settings, else ./dialplans."
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="Settings (TOML) that the bridge would have.")
    ] = None,
) -> None:
    """Tell which dialplan a call would get, and why each other one would not be taken.

    Dialplans are listed in the order in which they are looked at.

    Exit status 1 if none is for the call, or if they have mistakes (printed as by `telbridge check`).
    """
    moment = _moment(at)
    facts = Facts(
        call_id, ingress, caller, to, moment, domain, trunk, peer,
        _pairs(header, "--header"), _pairs(param, "--param"), direction=direction,
    )  # fmt: skip
    plans = _plans(settings, folder)
    typer.echo(f"{caller or 'anonymous'} calls {to} over {ingress}, {moment:%A %Y-%m-%d %H:%M %Z}\n")
    for line in shown(plans, facts, moment):
        typer.echo(line)
    if plans.route(facts, moment).chosen is None:
        typer.echo("\nNo dialplan is for this call: it would be refused.")
        raise typer.Exit(1)


def shown(plans: DialplanSet, facts: Facts, at: datetime) -> Iterator[str]:
    """One line a dialplan, and one more for each further reason."""
    choice = plans.route(facts, at)
    width = max(len(verdict.name) for verdict in choice.verdicts)
    reasons: tuple[str, ...]
    for verdict, line in zip(choice.verdicts, choice.lines(), strict=True):
        if verdict.name == choice.chosen:
            plan = plans.plan(verdict.name)
            agent = plan.sessions[""].agent or plan.default_agent
            answer, reasons = (
                "yes",
                (f"{plan.file or 'the settings'}, version {plan.version}, agent {agent}",),
            )
        elif verdict.reasons:
            answer, reasons = "no", verdict.reasons
        else:
            answer, reasons = "later", (line.rpartition("would match, but ")[2],)
        yield f"{'→' if answer == 'yes' else ' '} {verdict.name:<{width}}  {answer:<5}  {reasons[0]}"
        yield from (" " * (width + 11) + reason for reason in reasons[1:])


def _plans(settings: Path | None, folder: Path | None) -> DialplanSet:
    try:
        around = load(settings)
        path = folder or around.dialplans.folder or (USUAL if USUAL.is_dir() else None)
        return _built_in(around) if path is None else dialplans.read(path, AgentApis(around)).plans
    except ConfigErrors as wrong:
        lines = [str(error) for error in wrong.errors]
    except DialplanErrors as wrong:
        lines = [str(mistake) for mistake in wrong.mistakes]
    typer.echo("\n".join(lines))
    raise typer.Exit(1)


def _built_in(settings: Settings) -> DialplanSet:
    return DialplanSet((dialplans.built_in(settings),), "settings")


def _moment(text: str | None) -> datetime:
    try:
        moment = datetime.now() if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write it as 2026-12-24T18:00", param_hint="--at"
        ) from None
    return moment.astimezone() if moment.tzinfo is None else moment


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, found, value = text.partition("=")
        if not found or not name.strip():
            raise typer.BadParameter(f"{text!r} has no value: write NAME=VALUE", param_hint=option)
        pairs[name.strip()] = value
    return pairs
