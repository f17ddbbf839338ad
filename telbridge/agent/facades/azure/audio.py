"""Caller audio of Voice Live: base64 in, brain events out, and how much of it is in no turn yet."""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from typing import Final

from telbridge.agent.events import AudioIn, AudioText, BrainEvent
from telbridge.agent.facade import Wants
from telbridge.agent.facades.azure import session as state
from telbridge.agent.facades.azure.events import invalid
from telbridge.agent.facades.realtime import Json

APPEND_MAX_CHARS: Final = 15 * 1024 * 1024 // 3 * 4
STEREO_FRAME_BYTES: Final = 4


class CallerAudio:
    """The input buffer of one session."""

    def __init__(self, wants: Wants) -> None:
        self._base64 = wants is Wants.BASE64
        self._stereo = False
        self._linear = True
        self._half_sample = b""
        self.octets = 0
        """What has come since the last turn."""

    def configure(self, session: Json) -> None:
        """The effective session may say what the bytes mean."""
        self._stereo = state.is_stereo(session)
        self._linear = session["input_audio_format"] == "pcm16"

    def clear(self) -> None:
        self.octets = 0
        self._half_sample = b""

    def take(self, text: str) -> list[BrainEvent]:
        """One append. RefusedError for what is too long, or no base64 (where the brain wants samples)."""
        if len(text) > APPEND_MAX_CHARS:
            raise invalid("Audio exceeds 15 MiB.", "audio")
        if self._base64 and not self._stereo:
            # This brain has no turns of its own, so nobody asks how much is in the buffer but commit.
            self.octets += len(text) // 4 * 3
            return [AudioText(text)]
        try:
            payload = a2b_base64(text, strict_mode=True)
        except ValueError:
            words = "Invalid 'audio'. Expected base64-encoded audio bytes, but got an invalid value."
            raise invalid(words, "audio") from None
        if self._stereo:
            payload = _microphone(payload)
        self.octets += len(payload)
        if self._base64:
            return [AudioText(b64encode(payload).decode("ascii"))]
        return [AudioIn(self._whole_samples(payload) if self._linear else payload)]

    def _whole_samples(self, payload: bytes) -> bytes:
        """The buffer is one stream of bytes: half a sample waits for its rest."""
        payload = self._half_sample + payload
        whole = len(payload) & ~1
        self._half_sample = payload[whole:]
        return payload[:whole]


def _microphone(payload: bytes) -> bytes:
    """The caller's channel of two: microphone and reference take turns."""
    if len(payload) % STEREO_FRAME_BYTES:
        words = "The length of two-channel audio must be a multiple of 4."
        raise invalid(words, "audio", "invalid_ec_channels_format")
    return memoryview(payload).cast("h")[::2].tobytes()
