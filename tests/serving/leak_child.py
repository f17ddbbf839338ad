"""200 calls in one process, worker, agent and caller together, and what is left of them afterwards.

Run by test_leaks.py as a process of its own: pjsua's state is global. Prints two JSON lines.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.caller.softphone import Softphone
from telbridge.config import Settings
from telbridge.legs.sip.throttle import INVITES, WINDOW_NS
from telbridge.ops import logging
from telbridge.serving.messages import WorkerStart
from telbridge.serving.worker import Worker
from tests.ports import free_port

WATCHED = ("telbridge.call.", "telbridge.sessions", "telbridge.legs", "pjsua2", "aiohttp.client_ws")
AT_A_TIME = 4
BATCH_S = 1.1 * AT_A_TIME / INVITES * WINDOW_NS / 1e9
"""A fast machine would place more calls a second than the wheel admits, and rightly get 503s."""


def count() -> dict[str, int]:
    """Everything that a call makes and must not leave behind."""
    gc.collect()
    kinds = Counter(
        f"{type(thing).__module__}.{type(thing).__name__}"
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(WATCHED)
    )
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "native_threads": len(list(Path("/proc/self/task").iterdir())),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        **kinds,
    }


async def calls(phone: Softphone, port: int, number: int) -> None:
    """So many calls, a few at a time: each is answered, hears something, and hangs up."""
    for _ in range(number // AT_A_TIME):
        await asyncio.gather(asyncio.sleep(BATCH_S), batch(phone, port))


async def batch(phone: Softphone, port: int) -> None:
    handles = [await phone.call(f"sip:x@127.0.0.1:{port}") for _ in range(AT_A_TIME)]
    for handle in handles:
        await handle.wait_answered(10)
    for handle in handles:
        await handle.play(bytes(640))
        await handle.hang_up()


async def until_idle(worker: Worker) -> None:
    """The last call has written its record, and pjsua has let go of its transactions' media."""
    await asyncio.wait_for(worker.idle.wait(), 30)
    await asyncio.sleep(1)


async def main(records: Path) -> None:
    port = free_port()
    settings = Settings.model_validate(
        {
            "sip": {"host": "127.0.0.1", "port": port},
            "records": {"path": records},
            "call": {"greeting": ""},
        }
    )
    logging.configure("error", "json")
    # A pool that grows when two records happen to be written at once is no leak.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with serve(AgentSettings(brain="echo")) as agent_port:
        start = WorkerStart(settings=settings, agent_port=agent_port)
        stop, hurry = asyncio.Event(), asyncio.Event()
        worker = Worker(start)
        running = asyncio.create_task(worker.run(stop, hurry))
        await asyncio.wait_for(worker.serving.wait(), 30)
        async with Softphone("127.0.0.1", keep_packets=False) as phone:
            await calls(phone, port, 20)
            await until_idle(worker)
            print(json.dumps(count()), flush=True)
            await calls(phone, port, 200)
            await until_idle(worker)
            print(json.dumps(count()), flush=True)
        stop.set()
        await running


if __name__ == "__main__":
    file = Path(sys.argv[1])
    asyncio.run(main(file))
    assert len(file.read_text("utf-8").splitlines()) == 220
