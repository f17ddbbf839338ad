"""Two workers: what comes to the one and belongs to a call of the other finds it, by real sockets.

Each has a port of its own here, so that a test says where something arrives; behind a shared port the kernel
does. All arrives at the wrong one, which has so many calls by SIP that every stream is the other's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from structlog.testing import capture_logs

from telbridge.call.events import Ending
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import CALLED, CALLER
from telbridge.caller.streams.sides import sides_of
from telbridge.caller.streams.webhook import Refusal, new_sid, post, read_twiml, sign, voice_form
from telbridge.legs.streams.tickets import TicketOffice
from telbridge.serving import ingress_elsewhere
from telbridge.serving.ingress_generic import PHONE_TICKET
from telbridge.serving.ingress_siblings import Sent, present
from tests.legs.carrier_bed import CALLERS, KEYS, url_of
from tests.legs.stream_bed import TOKEN, Side, StreamBed, Worker, stream_bed, until
from tests.legs.test_carrier_abuse import Stranger as CarrierStranger
from tests.legs.test_stream_abuse import OURS, Stranger
from tests.legs.test_stream_calls import speech
from tests.legs.test_stream_transfer import TRANSFER, Desk, back

KEY = b"0123456789abcdef0123456789abcdef"
BUSY = 1_000
GENERIC_START = json.dumps({"type": "start", "format": {"encoding": "pcmu", "rate_hz": 8000}})


@dataclass
class Pair:
    wrong: StreamBed
    right: StreamBed
    folder: Path

    async def call(self, url: str | None = None) -> tuple[StreamCall, Side]:
        """One that is asked for at the wrong worker."""
        before = len(self.right.sides)
        call = await self.wrong.phone.call(url or self.wrong.twilio)
        await until(lambda: len(self.right.sides) > before)
        side = self.right.sides[-1]
        await side.ready()
        assert self.wrong.sides == []
        return call, side


@asynccontextmanager
async def a_pair(folder: Path, **settings: Any) -> AsyncIterator[Pair]:
    settings.setdefault("environ", {**KEYS, "TWILIO_AUTH_TOKEN": TOKEN})
    wrong = stream_bed(ticket_key=KEY, worker=Worker(1, folder, lambda: BUSY), **settings)
    right = stream_bed(ticket_key=KEY, worker=Worker(2, folder), **settings)
    async with wrong as first, right as second:
        await until(lambda: first.ingress._room.workers == second.ingress._room.workers == 2)
        first.phone.sides.update(sides_of(CALLERS))
        connector = first.phone._http.connector
        assert connector is not None
        connector._force_close = True  # Each request arrives by a connection of its own.
        yield Pair(first, second, folder)


def strangers() -> aiohttp.ClientSession:
    """Each request by a connection of its own: one that was moved would be the right worker's already."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


def at(bed: StreamBed, url: str) -> str:
    """The same, asked of this worker."""
    host, _, path = url.partition("://")[2].partition("/")
    return url.replace(host, f"127.0.0.1:{bed.port}", 1) if path else url


# ---------------------------------------------------------------- a call finds its worker


async def test_webhook_stream_and_status_come_to_the_wrong_worker_and_the_call_is_whole(
    tmp_path: Path,
) -> None:
    async with a_pair(tmp_path) as pair:
        call, side = await pair.call()
        assert side.leg.facts.peer == "127.0.0.1"
        words = speech(200)
        side.says(words)
        await until(lambda: call.player.counters.played >= len(words))
        await call.play(bytes(3200))
        await until(lambda: len(side.session.uplink) >= 10)
        await pair.wrong.phone.tell_status(call, "completed", CallDuration="7")
        summary = await side.summary()
        told = await side.leg.told()
    assert (summary.ending, summary.detail) == (Ending.CALLER_HUNG_UP, "call status completed")
    assert told["CallDuration"] == "7"


