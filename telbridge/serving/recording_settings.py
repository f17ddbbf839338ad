"""[recording]: calls as audio files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from telbridge.dialplan.model import RecordingRule
from telbridge.ops.recording_files import Kind, opus_is_there


class RecordingSection(BaseModel):
    """[recording]: calls as audio files, the caller left, the agent right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: Annotated[
        RecordingRule,
        Field(
            description='whether they are recorded, unless their dialplan says `recording`; "after_consent": '
            "from its `record` action on"
        ),
    ] = "off"
    folder: Annotated[
        Path | None,
        Field(description="where they are kept; default: `recordings` in the folder of the records"),
    ] = None
    format: Annotated[
        Kind, Field(description='"wav" (115 MB an hour), or "opus" (about 20 MB, five times the CPU)')
    ] = "wav"

    @field_validator("format")
    @classmethod
    def _can_be_written(cls, kind: Kind) -> Kind:
        if kind == "opus" and not opus_is_there():
            raise ValueError("needs libsndfile: write \"wav\", or pip install 'telbridge[recording]'")
        return kind

    def home(self, records: Path) -> Path:
        """`records`: the folder of the records."""
        return self.folder if self.folder is not None else records / "recordings"
