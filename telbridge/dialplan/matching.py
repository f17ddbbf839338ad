"""Which dialplan a call gets, and why the others did not match."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from telbridge.dialplan.facts import Facts
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.model import Match, Share

_SEPARATORS: Final = re.compile(r"[\s()/.\-]")
_NUMBER: Final = re.compile(r"\+?[\d*?#]+")
_ADDRESS: Final = re.compile(r"^(?:sips?|tel):", re.IGNORECASE)
ANONYMOUS: Final = "anonymous"
FIELDS: Final = (
    "called", "caller", "headers", "parameters", "trunk", "domain", "ingress", "direction", "hours", "share",
)  # fmt: skip
"""In the order in which they count for specificity."""

Rank: TypeAlias = tuple[int, ...]


class Matchable(Protocol):
    """What a dialplan must show to be chosen."""

    @property
    def name(self) -> str: ...
    @property
    def match(self) -> Match | None: ...
    @property
    def zone(self) -> str: ...
    @property
    def all_hours(self) -> Mapping[str, Hours]: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one dialplan about one call."""

    name: str
    reasons: tuple[str, ...]
    """Why it does not match; none: it does."""
    priority: int
    rank: Rank


@dataclass(frozen=True, slots=True)
class Route:
    """The choice for one call."""

    chosen: str | None
    verdicts: tuple[Verdict, ...]
    """In the order in which they were looked at."""

    def lines(self) -> list[str]:
        """For `telbridge route`: one line a dialplan."""
        shown = []
        for verdict in self.verdicts:
            if verdict.reasons:
                shown.append(f"{verdict.name}: no: {'; '.join(verdict.reasons)}")
            elif verdict.name == self.chosen:
                shown.append(f"{verdict.name}: yes")
            else:
                shown.append(f"{verdict.name}: would match, but {self._why_later(verdict)}")
        return shown

    def _why_later(self, verdict: Verdict) -> str:
        first = next(one for one in self.verdicts if one.name == self.chosen)
        if first.priority != verdict.priority:
            return f"{first.name} has priority {first.priority} against {verdict.priority}"
        for field, one, other in zip(FIELDS, first.rank, verdict.rank, strict=True):
            if one != other:
                return f"{first.name} says more about `{field}`"
        return f"{first.name} comes first by its name"


def route(dialplans: Iterable[Matchable], facts: Facts, at: datetime) -> Route:
    """The dialplan for a call that arrives at this moment."""
    verdicts = [_verdict(plan, facts, at) for plan in dialplans]
    verdicts.sort(key=lambda one: (-one.priority, tuple(-figure for figure in one.rank), one.name))
    chosen = next((one.name for one in verdicts if not one.reasons), None)
    return Route(chosen, tuple(verdicts))


def _verdict(plan: Matchable, facts: Facts, at: datetime) -> Verdict:
    match = plan.match
    if match is None:
        return Verdict(plan.name, (), 0, rank(None))
    reasons = tuple(reason for reason in _reasons(plan, match, facts, at) if reason)
    return Verdict(plan.name, reasons, match.priority, rank(match))


def _reasons(plan: Matchable, match: Match, facts: Facts, at: datetime) -> Iterable[str | None]:
    yield _no_number("called", match.called, facts.called)
    yield _no_number("caller", match.caller, facts.caller or ANONYMOUS)
    yield _no_text("domain", match.domain, facts.domain)
    yield _no_trunk(match.trunk, facts)
    yield _no_text("ingress", match.ingress, facts.ingress)
    if match.direction not in (None, facts.direction):
        yield f"direction: {facts.direction!r} is not {match.direction!r}"
    for table, wanted, found in (
        ("headers", match.headers, facts.headers),
        ("parameters", match.parameters, facts.parameters),
    ):
        for name, patterns in wanted.items():
            value = next((text for key, text in found.items() if key.casefold() == name.casefold()), None)
            yield (
                f"{table}.{name}: there is none"
                if value is None
                else _no_text(f"{table}.{name}", patterns, value)
            )
    yield _not_open(plan, match.hours, at)
    yield _not_of_share(match.share, facts)


