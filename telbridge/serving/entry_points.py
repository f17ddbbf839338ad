"""Python tools: functions of the user's own, called so that they cannot hold up or break a call."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from telbridge.call.ports import OutsideFailed
from telbridge.dialplan.orders import CallPython

log = structlog.get_logger()

LARGEST: Final = 64 * 1024
"""Characters of a result, as JSON."""
MOST_THREADS: Final = 32
"""Plain functions at one time; those that never return count until the process ends."""
Function = Callable[..., Any]


class NoSuchFunction(Exception):
    """An entry point that leads nowhere, in words for people."""


class EntryPoints:
    """Resolves "package.module:function" once and calls it."""

    def __init__(self) -> None:
        self._known: dict[str, Function] = {}
        self._threads = 0

    async def call(self, order: CallPython) -> Any:
        """What it returned, as JSON has it: a coroutine function on the event loop, any other in a thread.
        OutsideFailed with the name of the exception's type: its text may hold what nobody may read."""
        try:
            return await self._within(order)
        except TimeoutError:
            raise OutsideFailed(f"{order.entry}: took longer than {order.timeout_s:g} s") from None
        except OutsideFailed:
            raise
        except NoSuchFunction as fault:
            raise OutsideFailed(f"{order.entry}: {fault}") from None
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - code of others
            log.warning("tool_failed", entry=order.entry, error=type(fault).__name__, at=_place(fault))
            raise OutsideFailed(f"{order.entry}: {type(fault).__name__}") from None

    async def _within(self, order: CallPython) -> Any:
        loop = asyncio.get_running_loop()
        until = loop.time() + order.timeout_s
        function = self._known.get(order.entry)
        if function is None:
            # Importing may read a lot: not on the event loop.
            found = await self._in_thread(lambda: resolved(order.entry), order.timeout_s)
            function = self._known.setdefault(order.entry, found)
        left_s = max(0.0, until - loop.time())
        if inspect.iscoroutinefunction(function):
            return _bounded(await _awaited(function(**order.arguments), left_s), order.entry)
        return await self._in_thread(lambda: _called(function, order.arguments, order.entry), left_s)

    async def _in_thread(self, work: Callable[[], Any], limit_s: float) -> Any:
        """In a thread of its own, which ends with the process at the latest."""
        if self._threads >= MOST_THREADS:
            raise OutsideFailed(f"{MOST_THREADS} Python tools are running already")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()

        def done(value: Any, fault: BaseException | None) -> None:
            self._threads -= 1
            if result.done():
                return
            if fault is None:
                result.set_result(value)
            else:
                result.set_exception(_carried(fault))

        def run() -> None:
            value, fault = None, None
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - of others; it is told to who waits
                fault = error
            try:
                loop.call_soon_threadsafe(done, value, fault)
            except RuntimeError:
                pass  # The loop is gone, and with it whoever waited.

        self._threads += 1
        threading.Thread(target=run, name="telbridge-tool", daemon=True).start()
        return await asyncio.wait_for(result, limit_s)


def resolved(entry: str) -> Function:
    """The function of "package.module:function", found as Python finds modules, and in the working folder.
    NoSuchFunction, and whatever the module raises when it is imported."""
    module, _, name = entry.partition(":")
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise NoSuchFunction(f"there is no module {missing.name}") from None
    function = getattr(found, name, None)
    if not callable(function):
        raise NoSuchFunction(f"{module} has no function {name}")
    return function  # type: ignore[no-any-return]  # callable(…) is all that can be known


async def _awaited(work: Coroutine[Any, Any, Any], limit_s: float) -> Any:
    """Given up at the limit even if it does not let itself be cancelled."""
    task = asyncio.create_task(_walled(work))
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


async def _walled(work: Coroutine[Any, Any, Any]) -> Any:
    """`sys.exit` in a task would end the process."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt, TimeoutError) as fault:
        raise _carried(fault) from None


def _carried(fault: BaseException) -> BaseException:
    """As somebody else can raise it: a future holds no StopIteration, SystemExit would end the loop, and a
    tool's own TimeoutError is not ours."""
    if isinstance(fault, Exception) and not isinstance(fault, StopIteration | TimeoutError):
        return fault
    return OutsideFailed(f"a Python tool ended with {type(fault).__name__}")


def _called(function: Function, arguments: Mapping[str, Any], entry: str) -> Any:
    return _bounded(function(**arguments), entry)


def _bounded(result: Any, entry: str) -> Any:
    """As JSON would bring it back."""
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise OutsideFailed(
            f"{entry}: returned what JSON has no form for ({type(result).__name__})"
        ) from None
    if len(text) > LARGEST:
        raise OutsideFailed(f"{entry}: returned more than {LARGEST // 1024} kB")
    return json.loads(text)


def _place(fault: BaseException) -> str:
    """Where in the user's code, for the log."""
    frames = traceback.extract_tb(fault.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
