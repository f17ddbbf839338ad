"""A dialplan file, as it is written."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from telbridge.dialplan import hours
from telbridge.dialplan.actions import Actions, Collect, Name, Part, Seconds
from telbridge.dialplan.expressions import Expression
from telbridge.dialplan.hours import Hours
from telbridge.dialplan.rules import Context, KeyName, KeyRules, On
from telbridge.dialplan.templates import Template, Tree
from telbridge.dialplan.vocabulary import Json, NeutralSettings

RecordingRule = Literal["off", "on", "after_consent"]
"""Whether calls are recorded."""
MAIN: Final = "main"
"""The context at the top of the file."""


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


class _Patterns:
    """One text or a list of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    Field(min_length=1),
    _Patterns(),
    BeforeValidator(_one_or_more),
]


class _Or:
    """Another form, besides the table."""

    def __init__(self, *types: str) -> None:
        self._forms = [{"type": one} for one in types]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [*self._forms, handler(schema)]}


def _share(value: Any) -> Any:
    """30, "30" and "0-30" are the same."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"0-{value:g}"
    return {"percent": value} if isinstance(value, str) else value


class Share(Part):
    """A part of the calls, the same callers each time."""

    percent: Annotated[str, Field(description='from-to of 100: "0-30" and "30-100" are two groups')]
    name: Annotated[str, Field(description="of the experiment; another name mixes the groups anew")] = ""
    by: Annotated[Literal["caller", "call"], Field(description="what stays in its group")] = "caller"

    @field_validator("percent")
    @classmethod
    def _a_range(cls, text: str) -> str:
        try:
            first, last = map(float, text.split("-"))
        except ValueError:
            first, last = 1.0, 0.0
        if not 0 <= first < last <= 100:
            raise ValueError(f'{text!r} is no part of 100: write 30, or "30-60" for the next group')
        return text

    @property
    def bounds(self) -> tuple[float, float]:
        """From (inclusive) and to (exclusive)."""
        first, last = self.percent.split("-")
        return float(first), float(last)


class Match(Part):
    """Which calls this dialplan is for: all of what is written must fit."""

    priority: Annotated[int, Field(ge=-1000, le=1000, description="the highest is looked at first")] = 0
    called: Annotated[
        Patterns | None, Field(description="number or user that was called; `*` any characters, `?` one")
    ] = None
    caller: Annotated[
        Patterns | None, Field(description='number or user that calls; "anonymous" for none')
    ] = None
    domain: Annotated[Patterns | None, Field(description="host part of the called address")] = None
    trunk: Annotated[
        Patterns | None,
        Field(description="name of the trunk, or address or network of the peer, as 10.0.0.0/8"),
    ] = None
    ingress: Annotated[
        Patterns | None, Field(description="kind of telephone side: sip, twilio, asterisk …")
    ] = None
    direction: Annotated[
        Literal["in", "out"] | None,
        Field(description='"out": only calls that we make; "in": only the others'),
    ] = None
    headers: Annotated[dict[str, Patterns], Field(description="SIP headers by name")] = Field(
        default_factory=dict
    )
    parameters: Annotated[dict[str, Patterns], Field(description="parameters of a media stream by name")] = (
        Field(default_factory=dict)
    )
    hours: Annotated[
        str | Hours | None, Field(description='name of hours, "not NAME", or a table with open and closed')
    ] = None
    share: Annotated[
        Share | None,
        Field(description='percent of the calls, as 30 or "30-60"'),
        _Or("number", "string"),
        BeforeValidator(_share),
    ] = None


class Session(Part):
    """A session: the agent API, agent-neutral settings, and a table of the agent API's own by its name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    extends: Annotated[tuple[Name, ...], Field(description="profiles to build on; later ones win"),
                       _Patterns(), BeforeValidator(_one_or_more)] = ()  # fmt: skip
    agent: Annotated[str | None, Field(description="agent API; default: call.agent of the settings")] = None

    @property
    def settings(self) -> dict[str, Tree]:
        """All but `extends` and `agent`."""
        return dict(self.model_extra or {})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        shown = handler.resolve_ref_schema(handler(schema))
        neutral = NeutralSettings.model_json_schema(mode="validation")
        parts = neutral.get("$defs", {})
        inline = {
            name: _inlined(value, parts) for name, value in neutral["properties"].items() if name != "tools"
        }
        tools = {
            "type": "array",
            "items": {"type": "string"},
            "description": "names of [tools.NAME]; default: all",
        }
        shown["properties"] = {**shown["properties"], **inline, "tools": tools}
        shown["additionalProperties"] = {"type": "object"}
        return shown


