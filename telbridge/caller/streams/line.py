"""One call at a carrier: runs the documents that the bridge gives it, verb by verb, until none is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from telbridge.caller.streams.call import OnTrace, StreamCall
from telbridge.caller.streams.twiml import Dial, End, Redirect, Stream, Verb, read_verbs
from telbridge.caller.streams.webhook import Refusal, new_sid

_STATUS: Final = {"busy": "486", "no-answer": "487", "failed": "404", "answered": "200"}
_EVENTS: Final = {"ringing": "ringing", "in-progress": "answered"}


@dataclass(frozen=True, slots=True)
class DialEnd:
    """How somebody who is dialled behaves."""

    status: str = "answered"
    """"answered", "busy", "no-answer" or "failed"."""
    talk_s: float = 0.0
    """Of one who answers."""
    rings: bool = True

    def __post_init__(self) -> None:
        if self.status not in _STATUS:
            raise ValueError(f"{self.status!r}: a dial ends with {', '.join(_STATUS)}")


OpenStream = Callable[[Stream, str], Awaitable[StreamCall]]
Post = Callable[[str, Mapping[str, str]], Awaitable[str]]
"""A signed form to an address; its answer."""


def dial_ended(verb: Dial, child: str, status: str, talk_s: float) -> dict[str, str]:
    """What `action` is told, as TwiML has it."""
    talked = status == "answered"
    news = {
        "DialCallSid": child,
        "DialCallStatus": "completed" if talked else status,
        "DialBridged": str(talked).lower(),
    }
    if talked:
        news["DialCallDuration"] = str(round(talk_s))
    if verb.to.startswith("sip"):
        news["DialSipResponseCode"] = _STATUS[status]
    return news


def dial_progress(verb: Dial, call: str, child: str, status: str) -> dict[str, str]:
    """What `progress` is told, as TwiML has it. `status`: "ringing" or "in-progress"."""
    return {"CallSid": child, "ParentCallSid": call, "CallStatus": status, "To": verb.to}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a carrier runs documents. Twilio, by default."""

    read: Callable[[str], list[Verb]] = read_verbs
    call_id: str = "CallSid"
    """The field that names the call."""
    new_id: Callable[[], str] = lambda: new_sid("CA")
    """For who is dialled."""
    dial_ended: Callable[[Dial, str, str, float], dict[str, str]] = dial_ended
    progress: Callable[[Dial, str, str, str], dict[str, str]] = dial_progress


TWILIO: Final = Kind()


class Line:
    """From the first document to the end. `log` tells what was done, one short text a verb."""

    def __init__(
        self,
        post: Post,
        form: Mapping[str, str],
        open_stream: OpenStream,
        on_dial: Callable[[Dial], Awaitable[DialEnd]],
        on_trace: OnTrace | None,
        kind: Kind = TWILIO,
    ) -> None:
        """`form`: what every webhook of this call says. `on_dial`: done when who is dialled has decided."""
        self._post, self._form, self._kind = post, dict(form), kind
        self._open, self._on_dial, self._on_trace = open_stream, on_dial, on_trace
        self.streams: list[StreamCall] = []
        self.log: list[str] = []
        self.redirected: str | None = None
        """Where the last `<Redirect>` led."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def call_sid(self) -> str:
        return self._form[self._kind.call_id]

    @property
    def over(self) -> bool:
        return self._task is not None and self._task.done()

    async def start(self, twiml: str) -> StreamCall:
        """Up to the first stream. Refusal if it does not come to one."""
        self._task = asyncio.create_task(self._run(twiml), name="carrier line")
        self._task.add_done_callback(lambda _: self._news.set())
        stream = await self.stream(1)
        if stream is None:
            self._task.result()
            raise Refusal(f"TwiML connects no stream: {', '.join(self.log) or 'it is empty'}")
        return stream

    async def stream(self, number: int) -> StreamCall | None:
        """The first, second … one, once it is there; None if the call ends before."""
        while len(self.streams) < number and not self.over:
            self._news.clear()
            await self._news.wait()
        return self.streams[number - 1] if len(self.streams) >= number else None

    async def wait_over(self) -> None:
        """Until the documents have come to their end. Raises what the carrier calls an error: Refusal."""
        assert self._task is not None
        await self._task

    async def hang_up(self) -> None:
        """The caller goes, wherever the call is. Safe twice."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.streams:
            await self.streams[-1].hang_up()

    # ------------------------------------------------------------ inside

    async def _run(self, twiml: str) -> None:
        verbs = self._kind.read(twiml)
        while verbs:
            verbs = await self._do(verbs[0], verbs[1:])
        self._tell("over")

    async def _do(self, verb: Verb, rest: list[Verb]) -> list[Verb]:
        """What is to be done next."""
        match verb:
            case Stream():
                return rest if await self._connect(verb) else []
            case Dial():
                self._tell(f"dial {verb.to}")
                return await self._dial(verb, rest)
            case Redirect(url, news):
                self._tell("redirect")
                self.redirected = url
                return await self._ask(url, **news)
            case End(reason):
                self._tell(reason)
                return []
            case _:
                assert_never(verb)

    async def _connect(self, verb: Stream) -> bool:
        """False if the caller hung up; a stream that the bridge closed or broke lets TwiML go on."""
        call = await self._open(verb, self.call_sid)
        self._form["CallStatus"] = "in-progress"
        self.streams.append(call)
        self._tell("stream")
        self._news.set()
        ended = await call.wait_ended()
        return ended.by != "us"

    async def _dial(self, verb: Dial, rest: list[Verb]) -> list[Verb]:
        child = self._kind.new_id()
        end = await self._on_dial(verb)
        if end.rings:
            await self._progress(verb, child, "ringing")
        talked = end.status == "answered"
        if talked:
            await self._progress(verb, child, "in-progress")
            await asyncio.sleep(end.talk_s)
        self._tell(f"dial ended: {end.status}")
        if not verb.action:
            return rest
        return await self._ask(verb.action, **self._kind.dial_ended(verb, child, end.status, end.talk_s))

    async def _progress(self, verb: Dial, child: str, status: str) -> None:
        """The status callback of who is dialled, if it was asked for."""
        if verb.progress and _EVENTS[status] in verb.events:
            news = self._kind.progress(verb, self.call_sid, child, status)
            await self._post(verb.progress, {**self._form, **news})

    async def _ask(self, url: str, **news: str) -> list[Verb]:
        return self._kind.read(await self._post(url, {**self._form, **news}))

    def _tell(self, what: str) -> None:
        self.log.append(what)
        if self._on_trace is not None:
            self._on_trace(time.monotonic_ns(), "..", f"TwiML: {what}")
