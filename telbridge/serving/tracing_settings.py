"""[tracing]: calls as OpenTelemetry spans."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TracingSection(BaseModel):
    """[tracing]: calls as OpenTelemetry spans; the usual OTEL_* variables hold besides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: Annotated[bool, Field(description="send spans; needs the extra `tracing`")] = False
    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://",
            description='where OTLP over HTTP goes, as "http://collector:4318/v1/traces"; default: '
            "OTEL_EXPORTER_OTLP_ENDPOINT, else this machine",
        ),
    ] = None
    follow_callers: Annotated[
        bool, Field(description="go on with the trace of a `traceparent` header that a call comes with")
    ] = True

    @model_validator(mode="after")
    def _needs_the_extra(self) -> TracingSection:
        if self.enabled and not _is_installed():
            raise ValueError("enabled needs OpenTelemetry: pip install 'telbridge[tracing]'")
        return self


def _is_installed() -> bool:
    names = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
    try:
        return all(find_spec(name) is not None for name in names)
    except ModuleNotFoundError:
        return False
