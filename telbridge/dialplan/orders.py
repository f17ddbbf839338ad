"""What the engine asks of the call: actions with every template filled.

Each has an id, unique in the call. The call answers with `Done` or `Failed` of this id; orders marked
"waited for" must be answered (after a bound of its own the engine goes on without), for the others `Failed`
is enough. An answer that nobody waits for any more is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from telbridge.dialplan.plan import Wanted

Recorded = Literal["start", "pause", "resume", "stop"]


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to do."""

    id: int


@dataclass(frozen=True, slots=True)
class Connect(Order):
    """Caller and agent hear each other from now on; the greeting, which may be ready long since, is heard."""


@dataclass(frozen=True, slots=True)
class Say(Order):
    """Exact words. Done when they were heard or cut short. Waited for."""

    text: str
    barge_in: bool = True
    by: Literal["auto", "agent", "local"] = "auto"


@dataclass(frozen=True, slots=True)
class Play(Order):
    """A WAV file, its path as written. Done as for Say. Waited for."""

    file: str
    barge_in: bool = True


@dataclass(frozen=True, slots=True)
class StopSpeech(Order):
    """Stop what the caller hears, agent or own: a key was pressed."""


@dataclass(frozen=True, slots=True, repr=False)
class SendText(Order):
    """Text into the conversation."""

    text: str
    as_caller: bool
    answer: bool
    secret: bool = False
    """It holds digits of a masked collection that the dialplan tells the agent: for no log, no record."""

    def __repr__(self) -> str:
        shown = repr("****" if self.secret else self.text)
        return f"SendText(id={self.id}, text={shown}, as_caller={self.as_caller}, answer={self.answer})"


@dataclass(frozen=True, slots=True)
class Discreet(Order):
    """While `on`, masked digits are keyed in, maybe as audible tones: the caller's audio goes neither to the
    agent nor into a recording, keys into no log. Ends with `on` false, with `SwitchAgent` it goes on."""

    on: bool


@dataclass(frozen=True, slots=True)
class Reply(Order):
    """Make the agent speak now."""

    instructions: str | None


@dataclass(frozen=True, slots=True)
class Update(Order):
    """Change the running session; what is set is what changes. Failed if refused."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class SwitchAgent(Order):
    """Another session in place of this one. Done when it is ready. Waited for."""

    name: str
    wanted: Wanted
    handover: bool


@dataclass(frozen=True, slots=True)
class Transfer(Order):
    """Done when the other side took the call, Failed when the caller is back with us. Waited for."""

    target: str
    mode: Literal["blind"]
    timeout_s: float
    music: str | None


@dataclass(frozen=True, slots=True)
class HoldMusic(Order):
    """Start (a file, or "" for our own) or stop (None)."""

    file: str | None


@dataclass(frozen=True, slots=True)
class Mute(Order):
    """`on`: silence the ways that are true; else end it."""

    caller: bool
    agent: bool
    on: bool


@dataclass(frozen=True, slots=True)
class Record(Order):
    """The recording of the call: `start` is the caller's consent, `stop` is for good."""

    what: Recorded


@dataclass(frozen=True, slots=True)
class SendDtmf(Order):
    """Done when the last key is out. Waited for."""

    digits: str
    tone_ms: int
    gap_ms: int


@dataclass(frozen=True, slots=True)
class HangUp(Order):
    """End the call. Nothing follows but what `on.hangup` says after `Ended`, unless it is `after_agent`."""

    cause: str
    last_words: str = ""
    after_agent: bool = False
    """The agent asked for it: let it say goodbye first; if the caller speaks up again, the call goes on."""


@dataclass(frozen=True, slots=True)
class CallWebhook(Order):
    """POST a JSON object. Done with the JSON of the answer. Waited for."""

    url: str
    body: Mapping[str, Any] = field(repr=False)
    """May hold revealed digits: not for logs."""
    headers: Mapping[str, str]
    timeout_s: float
    retries: int
    secret_env: str | None


@dataclass(frozen=True, slots=True)
class CallHttp(Order):
    """A tool's request. Done with the answer, JSON or text. Waited for."""

    method: Literal["GET", "POST"]
    url: str
    body: Mapping[str, Any] | None
    headers: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class CallPython(Order):
    """A tool's entry point. Done with what it returned. Waited for."""

    entry: str
    arguments: Mapping[str, Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ToolResult(Order):
    """The answer to a tool call."""

    tool_call_id: str
    output: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Tag(Order):
    """A label in the record."""

    text: str


@dataclass(frozen=True, slots=True)
class Count(Order):
    """Add to a counter."""

    metric: str
    add: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Note(Order):
    """For the log: an action that could not be done."""

    what: str
    detail: str
