"""One call inside Asterisk: events and answers in, requests and leg events out. Pure; times are passed in.

The caller's channel enters our application. We read what is wanted of it, make a channel that carries its
audio to us (external media), answer, and put both into one bridge. Whatever fails here lets the caller go on
in Asterisk's dialplan behind `Stasis()`, where its author has the last word.

Asterisk's own order of events, seen on 22.10: a caller that hangs up gives ChannelHangupRequest, then
StasisEnd; a channel that goes on in the dialplan gives StasisEnd alone.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, assert_never
from urllib.parse import quote

from telbridge.call.events import (
    Dtmf,
    DtmfFailed,
    DtmfSent,
    Ending,
    Held,
    LegAnswered,
    LegEnded,
    LegEvent,
    Resumed,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
)
from telbridge.legs.ari import targets
from telbridge.legs.ari.messages import (
    Answer,
    Ask,
    Channel,
    Destroyed,
    Dialling,
    Entered,
    Event,
    HangupRequested,
    HoldChanged,
    KeyPressed,
    Left,
    Purpose,
    Replaced,
    Unknown,
    destroy_bridge,
    hang_up,
    look_at,
    on_bridge,
    on_channel,
    read_variable,
    set_variable,
)
from telbridge.legs.ari.targets import Dial, InDialplan, Refer, target_of
from telbridge.legs.streams.payload import MAX_TEXT
from telbridge.legs.streams.peer import DIGITS

PREFIX: Final = "telbridge-"
"""Of the ids of what we make in Asterisk."""
MEDIA_NS: Final = 5_000_000_000
"""For the caller's audio to find its way to us."""
LEAVE_NS: Final = 2_000_000_000
"""For a channel to be gone once Asterisk has agreed."""
LOOK_NS: Final = 30_000_000_000
"""An event may be lost, with its connection or to another client of the same name: so often it is made sure
that the caller is still ours."""
PAUSE_MS: Final = 500
"""Asterisk's `w` among keys, our comma."""
MAX_KEYS: Final = 128
MIN_MS: Final = 40
MAX_TONE_MS: Final = 6000
MAX_GAP_MS: Final = 5000
ENDING: Final = "TELBRIDGE_ENDING"
CALL_ID: Final = "TELBRIDGE_CALL_ID"
TAGS: Final = "TELBRIDGE_TAGS"
TAG: Final = "TELBRIDGE_"
_NAMED_TAG: Final = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,39})=(.*)", re.DOTALL)
_RESERVED: Final = frozenset({"ENDING", "CALL_ID", "TAGS"})
_GONE: Final = (404, 422)
"""Statuses for a channel that Asterisk does not know (any more)."""
_REFERRING: Final = ("PJSIP", "SIP")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What every call gets."""

    app: str
    variables: tuple[str, ...]
    """To be read of each caller's channel."""
    media: Mapping[str, str]
    """Of the external-media channel: format, transport, …"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What was to be read has been read: the call may begin."""

    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OpenMedia:
    """The external-media channel waits. `variables` say where."""

    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CloseMedia:
    """It is needed no more."""

    ending: Ending


Out = Ask | LegEvent | Arrived | OpenMedia | CloseMedia


class _State(Enum):
    READING = auto()
    ARRIVED = auto()
    """It rings, or a dialplan has answered it."""
    ANSWERING = auto()
    """We want it answered, and joined with its audio."""
    TALKING = auto()
    LEAVING = auto()
    """It is being hung up, or goes on in the dialplan, for a reason that is known."""
    OVER = auto()
    """LegEnded is out."""


@dataclass(slots=True)
class _Transfer:
    way: InDialplan | Dial | Refer
    due_ns: int
    asked: bool = False
    """The caller may leave for it now."""
    rings: bool = False
    dialled: str = ""
    """DIALSTATUS of the other side, once that is final: its channel goes next, often without a cause."""
    joining: bool = False
    """Our audio has made room for the other side."""


class _Keys(NamedTuple):
    digits: str
    """In Asterisk's writing."""
    tone_ms: int
    gap_ms: int

    @property
    def lasting_ns(self) -> int:
        pauses = self.digits.count("w")
        pressed = len(self.digits) - pauses
        return (pressed * (self.tone_ms + self.gap_ms) + pauses * PAUSE_MS) * 1_000_000