def _no_number(field: str, patterns: Sequence[str] | None, value: str) -> str | None:
    if patterns is None or any(_glob(number(one)).fullmatch(number(value)) for one in patterns):
        return None
    return f"{field}: {value!r} is not {_either(patterns)}"


def _no_text(field: str, patterns: Sequence[str] | None, value: str) -> str | None:
    if patterns is None or any(_glob(one).fullmatch(value) for one in patterns):
        return None
    return f"{field}: {value!r} is not {_either(patterns)}"


def _no_trunk(patterns: Sequence[str] | None, facts: Facts) -> str | None:
    if patterns is None:
        return None
    address = _address(facts.peer)
    for one in patterns:
        network = _network(one)
        if network is not None and address is not None:
            if address in network:
                return None
        elif _glob(one).fullmatch(facts.trunk):
            return None
    return f"trunk: {facts.trunk or facts.peer!r} is not {_either(patterns)}"


def _not_open(plan: Matchable, wanted: str | Hours | None, at: datetime) -> str | None:
    if wanted is None:
        return None
    if isinstance(wanted, Hours):
        why = wanted.why_not(at, plan.zone)
        return f"hours: {why}" if why else None
    name, closed = hours_name(wanted)
    why = plan.all_hours[name].why_not(at, plan.zone)
    if closed:
        return None if why else f"hours: {name} is open"
    return f"hours: {name}: {why}" if why else None


def hours_name(text: str) -> tuple[str, bool]:
    """The name, and whether they must be closed."""
    return (text[4:].strip(), True) if text.startswith("not ") else (text.strip(), False)


def _not_of_share(share: Share | None, facts: Facts) -> str | None:
    if share is None:
        return None
    key = facts.caller or facts.call_id if share.by == "caller" else facts.call_id
    place = share_of(share.name, number(key))
    first, last = share.bounds
    return (
        None
        if first <= place < last
        else f"share: this {share.by} falls on {place:.1f}, not in {share.percent}"
    )


def share_of(name: str, key: str) -> float:
    """Where a caller falls, 0 to 100: the same in each process and each version."""
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


def _either(patterns: Sequence[str]) -> str:
    shown = [repr(one) for one in patterns[:3]]
    return " or ".join(shown) + (f" or {len(patterns) - 3} more" if len(patterns) > 3 else "")


def number(text: str) -> str:
    """A telephone number without what only helps the eye; anything else as it is, without `sip:`."""
    bare = _ADDRESS.sub("", text.strip())
    plain = _SEPARATORS.sub("", bare)
    return plain if _NUMBER.fullmatch(plain) else bare


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """A star takes the shortest that fits and never reconsiders, so no text can make this slow."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.sub(r"\*+", "*", pattern).split("*"))
    stars = "".join(f"(?>.*?{part})" for part in rest[:-1]) + f".*{rest[-1]}" if rest else ""
    return re.compile(first + stars, re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    for host in (peer, peer.rpartition(":")[0].strip("[]")):
        try:
            return ipaddress.ip_address(host)
        except ValueError:
            continue
    return None


# ------------------------------------------------------------------ specificity


def rank(match: Match | None) -> Rank:
    """A figure a field, in the order of FIELDS: 0 for nothing said, more for more said."""
    if match is None:
        return (0,) * len(FIELDS)
    return (
        _patterns_rank(match.called),
        _patterns_rank(match.caller),
        sum(map(_patterns_rank, match.headers.values())),
        sum(map(_patterns_rank, match.parameters.values())),
        _patterns_rank(match.trunk),
        _patterns_rank(match.domain),
        _patterns_rank(match.ingress),
        int(match.direction is not None),
        int(match.hours is not None),
        int(match.share is not None),
    )


def _patterns_rank(patterns: Sequence[str] | None) -> int:
    """An exact text before any pattern, a longer pattern before a shorter one; of a list the vaguest."""
    return min(map(_pattern_rank, patterns)) if patterns else 0


def _pattern_rank(pattern: str) -> int:
    network = _network(pattern)
    if network is not None and network.num_addresses > 1:
        return 1 + network.prefixlen
    if "*" not in pattern and "?" not in pattern:
        return 1000
    return 1 + len(number(pattern).replace("*", "").replace("?", ""))
