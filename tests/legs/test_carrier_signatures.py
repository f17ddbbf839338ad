"""Carriers' signatures, judged by the carriers' own packages where there are any."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3
from twilio.request_validator import RequestValidator
from vonage_jwt import verify_signature

from telbridge.audio.formats import PCM_16K, PCMU_8K
from telbridge.caller.streams import plivo as plivo_caller
from telbridge.caller.streams.signalwire import SignalWireSide
from telbridge.caller.streams.telnyx import TelnyxSide
from telbridge.caller.streams.vonage import VonageSide
from telbridge.legs.streams.carrier import CLOCK_SKEW_S, Asked, NotVerified
from telbridge.legs.streams.plivo_webhook import Plivo, signature
from telbridge.legs.streams.signalwire_webhook import SignalWire
from telbridge.legs.streams.telnyx_webhook import Telnyx
from telbridge.legs.streams.vonage_webhook import Vonage
from tests.legs.carrier_bed import KEYS, PUBLIC_KEY, SEED

URL = "https://br.example.com/x/voice"
NOW = 1_700_000_000
SECRET = KEYS["VONAGE_SIGNATURE_SECRET"]
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ascii_words = st.text(st.characters(codec="ascii"), max_size=12)
queries = st.dictionaries(ascii_words, st.lists(ascii_words, min_size=1, max_size=2), max_size=3)
forms = st.dictionaries(words, st.lists(words, min_size=1, max_size=3), max_size=5)


def asked(method: str, url: str, body: bytes, **headers: str) -> Asked:
    return Asked(method, url, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# ---------------------------------------------------------------- Telnyx


TELNYX_BODY = b'{"data":{"event_type":"call.initiated"}}'
TELNYX_SIGNATURE = "aBuTQ1AtxQGraK6PrtJP6VW9Mu+R2aG6TbxS7lim9/ia8dN94a42JYoTifASA18z3xe+GLlYfveWOuyyKq7OCw=="
"""Made by Telnyx's Python SDK 4.189 of the seed 00…1f, at NOW."""


def telnyx(body: bytes = TELNYX_BODY, given_: str = TELNYX_SIGNATURE, stamp: str = str(NOW)) -> Asked:
    return asked("POST", URL, body, telnyx_signature_ed25519=given_, telnyx_timestamp=stamp)


@pytest.mark.parametrize("off_s", [-CLOCK_SKEW_S, 0, CLOCK_SKEW_S])
def test_a_known_signature_of_telnyx(off_s: int) -> None:
    assert Telnyx([PUBLIC_KEY], PCMU_8K).verify(telnyx(), NOW + off_s)


@pytest.mark.parametrize(
    ("request_", "now_s", "why"),
    [
        (telnyx(body=TELNYX_BODY + b" "), NOW, "wrong signature"),
        (telnyx(stamp=str(NOW + 1)), NOW, "wrong signature"),
        (telnyx(given_="AAAA"), NOW, "wrong signature"),
        (telnyx(given_="ä"), NOW, "wrong signature"),
        (telnyx(stamp="soon"), NOW, "the time of its signature is none"),
        (telnyx(stamp="²"), NOW, "the time of its signature is none"),
        (telnyx(given_=""), NOW, "not signed"),
        (telnyx(), NOW + CLOCK_SKEW_S + 1, "its signature has expired"),
        (telnyx(), NOW - CLOCK_SKEW_S - 1, "its signature has expired"),
    ],
)
def test_what_telnyx_did_not_sign(request_: Asked, now_s: float, why: str) -> None:
    with pytest.raises(NotVerified, match=why):
        Telnyx([PUBLIC_KEY], PCMU_8K).verify(request_, now_s)


def test_a_replay_is_known_however_its_signature_is_written() -> None:
    """The last digit of 64 octets in base64 has four bits that nobody reads."""
    judge = Telnyx([PUBLIC_KEY], PCMU_8K)
    others = [TELNYX_SIGNATURE[:-3] + digit + "==" for digit in "wxyz"]
    assert len({base64.b64decode(each) for each in (TELNYX_SIGNATURE, *others)}) == 1
    assert {judge.verify(telnyx(given_=each), NOW) for each in others} == {judge.verify(telnyx(), NOW)}


