"""What the workers are to be, by the settings and the code of now: a job of a nursery, for an upgrade.

It prints one JSON line, a `Plan` or `{"error": …}`. The supervisor may be older than this code, so it only
passes on what stands there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from telbridge import __version__
from telbridge.config import ConfigErrors, Settings, load
from telbridge.dialplan.mistakes import DialplanErrors
from telbridge.legs.sip import library
from telbridge.legs.sip.library import SipUnavailable
from telbridge.legs.sip.settings import SipSettings
from telbridge.serving.agent_apis import AgentApis
from telbridge.serving.dialplans import as_config_errors, read, uses_local_agent
from telbridge.serving.shares import shares


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything in it is JSON."""

    version: str
    """Of the code that made it."""
    settings: Mapping[str, Any]
    """As they were written, without defaults."""
    all_settings: Mapping[str, Any]
    """With them."""
    parts: Sequence[Mapping[str, Any]]
    """[sip], for each worker."""
    local: bool
    """Whether a call may be given to the embedded agent."""


def plan(settings: Settings, parts: Sequence[SipSettings], *, local: bool) -> Plan:
    """Secrets are references in it."""
    return Plan(
        __version__,
        settings.model_dump(mode="json", exclude_unset=True),
        settings.model_dump(mode="json"),
        [part.model_dump(mode="json", exclude_unset=True) for part in parts],
        local,
    )


def main() -> int:
    """`sys.argv`: the settings file, if there is one."""
    config = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        print(json.dumps(asdict(_plan(load(config)))), flush=True)
    except (ConfigErrors, SipUnavailable) as error:
        print(json.dumps({"error": str(error)}), flush=True)
    return 0


def _plan(settings: Settings) -> Plan:
    if settings.dialplans.folder is not None:
        try:
            read(settings.dialplans.folder, AgentApis(settings))
        except DialplanErrors as errors:
            raise as_config_errors(errors) from None
    cap = library.load().build.max_calls
    parts = shares(settings.sip, cap, os.cpu_count() or 1)
    return plan(settings, parts, local=uses_local_agent(settings))
