"""The W3C trace context of a call: who began the trace, and what its own spans are known by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from telbridge.call.events import CallFacts

TRACEPARENT: Final = "traceparent"
_SAMPLED: Final = 1
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span, as others are told of it."""

    trace_id: int
    span_id: int
    sampled: bool

    @property
    def header(self) -> str:
        """The value of `traceparent` (W3C Trace Context §3.2, version 00)."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parsed(header: str) -> TraceContext | None:
    """What a `traceparent` says; None for what is none (W3C Trace Context §3.2.2: small hexadecimal digits,
    no id of zeros, version ff is none, version 00 has nothing behind its flags, a higher one may)."""
    found = _FORM.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))


def carried(facts: CallFacts) -> TraceContext | None:
    """The trace that a call comes with: a header of its INVITE, upgrade or webhook, or a parameter of its
    stream."""
    for told in (facts.headers, facts.parameters):
        if (header := _value(told)) is not None:
            return parsed(header)
    return None


def _value(told: Mapping[str, str]) -> str | None:
    return next((value for name, value in told.items() if name.lower() == TRACEPARENT), None)
