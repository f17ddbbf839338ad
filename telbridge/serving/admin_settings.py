"""[admin]: the port of those who run telbridge."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AdminSection(BaseModel):
    """[admin]: health, metrics, calls, and a telephone in the browser; never on the public port."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[
        str, Field(description="address to listen on; who reaches it sees every call: keep it private")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="TCP port of health, metrics and pages")] = 8081
    names: Annotated[
        tuple[str, ...],
        Field(description='names by which browsers reach it, as ["telbridge.internal"], besides addresses'),
    ] = ()
