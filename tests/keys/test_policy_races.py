"""Policies with several workers: a change holds on all of them, and for changes of keys at the same time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.store.policies import _SQL
from authsvc.store.pool import Database
from authsvc.v1 import resources_pb2
from tests.conftest import BRIEFLY, Clock, Patience, Service, eventually, serving
from tests.faults.load import reason_of
from tests.revocation.test_barrier import code, register, two_workers
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import make
from tests.rpc.test_rotate import rotate
from tests.rpc.test_update import update

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def test_off_and_on_everywhere(database_url: str) -> None:  # rules 7, 15
    """After UpdateOwnerPolicy, no worker accepts a key of the owner, or all of them do again."""
    async with two_workers(database_url) as (one, other):
        made = [await make(one) for _ in range(5)]
        foreign = await make(one, "globex")
        for _ in range(3):
            for worker in (one, other):
                assert {await code(worker, key.key_string) for key in made} == {"VALID"}
            before = one.app.holder.seq
            await set_policy(one, keys_enabled=False)
            assert one.app.holder.seq == other.app.holder.seq == before + 1  # However many keys there are.
            for worker in (other, one):
                assert {await code(worker, key.key_string) for key in made} == {"DISABLED"}
                assert await code(worker, foreign.key_string) == "VALID"
            await set_policy(other, keys_enabled=True)


async def test_the_first_policy_holds_where_the_default_is_another(database_url: str) -> None:  # rules 7, 15
    """An owner's own policy applies on every worker, also if it does not change keys_enabled."""
    async with (
        serving(database_url, None) as one,
        serving(database_url, None, default_keys_enabled=False) as other,
    ):
        other.admin_key = one.admin_key
        made = await make(one)
        assert [await code(worker, made.key_string) for worker in (one, other)] == ["VALID", "DISABLED"]
        await set_policy(one, max_active_keys=5)
        assert [await code(worker, made.key_string) for worker in (one, other)] == ["VALID", "VALID"]


async def test_off_while_everybody_verifies(database_url: str) -> None:  # rules 7, 15
    """Fills of the cache that are in progress bring no key back: after the answer, all are DISABLED."""
    async with two_workers(database_url) as (one, other):
        made = [await make(one) for _ in range(20)]
        strings = [key.key_string for key in made]
        for _ in range(5):
            await set_policy(one, keys_enabled=True)
            asking = [asyncio.ensure_future(code(worker, s)) for s in strings for worker in (one, other)]
            await set_policy(other, keys_enabled=False)
            after = await asyncio.gather(*(code(worker, s) for s in strings for worker in (one, other)))
            assert set(after) == {"DISABLED"}
            assert set(await asyncio.gather(*asking)) <= {"VALID", "DISABLED"}


async def test_it_waits_for_who_is_out_of_reach(database_url: str, patience: Patience) -> None:  # rule 15
    """Disabling is answered like a revocation; a change that does not affect verification does not wait."""
    async with (
        serving(database_url, None, stopwatch=patience.stopwatch) as service,
        Database.open(database_url) as database,
    ):
        await make(service)
        await set_policy(service, max_active_keys=9)
        gone = await register(database, lease=3600)
        await set_policy(service, max_active_keys=5)
        policy: dict[str, Any] = {"policy": {"owner_id": "acme"}, "update_mask": {"paths": ["keys_enabled"]}}
        for _ in range(2):  # A repeated call also waits, although nothing changes.
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED") as refusal:
                await patience.ends(service.admin.UpdateOwnerPolicy(**policy, timeout=BRIEFLY))
            assert refusal.info.metadata["workers"] == gone
        assert not (await service.admin.GetOwnerPolicy(owner_id="acme")).keys_enabled
        async with database.connection() as connection:
            await connection.execute("DELETE FROM authsvc.workers WHERE worker_id = $1", gone)
        await service.admin.UpdateOwnerPolicy(**policy)


