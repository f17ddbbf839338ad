"""The brain that asks a language model: any OpenAI-compatible /chat/completions, streamed.

What the model writes is spoken sentence by sentence while it is still writing. What the caller did not
hear is taken out of the history, so that the model does not believe it was said.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import structlog

from telbridge.agent.brains.talking import (
    Asked,
    CallTool,
    Idle,
    Prompt,
    Say,
    Spoken,
    ToolDone,
    Typed,
    Unclear,
)
from telbridge.agent.settings import ChatSettings
from telbridge.agent.speech.tts import sentences

log: Final = structlog.get_logger("telbridge.agent")

STYLE: Final = "You are on the telephone: answer in one to three short spoken sentences, no lists, no markup."
NOT_REACHED: Final = "I am sorry, I cannot think straight at the moment. Please try again."
_EVENTS: Final = {
    Unclear: "(The caller said something that could not be understood. Ask them to repeat it.)",
    Idle: "(The caller has been silent for a while. Ask whether they are still there.)",
    Asked: "(The call has just been connected or needs a word from you. Speak now.)",
}


class ChatTalker:
    """One conversation with the model."""

    def __init__(self, http: aiohttp.ClientSession, settings: ChatSettings) -> None:
        self._http = http
        self._settings = settings
        self._instructions = ""
        self._history: list[dict[str, str]] = []
        self._notes: list[str] = []

    def configured(self, instructions: str) -> None:
        self._instructions = instructions

    def note(self, text: str) -> None:
        self._notes.append(text)

    def said(self, text: str) -> None:
        """Only so much of the last answer was heard (or it was said word for word, by order)."""
        if self._history and self._history[-1]["role"] == "assistant":
            self._history[-1]["content"] = text
        elif text:
            self._remember("assistant", text)

    async def answer(self, prompt: Prompt) -> AsyncIterator[Say | CallTool]:
        extra = prompt.instructions if isinstance(prompt, Asked) else None
        self._remember("user", _as_text(prompt))
        self._remember("assistant", "")
        answer = self._history[-1]
        try:
            async for sentence in self._sentences(extra):
                answer["content"] = f"{answer['content']} {sentence}".strip()
                yield Say(sentence)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("agent_chat_failed", reason=f"{type(error).__name__}: {error}")
            if not answer["content"]:
                answer["content"] = NOT_REACHED
                yield Say(NOT_REACHED)

    async def _sentences(self, extra: str | None) -> AsyncIterator[str]:
        """Whole sentences, each as soon as the next one begins."""
        pending = ""
        async for piece in self._pieces(extra):
            *complete, pending = sentences(pending + piece) or [""]
            # A split text has lost its trailing space, and the next piece may begin with a word.
            if piece[-1:].isspace():
                pending += " "
            for sentence in complete:
                yield sentence
        if pending.strip():
            yield pending.strip()

    async def _pieces(self, extra: str | None) -> AsyncIterator[str]:
        settings = self._settings
        body = {"model": settings.model, "stream": True, "messages": self._messages(extra)}
        key = os.environ.get(settings.key_env or "", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.timeout_s, sock_read=settings.timeout_s
        )
        url = f"{(settings.url or '').rstrip('/')}/chat/completions"
        async with self._http.post(url, json=body, headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.content:
                data = line.decode().strip().removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                if data.startswith("{"):
                    yield _piece_of(json.loads(data))

    def _messages(self, extra: str | None) -> list[dict[str, str]]:
        system = "\n".join([STYLE, extra or self._instructions, *self._notes])
        history = [m for m in self._history if m["content"]]
        return [{"role": "system", "content": system}, *history]

    def _remember(self, role: str, text: str) -> None:
        self._history.append({"role": role, "content": text})
        del self._history[: -self._settings.max_history]


def _as_text(prompt: Prompt) -> str:
    match prompt:
        case Spoken(text) | Typed(text):
            return text
        case ToolDone(output):
            return f"(A function has answered: {output})"
        case _:
            return _EVENTS[type(prompt)]


def _piece_of(chunk: Any) -> str:
    """The text of one chunk of the stream; chunks without any are legal."""
    choices = chunk.get("choices") or [{}]
    content = choices[0].get("delta", {}).get("content")
    return content if isinstance(content, str) else ""
