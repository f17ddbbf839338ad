"""`telbridge serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from telbridge.compiled import is_compiled
from telbridge.config import ConfigErrors, Settings, load, warnings
from telbridge.ops import logging
from telbridge.serving.births import Nursery
from telbridge.serving.children import ChildFailed
from telbridge.serving.supervisor import PRELOAD, Supervisor
from telbridge.serving.systemd import check_passed, passed_sockets

log = structlog.get_logger()


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file (TOML). Default: all defaults.")
    ] = None,
) -> None:
    """Answer phone calls until SIGTERM or Ctrl-C; a second one does not wait for live calls.

    Without settings: SIP on UDP and TCP 5060, calls from loopback and private networks, the embedded agent.
    """
    try:
        settings = load(config)
        listening = passed_sockets()
        check_passed(listening, settings.sip)
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(1) from None
    nursery = Nursery(PRELOAD, forked=True)
    logging.configure(
        settings.log.level, settings.log.format, repeats=settings.log.repeats, process="supervisor"
    )
    for warning in warnings(settings):
        log.warning("settings_odd", what=warning)
    try:
        supervisor = Supervisor(
            settings, lambda ready: _announce(settings, ready), nursery, config, listening
        )
        asyncio.run(supervisor.run())
    except (ChildFailed, ConfigErrors) as error:
        typer.echo(f"telbridge: {error}", err=True)
        raise typer.Exit(1) from None


def _announce(settings: Settings, ready: Mapping[str, Any]) -> None:
    log.info(
        "serving",
        sip=ready["sip"],
        agent=settings.call.agent,
        records=settings.records.where(),
        pjsua2=ready["pjsua2"],
        code="compiled" if is_compiled() else "interpreted",
    )
    if "phone" in ready:
        log.info("call_from_browser", url=ready["phone"])
