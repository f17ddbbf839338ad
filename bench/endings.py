"""Every way in which a call may end, each with what must come of it: for a soak.

One dialplan obeys keys (as SIP INFO), another speaks with a scripted agent, a third refuses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from bench.lines import LinePhone
from bench.stream_lines import StreamPhone
from telbridge.caller import CallFailed, CallHandle
from telbridge.caller.events import EndedBy, Progress, Referred

ANSWER_S: Final = 10.0
END_S: Final = 15.0
BACK_S: Final = 3.0
"""So long a call whose session was lost must go on at least."""

DIALPLANS: Final = {
    "usual": """
[keys.1]
hangup = "normal"

[keys.2]
transfer = "sip:elsewhere@127.0.0.1:9"
""",
    "scripted": """
match.called = "scripted"
session.agent = "openai_realtime"
greeting = ""
tools.hang_up = { description = "Ends the call.", use = "hangup" }
keys.3 = { send_text = "lose the connection", as = "caller", answer = true }
keys.4 = { send_text = "say good-bye", as = "caller", answer = true }
""",
    "refusing": """
match.called = "refused"
on.ringing = { hangup = "busy" }
""",
}
AGENT: Final = """
[[step]]
on = "configured"
reply = { tone_hz = 440, ms = 1500 }

[[step]]
on = "text"
match = "lose"
times = 0
misdeed = "abort"

[[step]]
on = "text"
match = "good-bye"
times = 0
reply = { tone_hz = 440, ms = 500, tool = "hang_up" }
"""


def write_dialplans(folder: Path, names: Iterable[str] = DIALPLANS) -> Path:
    """A folder with these."""
    plans = folder / "dialplans"
    plans.mkdir()
    for name in names:
        (plans / f"{name}.toml").write_text(DIALPLANS[name], "utf-8")
    return plans


class WrongEnding(Exception):
    """Something else came of a call than must."""


class Endings:
    """Of calls to one bridge."""

    def __init__(self, phone: LinePhone, streams: StreamPhone, host: str, dice: random.Random) -> None:
        """`host`: HOST:PORT of the bridge's SIP."""
        self._phone, self._streams, self._host, self._dice = phone, streams, host, dice
        self.kinds: dict[str, Callable[[float], Awaitable[None]]] = {
            "the caller hangs up": self._caller,
            "the dialplan hangs up": self._dialplan,
            "the agent hangs up": self._agent,
            "transfer": self._transfer,
            "session lost": self._lost,
            "killed caller": self._killed,
            "CANCEL": self._cancel,
            "refusal": self._refusal,
            "stream: the caller hangs up": self._stream,
            "stream: killed caller": self._stream_killed,
        }

    async def _talk(self, called: str, length_s: float) -> CallHandle:
        call, _ = self._phone.dial(f"sip:{called}@{self._host}")
        try:
            await call.wait_answered(ANSWER_S)
        except CallFailed as failure:
            raise WrongEnding(f"not answered: {failure.ended.code} {failure.ended.phrase}") from None
        except TimeoutError:
            await call.hang_up()
            raise WrongEnding(f"no answer in {ANSWER_S:g} s") from None
        await asyncio.sleep(length_s)
        if call.ended is not None:
            raise WrongEnding(f"ended by itself: {call.ended.by.value} {call.ended.reason or ''}".rstrip())
        return call

    async def _caller(self, length_s: float) -> None:
        call = await self._talk("agent", length_s)
        ended = await call.hang_up()
        if ended.by is not EndedBy.US or ended.code != 200:
            raise WrongEnding(f"BYE: {ended.by.value} {ended.code}")

    async def _dialplan(self, length_s: float) -> None:
        call = await self._talk("agent", length_s)
        call.dtmf_info("1")
        await self._bye(call)

    async def _agent(self, length_s: float) -> None:
        call = await self._talk("scripted", length_s)
        call.dtmf_info("4")
        await self._bye(call)

    async def _transfer(self, length_s: float) -> None:
        call = await self._talk("agent", length_s)
        call.dtmf_info("2")
        try:
            await call.expect(Referred, END_S)
        except (CallFailed, TimeoutError):
            await call.hang_up()
            raise WrongEnding("no REFER") from None
        call.notify_referrer(200, "OK")
        await self._bye(call)

    async def _lost(self, length_s: float) -> None:
        call = await self._talk("scripted", length_s)
        call.dtmf_info("3")
        await asyncio.sleep(BACK_S)
        if call.ended is not None:
            raise WrongEnding("the call ended with its session")
        await call.hang_up()

    async def _killed(self, length_s: float) -> None:
        """The bridge finds out by the silence."""
        (await self._talk("agent", length_s)).vanish()

    async def _cancel(self, length_s: float) -> None:
        """As soon as the bridge has said that it rings; the answer may cross it."""
        call, _ = self._phone.dial(f"sip:agent@{self._host}")
        try:
            await call.expect(Progress, ANSWER_S)
        except CallFailed as failure:
            raise WrongEnding(f"refused: {failure.ended.code}") from None
        ended = await call.hang_up()
        if ended.by is not EndedBy.US or ended.code not in (200, 487):
            raise WrongEnding(f"CANCEL: {ended.by.value} {ended.code}")

    async def _refusal(self, length_s: float) -> None:
        call, _ = self._phone.dial(f"sip:refused@{self._host}")
        try:
            await call.wait_answered(ANSWER_S)
        except CallFailed as failure:
            if failure.ended.code != 486:
                raise WrongEnding(f"refused with {failure.ended.code}") from None
            return
        await call.hang_up()
        raise WrongEnding("answered")

    async def _stream(self, length_s: float) -> None:
        line, _ = await self._streams.dial()
        await asyncio.sleep(length_s)
        over = line.over
        self._streams.leave(line)
        if over:
            raise WrongEnding("ended by itself")

    async def _stream_killed(self, length_s: float) -> None:
        line, _ = await self._streams.dial()
        await asyncio.sleep(length_s)
        self._streams.leave(line, vanish=True)

    async def _bye(self, call: CallHandle) -> None:
        try:
            ended = await call.wait_ended(END_S)
        except TimeoutError:
            await call.hang_up()
            raise WrongEnding("no BYE") from None
        if ended.by is not EndedBy.PEER:
            raise WrongEnding(f"ended by {ended.by.value}")
