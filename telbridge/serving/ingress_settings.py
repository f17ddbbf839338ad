"""[http], [streams] and the peers: calls that come over HTTP, WebSockets and AudioSocket."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telbridge.sessions.credentials import SecretRef


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _networks(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return value
    try:
        return tuple(ip_network(item) for item in value)
    except ValueError as error:
        raise ValueError(f"{error}: write a network as 10.0.0.0/8") from None


class HttpSection(_Section):
    """[http]: the public HTTP port, for webhooks and media streams."""

    host: Annotated[
        str, Field(description="address to listen on; loopback until a reverse proxy or a name is set up")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="TCP port of webhooks and media streams")] = 8080
    public_url: Annotated[
        str | None,
        Field(description="how carriers reach this port, as https://voice.example.com; what stands before /"),
    ] = None
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        Field(description='reverse proxies whose X-Forwarded headers count, as ["10.0.0.0/8"]'),
    ] = ()
    requests_per_second: Annotated[
        float, Field(gt=0, description="most unauthorised requests a second of one address; more get 429")
    ] = 20.0

    @field_validator("public_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{value!r} is no public URL: write one as https://voice.example.com")
        host = (parts.netloc.rpartition("@")[2]).lower()
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return _networks(value)


class StreamsSection(_Section):
    """[streams]: every media stream, whatever the carrier."""

    lead_ms: Annotated[
        int,
        Field(ge=40, le=1000, description="most speech sent ahead of what is heard"),
    ] = 200
    media_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="seconds without a message until a caller counts as gone"),
    ] = 10.0
    start_timeout_s: Annotated[
        float, Field(gt=0, le=60, description="seconds for a stream to say what it is")
    ] = 5.0
    max_calls: Annotated[
        int, Field(ge=1, description="most streams at a time, of all workers; more get 503")
    ] = 200


class TwilioSection(_Section):
    """[twilio]."""

    auth_tokens: Annotated[
        tuple[SecretRef, ...],
        Field(min_length=1, description="auth tokens that sign; several while one is being replaced"),
    ] = (SecretRef(env="TWILIO_AUTH_TOKEN"),)
    account_sid: Annotated[
        str | None, Field(description="calls of other accounts are refused, their sub-accounts' too")
    ] = None
    caller_id: Annotated[
        str | None,
        Field(description="number shown to whom a call is transferred, one of yours; default: the caller's"),
    ] = None
    api_key_sid: Annotated[
        str | None,
        Field(description="REST API key, or the AccountSid: calls that we hang up then end at once"),
    ] = None
    api_key_secret: Annotated[
        SecretRef | None, Field(description="its secret, or the auth token of the AccountSid")
    ] = None
    api_url: Annotated[str, Field(description="where the REST API is: of another region, or a test")] = (
        "https://api.twilio.com"
    )
    verify_signatures: Annotated[
        bool, Field(description="false: anybody may start calls at your cost; warns at each start")
    ] = True

    @model_validator(mode="after")
    def _whole_key(self) -> TwilioSection:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("api_key_sid and api_key_secret go together: write both, or neither")
        return self


class AsteriskSection(_Section):
    """[asterisk]: chan_websocket, and announcements of AudioSocket calls, over the port of [http]."""

    token: Annotated[
        SecretRef | None,
        Field(description="bearer token, or password of any user; without one only this machine may"),
    ] = None


class AudioSocketSection(_Section):
    """[audiosocket]: a TCP port of its own, without encryption: for this machine or a private network."""

    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="TCP port for Asterisk's AudioSocket, 9092 say; none: off"),
    ] = None
    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    allow: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        Field(description="networks that may connect"),
    ] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    unannounced: Annotated[
        bool, Field(description="true: a UUID that nobody announced is a call too, of an unknown caller")
    ] = False

    @field_validator("allow", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return _networks(value)


_CODECS: Final = {
    "websocket": ("ulaw", "alaw", "slin", "slin16"),
    "audiosocket": ("slin", "slin16"),
    "rtp": ("ulaw", "alaw"),
}


class AriSection(_Section):
    """[ari]: calls that Asterisk hands over by `Stasis()`."""

    url: Annotated[
        str | None,
        Field(description="Asterisk's HTTP server, as http://127.0.0.1:8088; without it off"),
    ] = None
    username: Annotated[str, Field(description="user of ari.conf")] = "telbridge"
    password: Annotated[SecretRef, Field(description="its password")] = SecretRef(env="ARI_PASSWORD")
    app: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.-]+$", description="name of the Stasis application, of this process alone"
        ),
    ] = "telbridge"
    media: Annotated[
        Literal["websocket", "audiosocket", "rtp"],
        Field(description="how audio comes: we connect to Asterisk (websocket), or it to media_host"),
    ] = "websocket"
    media_host: Annotated[
        str, Field(description="address of ours that Asterisk reaches, for audiosocket and rtp")
    ] = "127.0.0.1"
    codec: Annotated[
        Literal["ulaw", "alaw", "slin", "slin16"] | None,
        Field(description="of the audio between Asterisk and us; default ulaw, for audiosocket slin"),
    ] = None
    variables: Annotated[
        tuple[str, ...],
        Field(description='channel variables and functions to read, as ["CALLERID(ANI)", "QUEUE"]'),
    ] = ()

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
            raise ValueError(f"{value!r} is no such URL: write one as http://127.0.0.1:8088")
        return value.rstrip("/").removesuffix("/ari")

    @model_validator(mode="after")
    def _codec_fits(self) -> AriSection:
        known = _CODECS[self.media]
        if self.codec is not None and self.codec not in known:
            raise ValueError(f"{self.media} carries no {self.codec}: write one of {', '.join(known)}")
        return self

    @property
    def codec_of_media(self) -> str:
        return self.codec or _CODECS[self.media][0]


class GenericSection(_Section):
    """[generic]: the WebSocket protocol of our own."""

    token: Annotated[
        SecretRef | None, Field(description="bearer token; without one only this machine may connect")
    ] = None
