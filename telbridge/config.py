"""All settings: one TOML file, environment overrides, one clear line for each mistake.

`TELBRIDGE__SIP__PORT=5070` overrides `sip.port`. A secret never stands in the file, only where it is.
"""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from telbridge.agent.settings import AgentSettings
from telbridge.dialplan.vocabulary import NeutralSettings
from telbridge.legs.sip.settings import SipSettings
from telbridge.logs import REPEATS, LogLevel
from telbridge.serving.admin_settings import AdminSection
from telbridge.serving.carrier_settings import PlivoSection, SignalWireSection, TelnyxSection, VonageSection
from telbridge.serving.ingress_settings import (
    AriSection,
    AsteriskSection,
    AudioSocketSection,
    GenericSection,
    HttpSection,
    StreamsSection,
    TwilioSection,
)
from telbridge.serving.recording_settings import RecordingSection
from telbridge.serving.records_settings import RecordsSection
from telbridge.serving.tracing_settings import TracingSection
from telbridge.sessions.provider import Provider, VendorSettings, problems
from telbridge.sessions.providers import PROVIDERS

ENV_PREFIX: Final = "TELBRIDGE__"


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One mistake, as its author should read it."""

    file: str
    key: str
    what: str
    instead: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.what, self.instead) if part)


class ConfigErrors(Exception):
    """Everything that is wrong, not only the first."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CallSection(_Section):
    """[call]: what every call gets."""

    agent: Annotated[
        str, Field(description='"local" (the embedded agent, no key needed) or the name of an agent API')
    ] = "local"
    local_api: Annotated[
        str, Field(description="the API in which the embedded agent is spoken to: to try one without a key")
    ] = "openai_realtime"
    greeting: Annotated[
        str, Field(description='what the agent says first; "" for an agent that waits', max_length=2000)
    ] = "Hello, this is telbridge. How can I help you?"
    greeting_verbatim: Annotated[
        bool, Field(description="true: say the greeting word by word; false: greet in this sense")
    ] = True
    agent_may_hang_up: Annotated[
        bool, Field(description="offer the agent a tool that ends the call after its goodbye")
    ] = True
    filler_wav: Annotated[
        Path | None, Field(description="WAV that is played while a lost agent is got back; default: our own")
    ] = None
    apology_wav: Annotated[
        Path | None, Field(description="WAV that is played when the agent fails; default: our own")
    ] = None
    connect_timeout_s: Annotated[
        float, Field(gt=0, le=30, description="seconds for the agent's WebSocket to open")
    ] = 4.0
    setup_timeout_s: Annotated[
        float, Field(gt=0, le=30, description="seconds for the agent to accept its configuration")
    ] = 10.0
    reply_timeout_s: Annotated[
        float, Field(gt=0, le=120, description="seconds of silence after which an agent counts as lost")
    ] = 12.0

    @field_validator("agent")
    @classmethod
    def _agent_is_known(cls, agent: str) -> str:
        return _one_of(agent, ["local", *PROVIDERS])

    @field_validator("local_api")
    @classmethod
    def _api_is_known(cls, api: str) -> str:
        return _one_of(api, list(PROVIDERS))


def _one_of(name: str, names: list[str]) -> str:
    if name not in names:
        known = ", ".join(map(repr, names[:-1]))
        raise ValueError(f"{name!r} is not accepted: write {known} or {names[-1]!r}")
    return name


class SessionSection(NeutralSettings):
    """[session]: what is asked of the agent, whichever it is."""

    @field_validator("tools")
    @classmethod
    def _no_tools(cls, tools: object) -> None:
        if tools:
            raise ValueError("nothing here would answer them: remove `tools`")


class DialplansSection(_Section):
    """[dialplans]: what calls get, in files of their own."""

    folder: Annotated[
        Path | None,
        Field(description="folder of the dialplans; without it every call gets [call] and [session]"),
    ] = None


