"""What `telbridge demo` does: everything at once, without a phone."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import ValidationError

from telbridge.caller.report import CallReport
from telbridge.caller.run import CallOptions, Say, run_call
from telbridge.cli.call import show_event
from telbridge.cli.voice import make_voice
from telbridge.config import Settings
from telbridge.ops import logging
from telbridge.serving.births import Nursery
from telbridge.serving.children import ChildFailed
from telbridge.serving.supervisor import PRELOAD, Supervisor

CONVERSATION: Final = (
    Say("Hello, what are your opening hours?"),
    Say("I would like to book a table for two.", interrupt_after_ms=1200),
    Say("On Friday, please."),
    Say("Thank you, that is all. Goodbye."),
)


def run(api: str) -> None:
    """Serve, call, print; ends the command with status 1 if the call was not answered."""
    nursery = Nursery(PRELOAD, forked=True)
    logging.configure("warning", "auto", process="demo")
    with tempfile.TemporaryDirectory(prefix="telbridge-demo-") as folder:
        try:
            report, record = asyncio.run(_run(Path(folder), api, nursery))
        except ChildFailed as error:
            typer.echo(f"telbridge: {error}", err=True)
            raise typer.Exit(1) from None
        except ValidationError as error:
            typer.echo(f"telbridge: --api: {error.errors()[0]['ctx']['error']}", err=True)
            raise typer.Exit(1) from None
    typer.echo("\nWhat was said, as the agent's side understood it (ms since the call arrived)\n")
    for line in transcript(record):
        typer.echo(line)
    typer.echo("\nWhat the caller's side measured\n")
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)


async def _run(folder: Path, api: str, nursery: Nursery) -> tuple[CallReport, Mapping[str, Any]]:
    records = folder / "calls.jsonl"
    port = _free_port()
    settings = Settings.model_validate(
        {
            "sip": {"host": "127.0.0.1", "port": port},
            "records": {"path": records},
            "log": {"level": "warning"},
            "call": {
                "greeting": "Hello, this is the telbridge demonstration. How can I help you?",
                "local_api": api,
            },
        }
    )
    typer.echo("starting the bridge and its agent …")
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    supervisor = Supervisor(settings, lambda _: ready.set_result(None), nursery)
    serving = asyncio.create_task(supervisor.run())
    await asyncio.wait([ready, serving], return_when=asyncio.FIRST_COMPLETED)
    try:
        if serving.done():
            await serving
        voice = make_voice()
        typer.echo(f"calling sip:demo@127.0.0.1:{port}\n")
        options = CallOptions(
            uri=f"sip:demo@127.0.0.1:{port}", script=CONVERSATION, synthesize=voice, max_duration_s=90
        )
        report = await run_call(options, show_event)
    finally:
        supervisor.stop()
        if not serving.done():
            await serving
    return report, json.loads(records.read_text("utf-8").splitlines()[-1])


def transcript(record: Mapping[str, Any]) -> list[str]:
    """The turns of a record as lines for people."""
    lines = []
    for turn in record["turns"]:
        if turn["caller_text"]:
            lines.append(f"{_ms(turn['caller_started_ms'])}  caller: {turn['caller_text']}")
        if turn["agent_text"]:
            lines.append(f"{_ms(turn['agent_first_frame_ms'])}  agent:  {turn['agent_text']}")
        if cut := turn["interruption"]:
            lines.append(
                f"{_ms(cut['at_ms'])}          ✂ interrupted: {cut['heard_ms']} ms heard, "
                f"{cut['discarded_ms']} ms dropped, silent after {cut['stop_ms'] or 0:.0f} ms"
            )
    return lines


def _ms(value: float | None) -> str:
    return " " * 8 if value is None else f"{value:8.0f}"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
