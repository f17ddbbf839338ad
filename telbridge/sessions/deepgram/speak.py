"""`agent.speak` of Deepgram's Settings: the agent's voice.

Sources: developers.deepgram.com/docs/configure-voice-agent, /docs/voice-agent-tts-models; the typed models
of `deepgram-sdk` 7.17.0.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from telbridge.sessions.deepgram.listen import FLUX
from telbridge.sessions.deepgram.parts import AwsCredentials, Endpoint, Identified
from telbridge.sessions.deepgram.think import one_or_more
from telbridge.sessions.provider import Unconfirmed, VendorPart

_AURA_SLOWEST: Final = 0.7
_STEP: Final = 0.05

_Version1 = Annotated[Literal["v1"] | None, Field(description='"v1", or not set')]


class DeepgramSpeak(Identified):
    """Aura (version 1) and Flux (version 2) voices."""

    type: Annotated[Literal["deepgram"], Field(description="Deepgram's own voices")]
    model: Annotated[str, Field(min_length=1, description="voice, such as aura-2-thalia-en or flux-kit-en")]
    version: Annotated[
        Literal["v1", "v2"] | None, Field(description='"v1" for Aura, "v2" for Flux; not set: by the model')
    ] = None
    speed: Annotated[
        float | None, Field(ge=0.5, le=1.5, description="Aura 0.7 to 1.5; Flux 0.5 to 1.5 in steps of 0.05")
    ] = None
    expressivity: Annotated[
        int | None, Field(ge=-2, le=2, strict=True, description="-2 to 2, Flux voices only")
    ] = None

    @property
    def is_flux(self) -> bool:
        return self.model.startswith(FLUX)

    def identity(self) -> dict[str, str]:
        """`version` is not sent for Aura, whose default it is."""
        return {**super().identity(), **({"version": "v2"} if self.is_flux else {})}

    @model_validator(mode="after")
    def _fits_together(self) -> DeepgramSpeak:
        right = "v2" if self.is_flux else "v1"
        if self.version not in (None, right):
            raise ValueError(f'{self.model} is no voice of version "{self.version}": write "{right}"')
        if self.expressivity is not None and not self.is_flux:
            raise ValueError(f"{self.model} takes no expressivity: choose a flux- voice")
        if self.speed is not None and not self.is_flux and self.speed < _AURA_SLOWEST:
            raise ValueError(f"{self.model} speaks no slower than 0.7: write 0.7 to 1.5")
        if (
            self.speed is not None
            and self.is_flux
            and abs(round(self.speed / _STEP) * _STEP - self.speed) > 1e-6
        ):
            raise ValueError("a Flux voice takes speed in steps of 0.05: write 0.95 or 1.0")
        return self


class ElevenLabsSpeak(Identified):
    """The voice itself stands in the endpoint's url."""

    type: Annotated[Literal["eleven_labs"], Field(description="ElevenLabs, with an endpoint")]
    model_id: Annotated[str, Field(min_length=1, description="model, such as eleven_turbo_v2_5")]
    version: _Version1 = None
    language: Annotated[str | None, Field(min_length=2, description="language code, such as en")] = None
    language_code: Annotated[str | None, Field(min_length=2, description="old name of language")] = None


class CartesiaVoice(VendorPart):
    mode: Annotated[str, Field(min_length=1, description='how the voice is named, "id"')]
    id: Annotated[str, Field(min_length=1, description="Cartesia's id of the voice")]


class CartesiaSpeak(Identified):
    type: Annotated[Literal["cartesia"], Field(description="Cartesia")]
    model_id: Annotated[str, Field(min_length=1, description="model, such as sonic-2")]
    voice: Annotated[CartesiaVoice, Field(description="the voice")]
    version: Annotated[Literal["2025-03-17"] | None, Field(description="of Cartesia's API")] = None
    language: Annotated[str | None, Field(min_length=2, description="language code, such as en")] = None
    volume: Annotated[float | None, Field(ge=0.5, le=2.0, description="loudness, 0.5 to 2.0")] = None
    speed: Annotated[
        float | None, Unconfirmed(), Field(gt=0, description="speed; in the vendor's pages, not in its SDK")
    ] = None


class OpenAISpeak(Identified):
    type: Annotated[Literal["open_ai"], Field(description="OpenAI's speech API, with an endpoint")]
    model: Annotated[str, Field(min_length=1, description="tts-1 or tts-1-hd")]
    voice: Annotated[str, Field(min_length=1, description="alloy, echo, fable, onyx, nova or shimmer")]
    version: _Version1 = None


class PollySpeak(Identified):
    type: Annotated[Literal["aws_polly"], Field(description="Amazon Polly, with an endpoint")]
    voice: Annotated[str, Field(min_length=1, description="voice, such as Joanna")]
    language: Annotated[str, Field(min_length=2, description="language code, such as en-US")]
    engine: Annotated[
        Literal["generative", "long-form", "standard", "neural"], Field(description="Polly's engine")
    ]
    credentials: Annotated[AwsCredentials, Field(description="keys of the AWS account")]
    language_code: Annotated[str | None, Field(min_length=2, description="old name of language")] = None


SpeakProvider: TypeAlias = Annotated[
    DeepgramSpeak | ElevenLabsSpeak | CartesiaSpeak | OpenAISpeak | PollySpeak,
    Field(discriminator="type"),
]


class Speak(VendorPart):
    """One voice."""

    provider: Annotated[SpeakProvider, Field(description="the voice and its settings")]
    endpoint: Annotated[
        Endpoint | None, Field(description="where the voice is reached; for all but Deepgram and Cartesia")
    ] = None

    @model_validator(mode="after")
    def _has_its_endpoint(self) -> Speak:
        kind, endpoint = self.provider.type, self.endpoint
        if endpoint is None:
            if kind not in ("deepgram", "cartesia"):
                raise ValueError(f"{kind} is not run by Deepgram: set endpoint.url")
            return self
        if endpoint.is_websocket and kind != "eleven_labs":
            raise ValueError("only eleven_labs is reached by WebSocket: write an https:// url")
        if kind == "eleven_labs":
            for name in ("output_format", "model_id"):
                if f"{name}=" in endpoint.url:
                    raise ValueError(f"Deepgram sets {name} in ElevenLabs' url itself: remove it there")
        return self


OneOrMoreSpeak: TypeAlias = Annotated[
    Annotated[Speak, Tag("one")] | Annotated[tuple[Speak, ...], Field(min_length=1), Tag("fallbacks")],
    Discriminator(one_or_more),
]
