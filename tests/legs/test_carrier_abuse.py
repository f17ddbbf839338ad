"""Who is not a carrier, comes too late or twice: 403 before anything is spent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from telbridge.caller.streams.carriers import CarrierSide, Request
from telbridge.caller.streams.phone import CALLED, CALLER
from telbridge.caller.streams.sides import sides_of
from telbridge.caller.streams.telnyx import TelnyxSide
from telbridge.caller.streams.vonage import VonageSide
from telbridge.config import ConfigErrors
from telbridge.legs.streams.carrier import CLOCK_SKEW_S
from tests.legs.carrier_bed import CALLERS, KEYS, KINDS, SEED, carrier_bed
from tests.legs.stream_bed import StreamBed
from tests.legs.test_stream_abuse import closed

REFUSED = (403, "refused")


class Stranger:
    """Speaks to the bridge by hand, as the carrier `kind`."""

    def __init__(self, bed: StreamBed, http: aiohttp.ClientSession, kind: str) -> None:
        self.bed, self.http, self.kind = bed, http, kind
        self.side: CarrierSide = sides_of(CALLERS)[kind]

    def voice(self, side: CarrierSide | None = None, *, call: str = "call-1") -> Request:
        return (side or self.side).voice(self.bed.http(f"/{self.kind}/voice"), call, CALLER, CALLED)

    def status(self, side: CarrierSide | None = None) -> Request:
        return (side or self.side).status(self.bed.http(f"/{self.kind}/status"), "call-1", "completed")

    async def asks(self, request: Request) -> tuple[int, str]:
        asking = self.http.request(
            request.method, request.url, data=request.body or None, headers=request.headers
        )
        async with asking as answer:
            return answer.status, await answer.text()

    async def stream(self, *, call: str = "call-1") -> str:
        """The address of a stream, by a signed webhook."""
        status, text = await self.asks(self.voice(call=call))
        assert status == 200, text
        return self.side.connected(text, call, CALLER, CALLED)[0]

    async def upgrade_status(self, url: str) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await self.http.ws_connect(url)
        return error.value.status


@asynccontextmanager
async def stranger(kind: str, **settings: Any) -> AsyncIterator[Stranger]:
    async with carrier_bed(**settings) as bed, aiohttp.ClientSession() as http:
        yield Stranger(bed, http, kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_signed_is_refused(kind: str) -> None:
    unsigned = sides_of({})[kind]
    others = sides_of(
        dict.fromkeys((*KEYS, "TELNYX_PRIVATE_KEY"), "bm90IHRoZSBrZXkgYnV0IDMyIG9jdGV0cyBvZiBpdCE=")
    )[kind]
    async with stranger(kind) as they:
        for side in (unsigned, others):
            assert await they.asks(they.voice(side)) == REFUSED
            assert await they.asks(they.status(side)) == REFUSED
        assert (await they.asks(they.voice()))[0] == 200
        assert (await they.asks(they.status()))[0] == 204
        assert they.bed.sides == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_changed_after_it_was_signed_is_refused(kind: str) -> None:
    async with stranger(kind) as they:
        request = they.voice()
        changed = request.body.replace(b"15005550001", b"19005550001")
        assert await they.asks(replace(request, body=changed)) == REFUSED
        assert (await they.asks(request))[0] == 200


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_is_good_once(kind: str) -> None:
    async with stranger(kind) as they:
        for request in (they.voice(), they.status()):
            assert (await they.asks(request))[0] in (200, 204)
            assert await they.asks(request) == REFUSED
        assert (await they.asks(they.voice(call="call-2")))[0] == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["h:99999", "[1.2]", "[::zz]", "a b"])
async def test_a_host_that_is_none_is_told_so(kind: str, host: str) -> None:
    async with stranger(kind) as they:
        request = they.voice()
        status, text = await they.asks(replace(request, headers={**request.headers, "Host": host}))
        assert (status, text) == (400, "no such host")


@pytest.mark.parametrize("kind", ["plivo", "signalwire"])
async def test_a_signature_of_another_address_is_refused(kind: str) -> None:
    async with stranger(kind) as they:
        request = they.voice()
        assert await they.asks(replace(request, url=request.url + "?x=1")) == REFUSED
        assert await they.asks(replace(request, url=they.bed.http(f"/{kind}/status"))) == REFUSED


@pytest.mark.parametrize("kind", ["telnyx", "vonage"])
@pytest.mark.parametrize("off_s", [-CLOCK_SKEW_S - 5, CLOCK_SKEW_S + 5])
async def test_a_signature_expires(kind: str, off_s: int) -> None:
    def clock() -> float:
        return time.time() + off_s

    key = KEYS["VONAGE_SIGNATURE_SECRET"]
    late = TelnyxSide(SEED, clock=clock) if kind == "telnyx" else VonageSide(key, clock=clock)
    async with stranger(kind) as they:
        assert await they.asks(they.voice(late)) == REFUSED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_needs_a_ticket_and_takes_it_once(kind: str) -> None:
    async with stranger(kind) as they:
        bare = f"ws://127.0.0.1:{they.bed.port}/{kind}/stream"
        assert await they.upgrade_status(bare) == 403
        assert await they.upgrade_status(bare + "/" + "A" * 120) == 403
        url = await they.stream()
        assert url.startswith(bare + "/")
        socket = await they.http.ws_connect(url, compress=0)
        assert await they.upgrade_status(url) == 403, "the ticket was taken twice"
        await socket.close()
        other = next(each for each in KINDS if each != kind)
        url = await they.stream(call="call-2")
        assert await they.upgrade_status(url.replace(f"/{kind}/", f"/{other}/")) == 403
        assert they.bed.sides == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_ticket_is_good_for_its_own_call_alone(kind: str) -> None:
    async with stranger(kind) as they:
        status, text = await they.asks(they.voice())
        assert status == 200
        url, dialect = they.side.connected(text.replace("call-1", "call-2"), "call-2", CALLER, CALLED)
        socket = await they.http.ws_connect(url, compress=0)
        for message in dialect.opening():
            await socket.send_str(str(message))
        assert await closed(socket) == (1008, "the stream is not of the call that its ticket is for")
        assert they.bed.sides == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_carrier_without_a_key_is_refused(kind: str) -> None:
    async with stranger(kind, environ={}) as they:
        assert await they.asks(they.voice()) == REFUSED


async def test_a_key_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigErrors, match=r"plivo\.auth_tokens: MISSING is not set"):
        async with carrier_bed(environ={}, plivo={"auth_tokens": [{"env": "MISSING"}]}):
            pass


@pytest.mark.parametrize("key", ["MIICIjAN", "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg", "no key"])
async def test_a_public_key_that_is_none_is_told_in_one_line(key: str) -> None:
    with pytest.raises(ConfigErrors, match=r"^settings: telnyx\.public_keys: is no Ed25519 public key: copy"):
        async with carrier_bed(environ={"TELNYX_PUBLIC_KEY": key}):
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_may_be_replaced_while_calls_come(kind: str) -> None:
    names = {
        "telnyx": ("public_keys", "TELNYX_PUBLIC_KEY"),
        "plivo": ("auth_tokens", "PLIVO_AUTH_TOKEN"),
        "signalwire": ("signing_keys", "SIGNALWIRE_SIGNING_KEY"),
        "vonage": ("signature_secrets", "VONAGE_SIGNATURE_SECRET"),
    }
    setting, variable = names[kind]
    section = {setting: [{"env": "NEXT"}, {"env": variable}]}
    next_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="  # RFC 8032 §7.1, test 1
    async with stranger(kind, environ={**KEYS, "NEXT": next_key}, **{kind: section}) as they:
        assert (await they.asks(they.voice()))[0] == 200


async def test_the_reason_is_logged_without_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    async with stranger("vonage") as they:
        assert await they.asks(they.voice(VonageSide("another"))) == REFUSED
    logged = capsys.readouterr().out
    assert "vonage_refused" in logged
    assert "wrong signature" in logged
    assert CALLER.removeprefix("+") not in logged
