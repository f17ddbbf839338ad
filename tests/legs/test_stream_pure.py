"""Media streams without a socket: what is read, what is signed, what the carrier still holds."""

from __future__ import annotations

import base64
import json
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from websockets.frames import Frame
from websockets.streams import StreamReader

from telbridge.audio.formats import PCM_16K, PCMA_8K, PCMU_8K, AudioFormat
from telbridge.legs.streams.generic import GENERIC, GenericPeer
from telbridge.legs.streams.intake import Intake
from telbridge.legs.streams.lead import MARK_PATIENCE_NS, Lead
from telbridge.legs.streams.peer import Fault, Happening, Ignored, Key, MarkPlayed, Message, Started, Stopped
from telbridge.legs.streams.socket import BINARY, TEXT, frame
from telbridge.legs.streams.tickets import TICKET_S, Ticket, TicketOffice, TicketRefused
from telbridge.legs.streams.twilio import TwilioPeer
from telbridge.legs.streams.twilio_signature import signature, signed_url
from telbridge.legs.streams.twilio_webhook import PARAMETER_LIMIT, connect_stream, facts_to_hand_on
from telbridge.serving.ingress_limits import MAX_ADDRESSES, Seldom, Throttle

KEY = "0123456789abcdef0123456789abcdef"
MS = 1_000_000
FRAME_NS = 20 * MS
CALL, ACCOUNT = "CA" + "1" * 32, "AC" + "2" * 32
MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
START = {"streamSid": "MZ1", "accountSid": ACCOUNT, "callSid": CALL, "mediaFormat": MEDIA_FORMAT}


def twilio(event: str, sequence: int | None = None, **fields: object) -> str:
    number = {} if sequence is None else {"sequenceNumber": str(sequence)}
    return json.dumps({"event": event, **number, **fields}, separators=(",", ":"))


def started_twilio(**changed: object) -> TwilioPeer:
    peer = TwilioPeer()
    assert isinstance(peer.receive(twilio("start", 1, start={**START, **changed})), Started)
    return peer


# ---------------------------------------------------------------- Twilio


def test_a_twilio_stream_from_its_first_message_to_its_last() -> None:
    """The messages of Twilio's own page, shortened."""
    peer = TwilioPeer()
    assert peer.receive('{"event":"connected","protocol":"Call","version":"1.0.0"}') == Ignored("connected")
    start = twilio(
        "start", 1, start={**START, "tracks": ["inbound"], "customParameters": {"From": "+1", "n": 7}}
    )
    assert peer.receive(start) == Started("MZ1", CALL, ACCOUNT, PCMU_8K, {"From": "+1", "n": "7"})
    payload = base64.b64encode(bytes(range(160))).decode()
    media = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload}
    assert peer.receive(twilio("media", 2, media=media, streamSid="MZ1")) == bytes(range(160))
    assert peer.receive(twilio("dtmf", 3, dtmf={"track": "inbound_track", "digit": "#"})) == Key("#")
    assert peer.receive(twilio("mark", 4, mark={"name": "u7"})) == MarkPlayed("u7")
    assert peer.receive(twilio("stop", 5, stop={"accountSid": ACCOUNT, "callSid": CALL})) == Stopped()
    assert peer.receive(twilio("mark", 6, mark={"name": "u8"})) == MarkPlayed("u8")
    assert peer.receive(twilio("media", 7, media=media)) == Fault("`media` while stopped")


@given(st.binary(min_size=1, max_size=800), st.sampled_from(("compact", "spaced", "last", "escaped")))
def test_audio_is_read_however_its_json_is_written(audio: bytes, style: str) -> None:
    payload = base64.b64encode(audio).decode()
    message = {
        "compact": twilio("media", 2, media={"payload": payload}, streamSid="MZ1"),
        "spaced": json.dumps({"event": "media", "media": {"payload": payload, "track": "inbound"}}),
        "last": json.dumps({"streamSid": "x", "media": {"payload": payload}, "event": "media"}),
        "escaped": twilio("media", media={"payload": "@"}).replace("@", payload.replace("/", "\\/")),
    }[style]
    assert started_twilio().receive(message) == audio


