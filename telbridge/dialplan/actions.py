"""What a dialplan can do, as it is written: each action is a table with the action's name as a key.

`{ say = "Hello" }`, `{ transfer = "sip:desk@10.0.0.5", timeout_s = 20 }`; an action that needs no more is a
word: `"hangup"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, GetJsonSchemaHandler, Tag
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

from telbridge.dialplan.expressions import Expression
from telbridge.dialplan.templates import Template, Tree

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""Of variables, contexts, profiles: small letters, digits, underscores."""
Seconds = Annotated[float, Field(gt=0, le=600)]
Keys = Annotated[str, Field(pattern=r"^[0-9A-D*#]{1,64}$")]


class Part(BaseModel):
    """A table of a dialplan."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ActionBase(Part):
    """What every action may say."""

    waits: ClassVar[bool] = False
    """The rest of the list waits for its end."""
    ends_list: ClassVar[bool] = False
    """Nothing may follow it."""
    after_hang_up: ClassVar[bool] = False
    """It may stand in `on.hangup`."""

    when: Annotated[Expression | None, Field(description="only if this holds")] = None
    on_error: Annotated[
        Actions | None, Field(description="what to do when it fails, in place of the rest of the list")
    ] = None


class Waiting(ActionBase):
    """An action that takes time."""

    waits: ClassVar[bool] = True
    wait: Annotated[bool, Field(description="false: go on with the list at once")] = True


class Say(Waiting):
    """Exact words, through the agent where it can, else by local speech synthesis."""

    say: Annotated[Template, Field(description="the words")]
    barge_in: Annotated[bool, Field(description="false: the caller cannot talk it down")] = True
    by: Annotated[Literal["auto", "agent", "local"], Field(description="whose voice")] = "auto"


class SendText(ActionBase):
    """A text for the agent."""

    send_text: Annotated[Template, Field(description="the text")]
    as_: Annotated[
        Literal["context", "caller"],
        Field(
            alias="as", description='"context": for the agent to know; "caller": as if the caller had said it'
        ),
    ] = "context"
    answer: Annotated[bool, Field(description="true: the agent answers at once")] = False


class Reply(ActionBase):
    """Make the agent speak now."""

    reply: Annotated[Template | Literal[True], Field(description="what to say, in its own words; or true")]


class Play(Waiting):
    """A WAV file to the caller."""

    play: Annotated[str, Field(min_length=1, description="path of the file, from the dialplan's folder")]
    barge_in: Annotated[bool, Field(description="false: the caller cannot talk it down")] = True


class Update(ActionBase):
    """Change the running session."""

    update: Annotated[
        Tree, Field(description="settings of the session that change; tables of agent APIs by their names")
    ]


class Set(ActionBase):
    """Variables, for later: `vars.NAME`."""

    after_hang_up: ClassVar[bool] = True
    set: Annotated[dict[Name, Template | int | float | bool], Field(min_length=1, description="name = value")]


class Collect(ActionBase):
    """Ask for digits: `digits.NAME`. Fails when too few came in all its tries."""

    waits: ClassVar[bool] = True
    collect: Annotated[Name, Field(description="name of the digits")]
    prompt: Annotated[Template | None, Field(description="words that ask for them")] = None
    prompt_wav: Annotated[str | None, Field(description="a file in place of the words")] = None
    invalid: Annotated[
        Template | None, Field(description="words before the next try; the prompt follows")
    ] = None
    min: Annotated[int, Field(ge=1, le=64, description="fewest digits")] = 1
    max: Annotated[int, Field(ge=1, le=64, description="most digits; the last one ends it")] = 20
    end: Annotated[Literal["#", "*", ""], Field(description='key that ends it; "" for none')] = "#"
    first_s: Annotated[Seconds, Field(description="wait for the first digit, from the end of the prompt")] = (
        8.0
    )
    between_s: Annotated[Seconds, Field(description="wait for each further digit")] = 4.0
    total_s: Annotated[Seconds, Field(description="longest time for one try")] = 60.0
    tries: Annotated[int, Field(ge=1, le=10, description="how often to ask")] = 3
    interrupt: Annotated[bool, Field(description="true: the first digit stops the prompt")] = True
    masked: Annotated[bool, Field(description="true: never logged, never told to the agent")] = False
    tell_agent: Annotated[bool, Field(description="true: the agent is told the digits")] = False


class Goto(ActionBase):
    """Enter a context; the rest of the list is left."""

    ends_list: ClassVar[bool] = True
    goto: Annotated[str, Field(description='name of a context, or "main" for the top of the file')]


class Transfer(Waiting):
    """Hand the caller over; if that fails, the call comes back."""

    transfer: Annotated[
        Template,
        Field(description="whom: a SIP or tel URI, a number, over carriers' streams another webhook"),
    ]
    mode: Annotated[Literal["blind"], Field(description="blind: the call leaves us")] = "blind"
    timeout_s: Annotated[Seconds, Field(description="how long it may ring")] = 30.0
    music: Annotated[str | None, Field(description="WAV that the caller hears meanwhile")] = None


class HoldMusic(ActionBase):
    """Music for the caller, until false or anything else is said."""

    hold_music: Annotated[str | bool, Field(description="a WAV file, true for our own, false to stop")]


class Mute(ActionBase):
    """Silence one way."""

    mute: Annotated[
        Literal[True, "caller", "agent", "both"],
        Field(description='"caller": the agent does not hear the caller; "agent": the other way; true: both'),
    ]


class Unmute(ActionBase):
    """End `mute`."""

    unmute: Annotated[Literal[True, "caller", "agent", "both"], Field(description="which way; true: both")]


class Record(ActionBase):
    """The recording of the call: begin it (the caller has agreed), pause it, go on with it, end it."""

    record: Annotated[
        Literal[True, "start", "pause", "resume", "stop"],
        Field(description='"start" (or true): needs `recording`; "pause": silence; "stop": for good'),
    ]


class SendDtmf(Waiting):
    """Keys to the caller's side."""

    send_dtmf: Annotated[Template, Field(description="the keys; `,` waits half a second")]
    tone_ms: Annotated[int, Field(ge=40, le=2000, description="length of each")] = 160
    gap_ms: Annotated[int, Field(ge=40, le=2000, description="pause between them")] = 80


