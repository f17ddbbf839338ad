"""One response of Voice Live: the server events from `response.created` to `response.done`.

Order as the vendor's reference has it: created, item added and created, part added, deltas, then the same in
reverse (learn.microsoft.com, speech-service/voice-live-api-reference-2026-07-15). Item and part open with the
first word or sound, so a reply without either has no item.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from telbridge.agent.facades.realtime import CHARS_PER_TOKEN, MS_PER_OUTPUT_TOKEN, Json, Outbox
from telbridge.audio.formats import AudioFormat

NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What is fixed when a response is made."""

    id: str
    modalities: list[str]
    format: AudioFormat
    format_name: str
    voice: str | Json
    conversation_id: str | None
    """None: in no conversation."""
    temperature: float
    max_output_tokens: int | str
    metadata: Json | None
    pre_generated: str | None
    """The words to be spoken, when the client gave them instead of asking for some."""
    word_timestamps: bool

    @property
    def text_only(self) -> bool:
        return "audio" not in self.modalities


@dataclass(slots=True)
class Speech:
    """One message item of a response: what is said in it."""

    item_id: str
    response_id: str
    format: AudioFormat
    before_ms: int
    """Length of the response's earlier items."""
    text: str = ""
    octets: int = 0
    since_ns: int | None = None
    """When its first audio was sent."""
    cut_ms: int | None = None
    """Where it was truncated."""

    @property
    def length_ms(self) -> int:
        """Of the audio that there is of it."""
        sent_ms = int(self.format.ms_in(self.octets))
        return sent_ms if self.cut_ms is None else min(sent_ms, self.cut_ms)

    def played_ms(self, now_ns: int) -> int:
        """How much of it is heard by now, as the service reckons: in real time since it was sent."""
        elapsed_ms = 0 if self.since_ns is None else max(0, now_ns - self.since_ns) // NS_PER_MS
        return min(elapsed_ms, self.length_ms)