FIELDS = (
    "event",
    "type",
    "start",
    "media",
    "mark",
    "dtmf",
    "payload",
    "format",
    "encoding",
    "rate_hz",
    "name",
)
scalars = st.none() | st.booleans() | st.integers() | st.sampled_from(FIELDS)
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner))


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), trees.map(json.dumps)))
def test_whatever_comes_is_a_happening_and_no_exception(message: Message) -> None:
    for peer in (TwilioPeer(), started_twilio(), GenericPeer(), started_generic()):
        assert isinstance(peer.receive(message), Happening)


def test_what_we_send_is_exactly_what_twilio_takes() -> None:
    """Extra or missing fields are Twilio's warning 31951, and the message is lost."""
    peer = started_twilio(streamSid='M"Z')
    sent = [peer.audio(memoryview(b"\x01\x02")), peer.mark("7"), peer.clear()]
    assert [json.loads(each) for each in sent if each is not None] == [
        {"event": "media", "streamSid": 'M"Z', "media": {"payload": "AQI="}},
        {"event": "mark", "streamSid": 'M"Z', "mark": {"name": "7"}},
        {"event": "clear", "streamSid": 'M"Z'},
    ]
    assert (peer.greeting(), peer.goodbye("bye")) == (None, None)


def test_messages_that_never_came_are_counted_by_their_numbers() -> None:
    peer = started_twilio()
    for number in (2, 3, 6):
        peer.receive(twilio("media", number, media={"payload": "AQI="}))
    assert peer.lost == 2


# ---------------------------------------------------------------- the generic protocol


def generic(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


def started_generic(encoding: str = "pcm16", rate_hz: int = 16_000, **more: object) -> GenericPeer:
    peer = GenericPeer()
    form = {"encoding": encoding, "rate_hz": rate_hz}
    assert isinstance(peer.receive(generic("start", format=form, **more)), Started)
    return peer


@pytest.mark.parametrize("form", GENERIC.formats)
def test_every_format_of_the_generic_protocol_can_be_had(form: AudioFormat) -> None:
    peer = GenericPeer()
    wanted = {"encoding": form.encoding.value, "rate_hz": form.rate_hz}
    started = peer.receive(
        generic("start", format=wanted, call_id="c", **{"from": "a"}, to="b", parameters={"x": 1})
    )
    assert started == Started("c", "c", "", form, {"x": "1", "from": "a", "to": "b"})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\0\0", "binary message before `start`"),
        (generic("audio", audio=""), "`audio` before `start`"),
        (generic("start", format={"encoding": "opus", "rate_hz": 48000}), "no such format; known: "),
        (generic("start", format={"encoding": "pcmu", "rate_hz": [8000]}), "no such format; known: "),
        (generic("start", format={"encoding": "pcmu", "rate_hz": 8000}, audio="tape"), "`audio` is neither"),
        (generic("start"), "`format` is no object"),
    ],
)
def test_a_wrong_beginning_is_a_fault(message: Message, reason: str) -> None:
    happening = GenericPeer().receive(message)
    assert isinstance(happening, Fault)
    assert happening.reason.startswith(reason)


