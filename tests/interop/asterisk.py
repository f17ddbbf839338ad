"""A real Asterisk, configured by the snippets of docs/asterisk.md.

TELBRIDGE_ASTERISK names it: the folder that `scripts/interop-asterisk.sh make` filled, or the program itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from telbridge.caller.handle import CallHandle
from telbridge.caller.softphone import Softphone
from tests.e2e.bridge import PATIENCE_S, Bridge, serving

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "asterisk.md"
SCRIPT = ROOT / "scripts" / "interop-asterisk.sh"
BOOT_S = 60.0
_SNIPPET = re.compile(r"```ini\n; ([\w.]+)\n(.*?)```", re.DOTALL)
_QUIET_MODULES = (
    "chan_iax2",
    "chan_unistim",
    "res_hep",
    "pbx_dundi",
    "res_config_ldap",
    "res_snmp",
    "res_xmpp",
)


def kept_port() -> int:
    """One that stays free from test to test: below those that the kernel gives to whoever asks for any."""
    while True:
        port = random.randrange(12_000, 20_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def snippets(page: Path = PAGE) -> dict[str, str]:
    """A page's configuration by file, all snippets of a file joined."""
    files: dict[str, str] = {}
    for name, body in _SNIPPET.findall(page.read_text("utf-8")):
        files[name] = files.get(name, "") + body + "\n"
    return files


CALLER = "15005550006"
SECRET = "the-token"


class Pbx:
    """An Asterisk for a whole module, and where it expects telbridge."""

    def __init__(self, asterisk: Asterisk, sip: int, http: int, audiosocket: int) -> None:
        self.asterisk = asterisk
        self._sip, self._http, self._audiosocket = sip, http, audiosocket

    @asynccontextmanager
    async def serving(
        self, pjsua2: str, folder: Path, settings: Mapping[str, Mapping[str, Any]]
    ) -> AsyncIterator[tuple[Bridge, Softphone]]:
        """A telbridge that it reaches, and a telephone that it takes calls from."""
        ports = {
            "sip": {"port": self._sip},
            # With a public address nobody counts as of this machine: the token is needed.
            "http": {"port": self._http, "public_url": "https://voice.example.com"},
            "audiosocket": {"port": self._audiosocket},
            "asterisk": {"token": '{ env = "PBX_TOKEN" }'},
        }
        os.environ["PBX_TOKEN"] = SECRET
        async with (
            serving(pjsua2, folder, {**ports, **settings}) as bridge,
            Softphone("127.0.0.2", user=CALLER) as phone,
        ):
            await asyncio.to_thread(self._trunk_is_known_to_be_up)
            yield bridge, phone

    def _trunk_is_known_to_be_up(self) -> None:
        """The telbridge of the test before is gone, and Asterisk may have noticed."""
        until = time.monotonic() + BOOT_S
        while "Avail" not in self.asterisk.cli("pjsip show contacts"):
            assert time.monotonic() < until, "OPTIONS are not answered"
            self.asterisk.cli("pjsip qualify telbridge")
            time.sleep(0.2)

    async def dial(self, phone: Softphone, extension: str) -> CallHandle:
        """A call that is answered."""
        call = await phone.call(f"sip:{extension}@127.0.0.1:{self.asterisk.port}")
        try:
            await call.wait_answered(PATIENCE_S)
        except Exception:
            print(self.asterisk.console[-6000:])
            raise
        return call


def the_pbx(folder: Path, extra: Mapping[str, str]) -> Iterator[Pbx]:
    """For a fixture. Skips where there is no Asterisk, and says how to get one."""
    if not os.environ.get("TELBRIDGE_ASTERISK"):
        pytest.skip("no Asterisk: `make interop` makes one and sets TELBRIDGE_ASTERISK")
    sip, http, audiosocket = kept_port(), kept_port(), kept_port()
    with asterisk(folder / "asterisk", {5070: sip, 8080: http, 9092: audiosocket}, extra) as running:
        yield Pbx(running, sip, http, audiosocket)


