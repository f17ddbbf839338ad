"""The carriers of the settings, with their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from telbridge.audio.formats import AudioFormat
from telbridge.config import ConfigError, ConfigErrors, Settings
from telbridge.legs.streams.carrier import Carrier
from telbridge.legs.streams.peer import PeerTraits
from telbridge.legs.streams.plivo import PLIVO
from telbridge.legs.streams.plivo_webhook import Plivo
from telbridge.legs.streams.signalwire import SIGNALWIRE
from telbridge.legs.streams.signalwire_webhook import SignalWire
from telbridge.legs.streams.telnyx import TELNYX
from telbridge.legs.streams.telnyx_webhook import Telnyx
from telbridge.legs.streams.vonage import VONAGE
from telbridge.legs.streams.vonage_webhook import Vonage
from telbridge.sessions.credentials import SecretMissing, SecretRef

_KEYS: Final = {
    TELNYX.name: "public_keys",
    PLIVO.name: "auth_tokens",
    SIGNALWIRE.name: "signing_keys",
    VONAGE.name: "signature_secrets",
}


def carriers_of(settings: Settings, environ: Mapping[str, str]) -> list[Carrier]:
    """One of each kind. One without keys refuses everybody, which is so where nobody named any and the usual
    variable is not set. ConfigErrors for a key that was named and is missing, or is none."""
    telnyx = settings.telnyx
    try:
        return [
            Telnyx(
                _keys(settings, TELNYX, environ),
                _format(TELNYX, telnyx.codec),
                big_endian=telnyx.l16_byte_order == "big",
            ),
            Plivo(_keys(settings, PLIVO, environ), _format(PLIVO, settings.plivo.codec)),
            SignalWire(_keys(settings, SIGNALWIRE, environ), _format(SIGNALWIRE, settings.signalwire.codec)),
            Vonage(
                _keys(settings, VONAGE, environ),
                _format(VONAGE, settings.vonage.codec),
                settings.vonage.caller_id,
            ),
        ]
    except ValueError as error:
        what, _, instead = str(error).partition(": ")
        raise ConfigErrors([ConfigError("settings", "telnyx.public_keys", what, instead)]) from None


def _keys(settings: Settings, traits: PeerTraits, environ: Mapping[str, str]) -> list[str]:
    name, section = _KEYS[traits.name], getattr(settings, traits.name)
    references: Sequence[SecretRef] = getattr(section, name)
    key = f"{traits.name}.{name}"
    try:
        return [reference.resolve(key, environ) for reference in references]
    except SecretMissing as missing:
        if name not in section.model_fields_set:
            return []
        raise ConfigErrors([ConfigError("settings", key, missing.what, missing.instead)]) from None


def _format(traits: PeerTraits, codec: str) -> AudioFormat:
    """By its name in the settings."""
    return next(form for form in traits.formats if str(form) == codec)
