"""Recognition: Moonshine tiny (English) on onnxruntime (MIT; weights of moonshine-voice 0.1.0).

The model takes a whole turn at 16 kHz. Of the levels and lengths of silence behind the turn that were
tried on 169 recorded prompts, -26 dBFS and 400 ms were heard best (3.9 % of the words wrong; 4.4 % with
200 ms).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from telbridge.agent.levels import Samples, to_samples
from telbridge.agent.speech.models import MOONSHINE
from telbridge.audio.resampler import resample

BEAM: Final = 4
SURE: Final = -0.12
"""Confidence of the one best hypothesis above which no others are looked at: the words are the same (169
recorded prompts: 4.2 % WER either way), in little more than half the time."""
TOKENS_PER_SECOND: Final = 6.5  # the model's own bound: more is a loop, not speech
MIN_TOKENS: Final = 4
LENGTH_PENALTY: Final = 0.6  # exponent on the length that a hypothesis' score is divided by
TARGET_RMS: Final = 0.05
TAIL_SAMPLES: Final = 6_400
MIN_SAMPLES: Final = 1_600  # the encoder's convolutions need some input
_BOS, _EOS = 1, 2
_HEADS, _HEAD_SIZE = 8, 36

Ids = npt.NDArray[np.int64]


class Recognition(NamedTuple):
    """What was understood; `confidence` is the mean log-probability of a token (0 is certain)."""

    text: str
    confidence: float


class Recognizer(Protocol):
    def recognize(self, pcm_8k: bytes) -> Recognition:
        """The words of one turn, 16 bit PCM at 8 kHz."""


@dataclass(slots=True)
class _Beam:
    """Hypotheses that still grow, best first."""

    tokens: Ids  # [hypotheses, length]
    scores: Samples  # [hypotheses]


class Moonshine:
    """The recogniser. Not for two threads at once."""

    def __init__(self, folder: Path | None = None) -> None:
        import onnxruntime as ort

        folder = folder or MOONSHINE.folder() / "assets" / "tiny-en"
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._encoder = ort.InferenceSession(str(folder / "encoder_model.ort"), options, providers)
        self._decoder = ort.InferenceSession(str(folder / "decoder_model_merged.ort"), options, providers)
        self._vocabulary = _read_vocabulary((folder / "tokenizer.bin").read_bytes())
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        names = [value.name for value in self._decoder.get_inputs()]
        self._own_cache = [n for n in names if n.startswith("past_") and ".decoder." in n]
        self._encoder_cache = [n for n in names if n.startswith("past_") and ".encoder." in n]

    def recognize(self, pcm_8k: bytes) -> Recognition:
        samples = to_samples(resample(pcm_8k, 8_000, 16_000))
        rms = float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0
        padding = max(TAIL_SAMPLES, MIN_SAMPLES + TAIL_SAMPLES - samples.size)
        samples = np.concatenate([samples * (TARGET_RMS / max(rms, 1e-3)), np.zeros(padding, np.float32)])
        samples = samples.astype(np.float32)[None]
        mask = np.ones(samples.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": samples, "attention_mask": mask})[0]
        first = self._search(hidden, samples.shape[1], 1)
        return first if first.confidence >= SURE else self._search(hidden, samples.shape[1], BEAM)

    def _search(self, hidden: Samples, samples: int, width: int) -> Recognition:
        """The best words, with so many hypotheses at a time."""
        steps = max(MIN_TOKENS, int(samples / 16_000 * TOKENS_PER_SECOND))
        decoding = _Decoding(self, hidden, samples)
        beam = _Beam(np.full((1, 1), _BOS, np.int64), np.zeros(1, np.float32))
        finished: list[tuple[float, Ids, float]] = []  # rank, tokens, sum of log-probabilities
        for _ in range(steps):
            scores = beam.scores[:, None] + _log_softmax(decoding.step(beam.tokens[:, -1:]))
            parents, tokens, best = _best(scores, 2 * width)
            ended = tokens == _EOS
            for parent, score in zip(parents[ended], best[ended], strict=True):
                done = beam.tokens[parent]  # starts with BOS, ends without EOS: as long as its words and EOS
                finished.append((float(score) / len(done) ** LENGTH_PENALTY, done, float(score)))
            if len(finished) >= width:
                break
            kept = np.flatnonzero(~ended)[:width]
            extended = np.concatenate([beam.tokens[parents[kept]], tokens[kept, None]], axis=1)
            beam = _Beam(extended, best[kept])
            decoding.keep(parents[kept])
        if not finished:
            finished = [(0.0, beam.tokens[0], float(beam.scores[0]))]
        _, winner, total = max(finished, key=lambda candidate: candidate[0])
        return Recognition(self._text(winner[1:]), total / len(winner))

    def run_decoder(self, given: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self._outputs, self._decoder.run(None, given), strict=True))

    @property
    def caches(self) -> tuple[list[str], list[str]]:
        """Names of the decoder's memories: of its own tokens, and of the sound."""
        return self._own_cache, self._encoder_cache

    def _text(self, tokens: Ids) -> str:
        octets = b"".join(self._vocabulary[token] for token in tokens)
        return octets.decode("utf-8", "ignore").replace("\u2581", " ").strip()


