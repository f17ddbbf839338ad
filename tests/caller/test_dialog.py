"""A call's signalling, told in messages and literal times. No socket, no clock."""

import itertools

import pytest
from sipmessage import URI

from telbridge.caller.dialog import Dialog, Phase
from telbridge.caller.events import (
    Answered,
    AnswerReceived,
    Ended,
    EndedBy,
    InfoReceived,
    OfferReceived,
    Progress,
    Referred,
    ReinviteAnswered,
    RequestAnswered,
)
from telbridge.caller.requests import Local, Peers, stray_reply
from telbridge.caller.wire import Hop, parse

S = 1_000_000_000
PEER = Hop("127.0.0.1", 5070, "udp")
INVITE = (
    "INVITE sip:echo@127.0.0.1:5070 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:6000;rport;branch=z9hG4bKt3\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:caller@127.0.0.1>;tag=t1\r\n"
    "To: <sip:echo@127.0.0.1:5070>\r\n"
    "Call-ID: t2@127.0.0.1\r\n"
    "CSeq: 1 INVITE\r\n"
    "User-Agent: telbridge-caller\r\n"
    "Contact: <sip:caller@127.0.0.1:6000>\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: 5\r\n"
    "\r\n"
    "offer"
)


class Call:
    """A dialog and its peer: what is sent lies in `wire`, parsed."""

    def __init__(self, transport="udp", routes=(), headers=()):
        tokens = (f"t{number}" for number in itertools.count(1))
        local = Local("127.0.0.1", 6000, transport, token=lambda: next(tokens))
        target = URI.parse("sip:echo@127.0.0.1:5070" + (";transport=tcp" if transport == "tcp" else ""))
        self.dialog = Dialog(Peers.calling(target, local, routes), headers=headers)
        self.wire = []
        self.hops = []
        self.dialog.invite(b"offer", 0)
        self.invite = self.sends("INVITE")

    def take(self):
        out = self.dialog.messages_to_send()
        self.wire += [parse(one.data) for one in out]
        self.hops += [one.hop for one in out]
        return [one.summary for one in out]

    def sends(self, *summaries):
        assert self.take() == list(summaries)
        return self.wire[-1] if summaries else None

    def answers(self, request, code, phrase="", *, at=0, body="", **headers):
        headers = {"Contact": "<sip:bridge@127.0.0.1:5080>", **headers}
        lines = [
            f"SIP/2.0 {code} {phrase}",
            f"Via: {request.headers['Via']}",
            f"From: {request.headers['From']}",
        ]
        to = request.headers["To"]
        lines.append(f"To: {to if 'tag=' in to or code == 100 else to + ';tag=peer'}")
        lines += [f"Call-ID: {request.call_id}", f"CSeq: {request.cseq}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self._receive([*lines, f"Content-Length: {len(body)}", "", body], at)

    def asks(self, method, *, cseq=1, at=0, body="", branch=None, to_tag="t1", **headers):
        lines = [
            f"{method} sip:caller@127.0.0.1:6000 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:5080;branch={branch or f'z9hG4bKp{cseq}{method}'}",
            "From: <sip:echo@127.0.0.1:5070>;tag=peer",
            f"To: <sip:caller@127.0.0.1>;tag={to_tag}",
            "Call-ID: t2@127.0.0.1",
            f"CSeq: {cseq} {method}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        return self._receive([*lines, f"Content-Length: {len(body)}", "", body], at)

    def _receive(self, lines, at):
        return self.dialog.receive(parse("\r\n".join(lines).encode()), PEER, at)

    def up(self, **headers):
        self.answers(self.invite, 200, "OK", body="answer", **headers)
        self.sends("ACK")
        return self


def test_an_invite_is_this_text():
    call = Call(headers=[("X-Test", "1")])
    assert (
        bytes(call.invite)
        == INVITE.replace("Content-Length: 5\r\n", "Content-Length: 5\r\nX-Test: 1\r\n").encode()
    )
    assert call.hops == [Hop("127.0.0.1", 5070, "udp")]


def test_a_call_rings_is_answered_acknowledged_and_hung_up():
    call = Call()
    assert call.answers(call.invite, 100, "Trying", at=1) == [Progress(1, 100, "Trying", b"")]
    assert call.answers(call.invite, 180, "Ringing", at=2) == [Progress(2, 180, "Ringing", b"")]
    assert call.answers(call.invite, 200, "OK", at=3, body="answer") == [Answered(3, 200, "OK", b"answer")]
    ack = call.sends("ACK")
    assert (str(ack.uri), str(ack.cseq), ack.to_address.parameters["tag"]) == (
        "sip:bridge@127.0.0.1:5080",
        "1 ACK",
        "peer",
    )
    assert ack.via[0].parameters["branch"] != call.invite.via[0].parameters["branch"]
    assert call.dialog.hang_up(4) == []
    bye = call.sends("BYE")
    assert str(bye.cseq) == "2 BYE"
    assert call.answers(bye, 200, "OK", at=5) == [Ended(5, EndedBy.US, 200, "OK")]


def test_udp_invites_are_repeated_at_doubling_intervals_for_32_s():
    call, moments = Call(), []
    while (at := call.dialog.deadline_ns) is not None:
        events = call.dialog.tick(at)
        moments.append((at / S, call.take()))
    assert [at for at, sent in moments if sent == ["INVITE"]] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert moments[-1] == (32, [])
    assert events == [Ended(32 * S, EndedBy.TIMEOUT, 408, "Request Timeout")]
    assert call.dialog.finished


def test_a_provisional_response_stops_the_repeats_and_may_ring_for_ever():
    call = Call()
    call.answers(call.invite, 100, "Trying")
    assert call.dialog.deadline_ns is None


def test_tcp_repeats_nothing_but_gives_up_in_time():
    call = Call("tcp")
    assert call.invite.via[0].transport == "TCP"
    assert call.dialog.deadline_ns == 32 * S
    call.dialog.tick(32 * S)
    call.sends()
    assert call.dialog.finished


def test_a_bye_is_repeated_up_to_every_4_s():
    call, moments = Call().up(), []
    call.dialog.hang_up(0)
    call.sends("BYE")
    while call.dialog.phase is not Phase.OVER:
        at = call.dialog.deadline_ns
        call.dialog.tick(at)
        if call.take():
            moments.append(at / S)
    assert moments == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def test_each_copy_of_a_200_is_acknowledged_with_the_same_ack():
    call = Call().up()
    first = call.wire[-1]
    assert call.answers(call.invite, 200, "OK", body="answer") == []
    assert bytes(call.sends("ACK")) == bytes(first)


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7), ("18000;duration=3600", 18000), ("x", None)])
def test_a_refusal_is_acknowledged_on_its_transaction_and_told(retry_after, seconds):
    call = Call()
    events = call.answers(
        call.invite, 503, "Draining", at=9, Retry_After=retry_after, Reason="Q.850;cause=42"
    )
    assert events == [Ended(9, EndedBy.REFUSED, 503, "Draining", seconds, "Q.850;cause=42")]
    ack = call.sends("ACK")
    assert ack.headers["Via"] == call.invite.headers["Via"]
    assert (str(ack.uri), ack.to_address.parameters["tag"]) == (str(call.invite.uri), "peer")


