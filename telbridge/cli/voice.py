"""A voice for the calls that we place ourselves: the embedded agent's."""

from __future__ import annotations

from collections.abc import Callable

import typer

from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCM_8K


def make_voice() -> Callable[[str], bytes]:
    """Text -> linear 8 kHz. Ends the command with one line where the speech models are not installed."""
    from telbridge.agent.speech.models import ModelsMissingError
    from telbridge.agent.speech.tts import Hibari, sentences

    settings = AgentSettings()
    try:
        hibari = Hibari(settings.voice, settings.level_dbfs)
    except ModelsMissingError as error:
        typer.echo(f"telbridge: {error}; or use --wav FILE", err=True)
        raise typer.Exit(1) from None
    return lambda text: b"".join(hibari.synthesize(piece, PCM_8K) for piece in sentences(text))