@settings(deadline=None, max_examples=20)
@given(words)
def test_our_own_telnyx_signs_as_telnyx_does(called: str) -> None:
    request = TelnyxSide(SEED, clock=lambda: NOW).voice(
        URL, "c", "+1", called.encode("utf-8", "replace").decode()
    )
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert Telnyx([PUBLIC_KEY], PCMU_8K).verify(Asked("POST", URL, headers, request.body), NOW)


# ---------------------------------------------------------------- Plivo


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "1OBLommETVpR/YSDMBhVCjEy9nOpybtKjeFhQ1J2O8E="),
        ("?tenant=acme&a=1", "GyKUum2wiawVK7La2VPz5KV/29i6yne6keU2bcfa9Fg="),
    ],
)
def test_known_signatures_of_plivo(query: str, expected: str) -> None:
    form = {"CallUUID": "u-1", "From": "15005550006", "Event": "StartApp"}
    url = f"https://br.example.com/plivo/answer{query}"
    assert signature("plivo-test-token", "POST", url, {k: [v] for k, v in form.items()}, "12345") == expected
    assert plivo_caller.sign("plivo-test-token", url, form, "12345") == expected


@settings(deadline=None, max_examples=60)
@given(queries, forms, st.sampled_from(("GET", "POST")))
def test_the_plivo_package_signs_as_we_do(
    query: dict[str, list[str]], form: dict[str, list[str]], method: str
) -> None:
    """Its package knows queries of ASCII only; a GET has no form."""
    url = URL + ("?" + urlencode(query, doseq=True) if query else "")
    if method == "GET":
        text, form = construct_get_url(url, {}), {}
    else:
        text = construct_post_url(url, {name: list(values) for name, values in form.items()})
    theirs = get_signature_v3(b"token", text.decode(), b"n0").decode()
    assert signature("token", method, url, form, "n0") == theirs
    body = urlencode(form, doseq=True).encode()
    headers = {"x_plivo_signature_v3": f"b3RoZXI=,{theirs}", "x_plivo_signature_v3_nonce": "n0"}
    assert Plivo(["old", "token"], PCMU_8K).verify(asked(method, url, body, **headers), 0) == "n0"
    with pytest.raises(NotVerified, match="wrong signature"):
        Plivo(["another"], PCMU_8K).verify(asked(method, url, body, **headers), 0)


def test_plivos_main_account_may_sign() -> None:
    given_ = signature("main", "POST", URL, {"CallUUID": ["c"]}, "n")
    headers = {"x_plivo_signature_ma_v3": given_, "x_plivo_signature_v3_nonce": "n"}
    assert Plivo(["main"], PCMU_8K).verify(asked("POST", URL, b"CallUUID=c", **headers), 0) == "n"


# ---------------------------------------------------------------- SignalWire


@pytest.mark.parametrize("header", ["x_signalwire_signature", "x_twilio_signature"])
def test_a_known_signature_of_signalwire(header: str) -> None:
    known = "BygiDNEDIWuYxVQHc7eGZTeXiBw="
    request = asked("POST", "https://br.example.com/sw", b"CallSid=c1", **{header: known})
    assert SignalWire(["old", "PSKtest"], PCMU_8K).verify(request, 0) == known
    with pytest.raises(NotVerified, match="wrong signature"):
        SignalWire(["old"], PCMU_8K).verify(request, 0)


def test_signalwire_may_sign_the_raw_body() -> None:
    known = "a250c3e85866aee72199646fde5538417ea81e4f"
    request = asked("POST", "https://br.example.com/sw", b'{"a":1}', x_signalwire_signature=known)
    assert SignalWire(["PSKtest"], PCMU_8K).verify(request, 0) == known
    changed = asked("POST", "https://br.example.com/sw", b'{"a":2}', x_signalwire_signature=known)
    with pytest.raises(NotVerified, match="wrong signature"):
        SignalWire(["PSKtest"], PCMU_8K).verify(changed, 0)


