"""G.711 judged by the decision and reconstruction values of ITU-T G.711, tables 1 and 2, written out here."""

import subprocess
import sys
from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest

from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16

ALL_CODES = bytes(range(256))
ALL_SAMPLES = np.arange(-32768, 32768).astype("<i2")

# Tables 1a and 2a, column 4: where segments begin, the first row in full steps. μ-law counts in units of
# 14 bits (full scale 8159), a-law in units of 12 bits and a sign (4096).
ULAW_SEGMENTS = [0, 31, 95, 223, 479, 991, 2015, 4063, 8159]
ALAW_SEGMENTS = [0, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def ulaw_intervals() -> list[tuple[float, float, float]]:
    """(from, to, decoded value) of the 128 positive codes, in units of 16 bits."""
    edges = [0.0, *range(1, 31, 2)]
    for low, high in pairwise(ULAW_SEGMENTS[1:]):
        edges += np.linspace(low, high, 17)[:-1].tolist()
    edges.append(8159.0)
    middles = [0.0, *((low + high) / 2 for low, high in pairwise(edges[1:]))]
    return [(a * 4, b * 4, y * 4) for (a, b), y in zip(pairwise(edges), middles, strict=True)]


def alaw_intervals() -> list[tuple[float, float, float]]:
    """(from, to, decoded value) of the 128 positive codes, in units of 16 bits."""
    edges: list[float] = []
    for low, high in pairwise(ALAW_SEGMENTS):
        edges += np.linspace(low, high, 17)[:-1].tolist()
    edges.append(4096.0)
    return [(a * 8, b * 8, (a + b) * 4) for a, b in pairwise(edges)]


# On the wire μ-law inverts all bits of sign and magnitude (sign bit 1: positive), a-law the even ones.
LAWS = {
    "ulaw": (ulaw_intervals(), ulaw_to_pcm16, pcm16_to_ulaw, lambda n: 0xFF ^ n),
    "alaw": (alaw_intervals(), alaw_to_pcm16, pcm16_to_alaw, lambda n: 0xD5 ^ n),
}


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


def linear(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(int)


def test_every_code_decodes_to_the_value_of_the_itu_table(law):
    intervals, decode, _, code = law
    for number, (_, _, value) in enumerate(intervals):
        positive, negative = linear(decode(bytes([code(number), code(number) ^ 0x80])))
        assert (positive, negative) == (value, -value)


def test_every_sample_is_encoded_into_the_interval_it_lies_in(law):
    intervals, _, encode, code = law
    edges = [low for low, _, _ in intervals]
    grain = 4 if encode is pcm16_to_ulaw else 8
    for sample, got in zip(ALL_SAMPLES.tolist(), encode(ALL_SAMPLES.tobytes()), strict=True):
        # Of the bits that the law does not know only the rest above a whole unit is lost: towards minus
        # infinity, so that a negative sample is taken for one unit less.
        units = sample // grain * grain
        magnitude = abs(units) if encode is pcm16_to_ulaw or units >= 0 else -units - grain
        number = bisect_right(edges, magnitude) - 1
        expected = code(number) if units >= 0 else code(number) ^ 0x80
        assert got == expected, sample


def test_quantisation_errs_by_no_more_than_half_a_step_and_the_bits_the_law_does_not_know(law):
    intervals, decode, encode, _ = law
    unknown = 4 if encode is pcm16_to_ulaw else 8
    _, full_scale, loudest = intervals[-1]
    half_steps = np.zeros(int(loudest) + 1)
    for low, high, value in intervals:
        half_steps[int(value)] = (high - low) / 2
    got = linear(decode(encode(ALL_SAMPLES.tobytes())))
    beyond = np.abs(ALL_SAMPLES.astype(int)) >= full_scale
    assert (np.abs(got[beyond]) == loudest).all()
    assert (np.abs(got - ALL_SAMPLES) <= half_steps[np.abs(got)] + unknown)[~beyond].all()


def test_louder_never_becomes_softer(law):
    _, decode, encode, _ = law
    assert (np.diff(linear(decode(encode(ALL_SAMPLES.tobytes())))) >= 0).all()


def test_every_alaw_code_survives_decoding_and_encoding():
    assert pcm16_to_alaw(alaw_to_pcm16(ALL_CODES)) == ALL_CODES


def test_every_ulaw_code_survives_decoding_and_encoding_but_minus_zero_which_becomes_plus_zero():
    assert ulaw_to_pcm16(b"\x7f\xff") == bytes(4)
    assert pcm16_to_ulaw(ulaw_to_pcm16(ALL_CODES)) == ALL_CODES.replace(b"\x7f", b"\xff")


def test_a_borrowed_buffer_is_as_good_as_bytes(law):
    _, decode, encode, _ = law
    assert decode(memoryview(ALL_CODES)) == decode(ALL_CODES)
    assert encode(memoryview(decode(ALL_CODES))) == encode(decode(ALL_CODES))


def test_importing_warns_nobody():
    command = [sys.executable, "-W", "error", "-c", "import telbridge.audio.g711"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
