"""A caller of Asterisk's as the call's telephone side: its control by ARI, its audio by a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import CallFacts, Ending, LegEnded, LegEvent, LegQuality
from telbridge.call.ports import Media
from telbridge.legs.ari import targets
from telbridge.legs.ari.control import Arrived, CloseMedia, Control, OpenMedia, Out, Wishes
from telbridge.legs.ari.messages import Answer, Ask, Channel, Event
from telbridge.legs.streams.leg import FRAME_MS, StreamLeg

LEAVE_TO_DIALPLAN: Final = 503
"""We have no room, or are going: Asterisk may know somebody else."""
_HEADER: Final = "PJSIP_HEADER(read,"


class MediaFailed(Exception):
    """The caller's audio cannot be had; one line that tells why."""


class MediaWay(Protocol):
    """How audio comes from Asterisk (`media.py`)."""

    @property
    def format(self) -> AudioFormat: ...

    async def start(self) -> None:
        """Before the first call. OSError."""

    async def stop(self) -> None:
        """Behind the last."""

    def expect(self, leg: AriLeg) -> Mapping[str, str]:
        """What the external-media channel of this call is asked for. From now on its stream may come:
        `AriLeg.media_came`."""

    async def carry(self, leg: AriLeg, variables: Mapping[str, str]) -> None:
        """The channel is there; `variables` are its own. From now to the end of the stream. MediaFailed."""

    def forget(self, leg: AriLeg) -> None:
        """No stream is expected any more."""


@dataclass(frozen=True, slots=True)
class AriParts:
    """What the ingress gives to a new leg."""

    facts: CallFacts
    channel: Channel
    arguments: tuple[str, ...]
    app: str
    variables: tuple[str, ...]
    way: MediaWay
    ask: Callable[[Ask], Awaitable[Answer]]
    on_arrived: Callable[[AriLeg], None]
    """All facts are known."""
    on_done: Callable[[AriLeg], None]
    """Nothing of it is left in Asterisk."""
    clock: Callable[[], int]
    log: Any


