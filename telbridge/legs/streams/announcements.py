"""What is known of a call before its stream comes, for peers whose streams carry nothing but an id. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

VALID_S: Final = 60
"""From the announcement to the stream: a dialplan connects at once."""
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Announcement:
    """A call to come."""

    caller: str = ""
    called: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


class Announcements:
    """Each is good for one stream."""

    def __init__(self, *, valid_s: int = VALID_S) -> None:
        self._valid_ns = valid_s * 1_000_000_000
        self._known: OrderedDict[str, tuple[int, Announcement]] = OrderedDict()

    def __len__(self) -> int:
        """Those that have not been taken."""
        return len(self._known)

    def put(self, uuid: str, announcement: Announcement, now_ns: int) -> None:
        """`uuid` in its usual writing, lower case. A second one of the same UUID replaces the first."""
        self._known.pop(uuid, None)
        self._known[uuid] = now_ns + self._valid_ns, announcement
        while len(self._known) > MOST or next(iter(self._known.values()))[0] <= now_ns:
            self._known.popitem(last=False)

    def take(self, uuid: str, now_ns: int) -> Announcement | None:
        """None if there is none, or if it has expired."""
        expires_ns, announcement = self._known.pop(uuid, (0, None))
        return announcement if now_ns < expires_ns else None
