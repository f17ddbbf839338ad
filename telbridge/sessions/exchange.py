"""What passes over an open connection, frame by frame: plain calls, no coroutine (decision 15)."""

from __future__ import annotations

from collections.abc import Callable

from telbridge.call.events import AgentAudio, AgentEvent, ReplyId
from telbridge.sessions.base import AgentProtocol
from telbridge.sessions.renewal import Renewal
from telbridge.sessions.websocket import Outgoing


def nobody(event: AgentEvent) -> None:
    """Before anybody listens."""


class Exchange:
    """Of one `Link`, which opens and ends it."""

    def __init__(
        self,
        protocol: AgentProtocol,
        clock: Callable[[], int],
        *,
        set_alarm: Callable[[int | None], None],
        watch_setup: Callable[[AgentEvent], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """`set_alarm`: the protocol's clock was moved; `watch_setup`: each event until `ready`; `fail`: what
        the protocol or `on_event` raised, which must not go back to the connection."""
        self._protocol, self._clock = protocol, clock
        self._set_alarm, self._watch_setup, self._fail = set_alarm, watch_setup, fail
        self.on_event: Callable[[AgentEvent], None] = nobody
        self.outgoing: Outgoing | None = None
        """None while nothing can be sent."""
        self.ready = False
        """SessionReady came."""
        self.over = False
        self.silent_beats = 0
        """Of the heartbeat, since the last sign of life."""
        self.alarm_ns: int | None = None

    def send_audio(self, frame: bytes) -> None:
        outgoing = self.outgoing
        if outgoing is not None:
            message = self._protocol.audio(frame)
            if message is not None:
                outgoing.audio(message, len(frame))

    def write(self) -> None:
        """After anything was asked of the protocol: send what it queued, and mind its clock."""
        outgoing = self.outgoing
        if outgoing is not None:
            for message in self._protocol.data_to_send():
                outgoing.control(message)
            due_ns = self._protocol.deadline_ns()
            if due_ns != self.alarm_ns:
                self._set_alarm(due_ns)

    def take(self, data: str | bytes) -> None:
        """From the connection itself."""
        self.silent_beats = 0
        if not self.over:
            try:
                self.receive(data)
            except Exception as bug:  # noqa: BLE001 - it comes out of `Link.run`, like one met in the pump
                self._fail(bug)

    def receive(self, data: str | bytes) -> None:
        """One message. What the protocol or `on_event` raises is a bug, and comes out."""
        self.tell(self._protocol.receive(data, now_ns=self._clock()))

    def tell(self, events: list[AgentEvent]) -> None:
        for event in events:
            self.on_event(event)
            if not self.ready:
                self._watch_setup(event)
        self.write()


class Relay:
    """Hands a session's events on: more audio of a reply that has begun at once, all else through `news`."""

    def __init__(self, news: Callable[[AgentEvent], None], replies_from: int) -> None:
        """`replies_from`: added to the protocol's reply ids."""
        self._news, self._replies_from = news, replies_from
        self.on_event: Callable[[AgentEvent], None] = nobody
        self.renewal = Renewal()

    def tell(self, event: AgentEvent) -> None:
        if type(event) is AgentAudio and event.reply in self.renewal.speaking:
            if self._replies_from:
                event = event._replace(reply=ReplyId(event.reply + self._replies_from))
            self.on_event(event)
        else:
            self._news(event)
