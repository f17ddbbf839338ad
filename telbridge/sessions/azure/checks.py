"""What is known of Azure Voice Live before any call: its abilities, combinations that it refuses, settings
that a telephone has no use for.

Sources: learn.microsoft.com, Speech service, "Voice Live API reference", "How to use the Voice Live API",
"How to customize Voice Live input and output".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from telbridge.sessions.azure.neutral import TEMPERATURES
from telbridge.sessions.azure.parts import (
    EchoCancellation,
    FunctionTool,
    McpTool,
    NoiseReduction,
    ToolChoiceFunction,
    Transcription,
)
from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.azure.turns import SEMANTIC_LANGUAGES, AzureSemanticVadMultilingual, SemanticVad
from telbridge.sessions.azure.voices import AzureRealtimeNativeVoice, OpenAIVoice, is_synthesised
from telbridge.sessions.provider import Ability, Lock, Support, Way, impossible

_EITHER_WAY: Final = (
    "response.create with pre_generated_assistant_message, exact, with Azure's voices; with the model's own "
    "voices response.create with instructions, near-verbatim"
)

ABILITIES: Final[Mapping[Ability, Support]] = {
    Ability.INSTRUCTIONS: Support(Way.NATIVE, "instructions; not with an agent"),
    Ability.VOICE: Support(Way.NATIVE, "voice", Lock.SPOKEN),
    Ability.LANGUAGE: Support(Way.NATIVE, "input_audio_transcription.language, turn_detection.languages"),
    Ability.KEY_TERMS: Support(Way.NATIVE, "input_audio_transcription.phrase_list, or prompt"),
    Ability.TURN_MODE: Support(Way.NATIVE, "turn_detection: server_vad, azure_semantic_vad…, null"),
    Ability.TURN_THRESHOLD: Support(Way.NATIVE, "turn_detection.threshold"),
    Ability.TURN_PREFIX: Support(Way.NATIVE, "turn_detection.prefix_padding_ms"),
    Ability.TURN_SILENCE: Support(Way.NATIVE, "turn_detection.silence_duration_ms"),
    Ability.TURN_EAGERNESS: Support(
        Way.NATIVE, "end_of_utterance_detection.threshold_level; eagerness with gpt-realtime models"
    ),
    Ability.BARGE_IN: Support(Way.NATIVE, "turn_detection.interrupt_response"),
    Ability.NOISE_REDUCTION: Support(
        Way.NATIVE,
        "input_audio_noise_reduction; azure_deep_noise_suppression except with gpt-realtime models",
    ),
    Ability.ECHO_CANCELLATION: Support(Way.NATIVE, "input_audio_echo_cancellation"),
    Ability.TEMPERATURE: Support(
        Way.NATIVE,
        f"temperature, held within {TEMPERATURES[0]} to {TEMPERATURES[1]}; not with reasoning models",
    ),
    Ability.MAX_OUTPUT_TOKENS: Support(Way.NATIVE, "max_response_output_tokens, at most 4096"),
    Ability.REASONING_EFFORT: Support(Way.NATIVE, "reasoning_effort, reasoning models only"),
    Ability.TOOLS: Support(Way.NATIVE, "tools"),
    Ability.USER_ID: Support(Way.NATIVE, "metadata.user_id, for the resource's logs"),
    Ability.USER_PROFILE: Support(Way.EMULATED, "a line of the instructions; not with an agent"),
    Ability.MEMORY_ID: Support(Way.NATIVE, "agent.conversation_id, with an agent only", Lock.CONNECT),
    Ability.TAGS: Support(Way.NATIVE, "metadata, for the resource's logs"),
    Ability.MODALITIES: Support(Way.NATIVE, "modalities; audio brings text as well"),
    Ability.IDLE_TIMEOUT: impossible(Ability.IDLE_TIMEOUT),
    Ability.GREETING_VERBATIM: Support(Way.NATIVE, _EITHER_WAY),
    Ability.GREETING_GENERATED: Support(Way.EMULATED, "a system message and response.create"),
    Ability.SAY: Support(Way.NATIVE, _EITHER_WAY),
    Ability.REPLY_NOW: Support(Way.NATIVE, "response.create"),
    Ability.TEXT_AS_CALLER: Support(Way.NATIVE, "conversation.item.create, role user"),
    Ability.TEXT_AS_CONTEXT: Support(Way.NATIVE, "conversation.item.create, role system"),
    Ability.INTERRUPT: Support(Way.NATIVE, "response.cancel"),
    Ability.REPORT_HEARD: Support(
        Way.NATIVE, "conversation.item.truncate; nothing with turn_detection.auto_truncate"
    ),
    Ability.CALLER_TRANSCRIPT: Support(
        Way.NATIVE, "input_audio_transcription; by itself with models that get text"
    ),
    Ability.AGENT_TRANSCRIPT: Support(Way.NATIVE, "response.audio_transcript.delta and .done"),
    Ability.LATENCY: impossible(Ability.LATENCY),
    Ability.RESUME: Support(Way.EMULATED, "a new session that is told what was said"),
}

FORMATS: Final = (
    "μ-law and A-law 8 kHz untouched, or linear 8, 16 and 24 kHz (below 24 kHz downwards with Azure's "
    "voices only); each way by itself"
)


def warnings(settings: AzureSettings) -> Sequence[tuple[str, str]]:
    """See `Provider.warnings`; and what no source confirms, or what leaves the caller without an answer."""
    return [*_of_the_picture(settings), *_of_the_conversation(settings), *_of_the_connection(settings)]


def _of_the_picture(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    if settings.avatar is not None:
        yield "avatar", "a telephone shows no picture: passed on, and nobody connects to its video"
    if settings.animation is not None:
        yield "animation", "a telephone has no face to move: passed on, what comes back is ignored"
    if {"animation", "avatar"} & set(settings.modalities or ()):
        yield "modalities", "a telephone takes audio only: the rest is passed on and ignored"
    if settings.output_audio_timestamp_types:
        yield "output_audio_timestamp_types", "nothing here reads the times of words: passed on and ignored"


def _of_the_conversation(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    if settings.modalities is not None and "audio" not in settings.modalities:
        yield "modalities", "the agent writes and does not speak: the caller will hear nothing"
    if not getattr(settings.turn_detection, "create_response", False):
        yield "turn_detection", "the agent will answer only when the dialplan asks it to"
    low, high = TEMPERATURES
    if settings.temperature is not None and not low <= settings.temperature <= high:
        yield "temperature", f"the vendor's pages disagree about the range: {low} to {high} is safe"
    if settings.temperature is not None and settings.reasons and settings.profile is None:
        yield "temperature", f"{settings.model} reasons and may refuse a temperature: leave it out"
    if settings.reasoning_effort is not None and not settings.reasons:
        yield "reasoning_effort", f"{settings.model} may refuse it: for reasoning models only"
    ends = getattr(settings.turn_detection, "end_of_utterance_detection", None)
    if ends is not None and settings.speech_to_speech:
        yield "turn_detection.end_of_utterance_detection", "not confirmed with speech-to-speech models"
    if not settings.synthesised and (settings.output_audio_format or "").startswith("pcm16_"):
        yield "output_audio_format", "not confirmed with the model's own voices: g711 or pcm16 is safe"
    for index, tool in enumerate(settings.tools or ()):
        if isinstance(tool, McpTool) and tool.require_approval != "never":
            yield f"tools[{index}].require_approval", 'nobody can approve in a call: write "never"'


def _of_the_connection(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    if settings.agent is not None and settings.bearer_token is None and not settings.entra:
        yield "agent", "an agent is documented with Entra only: write entra = true, or bearer_token"
    address = settings.address or ""
    if address.startswith("ws:") and not settings.is_on_this_machine:
        yield "url", "the credential goes over the network unencrypted: write wss://"


def refusals(settings: AzureSettings) -> Sequence[tuple[str, str]]:
    """See `Provider.refusals`."""
    found = [*_not_for_a_telephone(settings), *_tool_choice(settings)]
    if settings.agent is None and settings.profile is None:  # Else the name tells nothing of the model.
        found += [*_voice_of_the_model(settings), *_parts_of_the_model(settings)]
    return found


def _not_for_a_telephone(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    if settings.address is None:
        yield "url", "no Azure resource is named: write resource = 'NAME', or url"
    echo = settings.input_audio_echo_cancellation
    if isinstance(echo, EchoCancellation) and echo.reference_source == "client":
        key = "input_audio_echo_cancellation.reference_source"
        yield key, "telbridge sends the caller's channel alone: write 'server'"
    turns = settings.turn_detection
    if isinstance(turns, AzureSemanticVadMultilingual):
        strange = [one for one in turns.languages or () if one.split("-")[0] not in SEMANTIC_LANGUAGES]
        if strange:
            known = " ".join(SEMANTIC_LANGUAGES)
            yield (
                "turn_detection.languages",
                f"{strange[0]} is not among its languages: write some of {known}",
            )


def _tool_choice(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    choice = settings.tool_choice
    name = choice.name if isinstance(choice, ToolChoiceFunction) else choice
    names = {tool.name for tool in settings.tools or () if isinstance(tool, FunctionTool)}
    if name is not None and name not in {"auto", "none", "required"} | names:
        yield "tool_choice", f"no function is called {name}: write auto, none, required or one of tools"


def _voice_of_the_model(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    voice, model = settings.voice, settings.model
    if voice is None:
        return
    native = isinstance(voice, AzureRealtimeNativeVoice)
    if native != (model == "azure-realtime") and (native or is_synthesised(voice)):
        fitting = "azure-realtime-native" if model == "azure-realtime" else "azure-standard"
        yield "voice", f"not a voice of {model}: write one of type {fitting}"
    elif isinstance(voice, str | OpenAIVoice) and not settings.speech_to_speech:
        fitting = "azure-realtime-native" if model == "azure-realtime" else "azure-standard"
        yield "voice", f"a voice of the gpt-realtime models, not of {model}: write one of type {fitting}"


def _parts_of_the_model(settings: AzureSettings) -> Iterator[tuple[str, str]]:
    model = settings.model
    noise = settings.input_audio_noise_reduction
    if settings.speech_to_speech:
        if settings.interim_response not in (None, "off"):
            yield "interim_response", f"not for {model}: leave it out, or take a model that gets text"
    else:
        if isinstance(noise, NoiseReduction) and noise.type != "azure_deep_noise_suppression":
            key = "input_audio_noise_reduction.type"
            yield key, f"{noise.type} is for gpt-realtime models: write azure_deep_noise_suppression"
        if isinstance(settings.turn_detection, SemanticVad):
            yield "turn_detection.type", "semantic_vad is for gpt-realtime models: write azure_semantic_vad"
        heard = settings.input_audio_transcription
        if isinstance(heard, Transcription) and heard.model.startswith(("whisper", "gpt-4o")):
            key = "input_audio_transcription.model"
            yield key, f"{heard.model} is for gpt-realtime models: write azure-speech"
    if settings.output_audio_timestamp_types and not settings.synthesised:
        yield "output_audio_timestamp_types", "for Azure's voices only: leave it out, or set such a voice"
