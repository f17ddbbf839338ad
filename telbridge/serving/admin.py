"""The admin port: for those who run telbridge, never for its callers. It lives in the supervisor, so that it
answers while workers come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from aiohttp import web

from telbridge import __version__
from telbridge.config import ConfigError, ConfigErrors
from telbridge.serving.admin_settings import AdminSection
from telbridge.serving.ingress_address import LOCAL_NAMES, host_of, is_address

log = structlog.get_logger()

STOP_S: Final = 1.0
OPEN: Final = frozenset({"/live", "/ready", "/version", "/metrics"})
"""Nothing of callers stands there, and probes ask by whatever name they have."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        section: AdminSection,
        not_ready: Callable[[], list[str]],
        pages: Iterable[web.AbstractRouteDef] = (),
    ) -> None:
        """`not_ready`: why new calls should go elsewhere; [] if they should not. `pages`: what else is
        served."""
        self._section, self._not_ready = section, not_ready
        self._pages = list(pages)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str | None:
        """For a browser on this machine, while it listens."""
        host = self._section.host
        if host in ("0.0.0.0", "::"):
            host = "localhost"
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._section.port}" if self._runner else None

    async def start(self) -> None:
        """Listen. ConfigErrors if a port that was asked for cannot be had; the default port is only tried."""
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/version", self._version),
                *self._pages,
            ]
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        host, port = self._section.host, self._section.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            if "port" in self._section.model_fields_set:
                what = f"cannot listen on {host}:{port}: {error.strerror}"
                raise ConfigErrors([ConfigError("settings", "admin.port", what, "choose another")]) from None
            log.warning("admin_off", why=f"port {port} is taken", instead="set admin.port")
            return
        self._runner = runner
        log.info("admin_listening", admin=f"{host}:{port}")

    async def stop(self) -> None:
        """Safe twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A page of another site in a browser here could be let point its own name to this port (DNS
        rebinding), and would then read every call."""
        if request.path not in OPEN and not self._is_ours(host_of(request)):
            raise web.HTTPForbidden(
                text="unknown host name: open this by its address, or name it in admin.names"
            )
        return await handler(request)

    def _is_ours(self, host: str) -> bool:
        known = LOCAL_NAMES | {self._section.host.lower(), *map(str.lower, self._section.names)}
        return host in known or is_address(host)

    async def _live(self, request: web.Request) -> web.Response:
        """The supervisor's loop turns."""
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        """503 with the reasons while new calls should go elsewhere."""
        reasons = self._not_ready()
        return web.json_response({"ready": not reasons, "why": reasons}, status=503 if reasons else 200)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"telbridge": __version__})
