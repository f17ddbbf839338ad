"""WAVE files of every kind that phone people have; the files are made here, octet by octet."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCM_48K, PCMA_8K, PCMU_8K
from telbridge.audio.g711 import alaw_to_pcm16, ulaw_to_pcm16
from telbridge.audio.wav import load_wav, read_wav, write_wav

PCM, FLOAT, ALAW, ULAW = 1, 3, 6, 7
ALL_CODES = bytes(range(256))


def pcm16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def fmt(tag: int, bits: int, channels: int = 1, rate_hz: int = 8_000) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame, frame, bits)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.fixture
def file(tmp_path: Path):
    def put(content: bytes) -> Path:
        path = tmp_path / "prompt.wav"
        path.write_bytes(content)
        return path

    return put


def tone(rate_hz: int, seconds: float = 0.4) -> bytes:
    return (16_000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz * seconds) / rate_hz)).astype("<i2").tobytes()


# ---------------------------------------------------------------- read


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        (8, bytes([128, 255, 0, 129])),
        (16, pcm16(0, 0x7F00, -0x8000, 0x0100)),
        (24, bytes.fromhex("ff0000" + "ff007f" + "000080" + "7f0001")),
        (32, struct.pack("<4i", 0xFFFF, 0x7F00FFFF, -0x80000000, 0x01000001)),
    ],
)
def test_linear_samples_of_any_width_are_read_by_their_upper_16_bits(file, bits, data):
    path = file(riff(chunk(b"fmt ", fmt(PCM, bits)), chunk(b"data", data)))
    assert read_wav(path) == (pcm16(0, 0x7F00, -0x8000, 0x0100), 8_000)


@pytest.mark.parametrize(("tag", "decode"), [(ALAW, alaw_to_pcm16), (ULAW, ulaw_to_pcm16)])
def test_g711_is_read(file, tag, decode):
    path = file(riff(chunk(b"fmt ", fmt(tag, 8) + bytes(2)), chunk(b"data", ALL_CODES)))
    assert read_wav(path) == (decode(ALL_CODES), 8_000)


def test_channels_are_averaged(file):
    frames = pcm16(100, 300, -32_768, -32_768, 32_767, -32_767)
    path = file(riff(chunk(b"fmt ", fmt(PCM, 16, channels=2)), chunk(b"data", frames)))
    assert read_wav(path) == (pcm16(200, -32_768, 0), 8_000)


def test_the_extensible_form_is_read_as_what_it_stands_for(file):
    guid = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
    extension = struct.pack("<HHI", 22, 16, 4) + guid
    path = file(riff(chunk(b"fmt ", fmt(0xFFFE, 16) + extension), chunk(b"data", pcm16(1, 2))))
    assert read_wav(path) == (pcm16(1, 2), 8_000)


def test_other_chunks_are_passed_over_also_those_of_odd_length(file):
    path = file(
        riff(
            chunk(b"LIST", b"odd"),
            chunk(b"fmt ", fmt(PCM, 16, rate_hz=16_000)),
            chunk(b"fact", bytes(4)),
            chunk(b"data", pcm16(5)),
            chunk(b"id3 ", b"x"),
        )
    )
    assert read_wav(path) == (pcm16(5), 16_000)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_cut_short_is_read_as_far_as_it_goes_in_whole_frames(file, channels):
    whole = riff(chunk(b"fmt ", fmt(PCM, 16, channels)), b"data" + b"\xff\xff\xff\xff")
    path = file(whole + pcm16(7, 7) + b"\x01")
    assert read_wav(path) == (pcm16(*[7] * (2 // channels)), 8_000)


def test_a_file_without_a_sample_is_empty(file):
    path = file(riff(chunk(b"fmt ", fmt(PCM, 16)), chunk(b"data", b"")))
    assert read_wav(path) == (b"", 8_000)
    assert load_wav(path, PCM_24K) == b""


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a WAVE file"),
        (b"ID3\x04 an MP3 by another name", "not a WAVE file"),
        (riff(chunk(b"data", b"")), "no fmt chunk"),
        (riff(chunk(b"fmt ", b"short"), chunk(b"data", b"")), "no fmt chunk"),
        (riff(chunk(b"fmt ", fmt(PCM, 16))), "no data chunk"),
        (riff(chunk(b"fmt ", fmt(FLOAT, 32)), chunk(b"data", b"")), "32 bit of format tag 3; we read PCM"),
        (riff(chunk(b"fmt ", fmt(PCM, 12)), chunk(b"data", b"")), "12 bit of format tag 1"),
        (riff(chunk(b"fmt ", fmt(PCM, 16, channels=0)), chunk(b"data", b"")), "0 channels at 8000 Hz"),
        (riff(chunk(b"fmt ", fmt(PCM, 16, rate_hz=0)), chunk(b"data", b"")), "1 channels at 0 Hz"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(file, content, complaint):
    path = file(content)
    with pytest.raises(ValueError, match=complaint) as refusal:
        read_wav(path)
    assert str(refusal.value).startswith(f"{path}: ")


# ---------------------------------------------------------------- load


@pytest.mark.parametrize("format", [PCM_8K, PCM_16K, PCM_24K, PCM_48K, PCMU_8K, PCMA_8K], ids=str)
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_a_clip_of_any_usual_rate_is_loaded_in_any_of_our_formats_without_delay(file, rate_hz, format):
    path = file(riff(chunk(b"fmt ", fmt(PCM, 16, rate_hz=rate_hz)), chunk(b"data", tone(rate_hz))))
    audio = load_wav(path, format)
    decode = {PCMU_8K: ulaw_to_pcm16, PCMA_8K: alaw_to_pcm16}.get(format, bytes)
    heard, meant = np.frombuffer(decode(audio), "<i2"), np.frombuffer(tone(format.rate_hz), "<i2")
    assert len(heard) == len(meant)
    inner = slice(format.rate_hz // 100, -format.rate_hz // 100)
    assert np.abs(heard - meant.astype(float))[inner].max() <= 16_000 * 0.04


def test_a_g711_file_of_the_wanted_law_is_loaded_as_it_is(file):
    codes = ALL_CODES.replace(b"\x7f", b"")
    path = file(riff(chunk(b"fmt ", fmt(ULAW, 8)), chunk(b"data", codes)))
    assert load_wav(path, PCMU_8K) == codes
    assert load_wav(path, PCMA_8K) != codes


def test_a_rate_without_a_way_to_ours_is_refused_and_the_file_named(file):
    path = file(riff(chunk(b"fmt ", fmt(PCM, 16, rate_hz=11_127)), chunk(b"data", pcm16(1))))
    with pytest.raises(ValueError, match=r"prompt\.wav: cannot resample from 11127 Hz to 8000 Hz"):
        load_wav(path, PCM_8K)


# ---------------------------------------------------------------- write


def test_what_was_written_is_read_again(tmp_path):
    write_wav(tmp_path / "mono.wav", [tone(16_000)], 16_000)
    assert read_wav(tmp_path / "mono.wav") == (tone(16_000), 16_000)


def test_two_channels_are_left_and_right_and_the_shorter_ends_in_silence(tmp_path):
    write_wav(tmp_path / "call.wav", [pcm16(1, 2, 3), pcm16(-1)], 8_000)
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert file.getparams()[:4] == (2, 2, 8_000, 3)
        assert file.readframes(3) == pcm16(1, -1, 2, 0, 3, 0)


@pytest.mark.parametrize("channels", [[], [b"", b"", b""]])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    with pytest.raises(ValueError, match="one or two channels, not "):
        write_wav(tmp_path / "call.wav", channels, 8_000)


def test_half_a_sample_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of element size"):
        write_wav(tmp_path / "call.wav", [b"\x00"], 8_000)