async def test_exactly_as_many_as_the_policy_lets(database_url: str) -> None:  # rule 5
    """Of a hundred calls of CreateKey at the same time on two workers, ten succeed."""
    async with two_workers(database_url) as (one, other):
        await set_policy(one, max_active_keys=10)
        calls = [make((one, other)[i % 2]) for i in range(100)]
        made = await asyncio.gather(*calls, return_exceptions=True)
        assert len(made_of(made)) == 10
        assert reasons_of(made) == {"MAX_ACTIVE_KEYS"}
        assert len((await one.admin.ListKeys(owner_id="acme")).keys) == 10


async def test_creates_rotations_and_revivals_at_once(database_url: str, clock: Clock) -> None:  # rules 5, 30
    """In any order, no more keys are active than the policy allows, and no more are in a grace period."""
    async with serving(database_url, clock) as one, serving(database_url, clock) as other:
        other.admin_key = one.admin_key
        workers = (one, other)
        expired = [await make(one, ttl=Duration(seconds=60)) for _ in range(10)]
        clock.advance(seconds=60)
        rotated = [await make(one) for _ in range(3)]
        await set_policy(one, max_active_keys=4)
        calls = [rotate(workers[i % 2], key.key.key_id, 3600) for i, key in enumerate(rotated)]
        calls += [update(workers[i % 2], key.key.key_id, "expire_time") for i, key in enumerate(expired)]
        calls += [make(workers[i % 2]) for i in range(10)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert (len(made_of(done[:3])), len(made_of(done[3:]))) == (3, 1)
        assert reasons_of(done) == {"MAX_ACTIVE_KEYS"}
        active = await active_keys(one)
        assert [bool(key.rotated_to_key_id) for key in active].count(True) == 3
        assert len(active) == 7
        calls = [rotate(one, key.key_id, 3600) for key in active if not key.rotated_to_key_id]
        assert len(made_of(await asyncio.gather(*calls, return_exceptions=True))) == 1
        assert len(await active_keys(one)) == 8


@pytest.mark.parametrize("change", ["rotate", "update", "revoke"])
async def test_what_waited_beyond_the_end_of_its_key(
    database_url: str, clock: Clock, change: str
) -> None:  # rules 5, 16
    """A key that ended while its change waited does not become active again, since another took its place."""
    async with serving(database_url, clock) as service:
        await set_policy(service, max_active_keys=1)
        ends: dict[str, Any] = {} if change == "revoke" else {"ttl": Duration(seconds=60)}
        made = await make(service, **ends)
        key_id = made.key.key_id
        if change == "revoke":
            await service.admin.RevokeKey(key_id=key_id, revoke_in=Duration(seconds=60))
        attempt: Any = {
            "rotate": lambda: rotate(service, key_id),
            "update": lambda: update(service, key_id, "expire_time"),
            "revoke": lambda: service.admin.RevokeKey(key_id=key_id, revoke_in=Duration(seconds=3600)),
        }[change]
        waits = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event = 'transactionid'"
        )
        blocker = await asyncpg.connect(database_url)
        try:
            async with blocker.transaction():
                await blocker.execute("SELECT FROM authsvc.keys WHERE key_id = $1 FOR UPDATE", key_id)
                attempting = asyncio.ensure_future(attempt())
                await eventually(lambda: blocker.fetchval(waits), bool)
                clock.advance(seconds=60)
                await make(service)
        finally:
            await blocker.close()
        reason = {
            "rotate": "KEY_EXPIRED",
            "update": "MAX_ACTIVE_KEYS",
            "revoke": "KEY_ALREADY_REVOKED",
        }[change]
        with refused(PRECONDITION, reason):
            await attempting
        assert len(await active_keys(service)) == 1


@pytest.mark.parametrize("change", ["create", "rotate", "update"])
async def test_what_began_before_a_policy_ends_before_it(database_url: str, change: str) -> None:  # rule 7
    """A policy waits for changes that rely on the previous one. It applies to those that come later."""
    async with two_workers(database_url) as (one, other):
        made = await make(one, scopes=["a", "b"])
        await make(one)  # Its credential is in memory.

        def attempt() -> Any:
            return {
                "create": lambda: make(one, scopes=["b"]),
                "rotate": lambda: rotate(one, made.key.key_id),
                "update": lambda: update(one, made.key.key_id, "scopes", scopes=["a", "b", "c"]),
            }[change]()

        blocker = await asyncpg.connect(database_url)
        try:
            # Blocks any transaction that writes a key, after it has read the policy.
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE authsvc.keys IN EXCLUSIVE MODE")
                attempting = asyncio.ensure_future(attempt())
                await eventually(lambda: waiting(blocker, "relation"), bool)
                tightening = asyncio.ensure_future(
                    set_policy(other, allowed_scopes=["a"], max_active_keys=50)
                )
                await eventually(lambda: waiting(blocker, "advisory"), bool)
                assert not tightening.done()
            await attempting
            await tightening
        finally:
            await blocker.close()
        with refused(PRECONDITION, "SCOPE_NOT_ALLOWED"):
            await make(other, scopes=["b"])


