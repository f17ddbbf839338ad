"""A real Prometheus scrapes a real run with calls of every kind and is asked every query of every panel."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from telbridge.agent.server import serve
from telbridge.agent.settings import AgentSettings
from telbridge.caller.handle import CallFailed, CallHandle
from telbridge.caller.softphone import Softphone
from telbridge.caller.streams.call import StreamCall
from telbridge.caller.streams.phone import TEST_ACCOUNT, StreamPhone
from telbridge.caller.streams.webhook import Account
from tests.e2e.bridge import Bridge, serving
from tests.e2e.switchboard import SECTIONS
from tests.e2e.test_providers import noise
from tests.ports import free_port

ROOT: Final = Path(__file__).parent.parent.parent
RULES: Final = ROOT / "grafana" / "rules"
TOKEN: Final = "0123456789abcdef0123456789abcdef"
WAVES: Final = 2
"""A histogram's first observation brings its series; a rate needs one more."""
VARIABLES: Final = {
    **dict.fromkeys(("instance", "ingress", "trunk", "dialplan", "agent"), ".*"),
    "__rate_interval": "1m",
    "__range": "5m",
}
TAKES_TOO_LONG: Final = "telbridge_clock_drift_ppm"
"""It is measured in calls of five minutes and more."""

TALKS: Final = """
[[step]]
on = "request"
reply = { tone_hz = 440, ms = 20000, words = "Welcome." }
[[step]]
on = "caller_starts"
times = 0
event = "speech_started"
[[step]]
on = "caller_stops"
times = 0
event = "speech_stopped"
heard = "What are your hours?"
[[step]]
on = "caller_stops"
times = 0
after_ms = 100
reply = { tone_hz = 600, ms = 600, words = "Nine to five." }
[[step]]
on = "text"
match = "pressed 5"
reply = { tool = "order" }
[[step]]
on = "tool_result"
reply = { tone_hz = 800, ms = 300, words = "Ordered." }
[[step]]
on = "text"
match = "pressed 9"
misdeed = "abort"
"""
MISBEHAVES: Final = """
[[step]]
on = "request"
reply = { tone_hz = 440, ms = 4000, words = "Welcome." }
# It stops for nobody, and goes on.
[[step]]
on = "reply_started"
after_ms = 700
event = "speech_started"
[[step]]
on = "reply_started"
after_ms = 1200
reply = { tone_hz = 500, ms = 400, words = "Hello?" }
# It hears something after all.
[[step]]
on = "text"
match = "pressed 3"
event = "speech_started"
[[step]]
on = "text"
match = "pressed 3"
after_ms = 300
event = "speech_stopped"
heard = "Who is there?"
[[step]]
on = "text"
match = "pressed 3"
after_ms = 600
reply = { tone_hz = 500, ms = 400, words = "Me." }
# It talks on, whatever the caller says.
[[step]]
on = "text"
match = "pressed 1"
reply = { tone_hz = 600, ms = 5000, words = "Ahem." }
# It takes the caller's turn for over and begins, while the caller goes on.
[[step]]
on = "text"
match = "pressed 4"
event = "speech_started"
[[step]]
on = "text"
match = "pressed 4"
after_ms = 500
event = "speech_stopped"
heard = "But I"
[[step]]
on = "text"
match = "pressed 4"
after_ms = 800
reply = { tone_hz = 700, ms = 300, words = "Yes?" }
# It is slower than it speaks.
[[step]]
on = "text"
match = "pressed 6"
reply = { tone_hz = 800, ms = 1500, pace = 0.5, words = "W e l l." }
[[step]]
on = "text"
match = "pressed 8"
misdeed = "server_error"
"""
DIALPLANS: Final = {
    "desk": """
        match.called = "10"
        greeting = "Welcome."
        session.agent = "deepgram"
        session.tools = ["order"]
        keys.7 = [{ metric = "sevens" }, { webhook = "http://127.0.0.1:9/" }]
        [tools.order]
        description = "Takes an order."
        do = { tag = "ordered" }
    """,
    "streams": """
        match.ingress = ["twilio", "generic"]
        greeting = "Welcome."
        session.agent = "openai_realtime"
        keys.7 = { metric = "sevens" }
    """,
    "odd": """
        match.called = "11"
        greeting = "Welcome."
        session.agent = "azure_voice_live"
    """,
    "dead": """
        match.called = "12"
        session.agent = "assemblyai"
    """,
    "closed": """
        match.called = "13"
        on.ringing = { hangup = "busy" }
    """,
}


