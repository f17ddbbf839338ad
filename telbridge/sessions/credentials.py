"""Secrets in settings: only ever references; the secret itself is read when a session is made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

_ENVIRON: Final = "environ"
_IPV4_LOOPBACK: Final = re.compile(r"127(\.\d{1,3}){3}")


class SecretMissing(Exception):
    """A secret is not where the settings say."""

    def __init__(self, key: str, what: str, instead: str, *, absent: bool = True) -> None:
        """`absent`: there is nothing at all; else it is no secret."""
        super().__init__(f"{key}: {what}: {instead}")
        self.key, self.what, self.instead, self.absent = key, what, instead, absent


class SecretRef(BaseModel):
    """Where a secret is to be found; resolved when it is needed, never printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: Annotated[str | None, Field(description="name of an environment variable that holds the secret")] = (
        None
    )
    file: Annotated[
        Path | None, Field(description="path of a file that holds the secret and nothing else")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _no_secret_in_the_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError('a secret must not stand here: write { env = "NAME" } or { file = "/path" }')
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SecretRef:
        if (self.env is None) == (self.file is None):
            raise ValueError('needs exactly one source: write { env = "NAME" } or { file = "/path" }')
        return self

    @model_serializer(mode="wrap")
    def _reveal(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """The reference, unless `revealed` asked for the secret."""
        environ = (info.context or {}).get(_ENVIRON)
        return handler(self) if environ is None else self.resolve("secret", environ)

    def resolve(self, key: str, environ: Mapping[str, str] = os.environ) -> str:
        """The secret. SecretMissing naming `key` if it is not there."""
        if self.env is not None:
            if secret := environ.get(self.env, "").strip():
                return secret
            raise SecretMissing(key, f"{self.env} is not set", f"export {self.env}=…")
        assert self.file is not None
        try:
            return self.file.read_text("utf-8").strip()
        except OSError as error:
            raise SecretMissing(key, f"{self.file}: {error.strerror}", "name a readable file") from error


def on_this_machine(url: str) -> bool:
    """Whether an agent's address is of this machine, and not encrypted: an agent of our own."""
    address = urlsplit(url)
    host = address.hostname or ""
    return address.scheme in ("ws", "http") and (
        host in ("localhost", "::1") or _IPV4_LOOPBACK.fullmatch(host) is not None
    )


def api_secret(
    settings: BaseModel, field: str, environ: Mapping[str, str], *, section: str, url: str
) -> str | None:
    """The secret of one of the settings' fields, fit for a header: the rule of all agent APIs.

    An agent on this machine wants none: it gets what the section names for it, and only if that is there. The
    vendor's own variable of the environment is nobody else's business. SecretMissing, with the dotted key.
    """
    reference = getattr(settings, field)
    local = on_this_machine(url)
    if not isinstance(reference, SecretRef) or (local and field not in settings.model_fields_set):
        return None
    try:
        return fit_for_a_header(reference.resolve(f"{section}.{field}", environ), f"{section}.{field}")
    except SecretMissing as missing:
        if local and missing.absent:
            return None
        raise


def fit_for_a_header(secret: str, key: str) -> str:
    """SecretMissing for what no key is: a line break would add a header of its own."""
    if secret and secret.isascii() and secret.isprintable() and " " not in secret:
        return secret
    raise SecretMissing(
        key,
        "is empty, or holds a space, a line break or a character that no key has",
        "store the key and nothing else there",
        absent=False,
    )


def revealed(
    settings: BaseModel, environ: Mapping[str, str], *, key: str = "settings", **options: Any
) -> dict[str, Any]:
    """`settings` as `model_dump` gives it, each SecretRef in it replaced by its secret; for the wire only.

    `options`: those of `model_dump`; what they leave out is not looked for. SecretMissing with the dotted
    key of the first one missing; `key` is that of `settings` itself.
    """
    # Found and resolved by ourselves: within a union pydantic would swallow what a serializer raises.
    for inner, reference in _references(settings, key, options):
        reference.resolve(inner, environ)
    return settings.model_dump(mode="json", context={_ENVIRON: environ}, **options)


def _references(value: object, key: str, options: Mapping[str, Any]) -> Iterator[tuple[str, SecretRef]]:
    if isinstance(value, SecretRef):
        yield key, value
    elif isinstance(value, BaseModel):
        left_out, only = options.get("exclude") or (), options.get("include")
        inner = {name: each for name, each in options.items() if name not in ("exclude", "include")}
        for name in value.model_fields_set if options.get("exclude_unset") else type(value).model_fields:
            if name not in left_out and (only is None or name in only):
                yield from _references(getattr(value, name), f"{key}.{name}", inner)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _references(item, f"{key}.{name}", options)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _references(item, f"{key}[{index}]", options)
