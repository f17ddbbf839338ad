"""ARI without a socket: what is read, what is asked of Asterisk, what becomes of a call in any case."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import (
    CallFacts,
    Dtmf,
    DtmfFailed,
    DtmfSent,
    Ending,
    Held,
    LegAnswered,
    LegEnded,
    Resumed,
    TransferAnswered,
    TransferFailed,
    TransferRinging,
)
from telbridge.legs.ari.control import Arrived, CloseMedia, Control, OpenMedia, Out, Wishes
from telbridge.legs.ari.leg import facts_of, with_variables
from telbridge.legs.ari.messages import (
    Answer,
    Ask,
    Channel,
    Destroyed,
    Dialling,
    Entered,
    Event,
    HangupRequested,
    HoldChanged,
    KeyPressed,
    Left,
    Purpose,
    Replaced,
    Unknown,
    parse,
)
from telbridge.legs.ari.rtp import RtpPeer, payload_of
from telbridge.legs.ari.socket import masked_frame
from telbridge.legs.ari.targets import Dial, InDialplan, Refer, target_of
from telbridge.legs.streams.payload import Malformed
from telbridge.legs.streams.peer import Ignored
from telbridge.legs.streams.socket import BINARY, frame

S = 1_000_000_000
CALLER = "1795281409.0"
MEDIA = "telbridge-c1-media"
OTHER = "telbridge-c1-other"


def a_channel(channel_id: str = CALLER, **fields: Any) -> Channel:
    given_fields = {"name": "PJSIP/trunk-0000002a", "up": False, "caller": "42", "context": "in", **fields}
    return Channel(channel_id, **given_fields)


class Bench:
    """A call, and an Asterisk that does what it is asked, until a test says otherwise."""

    def __init__(self, *, variables: tuple[str, ...] = (), **channel: Any) -> None:
        self.now_ns = 0
        self.asked: list[Ask] = []
        self.events: list[Any] = []
        """Of the leg."""
        self.others: list[Any] = []
        self.statuses: dict[Purpose, Answer] = {}
        """What is not 204."""
        media = {"format": "ulaw", "transport": "websocket"}
        self.control = Control("c1", a_channel(**channel), Wishes("telbridge", variables, media))
        self.does(self.control.begin(0))

    def does(self, outs: Iterable[Out]) -> None:
        for out in outs:
            if isinstance(out, Ask):
                self.asked.append(out)
                answer = self.statuses.get(out.purpose, Answer(204))
                self.does(self.control.answered(out, answer, self.now_ns))
            elif isinstance(out, Arrived | OpenMedia | CloseMedia):
                self.others.append(out)
            else:
                self.events.append(out)

    def told(self, *events: Event) -> None:
        for event in events:
            self.does(self.control.event(event, self.now_ns))

    def after(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)
        self.does(self.control.tick(self.now_ns))

    def talks(self) -> Bench:
        self.does(self.control.answer(self.now_ns))
        self.told(Entered(a_channel(MEDIA)))
        self.does(self.control.media_up(self.now_ns))
        assert self.events.pop() == LegAnswered(self.now_ns)
        self.asked.clear()
        return self

    def transfers(self, target: str, timeout_s: float = 20) -> None:
        self.does(self.control.transfer(target, int(timeout_s * S), self.now_ns))

    @property
    def said(self) -> list[str]:
        """What was asked of Asterisk, in short."""
        return [short(ask) for ask in self.asked]


def short(ask: Ask) -> str:
    query = ",".join(f"{name}={value}" for name, value in ask.query.items())
    return f"{ask.method} {ask.path}" + (f" {query}" if query else "")


# -------------------------------------------------------------------- events

STASIS_START = {
    "type": "StasisStart",
    "timestamp": "2026-11-21T17:16:49.517+0000",
    "args": ["queue=support", "plain"],
    "channel": {
        "id": "1795281409.0",
        "name": "PJSIP/anonymous-00000000",
        "state": "Ring",
        "protocol_id": "f37589e6c1279ca0@127.0.0.1",
        "caller": {"name": "Alice", "number": "42"},
        "connected": {"name": "", "number": ""},
        "accountcode": "",
        "dialplan": {"context": "default", "exten": "ari", "priority": 2, "app_name": "Stasis"},
        "channelvars": {"ACCOUNT": "7"},
    },
    "asterisk_id": "02:00:00:00:00:02",
    "application": "telbridge",
}
"""As Asterisk 22.10 writes it."""


def test_a_caller_comes_with_all_that_its_channel_tells() -> None:
    event = parse(json.dumps(STASIS_START))
    assert isinstance(event, Entered)
    facts = facts_of("c1", event.channel, event.arguments, "pbx:8088", PCMU_8K)
    assert facts == CallFacts(
        call_id="c1",
        ingress="ari",
        caller="42",
        called="ari",
        peer="pbx:8088",
        wire_format=PCMU_8K,
        signalling_id="f37589e6c1279ca0@127.0.0.1",
        trunk="anonymous",
        parameters={"ACCOUNT": "7", "caller_name": "Alice", "queue": "support", "2": "plain"},
    )


def test_variables_become_parameters_and_sip_headers_headers() -> None:
    facts = facts_of("c1", a_channel(), (), "", PCMU_8K)
    read = {"PJSIP_HEADER(read,X-Ref)": "7", "CALLERID(ANI)": "43"}
    facts = with_variables(facts, read)
    assert (facts.headers, facts.parameters) == ({"X-Ref": "7"}, {"CALLERID(ANI)": "43"})


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"type": "StasisEnd", "channel": {"id": "1"}}, Left("1")),
        ({"type": "ChannelHangupRequest", "channel": {"id": "1"}, "cause": 16}, HangupRequested("1")),
        ({"type": "ChannelDestroyed", "channel": {"id": "1"}, "cause": 17}, Destroyed("1", 17)),
        (
            {"type": "ChannelDtmfReceived", "channel": {"id": "1"}, "digit": "5", "duration_ms": 100},
            KeyPressed("1", "5", 100),
        ),
        ({"type": "ChannelHold", "channel": {"id": "1"}, "musicclass": "x"}, HoldChanged("1", True)),
        ({"type": "ChannelUnhold", "channel": {"id": "1"}}, HoldChanged("1", False)),
        ({"type": "Dial", "dialstatus": "RINGING", "peer": {"id": "2"}}, Dialling("2", "RINGING")),
        ({"type": "Dial", "dialstatus": "", "peer": {"id": "2"}}, Dialling("2", "")),
        ({"type": "ApplicationReplaced"}, Replaced()),
        ({"type": "ChannelVarset", "variable": "X"}, Unknown("ChannelVarset")),
    ],
)
def test_events_are_read(fields: dict[str, Any], event: Event) -> None:
    assert parse(json.dumps(fields)) == event


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "channel", "peer", "caller", "number", "args", "state"]), inner
        )
    ),
    max_leaves=6,
)
TYPES = ["StasisStart", "StasisEnd", "ChannelDtmfReceived", "Dial", "ChannelHold", "ChannelDestroyed", "?"]


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(TYPES), fields=st.dictionaries(st.text(max_size=8), JSON), channel=JSON)
def test_whatever_comes_is_an_event_or_malformed(kind: str, fields: Any, channel: Any) -> None:
    try:
        parse(json.dumps({**fields, "type": kind, "channel": channel, "peer": channel}))
    except Malformed:
        pass


# -------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("1001", InDialplan("in", "1001", "1")),
        ("tel:+4930123;ext=1", InDialplan("in", "+4930123", "1")),
        ("asterisk:support,100", InDialplan("support", "100", "1")),
        ("asterisk:support,s,busy", InDialplan("support", "s", "busy")),
        ("PJSIP/desk", Dial("PJSIP/desk")),
        ("Local/100@queues", Dial("Local/100@queues")),
        ("PJSIP/trunk/sip:desk@10.0.0.5", Dial("PJSIP/trunk/sip:desk@10.0.0.5")),
        ("sip:desk@10.0.0.5:5070", Refer("sip:desk@10.0.0.5:5070")),
        ("desk@10.0.0.5", Refer("sip:desk@10.0.0.5")),
    ],
)
def test_a_target_says_its_way(words: str, target: object) -> None:
    assert target_of(words, "in") == target


@pytest.mark.parametrize(
    "words",
    [
        "",
        " ",
        "asterisk:",
        "asterisk:a,b,c,d",
        "asterisk:a,${X},1",
        "PJSIP/a&PJSIP/b",
        "PJSIP/a,b",
        "x y",
        "ä",
    ],
)
def test_what_is_no_target_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"target|write"):
        target_of(words, "in")


# -------------------------------------------------------------------- a call


def test_a_call_is_read_rung_answered_and_joined_with_its_audio() -> None:
    bench = Bench(variables=("QUEUE",))
    assert bench.others == [Arrived({}), OpenMedia({})]
    bench.does(bench.control.ring())
    bench.does(bench.control.answer(0))
    assert bench.events == []
    bench.does(bench.control.media_up(0))
    bench.told(Entered(a_channel(MEDIA)))
    assert bench.events == [LegAnswered(0)]
    assert bench.said == [
        f"POST channels/{CALLER}/variable variable=TELBRIDGE_CALL_ID,value=c1",
        f"GET channels/{CALLER}/variable variable=QUEUE",
        "POST bridges type=mixing,bridgeId=telbridge-c1",
        f"POST channels/externalMedia app=telbridge,channelId={MEDIA},format=ulaw,transport=websocket",
        f"POST channels/{CALLER}/ring",
        f"POST channels/{CALLER}/answer",
        f"POST bridges/telbridge-c1/addChannel channel={CALLER},{MEDIA}",
    ]


def test_variables_are_read_before_the_call_begins() -> None:
    control = Control("c1", a_channel(), Wishes("app", ("A", "B"), {}))
    asks = [out for out in control.begin(0) if isinstance(out, Ask) and out.purpose is Purpose.VARIABLE]
    assert control.answered(asks[0], Answer(200, {"value": "1"}), 0) == []
    outs = control.answered(asks[1], Answer(404), 0)
    assert outs[0] == Arrived({"A": "1"})


def test_a_call_that_a_dialplan_answered_is_not_answered_again() -> None:
    bench = Bench(up=True).talks()
    bench.does(bench.control.ring())
    assert bench.said == []


def test_keys_and_hold_of_the_caller_are_told_those_of_others_are_not() -> None:
    bench = Bench().talks()
    bench.told(KeyPressed(MEDIA, "1", 80), KeyPressed(CALLER, "5", 100), KeyPressed(CALLER, "F", 100))
    bench.told(HoldChanged(CALLER, True), HoldChanged(CALLER, True), HoldChanged(CALLER, False))
    assert bench.events == [Dtmf("5", "ari", 100, 0), Held(0), Resumed(0)]


def test_a_caller_that_hangs_up_leaves_nothing_behind() -> None:
    bench = Bench().talks()
    bench.told(HangupRequested(CALLER), Left(CALLER))
    assert bench.events == [LegEnded(Ending.CALLER_HUNG_UP, 0)]
    assert bench.others[-1] == CloseMedia(Ending.CALLER_HUNG_UP)
    assert bench.said == [f"DELETE channels/{MEDIA} reason_code=16", "DELETE bridges/telbridge-c1"]
    assert bench.control.done


def test_a_caller_that_gives_up_while_it_rings_has_cancelled() -> None:
    bench = Bench()
    bench.told(HangupRequested(CALLER), Left(CALLER))
    assert bench.events == [LegEnded(Ending.CALLER_CANCELLED, 0)]


def test_a_channel_that_asterisk_takes_elsewhere_is_transferred() -> None:
    bench = Bench().talks()
    bench.told(Left(CALLER))
    assert bench.events == [LegEnded(Ending.TRANSFERRED, 0, "by Asterisk")]


def test_hanging_up_tells_the_cause_and_the_ending() -> None:
    bench = Bench()
    bench.does(bench.control.hang_up(Ending.AGENT_HUNG_UP, "refused with 486", 0, cause=17))
    assert bench.said[-4:] == [
        f"POST channels/{CALLER}/variable variable=TELBRIDGE_ENDING,value=agent_hung_up",
        f"DELETE channels/{CALLER} reason_code=17",
        f"DELETE channels/{MEDIA} reason_code=16",
        "DELETE bridges/telbridge-c1",
    ]
    assert bench.events == [LegEnded(Ending.AGENT_HUNG_UP, 0, "refused with 486")]


@pytest.mark.parametrize("purpose", [Purpose.BRIDGE, Purpose.MEDIA, Purpose.ANSWER, Purpose.JOIN])
@pytest.mark.parametrize("status", [0, 409, 500])
def test_what_fails_lets_the_caller_go_on_in_the_dialplan(purpose: Purpose, status: int) -> None:
    bench = Bench()
    bench.statuses[purpose] = Answer(status)
    if purpose in (Purpose.BRIDGE, Purpose.MEDIA):
        bench.asked.clear()
        bench.does(bench.control.answered(Ask(purpose, "POST", ""), Answer(status), 0))
    bench.does(bench.control.answer(0))
    bench.told(Entered(a_channel(MEDIA)))
    bench.does(bench.control.media_up(0))
    assert f"POST channels/{CALLER}/continue" in bench.said
    bench.told(Left(CALLER))
    (ended,) = bench.events
    assert (ended.ending, str(status or "no answer") in ended.detail) == (Ending.LEG_FAILED, True)


def test_audio_that_does_not_come_in_time_is_a_failure() -> None:
    bench = Bench()
    bench.does(bench.control.answer(0))
    bench.after(4.9)
    assert bench.events == []
    bench.after(0.2)
    assert bench.said[-1] == f"POST channels/{CALLER}/continue"
    bench.after(2.1)  # Asterisk says nothing at all.
    assert [event.ending for event in bench.events] == [Ending.LEG_FAILED]


def test_audio_that_is_lost_in_mid_call_lets_the_caller_go_on() -> None:
    bench = Bench().talks()
    bench.does(bench.control.media_down("", 0))
    bench.told(Left(MEDIA), Left(CALLER))
    assert bench.said[0] == f"POST channels/{CALLER}/variable variable=TELBRIDGE_ENDING,value=leg_failed"
    assert bench.said[1] == f"POST channels/{CALLER}/continue"
    assert bench.events == [LegEnded(Ending.LEG_FAILED, 0, "Asterisk closed the stream")]


def test_tags_become_variables_of_the_channel() -> None:
    bench = Bench().talks()
    bench.does(bench.control.tag("vip"))
    bench.does(bench.control.tag("queue=billing"))
    bench.does(bench.control.tag("ENDING=faked"))
    values = [(ask.query["variable"], ask.query["value"]) for ask in bench.asked]
    assert values == [
        ("TELBRIDGE_TAGS", "vip"),
        ("TELBRIDGE_TAGS", "vip,queue=billing"),
        ("TELBRIDGE_queue", "billing"),
        ("TELBRIDGE_TAGS", "vip,queue=billing,ENDING=faked"),
    ]


# -------------------------------------------------------------------- keys


def test_keys_go_out_one_order_after_the_other_and_are_over_when_they_sounded() -> None:
    bench = Bench().talks()
    bench.does(bench.control.press("1,2", 100, 50, 0))
    bench.does(bench.control.press("#", 100, 50, 0))
    assert bench.said == [f"POST channels/{CALLER}/dtmf dtmf=1w2,duration=100,between=50"]
    assert bench.control.pressing
    bench.after(0.79)
    assert bench.events == []
    bench.after(0.02)
    assert [type(event) for event in bench.events] == [DtmfSent]
    assert bench.said[1:] == [f"POST channels/{CALLER}/dtmf dtmf=#,duration=100,between=50"]
    bench.after(0.2)
    assert not bench.control.pressing


def test_keys_that_are_none_or_refused_are_told_of() -> None:
    bench = Bench().talks()
    bench.does(bench.control.press("12x", 100, 50, 0))
    bench.statuses[Purpose.KEYS] = Answer(412)
    bench.does(bench.control.press("1", 100, 50, 0))
    assert [type(event) for event in bench.events] == [DtmfFailed, DtmfFailed]
    assert "412" in bench.events[1].detail


# -------------------------------------------------------------------- transfer


def test_a_transfer_into_the_dialplan_asks_whether_the_extension_exists_then_lets_go() -> None:
    bench = Bench().talks()
    bench.statuses[Purpose.EXISTS] = Answer(200, {"value": "1"})
    bench.transfers("asterisk:support,100,busy")
    assert bench.said == [
        f"GET channels/{CALLER}/variable variable=DIALPLAN_EXISTS(support,100,busy)",
        f"POST channels/{CALLER}/variable variable=TELBRIDGE_ENDING,value=transferred",
        f"POST channels/{CALLER}/continue context=support,extension=100,label=busy",
    ]
    bench.told(Left(CALLER))
    assert bench.events == [TransferAnswered(0), LegEnded(Ending.TRANSFERRED, 0)]


def test_a_transfer_to_an_extension_that_is_not_there_fails_and_the_call_goes_on() -> None:
    bench = Bench().talks()
    bench.statuses[Purpose.EXISTS] = Answer(200, {"value": "0"})
    bench.transfers("1001")
    assert bench.events == [TransferFailed(404, 0, "no such extension in Asterisk's dialplan")]
    bench.told(KeyPressed(CALLER, "5", 100))
    assert bench.events[-1] == Dtmf("5", "ari", 100, 0)


def test_a_transfer_that_asterisk_refuses_fails() -> None:
    bench = Bench().talks()
    bench.statuses[Purpose.LEAVE] = Answer(409)
    bench.transfers("1001")
    assert bench.events == [TransferFailed(409, 0, "Asterisk refused")]


def dialled() -> Bench:
    bench = Bench().talks()
    bench.transfers("PJSIP/desk")
    return bench


def test_a_transfer_to_an_endpoint_dials_rings_joins_and_is_looked_after_to_its_end() -> None:
    bench = dialled()
    (ask,) = bench.asked
    assert (ask.path, ask.query["endpoint"], ask.query["callerId"]) == ("channels", "PJSIP/desk", "42")
    bench.told(Dialling(OTHER, "RINGING"), Dialling(OTHER, "PROGRESS"), Entered(a_channel(OTHER)))
    assert bench.events == [TransferRinging(0), TransferAnswered(0), LegEnded(Ending.TRANSFERRED, 0)]
    assert bench.said[1:] == [
        f"POST bridges/telbridge-c1/removeChannel channel={MEDIA}",
        f"POST bridges/telbridge-c1/addChannel channel={OTHER}",
        f"DELETE channels/{MEDIA} reason_code=16",
    ]
    assert bench.control.over and not bench.control.done
    bench.told(Left(CALLER))
    assert bench.said[-2:] == [f"DELETE channels/{OTHER} reason_code=16", "DELETE bridges/telbridge-c1"]
    assert bench.control.done


def test_when_the_other_side_hangs_up_the_caller_is_hung_up_too() -> None:
    bench = dialled()
    bench.told(Entered(a_channel(OTHER)), Left(OTHER))
    assert bench.said[-2:] == [f"DELETE channels/{CALLER} reason_code=16", "DELETE bridges/telbridge-c1"]
    assert bench.control.done


def test_an_endpoint_that_is_busy_brings_the_caller_back() -> None:
    bench = dialled()
    bench.told(Destroyed(OTHER, 17))
    assert bench.events == [TransferFailed(486, 0, "not answered (Q.850 cause 17)")]


def test_the_dial_status_says_more_than_a_channel_that_goes_without_a_cause() -> None:
    bench = dialled()
    bench.told(Dialling(OTHER, ""), Dialling(OTHER, "BUSY"), Destroyed(OTHER, 0))
    assert bench.events == [TransferFailed(486, 0, "busy")]


def test_an_endpoint_that_nobody_answers_is_given_up() -> None:
    bench = dialled()
    bench.after(21)
    assert [event.status for event in bench.events] == [408]
    assert bench.said[-1] == f"DELETE channels/{OTHER} reason_code=16"


def test_audio_comes_back_into_the_bridge_when_the_two_cannot_be_joined() -> None:
    bench = dialled()
    bench.statuses[Purpose.JOIN_OTHER] = Answer(422)
    bench.told(Entered(a_channel(OTHER)))
    assert bench.said[-1] == f"POST bridges/telbridge-c1/addChannel channel={MEDIA}"
    assert [event.status for event in bench.events] == [422]


def test_a_sip_telephone_that_is_referred_and_hangs_up_has_been_transferred() -> None:
    bench = Bench().talks()
    bench.transfers("sip:desk@10.0.0.5")
    assert bench.said == [f"POST channels/{CALLER}/redirect endpoint=PJSIP/sip:desk@10.0.0.5"]
    bench.told(HangupRequested(CALLER), Left(CALLER))
    assert bench.events == [TransferAnswered(0), LegEnded(Ending.TRANSFERRED, 0)]


def test_what_is_no_sip_telephone_cannot_be_referred() -> None:
    bench = Bench(name="DAHDI/i1/42-1").talks()
    bench.transfers("sip:desk@10.0.0.5")
    (failed,) = bench.events
    assert "PJSIP/ENDPOINT" in failed.detail


def test_a_caller_that_hangs_up_while_an_endpoint_rings_ends_that_too() -> None:
    bench = dialled()
    bench.told(HangupRequested(CALLER), Left(CALLER))
    assert f"DELETE channels/{OTHER} reason_code=16" in bench.said
    assert bench.events == [LegEnded(Ending.CALLER_HUNG_UP, 0)]


# -------------------------------------------------------------------- a connection that broke


def test_after_a_reconnection_a_caller_that_is_gone_has_hung_up() -> None:
    bench = Bench().talks()
    bench.statuses[Purpose.SUBSCRIBE] = Answer(404)
    bench.does(bench.control.reconnected())
    assert bench.said[0] == f"POST applications/telbridge/subscription eventSource=channel:{CALLER}"
    assert bench.events == [LegEnded(Ending.CALLER_HUNG_UP, 0)]


def test_after_a_reconnection_a_caller_that_is_there_goes_on() -> None:
    bench = Bench().talks()
    bench.does(bench.control.reconnected())
    assert bench.events == []


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (Answer(404), Ending.CALLER_HUNG_UP),
        (Answer(200, {"dialplan": {"app_name": "Dial"}}), Ending.TRANSFERRED),
        (Answer(200, {"dialplan": {"app_name": "Stasis"}}), None),
        (Answer(0), None),
    ],
)
def test_a_caller_of_whose_end_nobody_told_is_missed_in_time(answer: Answer, ending: Ending | None) -> None:
    bench = Bench().talks()
    bench.statuses[Purpose.LOOK] = answer
    bench.after(29)
    assert bench.said == []
    bench.after(2)
    assert bench.said[0] == f"GET channels/{CALLER}"
    assert [event.ending for event in bench.events] == ([] if ending is None else [ending])


# -------------------------------------------------------------------- whatever happens

IDS = st.sampled_from([CALLER, MEDIA, OTHER, "stranger"])
EVENTS = st.one_of(
    st.builds(Entered, st.builds(a_channel, IDS)),
    st.builds(Left, IDS),
    st.builds(Destroyed, IDS, st.integers(0, 127)),
    st.builds(HangupRequested, IDS),
    st.builds(KeyPressed, IDS, st.sampled_from("0*F"), st.just(100)),
    st.builds(HoldChanged, IDS, st.booleans()),
    st.builds(Dialling, IDS, st.sampled_from(["", "RINGING", "BUSY"])),
    st.just(Replaced()),
)
BODIES = st.sampled_from([{}, {"value": "0"}, {"value": "1"}, {"value": 1}, {"channelvars": {"A": "b"}}])
ANSWERS = st.builds(Answer, st.sampled_from([0, 200, 204, 404, 409, 422, 500]), BODIES)
ORDERS = st.sampled_from(
    ["ring", "answer", "media_up", "media_down", "hang_up", "let_go", "press", "tag", "reconnected", "tick"]
)
TARGETS = st.sampled_from(["1001", "PJSIP/desk", "sip:a@b", "no target"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), EVENTS),
        st.tuples(st.just("answer"), ANSWERS),
        st.tuples(st.just("order"), ORDERS),
        st.tuples(st.just("transfer"), TARGETS),
    ),
    max_size=40,
)
LEG_EVENTS = (LegAnswered, LegEnded, Dtmf, Held, Resumed, TransferRinging, TransferAnswered, TransferFailed)


def ordered(control: Control, order: str, now_ns: int) -> list[Out]:
    match order:
        case "ring" | "reconnected":
            outs: list[Out] = getattr(control, order)()
        case "media_down":
            outs = control.media_down("", now_ns)
        case "hang_up" | "let_go":
            outs = getattr(control, order)(Ending.AGENT_HUNG_UP, "", now_ns)
        case "press":
            outs = control.press("1,#", 100, 100, now_ns)
        case "tag":
            outs = control.tag("a=b")
        case _:
            outs = getattr(control, order)(now_ns)
    return outs


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, up=st.booleans(), variables=st.sampled_from([(), ("A",), ("A", "B")]))
def test_whatever_happens_a_call_ends_exactly_once_and_says_nothing_behind_that(
    steps: list[tuple[str, Any]], up: bool, variables: tuple[str, ...]
) -> None:
    """Events, answers and orders in any order, at any time; then the caller leaves."""
    control = Control("c1", a_channel(up=up), Wishes("app", variables, {}))
    outs = control.begin(0)
    waiting = [out for out in outs if isinstance(out, Ask)]
    for now_s, (kind, what) in enumerate(steps):
        now_ns = now_s * S // 2
        if kind == "event":
            new = control.event(what, now_ns)
        elif kind == "transfer":
            new = control.transfer(what, 5 * S, now_ns)
        elif kind == "order":
            new = ordered(control, what, now_ns)
        else:
            new = control.answered(waiting.pop(0), what, now_ns) if waiting else []
        waiting += [out for out in new if isinstance(out, Ask)]
        outs += new
    outs += control.event(Left(CALLER), 100 * S)
    outs += control.event(Left(OTHER), 100 * S)
    assert control.done
    assert outs.count(next(out for out in outs if isinstance(out, CloseMedia))) == 1
    told = [out for out in outs if isinstance(out, LEG_EVENTS)]
    assert [type(event) for event in told].count(LegEnded) == 1
    assert isinstance(told[-1], LegEnded)
    assert [type(event) for event in told].count(LegAnswered) <= 1


@settings(max_examples=30, deadline=None)
@given(steps=STEPS)
def test_a_call_that_is_hung_up_ends_though_asterisk_never_says_another_word(
    steps: list[tuple[str, Any]],
) -> None:
    control = Control("c1", a_channel(), Wishes("app", (), {}))
    outs = control.begin(0)
    for kind, what in steps:
        if kind == "event":
            outs += control.event(what, 0)
        elif kind == "order":
            outs += ordered(control, what, 0)
    outs += control.hang_up(Ending.AGENT_HUNG_UP, "", 0)
    outs += control.tick(3 * S)
    assert control.over
    assert sum(isinstance(out, LegEnded) for out in outs) == 1


# -------------------------------------------------------------------- the wires


@given(message=st.binary(max_size=70_000), mask=st.binary(min_size=4, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_masked_frame_is_the_plain_one_under_its_mask(message: bytes, mask: bytes) -> None:
    masked, plain = masked_frame(BINARY, message, mask), frame(BINARY, message)
    head = len(plain) - len(message)
    assert (masked[0], masked[1] & 0x7F, masked[2:head]) == (plain[0], plain[1], plain[2:head])
    assert masked[1] & 0x80 and masked[head : head + 4] == mask
    assert bytes(octet ^ mask[i % 4] for i, octet in enumerate(masked[head + 4 :])) == message


def packets(count: int) -> list[bytes]:
    sender = RtpPeer(PCMU_8K)
    return [sender.audio(bytes([number]) * 160) for number in range(count)]


def test_packets_go_through_in_their_order_across_the_end_of_the_numbers() -> None:
    sender, receiver = RtpPeer(PCMU_8K), RtpPeer(PCMU_8K)
    sender._sequence, sender._timestamp = 0xFFFE, 0xFFFFFFFF
    for number in range(5):
        assert receiver.receive(sender.audio(bytes([number]) * 160)) == bytes([number]) * 160
    assert receiver.lost == 0


def test_what_is_lost_is_silence_and_what_is_late_is_dropped() -> None:
    first, second, third, fourth = packets(4)
    receiver = RtpPeer(PCMU_8K)
    receiver.receive(first)
    heard = receiver.receive(fourth)
    assert heard == b"\xff" * 320 + b"\x03" * 160
    assert isinstance(receiver.receive(second), Ignored)
    assert isinstance(receiver.receive(third), Ignored)
    assert receiver.lost == 2


@settings(max_examples=60, deadline=None)
@given(packet=st.binary(max_size=64))
def test_whatever_comes_by_udp_is_audio_or_ignored(packet: bytes) -> None:
    assert isinstance(RtpPeer(PCMU_8K).receive(packet), bytes | Ignored)


def test_headers_of_any_length_are_read() -> None:
    plain = packets(1)[0]
    extended = bytes([plain[0] | 0x11]) + plain[1:12] + b"CSRC" + b"\xbe\xde\x00\x01EXT1" + plain[12:]
    assert (payload_of(extended) or ())[3] == plain[12:]
    padded = bytes([plain[0] | 0x20]) + plain[1:] + b"\x00\x00\x03"
    assert (payload_of(padded) or ())[3] == plain[12:]
