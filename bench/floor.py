"""The floor: a SIP server on pjsua2 alone; its conference bridge, all in C, gives each caller back to itself.

Run as a process of its own: `python -m bench.floor`. It says `{"port": …}` on stdout when it listens and ends
when its stdin does.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any, Final

from telbridge.audio.formats import PCM_8K
from telbridge.legs.sip.library import FORCE_ENV, load
from tests.ports import free_port

FRAME_MS: Final = 20
FIRST_RTP_PORT: Final = 20_000
RTP_PORTS: Final = 10_000
EVENT_WAIT_MS: Final = 100
LAST_CALLS_ROUNDS: Final = 20


def main() -> int:
    os.environ[FORCE_ENV] = "built"
    pj = load().pj
    endpoint = _endpoint(pj)
    port = free_port()
    _listen(pj, endpoint, port)
    calls: dict[int, Any] = {}
    account = _account_class(pj, calls)()
    account.create(_account_config(pj, port), True)
    print(json.dumps({"port": port}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        endpoint.libHandleEvents(EVENT_WAIT_MS)
    endpoint.hangupAllCalls()
    for _ in range(LAST_CALLS_ROUNDS):
        endpoint.libHandleEvents(EVENT_WAIT_MS // 10)
    calls.clear()
    account.shutdown()
    del account
    endpoint.libDestroy()
    return 0


def _endpoint(pj: Any) -> Any:
    """The same media settings as the bridge's, but with the conference bridge's clock."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 0
    config.uaConfig.threadCnt = 0
    media = config.medConfig
    media.clockRate = media.sndClockRate = PCM_8K.rate_hz
    media.audioFramePtime = media.ptime = FRAME_MS
    media.noVad, media.ecTailLen = True, 0
    media.threadCnt, media.hasIoqueue = 1, True
    endpoint.libInit(config)
    return endpoint


def _listen(pj: Any, endpoint: Any, port: int) -> None:
    transport = pj.TransportConfig()
    transport.port, transport.boundAddress = port, "127.0.0.1"
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU/") else 0)


def _account_config(pj: Any, port: int) -> Any:
    config = pj.AccountConfig()
    config.idUri = f"sip:127.0.0.1:{port}"
    media = config.mediaConfig.transportConfig
    media.port, media.portRange, media.boundAddress = FIRST_RTP_PORT, RTP_PORTS, "127.0.0.1"
    return config


def _account_class(pj: Any, calls: dict[int, Any]) -> Any:
    """Classes of the library's exist only once it is loaded."""

    class LoopBack(pj.Call):  # type: ignore[misc]
        def onCallMediaState(self, parameters: Any) -> None:
            sound = self.getAudioMedia(-1)
            sound.startTransmit(sound)

    class Answering(pj.Account):  # type: ignore[misc]
        def onIncomingCall(self, parameters: Any) -> None:
            call = calls[parameters.callId] = LoopBack(self, parameters.callId)
            answer = pj.CallOpParam()
            answer.statusCode = 200
            call.answer(answer)

    return Answering


if __name__ == "__main__":
    sys.exit(main())
