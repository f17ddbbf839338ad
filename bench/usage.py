"""What the processes of a bridge take: memory, files, sockets, threads; and which of them owns a port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import stat_of
from tests.e2e.bridge import Bridge

_PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def named(bridge: Bridge) -> dict[str, int]:
    """The pid of each process by its name, as the log tells of starts (`child_started`, `child_restarted`).
    The supervisor is one of them."""
    found = {"supervisor": bridge.process.pid}
    for line in bridge.log:
        if line.get("event") in ("child_started", "child_restarted"):
            found[str(line["child"])] = int(line["pid"])
    return found


def workers(bridge: Bridge) -> dict[str, int]:
    """Those that carry calls."""
    return {name: pid for name, pid in named(bridge).items() if name.partition(" ")[0] == "worker"}


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process now."""

    memory_mb: float
    """Resident set size, which costs the process nothing to be asked for; what is shared counts whole."""
    threads: int
    files: int
    sockets: int
    """Of these files."""

    @classmethod
    def of(cls, pid: int) -> Usage:
        """OSError if it is gone."""
        files = sockets = 0
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(file.readlink())
            except OSError:  # closed meanwhile
                continue
            files += 1
            sockets += target.startswith("socket:")
        pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
        return cls(pages * _PAGE_MB, int(stat_of(pid)[17]), files, sockets)

    def fields(self) -> Mapping[str, float]:
        return {
            "memory_mb": self.memory_mb,
            "threads": self.threads,
            "files": self.files,
            "sockets": self.sockets,
        }


def memory_mb(pid: int) -> float:
    """PSS; RSS where the kernel does not tell. It holds the process up for some ms: never while measuring."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except PermissionError:
        pass
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has no memory: it is over")


def owner_of_udp(port: int, pids: Mapping[str, int]) -> str | None:
    """Which of these processes has this UDP port."""
    inodes = set()
    for line in Path("/proc/net/udp").read_text("utf-8").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for name, pid in pids.items():
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(file.readlink()) in inodes:
                    return name
            except OSError:
                continue
    return None
