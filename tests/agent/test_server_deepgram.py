"""Deepgram's own clients, asynchronous and synchronous, against the running agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from deepgram.core.api_error import ApiError
from websockets.exceptions import ConnectionClosedOK

from telbridge.agent.brains.script import tone
from telbridge.agent.facades.deepgram import door as door_deepgram
from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.audio.formats import PCMU_8K
from tests.agent.deepgram_judge import (
    AsyncDeepgramClient,
    DeepgramClient,
    Json,
    environment,
    judge,
    sdk,
)

MULAW = {"encoding": "mulaw", "sample_rate": 8000}
TRANSFER = {"name": "transfer", "description": "Transfers.", "parameters": {"type": "object"}}
PHONE: Json = {
    "type": "Settings",
    "audio": {"input": MULAW, "output": {**MULAW, "container": "none"}},
    "agent": {
        "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
        "think": {
            "provider": {"type": "open_ai", "model": "gpt-4.1-mini"},
            "prompt": "Be kind.",
            "functions": [TRANSFER],
        },
        "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
    },
}
LOUD = tone(440.0, 20, PCMU_8K)
QUIET = b"\xff" * 160
SCRIPT = """
[[step]]
on = "request"
reply = { tone_hz = 300, ms = 60000, pace = 1, chunk_ms = 20 }
[[step]]
on = "caller_starts"
event = "speech_started"
[[step]]
on = "caller_stops"
event = "speech_stopped"
heard = "Put me through to sales."
[[step]]
on = "caller_stops"
[step.reply]
tone_hz = 500
ms = 400
chunk_ms = 20
words = "One moment."
tool = "transfer"
arguments = { to = "sales" }
[[step]]
on = "tool_result"
reply = { tone_hz = 600, ms = 400, chunk_ms = 100, words = "Here they are." }
[[step]]
on = "text"
match = "pressed 5"
reply = { tone_hz = 700, ms = 100, words = "You pressed five." }
"""


@pytest.fixture(autouse=True)
def _only_this_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telbridge.agent.server.DOORS", (door_deepgram.routes,))


def settings_of(**agent: Any) -> Any:
    return sdk.AgentV1Settings.model_validate({**PHONE, "agent": {**PHONE["agent"], **agent}})


def judged(message: Any) -> Any:
    """A message as the client got it: bytes, or an object of the SDK's and nothing that it does not know."""
    if not isinstance(message, bytes):
        judge(message if isinstance(message, dict) else message.model_dump(exclude_unset=True))
    return message


async def until(agent: Any, kind: str) -> tuple[Any, list[Any]]:
    """The first message of a kind, and what came before it; all judged."""
    before: list[Any] = []
    while True:
        message = judged(await agent.recv())
        name = message["type"] if isinstance(message, dict) else getattr(message, "type", "audio")
        if name == kind:
            return message, before
        before.append(message)


def octets(messages: list[Any]) -> int:
    return sum(len(message) for message in messages if isinstance(message, bytes))


@asynccontextmanager
async def connected(settings: AgentSettings, **query: Any) -> AsyncIterator[Any]:
    """The vendor's asynchronous client on a session of an agent of its own."""
    async with serve(settings) as port:
        client = AsyncDeepgramClient(api_key="k", environment=environment(port))
        options: Any = {"additional_query_parameters": query}
        async with client.agent.v1.connect(request_options=options) as agent:
            yield agent


def script_file(tmp_path: Path, text: str) -> AgentSettings:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return AgentSettings(brain="script", script=path)


async def test_the_vendors_client_holds_a_whole_session(tmp_path: Path) -> None:
    async with connected(script_file(tmp_path, SCRIPT), late_frames=3) as agent:
        assert isinstance(judged(await agent.recv()), sdk.AgentV1Welcome)
        await agent.send_settings(settings_of(greeting="Hello there."))
        assert isinstance(judged(await agent.recv()), sdk.AgentV1SettingsApplied)
        greeting, before = await until(agent, "ConversationText")
        assert (greeting.role, greeting.content) == ("assistant", "Hello there.")
        assert octets(before) == 160

        # the caller interrupts the greeting
        for _ in range(5):
            await agent.send_media(LOUD)
        _, before = await until(agent, "UserStartedSpeaking")
        for _ in range(30):
            await agent.send_media(QUIET)
        ended, late = await until(agent, "EndOfTurn")
        assert ended == {"type": "EndOfTurn", "trigger": "model"}
        assert octets(late) == 3 * 160

        # the question, the answer, the function
        question, before = await until(agent, "ConversationText")
        assert (question.role, question.content) == ("user", "Put me through to sales.")
        assert not octets(before)
        answer, _ = await until(agent, "ConversationText")
        assert answer.content == "One moment."
        request, before = await until(agent, "FunctionCallRequest")
        (call,) = request.functions
        assert (call.name, call.arguments, call.client_side) == ("transfer", '{"to": "sales"}', True)
        assert octets(before) == 400 * 8
        await until(agent, "AgentAudioDone")
        response = sdk.AgentV1SendFunctionCallResponse(id=call.id, name=call.name, content='{"ok":true}')
        await agent.send_function_call_response(response)
        echo, _ = await until(agent, "FunctionCallResponse")
        assert (echo.id, echo.content) == (call.id, '{"ok":true}')
        history, _ = await until(agent, "History")
        assert history.function_calls[0].response == '{"ok":true}'
        _, spoken = await until(agent, "AgentAudioDone")
        assert octets(spoken) == 400 * 8

        # what the client changes and puts in
        await agent.send_update_prompt(sdk.AgentV1UpdatePrompt(prompt="The caller pressed 5."))
        await until(agent, "PromptUpdated")
        think, speak = settings_of().agent.think, settings_of().agent.speak
        await agent.send_update_think(sdk.AgentV1UpdateThink(think=think))
        await until(agent, "ThinkUpdated")
        await agent.send_update_speak(sdk.AgentV1UpdateSpeak(speak=speak))
        await until(agent, "SpeakUpdated")
        listen = {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}}
        await agent.send_update_listen(sdk.AgentV1UpdateListen.model_validate({"listen": listen}))
        await until(agent, "ListenUpdated")
        await agent.send_keep_alive()
        await agent.send_force_end_turn()
        await agent.send_inject_user_message(sdk.AgentV1InjectUserMessage(content="The caller pressed 5"))
        answer, _ = await until(agent, "AgentAudioDone")
        message = sdk.AgentV1InjectAgentMessage(message="Goodbye.")
        await agent.send_inject_agent_message(message)
        goodbye, _ = await until(agent, "ConversationText")
        assert goodbye.content == "Goodbye."
        await until(agent, "AgentAudioDone")


