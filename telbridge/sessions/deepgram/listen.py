"""`agent.listen` of Deepgram's Settings: who recognises the caller's speech, and when a turn ends.

Sources: developers.deepgram.com/docs/configure-voice-agent, /docs/flux/language-prompting,
/docs/voice-agent-update-listen.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from telbridge.sessions.deepgram.parts import Identified
from telbridge.sessions.provider import VendorPart

FLUX: Final = "flux-"
"""Prefix of the models, of recognition and of speech, that need version "v2"."""
FLUX_MULTI: Final = "flux-general-multi"
FLUX_LANGUAGES: Final = frozenset({"en", "es", "fr", "de", "hi", "ru", "pt", "ja", "it", "nl"})

_KeyTerms = Annotated[
    tuple[str, ...] | None,
    Field(description="names and words to expect; with Nova only before the session starts"),
]


class NovaListen(Identified):
    """Version 1 of the recognition API: the Nova models."""

    type: Annotated[Literal["deepgram"], Field(description='always "deepgram"')] = "deepgram"
    version: Annotated[Literal["v1"], Field(description='"v1" for Nova, "v2" for Flux')] = "v1"
    model: Annotated[str | None, Field(min_length=1, description="model, such as nova-3")] = None
    language: Annotated[
        str | None, Field(min_length=2, description='BCP 47 tag of the caller\'s language, or "multi"')
    ] = None
    smart_format: Annotated[
        bool | None, Field(description="write numbers, dates and the like as one reads them")
    ] = None
    keyterms: _KeyTerms = None

    @model_validator(mode="after")
    def _is_no_flux(self) -> NovaListen:
        if self.model is not None and self.model.startswith(FLUX):
            raise ValueError(f'{self.model} is no model of version "v1": write version = "v2"')
        return self


class FluxListen(Identified):
    """Version 2 of the recognition API: the Flux models, which tell the end of a turn by what was said."""

    type: Annotated[Literal["deepgram"], Field(description='always "deepgram"')] = "deepgram"
    version: Annotated[Literal["v2"], Field(description='"v1" for Nova, "v2" for Flux')] = "v2"
    model: Annotated[str, Field(pattern=r"^flux-\S+$", description="flux-general-en or flux-general-multi")]
    language_hints: Annotated[
        tuple[str, ...] | None,
        Field(min_length=1, description="BCP 47 tags to expect, with flux-general-multi only"),
    ] = None
    eot_threshold: Annotated[
        float | None,
        Field(ge=0.5, le=1.0, description="how sure Flux must be that the turn is over; 1.0: by hand only"),
    ] = None
    eager_eot_threshold: Annotated[
        float | None,
        Field(ge=0.3, le=0.9, description="from where on an answer is prepared ahead; not set: off"),
    ] = None
    eot_timeout_ms: Annotated[
        int | None, Field(ge=500, le=60_000, description="ms of silence that end a turn in any case")
    ] = None
    keyterms: _KeyTerms = None

    @model_validator(mode="after")
    def _fits_together(self) -> FluxListen:
        if self.language_hints is not None and not self.model.startswith(FLUX_MULTI):
            raise ValueError(f'{self.model} takes no language_hints: write model = "{FLUX_MULTI}"')
        sure = 0.7 if self.eot_threshold is None else self.eot_threshold
        if self.eager_eot_threshold is not None and self.eager_eot_threshold > sure:
            raise ValueError(f"eager_eot_threshold must not exceed eot_threshold: write {sure} or less")
        return self


def _version(value: Any) -> str:
    """By `version`, and where it is not set by the model's name."""
    fields: dict[str, Any] = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    model = fields.get("model")
    inferred = "v2" if isinstance(model, str) and model.startswith(FLUX) else "v1"
    return str(fields.get("version") or inferred)


ListenProvider: TypeAlias = Annotated[
    Annotated[NovaListen, Tag("v1")] | Annotated[FluxListen, Tag("v2")], Discriminator(_version)
]


class Listen(VendorPart):
    """Recognition of the caller's speech."""

    provider: Annotated[ListenProvider, Field(description="the recogniser and its settings")]
