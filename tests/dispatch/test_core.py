"""What the dispatcher does with a message, and with its workers' deaths."""

from __future__ import annotations

import pytest

from telbridge.dispatch.fleet import Worker
from telbridge.dispatch.hops import Hop, ToPeer, ToWorker
from tests.dispatch.sides import INNER, OUTER, Net, Phone, S, answer, first_line, header, peer, text


def status(sent: object) -> int:
    assert isinstance(sent, ToPeer)
    return int(sent.data.split()[1])


# ---------------------------------------------------------------- a new call


def test_a_worker_gets_the_invite_with_our_marks_on_it() -> None:
    phone = Phone(Net(), source=peer("203.0.113.7", 4711), via_host="10.0.0.5")
    got = phone.invites()
    assert got is not None
    ours, theirs = header(got, "Via")
    assert ours.startswith(f"SIP/2.0/UDP 127.0.0.1:{INNER};branch=z9hG4bK")
    assert theirs == "SIP/2.0/UDP 10.0.0.5:4711;branch=z9hG4bKainv;rport=4711;received=203.0.113.7"
    assert header(got, "Record-Route") == [
        f"<sip:127.0.0.1:{INNER};lr;w=1;peer=udp-203.0.113.7-4711-192.0.2.10>",
        f"<sip:192.0.2.10:{OUTER};lr;w=1>",
    ]
    assert header(got, "Max-Forwards") == ["69"]
    assert header(got, "Telbridge-Peer") == ["203.0.113.7:4711"]


def test_nobody_else_tells_a_worker_who_the_peer_is() -> None:
    phone = Phone(Net())
    got = phone.asks(phone.request("INVITE", 1, "telbridge-peer: 10.9.9.9:1", "Telbridge-Peer : 10.9.9.8:1"))
    assert got is not None
    assert header(got, "Telbridge-Peer") == ["192.0.2.5:5060"]
    assert b"10.9.9" not in got


def test_a_bare_line_feed_hides_no_header() -> None:
    phone = Phone(net := Net())
    hidden = phone.request("INVITE", 1, "Subject: a\nTelbridge-Peer: 10.9.9.9:1")
    assert phone.asks(hidden) is None
    assert net.core.counters.malformed == 1


def test_what_we_do_not_understand_goes_on_untouched() -> None:
    odd = (
        'From: "M\\"uller, A <x>" <sip:a%20b@my_host.example;x="y">;tag=atag',
        'Authorization: Digest username="a,b", realm="c"',
        "X-Latin: caf\xe9",
    )
    request = (
        Phone(net := Net()).request("INVITE").replace(b"From: <sip:a@example.com>;tag=atag", odd[0].encode())
    )
    request = request.replace(b"INVITE sip:agent@192.0.2.10", b"INVITE sip:*21%2342@[2001:db8::1];x=%41")
    request = request.replace(b"Content-Length", f"{odd[1]}\r\n{odd[2]}\r\nContent-Length".encode("latin-1"))
    sent = net.from_peer(request)
    assert isinstance(sent, ToWorker)
    assert sent.data.startswith(b"INVITE sip:*21%2342@[2001:db8::1];x=%41 SIP/2.0\r\n")
    assert all(line.encode("latin-1") + b"\r\n" in sent.data for line in odd)


def test_calls_go_to_the_least_loaded_worker() -> None:
    net = Net()
    phones = [Phone(net, name) for name in "abcd"]
    for phone in phones:
        phone.invites()
    assert [phone.worker for phone in phones] == [1, 2, 1, 2]
    phones[1].is_answered(486)
    late = Phone(net, "e")
    late.invites()
    assert late.worker == 2


def test_what_a_worker_says_counts_where_we_know_less() -> None:
    net = Net()
    net.core.worker_says(1, 3)
    phones = [Phone(net, name) for name in "abcd"]
    for phone in phones:
        phone.invites()
    assert [phone.worker for phone in phones] == [2, 2, 2, 1]


