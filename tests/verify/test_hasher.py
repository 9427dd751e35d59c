"""The argon2 pool: costs, answers and its limit."""

import asyncio
from collections.abc import Iterator

import pytest

from authsvc.model.errors import Overloaded, Unavailable
from authsvc.verify.hasher import IMPORTED, MINTED, Hasher
from tests.verify.parts import COSTS, Job, at_once

SECRET = "s" * 43


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    """A pool of one thread and three jobs."""
    pool = Hasher(threads=1, queue_limit=3)
    yield pool
    pool.close()


@pytest.mark.parametrize("origin", [MINTED, IMPORTED])
async def test_the_right_secret_only(hasher: Hasher, origin: str) -> None:
    """A hash proves its own secret and no other one."""
    secret_hash = await hasher.hash(SECRET, origin)
    assert await hasher.verify(SECRET, secret_hash) is True
    for wrong in ("", SECRET[:-1], SECRET + "s", SECRET.upper(), "é"):
        assert await hasher.verify(wrong, secret_hash) is False


@pytest.mark.parametrize(
    ("origin", "cost"), [(MINTED, "m=1024,t=1,p=1"), (IMPORTED, "m=19456,t=2,p=1")], ids=[MINTED, IMPORTED]
)
async def test_cost_depends_on_the_origin(hasher: Hasher, origin: str, cost: str) -> None:
    """A hash is argon2id, states its cost, has its own salt and does not contain the secret."""
    one, other = [await hasher.hash(SECRET, origin) for _ in range(2)]
    assert one.startswith(f"$argon2id$v=19${cost}$")
    assert one != other
    assert SECRET not in one


@pytest.mark.parametrize("cost", [MINTED, IMPORTED])
@pytest.mark.parametrize("origin", [MINTED, IMPORTED])
def test_is_outdated(hasher: Hasher, origin: str, cost: str) -> None:
    """A hash is outdated exactly if its cost is not that of its origin."""
    assert hasher.is_outdated(COSTS[cost].hash(SECRET), origin) is (cost != origin)


@pytest.mark.parametrize(
    "unreadable",
    [
        "",
        "rubbish",
        SECRET,
        "$argon2id$",
        "$argon2id$\0",
        "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0",
        "$argon2id$v=19$m=x,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$2b$12$abcdefghijklmnopqrstuv",
        pytest.param("$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$é"),
    ],
)
async def test_an_unreadable_hash_is_not_a_wrong_secret(hasher: Hasher, unreadable: str) -> None:
    """A string that is not argon2 makes the answer Unavailable, and the pool continues."""
    with pytest.raises(Unavailable) as failed:
        await hasher.verify(SECRET, unreadable)
    assert failed.value.reason == "PROOF_UNREADABLE"
    assert failed.value.retry_after > 0
    assert SECRET not in str(failed.value)
    assert hasher.pending == 0
    assert await hasher.verify(SECRET, await hasher.hash(SECRET, MINTED))


async def test_a_truncated_hash_is_not_a_wrong_secret(hasher: Hasher) -> None:
    """A truncated hash cannot be read; this is not reported as a wrong secret."""
    secret_hash = await hasher.hash(SECRET, MINTED)
    with pytest.raises(Unavailable):
        await hasher.verify(SECRET, secret_hash[:-11])


async def test_the_queue_is_bounded(hasher: Hasher) -> None:
    """One job over the limit is refused at once, with the time to retry; then everything works again."""
    with Job() as job:
        running = [asyncio.create_task(hasher.run(job)) for _ in range(3)]
        await job.started()
        assert hasher.pending == 3
        for work in (hasher.hash(SECRET, MINTED), hasher.verify(SECRET, "rubbish")):
            with pytest.raises(Overloaded) as full:
                at_once(work)
            assert full.value.reason == "HASHER_QUEUE_FULL"
            assert full.value.retry_after > 0
        assert (hasher.pending, hasher.runs) == (3, 3)
    assert await asyncio.gather(*running) == ["done"] * 3
    assert hasher.pending == 0
    assert await hasher.hash(SECRET, MINTED)


async def test_jobs_are_counted(hasher: Hasher) -> None:
    """Each hash and each proof is one run, also for a wrong secret."""
    secret_hash = await hasher.hash(SECRET, MINTED)
    await hasher.verify(SECRET, secret_hash)
    await hasher.verify("wrong", secret_hash)
    assert (hasher.runs, hasher.pending) == (3, 0)


async def test_cancellation_leaks_nothing(hasher: Hasher) -> None:
    """When waiting callers go away, running and queued jobs end, and the whole queue is free again."""
    with Job() as job:
        waiting = [asyncio.create_task(hasher.run(job)) for _ in range(3)]
        await job.started()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    # The pool has one thread, so what comes last ends last.
    await asyncio.get_running_loop().run_in_executor(hasher._threads, str)
    assert hasher.pending == 0
    again = [asyncio.create_task(hasher.hash(SECRET, MINTED)) for _ in range(3)]
    assert len(await asyncio.gather(*again)) == 3
    assert hasher.pending == 0


async def test_a_job_is_pending_while_it_runs(hasher: Hasher) -> None:
    """A job whose caller went away still has its thread, and still counts against the limit."""
    with Job() as job:
        caller = asyncio.create_task(hasher.run(job))
        await job.started()
        caller.cancel()
        await asyncio.wait([caller])
        assert hasher.pending == 1