class LogSection(_Section):
    """[log]."""

    level: Annotated[
        LogLevel, Field(description="least level that is logged; `telbridge log-level` changes it")
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"], Field(description='"auto": console on a terminal, else JSON')
    ] = "auto"
    repeats: Annotated[
        int,
        Field(
            ge=0,
            description="lines of one event that a process writes in 10 s; the others are counted and told "
            "as `repeated`. 0: all",
        ),
    ] = REPEATS


class ServeSection(_Section):
    """[serve]: processes."""

    drain_s: Annotated[
        float, Field(ge=0, le=86_400, description="seconds that live calls get to end after SIGTERM")
    ] = 30.0
    pin_workers: Annotated[
        bool,
        Field(
            description="true: each worker keeps to one core, its own as long as there are no more workers "
            "than cores that telbridge may use"
        ),
    ] = False


class _Settings(_Section):
    """The whole file, but for the agent APIs: each of them has a section of its own name."""

    sip: SipSettings = SipSettings()
    http: HttpSection = HttpSection()
    admin: AdminSection = AdminSection()
    streams: StreamsSection = StreamsSection()
    twilio: TwilioSection = TwilioSection()
    telnyx: TelnyxSection = TelnyxSection()
    plivo: PlivoSection = PlivoSection()
    signalwire: SignalWireSection = SignalWireSection()
    vonage: VonageSection = VonageSection()
    asterisk: AsteriskSection = AsteriskSection()
    audiosocket: AudioSocketSection = AudioSocketSection()
    ari: AriSection = AriSection()
    generic: GenericSection = GenericSection()
    call: CallSection = CallSection()
    session: SessionSection = SessionSection()
    dialplans: DialplansSection = DialplansSection()
    local_agent: AgentSettings = AgentSettings()
    records: RecordsSection = RecordsSection()
    recording: RecordingSection = RecordingSection()
    log: LogSection = LogSection()
    tracing: TracingSection = TracingSection()
    serve: ServeSection = ServeSection()

    def vendor(self, provider: str) -> VendorSettings:
        """The section of an agent API."""
        section = getattr(self, provider)
        assert isinstance(section, VendorSettings)
        return section


def _optional(provider: Provider[Any]) -> tuple[Any, Any]:
    """A section whose required settings are missing is a mistake only for the one that is used."""
    try:
        return (provider.settings, provider.settings())
    except ValidationError:
        return (provider.settings | None, None)


if TYPE_CHECKING:
    Settings = _Settings
else:
    Settings = create_model(
        "Settings",
        __base__=_Settings,
        __doc__="The whole file.",
        **{name: _optional(provider) for name, provider in PROVIDERS.items()},
    )


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from a file (or none: the defaults) and the environment. Raises ConfigErrors."""
    tree = _read(path) if path else {}
    overrides = dict(_overrides(environ))
    for keys, raw in overrides.items():
        _put(tree, _as_spelt(keys), _value(raw))
    file = str(path or "settings")
    try:
        settings = _validated(tree, overrides)
    except ValidationError as error:
        raise ConfigErrors([_explain(fault, file, overrides) for fault in error.errors()]) from None
    if mistakes := list(_agent_mistakes(settings, file)):
        raise ConfigErrors(mistakes)
    return settings


def _validated(tree: dict[str, Any], overrides: Mapping[tuple[str, ...], str]) -> Settings:
    """An override that looks like a number or a date (`4711`, `2026-04-10`, `inf`) is a text where one is
    wanted."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        wanted = [fault["loc"] for fault in error.errors() if fault["type"] in _TEXT_WANTED]
        texts = {keys: raw for keys, raw in overrides.items() if any(_is_of(keys, loc) for loc in wanted)}
        if not texts:
            raise
        for keys, raw in texts.items():
            _put(tree, _as_spelt(keys), raw)
        return Settings.model_validate(tree)


_TEXT_WANTED: Final = ("string_type", "literal_error", "path_type")


def _is_of(keys: tuple[str, ...], loc: tuple[str | int, ...]) -> bool:
    """Whether a mistake lies in this override. In a table of several kinds pydantic names the kind too."""
    path = iter(map(str, loc))
    return all(key in path for key in _as_spelt(keys))


