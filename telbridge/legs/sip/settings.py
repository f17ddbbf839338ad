"""[sip]: where we listen, who may call, how media is bound."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from ssl import SSLError
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telbridge import __version__
from telbridge.legs.sip.tls import Tls

Network = IPv4Network | IPv6Network


def _as_networks(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return value
    networks = []
    for item in value:
        try:
            networks.append(ip_network(item))
        except ValueError as error:
            raise ValueError(f"{error}: write a network as 203.0.113.0/24") from None
    return tuple(networks)


class Trunk(BaseModel):
    """[sip.trunks.NAME]: who is behind a name that a dialplan matches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    addresses: Annotated[
        tuple[Network, ...],
        Field(min_length=1, description='networks or single addresses of it, as ["203.0.113.0/24"]'),
    ]

    _networks = field_validator("addresses", mode="before")(_as_networks)


class TlsSettings(BaseModel):
    """[sip.tls]: SIP over TLS, on a port of its own. It is ended by the dispatcher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Annotated[Path, Field(description="PEM file: our certificate, then those up to its root")]
    key: Annotated[
        Path | None, Field(description="PEM file of its key; default: it stands in the certificate's file")
    ] = None
    port: Annotated[int, Field(ge=1, le=65535, description="TCP port for SIP over TLS")] = 5061
    peers_ca: Annotated[
        Path | None,
        Field(description="PEM file of the roots that callers' certificates must have; default: none asked"),
    ] = None

    @model_validator(mode="after")
    def _loads(self) -> TlsSettings:
        try:
            self.load()
        except SSLError as error:
            fault = f"certificate and key do not load ({error.reason or 'no PEM'})"
            raise ValueError(f"{fault}: write PEM files that belong together") from None
        except OSError as error:
            raise ValueError(f"{error.strerror}: write files that telbridge can read") from None
        return self

    def load(self) -> Tls:
        """OSError, of which SSLError is one, if the files have become bad meanwhile."""
        return Tls(self.port, self.certificate, self.key, self.peers_ca)


class SipSettings(BaseModel):
    """What the SIP endpoint of one process is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(description="IPv4 address to listen on, for SIP and RTP")] = "0.0.0.0"
    port: Annotated[int, Field(ge=1, le=65535, description="SIP port, the same for UDP and TCP")] = 5060
    transports: Annotated[
        frozenset[Literal["udp", "tcp"]], Field(min_length=1, description='any of "udp", "tcp"')
    ] = frozenset({"udp", "tcp"})
    tls: Annotated[
        TlsSettings | None, Field(description="SIP over TLS as well: `[sip.tls]` with its certificate")
    ] = None
    rtp_port_first: Annotated[int, Field(ge=1024, le=65534, description="first UDP port for media")] = 20_000
    rtp_port_last: Annotated[int, Field(ge=1025, le=65535, description="last UDP port for media")] = 29_999
    public_address: Annotated[
        str | None, Field(description="IPv4 address that callers must use, when a NAT stands before us")
    ] = None
    media_timeout_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds without RTP after which a caller counts as gone")
    ] = 30.0
    max_calls: Annotated[
        int | None,
        Field(
            ge=1,
            description="most calls at a time; more than one process takes make several; default: what the "
            "installed pjsua2 can in one process",
        ),
    ] = None
    requests_per_second: Annotated[
        float,
        Field(
            ge=1,
            description="calls and OPTIONS that the dispatcher takes of one address, twice as many at once; "
            "more get 503: a trunk stays below, a loop does not",
        ),
    ] = 100.0
    dispatcher: Annotated[
        bool,
        Field(
            description="true: a dispatcher owns the port even if there is one worker, as it does before "
            "several: for `telbridge upgrade`"
        ),
    ] = False
    trust_private: Annotated[
        bool, Field(description="true: whoever calls from a loopback or private address may")
    ] = True
    allow: Annotated[
        tuple[Network, ...],
        Field(description='networks that may call besides, as ["203.0.113.0/24"]'),
    ] = ()
    trust_identity: Annotated[
        tuple[Network, ...],
        Field(
            description="networks whose P-Asserted-Identity (RFC 3325) is believed to name the caller; "
            "for others it is From"
        ),
    ] = ()
    trunks: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], Trunk],
        Field(
            description="names for peers, which a dialplan may match: `[sip.trunks.NAME]` with "
            '`addresses = ["203.0.113.0/24"]`; the narrowest network counts; it lets nobody call'
        ),
    ] = Field(default_factory=dict)
    user_agent: Annotated[
        str, Field(max_length=100, pattern=r"^[\x20-\x7e]*$", description="User-Agent header of our messages")
    ] = f"telbridge/{__version__}"
    audio: Annotated[
        Literal["auto", "stream", "callback"],
        Field(description='way of the audio: "auto" takes the stream port where it works'),
    ] = "auto"

    @field_validator("host", "public_address")
    @classmethod
    def _ipv4(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is no IP address: write a number, as 192.0.2.10") from None
        if not isinstance(address, IPv4Address):
            raise ValueError("IPv6 is not supported here: write an IPv4 address")
        return str(address)

    _networks = field_validator("allow", "trust_identity", mode="before")(_as_networks)

    @model_validator(mode="after")
    def _port_range(self) -> SipSettings:
        if self.rtp_port_last - self.rtp_port_first < 1:
            raise ValueError("rtp_port_last is not above rtp_port_first: a call takes two ports")
        return self
