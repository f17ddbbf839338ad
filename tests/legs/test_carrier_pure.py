"""Carriers without a socket: what their streams say, what we say to them, what their webhooks tell."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telbridge.audio.formats import PCM_8K, PCM_16K, PCM_24K, PCMU_8K, AudioFormat
from telbridge.audio.g711 import alaw_to_pcm16, pcm16_to_ulaw
from telbridge.config import Settings
from telbridge.legs.streams.carrier import (
    Arrival,
    Asked,
    Carrier,
    NotVerified,
    Replays,
    Unreadable,
    e164,
)
from telbridge.legs.streams.lead import Lead
from telbridge.legs.streams.peer import (
    Cleared,
    Complained,
    Fault,
    Happening,
    Ignored,
    Key,
    MarkPlayed,
    Message,
    PeerTraits,
    Started,
    Stopped,
    StreamPeer,
)
from telbridge.legs.streams.plivo import PLIVO, PlivoPeer
from telbridge.legs.streams.plivo_webhook import Plivo
from telbridge.legs.streams.signalwire import SIGNALWIRE, SignalWirePeer
from telbridge.legs.streams.signalwire_webhook import SignalWire
from telbridge.legs.streams.telnyx import TELNYX, TelnyxPeer
from telbridge.legs.streams.telnyx_webhook import Telnyx
from telbridge.legs.streams.vonage import VONAGE, VonagePeer
from telbridge.legs.streams.vonage_webhook import Vonage
from telbridge.serving import carrier_settings
from tests.legs.carrier_bed import KINDS, PUBLIC_KEY
from tests.legs.test_stream_pure import MS, talk
from tests.legs.test_stream_pure import Carrier as DistantCarrier

URL = "wss://voice.example.com/x/stream/ticket"
MS20 = bytes(range(160))
MS20_TEXT = base64.b64encode(MS20).decode()


def said(event: str, **fields: object) -> str:
    return json.dumps({"event": event, **fields}, separators=(",", ":"))


def read(message: Message | None) -> Any:
    assert isinstance(message, str | bytes)
    return json.loads(message)


# ---------------------------------------------------------------- Telnyx


def telnyx_start(encoding: str = "PCMU", rate_hz: object = 8000, **more: object) -> str:
    form = {"encoding": encoding, "sample_rate": rate_hz, "channels": 1}
    start = {"call_control_id": "v3:c", "from": "+1", "to": "+2", "media_format": form, **more}
    return said("start", sequence_number="1", stream_id="32DE", start=start)


def started_telnyx(
    form: AudioFormat = PCMU_8K, encoding: str = "PCMU", rate_hz: int = 8000, *, big_endian: bool = True
) -> TelnyxPeer:
    peer = TelnyxPeer(form, big_endian=big_endian)
    assert isinstance(peer.receive(telnyx_start(encoding, rate_hz)), Started)
    return peer


def test_a_telnyx_stream_from_its_first_message_to_its_last() -> None:
    peer = TelnyxPeer()
    assert peer.receive(said("connected", version="1.0.0")) == Ignored("connected")
    parameters = {"from": "+1", "to": "+2", "queue": "7"}
    started = peer.receive(telnyx_start(custom_parameters={"queue": 7}))
    assert started == Started("32DE", "v3:c", "", PCMU_8K, parameters)
    media = {"track": "inbound", "chunk": "2", "timestamp": "40", "payload": MS20_TEXT}
    assert peer.receive(said("media", sequence_number="2", stream_id="32DE", media=media)) == MS20
    assert peer.receive(said("dtmf", sequence_number="3", dtmf={"digit": "1"})) == Key("1")
    assert peer.receive(said("mark", sequence_number="4", mark={"name": "u7"})) == MarkPlayed("u7")
    error = {"code": 100003, "title": "malformed_frame", "detail": "…"}
    assert peer.receive(said("error", payload=error)) == Complained("100003 malformed_frame")
    assert peer.receive(said("stop", sequence_number="8", stop={})) == Stopped()
    assert peer.lost == 3
    assert peer.receive(said("media", media=media)) == Fault("`media` while stopped")


def test_what_we_send_to_telnyx() -> None:
    peer = started_telnyx()
    assert read(peer.audio(memoryview(MS20))) == {"event": "media", "media": {"payload": MS20_TEXT}}
    assert read(peer.mark("7")) == {"event": "mark", "mark": {"name": "7"}}
    assert read(peer.clear()) == {"event": "clear"}
    assert (peer.key("1"), peer.greeting(), peer.goodbye("bye")) == (None, None, None)


@pytest.mark.parametrize(("big_endian", "wire"), [(True, b"\x12\x34"), (False, b"\x34\x12")])
def test_linear_samples_of_telnyx_go_in_either_order_of_octets(big_endian: bool, wire: bytes) -> None:
    peer = started_telnyx(PCM_16K, "L16", 16_000, big_endian=big_endian)
    media = said("media", media={"payload": base64.b64encode(wire).decode()})
    assert peer.receive(media) == b"\x34\x12"
    assert base64.b64decode(read(peer.audio(b"\x34\x12"))["media"]["payload"]) == wire


def test_what_telnyx_could_not_convert_is_converted_here() -> None:
    codes = bytes(range(256))
    media = said("media", media={"track": "inbound", "payload": base64.b64encode(codes).decode()})
    assert started_telnyx(PCMU_8K, "PCMA").receive(media) == pcm16_to_ulaw(alaw_to_pcm16(codes))
    wide = started_telnyx(PCM_16K, "PCMA").receive(media)
    assert isinstance(wide, bytes)
    assert len(wide) == 2 * 2 * 256


@pytest.mark.parametrize("told", [("OPUS", 8000), ("PCMU", 16_000), ("PCMU", "8000"), ("pcm", None)])
def test_a_format_of_telnyx_that_nobody_knows_is_a_fault(told: tuple[str, object]) -> None:
    assert TelnyxPeer().receive(telnyx_start(*told)) == Fault("the media format is none that we know")


# ---------------------------------------------------------------- Plivo


def plivo_start(encoding: str = "audio/x-mulaw", rate_hz: int = 8000) -> str:
    form = {"encoding": encoding, "sampleRate": rate_hz}
    start = {"callId": "c", "streamId": "s", "accountId": "MA1", "tracks": ["inbound"], "mediaFormat": form}
    return said("start", sequenceNumber=1, start=start, extra_headers="a=b;c=d")


def started_plivo(form: AudioFormat = PCMU_8K) -> PlivoPeer:
    peer = PlivoPeer(form)
    encoding = "audio/x-mulaw" if form == PCMU_8K else "audio/x-l16"
    assert isinstance(peer.receive(plivo_start(encoding, form.rate_hz)), Started)
    return peer


def test_a_plivo_stream_from_its_first_message_to_its_last() -> None:
    peer = PlivoPeer()
    assert peer.receive(plivo_start()) == Started("s", "c", "MA1", PCMU_8K)
    media = {"track": "inbound", "timestamp": "1705312200000", "chunk": 1, "payload": MS20_TEXT}
    message = said("media", sequenceNumber=4, streamId="s", media=media, extra_headers="{}")
    assert peer.receive(message) == MS20
    key = {"track": "inbound", "digit": "5", "timestamp": "1705312250000"}
    assert peer.receive(said("dtmf", sequenceNumber=5, streamId="s", dtmf=key)) == Key("5")
    played = said("playedStream", sequenceNumber=6, streamId="s", name="u7")
    assert peer.receive(played) == MarkPlayed("u7")
    assert peer.receive(said("clearedAudio", sequenceNumber=7)) == Cleared()
    assert peer.lost == 2
    assert peer.receive(said("stop", sequenceNumber=8)) == Stopped()
    assert peer.receive(plivo_start()) == Fault("`start` while stopped")


@pytest.mark.parametrize("form", PLIVO.formats)
def test_what_we_send_to_plivo(form: AudioFormat) -> None:
    peer = started_plivo(form)
    content_type = "audio/x-mulaw" if form == PCMU_8K else "audio/x-l16"
    media = {"contentType": content_type, "sampleRate": form.rate_hz, "payload": MS20_TEXT}
    assert read(peer.audio(MS20)) == {"event": "playAudio", "media": media}
    assert read(peer.mark("7")) == {"event": "checkpoint", "streamId": "s", "name": "7"}
    assert read(peer.clear()) == {"event": "clearAudio", "streamId": "s"}
    assert read(peer.key("#")) == {"event": "sendDTMF", "dtmf": "#"}


def test_a_plivo_stream_in_another_format_than_asked_for_is_a_fault() -> None:
    """Without `contentType` Plivo sends L16."""
    fault = Fault("media format is not audio/x-mulaw at 8000 Hz")
    assert PlivoPeer().receive(plivo_start("audio/x-l16")) == fault


# ---------------------------------------------------------------- SignalWire


def signalwire_start(encoding: str = "audio/x-mulaw", rate_hz: int = 8000, **more: object) -> str:
    form = {"encoding": encoding, "sampleRate": rate_hz, "channels": 1}
    start = {"streamSid": "s", "accountSid": "a", "callSid": "c", "mediaFormat": form, **more}
    return said("start", sequenceNumber="1", start=start)


def started_signalwire(form: AudioFormat = PCMU_8K) -> SignalWirePeer:
    peer = SignalWirePeer(form)
    encoding = "audio/x-mulaw" if form == PCMU_8K else "audio/x-L16"
    assert isinstance(peer.receive(signalwire_start(encoding, form.rate_hz)), Started)
    return peer


def test_a_signalwire_stream_from_its_first_message_to_its_last() -> None:
    peer = SignalWirePeer()
    assert peer.receive(said("connected", protocol="Call", version="0.2.0")) == Ignored("connected")
    started = peer.receive(signalwire_start(customParameters={"n": 7}))
    assert started == Started("s", "c", "a", PCMU_8K, {"n": "7"})
    media = {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": MS20_TEXT}
    assert peer.receive(said("media", sequenceNumber="2", media=media)) == MS20
    key = {"track": "inbound_track", "digit": "d", "duration": 120}
    assert peer.receive(said("dtmf", sequenceNumber="3", dtmf=key)) == Key("D", 120)
    assert peer.receive(said("mark", sequenceNumber="4", mark={"name": "u7"})) == MarkPlayed("u7")
    assert peer.receive(said("stop", sequenceNumber="5")) == Stopped()
    assert peer.receive(said("mark", mark={"name": "u8"})) == MarkPlayed("u8")


@pytest.mark.parametrize("form", SIGNALWIRE.formats)
def test_what_we_send_to_signalwire(form: AudioFormat) -> None:
    peer = started_signalwire(form)
    assert read(peer.audio(MS20)) == {"event": "media", "streamSid": "s", "media": {"payload": MS20_TEXT}}
    assert read(peer.mark("7")) == {"event": "mark", "streamSid": "s", "mark": {"name": "7"}}
    assert read(peer.clear()) == {"event": "clear", "streamSid": "s"}
    assert read(peer.key("#")) == {"event": "dtmf", "streamSid": "s", "dtmf": {"digit": "#"}}


# ---------------------------------------------------------------- Vonage


def vonage_start(rate_hz: int = 16_000) -> str:
    return said("websocket:connected", **{"content-type": f"audio/l16;rate={rate_hz}", "uuid": "c"})


def started_vonage(form: AudioFormat = PCM_16K) -> VonagePeer:
    peer = VonagePeer()
    assert peer.receive(vonage_start(form.rate_hz)) == Started("c", "c", "", form)
    return peer


def test_a_vonage_stream_from_its_first_message_on() -> None:
    peer = started_vonage()
    assert peer.receive(bytes(640)) == bytes(640)
    assert peer.receive(bytes(641)) == Fault("half a sample of audio")
    assert peer.receive(said("websocket:dtmf", digit="5", duration=260)) == Key("5", 260)
    assert peer.receive(said("websocket:dtmf", dtmf={"digit": "*"})) == Key("*")
    assert peer.receive(said("websocket:notify", payload={"id": "u7"})) == MarkPlayed("u7")
    assert peer.receive(said("websocket:cleared")) == Cleared()
    assert peer.receive(vonage_start()) == Fault("connected twice")


@pytest.mark.parametrize("form", VONAGE.formats)
def test_what_we_send_to_vonage_is_exactly_20_ms(form: AudioFormat) -> None:
    peer = started_vonage(form)
    assert len(peer.audio(memoryview(bytes(100)))) == len(peer.audio(bytes(640))[: form.bytes_for_ms(20)])
    assert len(peer.audio(bytes(2))) == form.rate_hz * 2 // 50
    assert read(peer.mark("7")) == {"action": "notify", "payload": {"id": "7"}}
    assert read(peer.clear()) == {"action": "clear"}
    assert peer.key("1") is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (bytes(640), "audio before `websocket:connected`"),
        (said("websocket:dtmf", digit="5"), "not connected yet"),
        (said("websocket:connected", uuid="c"), "`content-type` is no text"),
        (vonage_start(44_100), "the content type is none that we know"),
        (said("websocket:connected", **{"content-type": "audio/l16;rate=16000"}), "`uuid` is no text"),
    ],
)
def test_a_wrong_beginning_at_vonage_is_a_fault(message: Message, reason: str) -> None:
    assert VonagePeer().receive(message) == Fault(reason)


# ---------------------------------------------------------------- all of them


WORDS = (
    *("event", "start", "media", "mark", "dtmf", "stop", "error", "connected", "payload", "name", "digit"),
    *("mediaFormat", "media_format", "encoding", "sampleRate", "sample_rate", "audio/x-mulaw", "PCMU", "L16"),
    *("callId", "callSid", "call_control_id", "streamId", "stream_id", "streamSid", "playedStream"),
    *("websocket:connected", "websocket:dtmf", "websocket:notify", "content-type", "uuid", "duration"),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS), inner), max_leaves=5
)
FIELDS = ("start", "media", "mark", "dtmf", "payload", "streamSid", "name", "content-type", "uuid", "digit")
several_fields = st.fixed_dictionaries(
    {"event": st.sampled_from(WORDS)}, optional=dict.fromkeys(FIELDS, trees)
)
messages = st.one_of(st.text(), st.binary(), trees.map(json.dumps), several_fields.map(json.dumps))
PEERS: dict[str, tuple[Callable[[], StreamPeer], ...]] = {
    "telnyx": (TelnyxPeer, started_telnyx, lambda: started_telnyx(PCM_16K, "PCMA")),
    "plivo": (PlivoPeer, started_plivo, lambda: started_plivo(PCM_16K)),
    "signalwire": (SignalWirePeer, started_signalwire, lambda: started_signalwire(PCM_24K)),
    "vonage": (VonagePeer, started_vonage),
}


@settings(deadline=None, max_examples=60)
@given(st.lists(messages, max_size=2))
def test_whatever_comes_is_a_happening_and_no_exception(several: list[Message]) -> None:
    for peer in (make() for kind in KINDS for make in PEERS[kind]):
        for message in several:
            assert isinstance(peer.receive(message), Happening)
        assert peer.lost >= 0


@pytest.mark.parametrize("kind", ["telnyx", "plivo", "signalwire"])
@given(st.binary(min_size=1, max_size=800), st.sampled_from(("compact", "spaced", "last", "escaped")))
def test_audio_is_read_however_its_json_is_written(kind: str, audio: bytes, style: str) -> None:
    payload = base64.b64encode(audio).decode()
    message = {
        "compact": said("media", sequenceNumber=2, media={"payload": payload}, streamId="s"),
        "spaced": json.dumps({"event": "media", "media": {"payload": payload, "track": "inbound"}}),
        "last": json.dumps({"streamSid": "x", "media": {"payload": payload}, "event": "media"}),
        "escaped": said("media", media={"payload": "@"}).replace("@", payload.replace("/", "\\/")),
    }[style]
    assert PEERS[kind][1]().receive(message) == audio


@pytest.mark.parametrize("kind", ["telnyx", "plivo", "signalwire"])
def test_broken_audio_is_a_fault(kind: str) -> None:
    for payload, reason in (("AAA", "the payload is not base64"), (7, "the payload is no text")):
        assert PEERS[kind][1]().receive(said("media", media={"payload": payload})) == Fault(reason)
    assert PEERS[kind][1]().receive(b"\0\0") == Fault("binary message")
    other = said("media", media={"track": "outbound", "chunk": "1"})
    assert PEERS[kind][1]().receive(other) == Ignored("media of another track")


def test_half_a_sample_is_a_fault() -> None:
    for peer in (started_plivo(PCM_16K), started_signalwire(PCM_16K), started_telnyx(PCM_8K, "L16")):
        assert peer.receive(said("media", media={"payload": "AQID"})) == Fault("half a sample of audio")


@settings(max_examples=8, deadline=None)
@given(way_ms=st.integers(0, 150), buffer_ms=st.integers(0, 120), odd=st.integers(0, 19))
def test_an_answered_clear_tells_how_far_away_the_carrier_is(way_ms: int, buffer_ms: int, odd: int) -> None:
    """For Plivo and Vonage, which may leave a mark before any audio unanswered."""
    distant, lead = DistantCarrier(way_ms * MS, buffer_ms * MS), Lead(200, marks=True)
    lead.clear_sent(0)
    lead.clear_answered(2 * way_ms * MS)
    talk(lead, distant, 500, 1700 + odd)
    now_ns = (1700 + odd) * MS
    truth_ns = distant.unplayed_ns(now_ns + distant.way_ns)
    assert abs(lead.cleared(now_ns) - truth_ns) <= 20 * MS
    assert lead.round_trip_ms == 2 * way_ms


# ---------------------------------------------------------------- webhooks


def carrier(kind: str, form: AudioFormat | None = None) -> Carrier:
    made: dict[str, Carrier] = {
        "telnyx": Telnyx([PUBLIC_KEY], form or PCMU_8K),
        "plivo": Plivo(["t"], form or PCMU_8K),
        "signalwire": SignalWire(["k"], form or PCMU_8K),
        "vonage": Vonage(["s"], form or PCM_16K),
    }
    return made[kind]


def posted(fields: dict[str, Any], *, as_json: bool = False) -> Asked:
    body = json.dumps(fields) if as_json else urlencode(fields)
    return Asked("POST", "https://h/x/voice", {}, body.encode())


def test_what_the_webhooks_tell() -> None:
    form = {
        "CallSid": "c",
        "AccountSid": "a",
        "From": "+1",
        "To": "+2",
        "CallerName": "",
        "SipHeader_X-A": "b",
    }
    assert carrier("signalwire").arrival(posted(form)) == Arrival("c", "a", "+1", "+2", {"X-A": "b"})
    more = {**form, "Direction": "inbound", "ShakenStirAttestation": "A"}
    told = {"Direction": "inbound", "ShakenStirAttestation": "A", "X-A": "b"}
    assert carrier("telnyx").arrival(posted(more)) == Arrival("c", "", "+1", "+2", told)
    plivo = {
        "CallUUID": "c",
        "From": "15005550006",
        "To": "sip:a@b",
        "ForwardedFrom": "49",
        "X-PH-Queue": "x",
    }
    told = {"ForwardedFrom": "49", "X-PH-Queue": "x"}
    assert carrier("plivo").arrival(posted(plivo)) == Arrival("c", "", "+15005550006", "sip:a@b", told)
    vonage = {"uuid": "c", "from": "447700900000", "to": "447700900001", "SipHeader_X-A": "b", "n": 1}
    arrival = Arrival("c", "", "+447700900000", "+447700900001", {"X-A": "b"})
    assert carrier("vonage").arrival(posted(vonage, as_json=True)) == arrival
    query = Asked("GET", "https://h/x/voice?" + urlencode(vonage), {}, b"")
    assert carrier("vonage").arrival(query) == arrival


@pytest.mark.parametrize("kind", KINDS)
def test_a_webhook_without_a_call_or_with_an_endless_one_is_unreadable(kind: str) -> None:
    for call in ("", "c" * 300):
        ids = {"CallSid": call, "AccountSid": "a", "CallUUID": call, "uuid": call}
        with pytest.raises(Unreadable):
            carrier(kind).arrival(posted(ids, as_json=kind == "vonage"))


@pytest.mark.parametrize(
    ("kind", "ids", "over"),
    [
        ("telnyx", {"CallSid": "c", "CallStatus": "completed"}, ("c", "completed")),
        ("telnyx", {"CallSid": "c", "CallStatus": "in-progress"}, None),
        ("plivo", {"CallUUID": "c", "CallStatus": "no-answer"}, ("c", "no-answer")),
        ("plivo", {"CallUUID": "c", "Event": "StartStream"}, None),
        ("signalwire", {"CallSid": "c", "CallStatus": "canceled"}, ("c", "canceled")),
        ("vonage", {"uuid": "c", "status": "completed"}, ("c", "completed")),
        ("vonage", {"uuid": "c", "status": "answered"}, None),
        ("vonage", {"uuid": ["c"], "status": {}}, None),
    ],
)
def test_what_the_status_callbacks_tell(kind: str, ids: dict[str, Any], over: tuple[str, str] | None) -> None:
    assert carrier(kind).ended(posted(ids, as_json=kind == "vonage")) == over


def test_telnyx_is_asked_for_a_stream_that_hears_us() -> None:
    """Without RTP mode what we say is dropped, and a codec that it does not name is the call's own."""
    answer = carrier("telnyx", PCM_16K).connect(Arrival("c", "", "", ""), URL)
    stream = ElementTree.fromstring(answer.text).find("./Connect/Stream")
    assert stream is not None
    assert stream.attrib == {
        "url": URL,
        "track": "inbound_track",
        "codec": "L16",
        "bidirectionalMode": "rtp",
        "bidirectionalCodec": "L16",
        "bidirectionalSamplingRate": "16000",
    }
    assert answer.content_type == "text/xml"