def test_a_generic_stream_in_binary_and_in_json() -> None:
    peer = started_generic()
    assert peer.receive(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"
    assert peer.receive(generic("audio", audio="AQID BA==".replace(" ", ""))) == b"\x01\x02\x03\x04"
    assert peer.receive(b"\x01") == Fault("half a sample of audio")
    assert peer.receive(generic("dtmf", digit="5", duration_ms=120)) == Key("5", 120)
    assert peer.receive(generic("start", format={"encoding": "pcmu", "rate_hz": 8000})) == Fault(
        "`start` twice"
    )
    assert (peer.audio(b"\x01\x02"), peer.audio_is_text, peer.answers_marks) == (b"\x01\x02", False, True)
    texts = started_generic(audio="json", marks=False)
    assert json.loads(texts.audio(b"\x01\x02")) == {"type": "audio", "audio": "AQI="}
    assert (texts.audio_is_text, texts.answers_marks, texts.mark("1")) == (True, False, None)
    assert peer.receive(generic("stop", reason="done")) == Stopped("done")
    assert peer.receive(b"\0\0") == Fault("binary message after `stop`")


# ---------------------------------------------------------------- Twilio's signature


VECTORS = [
    (
        "https://br.example.com/twilio/voice?tenant=acme",
        {
            "CallSid": ["CA00000000000000000000000000000001"],
            "From": ["+15005550006"],
            "To": ["+15005550001"],
            "CallerName": [""],
            "Digits": ["1#"],
        },
        "H4UEHU0q+WZsdZJKgajb6sCCFxw=",
    ),
    ("wss://br.example.com/media/twilio", {}, "6a8lwf5QhhkuqCFh4M6A1bNfV+Q="),
    ("wss://br.example.com/media/twilio/", {}, "N/k8w4G9MpD9/PYZe1/OBOuFIBc="),
]


@pytest.mark.parametrize(("url", "form", "expected"), VECTORS)
def test_known_signatures(url: str, form: dict[str, list[str]], expected: str) -> None:
    assert signature(KEY, url, form) == expected


words = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


@given(st.dictionaries(words, st.lists(words, min_size=1, max_size=3), max_size=6), st.booleans())
def test_the_twilio_package_takes_our_signatures_and_we_take_its_own(
    form: dict[str, list[str]], with_port: bool
) -> None:
    url = (
        "https://voice.example.com:8443/twilio/voice"
        if with_port
        else "https://voice.example.com/twilio/voice"
    )
    judge = RequestValidator(KEY)
    assert judge.validate(url, _Form(form), signature(KEY, url, form))
    theirs = judge.compute_signature(url, _Form(form))
    assert signed_url([KEY], theirs, url, form) == url
    assert signed_url(["another"], theirs, url, form) is None


class _Form(dict[str, list[str]]):
    """As the web frameworks do that the package knows."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


@pytest.mark.parametrize(
    "signed",
    [
        "wss://voice.example.com/twilio/stream/t",
        "wss://voice.example.com/twilio/stream/t/",
        "wss://voice.example.com:443/twilio/stream/t",
        "wss://voice.example.com:443/twilio/stream/t/",
    ],
)
def test_an_upgrade_is_taken_in_each_form_that_twilio_may_sign(signed: str) -> None:
    url = "wss://voice.example.com/twilio/stream/t"
    given_ = RequestValidator(KEY).compute_signature(signed, {})
    assert signed_url(["old", KEY], given_, url, {}) == signed


@pytest.mark.parametrize(
    "signed",
    [
        "https://voice.example.com/twilio/stream/t",
        "wss://voice.example.com/twilio/stream/u",
        "wss://other.example.com/twilio/stream/t",
        "wss://voice.example.com/twilio/stream/t?x=1",
        "wss://voice.example.com:8443/twilio/stream/t",
    ],
)
def test_an_upgrade_of_another_url_is_not(signed: str) -> None:
    given_ = RequestValidator(KEY).compute_signature(signed, {})
    assert signed_url([KEY], given_, "wss://voice.example.com/twilio/stream/t", {}) is None


# ---------------------------------------------------------------- TwiML and tickets


PARAMETERS = ("From", "CallerName", "SipHeader_X-A", "Digits", "SipHeader_" + "x" * 300)
values = st.text(max_size=900).map(lambda text: [text])


@given(st.dictionaries(st.sampled_from(PARAMETERS), values))
def test_twiml_says_what_the_webhook_said_whatever_the_caller_wrote(form: dict[str, list[str]]) -> None:
    parameters = facts_to_hand_on(form)
    root = ElementTree.fromstring(connect_stream("wss://h/x", parameters))
    stream = root.find("./Connect/Stream")
    assert stream is not None
    assert stream.get("url") == "wss://h/x"
    told = {each.get("name"): each.get("value") for each in stream}
    assert set(told) == {name for name in form if form[name][0] and name != "Digits" and len(name) < 200}
    assert all(len(name or "") + len(value or "") <= PARAMETER_LIMIT for name, value in told.items())
    for name, value in told.items():
        printable = "".join(each for each in form[str(name)][0] if each >= " " and each < "\ufffe")
        assert printable.startswith(value or "") or len(printable) > 300


def test_a_ticket_is_taken_once_in_its_time() -> None:
    office, ticket = TicketOffice(), Ticket(ACCOUNT, CALL)
    text = office.issue(ticket, 0)
    assert office.take(text, (TICKET_S - 1) * 1_000 * MS) == ticket
    with pytest.raises(TicketRefused, match="used before"):
        office.take(text, 0)
    with pytest.raises(TicketRefused, match="used before"):
        office.take(text + "=", 0)
    with pytest.raises(TicketRefused, match="expired"):
        office.take(office.issue(ticket, 0), TICKET_S * 1_000 * MS)
    with pytest.raises(TicketRefused, match="not a ticket"):
        TicketOffice().take(office.issue(ticket, 0), 0)


@given(st.text(max_size=500))
def test_no_text_is_a_ticket_by_chance(text: str) -> None:
    with pytest.raises(TicketRefused, match="not a ticket"):
        TicketOffice(b"k" * 32).take(text, 0)


def test_an_office_remembers_used_tickets_only_until_they_would_have_expired() -> None:
    office = TicketOffice()
    for second in range(1000):
        now_ns = second * 1_000 * MS
        office.take(office.issue(Ticket("a", str(second)), now_ns), now_ns)
    assert len(office) <= TICKET_S + 1


# ---------------------------------------------------------------- what stands at the carrier


class Carrier:
    """Plays in real time behind a buffer of its own; messages take `way_ns` each way."""

    def __init__(self, way_ns: int, buffer_ns: int) -> None:
        self.way_ns, self.buffer_ns = way_ns, buffer_ns
        self.pieces: list[tuple[int, int]] = []
        """Begin and end of each frame, as played."""
        self.marks: list[tuple[int, int]] = []
        """When each comes back to us, its number."""
        self.stalled_until_ns = 0

    def gets(self, now_ns: int) -> None:
        arrival_ns = max(now_ns + self.way_ns, self.stalled_until_ns)
        begin_ns = max(arrival_ns + self.buffer_ns, self._end_ns)
        self.pieces.append((begin_ns, begin_ns + FRAME_NS))

    def marks_here(self, number: int, now_ns: int) -> None:
        arrival_ns = max(now_ns + self.way_ns, self.stalled_until_ns)
        back_ns = max(arrival_ns, self._end_ns) + self.way_ns
        self.marks.append((back_ns, number))

    @property
    def _end_ns(self) -> int:
        return self.pieces[-1][1] if self.pieces else 0

    def unplayed_ns(self, at_ns: int) -> int:
        return sum(max(0, end_ns - max(begin_ns, at_ns)) for begin_ns, end_ns in self.pieces)


def talk(lead: Lead, carrier: Carrier, from_ms: int, to_ms: int, *, speaking: bool = True) -> int:
    """Step by ms: marks come back, speech leaves. Returns the most that stood at the carrier, beside what its
    own buffer and the way hold."""
    most_ns = 0
    for ms in range(from_ms, to_ms):
        now_ns = ms * MS
        for back_ns, number in [mark for mark in carrier.marks if mark[0] <= now_ns]:
            carrier.marks.remove((back_ns, number))
            lead.mark_played(number, now_ns)
        while speaking and lead.room(FRAME_NS, lead.dry_ns(now_ns)):
            mark_is_due = lead.sent(FRAME_NS, now_ns)
            carrier.gets(now_ns)
            if mark_is_due and (number_due := lead.mark(now_ns)) is not None:
                carrier.marks_here(number_due, now_ns)
        most_ns = max(most_ns, carrier.unplayed_ns(now_ns) - carrier.way_ns - carrier.buffer_ns)
        lead.check(now_ns)
    return most_ns


def opened(carrier: Carrier) -> Lead:
    lead = Lead(200, marks=True)
    number = lead.mark(0)
    assert number is not None
    carrier.marks_here(number, 0)
    return lead


@settings(max_examples=30, deadline=None)
@given(
    way_ms=st.integers(0, 150),
    buffer_ms=st.integers(0, 120),
    speaks_ms=st.integers(600, 2000),
    odd=st.integers(0, 19),
)
def test_what_was_not_played_is_known_within_a_frame(
    way_ms: int, buffer_ms: int, speaks_ms: int, odd: int
) -> None:
    carrier = Carrier(way_ms * MS, buffer_ms * MS)
    lead = opened(carrier)
    talk(lead, carrier, 0, 500, speaking=False)
    most_ns = talk(lead, carrier, 500, 500 + speaks_ms + odd)
    now_ns = (500 + speaks_ms + odd) * MS
    truth_ns = carrier.unplayed_ns(now_ns + carrier.way_ns)
    assert abs(lead.cleared(now_ns) - truth_ns) <= 20 * MS
    assert most_ns <= 200 * MS
    assert not lead.outstanding
    assert lead.round_trip_ms == pytest.approx(2 * way_ms, abs=1)


@settings(max_examples=20, deadline=None)
@given(stall_ms=st.integers(100, 1500))
def test_after_a_stall_of_the_network_no_more_is_sent_than_the_lead(stall_ms: int) -> None:
    carrier = Carrier(20 * MS, 30 * MS)
    lead = opened(carrier)
    talk(lead, carrier, 0, 500, speaking=False)
    talk(lead, carrier, 500, 1500)
    carrier.stalled_until_ns = (1500 + stall_ms) * MS
    talk(lead, carrier, 1500, 1500 + stall_ms)
    sent_into_the_stall_ns = carrier.unplayed_ns((1500 + stall_ms) * MS)
    # A mark is due every 200 ms; until one is overdue nobody can know.
    assert sent_into_the_stall_ns <= (200 + 200 + 100) * MS
    end_ms = 1500 + stall_ms + 1000
    talk(lead, carrier, 1500 + stall_ms, end_ms)
    truth_ns = carrier.unplayed_ns(end_ms * MS + carrier.way_ns)
    assert abs(lead.unplayed(end_ms * MS) - truth_ns) <= 40 * MS
    assert truth_ns <= 270 * MS


def test_a_peer_that_never_answers_marks_is_served_by_our_clock() -> None:
    carrier, lead = Carrier(10**15, 0), Lead(200, marks=True)
    assert lead.mark(0) is not None
    patience_ms = MARK_PATIENCE_NS // MS
    talk(lead, carrier, 0, patience_ms + 1000)
    assert lead.marks_missing
    assert len(carrier.pieces) * 20 == pytest.approx(patience_ms + 1000 + 200, abs=40), "it stopped speaking"
    assert lead.unplayed((patience_ms + 1000) * MS) == pytest.approx(200 * MS, abs=20 * MS)


def test_marks_of_before_a_clear_prove_nothing() -> None:
    lead = Lead(200, marks=True)
    assert lead.sent(FRAME_NS, 0), "a mark is due"
    stale = lead.mark(0)
    assert stale is not None
    assert lead.cleared(5 * MS) == 15 * MS
    lead.sent(FRAME_NS, 10 * MS)
    lead.mark_played(stale, 11 * MS)
    assert lead.outstanding
    assert lead.unplayed(11 * MS) == 19 * MS


def test_a_peer_that_takes_nothing_for_now_gets_nothing() -> None:
    lead = Lead(200, marks=False)
    lead.stopped = True
    assert not lead.room(FRAME_NS, lead.dry_ns(0))
    lead.stopped = False
    assert lead.room(FRAME_NS, lead.dry_ns(0))


# ---------------------------------------------------------------- limits


def test_real_time_is_no_flood_and_neither_is_a_burst_after_a_stall() -> None:
    intake = Intake(PCM_16K, 0, 10)
    for second in range(100):
        intake.octets += 2 * 16_000
        intake.messages += 50
        assert intake.flooding(second * 1_000 * MS) is None
    intake.octets += 8 * 2 * 16_000
    intake.messages += 400
    assert intake.flooding(100_000 * MS) is None
    intake.octets += 3 * 2 * 16_000
    assert intake.flooding(100_000 * MS) == "audio faster than real time"


def test_silence_is_told_with_its_length() -> None:
    intake = Intake(PCMA_8K, 0, 10)
    assert intake.silent_s(9_999 * MS) is None
    assert intake.silent_s(10_500 * MS) == 10.5


def test_a_bucket_fills_again_and_old_addresses_are_forgotten() -> None:
    throttle = Throttle(10)
    assert sum(throttle.admits("a", 0) for _ in range(100)) == 20
    assert throttle.admits("b", 0)
    assert sum(throttle.admits("a", 500 * MS) for _ in range(100)) == 5
    throttle.give_back("a", 500 * MS)
    assert throttle.admits("a", 500 * MS)
    for number in range(2 * MAX_ADDRESSES):
        throttle.admits(str(number), 0)
    assert len(throttle) == MAX_ADDRESSES


def test_a_line_that_strangers_cause_is_logged_once_a_second() -> None:
    seldom = Seldom()
    assert [seldom.now(ms * MS) for ms in (0, 1, 999, 1000, 1001)] == [0, None, None, 2, None]


@given(st.binary(max_size=300), st.sampled_from((TEXT, BINARY)))
def test_our_frames_are_websocket_frames(message: bytes, opcode: int) -> None:
    """Judged by another implementation's parser."""
    reader = StreamReader()
    reader.feed_data(frame(opcode, message))
    parser = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parser)
    assert parsed.value.value == Frame(opcode, message)
