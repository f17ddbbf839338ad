"""The agent's seat in a call: one session with its transcoders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from telbridge.audio.formats import AudioFormat
from telbridge.audio.transcoder import Transcoder
from telbridge.call.events import AgentEvent, Ending, ReplyId, SessionEnd
from telbridge.call.observer import Observer
from telbridge.call.ports import Session
from telbridge.call.summary import SessionSetup

HANG_UP_S = 5.0
"""For a session to close."""


class Seat:
    """Runs the session from the start; whoever sits in the call's seat is heard."""

    def __init__(
        self,
        session: Session,
        leg_format: AudioFormat,
        on_event: Callable[[Seat, AgentEvent], None],
        *,
        agent: str,
        asked_ns: int,
        setup: SessionSetup,
        observer: Observer,
    ) -> None:
        """`agent`: its API's name; `asked_ns`: now; `setup`: how it comes to be, for the record."""
        self.agent, self.setup = agent, setup
        self._asked_ns, self._observer = asked_ns, observer
        self.session = session
        self.up = Transcoder(leg_format, session.uplink_format)
        self.down = Transcoder(session.downlink_format, leg_format)
        self.reply: ReplyId | None = None
        """The one whose audio is coming."""
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(session.run(partial(on_event, self)), name="session")

    def arrived(self, at_ns: int) -> None:
        """The session is configured."""
        connected_ns = self.session.connected_ns or self._asked_ns
        connect_ms, configure_ms = (connected_ns - self._asked_ns) / 1e6, (at_ns - connected_ns) / 1e6
        self.setup.connect_ms, self.setup.configure_ms = connect_ms, configure_ms
        self._observer.session_ready(self.agent, connect_ms, configure_ms)
        self.ready.set()

    def lost(self) -> None:
        """Its connection broke; the session is getting it back."""
        self._observer.session_lost(self.agent)

    def note_connected(self) -> None:
        """It may have come so far and no further."""
        if self.setup.connect_ms is None and (connected_ns := self.session.connected_ns) is not None:
            self.setup.connect_ms = (connected_ns - self._asked_ns) / 1e6

    def begin(self, reply: ReplyId) -> None:
        """Its audio comes from now on: through `down`."""
        self.down.reset()
        self.reply = reply

    def rest(self) -> bytes:
        """The last milliseconds of the last word, which the resampler holds."""
        rest = self.down.finish()
        self.cut()
        return rest

    def cut(self) -> None:
        """Nothing more of this reply."""
        self.down.reset()
        self.reply = None

    def end(self) -> SessionEnd:
        """How it ended; raises what came out of it. Only when `task` is done."""
        if self.task.cancelled():
            return SessionEnd(Ending.INTERNAL_ERROR, "cancelled")
        return self.task.result()

    async def leave(self) -> None:
        """Close in good order, then by force."""
        self.session.close()
        await asyncio.wait([self.task], timeout=HANG_UP_S)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])
