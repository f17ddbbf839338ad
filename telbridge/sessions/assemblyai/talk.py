"""What is spoken in an AssemblyAI session: turns, replies, transcripts and tool calls. Pure.

Pages: voice-agent-api/events-reference, turn-detection-and-interruptions, tools/client-side-tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeAlias

from telbridge.audio.formats import AudioFormat
from telbridge.call.events import (
    AgentAudio,
    AgentEvent,
    AgentInterrupted,
    AgentTranscript,
    AgentWarning,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CallerTranscript,
    ReplyAudioDone,
    ReplyDone,
    ReplyStatus,
    ToolCall,
    ToolCallCancelled,
)
from telbridge.dialplan.vocabulary import Json
from telbridge.sessions.assemblyai.replies import Phase, Replies, Reply, ReplyQueue
from telbridge.sessions.assemblyai.tools import ToolCalls
from telbridge.sessions.wire import Malformed, optional_table, optional_text, text

Handler: TypeAlias = Callable[[Json, int], list[AgentEvent]]

_STATUS: Final = {
    "completed": ReplyStatus.COMPLETED,
    "interrupted": ReplyStatus.CANCELLED,
    "cancelled": ReplyStatus.CANCELLED,
    "failed": ReplyStatus.FAILED,
}
"""Statuses of reply.done; the last two stand in the vendor's SDK only. Any other is INCOMPLETE."""

_MOST_STATUS: Final = 100


