"""Prints how many calls at a time one process of the installed pjsua2 takes."""

from __future__ import annotations

import sys

from telbridge.legs.sip.library import SipUnavailable, load


def main() -> int:
    """1 where there is no pjsua2."""
    try:
        print(load().build.max_calls, flush=True)
    except SipUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0
