"""The embedded agent with the echo brain behind TLS, as the vendors' are: `python -m bench.tls_agent PEM`.

PEM holds key and certificate. Says in one JSON line where it listens; ends when standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

import uvloop
from aiohttp import web

from telbridge.agent.facades.openai.door import PATH
from telbridge.agent.minds import make_mind
from telbridge.agent.server import Agent
from telbridge.agent.settings import AgentSettings


async def run(pem: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    settings = AgentSettings(brain="echo")
    async with make_mind(settings) as mind:
        runner = web.AppRunner(Agent(settings, mind).application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        print(json.dumps({"port": runner.addresses[0][1], "path": PATH}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1]))