async def test_the_vendors_synchronous_client_hears_its_own_audio() -> None:
    def converse(port: int) -> bytes:
        client = DeepgramClient(api_key="k", environment=environment(port))
        with client.agent.v1.connect() as agent:
            assert isinstance(judged(agent.recv()), sdk.AgentV1Welcome)
            agent.send_settings(settings_of())
            assert isinstance(judged(agent.recv()), sdk.AgentV1SettingsApplied)
            agent.send_keep_alive()
            heard = b""
            for code in range(20):
                agent.send_media(bytes([code]) * 160)
            while len(heard) < 20 * 160:
                message = judged(agent.recv())
                heard += message if isinstance(message, bytes) else b""
            return heard

    async with serve(AgentSettings(brain="echo")) as port:
        heard = await asyncio.to_thread(converse, port)
    assert heard == b"".join(bytes([code]) * 160 for code in range(20))


async def test_a_message_that_waits_is_spoken_when_the_reply_has_ended(tmp_path: Path) -> None:
    script = '[[step]]\non = "request"\nreply = { tone_hz = 440, ms = 200, pace = 1, chunk_ms = 50 }'
    async with connected(script_file(tmp_path, script)) as agent:
        await agent.send_settings(settings_of(greeting="Hello."))
        await until(agent, "ConversationText")
        await agent.send_inject_agent_message(
            sdk.AgentV1InjectAgentMessage(message="Hold on.", behavior="queue")
        )
        await until(agent, "AgentAudioDone")
        text, _ = await until(agent, "ConversationText")
        assert text.content == "Hold on."


async def test_an_error_is_the_last_message_and_an_orderly_close_follows() -> None:
    async with connected(AgentSettings(brain="echo")) as agent:
        await agent.send_media(QUIET)
        error, _ = await until(agent, "Error")
        assert error.code == "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"
        with pytest.raises(ConnectionClosedOK):
            await agent.recv()


async def test_a_silent_client_is_sent_away() -> None:
    async with connected(AgentSettings(brain="echo"), client_timeout_ms=100) as agent:
        await agent.send_settings(settings_of())
        error, _ = await until(agent, "Error")
        assert error.code == "CLIENT_MESSAGE_TIMEOUT"
        with pytest.raises(ConnectionClosedOK):
            await agent.recv()


async def test_a_session_expires() -> None:
    async with connected(AgentSettings(brain="echo", max_session_s=0.05)) as agent:
        error, _ = await until(agent, "Error")
        assert error.code == "MAXIMUM_SESSION_LENGTH_REACHED"


@pytest.mark.parametrize("authorization", ["Token wrong", "Bearer right", "right", ""])
async def test_a_wrong_key_is_refused_at_the_door(
    monkeypatch: pytest.MonkeyPatch, authorization: str
) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    async with serve(AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")) as port:
        client = AsyncDeepgramClient(api_key="x", environment=environment(port))
        with pytest.raises(ApiError) as caught:
            async with client.agent.v1.connect(authorization=authorization):
                pass
        assert caught.value.status_code == 401


async def test_the_key_opens_the_door_and_so_does_a_token_made_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", "right")
    async with (
        serve(AgentSettings(brain="echo", key_env="AGENT_TEST_KEY")) as port,
        httpx.AsyncClient() as http,
    ):
        client = AsyncDeepgramClient(api_key="right", environment=environment(port), httpx_client=http)
        async with client.agent.v1.connect() as agent:
            judged(await agent.recv())
        granted = await client.auth.v1.tokens.grant(ttl_seconds=60)
        assert granted.expires_in == 60
        async with client.agent.v1.connect(authorization=f"Bearer {granted.access_token}") as agent:
            judged(await agent.recv())
        stranger = AsyncDeepgramClient(api_key="wrong", environment=environment(port), httpx_client=http)
        with pytest.raises(ApiError) as caught:
            await stranger.auth.v1.tokens.grant()
        assert caught.value.status_code == 401


def test_a_token_is_good_for_its_time() -> None:
    tokens = door_deepgram.Tokens()
    assert tokens.admits(tokens.make(60.0))
    assert not tokens.admits(tokens.make(0.0)) and not tokens.admits("made up")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/agent/converse?model=x", None, 400),
        ("/v1/agent/converse?client_timeout_ms=0", None, 400),
        ("/v1/auth/grant", {"ttl_seconds": 3601}, 400),
        ("/v1/auth/grant", None, 200),
    ],
)
async def test_the_door_answers_what_it_does_not_understand(
    path: str, body: Json | None, status: int
) -> None:
    async with serve(AgentSettings(brain="echo")) as port, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}{path}"
        method = "POST" if "grant" in path else "GET"
        headers = {"Authorization": "Token k"}
        async with http.request(method, url, json=body, headers=headers) as response:
            assert response.status == status