def test_plivo_is_asked_for_a_stream_that_keeps_the_call() -> None:
    stream = ElementTree.fromstring(carrier("plivo").connect(Arrival("c", "", "", ""), URL + "&").text)[0]
    assert stream.text == URL + "&"
    assert stream.attrib == {
        "bidirectional": "true",
        "keepCallAlive": "true",
        "audioTrack": "inbound",
        "contentType": "audio/x-mulaw;rate=8000",
    }


@pytest.mark.parametrize(
    ("form", "codec"), [(PCMU_8K, "PCMU@8000h"), (PCM_16K, "L16@16000h"), (PCM_24K, "L16@24000h")]
)
def test_signalwire_is_asked_for_a_stream(form: AudioFormat, codec: str) -> None:
    text = carrier("signalwire", form).connect(Arrival("c", "a", "", ""), URL).text
    stream = ElementTree.fromstring(text).find("./Connect/Stream")
    assert stream is not None
    assert stream.attrib == {"url": URL, "codec": codec}


def test_vonage_is_asked_for_a_websocket_that_tells_which_call_it_is() -> None:
    answer = carrier("vonage").connect(Arrival('c"', "", "+1", "+2"), URL)
    endpoint = {
        "type": "websocket",
        "uri": URL,
        "content-type": "audio/l16;rate=16000",
        "headers": {"uuid": 'c"'},
    }
    assert json.loads(answer.text) == [{"action": "connect", "endpoint": [endpoint]}]
    assert answer.content_type == "application/json"


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=300) | trees.map(lambda tree: json.dumps(tree).encode()),
    st.sampled_from(("GET", "POST")),
    st.text(st.characters(codec="ascii"), max_size=60),
    st.dictionaries(
        st.sampled_from(
            (
                *("telnyx-signature-ed25519", "telnyx-timestamp", "x-plivo-signature-v3"),
                *("x-plivo-signature-v3-nonce", "x-signalwire-signature", "authorization"),
            )
        ),
        st.text() | st.text().map("Bearer {}".format) | st.sampled_from(("Bearer e30.e30.e30", "1700000000")),
    ),
)
def test_no_request_is_verified_by_chance_and_none_is_an_exception(
    body: bytes, method: str, query: str, headers: dict[str, str]
) -> None:
    asked = Asked(method, f"https://h/x?{query}", headers, body)
    for each in map(carrier, KINDS):
        with pytest.raises((NotVerified, Unreadable)):
            each.verify(asked, 1_700_000_000.0)
        for reads in (each.arrival, each.ended):
            with contextlib.suppress(Unreadable):
                reads(asked)


