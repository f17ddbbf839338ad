"""SIP over TLS at the dispatcher: what is marked, what stays secret, what is believed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from telbridge.dispatch.hops import Hop, ToPeer
from telbridge.legs.sip.settings import TlsSettings
from telbridge.legs.sip.tls import Tls
from tests.dispatch.sides import INNER, Net, Phone, answer, first_line, header, peer
from tests.dispatch.test_shell import HOST, Bed

TLS_PORT = 5061

# ---------------------------------------------------------------- pure


def caller(net: Net | None = None, **kinds: Any) -> Phone:
    return Phone(net or Net(), source=peer("203.0.113.7", 40_123, "tls"), **kinds)


def test_who_calls_by_tls_sees_the_tls_port_in_all_that_names_us() -> None:
    phone = caller()
    got = phone.invites()
    assert got is not None
    assert header(got, "Record-Route") == [
        f"<sip:127.0.0.1:{INNER};lr;w=1;peer=tls-203.0.113.7-40123-192.0.2.10>",
        f"<sip:192.0.2.10:{TLS_PORT};transport=tls;lr;w=1>",
    ]
    assert header(phone.is_answered(), "Contact") == [f"<sip:w1@192.0.2.10:{TLS_PORT};transport=tls>"]


def test_the_workers_requests_go_back_on_the_connection() -> None:
    phone = caller(contact="sip:a@10.1.1.1:5071;transport=tls").calls()
    sent = phone.net.from_worker(phone.is_asked("BYE"))
    assert isinstance(sent, ToPeer)
    assert sent.to == phone.source
    assert sent.instead == Hop("tls", "10.1.1.1", 5071, phone.source.local)
    assert header(sent.data, "Via")[0].startswith(f"SIP/2.0/TLS 192.0.2.10:{TLS_PORT};")


@pytest.mark.parametrize("contact", ["sip:a@10.1.1.1;transport=udp", "sip:a@10.1.1.1;transport=tcp"])
def test_nothing_of_a_call_by_tls_goes_in_clear(contact: str) -> None:
    phone = caller(contact=contact).calls()
    sent = phone.net.from_worker(phone.is_asked("BYE"))
    assert isinstance(sent, ToPeer)
    assert (sent.to, sent.instead) == (phone.source, None)
    (bye,) = caller_bye(phone)
    assert (bye.to, bye.instead) == (phone.source, None)


def caller_bye(phone: Phone) -> list[ToPeer]:
    """What the peer gets if its worker dies now; a fresh call, for the one above is over."""
    again = caller(phone.net, name="b", contact=phone.contact).calls()
    return [send for send in phone.net.core.worker_gone(again.worker, 0) if isinstance(send, ToPeer)]


def test_an_answer_of_a_peer_by_tls_finds_its_worker() -> None:
    phone = caller().calls()
    sent = phone.net.from_worker(phone.is_asked("INFO"))
    assert isinstance(sent, ToPeer)
    reply = phone.asks(answer(sent.data))
    assert reply is not None and first_line(reply).startswith("SIP/2.0 200")


def test_a_worker_sees_no_sips() -> None:
    phone = caller(target="sips:agent@192.0.2.10", contact="sips:a@10.1.1.1")
    got = phone.invites()
    assert got is not None
    assert first_line(got) == "INVITE sip:agent@192.0.2.10 SIP/2.0"
    assert header(got, "Contact") == ["<sip:a@10.1.1.1>"]


# ---------------------------------------------------------------- on sockets


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def files(authority: trustme.CA, folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for these names, and its key."""
    made = authority.issue_cert(*names)
    certificate, key = folder / "us.pem", folder / "us.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return certificate, key


@pytest.fixture
async def bed(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[Bed]:
    made = await Bed().open(tls=lambda port: Tls(port, *files(authority, tmp_path, HOST)))
    yield made
    made.close()


async def connected(bed: Bed, authority: trustme.CA) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return await asyncio.open_connection(HOST, bed.tls_port, ssl=context, server_hostname=HOST)


async def test_a_call_by_tls_comes_back_on_its_connection(bed: Bed, authority: trustme.CA) -> None:
    reader, writer = await connected(bed, authority)
    port = writer.get_extra_info("sockname")[1]
    writer.write(bed.phone("tls", port).request("INVITE"))
    bed.worker.send(answer(await bed.worker.next(), 180), bed.inner_port)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"SIP/2.0 180")
    writer.close()


async def test_a_renewed_certificate_is_shown_to_who_comes_next(
    bed: Bed, authority: trustme.CA, tmp_path: Path
) -> None:
    seen = []
    for _ in range(2):
        _, writer = await connected(bed, authority)
        seen.append(writer.get_extra_info("ssl_object").getpeercert()["serialNumber"])
        writer.close()
        files(authority, tmp_path, HOST)
        assert bed.tls is not None
        bed.tls.reload()
    assert seen[0] != seen[1]


async def test_a_certificate_gone_bad_leaves_the_old_one(
    bed: Bed, authority: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "us.key").write_bytes(trustme.CA().issue_cert(HOST).private_key_pem.bytes())
    assert bed.tls is not None
    with pytest.raises(ssl.SSLError):
        bed.tls.reload()
    _, writer = await connected(bed, authority)
    writer.close()


async def test_who_must_show_a_certificate_and_shows_none_is_not_heard(
    authority: trustme.CA, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    bed = await Bed().open(tls=lambda port: Tls(port, *files(authority, tmp_path, HOST), root))
    reader, writer = await connected(bed, authority)
    writer.write(bed.phone("tls").request("OPTIONS"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        # TLS 1.3: the client learns of it with its first read.
        if not await asyncio.wait_for(reader.read(), 10):
            raise ConnectionResetError
    assert bed.core.counters.forwarded == 0
    writer.close()
    bed.close()


# ---------------------------------------------------------------- settings


def test_files_that_do_not_belong_together_are_a_mistake(authority: trustme.CA, tmp_path: Path) -> None:
    certificate, key = files(authority, tmp_path, HOST)
    assert TlsSettings(certificate=certificate, key=key).port == TLS_PORT
    key.write_bytes(trustme.CA().issue_cert(HOST).private_key_pem.bytes())
    with pytest.raises(ValidationError, match="write PEM files that belong together"):
        TlsSettings(certificate=certificate, key=key)
    with pytest.raises(ValidationError, match="No such file or directory: write files"):
        TlsSettings(certificate=tmp_path / "none.pem")
