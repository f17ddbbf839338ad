"""Who is not welcome, or does what no carrier does: refused or closed with a reason, others unharmed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from telbridge.call.events import Ending
from telbridge.caller.streams.phone import CALLED, CALLER, TEST_ACCOUNT
from telbridge.caller.streams.webhook import Account, Refusal, new_sid, post, read_twiml, sign, voice_form
from telbridge.config import ConfigErrors
from telbridge.legs.streams.tickets import TICKET_S, TicketOffice
from tests.legs.stream_bed import TOKEN, StreamBed, stream_bed, until

MS20 = base64.b64encode(bytes(160)).decode()
OURS = Account(TEST_ACCOUNT, TOKEN)


class Stranger:
    """Speaks to the bridge by hand."""

    def __init__(self, bed: StreamBed, http: aiohttp.ClientSession) -> None:
        self.bed, self.http = bed, http
        self.call_sid = new_sid("CA")

    async def webhook(self, *, account: Account = OURS, call_sid: str | None = None) -> str:
        """A signed one; the stream's URL."""
        form = voice_form(account, call_sid or self.call_sid, CALLER, CALLED)
        return read_twiml(await post(self.http, account, self.bed.http("/twilio/voice"), form)).url

    async def upgrade(
        self, url: str, *, signature: str | None = None
    ) -> aiohttp.ClientWebSocketResponse[Any]:
        headers = {"X-Twilio-Signature": sign(TOKEN, url) if signature is None else signature}
        return await self.http.ws_connect(url, headers={k: v for k, v in headers.items() if v}, compress=0)

    async def refused(self, url: str, *, signature: str | None = None) -> int:
        """The status that the handshake is answered with."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await self.upgrade(url, signature=signature)
        return error.value.status

    def start(self, **changed: Any) -> str:
        start = {
            "streamSid": "MZ1",
            "accountSid": TEST_ACCOUNT,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            **changed,
        }
        return json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": "MZ1"})

    async def started(self) -> aiohttp.ClientWebSocketResponse[Any]:
        """A stream in mid-call."""
        socket = await self.upgrade(await self.webhook())
        before = len(self.bed.sides)
        await socket.send_str(self.start())
        await until(lambda: len(self.bed.sides) > before)
        await self.bed.sides[-1].ready()
        return socket


async def closed(socket: aiohttp.ClientWebSocketResponse[Any]) -> tuple[int | None, str]:
    """How the bridge closes, whatever it says before."""
    async with asyncio.timeout(5):
        while (message := await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            pass
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra or ""


@asynccontextmanager
async def stranger(**settings: Any) -> AsyncIterator[Stranger]:
    async with stream_bed(**settings) as bed, aiohttp.ClientSession() as http:
        yield Stranger(bed, http)


# ---------------------------------------------------------------- who may


async def test_a_webhook_is_answered_only_if_it_is_signed() -> None:
    async with stranger() as they:
        form = voice_form(OURS, they.call_sid, CALLER, CALLED)
        url = they.bed.http("/twilio/voice")
        for headers in (
            {},
            {"X-Twilio-Signature": ""},
            {"X-Twilio-Signature": sign("another token", url, form)},
            {"X-Twilio-Signature": sign(TOKEN, url, {**form, "To": "+1900"})},
            {"X-Twilio-Signature": sign(TOKEN, url + "?x=1", form)},
        ):
            async with they.http.post(url, data=form, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (403, "refused"), headers
        async with they.http.post(they.bed.http("/twilio/status"), data=form) as answer:
            assert answer.status == 403
        assert (await they.webhook()).startswith(f"ws://127.0.0.1:{they.bed.port}/twilio/stream/")
        assert they.bed.sides == []


async def test_a_webhook_by_get_is_signed_by_its_url() -> None:
    async with stranger() as they:
        url = they.bed.http(f"/twilio/voice?CallSid={they.call_sid}&AccountSid={TEST_ACCOUNT}&CallerName=")
        for token, status in ((TOKEN, 200), ("another", 403)):
            async with they.http.get(url, headers={"X-Twilio-Signature": sign(token, url)}) as answer:
                assert answer.status == status


@pytest.mark.parametrize("host", ["h:99999", "[1.2]"])
async def test_a_host_that_cannot_be_one_is_told_so(host: str) -> None:
    async with stranger() as they:
        headers = {"X-Twilio-Signature": "x", "Host": host}
        async with they.http.post(they.bed.http("/twilio/voice"), data={"a": "b"}, headers=headers) as answer:
            assert (answer.status, await answer.text()) == (400, "no such host")


async def test_values_that_twilio_may_leave_unsigned_are_not_believed_then() -> None:
    async with stranger() as they:
        url = they.bed.http("/twilio/voice")
        form = voice_form(OURS, they.call_sid, CALLER, CALLED)
        headers = {"X-Twilio-Signature": sign(TOKEN, url, form)}
        more = {**form, "StirVerstat": "TN-Validation-Passed-A", "CallToken": "t"}
        async with they.http.post(url, data=more, headers=headers) as answer:
            assert answer.status == 200
            assert "StirVerstat" not in read_twiml(await answer.text()).parameters
        headers = {"X-Twilio-Signature": sign(TOKEN, url, more)}
        async with they.http.post(url, data=more, headers=headers) as answer:
            assert read_twiml(await answer.text()).parameters["StirVerstat"] == "TN-Validation-Passed-A"


async def test_a_stream_needs_a_signature_and_a_ticket_of_its_own() -> None:
    async with stranger() as they:
        bare = f"ws://127.0.0.1:{they.bed.port}/twilio/stream"
        url = await they.webhook()
        assert await they.refused(url, signature="") == 403
        assert await they.refused(url, signature=sign("another token", url)) == 403
        assert await they.refused(bare) == 403
        assert await they.refused(bare + "/" + "A" * 120) == 403
        assert await they.refused(url[:-2] + ("AA" if url[-2:] != "AA" else "BB")) == 403
        socket = await they.upgrade(url)  # What was refused before has not spent the ticket.
        assert await they.refused(url) == 403, "the ticket was taken twice"
        await socket.close()
        assert they.bed.sides == []


async def test_a_ticket_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    take, late_ns = TicketOffice.take, (TICKET_S + 1) * 1_000_000_000
    async with stranger() as they:
        url = await they.webhook()
        with monkeypatch.context() as later:
            later.setattr(
                TicketOffice, "take", lambda office, text, now_ns: take(office, text, now_ns + late_ns)
            )
            assert await they.refused(url) == 403


@pytest.mark.parametrize("changed", [{"callSid": "CA" + "0" * 32}, {"accountSid": "AC" + "f" * 32}])
async def test_a_ticket_is_good_for_its_own_call_alone(changed: dict[str, str]) -> None:
    async with stranger() as they:
        socket = await they.upgrade(await they.webhook())
        await socket.send_str(they.start(**changed))
        assert await closed(socket) == (1008, "the stream is not of the call that its ticket is for")
        assert they.bed.sides == []


async def test_another_accounts_calls_are_refused() -> None:
    async with stranger(twilio={"account_sid": "AC" + "e" * 32}) as they:
        with pytest.raises(Refusal, match="403"):
            await they.webhook()
        await they.webhook(account=Account("AC" + "e" * 32, TOKEN))


async def test_without_an_auth_token_twilio_is_refused_until_checking_is_turned_off() -> None:
    async with stranger(environ={}) as they:
        with pytest.raises(Refusal, match="403"):
            await they.webhook()
    async with stranger(environ={}, twilio={"verify_signatures": False}) as they:
        await they.upgrade(await they.webhook(), signature="")


async def test_turning_the_check_off_warns_at_each_start(capsys: pytest.CaptureFixture[str]) -> None:
    async with stranger(twilio={"verify_signatures": False}):
        pass
    assert "twilio_signatures_off" in capsys.readouterr().out
    async with stranger():
        pass
    assert "twilio_signatures_off" not in capsys.readouterr().out


async def test_a_token_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigErrors, match=r"twilio\.auth_tokens: MISSING is not set"):
        async with stream_bed(environ={}, twilio={"auth_tokens": [{"env": "MISSING"}]}):
            pass


async def test_forwarded_headers_count_from_trusted_proxies_only() -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "voice.example.com"}
    public = "https://voice.example.com/twilio/voice"
    for trusted, status in ((["127.0.0.1/32"], 200), ([], 403)):
        async with stranger(http={"trusted_proxies": trusted}) as they:
            form = voice_form(OURS, they.call_sid, CALLER, CALLED)
            headers = {**forwarded, "X-Twilio-Signature": sign(TOKEN, public, form)}
            async with they.http.post(they.bed.http("/twilio/voice"), data=form, headers=headers) as answer:
                assert answer.status == status
                if status == 200:
                    url = read_twiml(await answer.text()).url
                    assert url.startswith("wss://voice.example.com/twilio/stream/")


async def test_the_public_url_is_the_one_that_is_signed_and_told() -> None:
    async with stranger(http={"public_url": "https://Voice.example.com/"}) as they:
        form = voice_form(OURS, they.call_sid, CALLER, CALLED)
        signature = sign(TOKEN, "https://voice.example.com/twilio/voice", form)
        headers = {"X-Twilio-Signature": signature}
        async with they.http.post(they.bed.http("/twilio/voice"), data=form, headers=headers) as answer:
            url = read_twiml(await answer.text()).url
        assert url.startswith("wss://voice.example.com/twilio/stream/")
        local = url.replace("wss://voice.example.com", f"ws://127.0.0.1:{they.bed.port}")
        assert await they.refused(local, signature=sign(TOKEN, local)) == 403
        socket = await they.upgrade(local, signature=sign(TOKEN, url))
        await socket.close()


GENERIC_START = json.dumps({"type": "start", "format": {"encoding": "pcmu", "rate_hz": 8000}})


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Host": "evil.example.com"}, "", 403),
        ({"Origin": "https://evil.example.com"}, "", 403),
        ({"Origin": "http://[1.2]"}, "", 403),
        ({"Host": "h:99999"}, "", 403),
        ({"Host": "[1.2]"}, "", 403),
        ({"X-Forwarded-For": "127.0.0.1"}, "", 403),
        ({"Host": "evil.example.com", "Authorization": "Bearer wrong"}, "", 403),
        ({"Host": "evil.example.com"}, "?token=wrong", 403),
        ({"Host": "evil.example.com"}, "?token=%C3%A9", 403),
        ({"Host": "evil.example.com", "Authorization": "Bearer right"}, "", 101),
        ({"Host": "evil.example.com"}, "?token=right", 101),
        ({}, "", 101),
    ],
)
async def test_the_generic_stream_is_for_this_machine_or_for_the_token(
    headers: dict[str, str], query: str, status: int
) -> None:
    environ = {"GENERIC": "right", "TWILIO_AUTH_TOKEN": TOKEN}
    async with stranger(environ=environ, generic={"token": {"env": "GENERIC"}}) as they:
        try:
            socket = await they.http.ws_connect(they.bed.generic + query, headers=headers)
        except aiohttp.WSServerHandshakeError as error:
            assert error.status == status
        else:
            assert status == 101
            await socket.send_str(GENERIC_START)
            assert json.loads((await socket.receive()).data) == {"type": "started"}
            await socket.close()


async def test_behind_a_public_url_nobody_is_local() -> None:
    async with stranger(http={"public_url": "https://voice.example.com"}) as they:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await they.http.ws_connect(they.bed.generic)


# ---------------------------------------------------------------- what no carrier does


async def test_a_stream_that_never_starts_is_closed() -> None:
    async with stranger(streams={"start_timeout_s": 0.3}) as they:
        silent = await they.upgrade(await they.webhook())
        assert await closed(silent) == (1008, "no start within 0.3 s")
        they.call_sid = new_sid("CA")
        busy = await they.upgrade(await they.webhook())
        await busy.send_str('{"event":"connected"}')
        assert await closed(busy) == (1008, "no start within 0.3 s")
        assert they.bed.ingress.live_calls == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"event":"media","media":{"payload":"' + MS20 + '"}}', "`media` while waiting"),
        (b"\x00" * 160, "binary message"),
        ("no JSON", "message is not JSON"),
        ("[" * 60_000, "message is not JSON"),
        ("[]", "message is no JSON object"),
        ('{"event":7}', "`event` is no text"),
        ('{"event":"start"}', "`start` is no object"),
        (
            '{"event":"start","start":{"mediaFormat":{"encoding":"audio/x-l16"}}}',
            "media format is not audio/x-mulaw at 8000 Hz",
        ),
    ],
)
async def test_a_wrong_beginning_is_closed_with_its_reason(message: str | bytes, reason: str) -> None:
    async with stranger() as they:
        socket = await they.upgrade(await they.webhook())
        if isinstance(message, str):
            await socket.send_str(message)
        else:
            await socket.send_bytes(message)
        assert await closed(socket) == (1008, reason)
        assert they.bed.sides == []


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("start", 1008, "`start` while streaming"),
        ('{"event":"connected"}', 1008, "`connected` while streaming"),
        ('{"event":"media","media":{"payload":"@@@@"}}', 1008, "the payload is not base64"),
        ('{"event":"media","media":{"payload":"QQ"}}', 1008, "the payload is not base64"),
        ('{"event":"media","media":{"payload":7}}', 1008, "the payload is no text"),
        ('{"event":"media","media":[]}', 1008, "`media` is no object"),
        ('{"event":"media"', 1008, "message is not JSON"),
        ('{"event":"mark","mark":{}}', 1008, "`name` is no text"),
        ('{"event":"x","y":"' + "z" * 70_000 + '"}', 1009, ""),
        ("x" * 10_000_000, 1009, ""),
    ],
)
async def test_a_broken_message_ends_its_own_call_and_no_other(message: str, code: int, reason: str) -> None:
    async with stranger() as they:
        other, side = await they.bed.dial()
        socket = await they.started()
        if message == "start":
            message = they.start()
        try:
            await socket.send_str(message)
        except ConnectionError:
            assert len(message) > 1_000_000  # It was not even read to its end.
            await socket.close()
        else:
            assert (await closed(socket))[0] == code
        summary = await they.bed.sides[-1].summary()
        assert summary.ending is Ending.LEG_FAILED
        assert summary.detail == (reason or "message too big")
        side.says(bytes(800))
        await until(lambda: other.player.counters.played >= 800)
        assert other.ended is None


async def test_unknown_events_are_let_be() -> None:
    async with stranger() as they:
        socket = await they.started()
        await socket.send_str('{"event":"news","more":{"a":[1]}}')
        await socket.send_str('{"event":"dtmf","dtmf":{"digit":"x"}}')
        await socket.send_str('{"event":"mark","mark":{"name":"never sent"}}')
        await socket.send_str('{"event": "media", "media": {"payload": "' + MS20 + '", "track": "inbound"}}')
        await until(lambda: len(they.bed.sides[0].session.uplink) == 1)
        await socket.close()


@pytest.mark.filterwarnings(
    "ignore:Unclosed connection:ResourceWarning"
)  # The client's, cut off in mid-send.
@pytest.mark.parametrize(
    ("octets", "reason"), [(8_000, "audio faster than real time"), (0, "too many messages")]
)
async def test_a_flood_is_closed_and_memory_stays_flat(octets: int, reason: str) -> None:
    payload = base64.b64encode(bytes(octets)).decode()
    message = '{"event":"media","media":{"payload":"' + payload + '"}}' if octets else '{"event":"none"}'
    async with stranger() as they:
        other, side = await they.bed.dial()
        socket = await they.started()
        they.bed.sides[-1].session.send_audio = lambda frame: None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(200_000):
            if they.bed.sides[-1].leg.over:
                break
            with contextlib.suppress(ConnectionError):
                await socket.send_str(message)
        await socket.close()
        summary = await they.bed.sides[-1].summary()
        assert (summary.ending, summary.detail) == (Ending.LEG_FAILED, reason)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
        side.says(bytes(800))
        await until(lambda: other.player.counters.played >= 800)


async def test_too_many_requests_of_one_address_are_turned_away_and_forgotten() -> None:
    async with stranger(http={"requests_per_second": 20}) as they:
        bare = f"http://127.0.0.1:{they.bed.port}/twilio/stream"
        statuses = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http:

            async def knock() -> None:
                async with http.get(
                    bare, headers={"Upgrade": "websocket", "Connection": "Upgrade"}
                ) as answer:
                    statuses.append(answer.status)

            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.monotonic()
            await asyncio.gather(*(knock() for _ in range(1000)))
            took_s = time.monotonic() - started
        assert set(statuses) == {403, 429}
        assert statuses.count(403) <= 40 + 20 * (took_s + 0.1)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
        await asyncio.sleep(0.3)
        call, side = await they.bed.dial()
        side.says(bytes(800))
        await until(lambda: call.player.counters.played >= 800)


async def test_a_stranger_does_not_get_more_by_naming_other_addresses() -> None:
    for trusted, refused in (([], True), (["127.0.0.1/32"], False)):
        async with stranger(http={"requests_per_second": 2, "trusted_proxies": trusted}) as they:
            statuses = []
            for number in range(20):
                headers = {"X-Forwarded-For": f"192.0.2.1, 203.0.113.{number}"}
                async with they.http.get(they.bed.http("/twilio/stream"), headers=headers) as answer:
                    statuses.append(answer.status)
            assert (429 in statuses) is refused


async def test_welcome_calls_are_not_counted_against_their_address() -> None:
    async with stranger(http={"requests_per_second": 2}) as they:
        for _ in range(12):
            await they.bed.dial()


async def test_slow_loris_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telbridge.serving.ingress.IDLE_S", 0.5)
    monkeypatch.setattr("telbridge.serving.ingress_twilio.BODY_S", 0.5)
    async with stranger() as they:
        heads = [await asyncio.open_connection("127.0.0.1", they.bed.port) for _ in range(50)]
        body_reader, body_writer = await asyncio.open_connection("127.0.0.1", they.bed.port)
        body_writer.write(
            b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nCallSid="
        )

        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
            started = time.monotonic()
            try:
                for octet in b"GET /twilio/stream HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000:
                    writer.write(bytes((octet,)))
                    await writer.drain()
                    await asyncio.sleep(0.02)
                    if reader.at_eof():
                        break
            except ConnectionError:
                pass
            writer.close()
            return time.monotonic() - started

        lives_s = await asyncio.gather(*(trickle(*head) for head in heads))
        assert max(lives_s) < 2.0
        async with asyncio.timeout(2):
            assert b"408" in await body_reader.readline()
        body_writer.close()


async def test_idle_connections_leave_room_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most that say nothing are cut off at once; another address still gets in, and calls do not count."""
    monkeypatch.setattr("telbridge.serving.ingress.MAX_IDLE_OF_ONE", 10)
    async with stranger() as they:
        calls = [await they.bed.dial() for _ in range(12)]
        idle = [await asyncio.open_connection("127.0.0.1", they.bed.port) for _ in range(60)]
        await until(lambda: they.bed.ingress.cut_off >= 50)
        with pytest.raises(aiohttp.ClientConnectionError):
            async with they.http.get(they.bed.http("/")):
                pass
        local = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=local) as http, http.get(they.bed.http("/")) as answer:
            assert answer.status == 404
        for call, side in calls:
            assert call.ended is None
            assert not side.leg.over
        for _, writer in idle:
            writer.close()