@dataclass(slots=True)
class Response:
    """A response being made. It writes to the outbox and knows nothing of the conversation."""

    facts: ResponseFacts
    outbox: Outbox
    new_item_id: Callable[[], str]
    add_item: Callable[[Json], str | None]
    """Puts an item into the conversation and gives the id of the one before it."""
    update_item: Callable[[Json], None]
    _speech: Speech | None = None
    _audio_ms: int = 0
    _chars: int = 0
    """Both of the items that are done."""
    _output: list[Json] = field(default_factory=list)
    _delta_head: str = ""

    def start(self) -> None:
        self.outbox.send("response.created", response=self._as_json("in_progress", None))

    def audio_text(self, base64_text: str) -> Speech:
        """One delta; the item it went into. Hot path: with the item open it is one string and one sum."""
        speech = self._speech or self._open_speech()
        length = len(base64_text)
        speech.octets += length // 4 * 3 - base64_text.count("=", length - 2 if length > 2 else 0)
        self.outbox.send_delta(self._delta_head, base64_text)
        return speech

    def words(self, text: str) -> None:
        """What is being said. Of a pre-generated message it is known already, and was sent in one piece."""
        speech = self._speech or self._open_speech()
        if self.facts.pre_generated is None:
            self._say(speech, text)

    def call_tool(self, name: str, arguments: str, call_id: str) -> None:
        """A function call is an item of its own, behind what was said."""
        self._close_speech("completed")
        item_id = self.new_item_id()
        item: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": name,
            "call_id": call_id,
            "arguments": "",
        }
        self._item_added(item)
        ids = {"response_id": self.facts.id, "output_index": len(self._output)}
        keyed = {**ids, "item_id": item_id, "call_id": call_id}
        self.outbox.send("response.function_call_arguments.delta", **keyed, delta=arguments)
        self.outbox.send("response.function_call_arguments.done", **keyed, name=name, arguments=arguments)
        self._item_done({**item, "status": "completed", "arguments": arguments})

    def finish(self, status: str, reason: str | None = None) -> None:
        """Close what is open and send `response.done`."""
        self._close_speech("completed" if status == "completed" else "incomplete")
        details: Json | None = None if status == "completed" else {"type": status, "reason": reason}
        self.outbox.send("response.done", response=self._as_json(status, details))

    # -- items --------------------------------------------------------------------------------------

    def _item_added(self, item: Json) -> None:
        ids = {"response_id": self.facts.id, "output_index": len(self._output)}
        self.outbox.send("response.output_item.added", **ids, item=item)
        if self.facts.conversation_id is not None:
            self.outbox.send("conversation.item.created", previous_item_id=self.add_item(item), item=item)

    def _item_done(self, item: Json) -> None:
        ids = {"response_id": self.facts.id, "output_index": len(self._output)}
        self.update_item(item)
        self.outbox.send("response.output_item.done", **ids, item=item)
        self._output.append(item)

    def _ids(self, speech: Speech) -> Json:
        place = {"output_index": len(self._output), "content_index": 0}
        return {"response_id": self.facts.id, "item_id": speech.item_id, **place}

    def _message(self, speech: Speech, status: str, content: list[Json]) -> Json:
        return {
            "id": speech.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _part(self, speech: Speech) -> Json:
        if self.facts.text_only:
            return {"type": "text", "text": speech.text}
        return {"type": "audio", "transcript": speech.text}

    def _open_speech(self) -> Speech:
        speech = Speech(self.new_item_id(), self.facts.id, self.facts.format, self._audio_ms)
        first = not self._output
        self._speech = speech
        self._item_added(self._message(speech, "in_progress", []))
        ids = self._ids(speech)
        self.outbox.send("response.content_part.added", **ids, part=self._part(speech))
        head = {"type": "response.audio.delta", **ids, "event_id": ""}
        self._delta_head = json.dumps(head, separators=(",", ":"))[:-2] + f"event_{self.outbox.session_id}"
        if first and self.facts.pre_generated is not None:
            self._say(speech, self.facts.pre_generated)
        return speech

    def _say(self, speech: Speech, text: str) -> None:
        speech.text += text
        kind = "response.text.delta" if self.facts.text_only else "response.audio_transcript.delta"
        self.outbox.send(kind, **self._ids(speech), delta=text)

    def _close_speech(self, status: str) -> None:
        speech, self._speech = self._speech, None
        if speech is None:
            return
        ids, part = self._ids(speech), self._part(speech)
        if self.facts.text_only:
            self.outbox.send("response.text.done", **ids, text=speech.text)
        else:
            if self.facts.word_timestamps:
                self._word_timestamps(speech, ids)
            self.outbox.send("response.audio.done", **ids)
            self.outbox.send("response.audio_transcript.done", **ids, transcript=speech.text)
        self.outbox.send("response.content_part.done", **ids, part=part)
        self._item_done(self._message(speech, status, [part]))
        self._audio_ms += speech.length_ms
        self._chars += len(speech.text)

    def _word_timestamps(self, speech: Speech, ids: Json) -> None:
        """The service tells each word with its sound; here they are known at the end, evenly spread."""
        words, length_ms = speech.text.split(), speech.length_ms
        edges_ms = [length_ms * index // len(words) for index in range(len(words) + 1)] if words else []
        for word, (start_ms, end_ms) in zip(words, pairwise(edges_ms), strict=True):
            times = {"audio_offset_ms": start_ms, "audio_duration_ms": end_ms - start_ms}
            fields = {**ids, **times, "text": word, "timestamp_type": "word"}
            self.outbox.send("response.audio_timestamp.delta", **fields)
        self.outbox.send("response.audio_timestamp.done", **ids)

    def _as_json(self, status: str, details: Json | None) -> Json:
        facts = self.facts
        return {
            "object": "realtime.response",
            "id": facts.id,
            "status": status,
            "status_details": details,
            "output": self._output,
            "conversation_id": facts.conversation_id,
            "modalities": facts.modalities,
            "voice": facts.voice,
            "output_audio_format": facts.format_name,
            "temperature": facts.temperature,
            "max_output_tokens": facts.max_output_tokens,
            "usage": None if status == "in_progress" else self._usage(),
            "metadata": facts.metadata,
        }

    def _usage(self) -> Json:
        audio, text = self._audio_ms // MS_PER_OUTPUT_TOKEN, self._chars // CHARS_PER_TOKEN
        nothing: dict[str, Any] = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": audio + text,
            "input_tokens": 0,
            "output_tokens": audio + text,
            "input_token_details": {"cached_tokens": 0, **nothing, "cached_tokens_details": nothing},
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }
