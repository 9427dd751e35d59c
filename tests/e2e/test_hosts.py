"""Commands and the service with a dead host first in the URL of the database."""

from pathlib import Path

import pytest

from tests.dead_hosts import UNKNOWN, at, behind, silent, swallowing
from tests.e2e.process import authsvc, running
from tests.e2e.test_start import KEY_STRING, refusal


@pytest.fixture
def administrator(directory: Path, database_url: str) -> str:
    """The key string of an administrator."""
    return authsvc("bootstrap", cwd=directory, database_url=database_url).stdout.strip()


def test_every_command_gets_past_a_silent_host(directory: Path, database_url: str) -> None:
    """Those that connect to the database, each with a silent host and one that loses packets."""
    with silent() as quiet, swallowing() as full:
        url = behind(database_url, at(quiet), at(full))

        def done(*command: str) -> str:
            ended = authsvc(*command, cwd=directory, database_url=url)
            assert ended.code == 0, ended.stderr
            return ended.stdout

        assert "up to date" in done("migrate")
        assert KEY_STRING.fullmatch(done("bootstrap").strip())
        assert "verified: no faults" in done("audit", "verify")
        done("tag-key", "rotate")
        assert done("tag-key", "list").count("\n") > 2


async def test_the_service_starts_past_a_silent_host(
    directory: Path, database_url: str, administrator: str
) -> None:
    """All of its workers, which serve and make changes."""
    with silent() as quiet:
        url = behind(database_url, at(quiet), UNKNOWN)
        with running("serve", directory, database_url=url, workers=2) as server:
            async with server.client(administrator) as admin:
                made = await admin.CreateKey(owner_id="acme", display_name="Orders")
                assert (await admin.VerifyKey(key_string=made.key_string)).valid
                await admin.RevokeKey(key_id=made.key.key_id)


@pytest.mark.parametrize("command", ["serve", "migrate", "bootstrap", "audit verify", "tag-key list"])
def test_nothing_answers(directory: Path, command: str) -> None:
    """Every command says what happened at each host, in one line, and no password."""
    with silent() as quiet:
        host = at(quiet)
        url = f"postgresql://u:hunter2@{host},{UNKNOWN},127.0.0.1:1/d"
        told = refusal(authsvc(*command.split(), cwd=directory, database_url=url))
    assert f"{host}: no answer within " in told
    assert f"{UNKNOWN}:5432: its name does not resolve" in told
    assert "127.0.0.1:1: Connection refused" in told
    assert "hunter2" not in told
    assert "\n" not in told
