"""Tag keys: several workers on one database, in one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
import pytest_asyncio

from authsvc.keys.tag_keys import MAX_ACCEPTED, TagKeys
from authsvc.model.errors import AlreadyDone, AuthsvcError, FailedPrecondition, NotFound, PermissionDenied
from authsvc.model.key_string import KeyMint
from authsvc.model.tag_key import TagKeyState
from authsvc.store import tag_keys as tag_key_store
from authsvc.store.migrate import migrate
from authsvc.store.pool import Database
from authsvc.v1 import audit_service_pb2 as audit_pb
from authsvc.v1 import resources_pb2
from tests.conftest import Service, eventually, serving
from tests.revocation.test_barrier import barrier_of
from tests.rpc.refusal import refused

NEW, MINTING, ACCEPTED, RETIRED = TagKeyState
LEASE = 30.0


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database


@pytest.fixture
def tag_keys(database: Database) -> TagKeys:
    return TagKeys(database, barrier_of(database))


@asynccontextmanager
async def two_workers(database_url: str) -> AsyncIterator[tuple[Service, Service]]:
    async with serving(database_url, None) as one, serving(database_url, None) as other:
        other.admin_key = one.admin_key
        yield one, other


async def states(tag_keys: TagKeys) -> dict[int, TagKeyState]:
    found, _ = await tag_keys.list()
    return {key.tag_key_id: key.state for key in found}


async def minted_under(database: Database, key_string: str) -> int:
    """Return the id of the tag key that a key string was minted under."""
    async with database.connection() as connection:
        found = await connection.fetch("SELECT tag_key_id, tag_key FROM authsvc.tag_keys")
    [tag_key_id] = [row["tag_key_id"] for row in found if KeyMint(row["tag_key"]).parse(key_string)]
    return int(tag_key_id)


async def create(service: Service) -> str:
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    return str(made.key_string)


async def code(service: Service, key_string: str) -> str:
    answer = await service.admin.VerifyKey(key_string=key_string)
    return resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")


async def lost_worker(database: Database, lease: float = LEASE) -> UUID:
    """Register a worker that never applies anything; return its id."""
    worker_id = uuid4()
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid) VALUES ($1, $2, 'nowhere', 1)",
            worker_id,
            int(lease * 1000),
        )
    return worker_id


async def bury(database: Database, worker_id: UUID) -> None:
    async with database.connection() as connection:
        await connection.execute("DELETE FROM authsvc.workers WHERE worker_id = $1", worker_id)


async def until_waiting(database: Database, seq: int) -> None:
    """Wait until the change with this number is committed and all but the lost worker have applied it."""
    query = (
        "SELECT (SELECT seq FROM authsvc.feed_head) >= $1"
        " AND (SELECT count(*) FROM authsvc.workers WHERE applied < $1) = 1"
    )
    async with database.connection() as connection:
        await eventually(partial(connection.fetchval, query, seq), bool)


@asynccontextmanager
async def under_way(work: "asyncio.Task[int]") -> AsyncIterator[None]:
    """Cancel the work at the end, like a caller whose connection is lost."""
    try:
        yield
    finally:
        assert not work.done()
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def test_a_rotation_is_no_outage(database_url: str, database: Database, tag_keys: TagKeys) -> None:
    """Old and new key strings work on every worker; later ones are minted under the new tag key."""
    async with two_workers(database_url) as (one, other):
        old = await create(one)
        assert await tag_keys.rotate() == 2
        assert await states(tag_keys) == {1: ACCEPTED, 2: MINTING}
        new = [await create(one), await create(other)]
        session = await other.admin.CreateSession(owner_id="alice")
        rotated = await one.admin.RotateKey(
            key_id=(await one.admin.LookupKey(key_string=old)).key_id, grace_period={"seconds": 60}
        )
        for service in one, other:
            for key_string in old, *new, rotated.key_string:
                assert await code(service, key_string) == "VALID"
            assert (await service.admin.VerifySession(session_token=session.session_token)).valid
        assert await minted_under(database, old) == 1
        for key_string in *new, rotated.key_string, session.session_token:
            assert await minted_under(database, key_string) == 2


async def test_nobody_sees_a_rotation(database_url: str, tag_keys: TagKeys) -> None:
    """While tag keys are rotated again and again, a key string of one worker works on the other at once."""
    async with two_workers(database_url) as (one, other):
        rotating = asyncio.create_task(rotate_often(tag_keys, MAX_ACCEPTED - 1))
        count = 0
        while not rotating.done():
            here, there = await asyncio.gather(create(one), create(other))
            for verdict in await asyncio.gather(code(other, here), code(one, there)):
                assert verdict == "VALID"
            count += 1
        await rotating
        assert count > 1
        assert await states(tag_keys) == dict.fromkeys(range(1, MAX_ACCEPTED), ACCEPTED) | {
            MAX_ACCEPTED: MINTING
        }


async def rotate_often(tag_keys: TagKeys, times: int) -> None:
    for _ in range(times):
        await tag_keys.rotate()


async def test_nobody_mints_before_everybody_knows(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """The new tag key does not mint until all workers have confirmed it. A repeated call continues."""
    async with serving(database_url, None) as service:
        lost = await lost_worker(database)
        rotating = asyncio.create_task(tag_keys.rotate())
        async with under_way(rotating):
            await until_waiting(database, 1)
            assert await states(tag_keys) == {1: MINTING, 2: NEW}
            assert await minted_under(database, await create(service)) == 1
        await bury(database, lost)
        assert await tag_keys.rotate() == 2
        assert await states(tag_keys) == {1: ACCEPTED, 2: MINTING}
        assert await minted_under(database, await create(service)) == 2


async def test_a_rotation_that_was_cut_off_at_its_end_is_finished(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """Workers may still mint under the old tag key, so it is not retired. A repeated call adds none."""
    async with serving(database_url, None) as service:
        add = tag_keys._add

        async def then_one_is_lost() -> int:
            tag_key_id = await add()
            lost.append(await lost_worker(database))
            return tag_key_id

        lost: list[UUID] = []
        tag_keys._add = then_one_is_lost  # type: ignore[method-assign]
        rotating = asyncio.create_task(tag_keys.rotate())
        async with under_way(rotating):
            await until_waiting(database, 2)
        tag_keys._add = add  # type: ignore[method-assign]
        assert await states(tag_keys) == {1: ACCEPTED, 2: MINTING}
        with pytest.raises(FailedPrecondition, match="may still mint under tag key 1") as caught:
            await tag_keys.retire(1, force=True)
        assert caught.value.reason == "TAG_KEY_MINTS"
        await bury(database, *lost)
        assert await tag_keys.rotate() == 2
        assert await minted_under(database, await create(service)) == 2
        await tag_keys.retire(1, force=True)
        assert await states(tag_keys) == {1: RETIRED, 2: MINTING}


async def test_a_worker_out_of_reach_holds_it_up_for_its_lease(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """The wait ends with the lease of the worker, which cannot answer from memory any more."""
    async with serving(database_url, None):
        await lost_worker(database, lease=0.05)
        assert await tag_keys.rotate() == 2


async def test_two_at_once_do_one_rotation(database_url: str, tag_keys: TagKeys) -> None:
    """Both succeed. There are two new tag keys only if one rotation started after the other had ended."""
    async with serving(database_url, None):
        assert set(await asyncio.gather(*(tag_keys.rotate() for _ in range(2)))) <= {2, 3}
        found = await states(tag_keys)
        assert list(found.values()).count(MINTING) == 1
        assert NEW not in found.values()


async def test_a_rotation_that_waits_is_joined(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """A rotation that starts while another one waits adds no tag key."""
    async with serving(database_url, None):
        lost = await lost_worker(database)
        first = asyncio.create_task(tag_keys.rotate())
        await until_waiting(database, 1)
        second = asyncio.create_task(tag_keys.rotate())
        await until_waiting(database, 2)
        await bury(database, lost)
        assert set(await asyncio.gather(first, second)) == {2}
        assert await states(tag_keys) == {1: ACCEPTED, 2: MINTING}


async def test_who_starts_or_begins_anew_knows_all(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """A worker that starts after a rotation, and one that loses its registration during one."""
    async with serving(database_url, None) as one:
        before = one.app.follower.worker_id
        await bury(database, before)
        await tag_keys.rotate()
        async with serving(database_url, None) as other:
            other.admin_key = one.admin_key
            new = await create(other)
            assert await minted_under(database, new) == 2
            async with asyncio.timeout(30):
                while one.app.follower.worker_id == before:
                    # It still has its lease, and no call waited for it, because its row was deleted.
                    await asyncio.sleep(0.05)
                    one.app.follower.hint()
            assert await code(one, new) == "VALID"
            assert await minted_under(database, await create(one)) == 2


async def test_what_is_retired_is_refused_everywhere(database_url: str, tag_keys: TagKeys) -> None:
    """After the answer, strings under it are NOT_FOUND on every worker, also those in memory."""
    async with two_workers(database_url) as (one, other):
        old = await create(one)
        for service in one, other:
            assert await code(service, old) == "VALID"
        await tag_keys.rotate()
        minted = await one.app.keys.ensure_administrator(another=True)
        assert minted is not None
        new = await create(one)
        assert await code(other, new) == "VALID"
        assert await tag_keys.retire(1, force=True) == (2, 0)
        assert await states(tag_keys) == {1: RETIRED, 2: MINTING}
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await code(other, new)
        one.admin_key = other.admin_key = minted.text
        for service in one, other:
            assert await code(service, old) == "NOT_FOUND"
            assert await code(service, new) == "VALID"


async def test_each_leaves_its_event(database_url: str, tag_keys: TagKeys) -> None:  # rule 28
    """A rotation and a retirement have one event each in the platform's audit log; other calls have none."""
    async with two_workers(database_url) as (one, _):
        await tag_keys.rotate()
        with pytest.raises(FailedPrecondition):
            await tag_keys.retire(2)
        await tag_keys.retire(1, force=True)
        with pytest.raises(AlreadyDone):
            await tag_keys.retire(1, force=True)
        minted = await one.app.keys.ensure_administrator(another=True)
        assert minted is not None
        listed = await one.as_caller(minted.text).ListAuditEvents(owner_id="authsvc")
        told = [(event.action, event.target_id, event.actor_id) for event in listed.events]
        rotated, retired = audit_pb.AUDIT_ACTION_TAG_KEY_ROTATED, audit_pb.AUDIT_ACTION_TAG_KEY_RETIRED
        assert [each for each in told if each[0] in (rotated, retired)] == [
            (retired, "1", "bootstrap"),
            (rotated, "2", "bootstrap"),
        ]


