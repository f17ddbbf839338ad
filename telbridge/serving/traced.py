"""Traced calls: begun, followed to the servers that their dialplans ask, and sent when they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from telbridge.call.events import CallFacts
from telbridge.call.ports import Outside, OutsideFailed
from telbridge.call.summary import CallSummary
from telbridge.config import ConfigError, ConfigErrors
from telbridge.dialplan.orders import CallHttp, CallPython, CallWebhook
from telbridge.ops.spans import CallTrace, Request, call_without_summary, spans_of
from telbridge.ops.trace_context import TRACEPARENT
from telbridge.serving.tracing_settings import TracingSection

if TYPE_CHECKING:
    from telbridge.ops.tracing import Tracing

log = structlog.get_logger()


class Traces:
    """Of a worker's calls; nothing is imported, and all of it does nothing, where tracing is off."""

    def __init__(self, section: TracingSection) -> None:
        """ConfigErrors for what the SDK does not take."""
        self._tracing = _started(section) if section.enabled else None

    def begin(self, facts: CallFacts) -> CallTrace | None:
        """Of a call that has come."""
        if self._tracing is None:
            return None
        try:
            return self._tracing.begin(facts)
        except Exception:  # A plug-in of the SDK's, say: no call ends for that.
            log.exception("tracing_bug", call_id=facts.call_id)
            return None

    async def send(
        self, trace: CallTrace | None, summary: CallSummary | None, tools: Collection[str]
    ) -> None:
        """`summary`: None for a call that came to nothing. `tools`: those of its dialplan."""
        if self._tracing is None or trace is None or not trace.context.sampled:
            return
        spans = call_without_summary(trace) if summary is None else spans_of(summary, trace, tools)
        try:
            await asyncio.to_thread(self._tracing.send, trace, spans)
        except Exception:  # The call's record is still to be written.
            log.exception("tracing_bug", trace_id=trace.trace_id)

    async def aclose(self) -> None:
        """What waits is sent, within bounds."""
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


def _started(section: TracingSection) -> Tracing:
    from telbridge.ops.tracing import Tracing

    try:
        return Tracing(endpoint=section.endpoint, follow_callers=section.follow_callers)
    except (ValueError, OSError) as fault:
        raise ConfigErrors(
            [ConfigError("settings", "tracing", str(fault), "look at the OTEL_* variables")]
        ) from None


class TracedOutside:
    """Implements `telbridge.call.ports.Outside`: tells who is asked which span asks."""

    def __init__(self, outside: Outside, trace: CallTrace) -> None:
        self._outside, self._trace = outside, trace

    async def webhook(self, order: CallWebhook) -> Any:
        asked = self._trace.ask("webhook", **_where(order.url, "POST"))
        told = replace(order, headers=_with(order.headers, asked.traceparent))
        return await _followed(asked, self._outside.webhook(told))

    async def http(self, order: CallHttp) -> Any:
        asked = self._trace.ask("http", **_where(order.url, order.method))
        told = replace(order, headers=_with(order.headers, asked.traceparent))
        return await _followed(asked, self._outside.http(told))

    async def python(self, order: CallPython) -> Any:
        asked = self._trace.ask("python", **{"code.function.name": order.entry})
        return await _followed(asked, self._outside.python(order), words=lambda _: "it failed")

    async def speech(self, text: str) -> bytes:
        return await self._outside.speech(text)

    def recording(self, file: str) -> bytes:
        return self._outside.recording(file)

    def music(self) -> bytes:
        return self._outside.music()


async def _followed(
    asked: Request, answer: Awaitable[Any], words: Callable[[OutsideFailed], str] = str
) -> Any:
    """`words`: for the span, of a failure. Those of a server name its host and its status at most."""
    error: str | None = "given up"
    try:
        result = await answer
        error = None
    except OutsideFailed as why:
        error = words(why)
        raise
    finally:
        asked.over(error)
    return result


def _with(headers: Mapping[str, str], traceparent: str) -> dict[str, str]:
    others = {name: value for name, value in headers.items() if name.lower() != TRACEPARENT}
    return {**others, TRACEPARENT: traceparent}


def _where(url: str, method: str) -> dict[str, str]:
    """Neither path nor query: they may hold numbers and keys."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return {"http.request.method": method, "server.address": host}
