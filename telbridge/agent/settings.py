"""Settings of the embedded agent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

BrainName = Literal["receptionist", "echo", "script", "chat"]


class BargeInSettings(BaseModel):
    """When the caller's voice counts as an interruption while the agent speaks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="False: the agent always finishes its sentence.")
    speech_ms: int = Field(
        96, ge=32, le=1000, description="So much speech of the caller in a row (in ms) is an interruption."
    )
    probability: float = Field(
        0.7, gt=0, lt=1, description="Voice probability that counts as speech meanwhile."
    )
    echo_margin_db: float = Field(
        26.0, ge=0, le=60, description="Sound this far below the agent's own (in dB) is taken for its echo."
    )
    echo_delay_ms: int = Field(
        400, ge=0, le=1000, description="How late the agent's own voice may come back from the caller's side."
    )


class ChatSettings(BaseModel):
    """The language model behind the brain `chat`: any OpenAI-compatible /chat/completions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(None, description="Base address, for example http://127.0.0.1:11434/v1.")
    model: str = Field("default", min_length=1, description="Model name, as the endpoint knows it.")
    key_env: str | None = Field(
        None, description="Environment variable that holds the key; none: no key is sent."
    )
    timeout_s: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="Longest wait for the next piece of an answer."
    )
    max_history: int = Field(40, ge=2, description="Messages of the conversation that are sent along.")


class AgentSettings(BaseModel):
    """All an agent process needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless you know better.")
    port: int = Field(
        0, ge=0, le=65535, description="Port to listen on; 0 takes a free one (see the ready line)."
    )
    brain: BrainName = Field("receptionist", description="What answers: receptionist, echo, script or chat.")
    script: Path | None = Field(None, description="TOML file of the brains `receptionist` and `script`.")
    voice: str = Field(
        "heart", min_length=1, description="Voice of hibari-tts, or the path of one of its models."
    )
    level_dbfs: float = Field(
        -20.0, le=-6, ge=-40, description="Loudness of the agent's speech (active RMS)."
    )
    end_of_turn_ms: int = Field(
        500, ge=100, le=5000, description="Silence that ends the caller's turn, unless the client sets it."
    )
    speculate_ms: int = Field(
        200,
        ge=50,
        le=5000,
        description="Silence after which recognition starts on the chance that the turn is over.",
    )
    barge_in: BargeInSettings = Field(default_factory=lambda: BargeInSettings())
    min_confidence: float = Field(
        -0.5, le=0, description="Mean log-probability a token, below which words are taken for noise."
    )
    stt_workers: int | None = Field(
        None, ge=1, le=16, description="Processes that recognise speech; default: one for 2 cores, 2 to 4."
    )
    tts_workers: int | None = Field(
        None,
        ge=1,
        le=16,
        description="Processes that synthesise speech; default: one for 4 cores, 1 or 2.",
    )
    max_pending: int = Field(
        32, ge=1, description="Pieces of work that may wait for a worker; more are refused."
    )
    chat: ChatSettings = Field(default_factory=lambda: ChatSettings())
    key_env: str | None = Field(
        None, description="Environment variable with the key clients must show; none: any client is let in."
    )
    max_session_s: float = Field(
        3600.0, gt=0, allow_inf_nan=False, description="Longest session, as the real service has it."
    )

    @model_validator(mode="after")
    def _brain_has_what_it_needs(self) -> AgentSettings:
        if self.brain == "script" and self.script is None:
            raise ValueError("brain `script` needs `script`, a TOML file")
        if self.brain == "chat" and self.chat.url is None:
            raise ValueError("brain `chat` needs `chat.url`")
        return self
