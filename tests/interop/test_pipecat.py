"""Pipecat's carrier serializers, which many live calls have gone through, against our two sides of each
protocol: they understand our simulated carriers, these understand them, and our legs say what they say."""

from __future__ import annotations

import base64
import importlib
import json
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMA_8K, PCMU_8K
from telbridge.audio.g711 import pcm16_to_alaw, pcm16_to_ulaw, ulaw_to_pcm16
from telbridge.caller.streams.carriers import Coder
from telbridge.caller.streams.dialects import Audio, Clear, Dialect, Message, TwilioDialect
from telbridge.caller.streams.plivo import PlivoDialect
from telbridge.caller.streams.telnyx import TelnyxDialect
from telbridge.caller.streams.vonage import VonageDialect
from telbridge.legs.streams.peer import Started, StreamPeer
from telbridge.legs.streams.plivo import PlivoPeer
from telbridge.legs.streams.telnyx import TelnyxPeer
from telbridge.legs.streams.twilio import TwilioPeer
from telbridge.legs.streams.vonage import VonagePeer

pytest.importorskip("pipecat", reason="pipecat-ai is not installed: make interop")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DIALECTS: dict[str, Callable[[], Dialect]] = {
    "twilio": lambda: TwilioDialect("MZ1", "CA1", "AC1", {"a": "b"}),
    "telnyx": lambda: TelnyxDialect("v3:c", "+1", "+2", Coder(PCMU_8K), Coder(PCMU_8K)),
    "telnyx a-law": lambda: TelnyxDialect("v3:c", "+1", "+2", Coder(PCMA_8K), Coder(PCMA_8K)),
    "plivo": lambda: PlivoDialect("c", "audio/x-mulaw;rate=8000", Coder(PCMU_8K)),
    "vonage": lambda: VonageDialect("audio/l16;rate=16000", {"uuid": "c"}, Coder(PCM_16K)),
    "vonage 8k": lambda: VonageDialect("audio/l16;rate=8000", {"uuid": "c"}, Coder(PCM_8K)),
    "vonage 24k": lambda: VonageDialect("audio/l16;rate=24000", {"uuid": "c"}, Coder(PCM_24K)),
}
KINDS = tuple(DIALECTS)
PEERS: dict[str, Callable[[], StreamPeer]] = {
    "twilio": TwilioPeer,
    "telnyx": TelnyxPeer,
    "telnyx a-law": lambda: TelnyxPeer(PCMA_8K),
    "plivo": PlivoPeer,
    "vonage": VonagePeer,
    "vonage 8k": VonagePeer,
    "vonage 24k": VonagePeer,
}
RATES = {"vonage": 16_000, "vonage 24k": 24_000}


def module(name: str) -> Any:
    """Pipecat's modules warn while they load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"pipecat.{name}")


frames = module("frames.frames")


async def serializer(kind: str) -> Any:
    """Pipecat's, at the carrier's own rate, so that nothing is resampled."""
    name, _, variant = kind.partition(" ")
    made = getattr(module(f"serializers.{name}"), f"{name.capitalize()}FrameSerializer")
    if name == "vonage":
        one = made(made.InputParams(vonage_sample_rate=rate_of(kind)))
    elif name == "telnyx":
        codec = "PCMA" if variant else "PCMU"
        one = made("s", codec, codec, params=made.InputParams(auto_hang_up=False))
    else:
        one = made("MZ1" if name == "twilio" else "s", params=made.InputParams(auto_hang_up=False))
    await one.setup(SimpleNamespace(audio_in_sample_rate=rate_of(kind)))
    return one


def rate_of(kind: str) -> int:
    return RATES.get(kind, 8_000)


def tone(rate_hz: int, ms: int = 20) -> bytes:
    at = np.arange(rate_hz * ms // 1000) / rate_hz
    return (8000 * np.sin(2 * np.pi * 400 * at)).astype("<i2").tobytes()


def started(kind: str) -> StreamPeer:
    """One of our legs' peers, told by our simulated carrier what the stream is."""
    peer = PEERS[kind]()
    happenings = [peer.receive(message) for message in DIALECTS[kind]().opening()]
    assert isinstance(happenings[-1], Started)
    return peer


SAID = pcm16_to_ulaw(tone(8_000))
"""20 ms of a caller."""


# ---------------------------------------------------------------- what our simulated carriers say