class _Decoding:
    """One run of the decoder over a growing beam, with its memories."""

    def __init__(self, model: Moonshine, hidden: Samples, samples: int) -> None:
        self._model = model
        self._hidden = hidden
        self._samples = samples
        self._own, self._sound = model.caches
        empty, shape = (
            np.zeros((1, _HEADS, 0, _HEAD_SIZE), np.float32),
            (1, _HEADS, hidden.shape[1], _HEAD_SIZE),
        )
        self._memory: dict[str, Any] = dict.fromkeys(self._own, empty)
        self._memory |= {name: np.zeros(shape, np.float32) for name in self._sound}
        self._first = True

    def step(self, last: Ids) -> Samples:
        """Logits of the token behind `last`, [hypotheses, vocabulary]."""
        width = last.shape[0]
        result = self._model.run_decoder(
            {
                "input_ids": last,
                "encoder_hidden_states": self._widened(self._hidden, width),
                # The graph strides this mask by 384 itself: it is as long as the samples, not as the frames.
                "encoder_attention_mask": np.ones((width, self._samples), np.int64),
                "use_cache_branch": np.array([not self._first]),
                **self._memory,
            }
        )
        names = self._own + self._sound if self._first else self._own
        for name in names:
            self._memory[name] = result[name.replace("past_key_values", "present")]
        self._first = False
        logits: Samples = result["logits"][:, -1]
        return logits

    def keep(self, parents: Ids) -> None:
        """The beam's next hypotheses continue these."""
        for name in self._own:
            self._memory[name] = self._memory[name][parents]
        for name in self._sound:  # the same for all hypotheses: only their number matters
            self._memory[name] = self._widened(self._memory[name][:1], len(parents))

    @staticmethod
    def _widened(value: Samples, width: int) -> Samples:
        return value if value.shape[0] == width else np.repeat(value[:1], width, axis=0)


def _best(scores: Samples, count: int) -> tuple[Ids, Ids, Samples]:
    """The `count` best continuations: their hypothesis, token and score, best first."""
    flat = scores.ravel()
    top = np.argpartition(-flat, count)[:count]
    top = top[np.argsort(-flat[top])]
    return top // scores.shape[1], top % scores.shape[1], flat[top]


def _log_softmax(logits: Samples) -> Samples:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Samples = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _read_vocabulary(content: bytes) -> list[bytes]:
    """Entries behind their length: one octet, or two with the upper bit of the first set (7 + 8 bits)."""
    entries: list[bytes] = []
    position = 0
    while position < len(content):
        length = content[position]
        position += 1
        if length & 0x80:
            length = (length & 0x7F) | content[position] << 7
            position += 1
        entries.append(content[position : position + length])
        position += length
    return entries
