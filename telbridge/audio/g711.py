"""G.711 μ-law and a-law to 16-bit linear and back (ITU-T G.711), whole buffers at C speed.

Linear samples are signed 16 bit, little endian (and so must the host be: audioop takes its order); a code
is one octet as it goes over the wire. The laws know 14 (μ) and 13 (a) bits: encoding drops the lowest 2
and 3 bits of a sample, decoding leaves them 0.

A code comes back unchanged from decoding and encoding, with one exception: μ-law has two zeros, 0xFF
and 0x7F (minus zero); both decode to 0, and 0 encodes to 0xFF.
"""

from __future__ import annotations

import warnings
from typing import Final

with warnings.catch_warnings():
    # Deprecated in 3.11 and 3.12, gone in 3.13, where audioop-lts puts the same module in its place.
    # Our dependencies settle that; it is no news for whoever runs us.
    warnings.filterwarnings("ignore", message="'audioop' is deprecated", category=DeprecationWarning)
    import audioop

_LINEAR_OCTETS: Final = 2


def ulaw_to_pcm16(codes: bytes | memoryview) -> bytes:
    """Linear samples of μ-law codes; full scale is ±32124."""
    return audioop.ulaw2lin(codes, _LINEAR_OCTETS)


def alaw_to_pcm16(codes: bytes | memoryview) -> bytes:
    """Linear samples of a-law codes; full scale is ±32256, and none decodes to 0 (the smallest are ±8)."""
    return audioop.alaw2lin(codes, _LINEAR_OCTETS)


def pcm16_to_ulaw(pcm: bytes | memoryview) -> bytes:
    """μ-law codes of linear samples. audioop.error where `pcm` is not whole samples."""
    return audioop.lin2ulaw(pcm, _LINEAR_OCTETS)


def pcm16_to_alaw(pcm: bytes | memoryview) -> bytes:
    """a-law codes of linear samples. audioop.error where `pcm` is not whole samples."""
    return audioop.lin2alaw(pcm, _LINEAR_OCTETS)
