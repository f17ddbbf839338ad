"""An Asterisk for where there is none: its REST interface as far as we use it, strict about what it is asked.

tests/interop has the real one. Whatever a real one would not take is a complaint, and answered as it would.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp import web

from telbridge.audio.formats import PCM_8K, PCMU_8K
from telbridge.legs.ari.rtp import RtpPeer

PASSWORD: Final = "secret"
ACTIONS: Final[dict[str, set[str]]] = {
    "answer": set(),
    "ring": set(),
    "continue": {"context", "extension", "priority", "label"},
    "redirect": {"endpoint"},
    "dtmf": {"dtmf", "duration", "between"},
    "variable": {"variable", "value"},
}
EXTENSIONS: Final = {"in,1001,1", "support,100,1"}


class FakeChannel:
    """One channel."""

    def __init__(self, channel_id: str, name: str, **fields: Any) -> None:
        self.id, self.name, self.fields = channel_id, name, fields
        self.state = "Ring"
        self.ours = False
        """In the application."""
        self.variables: dict[str, str] = {}
        self.keys = ""
        self.went = ""
        """Where it went on: context,extension,priority."""
        self.cause = 0
        """With which it was hung up."""

    def told(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "state": self.state, **self.fields}


class FakeAsterisk:
    """`channels` and `bridges` are what a test looks at; `complaints` must stay empty."""

    def __init__(self) -> None:
        self.channels: dict[str, FakeChannel] = {}
        self.bridges: dict[str, set[str]] = {}
        self.complaints: list[str] = []
        self.heard = bytearray()
        """What the caller would hear, in the format of the media."""
        self.texts: list[str] = []
        """Of the media WebSocket."""
        self.gives_no_media = False
        self.plays = True
        """What comes by the media WebSocket, at once; else it is still to be played."""
        self.port = 0
        self._events: web.WebSocketResponse | None = None
        self.connected = asyncio.Event()
        self._media: Any = None
        self._rtp = RtpPeer(PCMU_8K)
        self._remote: tuple[str, int] = ("", 0)
        self._tasks: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------ what a test does

    async def call(
        self, channel_id: str = "17.1", *args: str, state: str = "Ring", **fields: Any
    ) -> FakeChannel:
        """A caller comes to `Stasis(telbridge,args…)`."""
        await self.connected.wait()
        place = {"context": "in", "exten": "500", "priority": 2}
        caller = {"number": "42", "name": "Alice"}
        channel = FakeChannel(channel_id, "PJSIP/trunk-1", dialplan=place, caller=caller, **fields)
        channel.state = state
        self.channels[channel_id] = channel
        await self._enter(channel, args)
        return channel

    async def hang_up(self, channel: FakeChannel) -> None:
        """The caller does."""
        await self.tell("ChannelHangupRequest", channel)
        await self._leave(channel)
        del self.channels[channel.id]

    async def tell(self, kind: str, channel: FakeChannel, **fields: Any) -> None:
        if self._events is not None:
            event = {"type": kind, "application": "telbridge", "channel": channel.told(), **fields}
            await self._events.send_str(json.dumps(event))

    async def speaks(self, audio: bytes) -> None:
        """The caller does: 20 ms in the format of the media."""
        match self._media:
            case web.WebSocketResponse():
                await self._media.send_bytes(audio)
            case asyncio.StreamWriter():
                self._media.write(b"\x10" + len(audio).to_bytes(2, "big") + audio)
            case asyncio.BaseTransport() as datagrams:
                datagrams.sendto(self._rtp.audio(audio), self._remote)

    async def drop_events(self) -> None:
        assert self._events is not None
        events, self._events = self._events, None
        self.connected.clear()
        await events.close()

    async def close_media(self) -> None:
        assert isinstance(self._media, web.WebSocketResponse)
        await self._media.close()

    # ------------------------------------------------------------ REST

    async def rest(self, request: web.Request) -> web.Response:
        if (fault := self._unauthorised(request)) is not None:
            return fault
        parts, query = request.match_info["path"].split("/"), dict(request.query)
        match request.method, parts:
            case "POST", ["bridges"]:
                self._only(query, {"type", "bridgeId"})
                self.bridges[query["bridgeId"]] = set()
                return web.json_response({"id": query["bridgeId"]})
            case "POST", ["bridges", bridge, ("addChannel" | "removeChannel") as action]:
                return await self._bridge(bridge, action, query)
            case "GET", ["bridges", bridge] if bridge in self.bridges:
                return web.json_response({"id": bridge, "channels": sorted(self.bridges[bridge])})
            case "GET", ["applications", "telbridge"]:
                ours = [channel.id for channel in self.channels.values() if channel.ours]
                return web.json_response({"channel_ids": ours, "bridge_ids": list(self.bridges)})
            case "DELETE", ["bridges", bridge]:
                return self._status(204 if self.bridges.pop(bridge, None) is not None else 404)
            case "POST", ["channels", "externalMedia"]:
                return await self._external_media(query)
            case "POST", ["applications", "telbridge", "subscription"]:
                known = query.get("eventSource", "").removeprefix("channel:") in self.channels
                return self._status(200 if known else 422)
            case "GET", ["channels", channel_id] if channel_id in self.channels:
                return web.json_response(self.channels[channel_id].told())
            case _, ["channels", channel_id, *action] if channel_id in self.channels:
                return await self._channel(request.method, self.channels[channel_id], action, query)
            case _, ["channels", _, *_]:
                return self._status(404)
        return self._complain(f"{request.method} {request.path}", 400)

    async def _channel(
        self, method: str, channel: FakeChannel, action: list[str], query: dict[str, str]
    ) -> web.Response:
        if method == "DELETE" and not action:
            self._only(query, {"reason_code"})
            channel.cause = int(query["reason_code"])
            self._later(self.hang_up(channel))
            return self._status(204)
        if len(action) != 1 or action[0] not in ACTIONS:
            return self._complain(f"{method} channel {action}", 400)
        self._only(query, ACTIONS[action[0]])
        if not channel.ours:
            return self._status(409)
        match method, action[0]:
            case "GET", "variable":
                return self._variable(channel, query["variable"])
            case "POST", "variable":
                channel.variables[query["variable"]] = query["value"]
            case "POST", "answer":
                channel.state = "Up"
            case "POST", "dtmf":
                channel.keys += query["dtmf"]
            case "POST", "continue":
                keys = ("context", "extension", "priority")
                channel.went = ",".join(query.get(key, "") for key in keys)
                self._later(self._leave(channel))
            case "POST", _:
                pass
            case _:
                return self._complain(f"{method} channel {action}", 400)
        return self._status(204)

    def _variable(self, channel: FakeChannel, name: str) -> web.Response:
        if name.startswith("DIALPLAN_EXISTS("):
            exists = name.removeprefix("DIALPLAN_EXISTS(").rstrip(")") in EXTENSIONS
            return web.json_response({"value": "1" if exists else "0"})
        if name not in channel.variables:
            return self._status(404)
        return web.json_response({"value": channel.variables[name]})

    async def _bridge(self, bridge: str, action: str, query: dict[str, str]) -> web.Response:
        self._only(query, {"channel"})
        members = self.bridges.get(bridge)
        if members is None:
            return self._status(404)
        for channel_id in query["channel"].split(","):
            channel = self.channels.get(channel_id)
            if channel is None or not channel.ours:
                return self._complain(f"422: {channel_id} is not in the application", 422)
            (members.add if action == "addChannel" else members.discard)(channel_id)
        return self._status(204)

    async def _external_media(self, query: dict[str, str]) -> web.Response:
        known = {"app", "channelId", "external_host", "encapsulation", "transport", "format"}
        self._only(query, known | {"connection_type", "data"})
        channel = FakeChannel(query["channelId"], "Media/1")
        self.channels[channel.id] = channel
        variables: dict[str, str] = {}
        host, _, port = query["external_host"].rpartition(":")
        if query["transport"] == "websocket" and not self.gives_no_media:
            variables["MEDIA_WEBSOCKET_CONNECTION_ID"] = channel.id
        elif query["transport"] == "tcp":
            self._later(self._audiosocket(channel, host, int(port), query["data"]))
        elif query["transport"] == "udp":
            variables = await self._udp(channel, host, int(port))
        return web.json_response({**channel.told(), "channelvars": variables})

    # ------------------------------------------------------------ media

    async def media(self, request: web.Request) -> web.StreamResponse:
        """chan_websocket."""
        websocket = self._media = web.WebSocketResponse(protocols=("media",))
        await websocket.prepare(request)
        channel = self.channels[request.match_info["id"]]
        words = f"format:ulaw optimal_frame_size:160 ptime:20 channel_id:{channel.id}"
        await websocket.send_str(f"MEDIA_START connection_id:1 {words}")
        await self._enter(channel, ())
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self.heard += message.data
            else:
                self.texts.append(message.data)
                if message.data.startswith("MARK_MEDIA") and self.plays:
                    await websocket.send_str(message.data.replace("MARK_MEDIA", "MEDIA_MARK_PROCESSED"))
        await self._media_gone(channel)
        return websocket

    async def _audiosocket(self, channel: FakeChannel, host: str, port: int, data: str) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        self._media = writer
        writer.write(b"\x01\x00\x10" + uuid.UUID(data).bytes)
        await self._enter(channel, ())
        try:
            while (head := await reader.readexactly(3))[0]:
                self.heard += await reader.readexactly(int.from_bytes(head[1:], "big"))
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await self._media_gone(channel)

    async def _udp(self, channel: FakeChannel, host: str, port: int) -> dict[str, str]:
        fake, self._remote = self, (host, port)
        receiver = RtpPeer(PCMU_8K)

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: Any) -> None:
                audio = receiver.receive(data)
                assert isinstance(audio, bytes)
                fake.heard += audio

        loop = asyncio.get_running_loop()
        self._media, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        self._later(self._enter(channel, ()))
        port = self._media.get_extra_info("sockname")[1]
        return {"UNICASTRTP_LOCAL_ADDRESS": "127.0.0.1", "UNICASTRTP_LOCAL_PORT": str(port)}

    async def _media_gone(self, channel: FakeChannel) -> None:
        if self.channels.pop(channel.id, None) is not None:
            await self._leave(channel)

    # ------------------------------------------------------------ inside

    async def events(self, request: web.Request) -> web.StreamResponse:
        if (fault := self._unauthorised(request)) is not None:
            return fault
        self._only(dict(request.query), {"app", "subscribeAll"})
        events = web.WebSocketResponse()
        await events.prepare(request)
        if self._events is not None and not self._events.closed:
            replaced = {"type": "ApplicationReplaced", "application": "telbridge"}
            await self._events.send_str(json.dumps(replaced))
        self._events = events
        self.connected.set()
        async for _ in events:
            pass
        return events

    async def _enter(self, channel: FakeChannel, args: tuple[str, ...]) -> None:
        channel.ours = True
        await self.tell("StasisStart", channel, args=list(args))

    async def _leave(self, channel: FakeChannel) -> None:
        channel.ours = False
        for members in self.bridges.values():
            members.discard(channel.id)
        await self.tell("StasisEnd", channel)

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        known = base64.b64encode(f"telbridge:{PASSWORD}".encode()).decode()
        return None if given == known else self._status(401)

    def _only(self, query: dict[str, str], known: set[str]) -> None:
        if set(query) - known:
            self.complaints.append(f"unknown parameters {sorted(set(query) - known)}")

    def _complain(self, what: str, status: int) -> web.Response:
        self.complaints.append(what)
        return self._status(status)

    def _status(self, status: int) -> web.Response:
        return web.Response(status=status)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        if isinstance(self._media, asyncio.BaseTransport | asyncio.StreamWriter):
            self._media.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)


@asynccontextmanager
async def fake_asterisk(port: int) -> AsyncIterator[FakeAsterisk]:
    """One that listens on loopback."""
    fake = FakeAsterisk()
    fake.port = port
    application = web.Application()
    application.router.add_get("/ari/events", fake.events)
    application.router.add_get("/media/{id}", fake.media)
    application.router.add_route("*", "/ari/{path:.+}", fake.rest)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield fake
    finally:
        await fake.close()
        await runner.cleanup()


FORMATS: Final = {"websocket": PCMU_8K, "rtp": PCMU_8K, "audiosocket": PCM_8K}
