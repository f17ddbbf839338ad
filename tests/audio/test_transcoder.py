"""Every format to every other: what goes through untouched, what is converted, and that cuts do not show."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCM_48K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.audio.resampler import Resampler
from telbridge.audio.transcoder import Transcoder

FORMATS = [PCMU_8K, PCMA_8K, PCM_8K, PCM_16K, PCM_24K, PCM_48K]
FRAMES_MS = (10, 20, 30, 40, 60)
ALL_CODES = bytes(range(256))

every_format = pytest.mark.parametrize("format", FORMATS, ids=str)
every_two_formats = pytest.mark.parametrize(("source", "target"), list(permutations(FORMATS, 2)), ids=str)


def noise(octets: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(octets)


def tone(format: AudioFormat) -> bytes:
    """A second of 440 Hz at half of full scale."""
    wave = 16_000 * np.sin(2 * np.pi * 440 * np.arange(format.rate_hz) / format.rate_hz)
    return Transcoder(AudioFormat(PCM_8K.encoding, format.rate_hz), format).convert(
        wave.astype("<i2").tobytes()
    )


def linear(audio: bytes, format: AudioFormat) -> np.ndarray:
    pcm = Transcoder(format, AudioFormat(PCM_8K.encoding, format.rate_hz)).convert(audio)
    return np.frombuffer(pcm, "<i2").astype(float)


# ---------------------------------------------------------------- untouched


@every_format
def test_bytes_of_the_right_format_come_back_as_the_same_object(format):
    frame = ALL_CODES + b"\x00"
    transcoder = Transcoder(format, format)
    assert transcoder.convert(frame) is frame
    assert transcoder.finish() == b""
    assert transcoder.latency_ms == 0


@every_format
def test_a_borrowed_buffer_is_copied_even_where_nothing_is_converted(format):
    lent = bytearray(ALL_CODES)
    kept = Transcoder(format, format).convert(memoryview(lent))
    lent[:] = bytes(256)
    assert type(kept) is bytes
    assert kept == ALL_CODES


# ---------------------------------------------------------------- converted


@pytest.mark.parametrize("law", [PCMU_8K, PCMA_8K], ids=str)
def test_both_laws_survive_linear_and_back_but_for_the_minus_zero_of_ulaw(law):
    there, back = Transcoder(law, PCM_8K), Transcoder(PCM_8K, law)
    survivors = ALL_CODES.replace(b"\x7f", b"\xff") if law is PCMU_8K else ALL_CODES
    assert back.convert(there.convert(ALL_CODES)) == survivors


def test_one_law_becomes_the_other_through_linear():
    assert Transcoder(PCMU_8K, PCMA_8K).convert(ALL_CODES) == pcm16_to_alaw(ulaw_to_pcm16(ALL_CODES))
    assert Transcoder(PCMA_8K, PCMU_8K).convert(ALL_CODES) == pcm16_to_ulaw(alaw_to_pcm16(ALL_CODES))


def test_a_law_is_decoded_before_and_encoded_after_resampling():
    up, down = Resampler(8_000, 24_000), Resampler(24_000, 8_000)
    caller, agent = noise(160), noise(960)
    assert Transcoder(PCMU_8K, PCM_24K).convert(caller) == up.convert(ulaw_to_pcm16(caller))
    assert Transcoder(PCM_24K, PCMA_8K).convert(agent) == pcm16_to_alaw(down.convert(agent))


@every_two_formats
def test_a_tone_keeps_its_loudness_and_comes_out_after_the_stated_delay(source, target):
    transcoder = Transcoder(source, target)
    output = linear(transcoder.convert(tone(source)) + transcoder.finish(), target)
    time = np.arange(len(output)) / target.rate_hz - transcoder.latency_ms / 1000
    inner = slice(target.rate_hz // 50, -target.rate_hz // 50)
    error = (output - 16_000 * np.sin(2 * np.pi * 440 * time))[inner]
    # Half a step of the highest segment that the tone reaches, once for each law on the way.
    assert np.abs(error).max() <= 16_000 * 0.05


# ---------------------------------------------------------------- a stream


@every_two_formats
def test_a_frame_in_is_a_frame_out(source, target):
    for frame_ms in FRAMES_MS:
        transcoder = Transcoder(source, target)
        frame = source.silence(source.rate_hz * frame_ms // 1000)
        assert [len(transcoder.convert(frame)) for _ in range(3)] == [target.bytes_for_ms(frame_ms)] * 3


@settings(max_examples=100, deadline=None)
@given(formats=st.sampled_from([*product(FORMATS, FORMATS)]), octets=st.integers(0, 3_000), data=st.data())
def test_the_output_does_not_depend_on_where_the_input_was_cut(formats, octets, data):
    audio = noise(octets, seed=octets)
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, octets), max_size=8))), octets]
    whole, cut = Transcoder(*formats), Transcoder(*formats)
    pieces = [cut.convert(audio[start:end]) for start, end in pairwise(edges)]
    assert b"".join([*pieces, cut.finish()]) == whole.convert(audio) + whole.finish()


@pytest.mark.parametrize("end", [Transcoder.finish, Transcoder.reset])
@every_two_formats
def test_nothing_of_one_stream_is_heard_in_the_next(source, target, end):
    transcoder = Transcoder(source, target)
    transcoder.convert(noise(961))
    end(transcoder)
    assert transcoder.convert(noise(960, seed=2)) == Transcoder(source, target).convert(noise(960, seed=2))


@every_two_formats
def test_the_tail_holds_what_the_delay_kept_back(source, target):
    transcoder = Transcoder(source, target)
    transcoder.convert(source.silence(source.rate_hz // 50))
    assert target.ms_in(len(transcoder.finish())) == pytest.approx(transcoder.latency_ms)


@pytest.mark.parametrize("law", [PCMU_8K, PCMA_8K], ids=str)
def test_a_g711_stream_may_come_in_as_borrowed_buffers(law):
    frame = noise(160)
    for target in FORMATS:
        assert Transcoder(law, target).convert(memoryview(frame)) == Transcoder(law, target).convert(frame)


def test_rates_without_a_way_between_them_are_refused():
    with pytest.raises(ValueError, match="from 8000 Hz to 11127 Hz"):
        Transcoder(PCM_8K, AudioFormat(PCM_8K.encoding, 11_127))
