"""Calls that Asterisk hands to us as to a Stasis application: we connect to it, not it to us."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from telbridge.call.events import Ending
from telbridge.call.ports import Leg
from telbridge.config import ConfigError, ConfigErrors
from telbridge.legs.ari.client import AriClient
from telbridge.legs.ari.control import PREFIX
from telbridge.legs.ari.leg import AriLeg, AriParts, MediaWay, facts_of
from telbridge.legs.ari.media import AudioSocketWay, RtpWay, WebSocketWay
from telbridge.legs.ari.messages import (
    Channel,
    Entered,
    Event,
    Purpose,
    Replaced,
    Unknown,
    hang_up,
    on_channel,
    parse,
)
from telbridge.legs.ari.orphans import send_on
from telbridge.legs.ari.targets import NORMAL_CLEARING
from telbridge.legs.streams.clock import StreamClock
from telbridge.legs.streams.door import Terms
from telbridge.legs.streams.payload import Malformed
from telbridge.serving.ingress_elsewhere import Elsewhere
from telbridge.serving.ingress_settings import AriSection

CLOSE_S: Final = 2.0
_NEWS: Final = "ari"


class AriIngress:
    """Connected, or trying to be, from `start` to `stop`."""

    def __init__(
        self,
        section: AriSection,
        password: str,
        *,
        terms: Terms,
        on_leg: Callable[[Leg], None],
        elsewhere: Elsewhere,
        ticking: StreamClock,
        clock: Callable[[], int],
        log: Any,
    ) -> None:
        assert section.url is not None
        self._section, self._on_leg, self._elsewhere = section, on_leg, elsewhere
        self._ticking, self._clock, self._log = ticking, clock, log
        self._client = AriClient(section.url, section.username, password, section.app, log)
        self._way = self._media_way(section.codec_of_media, terms)
        self._legs: list[AriLeg] = []
        self._by_channel: dict[str, AriLeg] = {}
        self._strays: set[asyncio.Task[Any]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._handed_over = False
        """Another worker has the application now; what it hears of our calls comes from there."""
        self._held: set[str] = set()
        """Channels and calls of the worker that had the application before."""
        elsewhere.on_news(_NEWS, self._hear)

    @property
    def live_calls(self) -> int:
        return sum(not leg.over for leg in self._legs)

    def describe(self) -> dict[str, str]:
        """For a log or status line."""
        return {"ari": f"{self._client.peer} as {self._section.app}"}

    async def start(self) -> None:
        """ConfigErrors if `ari.media_host` is no address of ours."""
        try:
            await self._way.start()
        except OSError as error:
            what = f"cannot listen on {self._section.media_host}: {error.strerror}"
            instead = "name an address of this machine that Asterisk reaches"
            raise ConfigErrors([ConfigError("settings", "ari.media_host", what, instead)]) from None
        self._elsewhere.tell(_NEWS, took=True)
        await self._client.__aenter__()
        listening = self._client.listen(self._on_message, self._on_connected)
        self._listening = asyncio.create_task(listening, name="ari events")

    async def stop(self) -> None:
        """End every call and disconnect; safe twice."""
        for leg in list(self._legs):
            leg.end(Ending.DRAINED)
        if self._legs:
            await asyncio.gather(*(leg.close(CLOSE_S) for leg in list(self._legs)))
        listening, self._listening = self._listening, None
        if listening is None:
            return
        listening.cancel()
        strays = list(self._strays)
        await asyncio.wait([listening, *strays], timeout=CLOSE_S)
        for task in strays:
            task.cancel()
        await self._way.stop()
        await self._client.__aexit__()

    # ------------------------------------------------------------ inside

    def _media_way(self, codec: str, terms: Terms) -> MediaWay:
        parts = (terms, self._ticking, self._clock, self._log)
        if self._section.media == "websocket":
            return WebSocketWay(self._client, codec, *parts)
        if self._section.media == "rtp":
            return RtpWay(codec, self._section.media_host, self._ticking, self._clock, self._log)
        return AudioSocketWay(codec, self._section.media_host, *parts)

    def _on_connected(self) -> None:
        for leg in list(self._legs):
            leg.reconnected()
        self._aside(send_on(self._client.ask, self._section.app, self._lives, self._log))

    def _lives(self, call_id: str) -> bool:
        return call_id in self._held or any(leg.facts.call_id == call_id for leg in self._legs)

    def _hear(self, news: Mapping[str, Any]) -> None:
        """Of the worker that takes our place, or whose place we took."""
        if news.get("took"):
            self._handed_over = True
            self._elsewhere.room.take_ari(False)
            self._tell_held(self._legs)
        self._held.update(news.get("held", ()))
        if (message := news.get("message")) is not None:
            event = parse(message)
            if (leg := self._by_channel.get(_channel_id(event))) is not None:
                self._on_event(leg, event)

    def _tell_held(self, legs: Iterable[AriLeg]) -> None:
        """To whoever hears of them in our place."""
        held = [each for leg in legs for each in (*leg.channels, leg.facts.call_id)]
        self._elsewhere.tell(_NEWS, held=held)

    def _on_message(self, message: str) -> None:
        try:
            event = parse(message)
        except Malformed as fault:
            self._log.warning("ari_malformed", why=str(fault))
            return
        if isinstance(event, Replaced) and self._handed_over:
            self._log.info("ari_handed_over", calls=len(self._legs))
            if self._listening is not None:
                self._listening.cancel()  # To connect again would be to take it back.
            return
        if isinstance(event, Replaced):
            what = "another client listens to this application"
            self._log.error("ari_replaced", why=what, remedy="give each telbridge an ari.app of its own")
            return
        if isinstance(event, Unknown):
            return
        channel_id = _channel_id(event)
        if (leg := self._by_channel.get(channel_id)) is not None:
            self._on_event(leg, event)
        elif channel_id in self._held:
            self._elsewhere.tell(_NEWS, message=message)
        elif isinstance(event, Entered):
            self._on_stranger(event)

    def _on_event(self, leg: AriLeg, event: Event) -> None:
        try:
            leg.event(event)
        except Exception:  # noqa: BLE001 - the wall between calls
            self._log.exception("ari_bug", where="event")
            leg.end(Ending.INTERNAL_ERROR)

    def _on_stranger(self, event: Entered) -> None:
        channel = event.channel
        if channel.id.startswith(PREFIX):  # Of a call that is over.
            self._aside(self._client.ask(hang_up(Purpose.ASIDE, channel.id, NORMAL_CLEARING)))
        elif self._elsewhere.room.has_room(although_closing=self._elsewhere.room.others_take_calls):
            # One of them is about to take our place: until then callers are ours.
            self._begin(channel, event.arguments)
        else:
            self._log.warning("ari_no_room", then="the caller goes on in Asterisk's dialplan")
            self._aside(self._client.ask(on_channel(Purpose.ASIDE, channel.id, "continue")))

    def _begin(self, channel: Channel, arguments: tuple[str, ...]) -> None:
        call_id = secrets.token_hex(5)
        facts = facts_of(call_id, channel, arguments, self._client.peer, self._way.format)
        leg = AriLeg(
            AriParts(
                facts=facts,
                channel=channel,
                arguments=arguments,
                app=self._section.app,
                variables=self._section.variables,
                way=self._way,
                ask=self._client.ask,
                on_arrived=self._on_leg,
                on_done=self._forget,
                clock=self._clock,
                log=self._log.bind(call_id=call_id),
            )
        )
        self._legs.append(leg)
        self._by_channel |= dict.fromkeys(leg.channels, leg)
        if self._handed_over:
            self._tell_held([leg])
        self._ticking.add(leg)
        leg.begin()

    def _forget(self, leg: AriLeg) -> None:
        self._ticking.remove(leg)
        self._legs.remove(leg)
        for channel_id in leg.channels:
            self._by_channel.pop(channel_id, None)

    def _aside(self, work: Coroutine[Any, Any, object]) -> None:
        """What belongs to no call."""
        task = asyncio.create_task(work)
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)


def _channel_id(event: Event) -> str:
    """ "" for what is of no channel."""
    return event.channel.id if isinstance(event, Entered) else getattr(event, "channel_id", "")
