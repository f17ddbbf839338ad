"""Recordings: whole files, private, on one clock; a disk that is slow or full costs the recording alone."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import pcm16_to_ulaw
from telbridge.audio.wav import read_wav
from telbridge.call.taping import Recording
from telbridge.config import ConfigErrors, load
from telbridge.ops import recording_files
from telbridge.ops.recording import QUEUED_MOST, CallRecording, Recorder
from telbridge.ops.recording_files import Kind, forget_before

MS = 1_000_000
LEFT = np.full(160, 4_000, "<i2").tobytes()
RIGHT = np.full(160, -6_000, "<i2").tobytes()
WAIT_S = 30


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """Its clock stands where calls end."""
    recorder = Recorder(tmp_path / "recordings", "wav", lambda: 1_000 * MS)
    yield recorder
    recorder.stop()


def talk(tape: CallRecording, frames: int = 50, start_ms: int = 0) -> None:
    """Both voices at once."""
    for number in range(frames):
        at_ns = (start_ms + 20 * number) * MS
        tape.caller(LEFT, at_ns + 20 * MS)
        tape.agent(RIGHT, at_ns)


def outcome(tape: CallRecording, at_ms: int = 1_000) -> Recording:
    tape.end(at_ms * MS)
    found = tape.outcome.result(WAIT_S)
    assert found is not None
    return found


def channels(path: Path) -> np.ndarray:
    """Of a WAV file of ours."""
    return np.frombuffer(path.read_bytes()[44:], "<i2").reshape(-1, 2)


def test_the_caller_is_left_the_agent_right_and_the_file_is_private(
    recorder: Recorder, tmp_path: Path
) -> None:
    tape = recorder.of_call("c1", PCM_8K)
    tape.begin(0, 812.0)
    talk(tape)
    found = outcome(tape)
    path = Path(found.path)
    assert found == Recording(str(path), 812.0)
    assert path == tmp_path / "recordings" / datetime.now(UTC).date().isoformat() / "c1.wav"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["c1.wav"]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    both = channels(path)
    assert both.shape == (8_000, 2)
    assert set(both[:, 0]) == {4_000}
    assert set(both[:, 1]) == {-6_000}
    assert read_wav(path)[1] == 8_000


def test_pauses_are_silence_so_that_times_stay_right(recorder: Recorder) -> None:
    tape = recorder.of_call("c1", PCM_8K)
    tape.begin(0, 0.0)
    talk(tape, 10)
    tape.pause(200 * MS)
    talk(tape, 10, start_ms=600)
    both = channels(Path(outcome(tape).path))
    assert [bool(both[at * 8, 0]) for at in (100, 300, 500, 700, 900)] == [True, False, False, True, False]


def test_speech_that_a_carrier_threw_away_is_not_in_it(recorder: Recorder) -> None:
    tape = recorder.of_call("c1", PCM_8K)
    tape.begin(0, 0.0)
    for _ in range(15):
        tape.agent_ahead(RIGHT, 0)
    tape.unplayed(200)
    assert np.count_nonzero(channels(Path(outcome(tape).path))[:, 1]) == 800


def test_g711_is_written_as_it_sounds(recorder: Recorder) -> None:
    tape = recorder.of_call("c1", PCMU_8K)
    tape.begin(0, 0.0)
    tape.caller(pcm16_to_ulaw(LEFT), 20 * MS)
    assert abs(channels(Path(outcome(tape).path))[80, 0] - 4_000) < 100


def test_a_call_without_consent_leaves_nothing(recorder: Recorder, tmp_path: Path) -> None:
    tape = recorder.of_call("c1", PCM_8K)
    tape.end(1_000 * MS)
    assert tape.outcome.result(WAIT_S) is None
    assert not (tmp_path / "recordings").exists()


# ---------------------------------------------------------------- a disk that fails


def test_a_disk_that_is_slow_costs_what_does_not_fit_the_queue(tmp_path: Path) -> None:
    """Nobody works on it for a minute; the audio path goes on."""
    tape = CallRecording(tmp_path / "day" / "c1.wav", "wav", PCM_8K, lambda _: None)
    tape.begin(0, 0.0)
    talk(tape, 3_000)
    tape.end(60_000 * MS)
    tape.work(60_000 * MS)
    found = outcome(tape)
    assert found.lost_ms == 20 * (2 * 3_000 - QUEUED_MOST)
    assert found.result == "gaps"
    both = channels(Path(found.path))
    assert len(both) == 60 * 8_000
    assert both[8_000 * 9].tolist() == [4_000, -6_000]
    assert both[8_000 * 11].tolist() == [0, 0]


@contextmanager
def no_file_over(octets: int) -> Iterator[None]:
    """The system itself refuses to write more (setrlimit(2), RLIMIT_FSIZE)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_keeps_what_it_has(tmp_path: Path) -> None:
    tape = CallRecording(tmp_path / "day" / "c1.wav", "wav", PCM_8K, lambda _: None)
    tape.begin(0, 0.0)
    with no_file_over(44 + 32_000):
        for second in range(5):
            talk(tape, 50, start_ms=1_000 * second)
            tape.work((1_000 * second + 2_500) * MS)
        talk(tape, 50, start_ms=5_000)
        tape.end(6_000 * MS)
        tape.work(6_000 * MS)
    found = outcome(tape)
    assert found.trouble == os.strerror(27)  # EFBIG
    assert found.lost_ms > 0
    assert found.result == "cut"
    assert len(read_wav(Path(found.path))[0]) <= 16_000


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file", "wav", lambda: 5_000 * MS)
    tape = recorder.of_call("c1", PCM_8K)
    tape.begin(0, 0.0)
    talk(tape)
    assert outcome(tape).result == "cut"
    recorder.stop()


