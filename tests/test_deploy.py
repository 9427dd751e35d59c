"""The files of deploy/ do what they say."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from authsvc.process.devpg import Binaries, DevPostgres
from authsvc.store.migrate import migrate
from tests.conftest import Clock, serving

OWNER, SERVER = "o'wner", "ser ver"


@pytest.fixture
async def fresh_server(reachable_dir: Path, unique: str) -> AsyncIterator[DevPostgres]:
    """A server that logs every statement, without the embedded server's database."""
    settings = {"fsync": "off", "log_statement": "all", "log_min_duration_statement": "0"}
    async with DevPostgres(reachable_dir / unique, settings=settings) as server:
        connection = await asyncpg.connect(server.url_for("postgres"))
        await connection.execute("DROP DATABASE authsvc")
        await connection.close()
        yield server


async def make_roles(server: DevPostgres, checkout: Path, *options: str, typed: str = "") -> tuple[int, str]:
    """Run roles.sql with input for its prompts; return the exit code and the output of psql."""
    psql = await asyncio.create_subprocess_exec(
        str(Binaries.find().directory / "psql"),
        *("-X", *options, "-d", server.url_for("postgres")),
        *("-f", str(checkout / "deploy/postgres/roles.sql")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Without a terminal it reads passwords from its input.
    )
    said, _ = await psql.communicate(typed.encode())
    return await psql.wait(), said.decode()


@pytest.mark.parametrize("by", ["file", "prompt"])
async def test_the_roles_serve_and_cannot_change(
    fresh_server: DevPostgres,
    checkout: Path,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reachable_dir: Path,
    unique: str,
    by: str,
) -> None:
    """roles.sql, then migrate with both URLs, then serve with the second: a key lives, the schema stays.

    The passwords are in files or typed, and nowhere else: in no argument, URL, output or log.
    """
    place = urlsplit(fresh_server.url)
    if by == "file":
        (tmp_path / "owner's").write_text(f"{OWNER}\n")
        (tmp_path / "server").write_text(SERVER)
        options = (
            *("-v", f"owner_password_file={tmp_path}/owner's"),
            *("-v", f"server_password_file={tmp_path}/server"),
        )
        done, said = await make_roles(fresh_server, checkout, *options)
    else:
        typed = "".join(f"{password}\n" * 2 for password in (OWNER, SERVER))
        done, said = await make_roles(fresh_server, checkout, typed=typed)
    assert done == 0, said
    log = (reachable_dir / unique / "log").read_text("utf-8")
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in log  # It logs what it receives.
    for password in (OWNER, OWNER.replace("'", "''"), SERVER):
        assert password not in said + log
    passwords = tmp_path / "pgpass"
    passwords.write_text(
        "".join(
            f"{place.hostname}:{place.port}:authsvc:{role}:{password}\n"
            for role, password in (("authsvc_owner", OWNER), ("authsvc_server", SERVER))
        )
    )
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    owner = f"postgresql://authsvc_owner@{place.hostname}:{place.port}/authsvc"
    server = f"postgresql://authsvc_server@{place.hostname}:{place.port}/authsvc"
    await migrate(owner, serving_role="authsvc_server")
    async with serving(server, clock) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="x")
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid
    connection = await asyncpg.connect(server)
    try:
        for statement in (
            "CREATE TABLE public.mine (n integer)",
            "CREATE SCHEMA mine",
            "DROP TABLE authsvc.keys",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("options", "typed", "told"),
    [
        (("-v", "owner_password_file=nowhere"), "", "owner_password_file: cannot be read, or is empty"),
        (("-v", "owner_password_file=/dev/null"), "", "owner_password_file: cannot be read, or is empty"),
        ((), "one\nother\n", "didn't match"),
    ],
)
async def test_roles_with_no_password_are_not_made(
    fresh_server: DevPostgres, checkout: Path, options: tuple[str, ...], typed: str, told: str
) -> None:
    """A missing file and a mistyped password end it with an error; it can be run again."""
    done, said = await make_roles(fresh_server, checkout, *options, typed=typed)
    assert (done, told in said) == (3, True), said
    again = "".join(f"{password}\n" * 2 for password in (OWNER, SERVER))
    for _ in range(2):
        done, said = await make_roles(fresh_server, checkout, typed=again)
        assert done == 0, said


def test_the_image_copies_what_exists(checkout: Path) -> None:
    """Each path that the Containerfile copies exists in the checkout, and its settings are valid."""
    text = (checkout / "deploy/Containerfile").read_text("utf-8")
    copied = [
        path for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for path in line.split()
    ]
    assert copied
    assert [path for path in copied if not (checkout / path).exists()] == []
