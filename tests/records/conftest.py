"""Both databases, real: a file of SQLite, and a PostgreSQL server of the tests' own."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

_numbers = itertools.count()


class Postgres:
    """A server on a free port of loopback, its data in a folder of its own. As root it runs as the user that
    Debian's package made: it refuses to be root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._data = programs, folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._run("initdb", "-D", self._data, "-U", "telbridge", "-A", "trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self._port} -k {self._data} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "-o", options, "start")

    def stop(self) -> None:
        """As if somebody had pulled the plug."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Its URL."""
        name = f"records{next(_numbers)}"
        engine = create_engine(f"postgresql+psycopg://{self._at('postgres')}", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return f"postgresql://{self._at(name)}"

    def _at(self, database: str) -> str:
        return f"telbridge@127.0.0.1:{self._port}/{database}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, user=self._user, check=True, stdout=subprocess.DEVNULL, cwd="/")


def _programs() -> Path | None:
    """Debian keeps them out of the search path."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = _programs()
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server here: scripts/system-packages.sh test installs one")
    with tempfile.TemporaryDirectory(prefix="telbridge-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(programs, Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()
