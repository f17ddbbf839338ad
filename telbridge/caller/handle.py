"""One call in the hands of a person, a test or a load run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sipmessage import Request, Response

from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.caller.dialog import Dialog, Phase
from telbridge.caller.events import (
    Answered,
    AnswerReceived,
    DialogEvent,
    Ended,
    EndedBy,
    OfferReceived,
    Progress,
    ReinviteAnswered,
)
from telbridge.caller.media import MediaStream
from telbridge.caller.rtp import DIGITS, Histogram, Packet, ReceiverStatistics
from telbridge.caller.sdp import (
    TELEPHONE_EVENT_PAYLOAD_TYPE,
    Direction,
    SessionDescription,
    answer_to,
    codecs_for,
)
from telbridge.caller.sender import Played
from telbridge.caller.wire import Hop, Outgoing, summary

HANG_UP_TIMEOUT_S: Final = 5.0
"""How long `hang_up` waits for the peer's answer before it goes all the same."""
DIGIT_MS: Final = 100
DIGIT_GAP_MS: Final = 60

OnTrace = Callable[[int, str, str], None]
"""Time on the monotonic clock, `->` or `<-`, what it was."""
E = TypeVar("E", bound=DialogEvent)


class CallFailed(Exception):
    """The call was not answered, or ended too early. `ended` says by whom and with which status."""

    def __init__(self, uri: str, ended: Ended) -> None:
        retry = f", Retry-After {ended.retry_after_s} s" if ended.retry_after_s is not None else ""
        super().__init__(f"{uri}: {ended.code} {ended.phrase} ({ended.by.value}{retry})")
        self.ended = ended


@dataclass(slots=True)
class CallTimes:
    """Clock points of a call, monotonic nanoseconds; None if it did not come to that."""

    invited_ns: int
    ringing_ns: int | None = None
    """First 180 or 183."""
    answered_ns: int | None = None
    ended_ns: int | None = None