def test_copies_of_a_refusal_are_absorbed_for_32_s():
    call = Call()
    call.answers(call.invite, 486, "Busy Here")
    call.sends("ACK")
    assert call.answers(call.invite, 486, "Busy Here", at=1 * S) == []
    call.sends("ACK")
    assert (call.dialog.deadline_ns, call.dialog.finished) == (32 * S, False)
    call.dialog.tick(32 * S)
    assert call.dialog.finished


def test_a_cancel_waits_for_the_first_provisional_response():
    call = Call()
    call.dialog.hang_up(0)
    call.sends()
    call.answers(call.invite, 180, "Ringing", at=1)
    cancel = call.sends("CANCEL")
    assert cancel.headers["Via"] == call.invite.headers["Via"]
    assert str(cancel.cseq) == "1 CANCEL"
    assert call.answers(cancel, 200, "OK", at=2) == []
    events = call.answers(call.invite, 487, "Request Terminated", at=3)
    assert events == [Ended(3, EndedBy.US, 487, "Request Terminated")]
    call.sends("ACK")


def test_a_200_that_crosses_the_cancel_is_acknowledged_and_hung_up():
    call = Call()
    call.answers(call.invite, 180, "Ringing")
    call.dialog.hang_up(0)
    call.sends("CANCEL")
    assert call.answers(call.invite, 200, "OK", body="answer") == [Answered(0, 200, "OK", b"answer")]
    call.sends("ACK", "BYE")


