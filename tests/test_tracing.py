"""Calls as OpenTelemetry spans: what is told of a call, to whom, and that a collector understands it."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import telbridge
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import CallFacts, Ending
from telbridge.call.journal import Happening
from telbridge.call.ports import OutsideFailed
from telbridge.call.summary import SessionSetup
from telbridge.call.turns import ToolTime, Turn
from telbridge.config import ConfigErrors
from telbridge.dialplan.orders import CallHttp, CallPython, CallWebhook
from telbridge.legs.sip.message import parse_invite
from telbridge.ops.spans import CallTrace, Span, spans_of
from telbridge.ops.trace_context import TraceContext, carried, parsed
from telbridge.ops.tracing import Tracing
from telbridge.serving import tracing_settings
from telbridge.serving.outside import World
from telbridge.serving.traced import TracedOutside, Traces
from telbridge.serving.tracing_settings import TracingSection
from tests.legs.carrier_bed import KEYS, carrier_bed, url_of
from tests.legs.stream_bed import TOKEN
from tests.otlp import collecting
from tests.serving.test_web import answers, serving
from tests.test_metrics import ANSWERED, FACTS, NUMBER, a_summary

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CARRIED = f"00-{TRACE}-{PARENT}-01"
WORDS = "my card is 4111"
STARTED_NS = 1_800_000_000 * 10**9
MS = 10**6
TURN = Turn(
    agent="deepgram",
    caller_started_ms=1500,
    voice_ended_ms=2000,
    uplink_sent_ms=2001,
    caller_stopped_ms=2300,
    agent_first_audio_ms=2800,
    agent_first_frame_ms=2815,
    agent_on_wire_ms=2816,
    caller_text=WORDS,
    agent_text=WORDS,
    tools=[ToolTime("look_up", 2310, 150), ToolTime(f"call_{NUMBER}", 2320, 200)],
    interruption=ANSWERED.interruption,
    replies=ANSWERED.replies,
)
EVENTS = [
    Happening(0, "ringing"),
    Happening(9, "webhook"),
    Happening(600, "key", {"method": "rfc4733"}),
    Happening(7000, "session_lost", {"error": WORDS}),
    Happening(7900, "session_back"),
    Happening(9000, "transfer_requested", {"target": NUMBER}),
    Happening(9500, "transfer_failed", {"target": NUMBER, "cause": "486", "error": WORDS}),
]


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def a_trace(*, sampled: bool = True) -> CallTrace:
    context = TraceContext(int(TRACE, 16), 0xC0FFEE, sampled)
    return CallTrace(context, parsed(CARRIED), clock=lambda: 0, wall_ns=STARTED_NS)


def a_talk(**changes: Any) -> list[Span]:
    """Of a call in which all happened that becomes a span."""
    setups = [SessionSetup("deepgram", 10, 120, 80), SessionSetup("openai", 3000, 50, None, 5000)]
    summary = a_summary(
        turns=[Turn("deepgram"), TURN],
        sessions=setups,
        events=EVENTS,
        agent_speech=[(2816, 4000), (4300, 5020)],
        **changes,
    )
    return list(spans_of(summary, a_trace(), {"look_up"}))


# -------------------------------------------------------------------- the context


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_survives_its_header(trace_id: int, span_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id, span_id, sampled)
    assert parsed(context.header) == context


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        CARRIED.upper(),
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT[:-1]}g-01",
        f"00-{TRACE}-{PARENT}-01\r\nX-Evil: 1",
    ],
)
def test_a_header_that_is_none_is_no_context(header: str) -> None:
    assert parsed(header) is None


def test_a_later_version_may_say_more() -> None:
    assert parsed(f"01-{TRACE}-{PARENT}-03-more") == TraceContext(int(TRACE, 16), int(PARENT, 16), True)


def test_a_call_comes_with_the_trace_of_its_invite() -> None:
    invite = parse_invite(
        f"INVITE sip:100@host SIP/2.0\r\nFrom: <sip:a@b>\r\nTraceparent: {CARRIED}\r\nCall-ID: x\r\n\r\n"
    )
    facts = CallFacts("c", "sip", "", "", "", PCMU_8K, headers=invite.headers)
    assert carried(facts) == parsed(CARRIED)
    assert carried(CallFacts("c", "generic", "", "", "", PCMU_8K)) is None
    by_parameter = CallFacts("c", "audiosocket", "", "", "", PCMU_8K, parameters={"traceparent": CARRIED})
    assert carried(by_parameter) == parsed(CARRIED)


# -------------------------------------------------------------------- the map


def one(spans: list[Span], name: str, **attributes: Any) -> Span:
    (found,) = [span for span in spans if span.name == name and attributes.items() <= span.attributes.items()]
    return found


def times_ms(span: Span) -> tuple[float, float]:
    return (span.start_ns - STARTED_NS) / MS, (span.end_ns - STARTED_NS) / MS


def test_a_call_is_a_tree_of_spans_with_the_times_of_its_record() -> None:
    spans = a_talk()
    root, turn = spans[0], one(spans, "turn")
    assert (root.name, root.parent_id, root.span_id) == ("call", None, 0xC0FFEE)
    assert {span.parent_id for span in spans[1:]} == {root.span_id, turn.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert all(span.start_ns <= span.end_ns for span in spans)
    assert times_ms(root) == (0, 30_000)
    assert times_ms(one(spans, "session.connect", **{"telbridge.agent": "deepgram"})) == (10, 130)
    assert times_ms(one(spans, "session.configure", **{"telbridge.agent": "deepgram"})) == (130, 210)
    assert times_ms(turn) == (1500, 5020), "from the caller's first sign to the last of the answer"
    assert [(moment.name, moment.at_ns) for moment in turn.moments] == [
        ("interrupted", STARTED_NS + 5000 * MS)
    ]
    tool = one(spans, "tool", **{"gen_ai.tool.name": "look_up"})
    assert times_ms(tool) == (2310, 2460) and tool.parent_id == turn.span_id
    assert times_ms(one(spans, "session.reconnect")) == (7000, 7900)
    assert times_ms(one(spans, "transfer")) == (9000, 9500)
    assert one(spans, "transfer").error == "status 486"
    assert [moment.name for moment in root.moments] == ["ringing", "key"], (
        "what is a span is no event besides"
    )


def test_the_parts_of_a_turn_follow_each_other_and_add_up_to_its_gap() -> None:
    spans = a_talk()
    parts = [span for span in spans if span.name.startswith("turn.")]
    assert [span.name for span in parts] == [f"turn.{name}" for name in TURN.parts_ms]
    for before, after in pairwise(parts):
        assert before.end_ns == after.start_ns
    assert (parts[-1].end_ns - parts[0].start_ns) / MS == TURN.gap_ms
    assert one(spans, "turn").attributes["telbridge.turn_gap_ms"] == TURN.gap_ms


def test_what_did_not_come_is_an_error() -> None:
    spans = a_talk(ending=Ending.AGENT_LOST, detail=WORDS)
    assert spans[0].error == "agent_lost"
    late = one(spans, "session.configure", **{"telbridge.agent": "openai"})
    assert (late.error, times_ms(late)) == ("not acknowledged", (3050, 5000))
    never = a_summary(sessions=[SessionSetup("deepgram", 10)], turns=[])
    connect = list(spans_of(never, a_trace(), ()))[1]
    assert (connect.name, connect.error, times_ms(connect)) == (
        "session.connect",
        "no connection",
        (10, 30_000),
    )
    assert a_talk()[0].error is None


def test_nothing_in_a_trace_is_a_callers_own() -> None:
    told = repr(a_talk(ending=Ending.AGENT_LOST, detail=WORDS))
    for private in (NUMBER, NUMBER.removeprefix("+"), WORDS, FACTS.called, FACTS.peer):
        assert f"'{private}" not in told and f"_{private}" not in told, private


# -------------------------------------------------------------------- on the way to a collector


async def test_a_collector_gets_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    async with collecting() as collector:
        traces = Traces(TracingSection(enabled=True, endpoint=collector.url))
        trace = traces.begin(CallFacts(**{**_fields(FACTS), "headers": {"traceparent": CARRIED}}))
        assert trace is not None
        await traces.send(trace, a_summary(turns=[TURN], events=EVENTS), {"look_up"})
        await traces.aclose()
        spans = {span.name: span for span in await collector.spans(10)}
    root = spans["call"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert spans["turn"].parent_span_id == root.span_id
    assert spans["tool"].parent_span_id == spans["turn"].span_id
    assert spans["turn"].end_time_unix_nano - spans["turn.uplink"].start_time_unix_nano > 0
    assert collector.resource["service.name"] == "telbridge"
    assert collector.resource["deployment.environment.name"] == "test"


def _fields(facts: CallFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__dataclass_fields__}


def test_kinds_and_errors_are_those_of_opentelemetry() -> None:
    kept = InMemorySpanExporter()
    tracing = Tracing(exporter=kept)
    trace = tracing.begin(FACTS)
    trace.ask("webhook", **{"server.address": "crm.example"}).over("crm.example: answered 503")
    tracing.send(trace, spans_of(a_summary(ending=Ending.AGENT_LOST), trace, ()))
    tracing.close()
    spans = {span.name: span for span in kept.get_finished_spans()}
    assert (spans["call"].kind, spans["call"].status.status_code) == (SpanKind.SERVER, StatusCode.ERROR)
    assert spans["call"].parent is None
    assert (spans["webhook"].kind, spans["webhook"].status.description) == (
        SpanKind.CLIENT,
        "crm.example: answered 503",
    )
    assert spans["turn"].kind is SpanKind.INTERNAL


@pytest.mark.parametrize(
    ("sampler", "flags", "sampled"),
    [
        ("parentbased_always_on", "00", False),
        ("parentbased_always_off", "01", True),
        ("parentbased_always_off", None, False),
        ("always_on", "00", True),
        (None, None, True),
    ],
)
def test_the_environment_says_which_calls_are_sent(
    monkeypatch: pytest.MonkeyPatch, sampler: str | None, flags: str | None, sampled: bool
) -> None:
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    headers = {} if flags is None else {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
    kept = InMemorySpanExporter()
    tracing = Tracing(exporter=kept)
    trace = tracing.begin(CallFacts("c", "sip", "", "", "", PCMU_8K, headers=headers))
    assert trace.context.sampled is sampled
    assert trace.ask("webhook").traceparent.endswith("-01" if sampled else "-00")
    tracing.send(trace, spans_of(a_summary(), trace, ()))
    tracing.close()
    assert bool(kept.get_finished_spans()) is sampled


def test_a_callers_trace_is_followed_only_where_that_is_wanted() -> None:
    tracing = Tracing(exporter=InMemorySpanExporter(), follow_callers=False)
    trace = tracing.begin(CallFacts("c", "sip", "", "", "", PCMU_8K, headers={"traceparent": CARRIED}))
    tracing.close()
    assert trace.parent is None and trace.trace_id != TRACE


async def test_a_server_that_is_asked_is_told_which_span_asks() -> None:
    trace = a_trace()
    world = World(AgentSettings())
    async with serving(answers({"vip": True}), answers(status=404)) as crm:
        outside = TracedOutside(world.for_call({}), trace)
        headers = {"Traceparent": "of the dialplan's author", "X-Kept": "1"}
        webhook = CallWebhook(1, f"{crm.url}/by/{NUMBER}", {}, headers, 10.0, 0, None)
        assert await outside.webhook(webhook) == {"vip": True}
        with pytest.raises(OutsideFailed):
            await outside.http(CallHttp(2, "GET", f"{crm.url}/x", None, {}, 10.0))
        with pytest.raises(OutsideFailed):
            await outside.python(CallPython(3, "nowhere:at_all", {}, 10.0))
        await world.aclose()
    told = [parsed(headers["traceparent"]) for _, _, headers, _ in crm.requests]
    assert "of the dialplan's author" not in crm.requests[0][2].values()
    assert [(context.trace_id, context.span_id) for context in told if context] == [
        (int(TRACE, 16), span.span_id) for span in trace.asked[:2]
    ]
    assert [span.error for span in trace.asked] == [None, "127.0.0.1: answered 404", "it failed"]
    assert all(span.parent_id == trace.context.span_id for span in trace.asked)
    assert NUMBER not in repr(trace.asked)


# -------------------------------------------------------------------- off, and wrong


def imported_at_once(path: Path) -> set[str]:
    """Modules that a module loads when it is loaded itself."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{name.name}" for name in node.names)}
    return found


