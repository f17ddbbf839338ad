"""The calls under way: whose they are, and what a BYE needs if their worker dies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.hops import Hop
from telbridge.dispatch.message import SipMessage, uri_of

Key = tuple[str, str]
"""Call-ID and the peer's tag."""
_S: Final = 1_000_000_000
LINGER_NS: Final = 40 * _S
"""An ended call is remembered as long as copies of its messages may come (64·T1, RFC 3261 §17)."""
OFFERED_NS: Final = 200 * _S
"""Timer C (RFC 3261 §16.6): no answer comes any more."""
DENIED_NS: Final = 60 * _S
"""So long a call that its worker does not count is kept."""


class State(Enum):
    """Of a call, as far as its messages tell."""

    OFFERED = auto()
    TALKING = auto()
    OVER = auto()


@dataclass(slots=True)
class Call:
    """One call: its INVITE, and what its dialog is by now (RFC 3261 §12)."""

    key: Key
    worker: int
    invite: SipMessage
    """As it came, as far as answers and the dialog need it."""
    peer: Hop
    """Where the peer's last message came from."""
    since_ns: int
    state: State = State.OFFERED
    target: str = ""
    """The peer's Contact."""
    routes: list[str] = field(default_factory=list)
    """Proxies on the peer's side."""
    local: str = ""
    """The worker's To with its tag, once it has answered."""
    local_cseq: int = 0
    """The highest that the worker has used."""

    @property
    def cseq(self) -> int:
        return self.invite.cseq.sequence


class Calls:
    """All of them, by key."""

    def __init__(self) -> None:
        self._calls: dict[Key, Call] = {}
        self._live: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def live(self) -> Mapping[int, int]:
        """Calls that are not over, by worker."""
        return self._live

    def get(self, key: Key) -> Call | None:
        return self._calls.get(key)

    def open(self, invite: SipMessage, peer: Hop, worker: int, now_ns: int) -> Call:
        """A new call, or another try of the same caller under the same Call-ID."""
        key = (invite.call_id, invite.from_tag)
        if (older := self._calls.pop(key, None)) is not None:
            self.end(older, now_ns)
        contact = invite.values("Contact")
        call = Call(
            key,
            worker,
            invite,
            peer,
            now_ns,
            target=uri_of(contact[0]) if contact else f"sip:{peer.host}:{peer.port}",
            routes=invite.values("Record-Route"),
        )
        self._calls[key] = call
        self._live[worker] += 1
        return call

    def answered(self, call: Call, to: str, now_ns: int) -> None:
        """2xx: the dialog is there."""
        if call.state is State.OFFERED:
            call.state, call.local, call.since_ns = State.TALKING, to, now_ns

    def end(self, call: Call, now_ns: int) -> None:
        """Safe twice."""
        if call.state is not State.OVER:
            call.state, call.since_ns = State.OVER, now_ns
            self._live[call.worker] -= 1

    def of(self, worker: int) -> Iterator[Call]:
        """The live calls of a worker."""
        return (call for call in list(self._calls.values()) if self._is_live_at(call, worker))

    def sweep(self, now_ns: int) -> None:
        """Forget what is long over."""
        for call in list(self._calls.values()):
            age_ns = now_ns - call.since_ns
            if call.state is State.OVER and age_ns >= LINGER_NS:
                del self._calls[call.key]
            elif call.state is State.OFFERED and age_ns >= OFFERED_NS:
                self.end(call, now_ns)

    def heed(self, worker: Worker, now_ns: int) -> None:
        """End calls that the worker does not have: nothing that passed us told of their end."""
        surplus = self._live[worker.number] - worker.calls
        for call in self.of(worker.number):
            if surplus > 0 and now_ns - call.since_ns >= DENIED_NS:
                self.end(call, now_ns)
                surplus -= 1

    @staticmethod
    def _is_live_at(call: Call, worker: int) -> bool:
        return call.worker == worker and call.state is not State.OVER
