"""What the tables of Deepgram's Settings share: their identity on the wire, endpoints, AWS credentials.

Source: developers.deepgram.com/docs/configure-voice-agent, the typed models of `deepgram-sdk` 7.17.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.provider import VendorPart

_SECRET_HEADER: Final = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def look_for_secrets(value: object, key: str, environ: Mapping[str, str]) -> None:
    """SecretMissing, by its dotted key, for the first reference in `value` that leads nowhere.

    Asked before `revealed`: where a value may be of several types, pydantic takes the exception of one for
    a hint to try the next, and sends the reference in the secret's place.
    """
    if isinstance(value, SecretRef):
        value.resolve(key, environ)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            look_for_secrets(getattr(value, name), f"{key}.{name}", environ)
    elif isinstance(value, dict):
        for name, inner in value.items():
            look_for_secrets(inner, f"{key}.{name}", environ)
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            look_for_secrets(inner, f"{key}.{index}", environ)


class Identified(VendorPart):
    """A table that says what it is. What says so is always sent, also where it was left to its default:
    without `version` the API takes a Flux model for a Nova one and refuses it."""

    def identity(self) -> dict[str, str]:
        """The keys that are always sent."""
        kinds = {name: getattr(self, name, None) for name in ("type", "version")}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    @model_serializer(mode="wrap")
    def _identified(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Only on the wire, where `revealed` gives a context: in settings, what was not set stays unset."""
        return handler(self) if info.context is None else {**self.identity(), **handler(self)}


def _without_plain_secrets(headers: dict[str, SecretRef | str] | None) -> dict[str, SecretRef | str] | None:
    for name, value in (headers or {}).items():
        if isinstance(value, str) and _SECRET_HEADER.search(name):
            raise ValueError(
                f'the header {name} holds a secret: write {{ env = "NAME" }} or {{ file = "/path" }}'
            )
    return headers


class Endpoint(VendorPart):
    """Where a model or a voice of another vendor is to be reached."""

    url: Annotated[str, Field(pattern=r"^(https|wss)://[^\s/]+", description="https:// address of the model")]
    headers: Annotated[
        dict[str, SecretRef | str] | None,
        Field(description='headers of the request; a secret one as { env = "NAME" }, whole value'),
    ] = None

    _no_plain_secrets = field_validator("headers")(_without_plain_secrets)

    @property
    def is_websocket(self) -> bool:
        return urlsplit(self.url).scheme == "wss"


class FunctionEndpoint(VendorPart):
    """Where Deepgram itself calls a function, instead of asking us."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+", description="address that answers the call")]
    method: Annotated[str | None, Field(min_length=1, description="HTTP method, such as post")] = None
    headers: Annotated[
        dict[str, SecretRef | str] | None,
        Field(description='headers of the request; a secret one as { env = "NAME" }, whole value'),
    ] = None

    _no_plain_secrets = field_validator("headers")(_without_plain_secrets)


class AwsCredentials(VendorPart):
    """For Amazon Bedrock and Amazon Polly."""

    type: Annotated[
        Literal["iam", "sts"], Field(description='"iam" for a user\'s keys, "sts" for temporary ones')
    ]
    region: Annotated[str, Field(min_length=1, description="AWS region, such as us-east-1")]
    access_key_id: Annotated[SecretRef, Field(description='{ env = "AWS_ACCESS_KEY_ID" }')]
    secret_access_key: Annotated[SecretRef, Field(description='{ env = "AWS_SECRET_ACCESS_KEY" }')]
    session_token: Annotated[
        SecretRef | None, Field(description='{ env = "AWS_SESSION_TOKEN" }, with type "sts"')
    ] = None

    @model_validator(mode="after")
    def _sts_has_a_session(self) -> AwsCredentials:
        if self.type == "sts" and self.session_token is None:
            raise ValueError('temporary credentials need session_token: set it, or write type = "iam"')
        return self
