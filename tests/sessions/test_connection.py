"""The WebSocket shell against a real server on the loopback, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog
from aiohttp import WSMsgType

from telbridge.audio.formats import PCMU_8K
from telbridge.call.events import (
    AgentAudio,
    AgentError,
    AgentEvent,
    BadMessage,
    CallerStartedSpeaking,
    CallerTranscript,
    Ending,
    ReplyId,
    SessionBack,
    SessionEnd,
    SessionLost,
    SessionReady,
)
from telbridge.call.playout import Heard
from telbridge.call.ports import Session, TextRole
from telbridge.sessions.base import Opening
from telbridge.sessions.connection import LOSSES, AgentConnection
from telbridge.sessions.credentials import SecretRef
from telbridge.sessions.openai.protocol import OpenAIRealtime
from telbridge.sessions.openai.settings import OpenAISettings
from telbridge.sessions.websocket import UPLINK_MAX_MS
from telbridge.sockets.tls import client_context
from tests.sessions.ws_bed import (
    KEY,
    MS20,
    NOW,
    a_protocol,
    descriptor,
    is_open,
    say,
    say_audio,
    turns,
    words,
)

# ---------------------------------------------------------------- a good session


async def test_a_session_from_connect_to_hang_up(server, dial):
    async def script(ws):
        await server.set_up(ws)
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url)
    call.session.send_audio(MS20)  # while it rings: nobody's loss
    await call.until(SessionReady)
    call.session.send_audio(MS20)
    call.session.say("Hello.")
    while len(server.received) < 3:
        server.got.clear()
        await server.got.wait()
    call.session.close()
    end = await call.end()
    await server.left.wait()
    assert end == SessionEnd(Ending.AGENT_HUNG_UP, "closed by us")
    assert server.kinds() == ["session.update", "input_audio_buffer.append", "response.create"]
    assert server.close_code == 1000
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    assert "Sec-WebSocket-Extensions" not in server.headers
    assert call.session.uplink_dropped_ms == 0


def test_the_shell_is_what_the_call_takes_for_a_session():
    session: Session = AgentConnection(None, None, log=structlog.get_logger())  # type: ignore[arg-type]
    assert isinstance(session, AgentConnection)


async def test_the_agent_hangs_up(server, dial):
    async def script(ws):
        await server.set_up(ws)
        await ws.close(code=1000, message=b"goodbye")

    server.script = script
    end = await dial(server.url).end()
    await server.left.wait()
    assert end == SessionEnd(Ending.AGENT_HUNG_UP, "close 1000: goodbye")
    assert server.close_code == 1000  # our answer came


async def test_everything_is_harmless_after_the_end(server, dial):
    async def script(ws):
        await server.set_up(ws)
        await ws.close()

    server.script = script
    call = dial(server.url)
    await call.end()
    call.session.send_audio(MS20)
    call.session.say("Hello.")
    call.session.send_text("x", role=TextRole.CALLER, respond=True)
    call.session.report_heard([Heard(ReplyId(1), 1, 1, 8000)])
    call.session.pause_reading()
    call.session.resume_reading()
    call.session.close()
    call.session.close()


async def test_thirty_seconds_in_one_message(server, dial):
    async def script(ws):
        await server.set_up(ws)
        await say(ws, "response.created", response={"id": "r1"})
        await say_audio(ws, bytes(240_000))
        await ws.close()

    server.script = script
    call = dial(server.url)
    assert (await call.end()).ending is Ending.AGENT_HUNG_UP
    (audio,) = (event for event in call.events if isinstance(event, AgentAudio))
    assert len(audio.audio) == 240_000


async def test_garbage_is_told_and_the_session_goes_on(server, dial):
    async def script(ws):
        await server.set_up(ws)
        await ws.send_str("{not json")
        await ws.send_bytes(b"\xff\x00")
        await say(ws, "input_audio_buffer.speech_started", audio_start_ms=0, item_id="i")
        await ws.close()

    server.script = script
    call = dial(server.url)
    await call.end()
    assert [type(event) for event in call.events] == [
        SessionReady,
        BadMessage,
        BadMessage,
        CallerStartedSpeaking,
    ]


async def test_a_flush_reported_inside_an_event_is_sent_at_once(server, http):
    async def script(ws):
        await server.set_up(ws)
        await say(ws, "response.created", response={"id": "r1"})
        await say_audio(ws, bytes(8000))
        await say(ws, "input_audio_buffer.speech_started", audio_start_ms=0, item_id="i")
        await server.hear(ws)
        await ws.close()

    server.script = script
    protocol = a_protocol(server.url)
    session = AgentConnection(protocol, http, log=structlog.get_logger())

    def on_event(event: AgentEvent) -> None:
        if isinstance(event, CallerStartedSpeaking):
            session.report_heard([Heard(ReplyId(1), 4000, 4000, 8000)])

    await session.run(on_event)
    assert server.received[-1]["audio_end_ms"] == 500


async def test_a_burst_of_frames_in_one_turn_of_the_loop_is_no_network_that_fell_behind(server, dial):
    """After a stall the leg catches up all at once, and a young connection sends ten packets unanswered."""
    frames = UPLINK_MAX_MS // 20

    async def script(ws):
        await server.set_up(ws)
        for _ in range(frames):
            await server.hear(ws)
        await ws.close()

    server.script = script
    call = dial(server.url)
    await call.until(SessionReady)
    for _ in range(frames):
        call.session.send_audio(MS20)
    assert (await call.end()).ending is Ending.AGENT_HUNG_UP
    assert call.session.uplink_dropped_ms == 0
    assert len(server.received) == 1 + frames


# ---------------------------------------------------------------- never ready


async def test_nobody_listens(dial):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        end = await dial(f"ws://127.0.0.1:{unused.getsockname()[1]}").end()
    assert end.ending is Ending.AGENT_UNREACHABLE


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_peer_that_never_answers_the_handshake(dial, scheme):
    with socket.socket() as blackhole:
        blackhole.bind(("127.0.0.1", 0))
        blackhole.listen(1)
        url = f"{scheme}://127.0.0.1:{blackhole.getsockname()[1]}"
        end = await dial(url, connect_s=0.05).end()
    assert end.ending is Ending.AGENT_UNREACHABLE
    assert end.detail.startswith("no connection within 0.05 s")


async def test_a_peer_that_never_configures(server, dial):
    async def script(ws):
        await server.hear(ws)

    server.script = script
    end = await dial(server.url, setup_s=0.05).end()
    assert end == SessionEnd(
        Ending.AGENT_UNREACHABLE,
        "not configured within 0.05 s; before the session was ready",
        may_reconnect=True,
    )
    await server.left.wait()


@pytest.mark.parametrize(("status", "ending"), [(401, Ending.AGENT_REFUSED), (503, Ending.AGENT_UNREACHABLE)])
async def test_a_status_instead_of_the_upgrade(server, dial, status, ending):
    server.status = status
    assert (await dial(server.url).end()).ending is ending


async def test_a_peer_that_closes_at_once(server, dial):
    async def script(ws):
        await ws.close(code=1011, message=b"busy")

    server.script = script
    end = await dial(server.url).end()
    assert end == SessionEnd(
        Ending.AGENT_UNREACHABLE, "close 1011: busy; before the session was ready", may_reconnect=True
    )


async def test_a_peer_that_does_not_want_our_shape_of_protocol(server, dial):
    async def script(ws):
        await ws.close(code=4000, message=b"beta_api_shape_disabled")

    server.script = script
    assert (await dial(server.url).end()).ending is Ending.AGENT_REFUSED


async def test_a_refused_configuration_is_told_and_ends_the_session(server, dial):
    async def script(ws):
        await say(ws, "session.created", session={})
        await server.hear(ws)
        await say(ws, "error", error={"type": "t", "code": "invalid_value", "message": "m"})
        await server.hear(ws)

    server.script = script
    call = dial(server.url, setup_s=60)
    end = await call.end()
    assert call.events == [AgentError("invalid_value", "m", at_setup=True)]
    assert end == SessionEnd(Ending.AGENT_REFUSED, "configuration refused: invalid_value")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_caller_gives_up_while_we_connect(dial, scheme):
    with socket.socket() as blackhole:
        blackhole.bind(("127.0.0.1", 0))
        blackhole.listen(1)
        call = dial(f"{scheme}://127.0.0.1:{blackhole.getsockname()[1]}")
        await turns()
        call.session.close()
        assert (await call.end()).detail == "closed by us"


async def test_closed_before_it_ran(dial):
    call = dial("ws://127.0.0.1:9")
    call.session.close()
    assert (await call.end()).detail == "closed by us"


# ---------------------------------------------------------------- lost


async def test_the_connection_breaks(server, dial):
    async def script(ws):
        await server.set_up(ws)
        server.transport.abort()

    server.script = script
    end = await dial(server.url).end()
    assert end.ending is Ending.AGENT_LOST


async def test_the_connection_ends_without_a_close_frame(server, dial):
    """aiohttp itself calls this 1000, which would be an agent that hung up."""

    async def script(ws):
        await server.set_up(ws)
        server.transport.close()

    server.script = script
    end = await dial(server.url).end()
    assert end.ending is Ending.AGENT_LOST


async def test_a_peer_that_answers_no_ping_is_lost(server, dial):
    silent = asyncio.Event()

    async def script(ws):
        await server.set_up(ws)
        await silent.wait()

    server.script = script
    end = await dial(server.url, beat_s=0.02).end()
    silent.set()
    assert end == SessionEnd(Ending.AGENT_LOST, "no sign of life", may_reconnect=True)
    await server.left.wait()


async def test_a_peer_that_answers_pings_may_be_silent(server, dial):
    pings = asyncio.Queue()
    server.options = {"autoping": False}

    async def script(ws):
        await server.set_up(ws)
        for _ in range(4):
            message = await ws.receive()
            assert message.type is WSMsgType.PING
            pings.put_nowait(message)
            await ws.pong(message.data)
        await ws.close(code=1000)

    server.script = script
    # Longer than the set-up may take: that bound ended with the set-up.
    call = dial(server.url, beat_s=0.02, setup_s=0.1)
    assert (await call.end()).ending is Ending.AGENT_HUNG_UP
    assert pings.qsize() == 4


async def test_pings_of_the_peer_are_answered(server, dial):
    pongs = asyncio.Queue()
    server.options = {"autoping": False}

    async def script(ws):
        await server.set_up(ws)
        await ws.ping(b"are you there")
        pongs.put_nowait(await ws.receive())
        await ws.close()

    server.script = script
    await dial(server.url).end()
    pong = pongs.get_nowait()
    assert (pong.type, pong.data) == (WSMsgType.PONG, b"are you there")


async def test_a_peer_that_does_not_answer_our_close_is_cut_within_the_bound(server, dial):
    stubborn = asyncio.Event()

    async def script(ws):
        await server.set_up(ws)
        await stubborn.wait()

    server.script = script
    call = dial(server.url, close_s=0.05)
    await call.until(SessionReady)
    call.session.close()
    async with asyncio.timeout(8):
        await call.end()
    stubborn.set()
    await server.left.wait()


# ---------------------------------------------------------------- bugs and cancellation


async def test_an_exception_of_the_call_comes_out_of_run_and_the_socket_is_closed(server, http):
    async def script(ws):
        await server.set_up(ws)
        await server.hear(ws)

    def on_event(event: AgentEvent) -> None:
        raise OSError("a bug that looks like a network fault")

    server.script = script
    protocol = a_protocol(server.url)
    with pytest.raises(OSError, match="a bug"):
        await AgentConnection(protocol, http, log=structlog.get_logger()).run(on_event)
    await server.left.wait()


@pytest.mark.parametrize("moment", ["connecting", "setting up", "ready", "paused"])
async def test_cancellation_leaves_no_task_and_no_open_socket(server, http, dial, moment):
    async def script(ws):
        if moment != "setting up":
            await server.set_up(ws)
        server.got.set()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url)
    if moment == "setting up":
        await server.got.wait()
    elif moment != "connecting":
        await call.until(SessionReady)
    if moment == "paused":
        call.session.pause_reading()
    await turns()
    fd = descriptor(call) if moment != "connecting" else None
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    if moment != "connecting":
        await server.left.wait()
    await turns()
    assert fd is None or not is_open(fd)
    assert not http.connector._acquired


async def test_a_foreign_http_session_is_refused_with_the_remedy(server, trusted):
    async def script(ws):
        await server.hear(ws)

    server.script = script
    protocol = a_protocol(server.url)
    connector = aiohttp.TCPConnector(ssl=client_context())
    async with aiohttp.ClientSession(connector=connector) as foreign:
        with pytest.raises(TypeError, match="make_http_session"):
            await AgentConnection(protocol, foreign, log=structlog.get_logger()).run(lambda event: None)


# ---------------------------------------------------------------- falling behind


@asynccontextmanager
async def stalled(server, dial, **options):
    """A ready session whose peer reads nothing until told; yields (call, let_it_read)."""
    read_on = asyncio.Event()

    async def script(ws):
        await server.set_up(ws)
        server.transport.pause_reading()
        await read_on.wait()
        server.transport.resume_reading()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url, **options)
    await call.until(SessionReady)
    yield call, read_on.set
    read_on.set()
    call.session.close()
    await call.end()
    await server.left.wait()


async def talk_until_dropped(session: AgentConnection, most: int = 20_000) -> int:
    """Frames it takes until the first is dropped."""
    for sent in range(most):
        session.send_audio(MS20)
        await asyncio.sleep(0)
        if session.uplink_dropped_ms:
            return sent
    raise AssertionError("nothing was ever dropped")


async def test_a_slow_reader_costs_the_oldest_audio_counted_and_no_control(server, dial):
    async with stalled(server, dial) as (call, let_it_read):
        session = call.session
        await talk_until_dropped(session)
        before = session.uplink_dropped_ms
        for _ in range(50):
            session.send_audio(MS20)
        assert session.uplink_dropped_ms == before + 1000
        queued = session._link._exchange.outgoing._audio_octets
        assert queued == PCMU_8K.bytes_for_ms(UPLINK_MAX_MS)
        session.send_text("first", role=TextRole.CALLER, respond=False)
        session.send_text("second", role=TextRole.CALLER, respond=True)
        newest = bytes(160)
        session.send_audio(newest)
        let_it_read()
        expected = base64.b64encode(newest).decode()
        while not (server.received and server.received[-1].get("audio") == expected):
            server.got.clear()
            await server.got.wait()
        kinds = [kind for kind in server.kinds() if kind != "input_audio_buffer.append"]
        assert kinds == ["session.update"] + ["conversation.item.create"] * 2 + ["response.create"]
        # Control went before the audio that waited: exactly the bound's worth of frames came after it.
        behind = len(server.received) - 1 - server.kinds().index("response.create")
        assert behind == UPLINK_MAX_MS // 20


async def test_a_message_larger_than_any_buffer_arrives_whole_and_in_order(server, dial):
    async with stalled(server, dial) as (call, let_it_read):
        call.session.send_text("x" * 700_000, role=TextRole.CALLER, respond=False)
        call.session.send_text("after", role=TextRole.CALLER, respond=False)
        call.session.send_audio(MS20)
        await turns()
        let_it_read()
        while "input_audio_buffer.append" not in server.kinds():
            server.got.clear()
            await server.got.wait()
        texts = [message["item"]["content"][0]["text"] for message in server.received[1:3]]
        assert texts == ["x" * 700_000, "after"]


async def test_the_kernel_hides_no_minutes_of_speech(server, dial):
    """What is lost to sight in buffers until the first drop: seconds, not the minutes that the kernel's
    own bound would hold."""
    async with stalled(server, dial) as (call, _):
        frames = await talk_until_dropped(call.session)
        assert frames < 1_000  # 20 s; measured 153, and 14 844 with the kernel's own bound


async def test_closing_towards_a_peer_that_reads_nothing_is_bounded(server, dial):
    async with stalled(server, dial, close_s=0.05) as (call, _):
        call.session.send_text(
            "x" * 5_000_000, role=TextRole.CALLER, respond=False
        )  # most of it stays in the transport
        await turns()
        fd = descriptor(call)
        call.session.close()
        async with asyncio.timeout(8):
            await call.end()
        await turns()
        assert not is_open(fd)


async def test_control_without_end_towards_a_peer_that_reads_nothing_ends_the_session(server, dial):
    async with stalled(server, dial, close_s=0.05) as (call, _):
        for _ in range(400):
            call.session.send_text("x" * 20_000, role=TextRole.CALLER, respond=False)
        end = await call.end()
        assert end == SessionEnd(Ending.AGENT_LOST, "the API takes no more data", may_reconnect=True)


async def test_paused_reading_stops_the_peer_and_resuming_goes_on(server, dial):
    sent = 0
    blocked = asyncio.Event()
    total = 400

    async def script(ws):
        nonlocal sent
        await server.set_up(ws)
        server.transport.set_write_buffer_limits(high=0)
        await say(ws, "response.created", response={"id": "r1"})
        for _ in range(total):
            writing = asyncio.ensure_future(say_audio(ws, bytes(48_000)))
            done, _ = await asyncio.wait([writing], timeout=0.1)
            if not done:
                blocked.set()
                await writing
            sent += 1
        await ws.close()

    server.script = script
    call = dial(server.url, beat_s=0.01)
    await call.until(SessionReady)
    call.session.pause_reading()
    await blocked.wait()
    assert sent < total
    assert sum(isinstance(event, AgentAudio) for event in call.events) <= 2
    call.session.resume_reading()
    assert (await call.end()).ending is Ending.AGENT_HUNG_UP
    heard = sum(len(event.audio) for event in call.events if isinstance(event, AgentAudio))
    assert heard == total * 48_000


async def test_a_paused_session_can_be_closed(server, dial):
    async def script(ws):
        await server.set_up(ws)
        await say(ws, "response.created", response={"id": "r1"})
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url)
    await call.until(SessionReady)
    call.session.pause_reading()
    await turns()
    call.session.close()
    async with asyncio.timeout(8):
        assert (await call.end()).detail == "closed by us"
    await server.left.wait()


# ---------------------------------------------------------------- secrets


async def test_no_key_no_word_and_no_audio_in_the_log(server, http):
    async def script(ws):
        await server.set_up(ws)
        await say(ws, "response.created", response={"id": "r1"})
        await say_audio(ws, b"\x12" * 160)
        kind = "conversation.item.input_audio_transcription.completed"
        await say(ws, kind, item_id="i", transcript="my words")
        await say(ws, "error", error={"type": "t", "code": "c", "message": "private"})
        await ws.close()

    server.script = script
    secret_settings = OpenAISettings(
        url=server.url, instructions="confidential", api_key=SecretRef(env="OPENAI_API_KEY")
    )
    protocol = OpenAIRealtime(secret_settings, Opening("c1", PCMU_8K, {"OPENAI_API_KEY": KEY}))
    with structlog.testing.capture_logs() as lines:
        await AgentConnection(protocol, http, log=structlog.get_logger()).run(lambda event: None)
    log = repr(lines)
    for secret in (KEY, "my words", "private", "confidential", "EhIS"):
        assert secret not in log
    assert [line["event"] for line in lines] == [
        "session_connecting",
        "session_connected",
        "session_ready",
        "session_ended",
    ]


# ---------------------------------------------------------------- a connection that broke


async def test_a_lost_session_is_got_back_with_what_was_said(server, dial):
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        await server.set_up(ws)
        if visits == 1:
            await words(ws, "I am Ada.")
            await asyncio.sleep(0)
            server.transport.abort()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url, reconnect_after_s=NOW)
    await call.until(SessionBack)
    call.session.say("Hello again.")
    while "response.create" not in server.kinds():
        server.got.clear()
        await server.got.wait()
    call.session.close()
    end = await call.end()
    assert end.detail == "closed by us"
    kinds = [type(event) for event in call.events]
    assert kinds == [SessionReady, CallerTranscript, SessionLost, SessionBack]
    told = [message for message in server.received if message["type"] == "conversation.item.create"]
    assert "I am Ada." in json.dumps(told)


async def test_what_is_asked_while_the_session_is_lost_is_done_when_it_is_back(server, dial):
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        await server.set_up(ws)
        if visits == 1:
            server.transport.abort()
        while await server.hear(ws):
            pass

    server.script = script
    call = dial(server.url, reconnect_after_s=(0.0, 0.05))
    await call.until(SessionLost)
    await asyncio.sleep(0)
    call.session.send_text("pressed 5", role=TextRole.CALLER, respond=False)
    await call.until(SessionBack)
    while "conversation.item.create" not in server.kinds():
        server.got.clear()
        await server.got.wait()
    call.session.close()
    await call.end()


async def test_one_that_cannot_be_got_back_ends_as_it_broke(server, dial):
    async def script(ws):
        await server.set_up(ws)
        server.status = 503
        server.transport.abort()

    server.script = script
    call = dial(server.url, reconnect_after_s=(0.0, 0.01))
    end = await call.end()
    assert end.ending is Ending.AGENT_LOST
    assert [type(event) for event in call.events] == [SessionReady, SessionLost]


async def test_a_session_that_was_never_ready_is_not_tried_again(server, dial):
    visits = 0

    async def script(ws):
        nonlocal visits
        visits += 1
        server.transport.abort()

    server.script = script
    end = await dial(server.url, reconnect_after_s=NOW).end()
    assert (end.ending, visits) == (Ending.AGENT_UNREACHABLE, 1)


async def test_one_that_breaks_again_and_again_is_given_up(server, dial):
    async def script(ws):
        await server.set_up(ws)
        server.transport.abort()

    server.script = script
    call = dial(server.url, reconnect_after_s=NOW)
    end = await call.end()
    assert end.ending is Ending.AGENT_LOST
    assert sum(isinstance(event, SessionLost) for event in call.events) == LOSSES


async def test_a_hang_up_while_the_session_is_lost_ends_at_once(server, dial):
    async def script(ws):
        await server.set_up(ws)
        server.transport.abort()

    server.script = script
    call = dial(server.url, reconnect_after_s=(60.0,))
    await call.until(SessionLost)
    call.session.close()
    assert await call.end() == SessionEnd(Ending.AGENT_HUNG_UP, "closed by us")
