"""One response of OpenAI Realtime: the server events from `response.created` to `response.done`.

Order as the vendor documents it: created, rate limits, item and part added, deltas, then the same in
reverse. Item and part open with the first word or sound, so a reply without either has no item.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from telbridge.agent.facades.realtime import CHARS_PER_TOKEN, MS_PER_OUTPUT_TOKEN, Json, Outbox
from telbridge.audio.formats import AudioFormat


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What is fixed when a response is made."""

    id: str
    text_only: bool
    format: AudioFormat
    format_json: Json
    voice: Any
    conversation_id: str | None
    """None: out of band, in no conversation."""
    max_output_tokens: Any
    metadata: Json | None


@dataclass(slots=True)
class Response:
    """A response being made. It writes to the outbox and knows nothing of the conversation."""

    facts: ResponseFacts
    item_id: str
    outbox: Outbox
    add_item: Callable[[Json], str | None]
    """Puts an item into the conversation and gives the id of the one before it."""
    update_item: Callable[[Json], None]
    closed: bool = False
    octets: int = 0
    text: str = ""
    _output: list[Json] = field(default_factory=list)
    _part_open: bool = False
    _delta_head: str = ""

    @property
    def audio_ms(self) -> int:
        """Length of the audio sent so far."""
        return int(self.facts.format.ms_in(self.octets))

    def start(self) -> None:
        self.outbox.send("response.created", response=self._as_json("in_progress", None))
        limit = {"name": "requests", "limit": 10_000, "remaining": 9_999, "reset_seconds": 0.0}
        self.outbox.send("rate_limits.updated", rate_limits=[limit])

    def audio_text(self, base64_text: str) -> None:
        """One delta. Hot path: with the part open it is one string and one sum."""
        if not self._part_open:
            self._open_part()
        length = len(base64_text)
        self.octets += length // 4 * 3 - base64_text.count("=", length - 2 if length > 2 else 0)
        self.outbox.send_delta(self._delta_head, base64_text)

    def words(self, text: str) -> None:
        if not self._part_open:
            self._open_part()
        self.text += text
        kind = (
            "response.output_text.delta" if self.facts.text_only else "response.output_audio_transcript.delta"
        )
        self.outbox.send(kind, **self._ids(), content_index=0, delta=text)

    def call_tool(self, name: str, arguments: str, item_id: str, call_id: str) -> None:
        """A function call is an item of its own, behind what was said."""
        self._close_part("completed")
        ids = {"response_id": self.facts.id, "output_index": len(self._output)}
        item: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": name,
            "call_id": call_id,
            "arguments": "",
        }
        self._item_added(item, ids)
        keyed = {**ids, "item_id": item_id, "call_id": call_id}
        self.outbox.send("response.function_call_arguments.delta", **keyed, delta=arguments)
        self.outbox.send("response.function_call_arguments.done", **keyed, name=name, arguments=arguments)
        self._item_done({**item, "status": "completed", "arguments": arguments}, ids)

    def finish(self, status: str, reason: str | None = None) -> None:
        """Close what is open and send `response.done`."""
        self._close_part("completed" if status == "completed" else "incomplete")
        self.closed = True
        details: Json | None = None if status == "completed" else {"type": status, "reason": reason}
        self.outbox.send("response.done", response=self._as_json(status, details))

    # -- parts --------------------------------------------------------------------------------------

    def _ids(self) -> Json:
        return {"response_id": self.facts.id, "item_id": self.item_id, "output_index": len(self._output)}

    def _item(self, status: str, content: list[Json]) -> Json:
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _item_added(self, item: Json, ids: Json) -> None:
        in_conversation = self.facts.conversation_id is not None
        self.outbox.send("response.output_item.added", **ids, item=item)
        if in_conversation:
            self.outbox.send("conversation.item.added", previous_item_id=self.add_item(item), item=item)

    def _item_done(self, item: Json, ids: Json) -> None:
        if self.facts.conversation_id is not None:
            self.update_item(item)
            self.outbox.send("conversation.item.done", item=item)
        self.outbox.send("response.output_item.done", **ids, item=item)
        self._output.append(item)

    def _part(self, text: str) -> Json:
        return (
            {"type": "text", "text": text} if self.facts.text_only else {"type": "audio", "transcript": text}
        )

    def _open_part(self) -> None:
        self._part_open = True
        ids = self._ids()
        self._item_added(self._item("in_progress", []), {k: v for k, v in ids.items() if k != "item_id"})
        self.outbox.send("response.content_part.added", **ids, content_index=0, part=self._part(""))
        head = {"type": "response.output_audio.delta", **ids, "content_index": 0, "event_id": ""}
        self._delta_head = json.dumps(head, separators=(",", ":"))[:-2] + f"event_{self.outbox.session_id}"

    def _close_part(self, status: str) -> None:
        if not self._part_open:
            return
        self._part_open = False
        ids = {**self._ids(), "content_index": 0}
        if self.facts.text_only:
            self.outbox.send("response.output_text.done", **ids, text=self.text)
            content: Json = {"type": "output_text", "text": self.text}
        else:
            self.outbox.send("response.output_audio.done", **ids)
            self.outbox.send("response.output_audio_transcript.done", **ids, transcript=self.text)
            content = {"type": "output_audio", "transcript": self.text}
        self.outbox.send("response.content_part.done", **ids, part=self._part(self.text))
        item_ids = {"response_id": self.facts.id, "output_index": len(self._output)}
        self._item_done(self._item(status, [content]), item_ids)

    def _as_json(self, status: str, details: Json | None) -> Json:
        facts = self.facts
        return {
            "object": "realtime.response",
            "id": facts.id,
            "status": status,
            "status_details": details,
            "output": self._output,
            "conversation_id": facts.conversation_id,
            "output_modalities": ["text"] if facts.text_only else ["audio"],
            "max_output_tokens": facts.max_output_tokens,
            "audio": {"output": {"format": facts.format_json, "voice": facts.voice}},
            "usage": None if status == "in_progress" else self._usage(),
            "metadata": facts.metadata,
        }

    def _usage(self) -> Json:
        audio, text = self.audio_ms // MS_PER_OUTPUT_TOKEN, len(self.text) // CHARS_PER_TOKEN
        return {
            "total_tokens": audio + text,
            "input_tokens": 0,
            "output_tokens": audio + text,
            "input_token_details": {
                "text_tokens": 0,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 0,
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }
