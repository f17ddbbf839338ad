"""Settings of one Deepgram Voice Agent session (V1), and the `Settings` message made of them.

Sources: developers.deepgram.com/docs/voice-agent-settings, /docs/configure-voice-agent,
/docs/voice-agent-history, /docs/tts-media-output-settings, /docs/voice-agent-context; the typed models of
`deepgram-sdk` 7.17.0. Where they disagree, what was seen live by others counts, then the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from telbridge.audio.formats import PCMA_8K, PCMU_8K, AudioFormat, Encoding
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.credentials import SecretRef, on_this_machine, revealed
from telbridge.sessions.deepgram.listen import Listen
from telbridge.sessions.deepgram.parts import Identified, look_for_secrets
from telbridge.sessions.deepgram.speak import DeepgramSpeak, OneOrMoreSpeak, Speak
from telbridge.sessions.deepgram.think import DeepgramThink, OneOrMoreThink, Think, ThinkLive
from telbridge.sessions.provider import Lock, Unconfirmed, VendorPart, VendorSettings, deep_merged

DEFAULT_URL: Final = "wss://agent.deepgram.com/v1/agent/converse"
PHONE: Final[Json] = {
    "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
    "think": {"provider": {"type": "open_ai", "model": "gpt-4.1-mini"}},
    "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
}
"""Sent where nothing is set: a combination proved on telephone calls. What the API takes when they are
left out is not documented for all three."""

_SESSION_FIELDS: Final = frozenset({"tags", "experimental", "mip_opt_out", "flags", "agent"})
NAME: Final = "deepgram"
_BLOCKS: Final = ("listen", "think", "think_live", "speak")
_ENCODINGS: Final = {"mulaw": Encoding.PCMU, "alaw": Encoding.PCMA, "linear16": Encoding.PCM16}
_WIRE_NAMES: Final = {encoding: name for name, encoding in _ENCODINGS.items()}
_LAW_RATES: Final = (8_000, 16_000)
_LINEAR_RATES: Final = (8_000, 16_000, 24_000, 32_000, 44_100, 48_000)
_DEFAULT_LINEAR_HZ: Final = 24_000
_FLUX_ONLY_HZ: Final = 44_100


def _carried(encoding: str, rate_hz: int | None) -> None:
    """ValueError for what the bridge cannot turn into telephone speech or the API does not offer."""
    if encoding not in _ENCODINGS:
        raise ValueError(f"telbridge has no codec for {encoding}: write linear16, mulaw or alaw")
    rates = _LINEAR_RATES if encoding == "linear16" else _LAW_RATES
    if rate_hz is not None and rate_hz not in rates:
        raise ValueError(f"{encoding} has no rate of {rate_hz}: write one of {', '.join(map(str, rates))}")


_InputEncoding = Literal[
    "linear16", "linear32", "flac", "alaw", "mulaw", "amr-nb", "amr-wb", "opus", "ogg-opus", "speex", "g729"
]


class AudioInput(VendorPart):
    """The caller's audio, as it is sent."""

    encoding: Annotated[
        _InputEncoding,
        Field(description="linear16, mulaw or alaw; telbridge carries no other"),
    ]
    sample_rate: Annotated[int, Field(description="Hz, 8000 for G.711")]

    @model_validator(mode="after")
    def _is_carried(self) -> AudioInput:
        _carried(self.encoding, self.sample_rate)
        return self


class AudioOutput(VendorPart):
    """The agent's audio, as it comes."""

    encoding: Annotated[
        Literal["linear16", "mulaw", "alaw", "mp3", "opus", "flac", "aac"] | None,
        Field(description="linear16, mulaw or alaw; telbridge carries no other; not set: the wire's law"),
    ] = None
    sample_rate: Annotated[
        int | None, Field(description="Hz; not set: 8000 for G.711, 24000 for linear16")
    ] = None
    bitrate: Annotated[
        int | None, Field(ge=4_000, le=650_000, description="bits a second, of compressed encodings")
    ] = None
    container: Annotated[
        Literal["none", "wav", "ogg"], Field(description='"none"; a header would be heard; always sent')
    ] = "none"

    @model_validator(mode="after")
    def _is_carried(self) -> AudioOutput:
        _carried(self.encoding or "linear16", self.sample_rate)
        if self.container == "ogg":
            raise ValueError('container "ogg" goes with opus only: write "none"')
        return self