@pytest.mark.parametrize(("max_calls", "per_worker"), [(3, 4), (9, 2)])
def test_one_call_more_than_there_is_room_for_gets_503(max_calls: int, per_worker: int) -> None:
    net = Net(max_calls=max_calls, per_worker=per_worker)
    room = min(max_calls, 2 * per_worker)
    for number in range(room):
        assert Phone(net, f"p{number}").invites() is not None
    late = Phone(net, "late")
    refused = net.from_peer(invite := late.request("INVITE"))
    assert status(refused) == 503 and isinstance(refused, ToPeer)
    assert header(refused.data, "Retry-After") == ["5"]
    assert status(net.from_peer(late.request("OPTIONS", 2))) == 503
    # A copy that crossed our answer must not become a call after all.
    net.core.worker_up(Worker(3, 40_003, 4))
    assert status(net.from_peer(invite)) == 503
    assert net.from_peer(late.request("ACK")) is None


def test_draining_refuses_new_calls_and_lets_the_old_ones_talk() -> None:
    phone = Phone(net := Net()).calls()
    net.core.drain()
    assert status(net.from_peer(Phone(net, "b").request("INVITE"))) == 503
    assert status(net.from_peer(Phone(net, "b").request("OPTIONS"))) == 503
    assert phone.asks(phone.request("INFO", 2)) is not None
    assert isinstance(net.from_worker(phone.is_asked("BYE")), ToPeer)


def test_a_worker_that_retires_keeps_its_calls_and_gets_no_more() -> None:
    net = Net()
    old, fresh = Phone(net, "a"), Phone(net, "b")
    old.talks()
    assert old.worker == 1
    net.core.worker_retires(1)
    for name in "cde":
        other = Phone(net, name)
        other.invites()
        assert other.worker == 2
    assert old.asks(old.request("BYE", 2)) is not None
    assert old.worker == 1
    net.core.worker_retires(2)
    assert status(net.from_peer(fresh.request("INVITE"))) == 503


def test_one_address_may_not_ask_without_end() -> None:
    phones = [Phone(net := Net(admits=lambda host, now_ns: host != "192.0.2.5"), "a")]
    assert status(net.from_peer(phones[0].request("INVITE"))) == 503
    assert Phone(net, "b", source=peer("192.0.2.6")).invites() is not None
    assert net.core.counters.throttled == 1


def test_before_any_worker_is_there_calls_are_told_to_come_again() -> None:
    net = Net()
    for number in (1, 2):
        assert net.core.worker_gone(number, net.now_ns) == []
    assert status(net.from_peer(Phone(net).request("INVITE"))) == 503


# ---------------------------------------------------------------- one transaction, one worker, one branch


@pytest.mark.parametrize("cookie", [True, False], ids=["3261", "2543"])
def test_copies_cancel_and_the_ack_of_a_refusal_follow_their_invite(cookie: bool) -> None:
    net = Net()
    phone = Phone(net, cookie=cookie)
    invite = phone.request("INVITE", branch="inv")
    first = phone.asks(invite)
    worker = phone.worker
    Phone(net, "b").invites()
    assert phone.asks(invite) == first
    cancelled = phone.asks(phone.request("CANCEL", branch="inv"))
    assert cancelled is not None and first is not None
    phone.got = first
    phone.is_answered(487)
    phone.to_tag = "wa"
    acked = phone.asks(phone.request("ACK", branch="inv"))
    assert acked is not None
    assert phone.worker == worker
    branches = {header(message, "Via")[0] for message in (first, cancelled, acked)}
    assert len(branches) == 1


def test_other_transactions_have_other_branches() -> None:
    phone = Phone(Net()).calls()
    seen = {header(phone.invite_got, "Via")[0], header(phone.got, "Via")[0]}
    for cseq, method in enumerate(("INFO", "INVITE", "BYE"), 2):
        got = phone.asks(phone.request(method, cseq))
        assert got is not None
        seen.add(header(got, "Via")[0])
    assert len(seen) == 5


def test_another_try_under_the_same_call_id_is_a_new_call() -> None:
    """As after a 401 or a 503."""
    net = Net()
    phone = Phone(net)
    phone.asks(phone.request("INVITE", 1))
    phone.is_answered(500)
    assert phone.asks(phone.request("INVITE", 2)) is not None
    assert net.core.live_calls == 1


