"""`telbridge demo`."""

from __future__ import annotations


def demo() -> None:
    """Start a bridge and its embedded agent on free ports, phone it, talk, and print what was said and when.

    Nothing is left behind. Takes less than a minute.
    """
    # Here, not above: `telbridge serve` must not load a softphone.
    from telbridge.cli.demonstration import run

    run()