class Talk:
    """One session's; outlives a connection that is resumed."""

    def __init__(
        self, downlink: AudioFormat, *, flush_on_speech_started: bool, results_at_once: bool
    ) -> None:
        self.replies = Replies()
        self.queue = ReplyQueue()
        self.tools = ToolCalls(results_at_once)
        self.mute_next = False
        """The next reply is not for the caller: the greeting of a session that replaces a broken one."""
        self._downlink = downlink
        self._flush = flush_on_speech_started
        self._barge_in = True
        self._results: list[Json] = []
        self.handlers: Final[dict[str, Handler]] = {
            "input.speech.started": self._on_speech_started,
            "input.speech.stopped": self._on_speech_stopped,
            "transcript.user": self._on_caller_transcript,
            "transcript.user.delta": _nothing,
            "reply.started": self._on_reply_started,
            "reply.audio": self._on_audio,
            "transcript.agent.delta": self._on_agent_words,
            "transcript.agent": self._on_agent_transcript,
            "reply.done": self._on_reply_done,
            # Of servers before the public launch.
            "reply.interrupted": self._on_reply_interrupted,
            "tool.call": self._on_tool_call,
        }

    def learn(self, config: Json) -> None:
        """A `session` object: ours as it is sent, the server's as it answers."""
        detection = optional_table(optional_table(config, "input"), "turn_detection")
        if isinstance(barge_in := detection.get("interrupt_response"), bool):
            self._barge_in = barge_in
        if config.get("tools") is not None:
            self.tools.learn(config["tools"])

    def messages(self) -> list[Json]:
        """What is to be sent now: tool results, a reply.create."""
        out, self._results = self._results, []
        if self.queue.may_send():
            instructions = self.queue.send()
            create: Json = {"type": "reply.create"}
            out.append(create if instructions is None else {**create, "instructions": instructions})
        return out

    def interrupt(self) -> None:
        """The rest of the running reply is not passed on; the API has no way to be told."""
        reply = self.replies.running()
        if reply is not None:
            reply.phase = Phase.CUT

    def tool_result(self, call_id: str, output: str, *, failed: bool) -> None:
        speaking = self.replies.running() is not None
        message = self.tools.answer(call_id, output, failed=failed, speaking=speaking)
        if message is not None:
            self._answer([message])

    def lost(self) -> list[AgentEvent]:
        """A new session took the place of a broken one: what the old one left open ends here."""
        events: list[AgentEvent] = []
        reply = self.replies.running()
        if self.replies.newest is not None:
            events += self._unended(self.replies.newest)
        if reply is not None:
            events += _audio_done(reply)
            events.append(ReplyDone(reply.id, ReplyStatus.INCOMPLETE, "connection lost"))
        self.replies.forget()
        self.queue = ReplyQueue(self.queue.waiting)
        self._results.clear()
        return events + [ToolCallCancelled(call_id) for call_id in self.tools.forget()]

    def _answer(self, results: list[Json]) -> None:
        """The API goes on by itself once it has a result."""
        self._results += results
        self.queue.expect_reply()

    # ------------------------------------------------------------ the caller

    def _on_speech_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """If it was no interruption after all, the reply goes on, and its rest should be heard."""
        interrupts = self._flush and self._barge_in
        reply = self.replies.running()
        if interrupts and reply is not None and reply.sounding:
            reply.flushed = True
        return [CallerStartedSpeaking(now_ns, interrupts=interrupts)]

    def _on_speech_stopped(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        self._turn_ended(now_ns)
        return [CallerStoppedSpeaking(now_ns)]

    def _on_caller_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        said = text(fields, "text")
        self._turn_ended(now_ns)
        return [CallerTranscript(said)] if said else []

    def _turn_ended(self, now_ns: int) -> None:
        """What comes now is an answer and no greeting."""
        self.mute_next = False
        self.queue.turn_ended(now_ns)

    # ------------------------------------------------------------ the agent

    def _on_reply_started(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        before = self.replies.running()
        reply = self.replies.begin(text(fields, "reply_id"))
        if reply is None:
            return []
        if self.mute_next:
            self.mute_next, reply.phase = False, Phase.CUT
        self.queue.began(reply.key)
        if before is None:
            return []
        events = _audio_done(before)
        before.was_cut = before.phase is Phase.CUT
        before.phase = Phase.OVER
        return events

    def _on_audio(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        reply = self._begun(fields)
        if reply is None or reply.done or reply.phase is not Phase.RUNNING:
            return []
        try:
            audio = reply.decode(text(fields, "data"), self._downlink)
        except ValueError:
            raise Malformed("`data` is not base64") from None
        if not audio:
            return []
        events: list[AgentEvent] = []
        if reply.flushed:
            events.append(ReplyDone(reply.id, ReplyStatus.CANCELLED, "its rest follows as another reply"))
            reply.id, reply.flushed = self.replies.next_id(), False
        reply.sounding = True
        return [*events, AgentAudio(reply.id, audio, now_ns)]

    def _on_agent_words(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        reply = self._begun(fields)
        delta = text(fields, "delta")
        if reply is None or reply.said_all or not delta:
            return []
        reply.add_words(delta)
        return [AgentTranscript(reply.words_id, reply.said)]

    def _on_agent_transcript(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Of an interrupted reply only what was spoken, so that it may be shorter than the words before."""
        reply = self._begun(fields)
        said = text(fields, "text")
        if reply is None or (reply.said_all and said == reply.said):
            return []
        reply.said, reply.said_all = said, True
        return [AgentTranscript(reply.words_id, said)]

    def _on_reply_done(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        """Some servers leave the status of a completed reply out."""
        status = optional_text(fields, "status") or "completed"
        return self._end_reply(fields, status[:_MOST_STATUS].lower(), now_ns)

    def _on_reply_interrupted(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        return self._end_reply(fields, "interrupted", now_ns)

    def _end_reply(self, fields: Json, status: str, now_ns: int) -> list[AgentEvent]:
        reply = self._begun(fields)
        if reply is None or reply.done:
            return []
        reply.done = True
        unended = self._unended(reply) if reply is self.replies.newest else []
        self.queue.done(reply.key)
        outcome = _STATUS.get(status, ReplyStatus.INCOMPLETE)
        done = ReplyDone(reply.id, outcome, "" if status == "completed" else status)
        if outcome is ReplyStatus.CANCELLED:
            return [*unended, *self._stop(reply, now_ns), done]
        if reply is self.replies.newest and (results := self.tools.reply_completed()):
            self._answer(results)
        events: list[AgentEvent] = [*unended, *_audio_done(reply), done]
        if outcome is ReplyStatus.COMPLETED and _said_nothing(reply):
            events.append(AgentWarning("silent_reply", "a reply ended without a word or a tool call"))
        return events

    def _unended(self, newest: Reply) -> list[AgentEvent]:
        """Replies before the newest, now over, whose reply.done never came: it may come behind the next
        reply.started, but not behind the next reply.done."""
        events: list[AgentEvent] = []
        for reply in self.replies.undone_before(newest):
            reply.done = True
            cut = reply.was_cut or reply.flushed
            status = ReplyStatus.CANCELLED if cut else ReplyStatus.INCOMPLETE
            events.append(ReplyDone(reply.id, status, "its end was never told"))
        return events

    def _stop(self, reply: Reply, now_ns: int) -> list[AgentEvent]:
        """What is being played may be a newer reply's: that one goes on."""
        stopped: list[AgentEvent] = [AgentInterrupted(now_ns)] if reply is self.replies.newest else []
        reply.phase = Phase.CUT
        return stopped + [ToolCallCancelled(call_id) for call_id in self.tools.reply_interrupted(reply.key)]

    def _on_tool_call(self, fields: Json, now_ns: int) -> list[AgentEvent]:
        call_id, name = text(fields, "call_id"), text(fields, "name")
        arguments = _arguments(fields)
        reply = self.replies.running()
        if reply is not None:
            reply.called_a_tool = True
        if not self.tools.begin(call_id, name, reply.key if reply is not None else None):
            return []
        return [ToolCall(call_id, name, arguments)]

    def _begun(self, fields: Json) -> Reply | None:
        """The reply of a message; None, after the first complaint, if it never began."""
        key = optional_text(fields, "reply_id")
        reply = self.replies.of(key)
        if reply is None and self.replies.is_new_stranger(key or ""):
            raise Malformed("of a reply that never began")
        return reply


def _audio_done(reply: Reply) -> list[AgentEvent]:
    """The end of a reply's audio, if it had any and it was not thrown away."""
    whole = reply.sounding and not reply.flushed and reply.phase is Phase.RUNNING
    return [ReplyAudioDone(reply.id)] if whole else []


def _said_nothing(reply: Reply) -> bool:
    """The sign of a language model that failed. Replies around a tool call are silent by right."""
    spoke = reply.audible or bool(reply.said) or reply.called_a_tool
    return not spoke and reply.phase is Phase.RUNNING


def _arguments(fields: Json) -> str:
    """As JSON text. Older servers spell the key `args`; some send the text themselves."""
    found: object = fields.get("arguments", fields.get("args"))
    if found is None or found == "":
        return "{}"
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        return json.dumps(found)
    raise Malformed(f"`arguments` is {type(found).__name__}, not an object")


def _nothing(fields: Json, now_ns: int) -> list[AgentEvent]:
    return []
