"""structlog for everything: one line an event, the figures as fields; nothing private at info."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import structlog

from telbridge import logs
from telbridge.logs import LogLevel

LogFormat = Literal["auto", "console", "json"]

_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    # Local variables are prompts, phone numbers and keys.
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(level: LogLevel, log_format: LogFormat, *, repeats: int = logs.REPEATS, **process: Any) -> None:
    """Log to stderr; `process` fields (role …) stand in every line. `repeats`: `logs.Gate`.

    "auto" is console on a terminal and JSON elsewhere. The standard library's loggers (aiohttp, asyncio) come
    out the same way from warning upwards.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer() if console else _TRACEBACKS,
    ]
    gate = logs.gate(level, repeats)
    structlog.configure(
        processors=[gate, *shared, renderer],
        # The level may change, and loggers that are bound already must follow: so the gate looks at it.
        wrapper_class=_logger_behind(gate),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(gate)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _logger_behind(gate: logs.Gate) -> type:
    """A logger that looks at the gate before it gathers anything for a line at debug: each call has some,
    which nobody hears most of the time."""
    kind: Any = structlog.make_filtering_bound_logger(logging.DEBUG)

    class Logger(kind):  # type: ignore[misc]
        def debug(self, event: str, *args: Any, **fields: Any) -> Any:
            return super().debug(event, *args, **fields) if gate.debugs else None

    return Logger