class Audio(VendorPart):
    """Both ways. What is not set follows the telephone's wire: its law, untouched."""

    input: Annotated[AudioInput | None, Field(description="from the caller; both keys or none")] = None
    output: Annotated[AudioOutput | None, Field(description="from the agent")] = None


class Flags(VendorPart):
    history: Annotated[bool | None, Field(description="report each turn as History; on by default")] = None


class HistoryText(Identified):
    type: Annotated[Literal["History"], Field(description='always "History"')] = "History"
    role: Annotated[Literal["user", "assistant"], Field(description="who said it")]
    content: Annotated[str, Field(description="what was said")]


class HistoryCall(VendorPart):
    id: Annotated[str, Field(description="id of the call")]
    name: Annotated[str, Field(description="name of the function")]
    client_side: Annotated[bool, Field(description="whether we were asked, not an endpoint")]
    arguments: Annotated[str, Field(description="arguments, as JSON text")]
    response: Annotated[str, Field(description="what came back, as text")]
    thought_signature: Annotated[str | None, Field(description="opaque, as it came")] = None


class HistoryCalls(Identified):
    type: Annotated[Literal["History"], Field(description='always "History"')] = "History"
    function_calls: Annotated[tuple[HistoryCall, ...], Field(description="calls of functions that were made")]


def _history_kind(value: Any) -> str:
    return "calls" if isinstance(value, HistoryCalls) or "function_calls" in _keys(value) else "text"


