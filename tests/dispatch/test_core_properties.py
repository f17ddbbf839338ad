"""Whatever comes, in whatever order: nothing raises, and what must hold holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.framing import Framer
from telbridge.dispatch.hops import Hop, ToPeer, ToWorker
from telbridge.dispatch.message import Malformed, parse
from tests.dispatch.sides import INNER, SDP, Net, Phone, S, answer, header, peer

METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "INFO", "UPDATE", "OPTIONS", "REGISTER")
octets = st.binary(max_size=300)
hosts = st.sampled_from(["192.0.2.5", "203.0.113.7", "10.0.0.1"])
ports = st.integers(1, 65535)
sources = st.builds(peer, hosts, ports, st.sampled_from(["udp", "tcp"]))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good message with a few octets cut out, doubled or replaced."""
    phone = Phone(Net()).calls()
    good = bytearray(
        draw(
            st.sampled_from(
                [
                    phone.request("INVITE", body=SDP),
                    phone.request("INFO", 2),
                    phone.is_asked("BYE"),
                    answer(phone.got),
                ]
            )
        )
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(good) - 1)))
        until = min(len(good), at + draw(st.integers(0, 12)))
        good[at:until] = draw(st.one_of(octets, st.just(bytes(good[at:until]) * 2)))
    return bytes(good)


@given(st.lists(st.one_of(octets, damaged()), max_size=4), sources)
@settings(max_examples=100, deadline=None)
def test_no_octets_whatever_raise(messages: list[bytes], source: Hop) -> None:
    net = Net()
    Phone(net).calls()
    for message in messages:
        net.core.from_peer(message, source, S)
        net.core.from_worker(message, 40_001, S)
    net.core.worker_gone(1, S)
    net.core.tick(5 * S)


@given(octets, st.lists(st.integers(1, 40), max_size=10))
@settings(max_examples=100, deadline=None)
def test_a_stream_of_anything_is_cut_or_given_up(noise: bytes, sizes: list[int]) -> None:
    framer = Framer()
    stream = noise + Phone(Net()).request("INVITE")
    try:
        for size in [*sizes, len(stream)]:
            framer.feed(stream[:size])
            stream = stream[size:]
    except Malformed:
        pass


@given(sources, st.booleans(), st.booleans(), hosts, st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_what_goes_to_a_worker_has_our_marks_and_its_answer_finds_back(
    source: Hop, rport: bool, cookie: bool, via_host: str, proxies: int
) -> None:
    net = Net()
    behind = tuple(f"<sip:192.0.2.{70 + number};lr>" for number in range(proxies))
    phone = Phone(net, source=source, via_host=via_host, rport=rport, cookie=cookie, proxies=behind)
    got = phone.invites()
    assert got is not None
    vias, routes = header(got, "Via"), header(got, "Record-Route")
    assert vias[0].startswith(f"SIP/2.0/UDP 127.0.0.1:{INNER};branch=z9hG4bK") and len(vias) == 2
    assert f"lr;w={phone.worker}" in routes[0] and f"lr;w={phone.worker}" in routes[1]
    assert tuple(routes[2:]) == behind
    for status in (100, 180, 200):
        answered = net.from_worker(answer(got, status), phone.worker)
        assert isinstance(answered, ToPeer)
        # The phones name the port that they send from: it is the same with rport and without.
        assert (answered.to.host, answered.to.port) == (source.host, source.port)
        assert len(header(answered.data, "Via")) == 1
        assert header(answered.data, "Record-Route") == routes


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), max_size=40))
@settings(max_examples=60, deadline=None)
def test_values_go_on_as_they_came(value: str) -> None:
    phone = Phone(net := Net())
    line = f"X-Any: <{value}>".encode()
    sent = net.from_peer(phone.request("INVITE").replace(b"Contact:", line + b"\r\nContact:"))
    assert isinstance(sent, ToWorker) and line + b"\r\n" in sent.data


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["invite", "copy", "ring", "answer", "refuse", "cancel", "bye", "hang up", "die", "born", "wait"]
        ),
        st.integers(0, 4),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_calls_are_counted_right_whatever_happens(what: list[tuple[str, int]]) -> None:
    """A model of each call beside the dispatcher; peers of the dead hear of it once."""
    net = Net(max_calls=4, per_worker=3)
    phones: dict[int, Phone] = {}
    state: dict[int, str] = {}
    alive = {1, 2}
    for step, which in what:
        net.now_ns += S // 10
        phone, now = phones.get(which), state.get(which, "")
        there = phone is not None and phone.worker in alive
        match step:
            case "invite" if not now or now == "over":
                phone = Phone(net, f"p{which}-{net.now_ns}")
                loads = [sum(p.worker == w and state[k] != "over" for k, p in phones.items()) for w in (1, 2)]
                room = sum(loads) < 4 and any(loads[w - 1] < 3 for w in alive)
                assert (phone.invites() is not None) == room
                if room:
                    phones[which], state[which] = phone, "offered"
                    phone._invite = phone.got
                    assert loads[phone.worker - 1] == min(loads[w - 1] for w in alive if loads[w - 1] < 3)
            case "copy" if phone and there and now != "over":
                assert phone.asks(phone.request("INVITE", branch=f"{phone.name}inv", body=SDP)) is not None
                phone.got = phone._invite
            case "ring" if phone and there and now == "offered":
                phone.is_answered(180)
            case "answer" if phone and there and now == "offered":
                phone.got = phone._invite
                phone.learns(phone.is_answered())
                state[which] = "talking"
            case "refuse" | "cancel" if phone and there and now == "offered":
                phone.got = phone._invite
                phone.is_answered(487)
                state[which] = "over"
            case "bye" if phone and there and now == "talking":
                assert phone.asks(phone.request("BYE", 2)) is not None
                state[which] = "over"
            case "hang up" if phone and there and now == "talking":
                assert isinstance(net.from_worker(phone.is_asked("BYE"), phone.worker), ToPeer)
                state[which] = "over"
            case "die" if (number := which % 2 + 1) in alive:
                alive.discard(number)
                lost = {k for k, p in phones.items() if p.worker == number and state[k] != "over"}
                said = net.core.worker_gone(number, net.now_ns)
                firsts = sorted(send.data.split()[0] for send in said)
                assert firsts == sorted(b"BYE" if state[k] == "talking" else b"SIP/2.0" for k in lost)
                state.update(dict.fromkeys(lost, "over"))
            case "born" if (number := which % 2 + 1) not in alive:
                alive.add(number)
                net.core.worker_up(Worker(number, 40_000 + number, 3))
            case "wait":
                net.now_ns += S
                assert all(parse(send.data) for send in net.core.tick(net.now_ns) if isinstance(send, ToPeer))
        assert net.core.live_calls == sum(now != "over" for now in state.values())