class CallHandle:
    """A call of a `Softphone`. Ended by `hang_up`, by the peer, or with its softphone."""

    def __init__(
        self,
        uri: str,
        dialog: Dialog,
        media: MediaStream,
        description: SessionDescription,
        write: Callable[[Outgoing], None],
        on_trace: OnTrace | None,
    ) -> None:
        self.uri = uri
        self.dialog = dialog
        self.media = media
        self.description = description
        """What we last offered or answered."""
        self.remote: SessionDescription | None = None
        """What the peer last offered or answered."""
        self.events: list[DialogEvent] = []
        self.ended: Ended | None = None
        self.times = CallTimes(invited_ns=time.monotonic_ns())
        self._wanted_direction = description.direction
        self._formats: tuple[AudioFormat, ...] = tuple(codec.format for codec in description.codecs)
        self._write = write
        self._on_trace = on_trace
        self._on_media: Callable[[bool], None] = lambda _: None
        self._on_finished: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._taken: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    # --- what was heard and sent ---

    @property
    def received(self) -> list[Packet]:
        """Audio packets in order of arrival (empty with `keep_packets=False`)."""
        return self.media.received

    @property
    def sent(self) -> list[Packet]:
        """All our packets, digits too (empty with `keep_packets=False`)."""
        return self.media.sent

    @property
    def received_digits(self) -> str:
        """Telephone-events of the peer."""
        return "".join(digit for _, digit in self.media.digits)

    @property
    def statistics(self) -> ReceiverStatistics:
        return self.media.statistics

    @property
    def sending_gaps(self) -> Histogram:
        return self.media.sending_gaps

    @property
    def codec(self) -> AudioFormat:
        """What is being sent."""
        return self.media.sender.codec.format

    @property
    def final(self) -> Response | None:
        """The final response to our INVITE, with all its headers."""
        return self.dialog.final

    # --- waiting ---

    async def wait_answered(self, timeout_s: float | None = None) -> Answered:
        """CallFailed if it ends unanswered; TimeoutError if it still rings then (it goes on ringing)."""
        async with asyncio.timeout(timeout_s):
            while self.times.answered_ns is None and self.ended is None:
                await self._next_news()
        answered = next((one for one in self.events if isinstance(one, Answered)), None)
        if answered is not None:
            return answered
        assert self.ended is not None
        raise CallFailed(self.uri, self.ended)

    async def wait_ended(self, timeout_s: float | None = None) -> Ended:
        """However it ends. TimeoutError if it does not."""
        async with asyncio.timeout(timeout_s):
            while self.ended is None:
                await self._next_news()
        return self.ended

    async def expect(self, kind: type[E], timeout_s: float = 20.0) -> E:
        """The first event of this class not yet taken by `expect`. TimeoutError if none comes, CallFailed if
        the call ends without one."""
        async with asyncio.timeout(timeout_s):
            while True:
                for place, event in enumerate(self.events):
                    if isinstance(event, kind) and place not in self._taken:
                        self._taken.add(place)
                        return event
                if self.ended is not None:
                    raise CallFailed(self.uri, self.ended)
                await self._next_news()

    # --- speaking ---

    def play(self, pcm: bytes) -> asyncio.Future[Played]:
        """Queue linear 16-bit 8 kHz audio; done when its last packet has left (or when it is cut short)."""
        done = self._future()
        if self.ended is not None:
            done.set_result(Played())
        else:
            self.media.sender.say(pcm, lambda played: _resolve(done, played))
        return done

    def stop_playing(self) -> None:
        """Drop what is queued; silence follows."""
        self.media.sender.stop()

    def dtmf(
        self, digits: str, *, duration_ms: int = DIGIT_MS, gap_ms: int = DIGIT_GAP_MS
    ) -> asyncio.Future[Played]:
        """Queue digits as telephone-events (RFC 4733), each followed by a gap; done when the last has left.

        ValueError for what is no digit, or if the peer takes no telephone-events.
        """
        if not digits or any(digit.upper() not in DIGITS for digit in digits):
            raise ValueError(f"{digits!r}: DTMF digits are {DIGITS}")
        done = self._future()
        for place, digit in enumerate(digits):
            last = place == len(digits) - 1
            self.media.sender.press(digit, duration_ms, (lambda p: _resolve(done, p)) if last else _nobody)
            self.media.sender.say(PCM_8K.silence(PCM_8K.bytes_for_ms(gap_ms) // 2), _nobody)
        return done

    def dtmf_info(self, digit: str, *, duration_ms: int = DIGIT_MS) -> None:
        """One digit as SIP INFO (application/dtmf-relay); `expect(RequestAnswered)` tells its answer."""
        body = f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode()
        self.dialog.info("application/dtmf-relay", body, time.monotonic_ns())
        self._step([])

    # --- changing and ending ---

    async def reinvite(
        self,
        direction: Direction | None = None,
        *,
        codecs: Sequence[AudioFormat] | None = None,
        new_port: bool = False,
        timeout_s: float = 10.0,
    ) -> ReinviteAnswered:
        """Offer another direction, other codecs, another RTP port; what is not named stays.

        The session changes only if the answer is a 2xx; other answers are returned, not raised.
        """
        before = self.description
        if new_port:
            self.media.move()
        offer = replace(
            before,
            port=self.media.port,
            codecs=codecs_for(codecs if codecs is not None else self._formats),
            direction=direction or self._wanted_direction,
            event_payload_type=TELEPHONE_EVENT_PAYLOAD_TYPE,
            version=before.version + 1,
        )
        self.dialog.reinvite(bytes(offer), time.monotonic_ns())
        self._step([])
        answered = await self.expect(ReinviteAnswered, timeout_s)
        if answered.code < 300:
            self._wanted_direction = offer.direction
            self._formats = tuple(codec.format for codec in offer.codecs)
            self.description = offer
            self._connect(answered.body)
        return answered

    async def hold(self) -> ReinviteAnswered:
        """Put the peer on hold with silence both ways (inactive)."""
        return await self.reinvite(Direction.INACTIVE)

    async def resume(self) -> ReinviteAnswered:
        return await self.reinvite(Direction.SENDRECV)

    def refuse_transfers(self, code: int, phrase: str) -> None:
        """Answer each REFER of the peer with this."""
        self.dialog.refer_answer = (code, phrase)

    def notify_referrer(self, code: int, phrase: str) -> None:
        """Tell the peer how the transfer it asked for (`Referred`) goes on."""
        self.dialog.notify_referrer(code, phrase, time.monotonic_ns())
        self._step([])

    async def hang_up(self, timeout_s: float = HANG_UP_TIMEOUT_S) -> Ended:
        """CANCEL or BYE, whichever fits; audio stops at once. Safe twice. A peer that does not answer within
        `timeout_s` is left behind (its timers still run as long as the softphone lives)."""
        if self.ended is None:
            self._step(self.dialog.hang_up(time.monotonic_ns()))
            self._close_media()
        try:
            return await self.wait_ended(timeout_s)
        except TimeoutError:
            self._step(self.dialog.abandon(EndedBy.TIMEOUT, time.monotonic_ns()))
            assert self.ended is not None
            return self.ended

    def vanish(self) -> None:
        """End without a word to the peer, as a telephone does whose battery is empty. Safe twice."""
        self.connection_lost()
        self._set_timer(None)
        self.media.close()

    # --- for the softphone ---

    def start(self, on_media: Callable[[bool], None], on_finished: Callable[[], None]) -> None:
        """Send the INVITE. `on_media` is told when to pace the call and when to stop."""
        self._on_media = on_media
        self._on_finished = on_finished
        self.times.invited_ns = time.monotonic_ns()
        self.dialog.invite(bytes(self.description), self.times.invited_ns)
        self._step([])

    def receive(self, message: Request | Response, source: Hop) -> None:
        now_ns = time.monotonic_ns()
        self._trace(now_ns, "<-", summary(message))
        self._step(self.dialog.receive(message, source, now_ns))

    def leave(self) -> None:
        """Say good-bye, wait for nothing."""
        if self.ended is None:
            self._step(self.dialog.hang_up(time.monotonic_ns()))
        self.vanish()

    def connection_lost(self) -> None:
        if self.dialog.phase is not Phase.OVER:
            self._step(self.dialog.abandon(EndedBy.NETWORK, time.monotonic_ns()))

    # --- the rhythm: events, messages, one timer ---

    def _step(self, events: list[DialogEvent]) -> None:
        for event in events:
            self.events.append(event)
            self._on_event(event)
        for out in self.dialog.messages_to_send():
            self._trace(time.monotonic_ns(), "->", out.summary)
            self._write(out)
        self._set_timer(self.dialog.deadline_ns)
        if events:
            self._news.set()
        if self.dialog.finished:
            self._on_finished()

    def _set_timer(self, at_ns: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ns is not None:
            delay_s = max(0.0, (at_ns - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(delay_s, self._on_timer, at_ns)

    def _on_timer(self, due_ns: int) -> None:
        self._timer = None
        self._step(self.dialog.tick(max(due_ns, time.monotonic_ns())))

    def _on_event(self, event: DialogEvent) -> None:
        match event:
            case Progress(at_ns=at_ns, code=code):
                if code in (180, 183) and self.times.ringing_ns is None:
                    self.times.ringing_ns = at_ns
            case Answered(at_ns=at_ns, body=body):
                self.times.answered_ns = at_ns
                if self.dialog.phase is Phase.UP:
                    self._connect(body)
                    self._on_media(True)
            case OfferReceived(body=body):
                self._answer(body)
            case AnswerReceived(body=body):
                self._connect(body)
            case Ended(at_ns=at_ns):
                self.ended = event
                self.times.ended_ns = at_ns
                self._close_media()
            case _:
                pass  # facts for `expect`, nothing to do

    def _connect(self, body: bytes) -> None:
        try:
            self.remote = SessionDescription.parse(body)
            self.media.connect(self.description, self.remote)
        except ValueError as error:
            # Their description is of no use: the call cannot be, and they are told (RFC 3261 §13.2.2.4).
            self._trace(time.monotonic_ns(), "!!", str(error))
            self._step(self.dialog.hang_up(time.monotonic_ns()))

    def _answer(self, body: bytes) -> None:
        now_ns = time.monotonic_ns()
        # The last answer may have named one codec: all of ours stand open again.
        ours = replace(self.description, codecs=codecs_for(self._formats))
        if not body:
            ours = replace(ours, direction=self._wanted_direction, version=ours.version + 1)
            self.description = ours
            self.dialog.answer_offer(200, "OK", bytes(self.description), now_ns)
            return
        try:
            theirs = SessionDescription.parse(body)
            answer = answer_to(theirs, ours, self._wanted_direction)
        except ValueError:
            self.dialog.answer_offer(488, "Not Acceptable Here", b"", now_ns)
            return
        self.dialog.answer_offer(200, "OK", bytes(answer), now_ns)
        self.description, self.remote = answer, theirs
        # What we settle on is the answer's codec, at the address of their offer.
        self.media.connect(answer, replace(theirs, codecs=answer.codecs))

    def _close_media(self) -> None:
        self._on_media(False)
        self.media.close()

    def _trace(self, at_ns: int, direction: str, text: str) -> None:
        if self._on_trace is not None:
            self._on_trace(at_ns, direction, text)

    async def _next_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _future(self) -> asyncio.Future[Played]:
        return self._loop.create_future()


def _resolve(done: asyncio.Future[Played], played: Played) -> None:
    if not done.done():
        done.set_result(played)


def _nobody(_: Played) -> None:
    """Nobody waits for a pause, nor for a digit before the last."""
