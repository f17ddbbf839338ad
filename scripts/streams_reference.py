"""Writes the table of docs/media-streams.md from the peers themselves; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from telbridge.legs.streams.peers import PEERS

PAGE = Path(__file__).parent.parent / "docs" / "media-streams.md"
BEGIN: Final = "<!-- made by scripts/streams_reference.py -->\n"
END: Final = "<!-- end -->\n"


def page() -> str:
    """The page as it stands, with the table made anew."""
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


def table() -> str:
    """One column a peer."""
    rows = [
        ("audio", lambda peer: ", ".join(map(str, peer.formats))),
        ("messages", lambda peer: peer.messages),
        ("who may connect", lambda peer: peer.authentication),
        ("tells what was heard (marks)", lambda peer: _mark(peer.marks)),
        ("stops at once when interrupted", lambda peer: _mark(peer.clears)),
        ("keys from the caller", lambda peer: _mark(peer.dtmf_in)),
        ("keys to the caller", lambda peer: peer.dtmf_out or "–"),
        ("hanging up", lambda peer: peer.hangs_up),
        ("transfer", lambda peer: peer.transfers or "–"),
    ]
    lines = ["| | " + " | ".join(peer.title for peer in PEERS) + " |", "|---|" + "---|" * len(PEERS)]
    lines += [f"| {name} | " + " | ".join(_cell(read(peer)) for peer in PEERS) + " |" for name, read in rows]
    return "\n".join(lines) + "\n"


def _mark(can: bool) -> str:
    return "✓" if can else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
