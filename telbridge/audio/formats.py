"""What a stretch of audio bytes means: encoding and rate. Mono everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Encoding(Enum):
    """How one sample is written."""

    PCMU = "pcmu"
    """G.711 μ-law, one octet a sample (ITU-T G.711)."""
    PCMA = "pcma"
    """G.711 a-law, one octet a sample (ITU-T G.711)."""
    PCM16 = "pcm16"
    """Linear, signed 16 bit, little endian."""


_SILENCE: Final = {Encoding.PCMU: b"\xff", Encoding.PCMA: b"\xd5", Encoding.PCM16: b"\x00\x00"}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Encoding and sample rate of a mono stream."""

    encoding: Encoding
    rate_hz: int
    sample_bytes: int = field(init=False, repr=False, compare=False)
    """Octets a sample. Kept, since it is asked for with every frame."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_bytes", 2 if self.encoding is Encoding.PCM16 else 1)

    def bytes_for_ms(self, duration_ms: int) -> int:
        """Octets in `duration_ms` whole milliseconds (rounded down to whole samples)."""
        return self.rate_hz * duration_ms // 1000 * self.sample_bytes

    def samples_in(self, octets: int) -> int:
        """Whole samples in so many octets."""
        return octets // self.sample_bytes

    def ms_in(self, octets: int) -> float:
        """Milliseconds in so many octets."""
        return octets // self.sample_bytes * 1000 / self.rate_hz

    def silence(self, samples: int) -> bytes:
        """Digital silence: zero, or the G.711 code that decodes to (nearly) zero."""
        return _SILENCE[self.encoding] * samples

    def __str__(self) -> str:
        return f"{self.encoding.value}/{self.rate_hz}"


PCMU_8K: Final = AudioFormat(Encoding.PCMU, 8_000)
PCMA_8K: Final = AudioFormat(Encoding.PCMA, 8_000)
PCM_8K: Final = AudioFormat(Encoding.PCM16, 8_000)
PCM_16K: Final = AudioFormat(Encoding.PCM16, 16_000)
PCM_24K: Final = AudioFormat(Encoding.PCM16, 24_000)
PCM_48K: Final = AudioFormat(Encoding.PCM16, 48_000)
