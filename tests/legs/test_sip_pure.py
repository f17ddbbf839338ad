"""The parts of the SIP leg that need no library."""

from __future__ import annotations

import asyncio
import socket
import string
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from telbridge.audio.formats import PCMA_8K, PCMU_8K
from telbridge.call.events import Dtmf, DtmfFailed, DtmfSent
from telbridge.legs.sip import library
from telbridge.legs.sip.access import (
    LOG_EVERY_NS,
    LOGGED_SOURCES,
    REMEMBERED,
    AccessPolicy,
    Network,
    StrangerLog,
)
from telbridge.legs.sip.gate import find_layout, outside_method
from telbridge.legs.sip.keys import IS_END, IS_UPDATE, LOST_END_NS, KeyWatch
from telbridge.legs.sip.keys_out import END_MS, FIXED_TONE_MS, KeysOut
from telbridge.legs.sip.library import PjsuaBuild, SipUnavailable, built_folder, interpreter_tag
from telbridge.legs.sip.message import MAX_HEADERS, MAX_VALUE, offered_codec, parse_invite
from telbridge.legs.sip.peers import names_the_caller, peer_address, trunk_of
from telbridge.legs.sip.settings import SipSettings
from telbridge.legs.sip.stack import nameservers
from telbridge.legs.sip.tcp_filter import program
from telbridge.legs.sip.throttle import INVITES, WINDOW_NS, InviteThrottle

# ---------------------------------------------------------------- who may call

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
networks = st.lists(
    st.builds(
        lambda address, prefix: ip_network((address, prefix % (address.max_prefixlen + 1)), strict=False),
        addresses,
        st.integers(0, 128),
    ),
    max_size=5,
)


@given(allow=networks, address=addresses, private=st.booleans())
def test_who_is_in_a_network_may_call_and_nobody_else(
    allow: list[Network], address: object, private: bool
) -> None:
    address = ip_address(str(address))
    local = [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fe80::/10",
        "fc00::/7",
    ]
    plain = getattr(address, "ipv4_mapped", None) or address
    expected = any(plain in network for network in allow if network.version == plain.version) or (
        private and any(plain in ip_network(text) for text in local)
    )
    policy = AccessPolicy(allow, trust_private=private)
    assert policy.permits(address.packed) is expected
    assert policy.permits(address.packed) is expected


@given(st.binary(max_size=20).filter(lambda octets: len(octets) not in (4, 16)))
def test_what_is_no_address_may_not_call(octets: bytes) -> None:
    assert not AccessPolicy([ip_network("0.0.0.0/0"), ip_network("::/0")]).permits(octets)


def test_a_mapped_ipv4_address_is_that_address() -> None:
    assert AccessPolicy().permits(ip_address("::ffff:10.0.0.1").packed)
    assert not AccessPolicy().permits(ip_address("::ffff:8.8.8.8").packed)


def test_a_scan_does_not_grow_our_memory() -> None:
    policy = AccessPolicy()
    for number in range(REMEMBERED * 2):
        policy.permits((0x08000000 + number).to_bytes(4, "big"))
    assert len(policy._known) == REMEMBERED
    assert policy.permits(socket.inet_aton("127.0.0.1"))


def test_a_stranger_is_named_once_a_minute() -> None:
    fresh = StrangerLog()
    assert fresh.due(b"a", 0) and not fresh.due(b"a", LOG_EVERY_NS - 1) and fresh.due(b"a", LOG_EVERY_NS)
    assert (
        sum(fresh.due(number.to_bytes(4, "big"), LOG_EVERY_NS + 1) for number in range(500))
        == LOGGED_SOURCES - 1
    )


@given(
    allow=st.lists(st.ip_addresses(v=4), max_size=4), prefix=st.integers(0, 32), source=st.ip_addresses(v=4)
)
def test_the_socket_filter_says_what_the_policy_says(
    allow: list[object], prefix: int, source: object
) -> None:
    nets = [IPv4Network((str(address), prefix), strict=False) for address in allow]
    kept = _run(program(nets), int(ip_address(str(source))))
    assert bool(kept) is AccessPolicy(nets, trust_private=False).permits(ip_address(str(source)).packed)