class Callers:
    """Everybody who calls."""

    def __init__(self, bridge: Bridge, phone: Softphone, streams: StreamPhone) -> None:
        self._bridge, self._phone, self._streams = bridge, phone, streams

    async def wave(self) -> None:
        """All at once, with no more than four SIP calls at a time: a pjsua2 may take no more."""
        await asyncio.gather(
            self._desk(),
            self._odd(),
            self._silent(),
            self._failures(),
            self._stream("twilio"),
            self._stream("generic"),
        )

    async def _sip(self, number: str) -> CallHandle:
        call = await self._phone.call(self._bridge.uri.replace("agent@", f"{number}@"))
        await call.wait_answered(10)
        return call

    async def _desk(self) -> None:
        call = await self._sip("10")
        await _talk(call)
        await call.dtmf("5")
        await call.play(bytes(16 * 2000))
        await call.hang_up()
        cut = await self._sip("10")
        await cut.play(bytes(16 * 1000) + noise(0.4) + bytes(16 * 2000))
        await cut.dtmf("9")
        await cut.play(bytes(16 * 3000))
        await cut.dtmf("7")
        await cut.play(bytes(16 * 1000))
        await cut.hang_up()

    async def _stream(self, kind: str) -> None:
        call = await self._streams.call(self._bridge.twilio if kind == "twilio" else self._bridge.generic)
        await _talk(call)
        await call.dtmf("7")
        await call.play(bytes(16 * 1000))
        await call.hang_up()

    async def _odd(self) -> None:
        call = await self._sip("11")
        await call.play(bytes(16 * 2500) + noise(0.4))
        await call.dtmf("3")
        await call.play(bytes(16 * 3000))
        await call.dtmf("1")
        await call.play(bytes(16 * 500) + noise(2.5) + bytes(16 * 3000))
        await call.dtmf("4")
        await call.play(noise(2.0) + bytes(16 * 1000))
        await call.dtmf("6")
        await call.play(bytes(16 * 4000))
        await call.dtmf("8")
        await call.play(bytes(16 * 500))
        await call.hang_up()

    async def _silent(self) -> None:
        call = await self._sip("10")
        await call.play(bytes(16 * 11_000))
        await call.hang_up()

    async def _failures(self) -> None:
        """An agent that is not there; a dialplan that refuses; a number that nobody wants."""
        apologised = await self._sip("12")
        await apologised.wait_ended(30)
        for number in ("13", "99"):
            refused = await self._phone.call(self._bridge.uri.replace("agent@", f"{number}@"))
            with pytest.raises(CallFailed):
                await refused.wait_answered(10)


async def _talk(call: CallHandle | StreamCall) -> None:
    """An interruption of the greeting, and a turn without one."""
    await call.play(bytes(16 * 1500) + noise(0.4) + bytes(16 * 2500))
    await call.play(noise(0.4) + bytes(16 * 2500))


