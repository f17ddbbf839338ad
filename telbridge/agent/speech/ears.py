"""Caller audio of one session to turns: decode, judge each hop, keep what a turn may need."""

from __future__ import annotations

from typing import Final

from telbridge.agent.events import TurnDetection
from telbridge.agent.levels import Samples, rms_dbfs, to_samples
from telbridge.agent.settings import AgentSettings
from telbridge.agent.speech.echo import OBSERVED_SAMPLES, EchoJudge, Playout
from telbridge.agent.speech.turn import (
    MAX_TURN_MS,
    RATE_HZ,
    Hop,
    TurnEvent,
    TurnMachine,
    TurnRules,
)
from telbridge.agent.speech.vad import HOP_SAMPLES, Vad
from telbridge.audio.formats import PCM_8K, AudioFormat
from telbridge.audio.transcoder import Transcoder

QUIET_DBFS: Final = -55.0
"""Below this there is nobody on the line, whatever the detector thinks it hears."""
AFTER_MS: Final = 100
"""The detector lets go before a soft last consonant has ended."""
BELOW_PEAK_DB: Final = 35.0
"""In a turn, sound this far below its loudest hop is the room after the voice."""
_SAMPLE: Final = 2
_KEEP_BYTES: Final = (MAX_TURN_MS + 2_000) * RATE_HZ // 1000 * _SAMPLE
_WINDOW_BYTES: Final = OBSERVED_SAMPLES * _SAMPLE
_OBSERVE_EVERY: Final = 8  # hops: four times a second
_HOP_BYTES: Final = HOP_SAMPLES * _SAMPLE
_NS_PER_BYTE: Final = 1_000_000_000 // (RATE_HZ * _SAMPLE)


class Ears:
    """The hearing of one session."""

    def __init__(self, vad: Vad, playout: Playout, settings: AgentSettings) -> None:
        barge_in = settings.barge_in
        self._vad = vad
        self._playout = playout
        self._settings = settings
        self._judge = EchoJudge(playout, margin_db=barge_in.echo_margin_db, delay_ms=barge_in.echo_delay_ms)
        self._machine = TurnMachine(self._rules(None))
        self._detects = True
        self._transcoder = Transcoder(PCM_8K, PCM_8K)
        self._pcm = bytearray()
        self._pcm_start = 0  # sample number of the first octet kept
        self._judged = 0  # samples
        self._peak_dbfs = QUIET_DBFS
        self._since_observed = 0

    def configure(self, source: AudioFormat, turns: TurnDetection | None) -> None:
        self._transcoder = Transcoder(source, PCM_8K)
        if turns is not None and not self._detects:
            self.clear()
        self._detects = turns is not None
        self._machine.rules = self._rules(turns)

    @property
    def heard_samples(self) -> int:
        return self._pcm_start + len(self._pcm) // _SAMPLE

    @property
    def in_turn(self) -> bool:
        return self._machine.in_turn

    def push(self, payload: bytes, now_ns: int) -> list[TurnEvent]:
        """The turn events that this audio makes, in their order."""
        self._pcm += self._transcoder.convert(payload)
        events: list[TurnEvent] = []
        if self._detects:
            while (waiting := len(self._pcm) - (self._judged - self._pcm_start) * _SAMPLE) >= _HOP_BYTES:
                event = self._judge_hop(now_ns - (waiting - _HOP_BYTES) * _NS_PER_BYTE)
                if event is not None:
                    events.append(event)
        self._forget()
        return events

    def clip(self, start: int, end: int) -> bytes:
        """PCM of a turn and `AFTER_MS` behind it, as far as it is still kept."""
        first, last = start - self._pcm_start, end + AFTER_MS * RATE_HZ // 1000 - self._pcm_start
        return bytes(self._pcm[max(0, first) * _SAMPLE : max(0, last) * _SAMPLE])

    def take_all(self) -> bytes:
        """Everything since the last time: a turn that the client cut itself."""
        taken = bytes(self._pcm)
        self.clear()
        return taken

    def clear(self) -> None:
        """The audio that is in no turn yet was thrown away."""
        self._pcm_start = self.heard_samples
        self._pcm.clear()
        self._judged = self._pcm_start
        self._machine.skip_to(self._judged)

    def _judge_hop(self, now_ns: int) -> TurnEvent | None:
        end = (self._judged - self._pcm_start) * _SAMPLE + _HOP_BYTES
        self._judged += HOP_SAMPLES
        hop = to_samples(bytes(self._pcm[end - _HOP_BYTES : end]))
        probability = self._vad.push(hop)
        level = rms_dbfs(hop)
        speaks = self._playout.speaks(now_ns)
        if speaks and not self._machine.in_turn:
            self._observe_echo(end, now_ns)
        event = self._machine.push(
            Hop(probability, self._audible(level), speaks, self._echo(probability, hop, now_ns))
        )
        self._peak_dbfs = max(self._peak_dbfs, level) if self._machine.in_turn else QUIET_DBFS
        return event

    def _observe_echo(self, end: int, now_ns: int) -> None:
        self._since_observed += 1
        if self._since_observed >= _OBSERVE_EVERY and end >= _WINDOW_BYTES:
            self._since_observed = 0
            self._judge.observe(to_samples(bytes(self._pcm[end - _WINDOW_BYTES : end])), now_ns)

    def _audible(self, level: float) -> bool:
        return level > max(QUIET_DBFS, self._peak_dbfs - BELOW_PEAK_DB)

    def _echo(self, probability: float, hop: Samples, now_ns: int) -> bool:
        """Asked only of what sounds like speech outside a turn: in a turn the caller has the floor."""
        if probability <= self._machine.rules.threshold or self._machine.in_turn:
            return False
        ended_ns = self._playout.ends_ns()
        if not ended_ns or ended_ns + self._settings.barge_in.echo_delay_ms * 1_000_000 < now_ns:
            return False
        return not self._judge.has_observed or self._judge.is_echo(hop, now_ns)

    def _forget(self) -> None:
        if self._detects:
            rules = self._machine.rules
            before_ms = rules.prefix_ms + rules.start_ms + rules.barge_in_ms + 500
            spare = _KEEP_BYTES if self._machine.in_turn else before_ms * RATE_HZ // 1000 * _SAMPLE
        else:
            spare = _KEEP_BYTES
        surplus = len(self._pcm) - max(spare, _WINDOW_BYTES)
        # In larger steps than a frame: each one moves what is kept.
        if surplus > RATE_HZ * _SAMPLE:
            del self._pcm[:surplus]
            self._pcm_start += surplus // _SAMPLE
            self._judged = max(self._judged, self._pcm_start)

    def _rules(self, turns: TurnDetection | None) -> TurnRules:
        settings, barge_in = self._settings, self._settings.barge_in
        silence_ms = turns.silence_ms if turns is not None else settings.end_of_turn_ms
        return TurnRules(
            threshold=turns.threshold if turns is not None else 0.5,
            prefix_ms=turns.prefix_ms if turns is not None else 300,
            speculate_ms=settings.speculate_ms,
            silence_ms=silence_ms,
            barge_in=barge_in.enabled,
            barge_in_threshold=barge_in.probability,
            barge_in_ms=barge_in.speech_ms,
        )
