"""Audio as Deepgram's Voice Agent carries it: raw octets in binary frames of any length, both ways."""

from __future__ import annotations

import struct
from typing import Final

from telbridge.agent.facades.deepgram.refusal import OTHER_AUDIO, RefusedError
from telbridge.audio.formats import AudioFormat, Encoding

STT_REPORT_MS: Final = 200
_CONTAINERS: Final = (b"RIFF", b"OggS", b"fLaC", b"ID3")
_WAVE_CODES: Final = {Encoding.PCM16: 1, Encoding.PCMA: 6, Encoding.PCMU: 7}
_UNKNOWN_LENGTH: Final = 0xFFFF_FFFF


class CallerAudio:
    """The caller's side of one session."""

    def __init__(self, source: AudioFormat) -> None:
        self._linear = source.encoding is Encoding.PCM16
        self._period_octets = source.bytes_for_ms(STT_REPORT_MS)
        self._turn_octets = 0
        self._half_sample = b""
        self._begun = False

    def take(self, payload: bytes) -> bytes:
        """Whole samples: frames may cut the stream anywhere. RefusedError for a file in place of a stream."""
        if not self._begun:
            self._begun = True
            if payload.startswith(_CONTAINERS):
                raise RefusedError(OTHER_AUDIO)
        if not self._linear:
            return payload
        joined = self._half_sample + payload if self._half_sample else payload
        whole = len(joined) & ~1
        self._half_sample = joined[whole:]
        return joined[:whole]

    def report_due(self, octets: int) -> bool:
        """Whether so much more of a turn calls for a report on listening: about five a second, as was seen
        on real calls."""
        self._turn_octets += octets
        if self._turn_octets < self._period_octets:
            return False
        self._turn_octets %= self._period_octets
        return True


def wave_header(output: AudioFormat) -> bytes:
    """44 octets of a WAV stream whose length is not known yet."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        _UNKNOWN_LENGTH,
        b"WAVE",
        b"fmt ",
        16,
        _WAVE_CODES[output.encoding],
        1,
        output.rate_hz,
        output.rate_hz * output.sample_bytes,
        output.sample_bytes,
        8 * output.sample_bytes,
        b"data",
        _UNKNOWN_LENGTH,
    )