async def test_a_policy_that_comes_while_a_create_waits(database_url: str) -> None:  # rule 7
    """The new policy applies to a call of CreateKey that waits for it, whatever it read before."""
    async with two_workers(database_url) as (one, other):
        await make(one)
        blocker = await asyncpg.connect(database_url)
        try:
            async with blocker.transaction():
                # As UpdateOwnerPolicy does it, before its commit.
                await blocker.execute("SELECT pg_advisory_xact_lock(hashtextextended('acme', 0))")
                calls = [make(one, brand="") for _ in range(3)]
                creating = [asyncio.ensure_future(call) for call in calls]
                await eventually(lambda: waiting(blocker, "advisory"), lambda count: count == 3)
                await blocker.execute(
                    "INSERT INTO authsvc.owner_policies VALUES ('acme', true, 0, '{}', '0', false, false, "
                    "'all', 'any', 'eg', now(), 1)"
                )
            done = await asyncio.gather(*creating, return_exceptions=True)
        finally:
            await blocker.close()
        assert made_of(done) == []
        assert reasons_of(done) == {"POLICY_CHANGED"}
        assert (await make(other)).key_string.startswith("eg_live_")


async def test_off_against_creates(database_url: str) -> None:  # rule 7
    """Each call of CreateKey while keys are switched off fails, or creates a key that is DISABLED."""
    async with two_workers(database_url) as (one, other):
        for _ in range(3):
            await set_policy(one, keys_enabled=True)
            creating = [asyncio.ensure_future(make((one, other)[i % 2])) for i in range(20)]
            await set_policy(other, keys_enabled=False)
            with refused(PRECONDITION, "API_KEYS_NOT_ENABLED"):
                await make(one)
            done = await asyncio.gather(*creating, return_exceptions=True)
            assert reasons_of(done) <= {"API_KEYS_NOT_ENABLED"}
            for answer in made_of(done):
                assert {await code(worker, answer.key_string) for worker in (one, other)} == {"DISABLED"}


async def test_the_count_uses_an_index(database_url: str) -> None:
    """Counting the keys of an owner with many ended keys reads only the active ones."""
    async with serving(database_url, None) as service, Database.open(database_url) as database:
        await make(service)
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO authsvc.keys SELECT (jsonb_populate_record(k, jsonb_build_object("
                "'key_id', key_id || n, 'key_prefix', key_prefix || n, 'revoke_time', '2026-01-01'))).* "
                "FROM authsvc.keys k, generate_series(1, 3000) AS n WHERE owner_id = 'acme'"
            )
            await connection.execute("ANALYZE authsvc.keys")
            plan = await connection.fetch(
                "EXPLAIN " + _SQL["count_active"], "acme", service.app.clock(), False, "", 10
            )
        assert any("keys_by_end_time" in line["QUERY PLAN"] for line in plan), plan


async def active_keys(service: Service) -> list[Any]:
    states = {"states": [resources_pb2.KEY_STATE_ACTIVE]}
    return list((await service.admin.ListKeys(owner_id="acme", filter=states)).keys)


async def waiting(connection: Any, lock: str) -> int:
    """Return how many wait for such a lock in this database."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = $1 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        lock,
    )
    return count


def made_of(answers: Sequence[Any]) -> list[Any]:
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def reasons_of(answers: Sequence[Any]) -> set[str]:
    """Return why those that were refused were refused."""
    return {reason_of(error) for error in answers if isinstance(error, grpc.aio.AioRpcError)}
