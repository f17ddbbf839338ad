"""What a child tells its supervisor of itself, among its other lines."""

from __future__ import annotations

from typing import Final

PULSE: Final = "pulse"
"""An event once a second, as long as the event loop turns."""
HAS_PULSE: Final = "has_pulse"
"""In a ready line: it may be relied on."""
OBEYED: Final = "obeyed"
"""The dispatcher: this `order` to take or to retire a worker holds for all calls that come from now on."""
LAST_PULSE: Final = "last_pulse"
"""No pulse is to be expected from here on: the child ends."""
