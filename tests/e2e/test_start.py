"""What a start prints, stores and refuses."""

import json
import re
import socket
import stat
import sys
import urllib.request
from base64 import b64decode
from pathlib import Path

import asyncpg
import pytest

from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import known_migrations
from tests.e2e.process import Ended, Server, authsvc, free_port, run, running

KEY_STRING = re.compile(r"authsvc_live_[0-9A-Za-z]{63}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(done: Ended) -> str:
    """Return the error of a failed start."""
    assert (done.code, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr[done.stderr.index("authsvc: ") :].removeprefix("authsvc: ").rstrip("\n")


def test_the_administrator_key_is_shown_once(directory: Path) -> None:  # rule 1
    """The first start prints and stores it; the next one says where it is; a lost key can be replaced."""
    with running("dev", directory) as first:
        assert KEY_STRING.findall(first.stdout) == [first.admin_key]
        assert mode(first.data_dir / "admin.key") == 0o600
        assert first.run("keys", "list", "authsvc").code == 0
        kept = first.admin_key
    assert kept not in first.stderr

    with running("dev", directory) as second:
        assert not KEY_STRING.search(second.stdout)
        assert f"Your administrator key is in {second.data_dir / 'admin.key'}." in second.stdout
        assert second.admin_key == kept
        assert second.run("keys", "list", "authsvc").code == 0

    (directory / "data" / "admin.key").unlink()
    with running("dev", directory) as third:
        assert not KEY_STRING.search(third.stdout)
        assert (
            "is missing, and the key cannot be shown again. Create another one with "
            "`authsvc dev --new-admin-key`." in third.stdout
        )

    with running("dev", directory, "--new-admin-key") as fourth:
        assert KEY_STRING.findall(fourth.stdout) == [fourth.admin_key]
        assert fourth.admin_key != kept
        assert len(fourth.run("keys", "list", "authsvc", "--json").stdout.splitlines()) == 2


def test_the_key_of_webhooks_is_kept(directory: Path) -> None:
    """The first start makes it; only its owner reads it; a broken file is an error that says what to do."""
    with running("dev", directory) as first:
        file = first.data_dir / "webhook.key"
        kept = file.read_text()
        assert len(b64decode(kept)) == 32
        assert mode(file) == 0o600
        done = first.run("webhooks", "create", "acme", "https://hooks.invalid/")
        assert done.code == 0, done.stderr
        webhook_id = re.findall(r"whk_\w{26}", done.stderr)[0]
    assert kept.strip() not in first.stdout + first.stderr

    with running("dev", directory) as second:
        assert file.read_text() == kept
        # Its secret can still be derived, or this would be refused before the call.
        assert "test_" in second.run("webhooks", "test", webhook_id).stderr

    file.write_text(kept[:20])
    told = refusal(authsvc("dev", cwd=directory, data_dir=directory / "data", listen="127.0.0.1:0"))
    assert told.startswith(f"{file}: key 1 ")
    assert "make one with `openssl rand -base64 32`, or remove the file" in told
    assert kept[:20] not in told


def test_python_reports_nothing(directory: Path) -> None:
    """Development mode finds nothing, and the output is the same as that of a program that was forked."""
    python = (sys.executable, "-X", "dev", "-W", "error", "-m", "authsvc.cli")
    for command in ("settings", "--version"):
        done = run(*python, command, cwd=directory)
        assert (done.code, done.stderr) == (0, "")
        assert done == authsvc(command, cwd=directory)


def test_the_data_are_private(dev: Server) -> None:
    """Other users cannot list the data directory or read anything in it; the cluster is 0700."""
    assert mode(dev.data_dir) & 0o066 == 0
    assert mode(dev.data_dir / "admin.key") == 0o600
    assert mode(dev.data_dir / "postgres") == mode(dev.cluster) == 0o700


def test_the_first_lines_say_where_it_is(dev: Server) -> None:
    """The address, the data directory and how to stop are printed first."""
    told = dev.stdout.splitlines()[0]
    assert told == f"authsvc serves at {dev.address}; its data is in {dev.data_dir}. Ctrl-C stops it."


def test_it_serves_over_http(dev: Server) -> None:
    """The address is printed, with a port that is free, and the key is accepted there."""
    [url] = re.findall(r"over HTTP at (http://127\.0\.0\.1:\d+),", dev.stdout)
    request = urllib.request.Request(  # noqa: S310 - the address is ours
        f"{url}/authsvc.v1.KeyService/ListKeys",
        b'{"owner_id": "authsvc"}',
        {"content-type": "application/json", "authorization": f"Bearer {dev.admin_key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        assert len(json.load(answer)["keys"]) == 1


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("foo", "hunter2", "AUTHSVC_FOO: not a setting of authsvc"),
        ("listen", "hunter2", "AUTHSVC_LISTEN: use host:port, for instance 127.0.0.1:50051"),
        ("listen", "127.0.0.1:hunter2", "AUTHSVC_LISTEN: use host:port"),
        ("listen", "127.0.0.1:99999", "AUTHSVC_LISTEN: use host:port"),
        ("admin_listen", "hunter2", "AUTHSVC_ADMIN_LISTEN: use host:port"),
        (
            "metrics_listen",
            "127.0.0.1:9090",
            "AUTHSVC_METRICS_LISTEN: not a setting of authsvc; set AUTHSVC_ADMIN_LISTEN instead, one address",
        ),
        ("drain_delay", "hunter2", "AUTHSVC_DRAIN_DELAY: "),
        ("drain_delay", "2h", "AUTHSVC_DRAIN_DELAY: "),
        (
            "scopes",
            "orders:read,Orders",
            "AUTHSVC_SCOPES: 'Orders' is not a valid scope; use a form like orders:read",
        ),
        ("brand", "e", "AUTHSVC_BRAND: use 2 to 10 characters"),
        ("log_level", "hunter2", "AUTHSVC_LOG_LEVEL: "),
        ("database_pool_size", "0", "AUTHSVC_DATABASE_POOL_SIZE: "),
        ("database_url", "mysql://u:hunter2@h/d", "AUTHSVC_DATABASE_URL: use postgresql://user:password@"),
        ("database_url", "postgresql://u:hunter2@h:5432x/d", "AUTHSVC_DATABASE_URL: "),
        ("database_url", "postgresql://u:31337#hunter2@h/d", "AUTHSVC_DATABASE_URL: "),
        ("database_url", "postgresql://u:hunter2/31337@h/d", "AUTHSVC_DATABASE_URL: "),
        ("database_url", "postgresql://u:31337/hunter2@h/d", "AUTHSVC_DATABASE_URL: use postgresql://"),
        ("database_url", "postgresql://u:31337?a=hunter2@h/d", "AUTHSVC_DATABASE_URL: use postgresql://"),
        ("database_url", "postgresql://u:one@hunter2@h/d", "AUTHSVC_DATABASE_URL: "),
        ("database_url", "postgresql://u:hunter2@h/d?sslmode=31337", "AUTHSVC_DATABASE_URL: "),
    ],
)
def test_a_bad_setting_stops_the_start(directory: Path, setting: str, value: str, told: str) -> None:
    """The error has its name and the remedy, and no value that may be secret."""
    told_now = refusal(authsvc("serve", cwd=directory, **{setting: value}))
    assert told_now.startswith(told)
    assert "hunter2" not in told_now
    assert "31337" not in told_now


def test_a_host_that_is_not_found_is_told_once(directory: Path) -> None:
    """Several workers need it; those that are stopped after the first failure leave no traceback."""
    url = "postgresql://u:hunter2@nobody.invalid/d"
    told = refusal(authsvc("serve", cwd=directory, database_url=url, workers="4"))
    assert told.startswith("AUTHSVC_DATABASE_URL: cannot use the database: ")
    assert told.count("\n") == 0


def test_all_bad_settings_are_told_at_once(directory: Path) -> None:
    """One start reports all errors, one per line."""
    lines = refusal(authsvc("dev", cwd=directory, foo="1", listen="x", brand="9")).splitlines()
    assert [line.split(":")[0] for line in lines] == ["AUTHSVC_FOO", "AUTHSVC_LISTEN", "AUTHSVC_BRAND"]


def test_a_bad_start_leaves_nothing(directory: Path) -> None:
    """Settings are checked before anything is created."""
    refusal(authsvc("dev", cwd=directory, listen="x"))
    assert list(directory.iterdir()) == []


def test_a_taken_port_is_told(directory: Path, database_url: str) -> None:
    """The address and the setting are named if the port is in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        told = refusal(authsvc("serve", cwd=directory, database_url=database_url, listen=address))
    assert told.startswith(f"cannot listen at {address} (")
    assert "AUTHSVC_LISTEN" in told


def test_dev_on_data_of_another_postgresql_is_told(directory: Path) -> None:
    """The service does not start, and the message says what to do."""
    (directory / "data/postgres/cluster").mkdir(parents=True)
    (directory / "data/postgres/lock").touch()
    (directory / "data/postgres/cluster/PG_VERSION").write_text("99\n", "ascii")
    told = refusal(authsvc("dev", cwd=directory, data_dir=directory / "data", listen="127.0.0.1:0"))
    assert "holds the data of PostgreSQL 99, which PostgreSQL" in told
    assert "move " in told


def test_a_second_dev_on_the_same_data_is_refused(dev: Server) -> None:
    """The directory and the process that uses it are named; the first one keeps running."""
    told = refusal(authsvc("dev", cwd=dev.directory, data_dir=dev.data_dir, listen="127.0.0.1:0"))
    assert re.search(rf"{dev.data_dir}\S* is already in use by process \d+$", told)
    assert dev.run("keys", "list", "authsvc").code == 0


def test_serve_without_a_database_says_what_to_set(directory: Path) -> None:
    """It names the setting, and the command that has its own database."""
    told = refusal(authsvc("serve", cwd=directory))
    assert told == "AUTHSVC_DATABASE_URL: set it, or use `authsvc dev` for a database of its own"


@pytest.mark.parametrize("command", ["serve", "migrate", "dev"])
def test_an_unreachable_database_is_told(directory: Path, command: str) -> None:
    """It says that the database cannot be reached, without the password."""
    url = f"postgresql://authsvc:hunter2@127.0.0.1:{free_port()}/authsvc"
    told = refusal(authsvc(command, cwd=directory, database_url=url, listen="127.0.0.1:0"))
    assert "database" in told
    assert "hunter2" not in told


@pytest.mark.parametrize("command", ["serve", "migrate", "dev"])
def test_a_wrong_password_is_told(directory: Path, postgres: DevPostgres, command: str) -> None:
    """It says that the database refuses the password, without the password."""
    url = f"postgresql://authsvc:hunter2@{postgres.url.partition('@')[2]}"
    told = refusal(authsvc(command, cwd=directory, database_url=url, listen="127.0.0.1:0"))
    assert 'password authentication failed for user "authsvc"' in told
    assert "hunter2" not in told


async def test_a_database_without_the_schema_is_told(
    directory: Path, postgres: DevPostgres, unique: str
) -> None:
    """`serve` names the missing migrations and the command; after that, `serve` starts."""
    connection = await asyncpg.connect(postgres.url_for("postgres"))
    await connection.execute(f"CREATE DATABASE {unique}")
    await connection.close()
    url = postgres.url_for(unique)
    told = refusal(authsvc("serve", cwd=directory, database_url=url))
    names = [f"{migration.number:04} {migration.name}" for migration in known_migrations()]
    assert told == f"the database lacks {', '.join(names)}: run `authsvc migrate` first"
    done = authsvc("migrate", cwd=directory, database_url=url)
    assert (done.code, done.stderr) == (0, "")
    applied = [f"applied {name}" for name in names]
    assert done.stdout.splitlines() == [
        *applied,
        "audit events are kept for 400 days",
        f"{len(names)} applied; the schema is up to date",
    ]
    nothing = "nothing to do; the schema is up to date\n"
    for setting, told in (
        ({}, ""),
        ({"audit_retention": "90d"}, "audit events are kept for 90 days\n"),
        ({"audit_retention": "0d"}, "audit events are kept forever\n"),
        ({}, ""),
    ):
        done = authsvc("migrate", cwd=directory, database_url=url, **setting)
        assert (done.code, done.stdout) == (0, told + nothing)
    with running("serve", directory, database_url=url):
        pass


def test_dev_serves_from_a_database_of_ones_own(directory: Path, database_url: str) -> None:  # rule 1
    """With AUTHSVC_DATABASE_URL, no PostgreSQL is started, and the key is stored as usual."""
    with running("dev", directory, database_url=database_url) as server:
        assert KEY_STRING.findall(server.stdout) == [server.admin_key]
        assert not (server.data_dir / "postgres").exists()
        assert server.run("keys", "list", "authsvc").code == 0


def test_metrics_are_served_when_asked_for(directory: Path, database_url: str) -> None:
    """With AUTHSVC_ADMIN_LISTEN, calls, verdicts and internal state can be scraped."""
    (directory / "data").mkdir()
    address = f"127.0.0.1:{free_port()}"
    with running("dev", directory, database_url=database_url, admin_listen=address) as server:
        server.run("keys", "list", "acme")
        server.run("keys", "list", "acme", key="nonsense")
        assert server.metric('authsvc_rpc_seconds_count{method="ListKeys"}') == 2
        assert server.metric('authsvc_rpc_errors_total{code="UNAUTHENTICATED",method="ListKeys"}') == 1
        assert server.metric('authsvc_verdicts_total{code="VALID"}') == 1
        assert server.metric('authsvc_verdicts_total{code="NOT_FOUND"}') == 1
        assert server.metric("authsvc_cached_keys") == 1
        assert server.metric("authsvc_database_checkouts_total") > 0


def test_the_settings_are_listed(directory: Path) -> None:
    """`authsvc settings` lists each setting in one line, with its default and description."""
    done = authsvc("settings", cwd=directory, listen="127.0.0.1:7")
    assert (done.code, done.stderr) == (0, "")
    assert re.search(
        r"^ ?AUTHSVC_LISTEN +127.0.0.1:50051 +address to serve gRPC on", done.stdout, re.MULTILINE
    )
    for line in done.stdout.splitlines()[1:]:
        assert line.strip().startswith("AUTHSVC_")
