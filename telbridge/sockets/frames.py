"""The frames of a WebSocket's peer, octets to messages (RFC 6455 §5). Pure.

Nearly every read of a live call holds one whole frame: that way is short (`whole`).
"""

from __future__ import annotations

from typing import Final

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType

# Private to aiohttp, whose C it is: Python itself has nothing that is a quarter as fast.
from aiohttp._websocket.helpers import websocket_mask

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_MOST_CONTROL: Final = 125
_WHOLE_TEXT: Final = _FIN | WSMsgType.TEXT
_WHOLE_BINARY: Final = _FIN | WSMsgType.BINARY
_OPCODES: Final = {int(kind): kind for kind in WSMsgType if 0 <= kind <= WSMsgType.PONG}


def masked_frame(opcode: int, message: bytes, key: bytes) -> bytes:
    """One unfragmented frame of a client (§5.2); `key`: four octets that nobody can foretell (§5.3)."""
    size = len(message)
    if size < 126:
        head = bytes((_FIN | opcode, _MASKED | size))
    elif size < 65_536:
        head = bytes((_FIN | opcode, _MASKED | 126, size >> 8, size & 0xFF))
    else:
        head = bytes((_FIN | opcode, _MASKED | 127)) + size.to_bytes(8, "big")
    payload = bytearray(message)
    websocket_mask(key, payload)
    return b"".join((head, key, payload))


class FrameReader:
    """One connection's. After a fault nothing more is read."""

    def __init__(self, max_octets: int, *, masked: bool = False) -> None:
        """`max_octets`: of a message; a longer one is a fault. `masked`: the peer is a client, whose frames
        are masked, as a server's never are (§5.1)."""
        self._max = max_octets
        self._mask_bit = _MASKED if masked else 0
        self._rest = bytearray()
        self._kind: WSMsgType | None = None
        """Of the message whose parts are coming."""
        self._parts = bytearray()
        self._broken = False

    def whole(self, data: bytes) -> str | bytes | None:
        """The message, if these octets are one whole frame of data and nothing else. None: they are for
        `feed`, nothing was taken of them."""
        if len(data) < 4 or self._rest or self._kind is not None or self._broken:
            return None
        first = data[0]
        if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
            return None
        size, start = data[1] ^ self._mask_bit, 2
        if size == _MOST_CONTROL + 1:
            size, start = data[2] << 8 | data[3], 4
        elif size > _MOST_CONTROL:
            return None
        payload: bytes | bytearray
        if self._mask_bit:
            if len(data) != start + 4 + size:
                return None
            payload = bytearray(data[start + 4 :])
            websocket_mask(data[start : start + 4], payload)
        elif len(data) != start + size:
            return None
        else:
            payload = data[start:]
        if first == _WHOLE_BINARY:
            return bytes(payload)
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return None

    def feed(self, data: bytes) -> list[WSMessage]:
        """The messages that these octets complete, whole and in order.

        Text comes as `str`, a close frame with its code (1005 for none) and reason. The last may be ERROR
        with a WebSocketError: the peer broke the protocol.
        """
        if self._broken:
            return []
        self._rest += data
        messages: list[WSMessage] = []
        at = 0
        try:
            while (found := self._frame(at)) is not None:
                first, payload, at = found
                self._take(first, payload, messages)
        except WebSocketError as fault:
            messages.append(self._fault(fault.code, str(fault)))
            return messages
        del self._rest[:at]
        return messages

    def _fault(self, code: int, what: str) -> WSMessage:
        self._broken = True
        self._rest.clear()
        self._parts.clear()
        return WSMessage(WSMsgType.ERROR, WebSocketError(code, what), None)

    def _frame(self, at: int) -> tuple[int, bytes, int] | None:
        """First octet, payload and end of the frame that begins at `at`; None until it is whole."""
        rest = self._rest
        if len(rest) < at + 2:
            return None
        first, size, start = rest[at], rest[at + 1], at + 2
        if first & _RESERVED or size & _MASKED != self._mask_bit:
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "reserved bits, or masked where it must not be")
        size &= ~_MASKED
        if first & _CONTROL and (size > _MOST_CONTROL or not first & _FIN):
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "control frame too long or in parts")
        if size > _MOST_CONTROL:
            octets = 2 if size == _MOST_CONTROL + 1 else 8
            if len(rest) < start + octets:
                return None
            size, start = int.from_bytes(rest[start : start + octets], "big"), start + octets
        if size + len(self._parts) > self._max:
            raise WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, f"message of more than {self._max} octets")
        key_at, start = start, start + (4 if self._mask_bit else 0)
        end = start + size
        if len(rest) < end:
            return None
        payload = rest[start:end]
        if self._mask_bit:
            websocket_mask(bytes(rest[key_at:start]), payload)
        return first, bytes(payload), end

    def _take(self, first: int, payload: bytes, messages: list[WSMessage]) -> None:
        kind = _OPCODES.get(first & 0x0F)
        if kind is None:
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "unknown opcode")
        if kind is WSMsgType.CLOSE:
            messages.append(_close(payload))
        elif kind & _CONTROL:
            messages.append(WSMessage(kind, payload, None))
        else:
            self._take_part(kind, first & _FIN, payload, messages)

    def _take_part(self, kind: WSMsgType, fin: int, payload: bytes, messages: list[WSMessage]) -> None:
        if (kind is WSMsgType.CONTINUATION) is (self._kind is None):
            raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "parts of messages out of order")
        if self._kind is None:
            self._kind = kind
        if not fin:
            self._parts += payload
            return
        if self._parts:
            payload = bytes(self._parts) + payload
            self._parts.clear()
        kind, self._kind = self._kind, None
        messages.append(_data(kind, payload))


def _data(kind: WSMsgType, payload: bytes) -> WSMessage:
    if kind is WSMsgType.BINARY:
        return WSMessage(kind, payload, None)
    try:
        return WSMessage(kind, payload.decode(), None)
    except UnicodeDecodeError:
        raise WebSocketError(WSCloseCode.INVALID_TEXT, "text is not UTF-8") from None


def _close(payload: bytes) -> WSMessage:
    if not payload:
        return WSMessage(WSMsgType.CLOSE, 1005, "")
    if len(payload) == 1:
        raise WebSocketError(WSCloseCode.PROTOCOL_ERROR, "close frame of one octet")
    reason = payload[2:].decode("utf-8", "replace")
    return WSMessage(WSMsgType.CLOSE, int.from_bytes(payload[:2], "big"), reason)
