"""What calls leave behind goes once there is none."""

from __future__ import annotations

import weakref

from telbridge.serving.thrift import give_back


class Ended:
    """As the parts of a call do, it holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_holds_itself_is_let_go() -> None:
    ended = Ended()
    seen = weakref.ref(ended)
    del ended
    give_back()
    assert seen() is None
