"""What telbridge knows of an agent API: its settings, what it can do, and how to make a session of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from telbridge.call.ports import UpdateImpossible
from telbridge.dialplan.vocabulary import Json, NeutralSettings
from telbridge.sessions.base import AgentProtocol, Opening


class Lock(Enum):
    """Until when a setting may change. Stands in the annotation of a settings field:
    `voice: Annotated[str | None, Lock.START, Field(description=…)] = None`. Without one: at any time."""

    CONNECT = "fixed by the connection"
    START = "only before the session starts"
    SPOKEN = "until the agent has spoken"


class Unconfirmed:
    """In the annotation of a field whose behaviour no source confirms; its handling is tolerant."""


class VendorPart(BaseModel):
    """A table inside a provider's settings. Field names are the vendor's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VendorSettings(VendorPart):
    """One provider's section of the settings file: the complete session configuration of its API.

    A field that is not set is not sent, unless its description says otherwise.
    """

    raw: Annotated[
        Json, Field(description="fields newer than this version, merged into the session object as they are")
    ] = Field(default_factory=dict)


class Ability(StrEnum):
    """What a call may ask of a session. The first ones are the fields of NeutralSettings."""

    INSTRUCTIONS = "instructions"
    VOICE = "voice"
    LANGUAGE = "language"
    KEY_TERMS = "key_terms"
    TURN_MODE = "turn_detection.mode"
    TURN_THRESHOLD = "turn_detection.threshold"
    TURN_PREFIX = "turn_detection.prefix_ms"
    TURN_SILENCE = "turn_detection.silence_ms"
    TURN_EAGERNESS = "turn_detection.eagerness"
    BARGE_IN = "barge_in"
    NOISE_REDUCTION = "noise_reduction"
    ECHO_CANCELLATION = "echo_cancellation"
    TEMPERATURE = "temperature"
    MAX_OUTPUT_TOKENS = "max_output_tokens"
    REASONING_EFFORT = "reasoning_effort"
    TOOLS = "tools"
    USER_ID = "user_id"
    USER_PROFILE = "user_profile"
    MEMORY_ID = "memory_id"
    TAGS = "tags"
    MODALITIES = "modalities"
    IDLE_TIMEOUT = "idle_timeout_s"
    GREETING_VERBATIM = "greeting, word by word"
    GREETING_GENERATED = "greeting, in the agent's words"
    SAY = "say exact words mid-call"
    REPLY_NOW = "make the agent speak now"
    TEXT_AS_CALLER = "text as the caller's"
    TEXT_AS_CONTEXT = "text as context"
    INTERRUPT = "interrupt the agent by command"
    REPORT_HEARD = "tell the API what was heard"
    CALLER_TRANSCRIPT = "transcript of the caller"
    AGENT_TRANSCRIPT = "transcript of the agent"
    LATENCY = "latency figures of the server"
    RESUME = "carry on after a lost connection"


class Way(Enum):
    """How an API does what is asked."""

    NATIVE = "native"
    EMULATED = "emulated"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Support:
    """Of one ability by one API."""

    way: Way
    how: str = ""
    """The vendor's field or message; for EMULATED what we do instead; for IMPOSSIBLE why."""
    lock: Lock | None = None
    """Until when it may change in a running session; None: at any time, or not a setting."""


_NOT_AT_ALL: Final[Mapping[Ability, str]] = {
    Ability.KEY_TERMS: "the API has no field for them: put them into the instructions",
    Ability.TURN_THRESHOLD: "the API has no threshold for speech",
    Ability.TURN_PREFIX: "the API has no such setting",
    Ability.TURN_EAGERNESS: "the API detects turns by voice only",
    Ability.NOISE_REDUCTION: "the API has none",
    Ability.ECHO_CANCELLATION: "the API has none",
    Ability.TEMPERATURE: "the API has no such setting",
    Ability.MAX_OUTPUT_TOKENS: "the API has no such limit: ask for short answers in the instructions",
    Ability.REASONING_EFFORT: "the API has no such setting",
    Ability.USER_ID: "a session has no user",
    Ability.MEMORY_ID: "the API remembers nothing beyond a session",
    Ability.TAGS: "a session has no labels",
    Ability.IDLE_TIMEOUT: "the API has no such time-out: let the dialplan watch the silence",
    Ability.REPORT_HEARD: "the API takes no such report",
    Ability.LATENCY: "the API tells none",
}


def impossible(ability: Ability) -> Support:
    """The same words for all that cannot do it."""
    return Support(Way.IMPOSSIBLE, _NOT_AT_ALL[ability])


ALWAYS_SPEAKS: Final = Support(Way.EMULATED, "always audio with its transcript; text alone is refused")
"""For `Ability.MODALITIES` of an API that has no choice."""


def silent_misfit(neutral: NeutralSettings) -> list[tuple[str, str]]:
    """The misfit that goes with ALWAYS_SPEAKS."""
    if neutral.modalities is None or "audio" in neutral.modalities:
        return []
    return [(Ability.MODALITIES, 'always speaks: write "audio"')]


S = TypeVar("S", bound=VendorSettings)


