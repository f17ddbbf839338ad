"""`python -m telbridge.agent`: run the embedded agent.

One JSON line on stdout says that it can serve, `{"event":"ready","port":…}`; everything else goes to
stderr. It ends on SIGTERM or SIGINT, and with `--exit-with-parent` when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import structlog
from pydantic import ValidationError

from telbridge import logs
from telbridge.agent.facades.openai.door import PATH
from telbridge.agent.server import run_agent
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.models import ModelsMissingError
from telbridge.agent.toml_file import ScriptError
from telbridge.logs import LogLevel

EXIT_USAGE: Final = 2
_CHAT: Final = "chat_"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a clean end, 2 for what the operator has to mend."""
    options = vars(_parser().parse_args(arguments))
    exit_with_parent = options.pop("exit_with_parent")
    _log_to_stderr(options.pop("log_level"), options.pop("log_repeats"))
    try:
        settings = _settings(options)
        _loop_runner(_run(settings, exit_with_parent))
    except (ValidationError, ScriptError, ModelsMissingError, ValueError, OSError) as error:
        for line in _lines(error):
            print(f"telbridge agent: {line}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="telbridge.agent", description=__doc__)
    fields = AgentSettings.model_fields
    parser.add_argument("--settings", metavar="JSON", help="all settings at once; other options go over it")
    parser.add_argument("--host", help=fields["host"].description)
    parser.add_argument("--port", type=int, help=fields["port"].description)
    parser.add_argument("--brain", choices=("receptionist", "echo", "script", "chat"))
    parser.add_argument("--script", metavar="FILE.toml", help=fields["script"].description)
    parser.add_argument("--voice", help=fields["voice"].description)
    parser.add_argument("--end-of-turn-ms", type=int, help=fields["end_of_turn_ms"].description)
    parser.add_argument("--stt-workers", type=int, help=fields["stt_workers"].description)
    parser.add_argument("--tts-workers", type=int, help=fields["tts_workers"].description)
    parser.add_argument("--chat-url", metavar="URL")
    parser.add_argument("--chat-model", metavar="NAME")
    parser.add_argument("--chat-key-env", metavar="NAME")
    parser.add_argument("--key-env", metavar="NAME", help=fields["key_env"].description)
    parser.add_argument("--max-session-s", type=float, help=fields["max_session_s"].description)
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log-repeats", type=int, metavar="N", default=logs.REPEATS)
    return parser


def _settings(options: dict[str, Any]) -> AgentSettings:
    content: dict[str, Any] = json.loads(options.pop("settings") or "{}")
    for name, value in options.items():
        if value is None:
            continue
        if name.startswith(_CHAT):
            content.setdefault("chat", {})[name.removeprefix(_CHAT)] = value
        else:
            content[name] = value
    return AgentSettings.model_validate(content)


def _lines(error: Exception) -> list[str]:
    if isinstance(error, ValidationError):
        faults = error.errors(include_url=False)
        return [
            f"{'.'.join(map(str, f['loc'])) or 'settings'}: {f['msg'].removeprefix('Value error, ')}"
            for f in faults
        ]
    return error.lines if isinstance(error, ScriptError | ModelsMissingError) else [str(error)]


def _log_to_stderr(level: LogLevel, repeats: int) -> None:
    structlog.configure(
        processors=[
            logs.gate(level, repeats),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),  # The gate looks at the level.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _loop_runner(work: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


async def _run(settings: AgentSettings, exit_with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if exit_with_parent:
        loop.add_reader(sys.stdin.fileno(), _parent_said_something, loop, stop, bytearray())

    def ready(port: int) -> None:
        gc.collect()
        gc.freeze()  # Or a collection of garbage holds up all sessions by all that is loaded.
        facts = {"event": "ready", "port": port, "host": settings.host, "path": PATH}
        print(json.dumps({**facts, "brain": settings.brain, "pid": os.getpid()}), flush=True)

    await run_agent(settings, ready=ready, stop=stop)


def _parent_said_something(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, heard: bytearray) -> None:
    """Lines of JSON; its end is ours. `heard`: what came of a line that is not whole."""
    if not (came := os.read(sys.stdin.fileno(), 4096)):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()
        return
    heard += came
    *lines, rest = heard.split(b"\n")
    heard[:] = rest
    for line in lines:
        logs.change_level(json.loads(line)["log_level"])


if __name__ == "__main__":
    sys.exit(main())