def _run(code: list[tuple[int, int, int, int]], source: int) -> int:
    """A machine for the four instructions that are used."""
    at, value = 0, 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                value = source
            case 0x54:
                value &= operand
            case 0x15:
                at += yes if value == operand else no
            case 0x06:
                return operand


# ---------------------------------------------------------------- the gate's reading of pjsip_rx_data

MESSAGE = b"OPTIONS sip:x SIP/2.0\r\n\r\n"
SOURCE = socket.AF_INET.to_bytes(2, "little") + (5062).to_bytes(2, "big") + socket.inet_aton("127.0.0.1")
BASE = 0x5500_0000_1000


def rx_data(packet_bytes: int = 4000, *, address_length: int = 16) -> bytearray:
    """As the declaration in pjsip/sip_transport.h lays it out."""
    memory = bytearray(320) + MESSAGE.ljust(packet_bytes + 4, b"\0")
    memory += bytes(-len(memory) % 8) + len(MESSAGE).to_bytes(8, "little")
    memory += SOURCE.ljust(28, b"\0") + address_length.to_bytes(4, "little") + b"127.0.0.1".ljust(46, b"\0")
    memory += bytes(-len(memory) % 4) + (5062).to_bytes(4, "little")
    memory += (
        bytes(-len(memory) % 8) + (BASE + 320).to_bytes(8, "little") + len(MESSAGE).to_bytes(4, "little")
    )
    return memory + bytes(100)


@pytest.mark.parametrize("packet_bytes", [2000, 4000, 65_000])
@pytest.mark.parametrize("address_length", [16, 28])
def test_the_source_is_found_whatever_the_packet_size(packet_bytes: int, address_length: int) -> None:
    layout = find_layout(bytes(rx_data(packet_bytes, address_length=address_length)), BASE, MESSAGE, SOURCE)
    assert layout is not None
    assert layout.source_at == 320 + packet_bytes + 16
    assert layout.text_at == layout.source_at + 88


@pytest.mark.parametrize("at", [320, 4328, 4336, 4364, 4416, 4424, 4432])
def test_anything_out_of_place_is_refused(at: int) -> None:
    memory = rx_data()
    memory[at] ^= 0x40
    assert find_layout(bytes(memory), BASE, MESSAGE, SOURCE) is None


def test_short_memory_is_refused() -> None:
    for length in (0, 320, 4340, 4430):
        assert find_layout(bytes(rx_data()[:length]), BASE, MESSAGE, SOURCE) is None


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (b"OPTIONS sip:a SIP/2.0\r\nTo: <sip:a;tag=no>\r\n\r\n", b"OPTIONS"),
        (b"OPTIONS sip:a SIP/2.0\r\nt: sip:a\r\n\r\n", b"OPTIONS"),
        (b"OPTIONS sip:a SIP/2.0\r\nTo: <sip:a> ; TAG=1\r\n\r\n", b""),
        (b"OPTIONS sip:a SIP/2.0\r\nt: <sip:a>;tag=1\r\n\r\n", b""),
        (b"INVITE sip:a SIP/2.0\r\nTo: <sip:a>\r\n\r\n\r\nTo: <sip:a>;tag=1", b"INVITE"),
        (b"", b""),
    ],
)
def test_the_method_of_a_request_outside_a_call(text: bytes, method: bytes) -> None:
    assert outside_method(text) == method


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100_000_000)), max_size=200))
def test_no_window_admits_more_new_calls_than_the_library_survives(arrivals: list[tuple[int, int]]) -> None:
    throttle, now_ns, admitted = InviteThrottle(), 0, dict[int, int]()
    for call, later_ns in arrivals:
        now_ns += later_ns
        if throttle.admits(b"%d" % call, now_ns):
            admitted.setdefault(call, now_ns)
        else:
            assert call not in admitted
    times = sorted(admitted.values())
    for start in times:
        assert sum(start <= time < start + WINDOW_NS for time in times) <= INVITES