def test_cancel_of_nothing() -> None:
    assert status(Phone(net := Net()).net.from_peer(Phone(net).request("CANCEL"))) == 481


# ---------------------------------------------------------------- responses find their way back


@pytest.mark.parametrize(
    ("source", "via_host", "rport", "expected"),
    [
        (peer("203.0.113.7", 4711), "10.0.0.5", True, ("203.0.113.7", 4711)),
        (peer("203.0.113.7", 4711), "203.0.113.7", True, ("203.0.113.7", 4711)),
        (peer("203.0.113.7", 4711), "my_box", True, ("203.0.113.7", 4711)),
        (peer("203.0.113.7", 4711), "10.0.0.5", False, ("203.0.113.7", 4711)),
    ],
)
def test_a_response_goes_to_where_its_request_came_from(
    source: Hop, via_host: str, rport: bool, expected: tuple[str, int]
) -> None:
    net = Net()
    phone = Phone(net, source=source, via_host=via_host, rport=rport)
    before = header(phone.request("INVITE"), "Via")
    phone.invites()
    answered = net.from_worker(answer(phone.got, 180))
    assert isinstance(answered, ToPeer)
    assert (answered.to.host, answered.to.port) == expected
    (via,) = header(answered.data, "Via")
    assert via.startswith(before[0].partition(";")[0])


def test_without_rport_the_port_is_the_one_that_the_via_names() -> None:
    net = Net()
    phone = Phone(net, source=peer("203.0.113.7", 4711), rport=False)
    request = phone.request("INVITE").replace(b"192.0.2.5:4711;", b"192.0.2.5:5070;")
    phone.asks(request)
    answered = net.from_worker(answer(phone.got, 180))
    assert isinstance(answered, ToPeer)
    assert (answered.to.host, answered.to.port) == ("203.0.113.7", 5070)


def test_over_tcp_answers_take_the_connection_and_else_a_new_one() -> None:
    net = Net()
    phone = Phone(net, source=peer("203.0.113.7", 4711, "tcp"), rport=False)
    phone.asks(phone.request("INVITE").replace(b"192.0.2.5:4711;", b"192.0.2.5:5070;"))
    answered = net.from_worker(answer(phone.got, 180))
    assert isinstance(answered, ToPeer)
    assert answered.to == phone.source
    assert answered.instead == Hop("tcp", "203.0.113.7", 5070, phone.source.local)


def test_a_response_of_strangers_reaches_no_worker() -> None:
    phone = Phone(net := Net()).calls()
    asked = net.from_worker(phone.is_asked("INFO"))
    assert isinstance(asked, ToPeer)
    good = answer(asked.data)
    assert isinstance(net.from_peer(good), ToWorker)
    for wrong in (
        good.replace(b"SIP/2.0/UDP 192.0.2.10:5060", b"SIP/2.0/UDP 192.0.2.99:5060"),
        good.replace(b"rport=40001", b"rport=22"),
        good.replace(b"SIP/2.0/UDP 127.0.0.1:40001", b"SIP/2.0/UDP 10.0.0.1:40001"),
        text("SIP/2.0 200 OK", f"Via: {header(good, 'Via')[0]}", *_rest(good)),
    ):
        assert net.from_peer(wrong) is None
    assert net.core.counters.astray == 4


def _rest(message: bytes) -> list[str]:
    return [f"{name}: {header(message, name)[0]}" for name in ("From", "To", "Call-ID", "CSeq")]


# ---------------------------------------------------------------- inside a dialog


@pytest.mark.parametrize("heeds_routes", [True, False], ids=["Route", "Contact alone"])
def test_requests_in_a_dialog_find_their_worker(heeds_routes: bool) -> None:
    net = Net()
    Phone(net, "other").calls()
    phone = Phone(net).calls()
    assert phone.worker == 2
    if not heeds_routes:
        phone.routes = []
    for cseq, method in enumerate(("INFO", "INVITE", "UPDATE", "BYE"), 2):
        got = phone.asks(phone.request(method, cseq))
        assert got is not None and phone.worker == 2
        assert not header(got, "Route") and not header(got, "Record-Route")