def _inlined(schema: Any, parts: Json) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(parts[str(schema["$ref"]).rpartition("/")[2]], parts)
        return {
            key: _inlined(value, parts) for key, value in schema.items() if key not in ("default", "title")
        }
    return [_inlined(item, parts) for item in schema] if isinstance(schema, list) else schema


def _spoken(value: Any) -> Any:
    return {"say": value} if isinstance(value, str) else value


class Greeting(Part):
    """How a call opens. Of several the first whose `when` holds."""

    when: Annotated[Expression | None, Field(description="only if this holds")] = None
    say: Annotated[Template | None, Field(description="these words, said by the agent")] = None
    generate: Annotated[Template | None, Field(description="what the agent should say, in its own words")] = (
        None
    )
    wav: Annotated[str | None, Field(description="a WAV file of any rate")] = None
    barge_in: Annotated[bool, Field(description="false: the caller cannot talk it down")] = True

    @model_validator(mode="after")
    def _one_way(self) -> Greeting:
        if sum(way is not None for way in (self.say, self.generate, self.wav)) != 1:
            raise ValueError("must be said one way: write one of say, generate, wav")
        return self


class _Greetings:
    """A text, a table, or a list of tables."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [{"type": "string"}, many["items"], many]}


def _greetings(value: Any) -> Any:
    return [_spoken(item) for item in _one_or_more(value)]


class Notice(Part):
    """Said before caller and agent hear each other: that the call is recorded, say."""

    say: Annotated[Template | None, Field(description="the words")] = None
    wav: Annotated[str | None, Field(description="a WAV file in place of the words")] = None
    accept: Annotated[
        str | None, Field(pattern=r"^[0-9*#]$", description="key that the caller must press to go on")
    ] = None
    consent: Annotated[
        bool, Field(description="true: with that key the caller consents to being recorded")
    ] = False
    timeout_s: Annotated[Seconds, Field(description="wait for that key")] = 10.0
    refused: Annotated[Actions, Field(description="what to do without it; default: hang up")] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Notice:
        if (self.say is None) is (self.wav is None):
            raise ValueError("must be said one way: write say or wav")
        if self.consent and self.accept is None:
            raise ValueError('asks for no key: write accept = "1", say')
        return self


class Keypad(Part):
    """How keys are read."""

    between_s: Annotated[Seconds, Field(description="wait for the next key of a sequence")] = 1.5
    total_s: Annotated[Seconds, Field(description="longest time for a sequence")] = 10.0
    same_key_ms: Annotated[
        int, Field(ge=0, le=5000, description="one key, told by two methods within this time, counts once")
    ] = 700
    tell_agent: Annotated[bool, Field(description="false: keys that nothing is bound to are dropped")] = True


class Limits(Part):
    """What a call may take."""

    duration_s: Annotated[
        float | None, Field(gt=0, le=86_400, description="longest call; then it is ended")
    ] = None
    warn_s: Annotated[float, Field(ge=0, le=3600, description="`limit_near` comes so long before")] = 60.0
    per_minute: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1000)]],
        Field(description="price of a minute, by agent API; `other` for the rest"),
    ] = Field(default_factory=dict)
    cost: Annotated[
        float | None,
        Field(gt=0, le=100_000, description="what a call may cost by `per_minute`; then it is ended"),
    ] = None


class Tool(Part):
    """A function that the agent may call: built in (`use`), over HTTP, in Python, or actions (`do`)."""

    description: Annotated[
        str, Field(min_length=1, description="when the agent should call it, what it does")
    ]
    parameters: Annotated[dict[str, Json], Field(description="its arguments by name, each a JSON Schema")] = (
        Field(default_factory=dict)
    )
    optional: Annotated[tuple[str, ...], Field(description="arguments that may be left out")] = ()
    schema_: Annotated[
        Json | None, Field(alias="schema", description="the whole JSON Schema, in place of parameters")
    ] = None

    use: Annotated[
        Literal["transfer", "hangup", "send_dtmf", "collect_digits", "set_variable", "get_caller"] | None,
        Field(description="a function of telbridge"),
    ] = None
    to: Annotated[
        dict[str, Template], Field(description="for transfer: whom the agent may choose, by name")
    ] = Field(default_factory=dict)
    ask: Annotated[Collect | None, Field(description="for collect_digits: how to ask")] = None
    variables: Annotated[tuple[Name, ...], Field(description="for set_variable: which it may set")] = ()

    http: Annotated[Template | None, Field(description="URL; scheme and host are fixed text")] = None
    method: Annotated[
        Literal["GET", "POST"] | None, Field(description="default: POST with send, else GET")
    ] = None
    send: Annotated[dict[str, Tree] | None, Field(description="JSON to send")] = None
    headers: Annotated[dict[str, Template], Field(description="HTTP headers")] = Field(default_factory=dict)
    timeout_s: Annotated[Seconds, Field(description="how long it may take")] = 8.0
    filler: Annotated[Template | None, Field(description="said while it runs")] = None

    python: Annotated[
        str | None, Field(pattern=r"^[\w.]+:\w+$", description="entry point, as package.module:function")
    ] = None
    do: Annotated[Actions | None, Field(description="actions")] = None
    result: Annotated[Template | None, Field(description="for do: what the agent is told then")] = None

    @model_validator(mode="after")
    def _one_way(self) -> Tool:
        ways = [way for way in ("use", "http", "python", "do") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError("does nothing: write one of use, http, python, do" if not ways else
                             f"does two things, {ways[0]} and {ways[1]}: write one of them")  # fmt: skip
        if self.use == "transfer" and not self.to:
            raise ValueError('may transfer to nobody: write to.desk = "sip:…"')
        if self.use == "set_variable" and not self.variables:
            raise ValueError('may set nothing: write variables = ["name"]')
        if self.use == "collect_digits" and self.ask is None:
            raise ValueError('asks for nothing: write ask = { collect = "account" }')
        return self


class Dialplan(Part):
    """One file."""

    description: Annotated[str, Field(description="for the reader")] = ""
    match: Annotated[Match | None, Field(description="which calls; none: all that are left")] = None
    zone: Annotated[str, Field(description="time zone of `time` and of hours")] = "UTC"
    vars: Annotated[
        dict[Name, str | int | float | bool], Field(description="variables and what they are at first")
    ] = Field(default_factory=dict)
    session: Annotated[Session, Field(description="what is asked of the agent")] = Session()
    profiles: Annotated[dict[Name, Session], Field(description="sessions to build on and to switch to")] = (
        Field(default_factory=dict)
    )
    notice: Annotated[
        Notice | None, Field(description="said first"), _Or("string"), BeforeValidator(_spoken)
    ] = None
    recording: Annotated[
        RecordingRule | None,
        Field(
            description='whether these calls are recorded; "after_consent": from `record` on; default: '
            "recording.calls of the settings"
        ),
    ] = None
    greeting: Annotated[
        tuple[Greeting, ...], Field(description="a text, a table, or several: the first that fits is said"),
        _Greetings(), BeforeValidator(_greetings),
    ] = ()  # fmt: skip
    agent_waits: Annotated[
        bool, Field(description="true: agent and caller hear each other from `connect` on")
    ] = False
    start: Annotated[str, Field(description="context in which a call starts")] = MAIN
    keys: Annotated[
        dict[KeyName, KeyRules], Field(description="keys and sequences; `other` for any other key")
    ] = Field(default_factory=dict)
    dtmf: Annotated[Keypad, Field(description="how keys are read")] = Keypad()
    on: Annotated[On, Field(description="what events do")] = On()
    contexts: Annotated[dict[Name, Context], Field(description="other meanings of keys and events")] = Field(
        default_factory=dict
    )
    hours: Annotated[dict[Name, Hours], Field(description="opening hours by name")] = Field(
        default_factory=dict
    )
    tools: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")], Tool],
        Field(description="functions that the agent may call"),
    ] = Field(default_factory=dict)
    limits: Annotated[Limits, Field(description="what a call may take")] = Limits()

    @field_validator("zone")
    @classmethod
    def _a_zone(cls, name: str) -> str:
        return hours.zone(name).key

    def context(self, name: str) -> Context:
        """A context; the top of the file is one, too."""
        found = self.contexts.get(name)
        return found if found is not None else Context(keys=self.keys)


class Shared(Part):
    """A file whose name begins with `_`: what all dialplans of its folder may use."""

    profiles: Annotated[dict[Name, Session], Field(description="sessions to build on and to switch to")] = (
        Field(default_factory=dict)
    )
    hours: Annotated[dict[Name, Hours], Field(description="opening hours by name")] = Field(
        default_factory=dict
    )