# ---------------------------------------------------------------- what an INVITE says


def test_the_facts_of_an_invite() -> None:
    invite = parse_invite(
        "INVITE sip:%2B4930@bridge:5070;transport=udp SIP/2.0\r\nv: SIP/2.0/UDP x\r\n"
        'f: "Anna; <x>" <sip:anna:secret@example.org>;tag=1\r\nt: <sip:y@z>\r\ni: abc@x\r\n'
        "X-Tenant: a,\r\n b\r\nx-tenant: second\r\nP-Asserted-Identity: <tel:+491>\r\nSubject: s\r\n"
        "\r\nv=0\r\n"
    )
    assert (invite.caller, invite.called, invite.call_id) == ("anna", "+4930", "abc@x")
    assert (invite.asserted, invite.domain) == ("+491", "bridge")
    assert invite.headers == {
        "From": '"Anna; <x>" <sip:anna:secret@example.org>;tag=1',
        "To": "<sip:y@z>",
        "X-Tenant": "a, b",
        "P-Asserted-Identity": "<tel:+491>",
        "Subject": "s",
    }
    assert invite.offer == "v=0\r\n"


@pytest.mark.parametrize(
    ("sender", "caller"),
    [
        ("<sip:host>", ""),
        ("tel:+49-30", "+49-30"),
        ("Anonymous", ""),
        ("<sips:a.b@c>", "a.b"),
        ("<sip:a%00b@c>", "a?b"),
    ],
)
def test_the_caller(sender: str, caller: str) -> None:
    assert parse_invite(f"INVITE sip:x@y SIP/2.0\r\nFrom: {sender}\r\n\r\n").caller == caller


@pytest.mark.parametrize(
    ("target", "to", "domain"),
    [
        ("sip:100@Tenant-A.example:5070;transport=udp", "<sip:y@z>", "tenant-a.example"),
        ("sip:bridge", "<sip:y@z>", "bridge"),
        ("sip:[2001:DB8::1]:5060", "", "[2001:db8::1]"),
        ("tel:+4930", '"B" <sip:+4930@tenant-b.example;user=phone>', "tenant-b.example"),
        ("tel:+4930", "<tel:+4930>", ""),
    ],
)
def test_the_domain_called(target: str, to: str, domain: str) -> None:
    assert parse_invite(f"INVITE {target} SIP/2.0\r\nTo: {to}\r\n\r\n").domain == domain


# ---------------------------------------------------------------- whose call it is

TRUNKS = SipSettings.model_validate(
    {
        "trust_identity": ["198.51.100.0/24"],
        "trunks": {
            "wide": {"addresses": ["10.0.0.0/8", "2001:db8::/32"]},
            "narrow": {"addresses": ["10.1.2.3"]},
        },
    }
)


@pytest.mark.parametrize(
    ("peer", "trunk"),
    [
        ("10.9.9.9:5060", "wide"),
        ("10.1.2.3:40000", "narrow"),
        ("[::ffff:10.1.2.3]:5060", "narrow"),
        ("[2001:db8::7]:5060", "wide"),
        ("192.0.2.1:5060", ""),
        ("", ""),
    ],
)
def test_the_trunk_is_the_narrowest_network_of_the_peer(peer: str, trunk: str) -> None:
    assert trunk_of(peer_address(peer), TRUNKS) == trunk


def test_only_a_trusted_peer_names_the_caller_by_its_assertion() -> None:
    assert names_the_caller(peer_address("198.51.100.7:5060"), TRUNKS)
    assert not names_the_caller(peer_address("10.1.2.3:5060"), TRUNKS)
    assert not names_the_caller(peer_address("198.51.100.7:5060"), SipSettings())


@given(st.text(alphabet=string.printable + "\x00\udc80é", max_size=3000))
def test_any_text_gives_bounded_printable_facts(text: str) -> None:
    for invite in (
        parse_invite(text),
        parse_invite("INVITE " + text + "\r\nX-A:" + text + "\r\nFrom: sip:" + text),
    ):
        for value in (
            invite.caller,
            invite.called,
            invite.call_id,
            invite.asserted,
            invite.domain,
            *invite.headers,
            *invite.headers.values(),
        ):
            assert len(value) <= MAX_VALUE and (value.isprintable() or not value)
        assert len(invite.headers) <= MAX_HEADERS
        offered_codec(text)


