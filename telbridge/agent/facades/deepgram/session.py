"""The configuration of one Deepgram session: from `Settings`, through the updates, to what a brain needs."""

from __future__ import annotations

from typing import Final, Literal

from telbridge.agent.events import Configured, Tool, TurnDetection
from telbridge.agent.facades.deepgram import schema as schema
from telbridge.agent.facades.deepgram.providers import (
    MANAGED_PROMPT_MAX_CHARS,
    FluxListen,
    Function,
    NovaListen,
    Speak,
    Think,
    check_listen,
    check_speak,
    check_think,
)
from telbridge.agent.facades.deepgram.schema import Settings

EOT_THRESHOLD: Final = 0.7
EOT_TIMEOUT_MS: Final = 5_000
NEVER_MS: Final = 3_600_000
"""The silence that ends a turn where only the client ends turns."""


class Configuration:
    """Settings that the service has taken. What an update may not change raises RefusedError and changes
    nothing."""

    def __init__(self, settings: Settings, silence_ms: int) -> None:
        """`silence_ms`: what ends a turn unless the client's thresholds say otherwise. RefusedError."""
        self.input, self.output = schema.check_settings(settings)
        audio_output = settings.audio.output
        self.wave = audio_output is not None and audio_output.container == "wav"
        agent = settings.agent
        self.experimental = settings.experimental is True
        self.history = settings.flags is None or settings.flags.history is not False
        self.greeting = agent.greeting or ""
        self._settings = settings
        self._silence_ms = silence_ms
        self._listen = agent.listen
        self._context = _told(agent.context)
        self._think: tuple[Think, ...] = ()
        self._prompt = ""
        self.cuts_prompt = self._take_think(schema.chain_of(agent.think))

    # -- what it says ---------------------------------------------------------------------------------

    @property
    def provider(self) -> NovaListen | FluxListen | None:
        """Who listens; None: the service's default, which is no Flux model as far as is known."""
        return self._listen.provider if self._listen is not None else None

    @property
    def flux(self) -> bool:
        return isinstance(self.provider, FluxListen)

    @property
    def languages(self) -> dict[str, list[str]]:
        """What a transcript says of its language, where the model tells languages apart."""
        provider = self.provider
        if not isinstance(provider, FluxListen) or not provider.model.endswith("-multi"):
            return {}
        # The recogniser behind this agent understands English and nothing else.
        return {"languages_hinted": provider.language_hints or [], "languages": ["en"]}

    @property
    def turn_end_trigger(self) -> Literal["model", "timeout"]:
        """Why a turn that nobody forced has ended."""
        provider = self.provider
        if not isinstance(provider, FluxListen) or self._silence() < _timeout_ms(provider):
            return "model"
        return "timeout"

    def function(self, name: str) -> Function | None:
        return next((f for think in self._think[:1] for f in think.functions or () if f.name == name), None)

    def configured(self, *, detects_turns: bool = True) -> Configured:
        """For the brain; `detects_turns` False: the client is just now ending one by hand."""
        functions = [function for think in self._think[:1] for function in think.functions or ()]
        return Configured(
            input=self.input,
            output=self.output,
            instructions="\n\n".join(part for part in (self._prompt, self._context) if part),
            turns=self._turns() if detects_turns else None,
            text_only=False,
            tools=tuple(Tool(f.name, f.description or "") for f in functions),
            by_client=True,
        )

    # -- updates --------------------------------------------------------------------------------------

    def add_prompt(self, text: str) -> bool:
        """Behind the prompt so far (developers.deepgram.com/docs/voice-agent-update-prompt); True if it had
        to be cut."""
        self._prompt = f"{self._prompt}\n{text}" if self._prompt else text
        return self._cut_prompt()

    def replace_think(self, chain: tuple[Think, ...]) -> bool:
        """The whole of it, functions and prompt included; True if the prompt had to be cut."""
        check_think(chain, mip_opt_out=self._settings.mip_opt_out is True)
        return self._take_think(chain)

    def replace_speak(self, voices: tuple[Speak, ...]) -> None:
        """The brains have one voice, so this only has to be possible."""
        check_speak(voices)
        schema.output_format(self._settings.audio.output, voices)

    def update_listen(self, update: schema.ListenUpdate) -> bool:
        """False, and nothing changed, for what the service only warns of."""
        before, given = self.provider, update.provider
        if isinstance(given, NovaListen) and given.keyterms is not None:
            kept = before.keyterms if isinstance(before, NovaListen) else None
            if given.keyterms != kept:
                return False
        listen = schema.with_update(self._listen, update)
        check_listen(listen.provider)
        self._listen = listen
        return True

    # -- helpers --------------------------------------------------------------------------------------

    def _take_think(self, chain: tuple[Think, ...]) -> bool:
        self._think = chain
        self._prompt = chain[0].prompt or "" if chain else ""
        return self._cut_prompt()

    def _cut_prompt(self) -> bool:
        """Models that the service runs itself take no more than so much."""
        managed = not self._think or self._think[0].endpoint is None
        if not managed or len(self._prompt) <= MANAGED_PROMPT_MAX_CHARS:
            return False
        self._prompt = self._prompt[:MANAGED_PROMPT_MAX_CHARS]
        return True

    def _silence(self) -> float:
        """The silence that stands for the model's confidence: the more is asked, the longer, in ms."""
        provider = self.provider
        if not isinstance(provider, FluxListen):
            return self._silence_ms
        threshold = EOT_THRESHOLD if provider.eot_threshold is None else provider.eot_threshold
        return self._silence_ms * threshold / EOT_THRESHOLD

    def _turns(self) -> TurnDetection:
        provider = self.provider
        silence_ms = self._silence()
        if isinstance(provider, FluxListen):
            by_hand = provider.eot_threshold == 1.0
            silence_ms = NEVER_MS if by_hand else min(silence_ms, _timeout_ms(provider))
        return TurnDetection(
            threshold=0.5,
            prefix_ms=300,
            silence_ms=round(silence_ms),
            idle_ms=None,
            answers=True,
            interrupts=True,
        )


def _timeout_ms(provider: FluxListen) -> int:
    return EOT_TIMEOUT_MS if provider.eot_timeout_ms is None else provider.eot_timeout_ms


def _told(context: schema.Context | None) -> str:
    """An earlier conversation, as a brain can take it in: at the end of its instructions."""
    lines: list[str] = []
    for message in (context.messages if context is not None else None) or ():
        if isinstance(message, schema.SpokenHistory):
            lines.append(f"{message.role}: {message.content}")
        else:
            lines += [f"{call.name}({call.arguments}): {call.response}" for call in message.function_calls]
    return "\n".join(["The conversation so far:", *lines]) if lines else ""