async def test_what_is_alive_is_not_retired_by_accident(database_url: str, tag_keys: TagKeys) -> None:
    """The error has the numbers. When all credentials under it have ended, it can be retired."""
    async with serving(database_url, None) as service:
        keys = [await service.admin.CreateKey(owner_id="acme", display_name=f"{n}") for n in range(3)]
        session = await service.admin.CreateSession(owner_id="alice")
        await tag_keys.rotate()
        await service.admin.CreateKey(owner_id="acme", display_name="new")
        _, alive = await tag_keys.list()
        # With the administrator's.
        assert alive == {1: (4, 1), 2: (1, 0)}
        with pytest.raises(FailedPrecondition, match="up to 4 keys and 1 sessions") as caught:
            await tag_keys.retire(1)
        assert caught.value.reason == "TAG_KEY_NEEDED"
        await service.admin.RevokeSession(session_id=session.session.session_id)
        await service.admin.BatchRevokeKeys(key_ids=[made.key.key_id for made in keys])
        [admin] = (await service.admin.ListKeys(owner_id="authsvc")).keys
        await service.admin.RevokeKey(key_id=admin.key_id, allow_last_administrator=True)
        assert await tag_keys.retire(1) == (0, 0)


async def test_scheduled_and_expired_ones_count_rightly(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """A key with a scheduled revocation needs its tag key, an expired one does not; the same for sessions."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="scheduled")
        await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in={"seconds": 3600})
        await service.admin.CreateKey(owner_id="acme", display_name="expired")
        for _ in range(3):
            await service.admin.CreateSession(owner_id="alice")
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE authsvc.keys SET expire_time = now() WHERE display_name = 'expired'"
            )
            await connection.execute(
                "UPDATE authsvc.sessions SET last_activity_time = now() - interval '60 days' "
                "WHERE session_id = (SELECT min(session_id) FROM authsvc.sessions)"
            )
            await connection.execute(
                "UPDATE authsvc.sessions SET latest_expire_time = now() "
                "WHERE session_id = (SELECT max(session_id) FROM authsvc.sessions)"
            )
            assert await tag_key_store.count_alive(connection) == {1: (2, 1)}


async def test_what_cannot_be_retired(database_url: str, tag_keys: TagKeys) -> None:
    """The one that mints, an unknown one, and one that is retired already."""
    errors: list[tuple[int, type[AuthsvcError], str]] = [
        (2, FailedPrecondition, "TAG_KEY_MINTS"),
        (3, NotFound, "TAG_KEY_NOT_FOUND"),
        (1, AlreadyDone, "TAG_KEY_RETIRED"),
    ]
    async with serving(database_url, None):
        await tag_keys.rotate()
        await tag_keys.retire(1, force=True)
        for tag_key_id, error, reason in errors:
            with pytest.raises(error) as caught:
                await tag_keys.retire(tag_key_id, force=True)
            assert caught.value.reason == reason
        assert await states(tag_keys) == {1: RETIRED, 2: MINTING}


async def test_one_that_does_not_mint_yet_can_be_given_up(
    database_url: str, database: Database, tag_keys: TagKeys
) -> None:
    """A rotation whose tag key was retired fails with that reason; the next one adds another."""
    async with serving(database_url, None):
        lost = await lost_worker(database)
        rotating = asyncio.create_task(tag_keys.rotate())
        await until_waiting(database, 1)
        retiring = asyncio.create_task(tag_keys.retire(2))
        await until_waiting(database, 2)
        await bury(database, lost)
        await retiring
        with pytest.raises(
            FailedPrecondition, match="tag key 2 was retired during the rotation; rotate again"
        ):
            await rotating
        assert await tag_keys.rotate() == 3
        assert await states(tag_keys) == {1: ACCEPTED, 2: RETIRED, 3: MINTING}


async def test_there_are_not_ever_more(database_url: str, tag_keys: TagKeys) -> None:
    """Their number is bounded, since each costs an HMAC for every made-up string. Retiring one makes room."""
    async with serving(database_url, None):
        await rotate_often(tag_keys, MAX_ACCEPTED - 1)
        with pytest.raises(FailedPrecondition, match="retire the oldest first") as caught:
            await tag_keys.rotate()
        assert caught.value.reason == "TAG_KEYS_TOO_MANY"
        await tag_keys.retire(1, force=True)
        assert await tag_keys.rotate() == MAX_ACCEPTED + 1


async def test_paging_goes_on_over_a_rotation(database_url: str, tag_keys: TagKeys) -> None:
    """A page token works after a rotation. After its tag key was retired, the error says what to do."""
    async with two_workers(database_url) as (one, other):
        for _ in range(3):
            await create(one)
        page = await one.admin.ListKeys(owner_id="acme", page_size=1)
        await tag_keys.rotate()
        second = await other.admin.ListKeys(owner_id="acme", page_size=1, page_token=page.next_page_token)
        third = await one.admin.ListKeys(owner_id="acme", page_size=1, page_token=second.next_page_token)
        assert len({found.keys[0].key_id for found in (page, second, third)}) == 3
        minted = await one.app.keys.ensure_administrator(another=True)
        assert minted is not None
        await tag_keys.retire(1, force=True)
        one.admin_key = minted.text
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await one.admin.ListKeys(owner_id="acme", page_size=1, page_token=page.next_page_token)
        assert "start with the first page" in refusal.fields["page_token"]
        await one.admin.ListKeys(owner_id="acme", page_size=1, page_token=second.next_page_token)


async def test_the_role_that_serves_changes_none(plain_role: str, empty_database_url: str) -> None:
    """The role of the service can neither rotate nor retire; the error says what to do."""
    await migrate(empty_database_url, serving_role=plain_role)
    place = urlsplit(empty_database_url)
    url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    async with serving(url, None) as service, Database.open(url) as database:
        tag_keys = TagKeys(database, barrier_of(database))
        assert await states(tag_keys) == {1: MINTING}
        for change in tag_keys.rotate, lambda: tag_keys.retire(1, force=True):
            with pytest.raises(PermissionDenied, match="set AUTHSVC_MIGRATION_DATABASE_URL to the owner's"):
                await change()
        async with Database.open(empty_database_url) as owners:
            assert await TagKeys(owners, barrier_of(owners)).rotate() == 2
        assert await code(service, await create(service)) == "VALID"
        connection = await asyncpg.connect(url)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE authsvc.tag_keys SET retire_time = now()")
        await connection.close()
