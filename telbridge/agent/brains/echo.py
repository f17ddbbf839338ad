"""The brain that gives back what it hears: the far end of load tests.

Payloads go back in the base64 they came in, undecoded, one delta for each append, inside one response
that never ends. Only if the client chose different formats for its two directions is anything computed.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final

from telbridge.agent.events import (
    AudioIn,
    AudioText,
    BrainEvent,
    Configured,
    Line,
    ReplyCancelled,
    ReplyId,
    ReplyRequested,
)
from telbridge.audio.transcoder import Transcoder

_NO_REPLY: Final = ReplyId("")


class EchoBrain:
    """Echo of one session."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._reply = _NO_REPLY
        self._transcoder: Transcoder | None = None

    def receive(self, event: BrainEvent, now_ns: int) -> None:
        if type(event) is AudioText:  # hot path: a plain test costs a third of a class pattern
            self._echo(event.base64_text)
            return
        match event:
            case Configured():
                same = event.input == event.output
                self._transcoder = None if same else Transcoder(event.input, event.output)
            case ReplyRequested(reply):
                self._requested(reply)
            case ReplyCancelled(reply):
                self._reply = _NO_REPLY if reply == self._reply else self._reply
            case AudioIn(payload):
                self._echo_octets(payload)
            case _:
                pass

    def _echo_octets(self, payload: bytes) -> None:
        """Of a protocol that carries audio in binary frames."""
        if not self._reply:
            self._reply = self._line.begin_reply() or _NO_REPLY
        self._line.audio(self._reply, self._transcoder.convert(payload) if self._transcoder else payload)

    def _echo(self, base64_text: str) -> None:
        if not self._reply:
            self._reply = self._line.begin_reply() or _NO_REPLY
        if self._transcoder is None:
            self._line.audio_text(self._reply, base64_text)
            return
        try:
            payload = a2b_base64(base64_text)
        except Base64Error:
            return
        self._line.audio(self._reply, self._transcoder.convert(payload))

    def _requested(self, reply: ReplyId) -> None:
        # A greeting that is asked for becomes the running reply; one out of band has nothing to say.
        if self._reply:
            self._line.end_reply(reply)
        else:
            self._reply = reply
