"""A key changes the running session: from the key on the wire to the update at the agent.

The clock starts when the last packet of the telephone-event leaves the caller (RFC 4733 §2.5.1.4: its end is
sent three times), so the key's own length does not count, and stops when the agent has read the message.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.figures import Figure, at_most, percentile, told
from bench.phone import SETTLE_S
from bench.processes import BUILDS, Build, bridge_to
from bench.scripted_agent import ScriptedAgent, Session, conversation, scripted_agent
from telbridge.caller import Softphone
from telbridge.caller.handle import CallHandle

UPDATE_P95_MS: Final = 40.0
CALLS: Final = 4
PRESSES: Final = 25
KEY_MS, GAP_MS = 100, 60
_DIALPLAN: Final = "".join(
    f'keys.{key} = {{ update.instructions = "The caller pressed {key}." }}\n' for key in "123456789"
)


async def measure() -> list[Figure]:
    figures: list[Figure] = []
    async with scripted_agent() as agent:
        for build in BUILDS:
            figures += await _measure_build(agent, build)
    return figures


async def _measure_build(agent: ScriptedAgent, build: Build) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="telbridge-bench-") as folder:
        plan = _written(Path(folder, "keys.toml"))
        async with (
            bridge_to(build, agent.url, dialplan=plan) as bridge,
            Softphone() as phone,
            AsyncExitStack() as stack,
        ):
            talks = [
                await stack.enter_async_context(conversation(phone, bridge.uri, agent)) for _ in range(CALLS)
            ]
            await asyncio.sleep(SETTLE_S)
            rows = await asyncio.gather(*(_row(call, session) for call, session in talks))
    delays = [delay_ms for row in rows for delay_ms in row]
    name = f"keys, {build}, {CALLS} calls"
    return [
        at_most(f"{name}: key to update p95 of {len(delays)}", percentile(delays, 95), UPDATE_P95_MS, "ms"),
        told(f"{name}: key to update p50", percentile(delays, 50), "ms"),
        told(f"{name}: key to update, longest", max(delays), "ms"),
    ]


def _written(plan: Path) -> Path:
    plan.write_text(_DIALPLAN, "utf-8")
    return plan


async def _row(call: CallHandle, session: Session) -> list[float]:
    delays = []
    await session.updates.get()  # The session as it was opened.
    for number in range(PRESSES):
        key = str(1 + number % 9)
        played = await call.dtmf(key, duration_ms=KEY_MS, gap_ms=GAP_MS)
        at_ns, wanted = await asyncio.wait_for(session.updates.get(), 5)
        assert f"pressed {key}." in wanted["instructions"], wanted
        assert played.last_ns is not None
        delays.append((at_ns - played.last_ns) / 1e6)
    return delays
