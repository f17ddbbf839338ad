"""Every message we send, judged by the vendor's own models (openai.types.realtime).

The models allow extra keys and coerce, so three judges are needed: validation, a walk over what they took
as extra, and a round trip. What no model knows is a rule here.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeClientEvent
from pydantic import BaseModel

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.call.ports import Greeting

VOICES = ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]


def _client_models() -> dict[str, type[BaseModel]]:
    (union, *_rest) = get_args(RealtimeClientEvent)
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


MODELS = _client_models()


def extras(value: Any, path: str = "") -> list[str]:
    """Paths of all keys that a model took without knowing them."""
    found: list[str] = []
    if isinstance(value, BaseModel):
        found += [f"{path}.{key}" for key in value.__pydantic_extra__ or {}]
        for key in type(value).model_fields:
            found += extras(getattr(value, key), f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            found += extras(one, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            found += extras(one, f"{path}.{key}")
    return found


def judge(message: dict[str, Any]) -> None:
    judged = MODELS[message["type"]].model_validate(message)
    assert extras(judged) == []
    assert judged.to_dict(mode="json", exclude_unset=True) == message  # type: ignore[attr-defined]
    own_rules(message)


def own_rules(message: dict[str, Any]) -> None:
    """What the API refuses and the SDK's types let through."""
    assert message["type"] not in ("output_audio_buffer.clear", "response.cancel")
    if message["type"] == "conversation.item.truncate":
        assert type(message["audio_end_ms"]) is int
        assert message["audio_end_ms"] >= 0
    if message["type"] == "session.update":
        session = message["session"]
        assert session["output_modalities"] == ["audio"]
        assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"]
        assert session["audio"]["output"]["voice"] in VOICES or session["audio"]["output"]["voice"]["id"]
        assert 0.25 <= session["audio"]["output"]["speed"] <= 1.5
        if session["audio"]["input"]["format"]["type"] != "audio/pcm":
            assert "rate" not in session["audio"]["input"]["format"]
        tokens = session["max_output_tokens"]
        assert tokens == "inf" or 1 <= tokens <= 4096


def test_the_judge_knows_every_client_event():
    assert len(MODELS) == 11


@pytest.mark.parametrize("wire", [PCMU_8K, PCMA_8K], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"audio": "pcm24k", "instructions": "Be brief.", "max_output_tokens": 1024, "speed": 1.1},
        {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}, "noise_reduction": "far_field"},
        {"transcription": {}, "voice": "voice_1234", "reasoning_effort": "minimal"},
        {"transcription": {"model": "whisper-1", "language": "de"}, "noise_reduction": "near_field"},
    ],
    ids=["defaults", "pcm24k", "semantic", "custom-voice", "whisper"],
)
def test_all_that_a_call_says_is_what_the_vendor_would_say(openai_session, settings, wire):
    agent = openai_session(ready=False, wire=wire, **settings)
    agent.protocol.greet(Greeting("Hello, «you»."))
    agent.receives("session.created", session={})
    agent.receives("session.updated", session={})
    agent.begins("resp_1")
    agent.speaks("resp_1", bytes(32_000))
    agent.protocol.greet(Greeting("Greet the caller.", verbatim=False))
    agent.protocol.send_text("[DTMF] 5", respond=True)
    agent.sent()
    agent.hears_the_caller()
    agent.heard(1, ms=100)
    agent.ends("resp_1", "cancelled")
    agent.sent()
    kinds = [message["type"] for message in agent.all_sent]
    assert set(kinds) == {
        "session.update",
        "response.create",
        "conversation.item.create",
        "conversation.item.truncate",
    }
    for message in agent.all_sent:
        judge(message)
    identities = [message["event_id"] for message in agent.all_sent]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("audio", ["g711", "pcm24k"])
def test_a_frame_of_audio_is_what_the_vendor_would_send(openai_session, audio):
    protocol = openai_session(audio=audio).protocol
    judge(json.loads(protocol.audio(bytes(protocol.uplink_format.bytes_for_ms(20)))))


def test_the_judge_is_awake():
    session = {"type": "realtime", "output_modalities": ["audio"], "voice": "marin"}
    update = {"type": "session.update", "session": session}
    with pytest.raises(AssertionError, match="voice"):
        judge(update)
