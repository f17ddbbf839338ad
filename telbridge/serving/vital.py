"""What a child tells its supervisor of itself, among its other lines."""

from __future__ import annotations

from typing import Final

PULSE: Final = "pulse"
"""An event once a second, as long as the event loop turns."""
HAS_PULSE: Final = "has_pulse"
"""In a ready line: it may be relied on."""
RETIRED: Final = "retired"
"""The dispatcher: this worker gets no call any more, but for what is on its way."""
LAST_PULSE: Final = "last_pulse"
"""No pulse is to be expected from here on: the child ends."""
