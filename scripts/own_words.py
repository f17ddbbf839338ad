"""Makes the WAV files of telbridge/assets with the embedded agent's voice: run it after changing a text."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.tts import Hibari, sentences
from telbridge.audio.formats import PCM_8K
from telbridge.audio.wav import write_wav

ASSETS: Final = Path(__file__).parent.parent / "telbridge" / "assets"
TEXTS: Final = {
    "apology": "I'm sorry, something went wrong on our side. Please call again in a moment. Goodbye.",
    "filler": "One moment, please.",
}


def main() -> None:
    settings = AgentSettings()
    voice = Hibari(settings.voice, settings.level_dbfs)
    for name, text in TEXTS.items():
        speech = b"".join(voice.synthesize(sentence, PCM_8K) for sentence in sentences(text))
        write_wav(ASSETS / f"{name}.wav", [speech], PCM_8K.rate_hz)


if __name__ == "__main__":
    main()