class Control:
    """Every method returns what is to be done, in its order; none raises, whenever it is called."""

    def __init__(self, call_id: str, channel: Channel, wishes: Wishes) -> None:
        self._call_id, self._channel, self._wishes = call_id, channel, wishes
        self._caller = channel.id
        self.bridge_id: Final = PREFIX + call_id
        self.media_id: Final = f"{PREFIX}{call_id}-media"
        self.other_id: Final = f"{PREFIX}{call_id}-other"
        """Of the channel that a transfer dials."""
        self._state = _State.READING
        self._up = channel.up
        self._hanging_up = False
        """The caller is: what follows is the end."""
        self._held = False
        self._variables: dict[str, str] = {}
        self._unread = 0
        self._media_open = self._media_entered = self._media_made = self._media_gone = False
        self._joining = False
        self._media_due_ns = 0
        self._ending: tuple[Ending, str] = (Ending.LEG_FAILED, "")
        self._leave_due_ns = 0
        self._next_look_ns = 0
        self._transfer: _Transfer | None = None
        self._other_made = self._minding = False
        """The latter: we have ended, the caller talks to somebody else in our bridge."""
        self._keys: deque[_Keys] = deque()
        self._keys_due_ns: int | None = None
        self._tags: list[str] = []
        self._outs: list[Out] = []

    # ------------------------------------------------------------ what we know

    @property
    def over(self) -> bool:
        """LegEnded is out."""
        return self._state is _State.OVER

    @property
    def done(self) -> bool:
        """Nothing of it is left that anybody has to look after."""
        return self.over and not self._minding

    @property
    def pressing(self) -> bool:
        """Keys go out: no speech meanwhile."""
        return bool(self._keys)

    @property
    def held(self) -> bool:
        return self._held

    # ------------------------------------------------------------ begin, end

    def begin(self, now_ns: int) -> list[Out]:
        """First of all."""
        self._say(set_variable(self._caller, CALL_ID, self._call_id))
        for name in self._wishes.variables:
            self._unread += 1
            self._say(read_variable(Purpose.VARIABLE, self._caller, name))
        if not self._unread:
            self._arrive(now_ns)
        return self._done()

    def ring(self) -> list[Out]:
        if self._state is _State.ARRIVED and not self._up:
            self._say(on_channel(Purpose.ASIDE, self._caller, "ring"))
        return self._done()

    def answer(self, now_ns: int) -> list[Out]:
        if self._state is _State.ARRIVED:
            self._state = _State.ANSWERING
            if not self._up:
                self._say(on_channel(Purpose.ANSWER, self._caller, "answer"))
            self._join(now_ns)
        return self._done()

    def let_go(self, ending: Ending, detail: str, now_ns: int) -> list[Out]:
        """End it for us: the caller goes on behind `Stasis()`."""
        if self._state not in (_State.LEAVING, _State.OVER):
            self._leave(ending, detail, now_ns)
            self._say(on_channel(Purpose.LEAVE, self._caller, "continue"))
        return self._done()

    def hang_up(
        self, ending: Ending, detail: str, now_ns: int, *, cause: int = targets.NORMAL_CLEARING
    ) -> list[Out]:
        """End it for the caller too. `cause` by Q.850."""
        if self._state not in (_State.LEAVING, _State.OVER):
            self._leave(ending, detail, now_ns)
            self._say(hang_up(Purpose.HANG_UP, self._caller, cause))
        return self._done()

    # ------------------------------------------------------------ the caller's audio

    def media_up(self, now_ns: int) -> list[Out]:
        """Its stream has started."""
        self._media_open = True
        self._join(now_ns)
        return self._done()

    def media_down(self, detail: str, now_ns: int) -> list[Out]:
        """Its stream is over, or did not come about."""
        self._media_lost(detail or "Asterisk closed the stream", now_ns)
        return self._done()

    # ------------------------------------------------------------ transfer, keys, tags

    def transfer(self, target: str, timeout_ns: int, now_ns: int) -> list[Out]:
        """One at a time: while one is on its way, another is not begun."""
        if self._state in (_State.ARRIVED, _State.ANSWERING):
            self._say(TransferFailed(0, now_ns, "the call is not answered"))
        elif self._state is _State.TALKING and self._transfer is None:
            try:
                way = target_of(target, self._channel.context)
            except ValueError as error:
                self._say(TransferFailed(400, now_ns, str(error)))
            else:
                self._transfer = _Transfer(way, now_ns + timeout_ns)
                self._begin_transfer(way, timeout_ns, now_ns)
        return self._done()

    def press(self, digits: str, tone_ms: int, gap_ms: int, now_ns: int) -> list[Out]:
        """Keys towards the caller, behind those that are going out."""
        keys = digits.upper().replace(" ", "")
        if self._state in (_State.ARRIVED, _State.ANSWERING):
            self._say(DtmfFailed(now_ns, "the call is not answered"))
        elif self._state is _State.TALKING:
            if not keys or len(keys) > MAX_KEYS or not DIGITS.issuperset(keys.replace(",", "")):
                self._say(DtmfFailed(now_ns, "keys are 0-9, *, #, A-D and a comma for a pause"))
            else:
                tone_ms = min(max(tone_ms, MIN_MS), MAX_TONE_MS)
                gap_ms = min(max(gap_ms, MIN_MS), MAX_GAP_MS)
                self._keys.append(_Keys(keys.replace(",", "w"), tone_ms, gap_ms))
                if len(self._keys) == 1:
                    self._press()
        return self._done()

    def tag(self, text: str) -> list[Out]:
        """For Asterisk's dialplan: all of them in TELBRIDGE_TAGS, and `name=value` as TELBRIDGE_name too."""
        self._tags.append(text)
        if self._state not in (_State.LEAVING, _State.OVER):
            self._say(set_variable(self._caller, TAGS, ",".join(self._tags)[:MAX_TEXT]))
            named = _NAMED_TAG.fullmatch(text)
            if named is not None and named[1].upper() not in _RESERVED:
                self._say(set_variable(self._caller, TAG + named[1], named[2][:MAX_TEXT]))
        return self._done()

    # ------------------------------------------------------------ what Asterisk tells

    def event(self, event: Event, now_ns: int) -> list[Out]:
        """One event; those of other calls mean nothing."""
        match event:
            case Entered(channel):
                self._on_entered(channel.id, now_ns)
            case Left(channel_id):
                self._on_gone(channel_id, 0, now_ns)
            case Destroyed(channel_id, cause):
                self._hanging_up = self._hanging_up or channel_id == self._caller
                self._on_gone(channel_id, cause, now_ns)
            case HangupRequested(channel_id):
                self._hanging_up = self._hanging_up or channel_id == self._caller
            case KeyPressed(channel_id, digit, duration_ms):
                if channel_id == self._caller and self._lives and digit in DIGITS:
                    self._say(Dtmf(digit, "ari", duration_ms, now_ns))
            case HoldChanged(channel_id, held):
                if channel_id == self._caller and self._lives and held != self._held:
                    self._held = held
                    self._say(Held(now_ns) if held else Resumed(now_ns))
            case Dialling(channel_id, status):
                if channel_id == self.other_id and self._transfer is not None:
                    self._on_dialling(self._transfer, status, now_ns)
            case Replaced() | Unknown():
                pass
            case _:
                assert_never(event)
        return self._done()

    def answered(self, ask: Ask, answer: Answer, now_ns: int) -> list[Out]:
        """What came of a request of ours."""
        match ask.purpose:
            case Purpose.VARIABLE:
                self._on_variable(ask.subject, answer, now_ns)
            case Purpose.BRIDGE:
                if not answer.good:
                    self._failed("Asterisk made no bridge", answer, now_ns)
            case Purpose.MEDIA:
                self._on_media(answer, now_ns)
            case Purpose.ANSWER:
                self._up = self._up or answer.good
                if answer.good:
                    self._join(now_ns)
                elif answer.status == 404:
                    self._hanging_up = True
                    self._on_gone(self._caller, 0, now_ns)
                else:
                    self._failed("Asterisk did not answer the call", answer, now_ns)
            case Purpose.JOIN:
                self._on_joined(answer, now_ns)
            case Purpose.HANG_UP:
                if self._state is _State.LEAVING:
                    self._end(*self._ending, now_ns)
            case Purpose.LEAVE:
                self._on_leave(answer, now_ns)
            case Purpose.KEYS:
                self._on_keys(answer, now_ns)
            case Purpose.SUBSCRIBE:
                if answer.status in _GONE:
                    self._hanging_up = self._hanging_up or ask.subject == self._caller
                    self._on_gone(ask.subject, 0, now_ns)
            case Purpose.LOOK:
                place = answer.body.get("dialplan")
                away = isinstance(place, dict) and place.get("app_name", "Stasis") != "Stasis"
                if answer.status == 404 or away:
                    self._hanging_up = self._hanging_up or (ask.subject == self._caller and not away)
                    self._on_gone(ask.subject, 0, now_ns)
            case Purpose.EXISTS | Purpose.REDIRECT | Purpose.DIAL | Purpose.JOIN_OTHER:
                self._on_transfer(ask.purpose, answer, now_ns)
            case Purpose.ASIDE:
                pass
            case _:
                assert_never(ask.purpose)
        return self._done()

    def reconnected(self) -> list[Out]:
        """Events come again; what happened meanwhile was not told."""
        if not self.done:
            self._subscribe(self._caller)
            if self._other_made:
                self._subscribe(self.other_id)
        return self._done()

    def tick(self, now_ns: int) -> list[Out]:
        """Now and then, at least every 100 ms."""
        waiting = self._state in (_State.ARRIVED, _State.ANSWERING) and not self._media_ready
        if waiting and now_ns >= self._media_due_ns:
            self._media_lost(f"no audio from Asterisk within {MEDIA_NS / 1e9:g} s", now_ns)
        if self._state is _State.LEAVING and now_ns >= self._leave_due_ns:
            self._end(*self._ending, now_ns)
        if self._transfer is not None and now_ns >= self._transfer.due_ns:
            if self._other_made:
                self._hang_up_other()
            self._fail_transfer(408, "no answer in time", now_ns)
        if (self._state is _State.TALKING or self._minding) and now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_NS
            self._say(look_at(self._caller))
            if self._minding:
                self._say(look_at(self.other_id))
        if self._keys_due_ns is not None and now_ns >= self._keys_due_ns:
            self._keys_over(DtmfSent(now_ns))
        return self._done()

    # ------------------------------------------------------------ the call

    @property
    def _lives(self) -> bool:
        return self._state in (_State.ARRIVED, _State.ANSWERING, _State.TALKING)

    @property
    def _media_ready(self) -> bool:
        return self._media_open and self._media_entered

    def _on_variable(self, name: str, answer: Answer, now_ns: int) -> None:
        if self._state is not _State.READING:
            return
        value = answer.body.get("value")
        if answer.good and isinstance(value, str):
            self._variables[name] = value[:MAX_TEXT]
        self._unread -= 1
        if not self._unread:
            self._arrive(now_ns)

    def _arrive(self, now_ns: int) -> None:
        self._state = _State.ARRIVED
        self._media_due_ns = now_ns + MEDIA_NS
        self._say(Arrived(self._variables))
        self._say(Ask(Purpose.BRIDGE, "POST", "bridges", {"type": "mixing", "bridgeId": self.bridge_id}))
        query = {"app": self._wishes.app, "channelId": self.media_id, **self._wishes.media}
        self._say(Ask(Purpose.MEDIA, "POST", "channels/externalMedia", query))
        self._media_made = True

    def _on_media(self, answer: Answer, now_ns: int) -> None:
        if not answer.good:
            self._media_gone = True
            self._failed("Asterisk made no media channel", answer, now_ns)
        elif self._lives:
            variables = answer.body.get("channelvars")
            self._say(OpenMedia(variables if isinstance(variables, dict) else {}))

    def _on_entered(self, channel_id: str, now_ns: int) -> None:
        if channel_id == self.media_id:
            self._media_entered = True
            self._join(now_ns)
        elif channel_id == self.other_id and self._transfer is not None:
            self._transfer.joining = True  # Our audio goes first: three in a bridge would be mixed.
            self._say(on_bridge(Purpose.ASIDE, self.bridge_id, "removeChannel", channel=self.media_id))
            self._say(on_bridge(Purpose.JOIN_OTHER, self.bridge_id, "addChannel", channel=self.other_id))

    def _join(self, now_ns: int) -> None:
        """A channel that is not in the application yet is refused with 422: so both must be."""
        if self._state is _State.ANSWERING and self._up and self._media_ready and not self._joining:
            self._joining = True
            both = f"{self._caller},{self.media_id}"
            self._say(on_bridge(Purpose.JOIN, self.bridge_id, "addChannel", channel=both))

    def _on_joined(self, answer: Answer, now_ns: int) -> None:
        if not answer.good:
            self._failed("Asterisk did not join the call with its audio", answer, now_ns)
        elif self._state is _State.ANSWERING:
            self._state = _State.TALKING
            self._next_look_ns = now_ns + LOOK_NS
            self._say(LegAnswered(now_ns))

    def _failed(self, what: str, answer: Answer, now_ns: int) -> None:
        self._media_lost(f"{what} ({answer.status or 'no answer'})", now_ns)

    def _media_lost(self, detail: str, now_ns: int) -> None:
        if self._state in (_State.LEAVING, _State.OVER):
            return
        self._leave(Ending.LEG_FAILED, detail, now_ns)
        self._say(on_channel(Purpose.LEAVE, self._caller, "continue"))

    def _leave(self, ending: Ending, detail: str, now_ns: int) -> None:
        self._state, self._ending = _State.LEAVING, (ending, detail)
        self._leave_due_ns = now_ns + LEAVE_NS
        self._stop_asking()
        self._say(set_variable(self._caller, ENDING, ending.value))

    def _on_leave(self, answer: Answer, now_ns: int) -> None:
        transfer = self._transfer
        if self._state is _State.LEAVING:
            if not answer.good:
                self._say(hang_up(Purpose.HANG_UP, self._caller, targets.TEMPORARY_FAILURE))
        elif transfer is not None:
            transfer.due_ns = now_ns + LEAVE_NS
            if not answer.good:
                self._fail_transfer(answer.status, "Asterisk refused", now_ns)

    def _on_gone(self, channel_id: str, cause: int, now_ns: int) -> None:
        if channel_id == self._caller:
            self._caller_gone(now_ns)
        elif channel_id == self.media_id:
            self._media_gone = True
            self._media_lost("Asterisk ended the media channel", now_ns)
        elif channel_id == self.other_id:
            self._other_gone(cause, now_ns)

    def _caller_gone(self, now_ns: int) -> None:
        transfer = self._transfer
        if self._minding:
            self._minding = False
            self._hang_up_other()
            self._say(destroy_bridge(self.bridge_id))
        if self._state is _State.OVER:
            return
        if self._state is _State.LEAVING:
            self._end(*self._ending, now_ns)
        elif transfer is not None and self._has_gone_over(transfer):
            self._say(TransferAnswered(now_ns))
            self._end(Ending.TRANSFERRED, "", now_ns)
        elif self._hanging_up:
            self._end(Ending.CALLER_HUNG_UP if self._up else Ending.CALLER_CANCELLED, "", now_ns)
        else:
            self._end(Ending.TRANSFERRED, "by Asterisk", now_ns)

    def _has_gone_over(self, transfer: _Transfer) -> bool:
        """A telephone that was told to call elsewhere hangs up; who goes on in the dialplan does not."""
        if isinstance(transfer.way, Refer):
            return transfer.asked
        return isinstance(transfer.way, InDialplan) and transfer.asked and not self._hanging_up

    def _end(self, ending: Ending, detail: str, now_ns: int) -> None:
        """LegEnded, exactly once, and nothing of ours is left in Asterisk but what is minded."""
        self._state = _State.OVER
        self._stop_asking()
        self._say(CloseMedia(ending))
        if self._media_made and not self._media_gone:
            self._say(hang_up(Purpose.ASIDE, self.media_id, targets.NORMAL_CLEARING))
        if not self._minding:
            if self._other_made:
                self._hang_up_other()
            if self._media_made:
                self._say(destroy_bridge(self.bridge_id))
        self._say(LegEnded(ending, now_ns, detail))

    def _stop_asking(self) -> None:
        self._transfer = None
        self._keys.clear()
        self._keys_due_ns = None

    # ------------------------------------------------------------ transfer

    def _begin_transfer(self, way: InDialplan | Dial | Refer, timeout_ns: int, now_ns: int) -> None:
        match way:
            case InDialplan(context, extension, priority):
                # Asterisk itself hangs up on an extension that is not there.
                name = f"DIALPLAN_EXISTS({context},{extension},{priority})"
                self._say(read_variable(Purpose.EXISTS, self._caller, name))
            case Refer(address):
                technology = self._channel.technology
                if technology not in _REFERRING:
                    why = f"a {technology} channel cannot be referred; write PJSIP/ENDPOINT"
                    self._fail_transfer(0, why, now_ns)
                    return
                endpoint = f"{technology}/{address}"
                self._say(on_channel(Purpose.REDIRECT, self._caller, "redirect", endpoint=endpoint))
            case Dial(endpoint):
                self._other_made = True
                query = {
                    "endpoint": endpoint,
                    "app": self._wishes.app,
                    "channelId": self.other_id,
                    "originator": self._caller,
                    "timeout": str(max(1, timeout_ns // 1_000_000_000)),
                }
                if self._channel.caller:
                    query["callerId"] = self._channel.caller
                self._say(Ask(Purpose.DIAL, "POST", "channels", query))
            case _:
                assert_never(way)

    def _on_transfer(self, purpose: Purpose, answer: Answer, now_ns: int) -> None:
        transfer = self._transfer
        if transfer is None:
            return
        if purpose is Purpose.EXISTS:
            self._go_over(transfer, answer, now_ns)
        elif purpose is Purpose.JOIN_OTHER:
            self._on_other_joined(answer, now_ns)
        elif not answer.good:
            self._other_made = False
            why = "Asterisk refused" if answer.status else "Asterisk did not answer"
            self._fail_transfer(answer.status, why, now_ns)
        else:
            transfer.asked = True

    def _go_over(self, transfer: _Transfer, answer: Answer, now_ns: int) -> None:
        way = transfer.way
        assert isinstance(way, InDialplan)
        if answer.body.get("value") == "0":
            self._fail_transfer(404, "no such extension in Asterisk's dialplan", now_ns)
            return
        transfer.asked = True
        self._say(set_variable(self._caller, ENDING, Ending.TRANSFERRED.value))
        place = {"priority": way.priority} if way.priority.isdigit() else {"label": way.priority}
        query = {"context": way.context, "extension": way.extension, **place}
        self._say(on_channel(Purpose.LEAVE, self._caller, "continue", **query))

    def _on_other_joined(self, answer: Answer, now_ns: int) -> None:
        if answer.good:
            self._minding = True
            self._say(TransferAnswered(now_ns))
            self._end(Ending.TRANSFERRED, "", now_ns)
            return
        self._hang_up_other()
        self._fail_transfer(answer.status, "Asterisk did not join the two", now_ns)

    def _on_dialling(self, transfer: _Transfer, status: str, now_ns: int) -> None:
        if status in targets.DIALLED:
            transfer.dialled = status
        elif status in ("RINGING", "PROGRESS") and not transfer.rings:
            transfer.rings = True
            self._say(TransferRinging(now_ns))

    def _other_gone(self, cause: int, now_ns: int) -> None:
        self._other_made = False
        if self._minding:
            self._minding = False
            self._say(hang_up(Purpose.ASIDE, self._caller, targets.NORMAL_CLEARING))
            self._say(destroy_bridge(self.bridge_id))
        elif self._transfer is not None and isinstance(self._transfer.way, Dial):
            dialled = self._transfer.dialled
            status = targets.DIALLED.get(dialled) or targets.STATUSES.get(cause, 480)
            self._fail_transfer(status, dialled.lower() or f"not answered (Q.850 cause {cause})", now_ns)

    def _hang_up_other(self) -> None:
        self._other_made = False
        self._say(hang_up(Purpose.ASIDE, self.other_id, targets.NORMAL_CLEARING))

    def _fail_transfer(self, status: int, detail: str, now_ns: int) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None and transfer.joining:
            self._say(on_bridge(Purpose.ASIDE, self.bridge_id, "addChannel", channel=self.media_id))
        self._say(TransferFailed(status, now_ns, detail))

    # ------------------------------------------------------------ keys

    def _press(self) -> None:
        keys = self._keys[0]
        times = {"duration": str(keys.tone_ms), "between": str(keys.gap_ms)}
        self._say(on_channel(Purpose.KEYS, self._caller, "dtmf", dtmf=keys.digits, **times))

    def _on_keys(self, answer: Answer, now_ns: int) -> None:
        if not self._keys or self._keys_due_ns is not None:
            return
        if answer.good:
            self._keys_due_ns = now_ns + self._keys[0].lasting_ns
        else:
            why = f"Asterisk refused ({answer.status})" if answer.status else "Asterisk did not answer"
            self._keys_over(DtmfFailed(now_ns, why))

    def _keys_over(self, event: DtmfSent | DtmfFailed) -> None:
        self._keys.popleft()
        self._keys_due_ns = None
        self._say(event)
        if self._keys:
            self._press()

    # ------------------------------------------------------------ inside

    def _subscribe(self, channel_id: str) -> None:
        path = f"applications/{quote(self._wishes.app, safe='')}/subscription"
        self._say(Ask(Purpose.SUBSCRIBE, "POST", path, {"eventSource": f"channel:{channel_id}"}, channel_id))

    def _say(self, out: Out) -> None:
        self._outs.append(out)

    def _done(self) -> list[Out]:
        outs, self._outs = self._outs, []
        return outs