def warnings(settings: Settings) -> list[str]:
    """Settings that are passed on but make no sense on a telephone, one line each."""
    provider = PROVIDERS.get(settings.call.agent)
    if provider is None:
        return []
    found = provider.warnings(settings.vendor(provider.name))
    return [f"{provider.name}.{key}: {what}" for key, what in found]


def _agent_mistakes(settings: Settings, file: str) -> Iterator[ConfigError]:
    """What the chosen agent API would refuse, or cannot do."""
    name = settings.call.agent
    provider = PROVIDERS.get(name)
    if provider is None:
        return
    if getattr(settings, name) is None:
        required = [key for key, field in provider.settings.model_fields.items() if field.is_required()]
        yield ConfigError(file, name, "is missing", f"write [{name}] with {', '.join(required)}")
        return
    for key, why in problems(provider, settings.session, settings.vendor(name)):
        yield ConfigError(file, f"session.{key}", why, "remove it, or choose another call.agent")
    try:
        provider.with_neutral(settings.vendor(name), settings.session)
    except ValidationError as error:
        fault = error.errors()[0]
        yield ConfigError(file, "session", f"{provider.title}: {_dotted(fault['loc'])}: {fault['msg']}", "")
    for key, text in provider.refusals(settings.vendor(name)):
        what, _, instead = text.partition(": ")
        yield ConfigError(file, f"{name}.{key}", what, instead)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problem = ConfigError(str(path), "", error.strerror or "cannot be read", "name a readable TOML file")
    except UnicodeDecodeError:
        problem = ConfigError(str(path), "", "is not UTF-8", "save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problem = ConfigError(str(path), "", f"is not TOML: {error}", "see https://toml.io for the syntax")
    raise ConfigErrors([problem])


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, raw in sorted(environ.items()):
        if name.startswith(ENV_PREFIX):
            yield tuple(name.removeprefix(ENV_PREFIX).lower().split("__")), raw


def _as_spelt(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Names of environment variables have no case; some settings, by their vendor's names, do."""
    spelt: tuple[str, ...] = ()
    for key in keys:
        spelt += (next((name for name in _names(spelt) if name.lower() == key), key),)
    return spelt


def _value(raw: str) -> Any:
    """An override is TOML where it parses as such (numbers, lists, tables), else the text itself."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _put(tree: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree[keys[-1]] = value


# -------------------------------------------------------------------- from pydantic's words to ours


def _explain(fault: Any, file: str, overrides: Mapping[tuple[str, ...], str]) -> ConfigError:
    loc: tuple[str | int, ...] = fault["loc"]
    for keys in overrides:
        if _is_of(keys, loc):
            file = "environment " + ENV_PREFIX + "__".join(keys).upper()
    what, instead = _words(fault, loc)
    return ConfigError(file, _dotted(loc), what, instead)


def _dotted(loc: tuple[str | int, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _words(fault: Any, loc: tuple[str | int, ...]) -> tuple[str, str]:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return "no such setting", _nearest(str(loc[-1]), _names(loc[:-1]))
    if kind == "missing":
        return "is missing", _wanted(loc)
    if kind == "value_error":
        what, _, instead = str(context["error"]).partition(": ")
        return what, instead or _wanted(loc)
    if kind == "literal_error":
        return f"{fault['input']!r} is not accepted", f"write {context['expected']}"
    if kind in ("model_type", "dict_type"):
        return "is a table", f"write [{_dotted(loc)}] and its settings below" if loc else "write key = value"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{fault['input']!r}: {message}", _wanted(loc)


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known here: {', '.join(known)}" if known else "remove it"


def _names(loc: tuple[str | int, ...]) -> list[str]:
    model = _model_at(loc)
    return list(model.model_fields) if model else []


def _wanted(loc: tuple[str | int, ...]) -> str:
    """The description of the setting, from its field."""
    names = [part for part in loc if isinstance(part, str)]
    model = _model_at(tuple(names[:-1]))
    field = model.model_fields.get(names[-1]) if model and names else None
    return field.description if field and field.description else "see docs/settings.md"


def _model_at(loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] = Settings
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from _models(inner)