async def test_calls_are_spread_evenly_whichever_worker_is_asked(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair:
        pair.wrong.ingress._room._by_sip = lambda: 0
        pair.wrong.ingress.count()
        await until(lambda: all(not load.calls for load in pair.right.ingress._room._others.values()))
        urls = [pair.wrong.twilio] * 8 + [pair.wrong.generic] * 4 + [pair.wrong.chan_websocket()] * 4
        await asyncio.gather(*(pair.wrong.phone.call(url) for url in urls))
        await until(lambda: len(pair.wrong.sides) + len(pair.right.sides) == 16)
        assert abs(len(pair.wrong.sides) - len(pair.right.sides)) <= 2


@pytest.mark.parametrize("kind", ["twilio", "signalwire", "plivo"])
async def test_a_transfer_whose_requests_all_come_to_the_wrong_worker(kind: str, tmp_path: Path) -> None:
    desk = Desk()
    async with a_pair(tmp_path, dialplan=TRANSFER, on_dial=desk) as pair:
        call, side = await pair.call(url_of(pair.wrong, kind))
        await call.dtmf("0")
        await until(lambda: bool(desk.dialled))
        desk.does("busy")
        again = await back(pair.wrong, call)
        await until(lambda: "failed 486" in side.call._stage.marks.tags)
        assert side.call._stage.marks.tags[0] == "requested"
        answer = speech(100)
        side.says(answer)
        await until(lambda: again.player.counters.played >= len(answer))
        assert pair.wrong.sides == []


async def test_a_carriers_facts_are_those_of_its_webhook(tmp_path: Path) -> None:
    """Vonage's stream tells nothing of the caller."""
    async with a_pair(tmp_path) as pair:
        call, side = await pair.call(url_of(pair.wrong, "vonage"))
        assert (side.leg.facts.caller, side.leg.facts.called) == (CALLER, CALLED)
        await pair.wrong.phone.tell_status(call)
        assert (await side.summary()).ending is Ending.CALLER_HUNG_UP


async def test_a_call_announced_at_the_one_comes_by_audiosocket_to_the_other(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair:
        call, side = await pair.call(pair.wrong.audiosocket())
        assert side.leg.facts.caller == CALLER
        again = await pair.wrong.phone.call(
            f"audiosocket://127.0.0.1:{pair.wrong.audiosocket_port}/{side.leg.facts.signalling_id}"
        )
        assert (await again.wait_ended()).by in ("network", "peer"), "a UUID is good once"
        assert len(pair.right.sides) == 1
        await call.hang_up()


# ---------------------------------------------------------------- once, for all workers


async def test_a_ticket_is_good_once_wherever_it_is_shown(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair, strangers() as http:
        they = Stranger(pair.wrong, http)
        url = await they.webhook()
        here, there = at(pair.wrong, url), at(pair.right, url)
        for address in (here, there):
            assert await they.refused(address, signature="") == 403
            assert await they.refused(address, signature=sign("another token", address)) == 403
        socket = await they.upgrade(there)  # What was refused has not spent it.
        for address in (here, there):
            assert await they.refused(address) == 403, "the ticket was taken twice"
        await socket.close()
        url = await they.webhook()
        socket = await they.upgrade(url)
        await socket.send_str(they.start())
        await until(lambda: len(pair.right.sides) == 1)
        assert await they.refused(at(pair.right, url)) == 403
        await socket.close()
        assert pair.wrong.sides == []


async def test_a_ticket_of_one_carrier_is_no_other_carriers(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair, strangers() as http:
        ticket = (await Stranger(pair.wrong, http).webhook()).rpartition("/")[2]
        they = CarrierStranger(pair.wrong, http, "vonage")
        assert await they.upgrade_status(f"ws://127.0.0.1:{pair.wrong.port}/vonage/stream/{ticket}") == 403


@pytest.mark.parametrize("kind", ["telnyx", "vonage"])
async def test_a_webhook_is_good_once_wherever_it_comes(kind: str, tmp_path: Path) -> None:
    public = {"http": {"public_url": "https://voice.example.com"}}
    async with a_pair(tmp_path, **public) as pair, strangers() as http:
        they = CarrierStranger(pair.wrong, http, kind)
        for asked in (
            they.side.voice(f"https://voice.example.com/{kind}/voice", "call-1", CALLER, CALLED),
            they.side.status(f"https://voice.example.com/{kind}/status", "call-1", "completed"),
        ):
            path = asked.url.removeprefix("https://voice.example.com")
            first = await they.asks(replace(asked, url=pair.wrong.http(path)))
            assert first[0] in (200, 204), first
            for bed in (pair.right, pair.wrong):
                assert await they.asks(replace(asked, url=bed.http(path))) == (403, "refused")


async def test_the_browsers_ticket_is_good_once_wherever_it_is_shown(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair, strangers() as http:
        first, second = present(pair.folder)
        for home in (first, second):
            ticket = TicketOffice(KEY).issue(replace(PHONE_TICKET, home=home), pair.wrong.ingress._clock())
            evil = {"Origin": "https://evil.example.com"}
            async with http.ws_connect(f"{pair.wrong.generic}?ticket={ticket}", headers=evil) as socket:
                await socket.send_str(GENERIC_START)
                assert json.loads((await socket.receive()).data) == {"type": "started"}
            for bed in (pair.wrong, pair.right):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await http.ws_connect(f"{bed.generic}?ticket={ticket}", headers=evil)
        assert len(pair.right.sides) == 2, "who takes the ticket need not take the call"


# ---------------------------------------------------------------- full, closing, gone


async def test_the_last_place_of_all_workers_is_one_place(tmp_path: Path) -> None:
    async with a_pair(tmp_path, streams={"max_calls": 1}) as pair:
        call, _ = await pair.call()
        for bed in (pair.wrong, pair.right):
            for url in (bed.twilio, bed.generic):
                with pytest.raises(Refusal, match="503"):
                    await bed.phone.call(url)
        await call.hang_up()
        await until(lambda: pair.wrong.ingress._room._others and pair.right.ingress.live_calls == 0)
        await until(lambda: all(not each.streams for each in pair.wrong.ingress._room._others.values()))
        await pair.call()


async def test_a_worker_that_is_retired_keeps_its_calls_and_its_promises(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair, aiohttp.ClientSession() as http:
        call, side = await pair.call()
        they = Stranger(pair.wrong, http)
        promised = await they.webhook()
        # A connection that stays open, as of a proxy: it is the right worker's now.
        async with http.get(pair.right.http("/nothing")) as answer:
            assert answer.status == 404
        pair.right.ingress.drain()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as another:
                await another.get(pair.right.http("/nothing"))
        assert pair.right.ingress.promised == 1
        socket = await they.upgrade(promised)
        await socket.send_str(they.start())
        await until(lambda: len(pair.right.sides) == 2)
        assert pair.right.ingress.promised == 0
        side.says(bytes(800))
        await until(lambda: call.player.counters.played >= 800)
        # New calls are for the other, by whichever connection.
        form = voice_form(OURS, new_sid("CA"), CALLER, CALLED)
        answer_to_kept = await post(http, OURS, pair.right.http("/twilio/voice"), form)
        fresh = await they.upgrade(at(pair.wrong, read_twiml(answer_to_kept).url))
        await fresh.send_str(they.start(callSid=form["CallSid"]))
        await until(lambda: len(pair.wrong.sides) == 1)
        await fresh.close()
        await socket.close()


async def test_what_is_a_dead_workers_is_refused_and_new_calls_are_taken(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair, strangers() as http:
        they = Stranger(pair.wrong, http)
        url = at(pair.wrong, await they.webhook())
        await pair.right.ingress.stop()
        await until(lambda: pair.wrong.ingress._room.workers == 1)
        assert await they.refused(url) == 403, "nobody knows whether it was used"
        socket = await they.started()
        await socket.close()
        assert len(pair.wrong.sides) == 1


async def test_a_worker_that_stands_still_holds_nobody_up_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress_elsewhere, "PATIENCE_S", 0.05)
    async with a_pair(tmp_path) as pair, strangers() as http:
        they = Stranger(pair.wrong, http)
        url = await they.webhook()
        ours, theirs = (bed.ingress._elsewhere._siblings for bed in (pair.wrong, pair.right))
        for link in theirs._in:
            asyncio.get_running_loop().remove_reader(link)
        for size in (10_000, 0):
            while ours.send(theirs.name, {"do": "hear", "topic": "", "news": "x" * size}) is Sent.YES:
                pass
        with capture_logs() as logged:
            assert await they.refused(url) == 403
            they.call_sid = new_sid("CA")
            socket = await they.started()
            await socket.close()
        assert len(pair.wrong.sides) == 1, "a new call is taken here instead"
        assert {"twilio_refused", "call_stays"} <= {line["event"] for line in logged}


async def test_requests_that_stand_behind_each_other_are_all_answered(tmp_path: Path) -> None:
    """What stands behind cannot move along: so the first is answered here."""
    async with a_pair(tmp_path) as pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.wrong.port)
        for _ in range(2):
            form = voice_form(OURS, new_sid("CA"), CALLER, CALLED)
            body = urlencode(form).encode()
            host = f"127.0.0.1:{pair.wrong.port}"
            head = (
                f"POST /twilio/voice HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"X-Twilio-Signature: {sign(TOKEN, pair.wrong.http('/twilio/voice'), form)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
        for _ in range(2):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)).startswith(b"HTTP/1.1 200")
            await asyncio.wait_for(reader.readuntil(b"</Response>"), 10)
        writer.close()
        assert pair.wrong.ingress.promised == pair.right.ingress.promised == 1
