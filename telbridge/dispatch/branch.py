"""Branches of a proxy that keeps no transactions: a pure function of the message (RFC 3261 §16.11)."""

from __future__ import annotations

import hashlib

from sipmessage import Via

from telbridge.dispatch.message import COOKIE, SipMessage


def branch(message: SipMessage, top: Via) -> str:
    """The same for a request, its copies, its CANCEL and the ACK of its refusal; another for all else.

    A top Via without the magic cookie comes from RFC 2543, where more fields tell the transaction; the To tag
    is not among ours, for an ACK has it and its INVITE has not."""
    given = top.parameters.get("branch") or ""
    if given[: len(COOKIE)].lower() == COOKIE.lower() and len(given) > len(COOKIE):
        seed = [given, top.host, str(top.port), message.call_id]
    else:
        seed = [str(top), message.call_id, message.from_tag, str(message.cseq.sequence), message.uri]
    return COOKIE + digest(*seed)


def digest(*parts: str) -> str:
    """96 bits as text, fit for tags and branches."""
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=12).hexdigest()
