"""An Entra token for Azure Voice Live, by azure-identity (optional: `pip install telbridge[azure]`)."""

from __future__ import annotations

import importlib
from typing import Final

from telbridge.sessions.azure.settings import AzureSettings
from telbridge.sessions.credentials import SecretMissing

TOKEN_VARIABLE: Final = "TELBRIDGE_AZURE_ENTRA_TOKEN"
"""Under which `PROVIDER.open` looks for the token of `entra = true`."""
_KEY: Final = "azure_voice_live.entra"


def fetch_secrets(settings: AzureSettings) -> dict[str, str]:
    """See `Provider.fetch_secrets`: a token of whatever identity the machine has."""
    return {TOKEN_VARIABLE: _bearer_token(settings.entra_scope)} if settings.entra else {}


def _bearer_token(scope: str) -> str:
    """By `DefaultAzureCredential`."""
    try:
        identity = importlib.import_module("azure.identity")
        core = importlib.import_module("azure.core.exceptions")
    except ImportError:
        raise SecretMissing(
            _KEY, "needs azure-identity, which is not installed", "pip install telbridge[azure]"
        ) from None
    try:
        with identity.DefaultAzureCredential() as credential:
            token: str = credential.get_token(scope).token
    except core.AzureError as fault:
        # Its text lists every way that was tried, over many lines; the first says enough.
        reason = (str(fault).splitlines() or [""])[0]
        raise SecretMissing(
            _KEY, f"azure-identity got no token: {reason}", "log in with `az login`"
        ) from fault
    return token
