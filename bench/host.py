"""What the machine's host takes from us: for how long a loop that only looks at the clock stands still.

`python -m bench.host [SECONDS]`: a loop on each core, and how much the worst of them missed. Steal time in
/proc/stat says the same only where the host tells it: it was 0 while half of each core was gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Final

SECONDS: Final = 1.0
STILL_S: Final = 0.0003
"""A turn of the loop takes less than a microsecond; what the kernel itself does in between, some ten."""


def stood_still_percent(seconds: float) -> float:
    """Of a loop on the core on which we are. It keeps the core busy."""
    still_s, last = 0.0, time.monotonic()
    end = last + seconds
    while last < end:
        now = time.monotonic()
        if now - last > STILL_S:
            still_s += now - last
        last = now
    return 100 * still_s / seconds


async def most_percent(seconds: float = SECONDS) -> float:
    """Of the core that missed most, all being busy."""
    loops = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.host", str(seconds), str(core), stdout=asyncio.subprocess.PIPE
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    said = await asyncio.gather(*(loop.communicate() for loop in loops))
    return max(float(out) for out, _ in said)


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
        print(stood_still_percent(seconds))
    else:
        print(f"{asyncio.run(most_percent(seconds)):.1f} % of the time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