@pytest.mark.parametrize("kind", KINDS)
async def test_pipecat_hears_the_callers_of_our_carriers(kind: str) -> None:
    pipecat, dialect = await serializer(kind), DIALECTS[kind]()
    for message in dialect.opening():
        assert await pipecat.deserialize(message) is None
    frame = await pipecat.deserialize(dialect.media(SAID))
    assert isinstance(frame, frames.InputAudioRawFrame)
    assert (frame.sample_rate, frame.num_channels) == (rate_of(kind), 1)
    assert len(frame.audio) == rate_of(kind) // 50 * 2
    if rate_of(kind) == 8_000 and kind != "telnyx a-law":
        assert frame.audio == ulaw_to_pcm16(SAID)
    else:
        assert np.abs(np.frombuffer(frame.audio, "<i2").astype(int)).max() == pytest.approx(8000, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digit", "0123456789*#")
async def test_pipecat_understands_the_keys_of_our_carriers(kind: str, digit: str) -> None:
    frame = await (await serializer(kind)).deserialize(DIALECTS[kind]().digit(digit))
    assert isinstance(frame, frames.InputDTMFFrame)
    assert frame.button.value == digit


@pytest.mark.parametrize("kind", KINDS)
async def test_pipecat_takes_whatever_else_our_carriers_say(kind: str) -> None:
    pipecat, dialect = await serializer(kind), DIALECTS[kind]()
    said: list[Message | None] = [
        *dialect.opening(),
        dialect.mark("7"),
        *dialect.cleared(["8"]),
        dialect.stop(),
    ]
    for message in said:
        if message is not None:
            assert await pipecat.deserialize(message) is None


@pytest.mark.parametrize(
    ("kind", "ids"),
    [("twilio", ("MZ1", "CA1")), ("telnyx", (None, "v3:c")), ("plivo", (None, "c"))],
)
async def test_pipecat_knows_our_carriers_by_their_first_messages(
    kind: str, ids: tuple[str | None, str]
) -> None:
    utils = pytest.importorskip(
        "pipecat.runner.utils", reason="pipecat's runner is not installed", exc_type=ImportError
    )
    messages = [*DIALECTS[kind]().opening(), DIALECTS[kind]().media(SAID)]

    async def texts() -> Any:
        for message in messages:
            yield message

    name, call = await utils.parse_telephony_websocket(SimpleNamespace(iter_text=texts))
    assert name == kind
    assert call["call_id"] == ids[1]
    assert call["stream_id"] == ids[0] or (ids[0] is None and call["stream_id"])


# ---------------------------------------------------------------- what pipecat says


@pytest.mark.parametrize("kind", KINDS)
async def test_our_carriers_play_what_pipecat_says(kind: str) -> None:
    pipecat = await serializer(kind)
    spoken = frames.OutputAudioRawFrame(tone(rate_of(kind)), rate_of(kind), 1)
    order = (dialect := DIALECTS[kind]()).receive(_addressed(await pipecat.serialize(spoken), dialect))
    assert isinstance(order, Audio)
    assert len(order.audio) == 160
    if rate_of(kind) == 8_000 and kind != "telnyx a-law":
        assert order.audio == SAID


@pytest.mark.parametrize("kind", KINDS)
async def test_our_carriers_obey_pipecats_interruption(kind: str) -> None:
    said = await (await serializer(kind)).serialize(frames.InterruptionFrame())
    dialect = DIALECTS[kind]()
    assert dialect.receive(_addressed(said, dialect)) == Clear()


@pytest.mark.parametrize("kind", KINDS)
async def test_our_legs_say_what_pipecat_says(kind: str) -> None:
    """But for a stream's id where the carrier does without."""
    pipecat, peer = await serializer(kind), started(kind)
    speech = tone(rate_of(kind))
    theirs = await pipecat.serialize(frames.OutputAudioRawFrame(speech, rate_of(kind), 1))
    law = {
        "telnyx a-law": pcm16_to_alaw,
        "twilio": pcm16_to_ulaw,
        "telnyx": pcm16_to_ulaw,
        "plivo": pcm16_to_ulaw,
    }
    ours = peer.audio(law[kind](speech) if kind in law else speech)
    assert _same(ours, theirs)
    assert _same(peer.clear(), await pipecat.serialize(frames.InterruptionFrame()))


def _addressed(message: Any, dialect: Dialect) -> Message:
    """Simulated carriers are exact about their stream's id, which pipecat was not told."""
    stream = getattr(dialect, "_stream", None)
    if isinstance(message, bytes) or stream is None:
        return message
    fields = json.loads(message)
    return json.dumps({**fields, **{key: stream for key in ("streamId", "streamSid") if key in fields}})


def _same(ours: Message | None, theirs: Message) -> bool:
    if isinstance(theirs, bytes):
        return ours == theirs
    assert ours is not None
    mine, others = json.loads(ours), json.loads(theirs)
    for message in (mine, others):
        for key in ("streamId", "streamSid", "stream_id"):
            message.pop(key, None)
        if "media" in message:
            message["media"]["payload"] = base64.b64decode(message["media"]["payload"])
    return bool(mine == others)