async def test_a_peer_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nothing off its socket and still sends. Without marks our own clock goes on sending."""
    monkeypatch.setattr("telbridge.legs.streams.socket.UNREAD_OCTETS", 2_000)
    async with stranger() as they:
        _reader, writer = await _deaf_generic_stream(they.bed.port)
        await until(lambda: len(they.bed.sides) == 1)
        side = they.bed.sides[0]
        await side.ready()
        side.leg._wire._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        side.says(bytes(8 * 60_000))
        for _ in range(1_000):
            if side.leg.over:
                break
            writer.write(b"\x82\x82\0\0\0\0\0\0")
            await asyncio.sleep(0.01)
        summary = await side.summary()
        assert (summary.ending, summary.detail) == (Ending.LEG_FAILED, "the peer does not read")
        writer.close()


async def _deaf_generic_stream(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that upgrades and starts with raw octets and the smallest receive buffer."""
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    tcp.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=tcp, limit=1)
    form = {"encoding": "pcm16", "rate_hz": 48000}
    start = json.dumps({"type": "start", "format": form, "marks": False}).encode()
    frame = b"\x81" + bytes((0x80 | len(start),)) + bytes(4) + start
    writer.write(
        b"GET /generic/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        # In one packet with the request, cut: nothing may be lost between aiohttp's reader and ours.
        + frame[:9]
    )
    await reader.read(12)
    writer.write(frame[9:])
    return reader, writer


async def test_full_and_draining_are_503() -> None:
    async with stranger(streams={"max_calls": 1}) as they:
        url = await they.webhook()
        with pytest.raises(Refusal, match="503"):
            await they.bed.dial()  # The one place is promised.
        they.bed.ingress._room.let_go(they.call_sid)  # Its stream did not come in time.
        await they.bed.dial()
        assert await they.refused(url) == 503
        with pytest.raises(Refusal, match="503"):
            await they.webhook()
    async with stranger() as they:
        they.bed.ingress.drain()
        with pytest.raises(Refusal, match="503"):
            await they.webhook()