async def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    traces = Traces(TracingSection())
    assert traces.begin(FACTS) is None
    await traces.send(None, a_summary(), ())
    await traces.aclose()
    ours = Path(telbridge.__file__).parent
    texts = {path: path.read_text("utf-8") for path in ours.rglob("*.py")}
    knows = {str(path.relative_to(ours)) for path, text in texts.items() if "opentelemetry" in text}
    assert knows == {"ops/tracing.py", "serving/tracing_settings.py"}
    assert not any("opentelemetry" in name for name in imported_at_once(ours / "serving/tracing_settings.py"))
    names = [path for path, text in texts.items() if "tracing" in text]
    loads = [path for path in names if "telbridge.ops.tracing" in imported_at_once(path)]
    assert loads == [], "the one module that imports it is loaded when tracing is on"


def test_what_the_sdk_does_not_take_is_a_mistake_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000")
    with pytest.raises(ConfigErrors, match=r"tracing: .*OTEL_"):
        Traces(TracingSection(enabled=True))


def test_without_the_extra_it_cannot_be_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_settings, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'telbridge\[tracing\]'"):
        TracingSection(enabled=True)


# -------------------------------------------------------------------- from the carrier's requests


@pytest.mark.parametrize(
    ("kind", "method"), [("generic", "GET"), ("twilio", "GET"), ("twilio", "POST"), ("telnyx", "POST")]
)
async def test_a_stream_comes_with_the_trace_of_its_upgrade_or_its_webhook(
    kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a proxy before us writes it into the requests that it takes."""
    asked = aiohttp.ClientSession._request

    async def traced(http: Any, used: str, url: Any, **more: Any) -> Any:
        if used == method:
            more["headers"] = {**(more.get("headers") or {}), "traceparent": CARRIED}
        return await asked(http, used, url, **more)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", traced)
    async with carrier_bed(environ={**KEYS, "TWILIO_AUTH_TOKEN": TOKEN}) as bed:
        _, side = await bed.dial(bed.generic if kind == "generic" else url_of(bed, kind))
        assert carried(side.leg.facts) == parsed(CARRIED)
