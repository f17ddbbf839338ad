"""What supervisor and worker tell each other: JSON lines on the worker's stdin and stdout."""

from __future__ import annotations

from pydantic import BaseModel

from telbridge.config import Settings


class WorkerStart(BaseModel):
    """The first line on a worker's stdin. Secrets are references: the worker resolves them itself."""

    settings: Settings
    agent_port: int | None
    """Of the embedded agent on this machine, where it runs."""
    number: int = 1
    """Which worker this is. The first has the public HTTP port."""
    dispatcher_port: int | None = None
    """On loopback; None: this worker is alone and owns the SIP port."""
