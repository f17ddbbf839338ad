"""`telbridge demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from telbridge.config import CallSection


def demo(
    api: Annotated[
        str,
        typer.Option(help="Agent API that bridge and embedded agent speak with each other.", metavar="NAME"),
    ] = CallSection().local_api,
) -> None:
    """Start a bridge and its embedded agent on free ports, phone it, talk, and print what was said and when.

    Nothing is left behind. Takes less than a minute. With --api deepgram, assemblyai, azure_voice_live or
    companion the same conversation goes over that API.
    """
    # Here, not above: `telbridge serve` must not load a softphone.
    from telbridge.cli.demonstration import run

    run(api)
