"""Every field that the vendors' configuration pages name goes out as it was written, under the vendor's name.

The lists are those of the pages on which this project is built: AssemblyAI "Session configuration", Deepgram
"Settings", Azure `ResponseSession`, Napster "Configuration". OpenAI's is held against the vendor's SDK
(tests/sessions/openai/test_judged_by_sdk.py).
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from telbridge.sessions.base import ConnectRequest, HttpRequest
from telbridge.sessions.providers import PROVIDERS
from tests.sessions.every_api import Line

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}

ASSEMBLYAI: dict[str, Any] = {
    "system_prompt": "p",
    "greeting": "g",
    "input.format.encoding": "audio/pcm",
    "input.format.sample_rate": 24000,
    "input.keyterms": ["k"],
    "input.turn_detection.type": "server_vad",
    "input.turn_detection.vad_threshold": 0.4,
    "input.turn_detection.min_silence": 300,
    "input.turn_detection.max_silence": 900,
    "input.turn_detection.interrupt_response": False,
    "output.voice": "claire",
    "output.format.encoding": "audio/pcm",
    "output.format.sample_rate": 24000,
    "tools": [TOOL],
}
DEEPGRAM: dict[str, Any] = {
    "audio.input.encoding": "linear16",
    "audio.input.sample_rate": 24000,
    "audio.output.encoding": "linear16",
    "audio.output.sample_rate": 24000,
    "audio.output.container": "none",
    "audio.output.bitrate": 48000,
    "agent.language": "en",
    "agent.listen.provider.type": "deepgram",
    "agent.listen.provider.version": "v1",
    "agent.listen.provider.model": "nova-3",
    "agent.listen.provider.keyterms": ["k"],
    "agent.think.provider.type": "open_ai",
    "agent.think.provider.model": "gpt-4o-mini",
    "agent.think.provider.temperature": 0.7,
    "agent.think.prompt": "p",
    "agent.think.functions": [{"name": "f", "description": "d", "parameters": {"type": "object"}}],
    "agent.think.endpoint.url": "https://h/v1",
    "agent.speak.provider.type": "deepgram",
    "agent.speak.provider.model": "aura-2-thalia-en",
    "agent.greeting": "g",
    "agent.context.messages": [{"type": "History", "role": "user", "content": "c"}],
    "tags": ["t"],
    "flags.history": False,
    "experimental": True,
}
SPEAKERS: list[dict[str, Any]] = [
    {"provider": {"type": "eleven_labs", "model_id": "m", "language_code": "en"}},
    {"provider": {"type": "cartesia", "model_id": "m", "voice": {"mode": "id", "id": "v"}, "language": "en"}},
    {"provider": {"type": "open_ai", "model": "tts-1", "voice": "alloy"}},
]
AZURE: dict[str, Any] = {
    "animation": {"model_name": "default", "outputs": ["viseme_id"]},
    "avatar": {"character": "lisa", "customized": False},
    "input_audio_echo_cancellation": {"type": "server_echo_cancellation"},
    "input_audio_format": "pcm16",
    "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
    "input_audio_sampling_rate": 16000,
    "input_audio_transcription": {"model": "azure-speech"},
    "instructions": "p",
    "interim_response": {"type": "static_interim_response", "texts": ["Hm."]},
    "max_response_output_tokens": 100,
    "modalities": ["text", "audio"],
    "output_audio_format": "pcm16",
    "output_audio_timestamp_types": ["word"],
    "reasoning_effort": "low",
    "temperature": 0.7,
    "tool_choice": "auto",
    "tools": [TOOL],
    "turn_detection": {"type": "azure_semantic_vad"},
    "voice": {"type": "azure-standard", "name": "en-US-AvaNeural"},
}
COMPANION: dict[str, Any] = {
    "companionId": "c",
    "functions": ["fn"],
    "faqCollections": ["faq"],
    "knowledgeBaseId": "col",
    "language": "Spanish",
    "externalClientId": "user_1",
    "externalClientProfile": {"name": "Jane"},
    "tags": {"source": "phone"},
    "disableIdleTimeout": False,
    "providerConfig.voiceId": "alloy",
    "providerConfig.useGreenVideo": True,
    "providerConfig.settings.instructions": "p",
    "providerConfig.settings.temperature": 0.3,
    "providerConfig.settings.turnDetection.threshold": 0.9,
    "providerConfig.settings.turnDetection.prefix_padding_ms": 400,
    "providerConfig.settings.turnDetection.silence_duration_ms": 500,
    "providerConfig.settings.noiseReduction.type": "nearField",
}


def tree_of(fields: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        *tables, name = path.split(".")
        inner = tree
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[name] = value
    return tree


def sent_by(name: str, section: dict[str, Any]) -> dict[str, Any]:
    """The session object that goes out for this section of the settings."""
    line = Line(name, ready=False, **section)
    step = line.protocol.next_step()
    if isinstance(step, HttpRequest):
        assert step.json is not None
        return step.json
    line.connects()
    line.says(line.words.ready[:1])
    message = json.loads(line.protocol.data_to_send()[0])
    return message.get("session", message)


def covers(sent: Any, asked: Any) -> bool:
    """Whether all of `asked` is in `sent`; the API's own defaults may stand beside it."""
    if isinstance(asked, dict):
        return isinstance(sent, dict) and all(key in sent and covers(sent[key], asked[key]) for key in asked)
    if isinstance(asked, list):
        return isinstance(sent, list) and len(sent) == len(asked) and all(map(covers, sent, asked))
    return bool(sent == asked)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("assemblyai", ASSEMBLYAI),
        ("deepgram", DEEPGRAM),
        ("azure_voice_live", AZURE),
        ("companion", COMPANION),
    ],
)
def test_every_field_of_the_vendors_page_is_sent_as_it_was_written(name, fields):
    sent = sent_by(name, tree_of(fields))
    missing = [path for path, value in fields.items() if not covers(sent, tree_of({path: value}))]
    assert missing == []