@given(st.text(max_size=300), st.text(max_size=300))
def test_answers_are_well_formed_whatever_the_call_is(call: str, url: str) -> None:
    try:
        arrival = Arrival(call, "", "", "")
    except (Unreadable, UnicodeEncodeError):
        return
    for kind in KINDS:
        text = carrier(kind).connect(arrival, url).text
        assert json.loads(text) if kind == "vonage" else ElementTree.fromstring(text).tag == "Response"


@pytest.mark.parametrize(
    ("number", "dialled"),
    [
        ("15005550006", "+15005550006"),
        ("+15005550006", "+15005550006"),
        ("100", "100"),
        ("sip:a@b", "sip:a@b"),
        ("0151234567", "0151234567"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_numbers_without_their_plus_get_it(number: str, dialled: str) -> None:
    assert e164(number) == dialled


def test_what_was_taken_is_remembered_up_to_a_bound() -> None:
    replays = Replays(3)
    for mark in "abcd":
        replays.add(mark)
    assert [mark in replays for mark in "abcd"] == [False, True, True, True]


@pytest.mark.parametrize("traits", [TELNYX, PLIVO, SIGNALWIRE, VONAGE])
def test_every_codec_of_a_carrier_can_be_asked_for(traits: PeerTraits) -> None:
    from telbridge.serving.carriers import carriers_of

    assert carrier_settings.__doc__ is not None
    assert f"[{traits.name}]" in carrier_settings.__doc__
    for form in traits.formats:
        chosen = Settings.model_validate({traits.name: {"codec": str(form)}})
        (made,) = [each for each in carriers_of(chosen, {}) if each.traits is traits]
        assert made.format == form