class HangUp(ActionBase):
    """End the call."""

    waits: ClassVar[bool] = True
    ends_list: ClassVar[bool] = True
    hangup: Annotated[
        Literal[True, "normal", "busy", "unavailable", "rejected"],
        Field(description="the cause, or true for normal"),
    ]
    last_words: Annotated[Template | None, Field(description="said first")] = None


class Webhook(Waiting):
    """Ask an HTTP server of yours. Its JSON answer is `answers.NAME`; its `actions` are done."""

    after_hang_up: ClassVar[bool] = True
    webhook: Annotated[Template, Field(description="URL; scheme and host are fixed text")]
    send: Annotated[dict[str, Tree], Field(description="fields of the JSON sent, besides the call's own")] = (
        Field(default_factory=dict)
    )
    reveal: Annotated[
        tuple[Name, ...], Field(description="masked digits that may be in `send` (https only)")
    ] = ()
    as_: Annotated[Name | None, Field(alias="as", description="name of its answer")] = None
    headers: Annotated[dict[str, Template], Field(description="HTTP headers")] = Field(default_factory=dict)
    timeout_s: Annotated[Seconds, Field(description="for each try")] = 5.0
    retries: Annotated[int, Field(ge=0, le=5, description="further tries")] = 2
    secret_env: Annotated[
        str | None,
        Field(pattern=r"^[A-Z_][A-Z0-9_]*$", description="environment variable with the key that signs it"),
    ] = None


class SwitchAgent(Waiting):
    """Another agent from now on, told what was said so far."""

    switch_agent: Annotated[str, Field(description="name of a profile or of an agent API")]
    handover: Annotated[bool, Field(description="false: it starts without the conversation")] = True


class Connect(ActionBase):
    """Let the waiting agent and the caller hear each other (`agent_waits`); the greeting follows."""

    connect: Literal[True] = True


class TagCall(ActionBase):
    """A label in the call's record."""

    after_hang_up: ClassVar[bool] = True
    tag: Annotated[Template, Field(description="the label")]


class Metric(ActionBase):
    """Count something: in the call's record, and in `telbridge_dialplan_events_total`."""

    after_hang_up: ClassVar[bool] = True
    metric: Annotated[Name, Field(description="name of the counter")]
    add: Annotated[float, Field(ge=0, le=1e9, description="by how much")] = 1.0
    labels: Annotated[dict[Name, Template], Field(max_length=8, description="text for each")] = Field(
        default_factory=dict
    )


