"""What happens in a call, as a dialplan names it, and the rules that hang on it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator
from pydantic_core import CoreSchema, core_schema

from telbridge.dialplan.actions import Actions, Part, Seconds
from telbridge.dialplan.expressions import Expression
from telbridge.dialplan.templates import Template


@dataclass(frozen=True, slots=True)
class EventKind:
    """One event of a call."""

    what: str
    facts: tuple[str, ...] = ()
    """Names that exist only in its conditions and templates; `count` exists in all."""


EVENTS: Final[Mapping[str, EventKind]] = {
    "ringing": EventKind("the phone rings; the agent is being connected"),
    "answered": EventKind("the call is answered"),
    "agent_ready": EventKind("the agent took its configuration"),
    "greeting_done": EventKind("the greeting was heard or cut short"),
    "caller_speaking": EventKind("the caller begins to speak"),
    "caller_stopped": EventKind("the caller's turn is over"),
    "caller_said": EventKind("what the caller said, as understood; `matches` picks", ("text",)),
    "agent_speaking": EventKind("the agent begins to be heard"),
    "agent_stopped": EventKind("the agent has been heard to its end"),
    "agent_said": EventKind("what the agent said; `matches` picks", ("text",)),
    "interrupted": EventKind("the caller cut the agent short"),
    "silence": EventKind("nobody spoke for `after_s`; `count` starts anew when the caller gives a sign"),
    "tool_called": EventKind("the agent called a tool; `tool` picks", ("tool", "arguments")),
    "hold": EventKind("the caller put us on hold"),
    "resume": EventKind("the caller is back from hold"),
    "transfer_requested": EventKind("the transfer was asked for", ("target",)),
    "transfer_ringing": EventKind("the other side rings", ("target",)),
    "transfer_answered": EventKind("the other side took the call", ("target",)),
    "transfer_failed": EventKind("the call is back with us", ("target", "cause", "error")),
    "media_lost": EventKind("no audio comes from the caller"),
    "media_back": EventKind("it comes again"),
    "session_lost": EventKind("the connection to the agent broke; it is being made again", ("error",)),
    "session_back": EventKind("the agent is back, with the conversation so far"),
    "update_refused": EventKind("the agent API did not take a change", ("error",)),
    "agent_switched": EventKind("another agent has taken over", ("agent_name",)),
    "limit_near": EventKind("a `limit`, duration or cost, is reached in `left` seconds", ("limit", "left")),
    "error": EventKind("an action failed that has no on_error", ("action", "error")),
    "hangup": EventKind("the call is over; only set, tag, metric and webhook may follow", ("cause",)),
}
ARGUMENTS: Final = ("arguments",)
"""Names that exist in the actions and templates of a tool."""


class Rule(Part):
    """Something to do when an event happens."""

    do: Annotated[Actions, Field(description="what to do")]
    when: Annotated[Expression | None, Field(description="only if this holds")] = None
    once: Annotated[bool, Field(description="true: only the first time in a call")] = False
    every: Annotated[int | None, Field(ge=1, le=1000, description="3: only each third time")] = None


class SilenceRule(Rule):
    """Of `on.silence`."""

    after_s: Annotated[Seconds, Field(description="seconds in which nobody speaks; then again as long")]


class SpeechRule(Rule):
    """Of `on.caller_said` and `on.agent_said`."""

    matches: Annotated[
        str | None,
        Field(max_length=300, description="regular expression; found anywhere, case does not count"),
    ] = None

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(
                f'{pattern!r} is no regular expression ({error}): write one such as "human|operator"'
            ) from None
        if pattern and (slow := _slow(pattern)):
            raise ValueError(f"{pattern!r} {slow}")
        return pattern

    def found_in(self, text: str) -> bool:
        """Whether the pattern is in what was said."""
        return self.matches is None or re.search(self.matches, text[:1000], re.IGNORECASE) is not None


_PIECES: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<times>[*+]|\{\d*(?P<open>,)?\d*\})[?+]?|.", re.DOTALL
)
_MOST_REPEATS: Final = 3


def _slow(pattern: str) -> str | None:
    """Why a search for it might take for ever: a repetition of what repeats or branches itself, or too many
    in a row. Some that would be fast are refused, too; what is accepted is fast."""
    groups, just_closed, repeats = [False], False, 0
    for piece in _PIECES.finditer(pattern):
        closed = False
        if piece["times"]:
            if just_closed:
                return "repeats a group that repeats or branches, which can take forever: write it out"
            repeats += piece["open"] is not None or piece[0][0] in "*+"
            groups[-1] = True
        elif piece[0] == "|":
            groups[-1] = True
        elif piece[0] == "(":
            groups.append(False)
        elif piece[0] == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
        just_closed = closed
    if repeats > _MOST_REPEATS:
        return f"has {repeats} repetitions, which can take forever: write {_MOST_REPEATS} at most"
    return None


class ToolRule(Rule):
    """Of `on.tool_called`."""

    tool: Annotated[str | None, Field(description="only this tool")] = None


class KeyRule(Rule):
    """Of a key or a sequence of keys."""

    interrupt: Annotated[bool, Field(description="true: the key stops the agent")] = True
    tell_agent: Annotated[bool, Field(description="true: the agent is told of the key, too")] = False


class RulesOf:
    """One rule, a list of rules, or the actions alone where a rule needs no more."""

    def __init__(self, rule: type[Rule], needs: str = "") -> None:
        self._rule, self._needs = rule, needs

    def _is(self, value: Any) -> str:
        first = value[0] if isinstance(value, (list, tuple)) and value else value
        return (
            "<rules>"
            if isinstance(first, Rule) or (isinstance(first, dict) and "do" in first)
            else "<actions>"
        )

    def _refused(self, value: Any) -> Any:
        if self._is(value) == "<actions>":
            raise ValueError(f"says not enough: write {{ {self._needs}, do = … }}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        rules = core_schema.no_info_before_validator_function(_listed, handler(source))
        if self._needs:
            return core_schema.no_info_before_validator_function(self._refused, rules)
        bare = core_schema.no_info_after_validator_function(
            lambda actions: (self._rule(do=actions),), handler.generate_schema(Actions)
        )
        return core_schema.tagged_union_schema({"<rules>": rules, "<actions>": bare}, discriminator=self._is)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        if self._needs:
            return {"anyOf": [many["items"], many]}
        rules, actions = many["oneOf"]
        return {"anyOf": [rules["items"], rules, actions]}


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Rules = Annotated[tuple[Rule, ...], RulesOf(Rule)]
SilenceRules = Annotated[tuple[SilenceRule, ...], RulesOf(SilenceRule, "after_s = 8")]
SpeechRules = Annotated[tuple[SpeechRule, ...], RulesOf(SpeechRule)]
ToolRules = Annotated[tuple[ToolRule, ...], RulesOf(ToolRule)]
KeyRules = Annotated[tuple[KeyRule, ...], RulesOf(KeyRule)]

KeyName = Annotated[str, Field(pattern=r"^([0-9A-D*#]{1,12}|other)$")]


class On(Part):
    """What events do."""

    ringing: Rules = ()
    answered: Rules = ()
    agent_ready: Rules = ()
    greeting_done: Rules = ()
    caller_speaking: Rules = ()
    caller_stopped: Rules = ()
    caller_said: SpeechRules = ()
    agent_speaking: Rules = ()
    agent_stopped: Rules = ()
    agent_said: SpeechRules = ()
    interrupted: Rules = ()
    silence: SilenceRules = ()
    tool_called: ToolRules = ()
    hold: Rules = ()
    resume: Rules = ()
    transfer_requested: Rules = ()
    transfer_ringing: Rules = ()
    transfer_answered: Rules = ()
    transfer_failed: Rules = ()
    media_lost: Rules = ()
    media_back: Rules = ()
    session_lost: Rules = ()
    session_back: Rules = ()
    update_refused: Rules = ()
    agent_switched: Rules = ()
    limit_near: Rules = ()
    error: Rules = ()
    hangup: Rules = ()

    def of(self, event: str) -> tuple[Rule, ...]:
        """The rules of one event."""
        found = getattr(self, event)
        assert isinstance(found, tuple)
        return found


for _name, _kind in EVENTS.items():
    On.model_fields[_name].description = _kind.what
On.model_rebuild(force=True)


class Menu(Part):
    """A context that asks, waits for one of its keys, and asks again."""

    prompt: Annotated[Template | None, Field(description="the words that ask")] = None
    prompt_wav: Annotated[str | None, Field(description="a file in place of the words")] = None
    invalid: Annotated[Template | None, Field(description="words after a key that is not on the menu")] = None
    timeout_s: Annotated[Seconds, Field(description="wait for a key, from the end of the prompt")] = 6.0
    tries: Annotated[int, Field(ge=1, le=10, description="how often to ask")] = 3
    interrupt: Annotated[bool, Field(description="true: a key stops the prompt")] = True
    failed: Annotated[Actions, Field(description="after the last try")]


class Context(Part):
    """What keys and events mean for a while."""

    enter: Annotated[Actions, Field(description="on the way in")] = ()
    menu: Annotated[Menu | None, Field(description="ask for one of the keys")] = None
    keys: Annotated[
        dict[KeyName, KeyRules], Field(description="keys and sequences; `other` for any other key")
    ] = Field(default_factory=dict)
    inherit: Annotated[bool, Field(description="true: the keys at the top of the file work, too")] = False
    on: Annotated[On, Field(description="what events do here, before those at the top")] = On()