@settings(deadline=None, max_examples=30)
@given(words)
def test_our_own_signalwire_signs_as_twilios_package_does(called: str) -> None:
    request = SignalWireSide("PSKtest").voice(URL, "c", "+1", called)
    form = {name: values[0] for name, values in Asked("POST", URL, {}, request.body).form().items()}
    theirs = RequestValidator("PSKtest").compute_signature(URL, form)
    assert request.headers["X-SignalWire-Signature"] == theirs
    headers = {"x-signalwire-signature": theirs}
    assert SignalWire(["PSKtest"], PCMU_8K).verify(Asked("POST", URL, headers, request.body), 0) == theirs


# ---------------------------------------------------------------- Vonage


BODY = b'{"from":"447700900000","uuid":"c"}'


def claims(**changed: Any) -> dict[str, Any]:
    told = {"iat": NOW, "jti": "j", "iss": "Vonage", "payload_hash": hashlib.sha256(BODY).hexdigest()}
    return {name: value for name, value in {**told, **changed}.items() if value is not None}


def vonage(body: bytes = BODY, secret: str = SECRET, algorithm: str = "HS256", **changed: Any) -> Asked:
    """Signed by PyJWT, which Vonage's own package uses."""
    token = jwt.encode(claims(**changed), secret, algorithm=algorithm)
    return asked("POST", URL, body, authorization=f"Bearer {token}")


def verified(request: Asked, now_s: float = NOW) -> str:
    return Vonage(["old", SECRET], PCM_16K).verify(request, now_s)


def test_a_token_of_vonage() -> None:
    assert verified(vonage()) == "j"
    assert verified(vonage(body=b'{"from": "447700900000", "uuid": "c"}')) == "j", "hashed as compact JSON"
    assert verified(vonage(jti=None)) != verified(vonage(jti=None, iat=NOW + 1))
    assert verified(vonage(payload_hash=None)) == "j"


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (vonage(secret="another-secret-of-a-sufficient-length"), "wrong signature"),
        (vonage(secret=SECRET * 2, algorithm="HS384"), "its token is signed in another way"),
        (vonage(iat=NOW - CLOCK_SKEW_S - 1), "its signature has expired"),
        (vonage(iat=NOW + CLOCK_SKEW_S + 1), "its signature has expired"),
        (vonage(iat=None), "its signature has expired"),
        (vonage(exp=NOW - 1), "its signature has expired"),
        (vonage(body=BODY.replace(b"9", b"8")), "the payload is not the one that was signed"),
        (asked("POST", URL, BODY), "not signed"),
        (asked("POST", URL, BODY, authorization="Basic eDp5"), "not signed"),
        (asked("POST", URL, BODY, authorization="Bearer a.b"), "its token is none"),
    ],
)
def test_what_vonage_did_not_sign(request_: Asked, why: str) -> None:
    with pytest.raises(NotVerified, match=why):
        verified(request_)


def test_a_token_that_nobody_signed_is_none() -> None:
    token = jwt.encode(claims(), None, algorithm="none")
    with pytest.raises(NotVerified):
        verified(asked("POST", URL, BODY, authorization=f"Bearer {token}"))
    with pytest.raises(NotVerified):
        verified(asked("POST", URL, BODY, authorization=f"Bearer {token}AAAA"))


def test_the_parameters_of_a_get_are_hashed_as_an_object() -> None:
    fields = {"to": "447700900001", "from": "447700900000", "uuid": "c", "x": "ü&"}
    written = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    token = jwt.encode(claims(payload_hash=hashlib.sha256(written).hexdigest()), SECRET)
    headers = {"authorization": f"Bearer {token}"}
    assert verified(asked("GET", f"{URL}?{urlencode(fields)}", b"", **headers)) == "j"
    with pytest.raises(NotVerified, match="the payload"):
        verified(asked("GET", f"{URL}?{urlencode({**fields, 'uuid': 'd'})}", b"", **headers))


def test_the_package_of_vonage_takes_the_tokens_of_our_own_vonage() -> None:
    request = VonageSide(SECRET, clock=lambda: NOW).voice(URL, "c", "+1", "+2")
    token = request.headers["Authorization"].removeprefix("Bearer ")
    assert verify_signature(token, SECRET)
    assert not verify_signature(token, SECRET[::-1])
    assert verified(asked("POST", URL, request.body, authorization=f"Bearer {token}"))