class Stop(ActionBase):
    """Leave the rest of the list."""

    stop: Literal[True] = True


ACTIONS: Final[Mapping[str, type[ActionBase]]] = {
    "say": Say, "send_text": SendText, "reply": Reply, "play": Play, "update": Update, "set": Set,
    "collect": Collect, "goto": Goto, "transfer": Transfer, "hold_music": HoldMusic, "mute": Mute,
    "unmute": Unmute, "record": Record, "send_dtmf": SendDtmf, "hangup": HangUp, "webhook": Webhook,
    "switch_agent": SwitchAgent, "connect": Connect, "tag": TagCall, "metric": Metric, "stop": Stop,
}  # fmt: skip
WORDS: Final = ("reply", "hold_music", "mute", "unmute", "record", "hangup", "connect", "stop")
"""Actions that may stand as a word."""


def tag_of(name: str) -> str:
    """How a kind is marked in pydantic's locations, so that it cannot be taken for a key of the file."""
    return f"<{name}>"


def _kind(action: Any) -> str | None:
    if isinstance(action, Mapping):
        return next((tag_of(name) for name in ACTIONS if name in action), None)
    return next((tag_of(name) for name, kind in ACTIONS.items() if type(action) is kind), None)


def _as_table(action: Any) -> Any:
    """A word becomes a table; what is no single action is refused in our words."""
    if isinstance(action, str):
        if action in WORDS:
            return {action: True}
        if action in ACTIONS:
            raise ValueError(f"`{action}` needs more: write {{ {action} = … }}")
        raise ValueError(f"no such action {action!r}: {_nearest(action)}")
    if isinstance(action, ActionBase):
        return action
    if not isinstance(action, Mapping):
        raise ValueError('is no action: write a table such as { say = "…" }, or a word such as "hangup"')
    names = [name for name in ACTIONS if name in action]
    if not names:
        odd = next((key for key in action if key not in ActionBase.model_fields), None)
        raise ValueError(
            f"no such action {odd!r}: {_nearest(odd)}" if odd else f"names no action: {_nearest('')}"
        )
    if len(names) > 1:
        raise ValueError(
            f"has two actions, {names[0]} and {names[1]}: write [{{ … }}, {{ … }}], in their order"
        )
    return action


def _nearest(name: str) -> str:
    close = get_close_matches(name, ACTIONS, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"actions are {', '.join(ACTIONS)}"


class _OneOrMore:
    """One action may stand without the brackets of a list."""

    @staticmethod
    def listed(actions: Any) -> Any:
        return actions if isinstance(actions, (list, tuple)) else [actions]

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        words = {"enum": list(WORDS)}
        one = many["items"]
        return {"anyOf": [one, words, {**many, "items": {"anyOf": [one, words]}}]}


Action = Annotated[
    Annotated[Say, Tag("<say>")]
    | Annotated[SendText, Tag("<send_text>")]
    | Annotated[Reply, Tag("<reply>")]
    | Annotated[Play, Tag("<play>")]
    | Annotated[Update, Tag("<update>")]
    | Annotated[Set, Tag("<set>")]
    | Annotated[Collect, Tag("<collect>")]
    | Annotated[Goto, Tag("<goto>")]
    | Annotated[Transfer, Tag("<transfer>")]
    | Annotated[HoldMusic, Tag("<hold_music>")]
    | Annotated[Mute, Tag("<mute>")]
    | Annotated[Unmute, Tag("<unmute>")]
    | Annotated[Record, Tag("<record>")]
    | Annotated[SendDtmf, Tag("<send_dtmf>")]
    | Annotated[HangUp, Tag("<hangup>")]
    | Annotated[Webhook, Tag("<webhook>")]
    | Annotated[SwitchAgent, Tag("<switch_agent>")]
    | Annotated[Connect, Tag("<connect>")]
    | Annotated[TagCall, Tag("<tag>")]
    | Annotated[Metric, Tag("<metric>")]
    | Annotated[Stop, Tag("<stop>")],
    Discriminator(_kind),
    BeforeValidator(_as_table),
]

Actions = TypeAliasType(
    "Actions", Annotated[tuple[Action, ...], _OneOrMore(), BeforeValidator(_OneOrMore.listed)]
)
"""One action or a list of them."""

_MODELS: Final[tuple[type[BaseModel], ...]] = (ActionBase, Waiting, *ACTIONS.values())
for _model in _MODELS:
    _model.model_rebuild()