def test_a_cancel_that_is_never_followed_by_a_final_response_ends_after_32_s():
    call = Call()
    call.answers(call.invite, 180, "Ringing")
    call.dialog.hang_up(1 * S)
    while call.dialog.phase is not Phase.OVER:
        at = call.dialog.deadline_ns
        events = call.dialog.tick(at)
    assert events == [Ended(33 * S, EndedBy.TIMEOUT, 408, "Request Timeout")]


def test_the_route_set_is_record_route_backwards_and_decides_where_to_send():
    call = Call().up(Record_Route="<sip:127.0.0.2:5062;lr>, <sip:127.0.0.3:5063;lr>")
    ack = call.wire[-1]
    assert ack.headers.getlist("Route") == ["<sip:127.0.0.3:5063;lr>", "<sip:127.0.0.2:5062;lr>"]
    assert (str(ack.uri), call.hops[-1]) == ("sip:bridge@127.0.0.1:5080", Hop("127.0.0.3", 5063, "udp"))


def test_a_strict_router_becomes_the_request_uri():
    call = Call().up(Record_Route="<sip:127.0.0.2:5062>")
    ack = call.wire[-1]
    assert (str(ack.uri), ack.headers["Route"]) == ("sip:127.0.0.2:5062", "<sip:bridge@127.0.0.1:5080>")


def test_a_given_route_is_where_the_invite_goes():
    call = Call(routes=["<sip:127.0.0.9:5090;lr>"])
    assert call.invite.headers["Route"] == "<sip:127.0.0.9:5090;lr>"
    assert call.hops == [Hop("127.0.0.9", 5090, "udp")]


def test_a_bye_of_the_peer_ends_the_call_and_its_copies_are_answered_again():
    call = Call().up()
    assert call.asks("BYE", at=5, Reason="Q.850;cause=16") == [
        Ended(5, EndedBy.PEER, 200, "OK", reason="Q.850;cause=16")
    ]
    call.sends("200 OK")
    assert call.asks("BYE", at=6) == []
    call.sends("200 OK")


def test_a_reinvite_of_ours_may_fail_without_ending_the_call():
    call = Call().up()
    call.dialog.reinvite(b"hold", 1)
    reinvite = call.sends("INVITE")
    assert (str(reinvite.uri), str(reinvite.cseq)) == ("sip:bridge@127.0.0.1:5080", "2 INVITE")
    with pytest.raises(RuntimeError, match="still open"):
        call.dialog.reinvite(b"again", 1)
    assert call.answers(reinvite, 488, "Not Acceptable Here", at=2) == [
        ReinviteAnswered(2, 488, "Not Acceptable Here", b"")
    ]
    ack = call.sends("ACK")
    assert ack.headers["Via"] == reinvite.headers["Via"]
    assert call.dialog.phase is Phase.UP


def test_a_reinvite_that_finds_the_call_gone_ends_it():
    call = Call().up()
    call.dialog.reinvite(b"hold", 1)
    call.answers(call.sends("INVITE"), 481, "Gone", at=2)
    call.sends("ACK", "BYE")


