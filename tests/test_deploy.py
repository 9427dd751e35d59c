"""The files of deploy/ do what they say."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from authsvc.devpg import Binaries, DevPostgres
from authsvc.store.migrate import migrate
from tests.conftest import Clock, serving


@pytest.fixture
async def fresh_server(reachable_dir: Path, unique: str) -> AsyncIterator[DevPostgres]:
    async with DevPostgres(reachable_dir / unique, settings={"fsync": "off"}) as server:
        yield server


async def test_the_roles_serve_and_cannot_change(
    fresh_server: DevPostgres, checkout: Path, clock: Clock
) -> None:
    """roles.sql, then migrate with both URLs, then serve with the second: a key lives, the schema stays."""
    place = urlsplit(fresh_server.url)
    connection = await asyncpg.connect(fresh_server.url_for("postgres"))
    await connection.execute(
        "DROP DATABASE authsvc"
    )  # The embedded server comes with one; the file makes it.
    await connection.close()
    psql = await asyncio.create_subprocess_exec(
        str(Binaries.find().directory / "psql"),
        *("-v", "ON_ERROR_STOP=1", "-v", "owner_password=o'wner", "-v", "server_password=ser ver"),
        *("-q", "-d", fresh_server.url_for("postgres"), "-f", str(checkout / "deploy/postgres/roles.sql")),
    )
    assert await psql.wait() == 0
    owner = f"postgresql://authsvc_owner:o%27wner@{place.hostname}:{place.port}/authsvc"
    server = f"postgresql://authsvc_server:ser%20ver@{place.hostname}:{place.port}/authsvc"
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


def test_the_image_copies_what_exists(checkout: Path) -> None:
    """Each path that the Containerfile copies is in the checkout, and its settings are settings."""
    text = (checkout / "deploy/Containerfile").read_text("utf-8")
    copied = [
        path for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for path in line.split()
    ]
    assert copied
    assert [path for path in copied if not (checkout / path).exists()] == []
