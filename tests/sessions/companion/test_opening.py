"""From settings to an address: the creation over HTTP, its refusals, and the token."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import Ending, SessionEnd
from telbridge.sessions.base import ConnectRequest, HttpRequest, Opening
from telbridge.sessions.companion.opening import MOST_TRIES, decode_token, refusal, retry_after_s
from telbridge.sessions.companion.protocol import PROVIDER
from telbridge.sessions.companion.settings import CompanionSettings
from telbridge.sessions.credentials import SecretMissing, SecretRef
from telbridge.sessions.wire import Malformed

KEY = {"NAPSTER_API_KEY": "key-secret"}


def protocol(environ: dict[str, str] | None = None, **settings: Any) -> Any:
    settings = settings if "agent_id" in settings else {"companionId": "comp_1", **settings}
    opening = Opening("call-1", PCMU_8K, KEY if environ is None else environ)
    return PROVIDER.open(CompanionSettings(**settings), opening)


def answer(content: object, **more: Any) -> bytes:
    plain = content if isinstance(content, bytes) else json.dumps(content).encode()
    fields = {"token": base64.b64encode(plain).decode(), "connection": {"id": "conn_1"}, **more}
    return json.dumps(fields).encode()


def request_of(session: Any) -> HttpRequest:
    step = session.next_step()
    assert isinstance(step, HttpRequest)
    return step


def end_after(status: int | None, body: bytes = b"", headers: dict[str, str] | None = None) -> SessionEnd:
    """The end when every try is answered like this."""
    session = protocol()
    for _ in range(MOST_TRIES):
        step = session.next_step()
        if isinstance(step, SessionEnd):
            return step
        session.http_answered(status, headers or {}, body)
    step = session.next_step()
    assert isinstance(step, SessionEnd)
    return step


# -- the request


def test_an_ad_hoc_session_is_created_around_a_companion():
    request = request_of(protocol(providerConfig={"voiceId": "alloy"}))
    assert request.method == "POST"
    assert request.url == "https://companion-api.napster.com/public/ws-connections"
    assert request.headers == {"X-Api-Key": "key-secret"}
    assert request.after_s == 0
    assert request.json == {
        "companionId": "comp_1",
        "disableIdleTimeout": True,
        "providerConfig": {"voiceId": "alloy"},
    }


def test_an_agents_session_has_only_what_its_connections_take():
    request = request_of(
        protocol(
            agent_id="agent/1",
            modality="audio",
            externalClientId="u1",
            tags={"a": "b"},
            companionId="ignored",
            language="es",
            providerConfig={"voiceId": "alloy"},
        )
    )
    assert request.url == "https://companion-api.napster.com/public/agents/agent%2F1/connections"
    assert request.json == {
        "channelType": "websocket",
        "modality": "audio",
        "externalClientId": "u1",
        "tags": {"a": "b"},
    }


def test_an_empty_turn_detection_asks_for_the_defaults_and_is_sent():
    body = request_of(protocol(providerConfig={"settings": {"turnDetection": {}, "noiseReduction": {}}})).json
    assert body is not None
    assert body["providerConfig"] == {"settings": {"turnDetection": {}}}


def test_raw_is_merged_last():
    raw = {"companionId": "newer", "providerConfig": {"settings": {"speed": 1.1}}}
    body = request_of(protocol(providerConfig={"settings": {"temperature": 0.2}}, raw=raw)).json
    assert body is not None
    assert body["companionId"] == "newer"
    assert body["providerConfig"] == {"settings": {"temperature": 0.2, "speed": 1.1}}


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8099", "http://127.0.0.1:8099"),
        ("ws://localhost:8099/", "http://localhost:8099"),
        ("wss://proxy.example/napster", "https://proxy.example/napster"),
    ],
)
def test_the_address_may_be_anothers(url, base):
    session = protocol(url=url)
    assert request_of(session).url == f"{base}/public/ws-connections"
    session.http_answered(200, {}, answer({"url": "wss://e/?token=t"}))
    assert session.afterword().url == f"{base}/public/connections/conn_1"


# -- the key


def test_without_a_key_there_is_no_session():
    with pytest.raises(SecretMissing, match=r"api_key: NAPSTER_API_KEY is not set"):
        protocol({})


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://localhost:1", "http://[::1]:1"])
def test_on_this_machine_no_key_is_needed(url):
    assert request_of(protocol({}, url=url)).headers == {}
    # The vendor's key is nobody else's business; one that is named for this agent goes to it.
    assert request_of(protocol(url=url)).headers == {}
    named = protocol({"MINE": "k2"}, url=url, api_key=SecretRef(env="MINE"))
    assert request_of(named).headers == {"X-Api-Key": "k2"}


def test_the_key_may_stand_in_another_variable():
    session = protocol({"OTHER": "k2"}, api_key=SecretRef(env="OTHER"))
    assert request_of(session).headers == {"X-Api-Key": "k2"}


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(SecretMissing) as missing:
        protocol({"NAPSTER_API_KEY": key})
    assert key not in str(missing.value)


# -- the answer


def test_an_address_that_carries_its_token_is_used_as_it_is():
    session = protocol()
    request_of(session)
    url = "https://edge.example:8443/a/b?x=1&token=t%2B0"
    session.http_answered(201, {}, answer({"url": url, "token": "t", "expiresAt": "2026-12-01T00:00:00Z"}))
    step = session.next_step()
    assert isinstance(step, ConnectRequest)
    assert step.url == "wss://edge.example:8443/a/b?x=1&token=t%2B0"
    assert step.headers == {}


@pytest.mark.parametrize(
    ("content", "bearer"),
    [
        ({"url": "https://e/ws", "authToken": "a"}, "a"),
        ({"url": "https://e/ws", "token": "t"}, "t"),
        ({"url": "https://e/ws", "authToken": "a", "token": "t"}, "a"),
    ],
)
def test_other_addresses_want_a_header(content, bearer):
    request = decode_token(base64.b64encode(json.dumps(content).encode()).decode())
    assert (request.url, request.headers) == ("wss://e/ws", {"Authorization": f"Bearer {bearer}"})


@pytest.mark.parametrize(
    ("url", "websocket"),
    [
        ("http://127.0.0.1:9/w?token=t", "ws://127.0.0.1:9/w?token=t"),
        ("wss://e/w?token=t", "wss://e/w?token=t"),
        ("HTTPS://e/w?token=t", "wss://e/w?token=t"),
    ],
)
def test_the_scheme_becomes_a_websockets(url, websocket):
    assert decode_token(base64.b64encode(json.dumps({"url": url}).encode()).decode()).url == websocket


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_tokens_are_read_in_either_alphabet_with_or_without_padding(rest):
    plain = json.dumps({"url": "https://e/", "token": "t", "x": rest}).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for encoded in (encode(plain).decode(), encode(plain).decode().rstrip("=")):
            assert decode_token(encoded).url == "wss://e/"


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        [],
        {},
        {"url": 1},
        {"url": "ftp://e/"},
        {"url": "https://"},
        {"url": "https://[::1"},
        {"url": "https://e:port/"},
        {"url": "https://e/ x"},
        {"url": "https://e/", "token": "a\r\nb"},
    ],
)
def test_a_token_that_cannot_be_used_ends_the_opening_and_frees_the_place(content):
    session = protocol()
    request_of(session)
    session.http_answered(200, {}, answer(content))
    end = session.next_step()
    assert isinstance(end, SessionEnd)
    assert end.ending is Ending.AGENT_UNREACHABLE
    assert "token" in end.detail
    assert session.afterword().method == "DELETE"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 5}', b'{"token": "%%%"}', b"\xff\xfe"])
def test_an_answer_without_a_token_ends_the_opening(body):
    assert end_after(200, body).ending is Ending.AGENT_UNREACHABLE


@given(st.text())
def test_no_token_whatever_it_is_raises_anything_else(token):
    try:
        decode_token(token)
    except Malformed as fault:
        assert token not in str(fault) or len(token) < 12


# -- put off


def test_who_is_told_to_come_back_later_does_so_when_told():
    session = protocol()
    assert request_of(session).after_s == 0
    session.http_answered(429, {"Retry-After": "5"}, b"")
    assert 5 <= request_of(session).after_s < 6
    session.http_answered(200, {}, answer({"url": "wss://e/?token=t"}))
    assert isinstance(session.next_step(), ConnectRequest)


def test_calls_that_were_refused_together_do_not_come_back_together():
    waits = set()
    for number in range(20):
        opening = Opening(f"call-{number}", PCMU_8K, KEY)
        session = PROVIDER.open(CompanionSettings(companionId="c"), opening)
        session.next_step()
        session.http_answered(429, {"retry-after": "1"}, b"")
        waits.add(request_of(session).after_s)
    assert len(waits) > 15


@pytest.mark.parametrize(("status", "waits"), [(409, [1, 2, 4]), (503, [0.5, 1, 2]), (None, [0.5, 1, 2])])
def test_without_a_time_to_wait_each_try_waits_twice_as_long_and_they_are_bounded(status, waits):
    session = protocol()
    waited = []
    while isinstance(step := session.next_step(), HttpRequest):
        waited.append(step.after_s)
        session.http_answered(status, {}, b"")
    assert waited == [0, *waits]
    assert step.ending is Ending.AGENT_UNREACHABLE
    assert step.may_reconnect
    assert "4 tries" in step.detail


def test_who_is_told_to_wait_long_gives_up_at_once():
    end = end_after(429, headers={"Retry-After": "60"})
    assert "60" in end.detail
    assert end.ending is Ending.AGENT_UNREACHABLE


def test_too_many_sessions_say_so():
    body = json.dumps([{"code": "ConcurrentSessionLimitReached", "description": "Limit reached."}]).encode()
    detail = end_after(409, body).detail
    assert "ConcurrentSessionLimitReached" in detail
    assert "as many sessions" in detail


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3),
        ({"retry-after": " 0 "}, 0),
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        (
            {"Retry-After": "Sat, 21 Nov 2026 10:00:07 GMT", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"},
            7,
        ),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:07 GMT"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:07 -0000", "Date": "Sat, 21 Nov 2026 10:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers) == seconds


# -- refused


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "HTTP 400"),
        (401, "check companion.api_key"),
        (403, "project"),
        (404, "companionId"),
        (302, "302"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_check(status, words):
    session = protocol()
    request_of(session)
    session.http_answered(status, {}, b"")
    end = session.next_step()
    assert isinstance(end, SessionEnd)
    assert (end.ending, end.may_reconnect) == (Ending.AGENT_REFUSED, False)
    assert words in end.detail
    assert session.afterword() is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([{"code": "VoiceRequired", "description": "Voice id is required."}], "VoiceRequired; Voice id is"),
        ({"title": "One or more…", "errors": {"Language": ["Bad."]}}, "One or more…; Language: Bad."),
        ({"title": "Bad Request", "detail": "No such tool."}, "Bad Request; No such tool."),
        ({"errors": {"X": "plain"}}, "X: plain"),
        ({"code": 7, "errors": []}, "HTTP 400"),
        ([1, None], "HTTP 400"),
        ("text", "HTTP 400"),
    ],
)
def test_error_bodies_of_every_shape_are_read(body, words):
    assert words in refusal(400, json.dumps(body).encode())


def test_what_the_api_says_of_a_refused_key_is_not_repeated():
    assert "key-secret" not in refusal(401, b'{"detail": "key-secret is no key"}')


@given(
    st.integers(100, 599), st.binary() | st.text().map(lambda words: json.dumps({"title": words}).encode())
)
def test_no_error_body_makes_more_than_one_short_line(status, body):
    line = refusal(status, body)
    assert len(line) < 400
    assert line.isprintable()