@pytest.mark.parametrize(
    ("media", "codec"),
    [
        ("m=audio 1 RTP/AVP 0 8", PCMU_8K),
        ("m=audio 1 RTP/AVP 8 0", PCMA_8K),
        ("m=audio 1 RTP/AVP 99 0\r\na=rtpmap:99 pcma/8000/1", PCMA_8K),
        ("m=audio 1 RTP/AVP 99\r\na=rtpmap:99 PCMA/16000", None),
        ("m=audio 1 RTP/AVP 18\r\nm=audio 2 RTP/AVP 0", None),
        ("m=video 1 RTP/AVP 0\r\nm=audio 2 RTP/AVP 8", PCMA_8K),
        ("m=audio 1", None),
        ("", None),
    ],
)
def test_the_first_codec_that_we_speak(media: str, codec: object) -> None:
    assert offered_codec("v=0\r\n" + media + "\r\n") == codec


# ---------------------------------------------------------------- keys


class Timers(asyncio.SelectorEventLoop):
    """A loop whose time passes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def pass_ms(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.now_s += 0.001
            self.call_soon(self.stop)
            self.run_forever()


@pytest.mark.parametrize(("fixed_tone", "tone_ms"), [(False, 100), (True, FIXED_TONE_MS)])
def test_keys_are_pressed_one_after_the_other(fixed_tone: bool, tone_ms: int) -> None:
    timers, pressed, events = Timers(), list[tuple[str, int]](), list[object]()
    keys = KeysOut(
        timers,
        lambda: round(timers.now_s * 1e9),
        lambda: "rfc4733",
        lambda key, _way, _ms: pressed.append((key, round(timers.now_s * 1000))),
        events.append,
        fixed_tone=fixed_tone,
    )
    keys.send(",15,#", tone_ms=100, gap_ms=80)
    keys.send("d", tone_ms=100, gap_ms=80)
    timers.pass_ms(2500)
    timers.close()
    own = tone_ms + 80
    first, last = 500 + 2 * own + 500, 500 + 2 * own + 500 + tone_ms + END_MS
    assert [key for key, _ in pressed] == list("15#D")
    wanted = [500, 500 + own, first, last]
    assert all(0 <= at - due <= 5 for (_, at), due in zip(pressed, wanted, strict=True)), (pressed, wanted)
    assert [type(event) for event in events] == [DtmfSent, DtmfSent] and not keys.in_audio


@pytest.mark.parametrize("stopped", [False, True])
def test_behind_a_refused_key_and_behind_the_end_none_is_pressed(stopped: bool) -> None:
    timers, pressed, events = Timers(), list[str](), list[object]()
    keys = KeysOut(
        timers,
        lambda: 0,
        lambda: "info",
        lambda key, *_: pressed.append(key),
        events.append,
        fixed_tone=False,
    )
    keys.send("1,2", tone_ms=100, gap_ms=80)
    timers.pass_ms(50)
    keys.stop() if stopped else keys.info_answered(415)
    timers.pass_ms(3000)
    timers.close()
    assert pressed == ["1"] and [type(event) for event in events] == ([] if stopped else [DtmfFailed])


def press(watch: KeyWatch, digit: str, ms: int, flags: int, now_ns: int = 0) -> list[Dtmf]:
    return watch.seen(digit, ms, flags, now_ns, from_info=False)


def test_a_key_counts_once_at_its_end() -> None:
    watch = KeyWatch()
    assert press(watch, "5", 20, 0) == [] == press(watch, "5", 40, IS_UPDATE)
    assert press(watch, "5", 60, IS_UPDATE | IS_END, 7) == [Dtmf("5", "rfc4733", 60, 7)]
    assert press(watch, "5", 60, IS_UPDATE | IS_END, 8) == [] == watch.overdue(10**12)


def test_a_key_of_one_packet_counts() -> None:
    assert press(KeyWatch(), "#", 20, IS_END) == [Dtmf("#", "rfc4733", 20, 0)]


def test_a_key_whose_end_was_lost_counts_with_the_next() -> None:
    watch = KeyWatch()
    press(watch, "1", 40, 0)
    assert press(watch, "2", 20, 0, 9) == [Dtmf("1", "rfc4733", 40, 0)]
    assert watch.overdue(LOST_END_NS) == []
    assert watch.overdue(LOST_END_NS + 9) == [Dtmf("2", "rfc4733", 20, 9)]
    assert watch.overdue(LOST_END_NS + 10) == []


def test_a_key_that_is_down_when_the_call_ends_counts_once() -> None:
    watch = KeyWatch()
    assert press(watch, "7", 20, 0, 5) == []
    assert watch.ended() == [Dtmf("7", "rfc4733", 20, 5)]
    assert watch.ended() == []


def test_info_keys_count_at_once_and_unknown_lengths_are_zero() -> None:
    watch = KeyWatch()
    assert watch.seen("a", 2**32 - 1, IS_END, 1, from_info=True) == [Dtmf("A", "info", 0, 1)]
    assert watch.seen("x", 100, IS_END, 1, from_info=True) == []


# ---------------------------------------------------------------- builds, settings


def test_the_highest_build_for_this_interpreter_is_found(tmp_path: Path) -> None:
    for name in (f"2.9-{interpreter_tag()}", f"2.17-{interpreter_tag()}", "2.18-cpython-27-other"):
        folder = tmp_path / "telbridge" / "pjsua2" / name
        folder.mkdir(parents=True)
        (folder / "pjsua2.py").touch()
        (folder / "_pjsua2.so").touch()
    (tmp_path / "telbridge" / "pjsua2" / f"3.0-{interpreter_tag()}").mkdir()
    found = built_folder({"XDG_CACHE_HOME": str(tmp_path)})
    assert found and found.name == f"2.17-{interpreter_tag()}"
    assert built_folder({"XDG_CACHE_HOME": str(tmp_path / "none")}) is None


def test_a_build_that_is_asked_for_and_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TELBRIDGE_PJSUA2", "built")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SipUnavailable, match=r"make pjsua2") as caught:
        library.load.__wrapped__()
    assert "\n" not in str(caught.value)


def test_the_line_for_the_log() -> None:
    assert str(PjsuaBuild("built", "2.17", 1024, Path())) == "pjsua2 2.17 built, 1024 calls"
    assert (
        str(PjsuaBuild("wheel", "2.15.1", 4, Path()))
        == "pjsua2 2.15.1 wheel, 4 calls a process: run `make pjsua2` for more"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "bridge.example"},
        {"host": "::1"},
        {"port": 0},
        {"transports": []},
        {"transports": ["tls"]},
        {"allow": ["10.0.0.1/8"]},
        {"rtp_port_first": 30_000, "rtp_port_last": 30_000},
        {"user_agent": "a\r\nX: b"},
        {"prot": 5060},
        {"trunks": {"a": {"addresses": []}}},
        {"trunks": {"a": {"addresses": ["10.0.0.1/8"]}}},
        {"trunks": {"a b": {"addresses": ["10.0.0.0/8"]}}},
        {"trust_identity": ["everybody"]},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SipSettings.model_validate(wrong)


def test_settings_survive_a_trip_through_json() -> None:
    settings = SipSettings.model_validate(
        {
            "allow": ["203.0.113.0/24", "2001:db8::/32"],
            "transports": ["udp"],
            "trunks": {"a": {"addresses": ["10.0.0.0/8"]}},
        }
    )
    assert SipSettings.model_validate_json(settings.model_dump_json()) == settings


def test_the_machines_name_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# x\nsearch a\nnameserver 10.0.0.1\nnameserver fe80::1\nnameserver 10.0.0.2\nnameserver\n"
    )
    assert nameservers(file) == ["10.0.0.1", "10.0.0.2"]
    assert nameservers(tmp_path / "none") == []
