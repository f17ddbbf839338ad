"""pjmedia's C functions and structures, as far as the audio needs them, and whether they are what this code
takes them for."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

from telbridge.audio.formats import PCM_8K

FRAME_MS: Final = 20
FRAME_SAMPLES: Final = PCM_8K.rate_hz * FRAME_MS // 1000
FRAME_BYTES: Final = PCM_8K.bytes_for_ms(FRAME_MS)
NONE: Final = 0
AUDIO: Final = 1
"""enum pjmedia_frame_type."""
JB_STATE_WORDS: Final = 32
"""struct pjmedia_jb_state has 15 or 16 of them, by version."""


class Frame(ctypes.Structure):
    """struct pjmedia_frame (pjmedia/frame.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buf", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("timestamp", ctypes.c_uint64),
        ("bit_info", ctypes.c_uint32),
    )


class StillFrame:
    """A frame to be filled and thrown away."""

    def __init__(self) -> None:
        self._audio = (ctypes.c_ubyte * FRAME_BYTES)()
        self._frame = Frame(NONE, ctypes.addressof(self._audio), FRAME_BYTES, 0, 0)

    def reference(self) -> Any:
        self._frame.type, self._frame.size = NONE, FRAME_BYTES
        return ctypes.byref(self._frame)


@cache
def frame_functions(native: ctypes.CDLL) -> tuple[Any, Any]:
    functions = native.pjmedia_port_get_frame, native.pjmedia_port_put_frame
    for function in functions:
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        function.restype = ctypes.c_int
    return functions


class _Text(ctypes.Structure):
    """pj_str_t."""

    _fields_ = (("text", ctypes.c_char_p), ("length", ctypes.c_ssize_t))


@cache
def jitter_buffer_size_at(native: ctypes.CDLL) -> int:
    """Which word of struct pjmedia_jb_state counts the frames in the buffer: versions put different things
    before it. Found with a jitter buffer of our own. RuntimeError or AttributeError if it can't be."""
    pool = _new_pool(native)
    try:
        native.pjmedia_jbuf_create.argtypes = (
            *(ctypes.c_void_p,) * 2,
            *(ctypes.c_uint,) * 3,
            ctypes.c_void_p,
        )
        native.pjmedia_jbuf_put_frame.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int,
        )
        native.pjmedia_jbuf_get_state.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        native.pjmedia_jbuf_destroy.argtypes = (ctypes.c_void_p,)
        name, buffer = _Text(b"check", 5), ctypes.c_void_p()
        if native.pjmedia_jbuf_create(pool, ctypes.byref(name), 161, FRAME_MS, 77, ctypes.byref(buffer)):
            raise RuntimeError("no jitter buffer to be had")
        candidates = set(range(JB_STATE_WORDS))
        state = (ctypes.c_uint * JB_STATE_WORDS)()
        for count in range(1, 12):
            native.pjmedia_jbuf_put_frame(buffer, bytes(161), 161, count)
            native.pjmedia_jbuf_get_state(buffer, ctypes.byref(state))
            candidates = {at for at in candidates if state[at] == count}
        native.pjmedia_jbuf_destroy(buffer)
    finally:
        native.pj_pool_release(pool)
    if len(candidates) != 1:
        raise RuntimeError("struct pjmedia_jb_state is not what this code knows")
    return candidates.pop()


def _new_pool(native: ctypes.CDLL) -> int:
    native.pjsua_pool_create.restype = ctypes.c_void_p
    native.pjsua_pool_create.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t)
    native.pj_pool_release.argtypes = (ctypes.c_void_p,)
    pool: int | None = native.pjsua_pool_create(b"selfcheck", 1000, 1000)
    if not pool:
        raise RuntimeError("no memory pool to be had")
    return pool


def stream_fault(native: ctypes.CDLL) -> str | None:
    """Reads one frame from a null port of pjmedia's into a guarded frame: does the struct lie as we think?"""
    try:
        get, _ = frame_functions(native)
        new_null, destroy = native.pjmedia_null_port_create, native.pjmedia_port_destroy
        jitter_buffer_size_at(native)
        pool = _new_pool(native)
    except (AttributeError, RuntimeError) as error:
        return str(error)
    new_null.argtypes = (ctypes.c_void_p, *[ctypes.c_uint] * 4, ctypes.c_void_p)
    destroy.argtypes = (ctypes.c_void_p,)
    port = ctypes.c_void_p()
    if new_null(pool, PCM_8K.rate_hz, 1, FRAME_SAMPLES, 16, ctypes.byref(port)):
        return "no null port to be had"
    guard = 64
    memory = (ctypes.c_ubyte * (ctypes.sizeof(Frame) + guard)).from_buffer_copy(
        b"\x5a" * (ctypes.sizeof(Frame) + guard)
    )
    frame = Frame.from_buffer(memory)
    audio = (ctypes.c_ubyte * (FRAME_BYTES + guard)).from_buffer_copy(b"\x5a" * (FRAME_BYTES + guard))
    frame.type, frame.buf, frame.size, frame.timestamp = NONE, ctypes.addressof(audio), FRAME_BYTES, 1000
    status = get(port, ctypes.byref(frame))
    destroy(port)
    native.pj_pool_release(pool)
    sane = (
        status == 0
        and (frame.type, frame.size, frame.timestamp) == (AUDIO, FRAME_BYTES, 1000 + FRAME_SAMPLES)
        and bytes(audio) == bytes(FRAME_BYTES) + b"\x5a" * guard
        and bytes(memory)[ctypes.sizeof(Frame) :] == b"\x5a" * guard
    )
    return None if sane else "struct pjmedia_frame is not what this code knows"
