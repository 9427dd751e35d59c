"""deploy/compose.yaml: its files are there and fit together, and what it starts accepts them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from authsvc.config.settings import Settings, secret_names
from tests.gateway.proxies import NoProxyError, program

# What start.sh makes.
SECRETS = (
    *("postgres-password", "owner-password", "server-password", "grafana-password"),
    *("database-url", "migration-database-url", "admin-key", "gateway-key"),
)
# Stands for Docker: writes down how it is called, and prints a key.
DOCKER = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *bootstrap*) echo authsvc_live_admin ;; *keys\\ create*) echo authsvc_live_gateway ;; esac
"""


@pytest.fixture
def compose(checkout: Path) -> Any:
    return yaml.safe_load((checkout / "deploy/compose.yaml").read_text("utf-8"))


def test_mounted_files_exist(checkout: Path, compose: Any) -> None:
    """A file that is missing would be made by Docker, as a directory of root."""
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert len(mounted) >= 5
    assert [path for path in mounted if not (checkout / "deploy" / path).exists()] == []


def test_settings_and_secrets(compose: Any) -> None:
    """Each setting exists, each secret is one that start.sh makes, and no secret is in a variable."""
    settings = {f"AUTHSVC_{name.upper()}" for name in Settings.model_fields}
    files = {f"AUTHSVC_{name.upper()}_FILE" for name in secret_names()}
    assert set(compose["secrets"]) == set(SECRETS)
    for name, service in compose["services"].items():
        given = service.get("environment", {})
        own = {variable for variable in given if variable.startswith("AUTHSVC_")}
        assert own <= settings | files, name
        assert own.isdisjoint(f"AUTHSVC_{secret.upper()}" for secret in secret_names()), name
        paths = {value for value in given.values() if str(value).startswith("/run/secrets/")}
        assert paths <= {f"/run/secrets/{secret}" for secret in service.get("secrets", ())}, name


def test_ports_are_for_this_machine(compose: Any) -> None:
    """Nothing of it is for other machines: connections are in plain text."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_schema_of_compose(checkout: Path, tmp_path: Path) -> None:
    """The library of Docker Compose reads it, with all rules of the specification."""
    tool = checkout / ".tools/compose/cmd"
    if not tool.exists():
        pytest.skip(
            "no compose-go: go install github.com/compose-spec/compose-go/v2/cmd@v2.9.1 into .tools/compose"
        )
    done = subprocess.run(
        [tool, "-format", "json", checkout / "deploy/compose.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"service_completed_successfully"' in done.stdout


def test_what_envoy_is_started_with(checkout: Path, tmp_path: Path) -> None:
    """The script changes three addresses and the file of the key, and the real Envoy accepts the result."""
    try:
        envoy = program(checkout, "envoy")
    except NoProxyError as reason:
        pytest.skip(str(reason))
    key = tmp_path / "gateway-key"
    key.write_text("authsvc_live_x")
    source, file = checkout / "deploy/envoy/envoy.yaml", tmp_path / "envoy.yaml"
    script = tmp_path / "envoy.sh"
    text = (checkout / "deploy/compose/envoy.sh").read_text("utf-8")
    script.write_text(text.replace("/run/secrets/gateway-key", str(key)), "utf-8")
    environment = os.environ | {
        "ENVOY_SOURCE": str(source),
        "ENVOY_FILE": str(file),
        "PATH": f"{envoy.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", script, "--mode", "validate", "--log-level", "error"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    changed = set(file.read_text("utf-8").splitlines()) - set(source.read_text("utf-8").splitlines())
    assert sorted(line.strip().removeprefix("- ") for line in changed if "#" not in line) == [
        f"secret: {{ filename: {key} }}",
        "socket_address: { address: 0.0.0.0, port_value: 8080 }",
        "socket_address: { address: app, port_value: 8000 }",
        "socket_address: { address: authsvc, port_value: 50051 }",
    ]


def test_the_configuration_of_prometheus(checkout: Path) -> None:
    """The real promtool accepts it."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus")
    file = checkout / "deploy/prometheus/prometheus.yaml"
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_start(checkout: Path, tmp_path: Path) -> None:
    """start.sh makes secrets that only this user can reach, and keys, once; it can be repeated."""
    deploy = tmp_path / "deploy"
    shutil.copytree(checkout / "deploy/compose", deploy / "compose")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    calls = tmp_path / "calls"
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "CALLS": str(calls)}

    def start() -> dict[str, str]:
        calls.write_text("")
        done = subprocess.run([deploy / "compose/start.sh"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return {file.name: file.read_text() for file in (deploy / "secrets").iterdir()}

    made = start()
    assert set(made) == set(SECRETS)
    assert (deploy / "secrets").stat().st_mode & 0o777 == 0o700
    # Containers read them as another user.
    assert {file.stat().st_mode & 0o444 for file in (deploy / "secrets").iterdir()} == {0o444}
    assert made["database-url"] == f"postgresql://authsvc_server:{made['server-password']}@postgres/authsvc"
    assert made["migration-database-url"] == (
        f"postgresql://authsvc_owner:{made['owner-password']}@postgres/authsvc"
    )
    assert len({made[name] for name in SECRETS}) == len(SECRETS)
    assert (made["admin-key"], made["gateway-key"]) == ("authsvc_live_admin\n", "authsvc_live_gateway")
    assert len(calls.read_text().splitlines()) == 5
    assert start() == made
    assert len(calls.read_text().splitlines()) == 3


def test_a_start_that_fails(checkout: Path, tmp_path: Path) -> None:
    """No empty key is kept when a command of Docker fails: the next start asks again."""
    shutil.copytree(checkout / "deploy/compose", tmp_path / "compose")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text('#!/bin/sh\ncase "$*" in *bootstrap*) exit 1 ;; esac\n')
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run([tmp_path / "compose/start.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nothing to write into deploy/secrets/admin-key" in done.stderr
    assert (tmp_path / "secrets/admin-key").read_text() == ""
