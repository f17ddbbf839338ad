"""The resampler as measured from outside: sines in, spectrum out; and its promises about cuts and length."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from telbridge.audio.resampler import Resampler, resample

RATES = (8_000, 16_000, 24_000, 48_000)
PAIRS = list(permutations(RATES, 2))
FRAMES_MS = (10, 20, 30, 40, 60)
AMPLITUDE = 16_000

every_pair = pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS)


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


def pcm16(values: np.ndarray) -> bytes:
    return np.rint(values).astype("<i2").tobytes()


def sine(rate_hz: int, frequency_hz: float, seconds: float = 0.5) -> bytes:
    return pcm16(AMPLITUDE * np.cos(2 * np.pi * frequency_hz * np.arange(rate_hz * seconds) / rate_hz + 0.3))


def noise(octets: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(octets)


def steady_output(source_hz: int, target_hz: int, frequency_hz: float) -> np.ndarray:
    """What comes of a sine once the filter is filled."""
    output = samples(Resampler(source_hz, target_hz).convert(sine(source_hz, frequency_hz)))
    return output[target_hz // 50 :]


def tone_and_rest(output: np.ndarray, rate_hz: int, frequency_hz: float) -> tuple[float, float]:
    """Amplitudes, relative to the sine put in: of that frequency, and of all else together."""
    angle = 2 * np.pi * frequency_hz * np.arange(len(output)) / rate_hz
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, output)
    rest = output - basis @ weights
    return float(np.hypot(*weights)) / AMPLITUDE, float(np.sqrt(2 * np.mean(rest**2))) / AMPLITUDE


def decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-9))


def converted_in_pieces(resampler: Resampler, pcm: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cuts), len(pcm)]
    pieces = [pcm[start:end] for start, end in pairwise(edges)]
    return b"".join([*(resampler.convert(piece) for piece in pieces), resampler.finish()])


# ---------------------------------------------------------------- what it does to the sound


@every_pair
def test_the_telephone_band_of_the_lower_rate_passes_within_half_a_decibel(source_hz, target_hz):
    low = min(source_hz, target_hz)
    for frequency in np.linspace(0.00625, 0.425, 9) * low:
        output = steady_output(source_hz, target_hz, frequency)
        tone, _ = tone_and_rest(output, target_hz, frequency)
        assert abs(decibels(tone)) <= 0.5, frequency


@every_pair
def test_images_and_aliases_of_the_telephone_band_are_60_db_down(source_hz, target_hz):
    low = min(source_hz, target_hz)
    for frequency in np.linspace(0.00625, 0.495, 12) * low:
        output = steady_output(source_hz, target_hz, frequency)
        _, rest = tone_and_rest(output, target_hz, frequency)
        assert decibels(rest) <= -60, frequency


@pytest.mark.parametrize(("source_hz", "target_hz"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_the_target_rate_cannot_carry_is_60_db_down(source_hz, target_hz):
    for frequency in np.linspace(target_hz / 2 + 5, source_hz / 2 - 5, 25):
        output = steady_output(source_hz, target_hz, frequency)
        assert decibels(np.sqrt(2 * np.mean(output**2)) / AMPLITUDE) <= -60, frequency


@every_pair
def test_a_constant_comes_out_as_the_same_constant(source_hz, target_hz):
    resampler = Resampler(source_hz, target_hz)
    output = samples(resampler.convert(pcm16(np.full(source_hz // 10, 12_345))))
    assert (output[target_hz // 100 :] == 12_345).all()


@every_pair
def test_the_delay_is_the_stated_one_and_below_4_ms(source_hz, target_hz):
    resampler = Resampler(source_hz, target_hz)
    frequency = 0.05 * min(source_hz, target_hz)
    output = samples(resampler.convert(sine(source_hz, frequency)))[target_hz // 50 :]
    delayed = (
        np.arange(target_hz // 50, target_hz // 50 + len(output)) / target_hz - resampler.latency_ms / 1000
    )
    expected = AMPLITUDE * np.cos(2 * np.pi * frequency * delayed + 0.3)
    # One microsecond of delay at this frequency and amplitude is 0.0003 of it a kHz: about 2 units.
    assert np.abs(output - expected).max() <= 20
    assert resampler.latency_ms <= 4


@every_pair
def test_speech_like_sound_agrees_with_scipys_resampler(source_hz, target_hz):
    low = min(source_hz, target_hz)
    time = np.arange(source_hz) / source_hz
    chord = sum(np.sin(2 * np.pi * low * share * time + share) for share in (0.03, 0.11, 0.24, 0.38))
    ours = samples(resample(pcm16(5_000 * chord), source_hz, target_hz))
    theirs = resample_poly(5_000 * chord, target_hz, source_hz, window=("kaiser", 12.0))
    inner = slice(target_hz // 20, -target_hz // 20)
    assert np.abs(ours - theirs)[inner].max() < 20_000 * 0.01


@every_pair
def test_what_is_too_loud_saturates_and_never_wraps(source_hz, target_hz):
    square = np.where(np.arange(source_hz // 10) * 300 * 2 // source_hz % 2, -32_768, 32_767)
    output = samples(resample(pcm16(square), source_hz, target_hz))
    sign = np.where(np.arange(target_hz // 10) * 300 * 2 // target_hz % 2, -1, 1)
    around = 2 * math.ceil(target_hz / source_hz) + 3
    clear_of_edges = np.abs(np.convolve(sign, np.ones(around), "same")) == around
    assert ((output * sign)[clear_of_edges] > 0).all()
    assert output.max() == 32_767
    assert output.min() == -32_768


# ---------------------------------------------------------------- a stream


@settings(max_examples=150, deadline=None)
@given(
    pair=st.sampled_from([*PAIRS, (44_100, 8_000), (11_025, 16_000)]),
    octets=st.integers(0, 6_000),
    data=st.data(),
)
def test_the_output_does_not_depend_on_where_the_input_was_cut_not_even_within_a_sample(pair, octets, data):
    pcm = noise(octets, seed=octets)
    cuts = data.draw(st.lists(st.integers(0, octets), max_size=12))
    whole = converted_in_pieces(Resampler(*pair), pcm, cuts=[])
    assert converted_in_pieces(Resampler(*pair), pcm, cuts) == whole


@every_pair
def test_one_long_message_is_the_same_as_in_frames(source_hz, target_hz):
    frame = source_hz // 50 * 2
    pcm = noise(frame * 150)
    whole = Resampler(source_hz, target_hz).convert(pcm)
    resampler = Resampler(source_hz, target_hz)
    assert b"".join(resampler.convert(pcm[at : at + frame]) for at in range(0, len(pcm), frame)) == whole


@settings(max_examples=100, deadline=None)
@given(pair=st.sampled_from([*PAIRS, (44_100, 8_000)]), count=st.integers(1, 3_000))
def test_a_finished_stream_is_as_long_as_its_input_and_the_delay(pair, count):
    source_hz, target_hz = pair
    resampler = Resampler(source_hz, target_hz)
    output = resampler.convert(noise(2 * count)) + resampler.finish()
    delay = round(resampler.latency_ms * target_hz / 1000)
    assert len(output) == 2 * (math.ceil(count * target_hz / source_hz) + delay)


@every_pair
def test_a_frame_in_is_a_frame_out(source_hz, target_hz):
    for frame_ms in FRAMES_MS:
        resampler = Resampler(source_hz, target_hz)
        frame = bytes(2 * source_hz * frame_ms // 1000)
        assert [len(resampler.convert(frame)) for _ in range(3)] == [2 * target_hz * frame_ms // 1000] * 3


@every_pair
def test_the_last_word_is_whole(source_hz, target_hz):
    click_at_the_end = pcm16(np.eye(1, source_hz // 50, source_hz // 50 - 1)[0] * 30_000)
    resampler = Resampler(source_hz, target_hz)
    before, tail = resampler.convert(click_at_the_end), resampler.finish()
    assert np.abs(samples(before)).max() < 1_000
    loudest = len(before) // 2 + int(np.abs(samples(tail)).argmax())
    delay = round(resampler.latency_ms * target_hz / 1000)
    assert abs((loudest - delay) / target_hz - (source_hz // 50 - 1) / source_hz) <= 1 / target_hz


@pytest.mark.parametrize("nothing", [b"", b"\x01"])
def test_where_nothing_came_there_is_nothing_to_finish(nothing):
    resampler = Resampler(8_000, 24_000)
    assert resampler.convert(nothing) + resampler.finish() == b""
    assert resampler.convert(noise(320)) == Resampler(8_000, 24_000).convert(noise(320))


@pytest.mark.parametrize("end", [Resampler.finish, Resampler.reset])
def test_nothing_of_one_stream_is_heard_in_the_next(end):
    resampler = Resampler(24_000, 8_000)
    resampler.convert(noise(1_001))
    end(resampler)
    assert resampler.convert(noise(960, seed=2)) == Resampler(24_000, 8_000).convert(noise(960, seed=2))


def test_two_streams_of_the_same_rates_do_not_meet():
    one, other = Resampler(8_000, 16_000), Resampler(8_000, 16_000)
    one.convert(noise(320))
    assert other.convert(bytes(320)) == bytes(640)


def test_a_borrowed_buffer_may_change_after_the_call():
    lent, resampler = bytearray(noise(320)), Resampler(8_000, 16_000)
    first = resampler.convert(memoryview(lent))
    lent[:] = bytes(320)
    resampler_of_bytes = Resampler(8_000, 16_000)
    assert first == resampler_of_bytes.convert(noise(320))
    assert resampler.finish() == resampler_of_bytes.finish()


# ---------------------------------------------------------------- other rates, a clip at once


@pytest.mark.parametrize("source_hz", [11_025, 12_000, 22_050, 32_000, 44_100])
@pytest.mark.parametrize("target_hz", RATES)
def test_a_clip_of_any_usual_rate_keeps_its_sound_its_length_and_its_place(source_hz, target_hz):
    frequency = 1_000.0
    clip = sine(source_hz, frequency, seconds=0.4)
    output = samples(resample(clip, source_hz, target_hz))
    assert len(output) == math.ceil(len(clip) // 2 * target_hz / source_hz)
    expected = AMPLITUDE * np.cos(2 * np.pi * frequency * np.arange(len(output)) / target_hz + 0.3)
    inner = slice(target_hz // 50, -target_hz // 50)
    assert np.abs(output - expected)[inner].max() <= AMPLITUDE * 0.01


@pytest.mark.parametrize("pair", [(8_000, 8_000), (0, 8_000), (8_000, -1), (8_000, 11_127)])
def test_rates_without_a_way_between_them_are_refused(pair):
    with pytest.raises(ValueError, match=f"from {pair[0]} Hz to {pair[1]} Hz"):
        Resampler(*pair)