@pytest.mark.parametrize("heeds_routes", [True, False], ids=["Route", "Contact alone"])
def test_a_dispatcher_that_was_started_again_forwards_as_before(heeds_routes: bool) -> None:
    Phone(net := Net(), "other").calls()
    phone = Phone(net).calls()
    again = Net()
    phone.net = again
    if not heeds_routes:
        phone.routes = []
    assert phone.asks(phone.request("INFO", 2)) is not None
    assert phone.worker == 2
    assert phone.is_answered(200).startswith(b"SIP/2.0 200")
    asked = again.from_worker(phone.is_asked("BYE"), 2)
    assert isinstance(asked, ToPeer)
    assert (asked.to.host, asked.to.port) == ("192.0.2.5", 5060)


def test_a_workers_request_goes_by_the_peers_proxies_to_its_contact() -> None:
    net = Net()
    phone = Phone(net, contact="sip:desk@10.1.1.1:5070", proxies=("<sip:192.0.2.66:5080;lr>",)).calls()
    asked = net.from_worker(phone.is_asked("BYE"))
    assert isinstance(asked, ToPeer)
    assert first_line(asked.data) == "BYE sip:desk@10.1.1.1:5070 SIP/2.0"
    assert header(asked.data, "Route") == ["<sip:192.0.2.66:5080;lr>"]
    assert (asked.to.transport, asked.to.host, asked.to.port) == ("udp", "192.0.2.66", 5080)
    ours, theirs = header(asked.data, "Via")
    assert ours.startswith("SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bK")
    assert "received=127.0.0.1" in theirs
    back = net.from_peer(answer(asked.data))
    assert isinstance(back, ToWorker) and back.port == 40_001
    assert len(header(back.data, "Via")) == 1


def test_a_strict_router_gets_the_request_uri_that_it_wants() -> None:
    net = Net()
    phone = Phone(
        net, contact="sip:desk@10.1.1.1", proxies=("<sip:192.0.2.66>", "<sip:192.0.2.67;lr>")
    ).calls()
    asked = net.from_worker(phone.is_asked("BYE"))
    assert isinstance(asked, ToPeer)
    assert first_line(asked.data) == "BYE sip:192.0.2.66 SIP/2.0"
    assert header(asked.data, "Route") == ["<sip:192.0.2.67;lr>", "<sip:desk@10.1.1.1>"]


def test_over_tcp_a_workers_request_takes_the_peers_connection() -> None:
    net = Net()
    source = peer("203.0.113.7", 4711, "tcp")
    phone = Phone(net, source=source, contact="sip:a@203.0.113.7:5062;transport=tcp")
    ok = phone.calls()
    assert ok.target == "sip:w1@192.0.2.10:5060;transport=tcp"
    asked = net.from_worker(phone.is_asked("BYE"))
    assert isinstance(asked, ToPeer)
    assert asked.to == source and asked.instead == Hop("tcp", "203.0.113.7", 5062, source.local)
    assert header(asked.data, "Via")[0].startswith("SIP/2.0/TCP 192.0.2.10:5060;")


def test_a_name_in_a_contact_is_looked_up_and_else_the_peer_is_where_it_was() -> None:
    net = Net()
    phone = Phone(net, contact="sip:a@pbx.example.com:5070").calls()
    asked = net.from_worker(phone.is_asked("BYE"))
    assert isinstance(asked, ToPeer)
    assert (asked.to.host, asked.to.port, asked.instead) == ("pbx.example.com", 5070, phone.source)


def test_what_looks_like_our_route_but_is_the_peers_is_left_alone() -> None:
    """Another telbridge in front of us writes the same parameters."""
    net = Net()
    other = "<sip:192.0.2.200:5060;lr;w=2>"
    phone = Phone(net, proxies=(other,)).calls()
    asked = net.from_worker(phone.is_asked("BYE"))
    assert isinstance(asked, ToPeer)
    assert header(asked.data, "Route") == [other] and asked.to.host == "192.0.2.200"


