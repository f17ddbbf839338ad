"""What an AssemblyAI session's `system_prompt` holds besides what its author wrote.

The prompt is the one text that the vendor's own model was seen to follow mid-session; conversation.message,
the documented way for notes, was seen to have no effect on it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from telbridge.call.events import Said
from telbridge.sessions.assemblyai.settings import AssemblyAISettings

KEPT_NOTES: Final = 64
CONVERSATION_MAX: Final = 12_000
"""Characters: some twenty minutes of talk. The newest are kept."""

_HEAD: Final = (
    "You are in the middle of this conversation with the caller. Go on from here and do not greet again."
)


@dataclass(slots=True, repr=False)
class Prompt:
    """One call's; outlives a broken session."""

    stored: str | None = None
    """A stored agent's own, as the server told it."""
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_NOTES))
    conversation: str = ""

    def is_known(self, settings: AssemblyAISettings) -> bool:
        """Whether a prompt sent now would replace nothing unknown."""
        return settings.agent_id is None or settings.system_prompt is not None or self.stored is not None

    def is_ours(self, settings: AssemblyAISettings) -> bool:
        """Whether there is anything to send."""
        added = settings.caller_facts or self.conversation or self.notes
        return settings.system_prompt is not None or bool(added)

    def text(self, settings: AssemblyAISettings) -> str:
        """The whole prompt, its parts in the order in which they were known."""
        base = settings.system_prompt if settings.system_prompt is not None else self.stored
        parts = [base]
        if settings.caller_facts:
            facts = json.dumps(settings.caller_facts, ensure_ascii=False)
            parts.append(f"Facts about the caller: {facts}")
        parts += [self.conversation, *self.notes]
        return "\n\n".join(part for part in parts if part)

    def kept(self) -> Prompt:
        """The same for another connection, which may be told more of the conversation; notes are shared."""
        return Prompt(self.stored, self.notes, self.conversation)

    def retell(self, said: Sequence[Said]) -> None:
        """The conversation so far, for a session that has not heard it."""
        lines: list[str] = []
        room = CONVERSATION_MAX
        for one in reversed(said):
            line = f"{'Caller' if one.by_caller else 'You'}: {one.text}"
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        self.conversation = "\n".join([_HEAD, *reversed(lines)]) if lines else ""


def exactly(words: str) -> str:
    """Instructions of a reply, for words to be spoken as they are."""
    return f"Say exactly this, word by word, and nothing else: {words}"


def written(words: str) -> str:
    """Instructions of a reply to what the caller typed."""
    return f"Answer what the caller has just sent as text: {words}"


def learnt(words: str) -> str:
    """Instructions of a reply to what the agent was told."""
    return f"You have just learnt this, speak to the caller accordingly: {words}"
