"""What supervisor and worker tell each other: JSON lines on the worker's stdin and stdout."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from telbridge.config import Settings


class WorkerStart(BaseModel):
    """The first line on a worker's stdin. Secrets are references: the worker resolves them itself."""

    settings: Settings
    agent_port: int | None
    """Of the embedded agent on this machine, where it runs."""
    last_good: Path | None = None
    """A folder for the dialplans that were last without a mistake: they stand in when a worker is restarted
    while their folder has some."""
    ticket_key: str | None = None
    """Base64: under it tickets are issued and taken, whichever process did the one or the other."""
    siblings: Path | None = None
    """A folder where the workers find each other; None: this one is alone."""
    number: int = 1
    """Which worker this is."""
    place: int = 0
    """Among its like, from 0 on: its successor after a restart or an upgrade has the same."""
    dispatcher_port: int | None = None
    """On loopback; None: this worker is alone and owns the SIP port."""