def test_an_offer_of_the_peer_is_answered_and_repeated_until_its_ack():
    call = Call().up()
    assert call.asks("INVITE", cseq=5, at=0, body="theirs") == [OfferReceived(0, b"theirs")]
    call.dialog.answer_offer(200, "OK", b"ours", 0)
    answer = call.sends("200 OK")
    assert (answer.body, str(answer.contact[0].uri)) == (b"ours", "sip:caller@127.0.0.1:6000")
    call.dialog.tick(S // 2)
    call.sends("200 OK")
    assert call.asks("ACK", cseq=5, branch="z9hG4bKack", at=S) == []
    assert call.dialog.deadline_ns is None or call.dialog.deadline_ns > 2 * S
    call.dialog.tick(4 * S)
    call.sends()


def test_an_answer_that_is_never_acknowledged_ends_in_a_bye():
    call = Call().up()
    call.asks("INVITE", cseq=5, body="theirs")
    call.dialog.answer_offer(200, "OK", b"ours", 0)
    while call.dialog.phase is Phase.UP:
        at = call.dialog.deadline_ns
        call.dialog.tick(at)
    assert at == 32 * S
    assert call.take()[-1] == "BYE"


def test_an_invite_without_offer_gets_ours_and_brings_its_answer_in_the_ack():
    call = Call().up()
    assert call.asks("INVITE", cseq=5) == [OfferReceived(0, b"")]
    call.dialog.answer_offer(200, "OK", b"our offer", 0)
    assert call.asks("ACK", cseq=5, branch="z9hG4bKack", at=1, body="theirs") == [
        AnswerReceived(1, b"theirs")
    ]


def test_offers_that_cross_are_refused_with_491():
    call = Call().up()
    call.dialog.reinvite(b"hold", 0)
    call.sends("INVITE")
    assert call.asks("INVITE", cseq=5, body="theirs") == []
    call.sends("491 Request Pending")


@pytest.mark.parametrize("method", ["OPTIONS", "NOTIFY", "MESSAGE", "UPDATE"])
def test_what_needs_no_decision_is_answered_at_once(method):
    call = Call().up()
    assert call.asks(method) == []
    call.sends("200 OK")


def test_info_and_refer_are_answered_and_told():
    call = Call().up()
    assert call.asks("INFO", cseq=1, body="Signal=1", Content_Type="application/dtmf-relay") == [
        InfoReceived(0, "application/dtmf-relay", b"Signal=1")
    ]
    call.sends("200 OK")
    assert call.asks("REFER", cseq=2, Refer_To="<sip:human@127.0.0.1:5099>") == [
        Referred(0, "sip:human@127.0.0.1:5099")
    ]
    call.sends("202 Accepted")
    call.dialog.notify_referrer(200, "OK", 1)
    notify = call.sends("NOTIFY")
    assert (notify.headers["Subscription-State"], notify.body) == (
        "terminated;reason=noresource",
        b"SIP/2.0 200 OK\r\n",
    )


def test_info_of_ours_tells_its_answer():
    call = Call().up()
    call.dialog.info("application/dtmf-relay", b"Signal=1", 0)
    assert call.answers(call.sends("INFO"), 415, "No", at=1) == [RequestAnswered(1, "INFO", 415, "No")]


def test_requests_that_do_not_fit_are_refused():
    call = Call().up()
    call.asks("PUBLISH")
    call.sends("405 Method Not Allowed")
    call.asks("BYE", to_tag="other")
    call.sends("481 Call/Transaction Does Not Exist")
    call.asks("OPTIONS", cseq=9)
    call.asks("OPTIONS", cseq=8)
    call.sends("200 OK", "500 CSeq Out Of Order")
    assert call.dialog.phase is Phase.UP


def test_a_lost_connection_ends_the_call_without_a_word():
    call = Call("tcp").up()
    assert call.dialog.abandon(EndedBy.NETWORK, 3) == [Ended(3, EndedBy.NETWORK, 503, "Service Unavailable")]
    call.sends()
    assert call.dialog.finished
    assert call.dialog.hang_up(4) == []


def test_strangers_get_an_answer_but_no_call():
    call = Call()
    stray = stray_reply(call.invite, "x")
    assert (stray.code, stray.to_address.parameters["tag"]) == (480, "x")
    assert stray_reply(Call().up().wire[-1], "x") is None
