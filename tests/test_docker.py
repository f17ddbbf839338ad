"""docker/ in step with the code: settings, ports, paths. No container is started; docker/README.md tells what
was tried by hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from telbridge.cli import app
from telbridge.config import load
from telbridge.legs.sip.settings import SipSettings
from telbridge.serving.supervisor import AGENT_STOP_S, WORKER_GRACE_S
from tests.interop.asterisk import snippets

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))["services"]
SETTINGS = load(DOCKER / "telbridge" / "telbridge.toml", {})
PORTS = {5060: 5160, 5070: 5060}
"""Of docs/asterisk.md, and here: telbridge has 5060."""


def mounts(service: str) -> dict[str, str]:
    """Where, and what is there: a path beside the file, or a volume's name."""
    return {where: what for what, where, *_ in (each.split(":") for each in SERVICES[service]["volumes"])}


def test_the_settings_and_their_dialplans_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder that the container sees as its own."""
    (inside,) = (where for where, what in mounts("telbridge").items() if what == "./telbridge")
    assert f"WORKDIR {inside}\n" in DOCKERFILE
    monkeypatch.chdir(DOCKER / "telbridge")
    *_, file = SERVICES["telbridge"]["command"]
    checked = CliRunner().invoke(app, ["check", file])
    assert checked.exit_code == 0, checked.output
    assert "dialplans: ok (desk)" in checked.output


def test_the_image_names_the_ports_that_the_settings_have() -> None:
    exposed = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[0].split()
    sip = SipSettings()
    assert f"{sip.rtp_port_first}-{sip.rtp_port_last}/udp" in exposed
    for port in (SETTINGS.sip.port, SETTINGS.http.port, SETTINGS.admin.port):
        assert f"{port}/tcp" in exposed
    admin = f"127.0.0.1:{SETTINGS.admin.port}"
    assert f"http://{admin}/live" in DOCKERFILE
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (job,) = scraped["scrape_configs"]
    assert (job["job_name"], job["static_configs"][0]["targets"]) == ("telbridge", [admin])


def test_everything_that_is_copied_or_mounted_is_there() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    for service in SERVICES:
        for what in mounts(service).values() if "volumes" in SERVICES[service] else ():
            assert not what.startswith(".") or (DOCKER / what).exists(), what
        build = SERVICES[service].get("build")
        if build is not None:
            folder = DOCKER / (build if isinstance(build, str) else build["context"])
            assert (folder / (build["dockerfile"] if isinstance(build, dict) else "Dockerfile")).is_file()


def test_what_is_copied_is_let_into_the_build() -> None:
    let_in = set(
        re.findall(r"^!(.+)$", (DOCKER / "Dockerfile.dockerignore").read_text("utf-8"), re.MULTILINE)
    )
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_in


def test_the_extras_of_the_image_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", DOCKERFILE, re.MULTILINE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_a_stop_leaves_time_for_the_drain() -> None:
    given_s = int(SERVICES["telbridge"]["stop_grace_period"].removesuffix("s"))
    assert given_s > SETTINGS.serve.drain_s + WORKER_GRACE_S + AGENT_STOP_S


def test_records_go_through_a_socket_that_both_containers_have() -> None:
    (ours,) = (where for where, what in mounts("telbridge").items() if what == "postgres-socket")
    assert "postgres-socket" in mounts("postgres").values()
    assert SETTINGS.records.database is not None
    assert SETTINGS.records.database.endswith(
        f"@/{SERVICES['postgres']['environment']['POSTGRES_DB']}?host={ours}"
    )
    assert str(SETTINGS.records.folder) in mounts("telbridge")


def test_grafana_gets_what_its_provisioning_asks_for() -> None:
    asked = {
        name
        for file in (ROOT / "grafana" / "provisioning").rglob("*.yml")
        for name in re.findall(r"\$\{(\w+)\}", file.read_text("utf-8"))
    }
    environment = SERVICES["grafana"]["environment"]
    assert asked <= set(environment)
    assert mounts("grafana")[environment["TELBRIDGE_DASHBOARDS"]] == "../grafana/dashboards"
    assert mounts("grafana")[environment["GF_PATHS_PROVISIONING"]] == "../grafana/provisioning"


def test_asterisk_is_configured_as_the_page_says() -> None:
    for name, lines in snippets().items():
        for theirs, ours in PORTS.items():
            lines = re.sub(rf":{theirs}\b", f":{ours}", lines)
        here = (DOCKER / "asterisk" / "etc" / name).read_text("utf-8")
        assert here.partition("\n\n")[2].rstrip() == lines.rstrip(), name