def test_behind_a_nat_peers_see_the_public_address_only() -> None:
    net = Net(public="198.51.100.1")
    phone = Phone(net).calls()
    ok = phone.invite_got
    assert "<sip:198.51.100.1:5060;lr;w=1>" in header(ok, "Record-Route")
    assert phone.target == "sip:w1@198.51.100.1:5060"
    asked = net.from_worker(phone.is_asked("INFO"))
    assert isinstance(asked, ToPeer)
    assert header(asked.data, "Contact") == ["<sip:w1@198.51.100.1:5060>"]
    assert header(asked.data, "Via")[0].startswith("SIP/2.0/UDP 198.51.100.1:5060")
    assert isinstance(net.from_peer(answer(asked.data)), ToWorker)


def test_a_dialog_that_nobody_has_gets_481() -> None:
    net = Net()
    phone = Phone(net, to_tag="gone")
    assert status(net.from_peer(phone.request("BYE"))) == 481
    assert net.from_peer(phone.request("ACK")) is None


def test_a_worker_speaks_in_its_dialogs_only() -> None:
    phone = Phone(Net()).calls()
    fresh = Net()
    phone.net = fresh
    assert fresh.from_worker(phone.is_asked("OPTIONS", routes=False)) is None
    assert fresh.core.counters.astray == 1
    assert fresh.core.from_worker(phone.is_asked("BYE"), 12345, 0) == []


# ---------------------------------------------------------------- what ends here


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("OPTIONS", 200),
        ("REGISTER", 405),
        ("SUBSCRIBE", 405),
        ("BYE", 481),
        ("UPDATE", 481),
        ("!interesting-Method0123456789_*+`.%indeed'~", 501),
    ],
)
def test_requests_outside_a_call_are_answered_here(method: str, expected: int) -> None:
    sent = Phone(net := Net()).net.from_peer(Phone(net).request(method))
    assert status(sent) == expected and isinstance(sent, ToPeer)
    assert ("Allow: " in sent.data.decode()) == (expected in (200, 405, 501))
    assert ";tag=" in header(sent.data, "To")[0]


def test_answers_of_ours_are_the_same_for_a_copy() -> None:
    net = Net()
    request = Phone(net).request("OPTIONS")
    assert net.from_peer(request) == net.from_peer(request)


