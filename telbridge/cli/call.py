"""`telbridge call`: phone somebody, talk, measure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer


def call(
    uri: Annotated[
        str,
        typer.Argument(
            help="sip:USER@HOST:PORT;transport=tcp (all but HOST may be left out), "
            "twilio+ws://HOST:PORT/twilio/stream (telnyx, plivo, signalwire, vonage alike), "
            "audiosocket://HOST:PORT/UUID, asterisk-ws://HOST:PORT/asterisk/media, "
            "or ws://HOST:PORT/generic/stream"
        ),
    ],
    say: Annotated[
        list[str] | None, typer.Option("--say", help="A text to speak; may be given several times.")
    ] = None,
    wav: Annotated[
        list[Path] | None, typer.Option("--wav", help="A WAV file to play after the texts; several times.")
    ] = None,
    dtmf: Annotated[str | None, typer.Option("--dtmf", help="Keys to press at the end: 0-9 * # A-D.")] = None,
    interrupt_ms: Annotated[
        int | None,
        typer.Option("--interrupt-ms", help="Speak after so much of the agent's speech, not at its end."),
    ] = None,
    codec: Annotated[Literal["pcmu", "pcma"], typer.Option(help="The law offered first.")] = "pcmu",
    record: Annotated[
        Path | None, typer.Option("--record", help="WAV of both sides: left what we sent, right what came.")
    ] = None,
    dial_ends: Annotated[
        Literal["answered", "busy", "no-answer", "failed"],
        typer.Option(
            "--dial-ends",
            help="carriers: how those behave to whom the call is transferred.",
        ),
    ] = "answered",
    max_s: Annotated[float, typer.Option("--max-s", help="Hang up after so many seconds.")] = 120.0,
) -> None:
    """Place a real call by SIP or media stream: speak or play, press keys, record; print events and figures.

    Each line waits until the callee has finished speaking. Exit status 1 if the call was not answered.
    """
    # Here, not above: `telbridge serve` must not load a softphone.
    from telbridge.audio.formats import PCMA_8K, PCMU_8K
    from telbridge.caller.conversation import Press
    from telbridge.caller.report import CallReport
    from telbridge.caller.run import CallOptions, Say, Script, Wav, run_call
    from telbridge.caller.streams.run import StreamReport, is_stream, run_stream_call
    from telbridge.cli.voice import make_voice

    script: list[Script] = [Say(text, interrupt_ms) for text in say or ()]
    script += [Wav(path, interrupt_ms) for path in wav or ()]
    if dtmf:
        script.append(Press(dtmf))
    options = CallOptions(
        uri=uri,
        script=script,
        synthesize=make_voice() if say else None,
        codecs=(PCMU_8K, PCMA_8K) if codec == "pcmu" else (PCMA_8K, PCMU_8K),
        record=record,
        max_duration_s=max_s,
        dial_ends=dial_ends,
    )
    try:
        report: CallReport | StreamReport
        if is_stream(uri):
            report = asyncio.run(run_stream_call(options, show_event))
        else:
            report = asyncio.run(run_call(options, show_event))
    except (ValueError, OSError) as error:
        typer.echo(f"telbridge: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("")
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)


def show_event(at_ms: float, direction: str, text: str) -> None:
    """One rung of the ladder."""
    typer.echo(f"{at_ms / 1000:9.3f} s  {direction}  {text}")