class Prometheus:
    def __init__(self, http: aiohttp.ClientSession, began: float) -> None:
        self._http, self._began = http, began

    async def ask(self, path: str, **query: Any) -> Any:
        async with self._http.get(f"/api/v1/{path}", params=query) as answer:
            told = await answer.json()
            assert told["status"] == "success", (told, query)
            return told["data"]

    async def series(self, expr: str) -> list[dict[str, Any]]:
        """Over the whole run; those with a number anywhere."""
        span = {"start": self._began, "end": time.time(), "step": 2}
        found = (await self.ask("query_range", query=expr, **span))["result"]
        return [each for each in found if any(math.isfinite(float(value)) for _, value in each["values"])]

    async def until_ready(self) -> None:
        async with asyncio.timeout(120):
            while True:
                try:
                    async with self._http.get("/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)

    async def until_scraped(self, since: float) -> None:
        """A scrape that began after this time."""
        async with asyncio.timeout(120):
            while True:
                found = (await self.ask("query", query='timestamp(up{job="telbridge"})'))["result"]
                if found and float(found[0]["value"][1]) > since:
                    return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def prometheus(folder: Path, admin: str) -> AsyncIterator[Prometheus]:
    """One that scrapes every other second, which is also how long it waits, and has our rules."""
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(
        f"global: {{ scrape_interval: 2s, evaluation_interval: 1s }}\n"
        f"rule_files: [ {RULES / 'telbridge.yml'} ]\n"
        "scrape_configs:\n  - job_name: telbridge\n    static_configs:\n"
        f'      - targets: [ "{admin.removeprefix("http://")}" ]\n',
        "utf-8",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                server = Prometheus(http, time.time())
                await server.until_ready()
                yield server
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def a_run(pjsua2: str, folder: Path) -> AsyncIterator[Bridge]:
    """A bridge with two agents that answer, one that misbehaves, one that is not there."""
    plans = folder / "plans"
    plans.mkdir()
    for name, text in DIALPLANS.items():
        (plans / f"{name}.toml").write_text(text, "utf-8")
    good, bad = folder / "talks.toml", folder / "misbehaves.toml"
    good.write_text(TALKS, "utf-8")
    bad.write_text(MISBEHAVES, "utf-8")
    ports = {"deepgram": free_port(), "azure_voice_live": free_port(), "assemblyai": free_port()}
    ports["openai_realtime"] = ports["deepgram"]
    settings: dict[str, Any] = {
        "dialplans": {"folder": str(plans)},
        "call": {"agent": "deepgram", "connect_timeout_s": 1, "setup_timeout_s": 2},
        "sip": {"trunks": '{ lab = { addresses = ["127.0.0.0/8"] } }'},
    }
    for provider, port in ports.items():
        section = SECTIONS[provider]
        settings[provider] = {
            key: value.format(port=port) if key == "url" else value for key, value in section.items()
        }
    async with (
        serve(AgentSettings(brain="script", script=good, port=ports["deepgram"])),
        serve(AgentSettings(brain="script", script=bad, port=ports["azure_voice_live"])),
        serving(pjsua2, folder, settings) as bridge,
    ):
        yield bridge


def targets() -> Iterator[tuple[str, dict[str, Any], str]]:
    for file in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield file.stem, panel, target["expr"]


def resolved(expr: str) -> str:
    """As Grafana does with all filters at All, but without the zero that stands in for nothing."""
    return re.sub(r"\$(\w+)", lambda match: VARIABLES[match[1]], expr).removesuffix(" or vector(0)")


async def test_every_query_of_every_panel_has_an_answer(
    any_pjsua2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus (Debian package prometheus): make interop")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    async with (
        a_run(any_pjsua2, tmp_path) as bridge,
        Softphone("127.0.0.1") as phone,
        StreamPhone(account=Account(TEST_ACCOUNT, TOKEN)) as streams,
        prometheus(tmp_path, bridge.admin) as server,
    ):
        for _ in range(WAVES):
            await Callers(bridge, phone, streams).wave()
            await server.until_scraped(time.time())
        await server.until_scraped(time.time() + 1)
        answers = [
            (board, panel, expr, await server.series(resolved(expr))) for board, panel, expr in targets()
        ]
        _keep(answers)
        empty = [
            f"{board}: {panel['title']}: {expr}"
            for board, panel, expr, series in answers
            if not series and TAKES_TOO_LONG not in expr
        ]
        assert not empty, "\n".join(empty)
        await _variables_have_values(server)
        await _links_lead_to_calls(bridge, answers)
        groups = (await server.ask("rules"))["groups"]
        assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []


def _keep(answers: list[tuple[str, dict[str, Any], str, list[dict[str, Any]]]]) -> None:
    """For the pictures of docs/dashboards.md: python -m scripts.dashboards.pictures."""
    if (file := os.environ.get("TELBRIDGE_DASHBOARD_DATA")) is not None:
        kept = [{"board": b, "panel": p, "expr": expr, "series": series} for b, p, expr, series in answers]
        Path(file).write_text(json.dumps(kept), "utf-8")


async def _variables_have_values(server: Prometheus) -> None:
    board = json.loads((ROOT / "grafana" / "dashboards" / "telbridge-overview.json").read_text("utf-8"))
    asked = [each for each in board["templating"]["list"] if each["type"] == "query"]
    assert len(asked) == 5
    for variable in asked:
        metric, _, label = variable["query"].removeprefix("label_values(").removesuffix(")").partition(", ")
        values = await server.ask(f"label/{label}/values", **{"match[]": metric})
        assert values, variable["name"]


async def _links_lead_to_calls(
    bridge: Bridge, answers: list[tuple[str, dict[str, Any], str, list[dict[str, Any]]]]
) -> None:
    """With the labels of a series that the panel shows."""
    async with aiohttp.ClientSession() as http:
        for _, panel, _, series in answers:
            for link in panel["fieldConfig"]["defaults"].get("links", []):
                for one in series[:1]:
                    url = _followed(link["url"], bridge.admin, one["metric"])
                    async with http.get(url) as answer:
                        assert answer.status == 200, (url, await answer.text())
                        assert (await answer.json())["trouble"] == "", url


def _followed(url: str, admin: str, labels: dict[str, str]) -> str:
    url = re.sub(r"\$\{__field\.labels\.(\w+)\}", lambda match: labels.get(match[1], ""), url)
    since, before = "2000-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"
    url = url.replace("${__from:date:iso}", since).replace("${__to:date:iso}", before)
    return url.replace("${admin}", admin)


def test_the_rules_do_as_their_tests_say() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool (Debian package prometheus): make interop")
    done = subprocess.run(
        ["promtool", "test", "rules", str(RULES / "telbridge_test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
