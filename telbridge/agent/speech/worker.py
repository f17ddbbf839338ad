"""A process that recognises or synthesises: `python -m telbridge.agent.speech.worker stt|tts SETTINGS`.

Requests come on standard input and answers go to standard output, one at a time, each a frame: two
lengths (network order), a JSON header, a payload. It ends with its standard input, so it cannot outlive
the agent, however that ends.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from telbridge.agent.speech.models import ModelsMissingError
from telbridge.agent.speech.stt import Moonshine
from telbridge.agent.speech.tts import Hibari
from telbridge.audio.formats import PCMU_8K, AudioFormat, Encoding

HEAD: Final = struct.Struct("!II")
Header = dict[str, Any]
Work = Callable[[Header, bytes], tuple[Header, bytes]]


def packed(header: Header, payload: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(header).encode()
    return HEAD.pack(len(text), len(payload)) + text + payload


def _recognition(_: Header) -> Work:
    recognizer = Moonshine()
    recognizer.recognize(b"\0\0" * 8000)  # the first run allocates

    def work(header: Header, payload: bytes) -> tuple[Header, bytes]:
        text, confidence = recognizer.recognize(payload)
        return {"text": text, "confidence": confidence}, b""

    return work


def _synthesis(settings: Header) -> Work:
    synthesizer = Hibari(settings["voice"], settings["level_dbfs"])
    synthesizer.synthesize("Ready.", PCMU_8K)

    def work(header: Header, payload: bytes) -> tuple[Header, bytes]:
        output = AudioFormat(Encoding(header["encoding"]), header["rate_hz"])
        return {}, synthesizer.synthesize(header["text"], output)

    return work


def _serve(requests: BinaryIO, answers: BinaryIO, work: Work) -> None:
    while len(head := requests.read(HEAD.size)) == HEAD.size:
        header_size, payload_size = HEAD.unpack(head)
        header = json.loads(requests.read(header_size))
        payload = requests.read(payload_size)
        try:
            answer = packed(*work(header, payload))
        except Exception as error:  # noqa: BLE001 - one bad piece of work must not end the process
            answer = packed({"error": f"{type(error).__name__}: {error}"})
        answers.write(answer)
        answers.flush()


def main() -> None:
    kind, settings = sys.argv[1], json.loads(sys.argv[2])
    # Native libraries may print: they get stderr, and the answers a descriptor of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        work = {"stt": _recognition, "tts": _synthesis}[kind](settings)
    except ModelsMissingError as error:
        answers.write(packed({"error": str(error)}))
        answers.flush()
        return
    answers.write(packed({"ready": True}))
    answers.flush()
    _serve(sys.stdin.buffer, answers, work)


if __name__ == "__main__":
    main()
