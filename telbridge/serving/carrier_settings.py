"""[telnyx], [plivo], [signalwire], [vonage]: carriers with webhooks of the common kind."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from telbridge.sessions.credentials import SecretRef


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TelnyxSection(_Section):
    """[telnyx]."""

    public_keys: Annotated[
        tuple[SecretRef, ...],
        Field(
            min_length=1,
            description="public keys of the account's webhooks; several while one is replaced",
        ),
    ] = (SecretRef(env="TELNYX_PUBLIC_KEY"),)
    codec: Annotated[
        Literal["pcmu/8000", "pcma/8000", "pcm16/8000", "pcm16/16000", "pcm16/24000"],
        Field(description="what streams are asked for"),
    ] = "pcmu/8000"
    l16_byte_order: Annotated[
        Literal["big", "little"],
        Field(description="of linear samples; unconfirmed: choose the other where callers hear noise"),
    ] = "big"


class PlivoSection(_Section):
    """[plivo]."""

    auth_tokens: Annotated[
        tuple[SecretRef, ...],
        Field(min_length=1, description="auth tokens that sign; several while one is being replaced"),
    ] = (SecretRef(env="PLIVO_AUTH_TOKEN"),)
    codec: Annotated[
        Literal["pcmu/8000", "pcm16/8000", "pcm16/16000"], Field(description="what streams are asked for")
    ] = "pcmu/8000"


class SignalWireSection(_Section):
    """[signalwire]."""

    signing_keys: Annotated[
        tuple[SecretRef, ...],
        Field(min_length=1, description="the project's signing keys; several while one is being replaced"),
    ] = (SecretRef(env="SIGNALWIRE_SIGNING_KEY"),)
    codec: Annotated[
        Literal["pcmu/8000", "pcm16/16000", "pcm16/24000"], Field(description="what streams are asked for")
    ] = "pcmu/8000"


class VonageSection(_Section):
    """[vonage]."""

    signature_secrets: Annotated[
        tuple[SecretRef, ...],
        Field(min_length=1, description="the account's signature secrets; several while one is replaced"),
    ] = (SecretRef(env="VONAGE_SIGNATURE_SECRET"),)
    codec: Annotated[
        Literal["pcm16/8000", "pcm16/16000", "pcm16/24000"], Field(description="what streams are asked for")
    ] = "pcm16/16000"
    caller_id: Annotated[
        str | None,
        Field(description="number shown to whom a call is transferred, one of yours; default: unknown"),
    ] = None
