"""A database is restored from an older backup, and what was revoked since then is revoked again."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import grpc
import pytest

from authsvc.v1.resources_pb2 import VerdictCode
from tests.conftest import Client
from tests.faults.replicated import until
from tests.restore.conftest import Drill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

VALID, REVOKED, DISABLED = "VALID", "REVOKED", "DISABLED"


class Keys:
    """Keys by names that the tests give them, and one session."""

    def __init__(self, admin: Client) -> None:
        self._admin = admin
        self.made: dict[str, Any] = {}
        self.session: Any = None

    async def create(self, owner_id: str, *names: str) -> None:
        for name in names:
            made = await self._admin.CreateKey(owner_id=owner_id, display_name=name)
            self.made[name] = made

    def id(self, name: str) -> str:
        return str(self.made[name].key.key_id)

    async def verdict(self, name: str, admin: Client | None = None) -> str:
        """Verify a key; "" while no answer is known."""
        with suppress(grpc.aio.AioRpcError):
            told = await (admin or self._admin).VerifyKey(key_string=self.made[name].key_string)
            return VALID if told.valid else VerdictCode.Name(told.code).removeprefix("VERDICT_CODE_")
        return ""


@asynccontextmanager
async def light_load(admin: Client, keys: Keys, name: str) -> AsyncIterator[list[str]]:
    """Verify a key that is active all the time, and create others; yield the verdicts."""
    verdicts: list[str] = []

    async def go_on() -> None:
        while True:
            if told := await keys.verdict(name):
                verdicts.append(told)
            with suppress(grpc.aio.AioRpcError):
                await admin.CreateKey(owner_id="busy", display_name="x", timeout=5)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(go_on())
    try:
        yield verdicts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def calls(drill: Drill) -> list[tuple[str, dict[str, Any]]]:
    """Return what `again` has called."""
    lines = [line.split("\t") for line in (drill.home / "again.tsv").read_text().splitlines()]
    return [(method, json.loads(request)) for method, request in lines]


async def test_a_dump_is_restored_under_a_running_service(drill: Drill) -> None:
    """Workers notice that the history is another one; the journal says what to revoke again."""
    with drill.service(1) as service:
        async with service.client(drill.given["KEY"]) as admin:
            keys = Keys(admin)
            await keys.create("acme", "stays", "revoked", "deleted", "rotated", "disabled")
            await keys.create("whole", "one", "two")
            opened = await admin.CreateSession(owner_id="alice")
            async with light_load(admin, keys, "stays") as verdicts:
                await drill.run("dump")
                await admin.RevokeKey(key_id=keys.id("revoked"), reason="leaked")
                await admin.RevokeKey(key_id=keys.id("deleted"))
                await admin.DeleteKey(key_id=keys.id("deleted"))
                await admin.RotateKey(key_id=keys.id("rotated"))
                await admin.DisableKey(key_id=keys.id("disabled"))
                await admin.BatchRevokeKeys(owner_id="whole")
                await admin.RevokeSession(session_id=opened.session.session_id)
                await drill.run("journal")
                later = drill.home / "later.anchor"
                await drill.execute("authsvc", "audit", "verify", "--write-anchor", str(later))
                registrations = service.metric("authsvc_registrations_total")

                await drill.run("restore")
                for name in ("revoked", "deleted", "rotated", "disabled", "one", "two"):
                    await eventually_is(keys, name, VALID)
                assert service.metric("authsvc_registrations_total") > registrations

                listed = await drill.run("lost")
                assert {line.split("\t")[1] for line in listed.splitlines()} >= {
                    *("KEY_REVOKED", "KEY_ROTATED", "KEY_DELETED", "KEY_DISABLED"),
                    *("OWNER_KEYS_REVOKED", "SESSION_REVOKED"),
                }
                assert "failed" not in await drill.run("again")
                batch, session, disable = calls(drill)
                revoked = {keys.id(name) for name in ("revoked", "deleted", "rotated", "one", "two")}
                assert (batch[0], set(batch[1]["keyIds"])) == ("KeyService/BatchRevokeKeys", revoked)
                assert session[1] == {"sessionId": opened.session.session_id}
                assert disable[1]["keyId"] == keys.id("disabled")

                for name in ("revoked", "deleted", "rotated", "one", "two"):
                    assert await keys.verdict(name) == REVOKED, name
                assert await keys.verdict("disabled") == DISABLED
                told = await admin.VerifySession(session_token=opened.session_token)
                assert not told.valid
                assert "failed" not in await drill.run("again")
                assert calls(drill) == []
            assert len(verdicts) > 20
            assert set(verdicts) == {VALID}
    await drill.run("verify")
    told = await drill.execute("authsvc", "audit", "verify", "--anchor", str(later), status=1)
    assert all(owner in told for owner in ("acme", "whole", "alice")), told


async def eventually_is(keys: Keys, name: str, verdict: str) -> None:
    """Wait until there is an answer, as while the database is replaced; it is the expected one."""
    assert await until(lambda: keys.verdict(name), seconds=60) == verdict, name


async def test_a_recovery_to_a_point_in_time(drill: Drill) -> None:
    """What was revoked before that moment stays revoked; what was revoked later is revoked again."""
    with drill.service(1) as service:
        async with service.client(drill.given["KEY"]) as admin:
            keys = Keys(admin)
            await keys.create("acme", "before", "after", "mistake")
            await drill.run("dump")
            await drill.run("base")
            await admin.RevokeKey(key_id=keys.id("before"))
            [row] = await fetch(drill, "SELECT clock_timestamp()::text AS now")
            drill.given["TARGET"] = row["now"]
            await admin.RevokeKey(key_id=keys.id("after"))
            await fetch(drill, "DELETE FROM authsvc.keys WHERE display_name = 'mistake'")
            await drill.run("journal")
    await fetch(drill, "SELECT pg_switch_wal()")
    await drill.server.stop(signal.SIGINT)
    await drill.run("recover")
    await drill.server.start()
    await recovered(drill)
    await drill.run("registrations")
    with drill.service(2) as service:
        async with service.client(drill.given["KEY"]) as admin:
            assert [await keys.verdict(name, admin) for name in ("before", "after", "mistake")] == [
                REVOKED,
                VALID,
                VALID,
            ]
            assert "failed" not in await drill.run("again")
            assert [request["keyIds"] for _, request in calls(drill)] == [[keys.id("after")]]
            assert await keys.verdict("after", admin) == REVOKED
    await drill.run("verify")


async def recovered(drill: Drill) -> None:
    """Wait until the server has ended its recovery."""
    await until(lambda: fetch(drill, "SELECT WHERE NOT pg_is_in_recovery()"), seconds=60)


async def fetch(drill: Drill, statement: str) -> list[Any]:
    """Run one statement as the superuser."""
    connection = await asyncpg.connect(drill.server.url_for("authsvc"), timeout=10)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()