def _keys(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


History: TypeAlias = Annotated[
    Annotated[HistoryText, Tag("text")] | Annotated[HistoryCalls, Tag("calls")], Discriminator(_history_kind)
]


class Context(VendorPart):
    messages: Annotated[tuple[History, ...] | None, Field(description="conversation to carry on")] = None


class Agent(VendorPart):
    """The agent, written out."""

    language: Annotated[
        str | None, Lock.START, Field(min_length=2, description="deprecated: set listen and speak instead")
    ] = None
    greeting: Annotated[
        str | None, Lock.START, Field(min_length=1, description="spoken at the start, word by word")
    ] = None
    context: Annotated[Context | None, Lock.START, Field(description="what went before")] = None
    listen: Annotated[Listen | None, Field(description="recognition; not set: flux-general-en is sent")] = (
        None
    )
    think: Annotated[
        OneOrMoreThink | None,
        Field(description="language model, or an array of fallbacks; not set: gpt-4.1-mini is sent"),
    ] = None
    think_live: Annotated[
        ThinkLive | None, Unconfirmed(), Field(description="early access, for invited accounts only")
    ] = None
    speak: Annotated[
        OneOrMoreSpeak | None,
        Field(description="voice, or an array of fallbacks; not set: aura-2-thalia-en is sent"),
    ] = None

    @property
    def models(self) -> tuple[Think, ...]:
        return (self.think,) if isinstance(self.think, Think) else self.think or ()

    @property
    def voices(self) -> tuple[Speak, ...]:
        return (self.speak,) if isinstance(self.speak, Speak) else self.speak or ()

    @model_validator(mode="after")
    def _fillers_need_think_live(self) -> Agent:
        fillers = [one.name for model in self.models for one in model.functions or () if one.has_filler]
        if fillers and self.think_live is None:
            raise ValueError(f"fillers of {fillers[0]} need agent.think_live: remove them or set it")
        return self


def _agent_kind(value: Any) -> str:
    return "stored" if isinstance(value, str) else "inline"


class Grant(VendorPart):
    """Fetch a short-lived token for each connection, so that the key never goes to the agent's host."""

    url: Annotated[
        str,
        Field(
            pattern=r"^https://[^\s/]+|^http://(localhost|127\.0\.0\.1)", description="address of the grant"
        ),
    ] = "https://api.deepgram.com/v1/auth/grant"
    ttl_seconds: Annotated[int, Field(ge=1, le=3600, description="life of the token, seconds")] = 30


class DeepgramSettings(VendorSettings):
    """One Deepgram Voice Agent session."""

    url: Annotated[
        str, Lock.CONNECT, Field(description="wss:// address; ws:// for an agent on this machine")
    ] = DEFAULT_URL
    api_key: Annotated[SecretRef, Lock.CONNECT, Field(description='{ env = "DEEPGRAM_API_KEY" }')] = Field(
        default_factory=lambda: SecretRef(env="DEEPGRAM_API_KEY")
    )
    access_token: Annotated[
        SecretRef | None, Lock.CONNECT, Field(description="a token made elsewhere, in place of the key")
    ] = None
    grant: Annotated[
        Grant | None, Lock.CONNECT, Field(description="fetch a short-lived token by the key first")
    ] = None
    barge_in: Annotated[
        bool, Field(description="ours: false sends silence in the caller's place while the agent speaks")
    ] = True
    append_prompt: Annotated[
        str | None,
        Field(min_length=1, description="ours: text put after every prompt, also a stored agent's"),
    ] = None
    user_profile: Annotated[
        Json | None, Field(description="ours: facts about the caller, put after every prompt")
    ] = None
    tags: Annotated[tuple[str, ...] | None, Lock.START, Field(description="labels for usage reports")] = None
    experimental: Annotated[bool | None, Lock.START, Field(description="undocumented features")] = None
    mip_opt_out: Annotated[
        bool | None, Lock.START, Field(description="keep the audio out of Deepgram's model improvement")
    ] = None
    flags: Annotated[Flags | None, Lock.START, Field(description="what the API reports")] = None
    audio: Annotated[Audio, Lock.START, Field(description="formats; not set: G.711 as on the wire")] = Field(
        default_factory=Audio
    )
    agent: Annotated[
        Annotated[Agent, Tag("inline")]
        | Annotated[
            str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"), Tag("stored")
        ],
        Discriminator(_agent_kind),
        Field(description="the agent, or the UUID of one stored at Deepgram"),
    ] = Field(default_factory=Agent)

    @field_validator("url")
    @classmethod
    def _speaks_v1(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, scheme = parts.hostname, parts.scheme
        except ValueError:
            raise ValueError(f"no address: write {DEFAULT_URL}") from None
        if not host or scheme not in ("ws", "wss"):
            raise ValueError(f"no WebSocket address: write {DEFAULT_URL}")
        if scheme == "ws" and not on_this_machine(url):
            raise ValueError("ws:// would show the key to the network: write wss://")
        if host == "api.deepgram.com":
            raise ValueError(f"the Voice Agent lives on another host: write {DEFAULT_URL}")
        if host.endswith(".deepgram.com") and parts.path.rstrip("/") == "/agent":
            raise ValueError(f"/agent is the early-access protocol, switched off: write {DEFAULT_URL}")
        return url

    @field_validator("raw")
    @classmethod
    def _raw_leaves_ours_alone(cls, raw: Json) -> Json:
        for key in ("type", "audio"):
            if key in raw:
                raise ValueError(
                    f"raw must not hold {key}, which telbridge has to know: write it as a setting"
                )
        agent = raw.get("agent", {})
        blocks = [agent.get(name, {}) for name in _BLOCKS] if isinstance(agent, dict) else [None]
        for block in blocks:
            for one in block if isinstance(block, list) and block else [block]:
                if not isinstance(one, dict):
                    raise ValueError("raw.agent and what is in it must be tables: write [raw.agent.think] …")
        return raw

    @model_validator(mode="after")
    def _fits_together(self) -> DeepgramSettings:
        if self.grant is not None and self.access_token is not None:
            raise ValueError("grant and access_token exclude each other: remove one")
        if isinstance(self.agent, str):
            if "agent" in self.raw:
                raise ValueError("a stored agent is taken as it is: remove raw.agent")
            return self
        fast = (m.provider for m in self.agent.models if isinstance(m.provider, DeepgramThink))
        if self.mip_opt_out and any(provider.model == "think-fast" for provider in fast):
            raise ValueError("think-fast can't be had with mip_opt_out: set it false or take another model")
        self._check_voices_take_the_output(self.agent)
        return self

    def _check_voices_take_the_output(self, agent: Agent) -> None:
        output = self.audio.output
        for voice in agent.voices if output is not None else ():
            provider = voice.provider
            flux = isinstance(provider, DeepgramSpeak) and provider.is_flux
            if flux and output is not None and output.container != "none":
                raise ValueError('a Flux voice comes in no container: write audio.output.container = "none"')
            if not flux and output is not None and output.sample_rate == _FLUX_ONLY_HZ:
                raise ValueError("44100 Hz is for Flux voices: write audio.output.sample_rate = 24000")

    @property
    def appendix(self) -> tuple[str, ...]:
        """What is put after every prompt."""
        profile = (
            self.user_profile and f"About the caller: {json.dumps(self.user_profile, ensure_ascii=False)}"
        )
        return tuple(text for text in (self.append_prompt, profile) if text)


def session_formats(settings: DeepgramSettings, wire: AudioFormat) -> tuple[AudioFormat, AudioFormat]:
    """Uplink and downlink."""
    natural = wire if wire in (PCMU_8K, PCMA_8K) else AudioFormat(Encoding.PCM16, _near_rate(wire.rate_hz))
    asked, wanted = settings.audio.input, settings.audio.output
    uplink = natural if asked is None else AudioFormat(_ENCODINGS[asked.encoding], asked.sample_rate)
    if wanted is None or (wanted.encoding is None and wanted.sample_rate is None):
        return uplink, natural
    # A rate without an encoding means the API's own default encoding.
    encoding = _ENCODINGS[wanted.encoding or "linear16"]
    usual_hz = _DEFAULT_LINEAR_HZ if encoding is Encoding.PCM16 else 8_000
    return uplink, AudioFormat(encoding, wanted.sample_rate or usual_hz)


def _near_rate(rate_hz: int) -> int:
    """The API's best use of a wire: no rate above the one that its voices are made in."""
    return rate_hz if rate_hz in (8_000, 16_000) else _DEFAULT_LINEAR_HZ


def settings_message(
    settings: DeepgramSettings, environ: Mapping[str, str], *, uplink: AudioFormat, downlink: AudioFormat
) -> Json:
    """The whole `Settings`, secrets revealed: for the wire only. SecretMissing if one is not there."""
    look_for_secrets(settings.agent, "agent", environ)
    fields = revealed(settings, environ, include=_SESSION_FIELDS, exclude_unset=True, exclude_none=True)
    agent = fields.pop("agent", {})
    if isinstance(agent, dict):
        agent = {**PHONE, **agent}
    audio = _audio_object(settings, uplink, downlink)
    message = deep_merged({"type": "Settings", **fields, "audio": audio, "agent": agent}, settings.raw)
    return with_notes(message, settings.appendix)


def _audio_object(settings: DeepgramSettings, uplink: AudioFormat, downlink: AudioFormat) -> Json:
    """Always everything: the defaults of the API's pages contradict each other."""
    wanted = settings.audio.output or AudioOutput()
    output: Json = {**_format_object(downlink), "container": wanted.container}
    if wanted.bitrate is not None:
        output["bitrate"] = wanted.bitrate
    return {"input": _format_object(uplink), "output": output}


def _format_object(audio_format: AudioFormat) -> Json:
    return {"encoding": _WIRE_NAMES[audio_format.encoding], "sample_rate": audio_format.rate_hz}


def with_notes(message: Json, notes: Sequence[str]) -> Json:
    """A Settings message with more text after each of its prompts; a stored agent is left as it is."""
    agent = message["agent"]
    if not notes or not isinstance(agent, dict):
        return message
    return {**message, "agent": {**agent, "think": noted(agent["think"], notes)}}


def noted(think: Any, notes: Sequence[str]) -> Any:
    """A think block, or an array of them, with more text after each prompt."""
    if isinstance(think, list):
        return [noted(one, notes) for one in think]
    prompt = "\n\n".join(text for text in (think.get("prompt"), *notes) if text)
    return {**think, "prompt": prompt} if prompt else think