class Asterisk:
    """A running one. Telephones call it as `sip:700@127.0.0.1:PORT`, from any address but 127.0.0.1."""

    def __init__(self, command: Sequence[str], folder: Path, base: str, port: int) -> None:
        self._command, self._folder, self._base = command, folder, base
        self.port = port

    @property
    def console(self) -> str:
        """What it has printed."""
        return (self._folder / "console.txt").read_text("utf-8", "replace")

    def cli(self, line: str) -> str:
        """A command of its console, and the answer."""
        return subprocess.run(
            (*self._command, "-C", f"{self._base}/etc/asterisk.conf", "-rx", line),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=BOOT_S,
            check=False,
        ).stdout

    def wait_booted(self) -> None:
        """TimeoutError with its last words if it does not come up."""
        until = time.monotonic() + BOOT_S
        while "fully booted" not in self.cli("core waitfullybooted"):
            if time.monotonic() > until:
                raise TimeoutError(self.console[-4000:])
            time.sleep(0.2)


@contextmanager
def asterisk(
    folder: Path, ports: Mapping[int, int], extra: Mapping[str, str] | None = None
) -> Iterator[Asterisk]:
    """Asterisk with the page's snippets. `ports`: what stands in the place of the page's ports (5060 is its
    own). `extra`: more lines, by file."""
    found = Path(os.environ["TELBRIDGE_ASTERISK"])
    for name in ("etc", "run", "log", "spool", "cache", "db"):
        (folder / name).mkdir(parents=True)
    is_root = found.is_dir()
    base = "/interop" if is_root else str(folder)
    command = [str(SCRIPT), "run", str(found), str(folder), "asterisk"] if is_root else [str(found)]
    own_port = kept_port()
    _configure(folder / "etc", base, {5060: own_port, **ports}, extra or {})
    with (folder / "console.txt").open("wb") as console:
        process = subprocess.Popen(
            (*command, "-C", f"{base}/etc/asterisk.conf", "-f", "-n"),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    running = Asterisk(command, folder, base, own_port)
    try:
        running.wait_booted()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configure(etc: Path, base: str, ports: Mapping[int, int], extra: Mapping[str, str]) -> None:
    files = snippets()
    for name, lines in _own(base).items():
        files[name] = lines + files.get(name, "")
    for name, lines in extra.items():
        files[name] = files.get(name, "") + lines
    for name, lines in files.items():
        for written, actual in ports.items():
            lines = re.sub(rf":{written}\b", f":{actual}", lines)
        (etc / name).write_text(lines, "utf-8")


def _own(base: str) -> dict[str, str]:
    """What the page leaves to the administrator."""
    folders = {
        "astetcdir": "etc",
        "astrundir": "run",
        "astlogdir": "log",
        "astspooldir": "spool",
        "astcachedir": "cache",
        "astdbdir": "db",
        "astkeydir": "db",
    }
    first = kept_port() // 100 * 100 + 10_000
    return {
        "asterisk.conf": "\n".join(
            (
                "[directories]",
                *(f"{key} => {base}/{name}" for key, name in folders.items()),
                "astmoddir => /usr/lib/x86_64-linux-gnu/asterisk/modules",
                "astdatadir => /usr/share/asterisk",
                "astvarlibdir => /var/lib/asterisk",
                "[options]",
                "entityid = 02:00:00:00:00:01",
                "verbose = 3",
                "",
            )
        ),
        "modules.conf": "[modules]\nautoload=yes\n"
        + "".join(f"noload => {name}.so\n" for name in _QUIET_MODULES),
        "logger.conf": "[general]\n[logfiles]\nconsole => notice,warning,error,verbose\n",
        "rtp.conf": f"[general]\nrtpstart={first}\nrtpend={first + 100}\nstrictrtp=yes\n",
        "pjsip.conf": "[anonymous]\ntype=endpoint\ncontext=from-phones\ndisallow=all\nallow=ulaw,alaw\n"
        "direct_media=no\n\n",
        "extensions.conf": "[general]\nstatic=yes\nwriteprotect=yes\n\n",
    }