def test_a_request_that_has_gone_too_far() -> None:
    net = Net()
    ask = Phone(net).request
    assert status(net.from_peer(ask("INVITE").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"))) == 483
    assert status(net.from_peer(ask("OPTIONS").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"))) == 200
    without = net.from_peer(ask("INVITE").replace(b"Max-Forwards: 70\r\n", b""))
    assert isinstance(without, ToWorker) and header(without.data, "Max-Forwards") == ["69"]


def test_more_than_a_worker_can_read_is_refused_aloud() -> None:
    phone = Phone(net := Net())
    assert status(net.from_peer(phone.request("INVITE", 1, "X-Long: " + "x" * 3600))) == 513
    assert net.core.live_calls == 0


# ---------------------------------------------------------------- death of a worker


def test_peers_of_a_dead_worker_get_a_bye_that_is_good_in_their_dialog() -> None:
    net = Net()
    phone = Phone(net, contact="sip:desk@10.1.1.1:5070", proxies=("<sip:192.0.2.66;lr>",)).calls()
    other = Phone(net, "b").calls()
    net.from_worker(phone.is_asked("INFO", 77))
    (bye,) = net.core.worker_gone(1, net.now_ns)
    assert isinstance(bye, ToPeer)
    assert first_line(bye.data) == "BYE sip:desk@10.1.1.1:5070 SIP/2.0"
    assert header(bye.data, "Route") == ["<sip:192.0.2.66;lr>"] and bye.to.host == "192.0.2.66"
    assert header(bye.data, "From") == ["<sip:agent@example.com>;tag=wa"]
    assert header(bye.data, "To") == ["<sip:a@example.com>;tag=atag"]
    assert header(bye.data, "Call-ID") == ["a@phone"]
    assert header(bye.data, "CSeq") == ["78 BYE"]
    assert other.asks(other.request("INFO", 2)) is not None, "the other worker's call goes on"
    assert status(net.from_peer(phone.request("INFO", 2))) == 481


def test_the_bye_is_said_until_it_is_heard() -> None:
    net = Net()
    Phone(net).calls()
    (bye,) = net.core.worker_gone(1, net.now_ns)
    deadline = net.core.deadline_ns
    assert deadline == net.now_ns + S // 2
    assert net.core.tick(deadline - 1) == []
    assert net.core.tick(deadline) == [bye]
    assert isinstance(bye, ToPeer)
    assert net.from_peer(answer(bye.data)) is None
    assert net.core.tick(deadline + 60 * S) == []


def test_a_bye_that_nobody_answers_is_given_up() -> None:
    net = Net()
    Phone(net).calls()
    net.core.worker_gone(1, net.now_ns)
    said = 0
    while (due := net.core.deadline_ns) is not None and due < net.now_ns + 100 * S:
        said += len(net.core.tick(due))
    assert said == 10  # timer E: 0.5, 1, 2 and then every 4 s, for 32 s
    assert net.core.live_calls == 0


def test_who_waits_for_an_answer_of_a_dead_worker_is_told_to_come_again() -> None:
    phone = Phone(net := Net())
    phone.invites()
    phone.is_answered(180)
    (sorry,) = net.core.worker_gone(1, net.now_ns)
    assert status(sorry) == 503 and isinstance(sorry, ToPeer)
    assert header(sorry.data, "Retry-After") == ["5"]
    assert len(header(sorry.data, "Via")) == 1
    assert net.core.tick(net.now_ns + S // 2) == [sorry]
    phone.to_tag = header(sorry.data, "To")[0].rpartition("tag=")[2]
    assert net.from_peer(phone.request("ACK", branch="ainv")) is None
    assert net.core.tick(net.now_ns + 10 * S) == []


@pytest.mark.parametrize("who", ["peer", "worker"])
def test_a_call_that_ended_gets_no_second_bye(who: str) -> None:
    phone = Phone(net := Net()).calls()
    if who == "peer":
        phone.asks(phone.request("BYE", 2))
    else:
        net.from_worker(phone.is_asked("BYE"))
    assert net.core.live_calls == 0
    assert net.core.worker_gone(1, net.now_ns) == []


def test_the_bye_follows_a_contact_that_has_moved() -> None:
    phone = Phone(net := Net()).calls()
    phone.contact = "sip:a@10.2.2.2:5099"
    phone.asks(phone.request("INVITE", 2))
    (bye,) = net.core.worker_gone(1, net.now_ns)
    assert isinstance(bye, ToPeer) and (bye.to.host, bye.to.port) == ("10.2.2.2", 5099)


def test_who_comes_after_a_dead_worker_gets_calls_again() -> None:
    net = Net(per_worker=1)
    Phone(net).calls()
    net.core.worker_gone(1, net.now_ns)
    net.core.worker_up(Worker(1, 40_001, 1))
    assert Phone(net, "b").invites() is not None
    assert Phone(net, "c").invites() is not None
    assert Phone(net, "d").invites() is None


# ---------------------------------------------------------------- nothing is kept for ever


def test_ended_calls_are_forgotten() -> None:
    phone = Phone(net := Net()).calls()
    phone.asks(phone.request("BYE", 2))
    for _ in range(20):
        due = net.core.deadline_ns
        if due is None:
            break
        net.core.tick(due)
    assert net.core.deadline_ns is None
    assert len(net.core._calls) == 0


def test_a_call_that_its_worker_denies_does_not_count_for_ever() -> None:
    """Its end passed while we were being started, say."""
    net = Net(per_worker=1, max_calls=2)
    Phone(net).calls()
    net.core.worker_says(1, 1)
    net.core.tick(net.now_ns + 30 * S)
    assert net.core.live_calls == 1
    net.core.worker_says(1, 0)
    net.core.tick(net.now_ns + 120 * S)
    assert net.core.live_calls == 0