class AriLeg:
    """Implements `telbridge.call.ports.Leg`; driven by its ingress (events) and by the clock (ticks)."""

    def __init__(self, parts: AriParts) -> None:
        self._parts = parts
        self.facts: CallFacts = parts.facts
        self._clock, self._log = parts.clock, parts.log
        self._loop = asyncio.get_running_loop()
        media = parts.way.expect(self)
        self.control: Final = Control(
            parts.facts.call_id, parts.channel, Wishes(parts.app, parts.variables, media)
        )
        self._stream: StreamLeg | None = None
        self._gate = _Gate(self.control)
        self._carrying: asyncio.Task[None] | None = None
        self._parting = False
        self._on_event: Callable[[LegEvent], None] | None = None
        self._early_events: list[LegEvent] = []
        self._asks: asyncio.Queue[Ask] = asyncio.Queue()
        self._asking = asyncio.create_task(self._ask(), name=f"{self.facts.call_id}/ari")

    # ---------------------------------------------------------------- call.ports.Leg

    @property
    def format(self) -> AudioFormat:
        return self._parts.way.format

    @property
    def frame_ms(self) -> int:
        return FRAME_MS

    def attach(self, media: Media, on_event: Callable[[LegEvent], None]) -> None:
        self._gate.media, self._on_event = media, on_event
        for event in self._early_events:
            self._loop.call_soon(on_event, event)
        self._early_events.clear()

    def ring(self) -> None:
        self._do(self.control.ring())

    def answer(self) -> None:
        self._do(self.control.answer(self._clock()))

    def reject(self, status: int, *, retry_after_s: int | None = None) -> None:
        now_ns, why = self._clock(), f"refused with {status}"
        if status == LEAVE_TO_DIALPLAN:
            self._do(self.control.let_go(Ending.DRAINED, why, now_ns))
        else:
            cause = targets.CAUSES.get(status, targets.NORMAL_CLEARING)
            self._do(self.control.hang_up(Ending.AGENT_HUNG_UP, why, now_ns, cause=cause))

    def hang_up(self) -> None:
        """After the last words: what Asterisk holds is played first, within reason."""
        if self._stream is not None and not self._stream.over and not self.control.over:
            self._parting = True
            self._stream.hang_up()
        else:
            self._do(self.control.hang_up(Ending.AGENT_HUNG_UP, "", self._clock()))

    def transfer(self, target: str, *, timeout_s: float) -> None:
        self._do(self.control.transfer(target, int(timeout_s * 1e9), self._clock()))

    def send_dtmf(self, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        self._do(self.control.press(digits, tone_ms, gap_ms, self._clock()))

    def tag(self, text: str) -> None:
        """`telbridge.call.ports.TakesTags`."""
        self._do(self.control.tag(text))

    def wake(self) -> None:
        if self._stream is not None:
            self._stream.wake()

    def flush(self) -> int:
        return self._stream.flush() if self._stream is not None else 0

    def tell(self, event: str, facts: Mapping[str, str | int | bool]) -> None:
        """Asterisk asks for nothing of the kind."""

    def quality(self) -> LegQuality | None:
        return self._stream.quality() if self._stream is not None else None

    # ---------------------------------------------------------------- for the ingress and the clock

    @property
    def over(self) -> bool:
        return self.control.over

    @property
    def channels(self) -> tuple[str, ...]:
        """Ids of all that belong to this call, whether they are there or not."""
        return self._parts.channel.id, self.control.media_id, self.control.other_id

    def begin(self) -> None:
        self._do(self.control.begin(self._clock()))

    def event(self, event: Event) -> None:
        """One event of Asterisk's, whichever call it is of."""
        self._do(self.control.event(event, self._clock()))

    def reconnected(self) -> None:
        self._do(self.control.reconnected())

    def tick(self, now_ns: int) -> None:
        self._do(self.control.tick(now_ns))

    def end(self, ending: Ending, detail: str = "") -> None:
        """End it for this reason, at once; the caller goes on in Asterisk's dialplan."""
        self._do(self.control.let_go(ending, detail, self._clock()))

    async def close(self, within_s: float) -> None:
        """Until nothing of it is left, in good order or by force."""
        await asyncio.wait([self._asking], timeout=within_s)
        tasks = [task for task in (self._asking, self._carrying) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ---------------------------------------------------------------- for the way of its audio

    def media_came(self, stream: StreamLeg) -> None:
        """The stream has started."""
        if self._stream is not None or self.control.over:
            stream.end(Ending.LEG_FAILED, "not expected")
            return
        self._stream = stream
        stream.attach(self._gate, self._on_stream)
        stream.answer()
        self._do(self.control.media_up(self._clock()))

    def media_gone(self, detail: str) -> None:
        """There is none any more, or there never was."""
        self._do(self.control.media_down(detail, self._clock()))

    # ---------------------------------------------------------------- inside

    def _on_stream(self, event: LegEvent) -> None:
        """Keys come from ARI, with their length, whichever way the audio takes."""
        if not isinstance(event, LegEnded):
            return
        if self._parting or event.ending is Ending.MEDIA_TIMEOUT:
            self._do(self.control.hang_up(event.ending, event.detail, event.at_ns))
        else:
            self.media_gone(event.detail)

    def _do(self, outs: list[Out]) -> None:
        for out in outs:
            match out:
                case Ask():
                    self._asks.put_nowait(out)
                case Arrived(variables):
                    self.facts = with_variables(self.facts, variables)
                    self._parts.on_arrived(self)
                case OpenMedia(variables):
                    self._carrying = asyncio.create_task(self._carry(variables), name="ari media")
                case CloseMedia(ending):
                    self._parts.way.forget(self)
                    if self._stream is not None:
                        self._stream.end(ending)
                    elif self._carrying is not None:
                        self._carrying.cancel()
                case _:
                    self._emit(out)

    async def _ask(self) -> None:
        """One request after the other, in the order of the call's own wishes."""
        while not (self.control.done and self._asks.empty()):
            ask = await self._asks.get()
            answer = await self._parts.ask(ask)
            try:
                self._do(self.control.answered(ask, answer, self._clock()))
            except Exception:  # noqa: BLE001 - the wall between calls
                self._log.exception("ari_bug", where="answer")
                self.end(Ending.INTERNAL_ERROR)
        self._parts.on_done(self)

    async def _carry(self, variables: Mapping[str, str]) -> None:
        try:
            await self._parts.way.carry(self, variables)
        except MediaFailed as failure:
            self._log.warning("ari_media_failed", why=str(failure))
            self.media_gone(str(failure))

    def _emit(self, event: LegEvent) -> None:
        if self._on_event is None:
            self._early_events.append(event)
        else:
            self._loop.call_soon(self._on_event, event)


class _Gate:
    """The call as the stream sees it: while keys go out, its speech waits. Implements `call.ports.Media`."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.media: Media | None = None

    def uplink(self, frame: bytes | memoryview, now_ns: int) -> None:
        if self.media is not None:
            self.media.uplink(frame, now_ns)

    def downlink(self, now_ns: int) -> bytes | memoryview:
        raise AssertionError("streams take speech")

    def speech(self, now_ns: int, *, ahead: bool, standing_ms: int = 0) -> bytes | memoryview | None:
        if self.media is None or self._control.pressing:
            return None
        return self.media.speech(now_ns, ahead=ahead, standing_ms=standing_ms)

    @property
    def more_speech(self) -> bool:
        return self._control.pressing or (self.media is not None and self.media.more_speech)

    def lagged(self, frames: int, *, just_now: bool) -> None:
        if self.media is not None:
            self.media.lagged(frames, just_now=just_now)

    @property
    def has_words(self) -> bool:
        return self.media is not None and self.media.has_words


def with_variables(facts: CallFacts, variables: Mapping[str, str]) -> CallFacts:
    """What was read of a channel: SIP headers by their names, all else as parameters."""
    headers = {
        name.removeprefix(_HEADER).rstrip(")").partition(",")[0].strip(): value
        for name, value in variables.items()
        if name.startswith(_HEADER)
    }
    others = {name: value for name, value in variables.items() if not name.startswith(_HEADER)}
    return replace(facts, headers={**facts.headers, **headers}, parameters={**facts.parameters, **others})


def facts_of(
    call_id: str, channel: Channel, arguments: tuple[str, ...], peer: str, form: AudioFormat
) -> CallFacts:
    """What the channel itself tells. Of the arguments of `Stasis()`, `name=value` is a parameter of that
    name, others are by their place: `1`, `2` …"""
    parameters = dict(channel.variables)
    if channel.caller_name:
        parameters["caller_name"] = channel.caller_name
    for place, argument in enumerate(arguments, 1):
        name, named, value = argument.partition("=")
        parameters[name.strip() if named else str(place)] = value.strip() if named else argument
    return CallFacts(
        call_id=call_id,
        ingress="ari",
        caller=channel.caller,
        called=channel.extension,
        peer=peer,
        wire_format=form,
        signalling_id=channel.protocol_id or channel.id,
        trunk=channel.endpoint if channel.technology == "PJSIP" else "",
        parameters=parameters,
    )