@pytest.mark.parametrize("speak", SPEAKERS)
def test_every_voice_of_deepgrams_page_with_its_own_fields(speak):
    endpoint = {"endpoint": {"url": "https://h/v1", "headers": {}}}
    assert covers(sent_by("deepgram", {"agent": {"speak": {**speak, **endpoint}}})["agent"]["speak"], speak)


def test_azures_agent_and_model_are_of_the_connection():
    agent = Line("azure_voice_live", ready=False, agent={"agent_name": "a", "agent_project_name": "p"})
    model = Line("azure_voice_live", ready=False, model="gpt-4o")
    queries = []
    for line in (agent, model):
        step = line.protocol.next_step()
        assert isinstance(step, ConnectRequest)
        queries.append(parse_qs(urlsplit(step.url).query))
    assert queries[0]["agent-name"] == ["a"]
    assert queries[1]["model"] == ["gpt-4o"]


@pytest.mark.parametrize("limit", [("k" * 65, "v"), ("k", "v" * 513)])
def test_companions_tags_keep_its_limits(limit):
    with pytest.raises(ValueError, match="tags"):
        Line("companion", ready=False, tags=dict([limit]))


@pytest.mark.parametrize(
    ("name", "section", "keys"),
    [
        (
            "azure_voice_live",
            {
                "avatar": AZURE["avatar"],
                "animation": AZURE["animation"],
                "modalities": ["text", "audio", "avatar"],
            },
            {"avatar", "animation", "modalities"},
        ),
        (
            "companion",
            {"companionId": "c", "providerConfig": {"voiceId": "alloy", "useGreenVideo": True}},
            {"providerConfig.useGreenVideo"},
        ),
    ],
)
def test_pictures_are_passed_on_with_a_warning_at_check_time(name, section, keys):
    provider = PROVIDERS[name]
    told = {key for key, _ in provider.warnings(provider.settings.model_validate(section))}
    assert keys <= told
    sent = sent_by(name, section)
    assert covers(sent, section)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("openai_realtime", {"model": "gpt-live-1"}),
        ("azure_voice_live", {"model": "gpt-live-1"}),
        ("openai_realtime", {"url": "wss://api.openai.com/v1/live/sessions"}),
        ("openai_realtime", {"temperature": 0.8}),
        ("openai_realtime", {"modalities": ["audio"]}),
        ("openai_realtime", {"input_audio_format": "g711_ulaw"}),
        ("openai_realtime", {"url": "wss://x.openai.azure.com/openai/realtime"}),
        ("deepgram", {"url": "wss://agent.deepgram.com/agent"}),
    ],
)
def test_what_is_none_of_these_protocols_is_refused_in_one_line(name, section):
    with pytest.raises(ValueError) as refused:
        PROVIDERS[name].settings.model_validate(section)
    (fault,) = refused.value.errors()
    assert "\n" not in fault["msg"]