# ---------------------------------------------------------------- Opus


@pytest.mark.skipif(find_spec("soundfile") is None, reason="the extra `recording` is not installed")
@pytest.mark.parametrize("format", [PCM_8K, AudioFormat(PCM_8K.encoding, 16_000)], ids=str)
def test_opus_is_read_by_others(tmp_path: Path, format: AudioFormat) -> None:
    import soundfile

    tone = 8_000 * np.sin(np.arange(format.rate_hz * 3) * 2 * np.pi * 440 / format.rate_hz)
    octets = tone.astype("<i2").tobytes()
    recorder = Recorder(tmp_path, "opus", lambda: 3_000 * MS)
    tape = recorder.of_call("c1", format)
    tape.begin(0, 0.0)
    frame = format.bytes_for_ms(20)
    for number in range(150):
        tape.agent(octets[number * frame : (number + 1) * frame], number * 20 * MS)
    found = outcome(tape, 3_000)
    recorder.stop()
    both, rate_hz = soundfile.read(found.path, dtype="int16")
    assert (found.trouble, Path(found.path).suffix) == ("", ".opus")
    assert both.shape == (3 * rate_hz, 2)
    power = np.sqrt(np.mean(both[rate_hz:].astype(float) ** 2, axis=0))
    assert power[1] == pytest.approx(8_000 / np.sqrt(2), rel=0.1)
    assert power[0] < 50


def test_opus_without_its_library_is_a_mistake_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_files, "find_spec", lambda name: None)
    file = tmp_path / "telbridge.toml"
    file.write_text('[recording]\nformat = "opus"\n')
    with pytest.raises(ConfigErrors) as caught:
        load(file, {})
    assert str(caught.value) == (
        f"{file}: recording.format: needs libsndfile: write \"wav\", or pip install 'telbridge[recording]'"
    )


# ---------------------------------------------------------------- retention


@pytest.mark.parametrize("kind", ["wav", "opus"])
def test_recordings_go_with_the_records(tmp_path: Path, kind: Kind) -> None:
    now = datetime.now(UTC)
    old = (now - timedelta(days=40)).timestamp()
    for day, name in (("1", f"a.{kind}"), ("1", ".b.7.part"), ("2", f"c.{kind}"), ("2", "notes.txt")):
        file = tmp_path / day / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (old, old))
    (tmp_path / "2" / f"young.{kind}").touch()
    assert forget_before(tmp_path, now - timedelta(days=30)) == 3
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "2", "2/notes.txt", f"2/young.{kind}",
    ]  # fmt: skip
    assert forget_before(tmp_path / "none", now) == 0
