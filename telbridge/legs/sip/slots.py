"""Which call has which of the library's slots.

pjsua uses a slot again as soon as its call is over, and a pjsua2 call that is destroyed hangs up whatever
call has its slot then (pjsip/src/pjsua2/call.cpp, `Call::~Call`): a new caller would hear 603. So an old
call is destroyed only while nobody else has its slot.
"""

from __future__ import annotations


class Slots:
    """By the ids that pjsua gives to calls; owners are known by a key of ours."""

    def __init__(self) -> None:
        self._owners: dict[int, int] = {}
        self._slots: dict[int, int] = {}

    def take(self, slot: int, owner: int) -> None:
        """A call arrived in this slot."""
        self._owners[slot], self._slots[owner] = owner, slot

    def give_back(self, owner: int) -> bool:
        """Whether the call may be destroyed now; if not, ask again later."""
        slot = self._slots.get(owner)
        if slot is not None and self._owners.get(slot) not in (None, owner):
            return False
        if slot is not None:
            self._owners.pop(slot, None)
        self._slots.pop(owner, None)
        return True