@dataclass(frozen=True, slots=True)
class Provider(Generic[S]):
    """One agent API. Each protocol module ends with one of these; providers.py lists them."""

    name: str
    """Of its section in the settings, and of `call.agent`."""
    title: str
    settings: type[S]
    open: Callable[[S, Opening], AgentProtocol]
    """SecretMissing if a secret is not there."""
    with_neutral: Callable[[S, NeutralSettings], S]
    """The settings with what is set in the neutral ones put into the vendor's fields. A vendor field that
    was set by name wins. What the API cannot do is left out: `problems` has told it at check time."""
    abilities: Mapping[Ability, Support]
    formats: str
    """Audio each way, one line for docs/providers.md."""
    warnings: Callable[[S], Sequence[tuple[str, str]]]
    """Dotted key and one line, for settings that are passed on but make no sense on a telephone."""
    embedded: Callable[[int], S]
    """Settings of a session with the embedded agent, which speaks this API too, on that port of this
    machine: so that the API can be tried without a key."""
    fetch_secrets: Callable[[S], Mapping[str, str]] = lambda _: {}
    """Short-lived secrets that no setting can hold, by the names under which `open` looks for them in
    `Opening.environ`; none for most. Blocks for as long as the network takes. SecretMissing."""
    misfits: Callable[[S | None, NeutralSettings], Sequence[tuple[str, str]]] = lambda settings, neutral: ()
    """Dotted key and reason of neutral values that have no place, though others of the same field have: in
    the API at all (None), or in a session with these settings."""
    refusals: Callable[[S], Sequence[tuple[str, str]]] = lambda _: ()
    """Dotted key and "what is wrong: what to write instead", for combinations the API would refuse."""


def neutral_keys(neutral: NeutralSettings) -> list[Ability]:
    """The abilities that the fields set in `neutral` need."""
    keys: list[Ability] = []
    for name in NeutralSettings.model_fields:
        if name not in neutral.model_fields_set or getattr(neutral, name) is None:
            continue
        value = getattr(neutral, name)
        if isinstance(value, BaseModel):
            keys += [
                Ability(f"{name}.{part}")
                for part in type(value).model_fields
                if part in value.model_fields_set
            ]
        else:
            keys.append(Ability(name))
    return keys


def problems(
    provider: Provider[Any], neutral: NeutralSettings, settings: VendorSettings | None = None
) -> list[tuple[str, str]]:
    """Dotted key and reason for each neutral setting that this API cannot do: not at all, or not this value.
    `settings`: the provider's section; without it only what no section could mend is told."""
    found = [
        (str(key), support.how)
        for key in neutral_keys(neutral)
        if (support := provider.abilities[key]).way is Way.IMPOSSIBLE
    ]
    told = {key for key, _ in found}
    found += [(str(key), why) for key, why in provider.misfits(settings, neutral) if key not in told]
    return [(key, f"{provider.title} cannot do this: {why}") for key, why in found]


def refuse_misfits(
    provider: Provider[Any], neutral: NeutralSettings, settings: VendorSettings | None = None
) -> None:
    """For `update`: UpdateImpossible for the first neutral value that has no place."""
    for key, why in problems(provider, neutral, settings):
        raise UpdateImpossible(key, why)


def refuse_locked_neutral(provider: Provider[Any], neutral: NeutralSettings, *, spoken: bool) -> None:
    """For `update`: UpdateImpossible for the first neutral field that can't change in a running session."""
    for key in neutral_keys(neutral):
        support = provider.abilities[key]
        if support.way is Way.IMPOSSIBLE:
            raise UpdateImpossible(str(key), f"{provider.title} cannot do this: {support.how}")
        _refuse_lock(str(key), support.lock, spoken=spoken)


def merged(settings: S, changes: Json, *, spoken: bool, running: bool = True) -> S:
    """The settings with a vendor's own fields changed, for `update`: tables are merged, all else replaced.
    UpdateImpossible for a field that does not exist, has a wrong value or can't change any more. Before the
    session is `running` everything may change."""
    for path, lock in locks(type(settings), changes) if running else ():
        _refuse_lock(path, lock, spoken=spoken)
    tree = settings.model_dump(exclude_unset=True)
    try:
        return type(settings).model_validate(deep_merged(tree, changes))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "update"
        raise UpdateImpossible(key, fault["msg"]) from None


def deep_merged(tree: Json, changes: Json) -> Json:
    """`changes` over `tree`, table by table; neither is changed."""
    result = dict(tree)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and _same_kind(old, value):
            result[key] = deep_merged(old, value)
        else:
            result[key] = value
    return result


def _same_kind(old: Json, new: Json) -> bool:
    """A table of another `type` is another table: nothing of the old one belongs into it."""
    return new.get("type") in (None, old.get("type"))


def _refuse_lock(key: str, lock: Lock | None, *, spoken: bool) -> None:
    if lock is None or (lock is Lock.SPOKEN and not spoken):
        return
    raise UpdateImpossible(key, f"can't be changed now, {lock.value}")


def locks(model: type[BaseModel], changes: Json, prefix: str = "") -> list[tuple[str, Lock]]:
    """The locks of what is changed, with their dotted keys; keys that do not exist have none."""
    found: list[tuple[str, Lock]] = []
    for name, value in changes.items():
        field = model.model_fields.get(name)
        if field is None:
            continue  # Validation will say it.
        found += [(prefix + name, mark) for mark in field.metadata if isinstance(mark, Lock)]
        if isinstance(value, dict):
            for inner in _tables(field.annotation):
                found += locks(inner, value, f"{prefix}{name}.")
    return found


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The tables that a field may hold: one, an optional one, or the variants of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in _tables(inner)]
