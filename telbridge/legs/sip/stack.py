"""Brings the library up in the one order that works, and proves that the gate reads it right."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telbridge.audio.formats import PCM_8K
from telbridge.legs.sip.front import LOOPBACK, Front
from telbridge.legs.sip.gate import Gate
from telbridge.legs.sip.library import SipUnavailable
from telbridge.legs.sip.pjmedia import FRAME_MS
from telbridge.legs.sip.ports import Way
from telbridge.legs.sip.settings import SipSettings

VERIFY_S: Final = 2.0
CODECS: Final = {"PCMU": 255, "PCMA": 254}
SESSION_EXPIRES_S: Final = 1800
MAX_NAMESERVERS: Final = 4
_RESOLV_CONF: Final = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the library takes SIP."""

    host: str
    port: int
    datagram: bool
    """UDP, be it beside TCP; else TCP alone."""


def open_stack(
    pj: Any,
    endpoint: Any,
    account: Any,
    settings: SipSettings,
    way: Callable[[], Way],
    initialised: Callable[[], None],
    *,
    front: Front | None,
) -> Listening:
    """From libCreate to an account that takes calls. pjsua2's Error when the library refuses.

    `initialised` is called between libInit and the first transport, `way` after it. Behind a dispatcher SIP
    is on a free loopback port; RTP and the addresses that peers see are as without.
    """
    endpoint.libCreate()
    endpoint.libInit(_config(pj, settings))
    initialised()
    if front is None:
        for transport in sorted(settings.transports):
            _listen(pj, endpoint, settings, transport)
        host = settings.host if settings.host != "0.0.0.0" else LOOPBACK
        listening = Listening(host, settings.port, datagram="udp" in settings.transports)
    else:
        listening = _listen_behind(pj, endpoint)
    # No sound device. The callback way needs the bridge's clock; on the stream way it stands still.
    if way() == "callback":
        endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    # The order of an offer of ours; an answer keeps the order of the offer that it answers.
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, CODECS.get(codec.codecId.partition("/")[0], 0))
    account.create(_account_config(pj, settings), True)
    return listening


def _config(pj: Any, settings: SipSettings) -> Any:
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 0
    agent = config.uaConfig
    # The compiled cap stands: our own limit answers with Retry-After before the library's is met.
    agent.userAgent = settings.user_agent
    agent.threadCnt = 0
    agent.natTypeInSdp = 0
    # Without these the library resolves a host name in a Contact by getaddrinfo, on our loop.
    for server in nameservers(_RESOLV_CONF):
        agent.nameserver.append(server)
    # What pjmedia's thread reports (DTMF) then waits for our libHandleEvents: no Python outside the loop.
    agent.mainThreadOnly = True
    media = config.medConfig
    media.clockRate = media.sndClockRate = PCM_8K.rate_hz
    media.audioFramePtime = media.ptime = FRAME_MS
    media.noVad, media.ecTailLen = True, 0
    media.threadCnt, media.hasIoqueue = 1, True
    return config


def nameservers(resolv_conf: Path) -> list[str]:
    """The machine's IPv4 DNS servers (resolv.conf(5)); none if there is no such file."""
    try:
        lines = [line.split() for line in resolv_conf.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return []
    found = [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver" and ":" not in line[1]]
    return found[:MAX_NAMESERVERS]


def _listen(pj: Any, endpoint: Any, settings: SipSettings, transport: str) -> None:
    config = pj.TransportConfig()
    config.port = settings.port
    if settings.host != "0.0.0.0":
        config.boundAddress = settings.host
    if settings.public_address:
        config.publicAddress = settings.public_address
    kind = pj.PJSIP_TRANSPORT_UDP
    if transport == "tcp":
        kind = pj.PJSIP_TRANSPORT_TCP
        # Connections of the process before us may still be in TIME_WAIT.
        option = pj.SockOpt()
        option.level, option.optName, option.optVal = socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        config.sockOptParams.sockOpts.append(option)
    try:
        endpoint.transportCreate(kind, config)
    except pj.Error as error:
        where = f"{settings.host}:{settings.port}/{transport}"
        raise SipUnavailable(f"SIP cannot listen on {where}: {error.reason}") from error


def _listen_behind(pj: Any, endpoint: Any) -> Listening:
    """What the dispatcher alone talks to: it takes TCP from the outside, and gives datagrams to us."""
    config = pj.TransportConfig()
    config.port = 0
    config.boundAddress = LOOPBACK
    info = endpoint.transportGetInfo(endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, config))
    return Listening(LOOPBACK, int(info.localAddress.rpartition(":")[2]), datagram=True)


def _account_config(pj: Any, settings: SipSettings) -> Any:
    config = pj.AccountConfig()
    host = settings.public_address or (settings.host if settings.host != "0.0.0.0" else "127.0.0.1")
    config.idUri = f"sip:{host}:{settings.port}"
    media = config.mediaConfig.transportConfig
    media.port = settings.rtp_port_first
    media.portRange = settings.rtp_port_last - settings.rtp_port_first
    if settings.host != "0.0.0.0":
        media.boundAddress = settings.host
    if settings.public_address:
        media.publicAddress = settings.public_address
    config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
    config.callConfig.timerSessExpiresSec = SESSION_EXPIRES_S
    return config


def verify_gate(gate: Gate, endpoint: Any, listening: Listening) -> None:
    """Send ourselves a message and see that the gate finds its source. SipUnavailable if it does not: a gate
    that cannot read addresses would let everybody in."""
    host, port, datagram = listening.host, listening.port, listening.datagram
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        probe.settimeout(VERIFY_S)
        probe.connect((host, port))
        message = _probe_message(probe.getsockname(), host, port, "UDP" if datagram else "TCP")
        gate.expect(message, probe.getsockname(), datagram=datagram)
        probe.sendall(message)
        deadline = time.monotonic() + VERIFY_S
        while not gate.verified and time.monotonic() < deadline:
            endpoint.libHandleEvents(5)
    if not gate.verified:
        raise SipUnavailable(
            "SIP does not start: this pjsua2 lays out pjsip_rx_data in a way we do not know, "
            "so strangers could not be told apart: run `make pjsua2`"
        )


def _probe_message(own: tuple[str, int], host: str, port: int, transport: str) -> bytes:
    name = secrets.token_hex(8)
    return (
        f"OPTIONS sip:{host}:{port} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {own[0]}:{own[1]};branch=z9hG4bK{name}\r\n"
        f"From: <sip:self@{own[0]}>;tag={name}\r\nTo: <sip:self@{host}>\r\n"
        f"Call-ID: {name}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n"
    ).encode()
