"""Sessions are created while all sessions of their owner are revoked."""

import asyncio
import time
from itertools import count

import pytest

from authsvc.verify.lease import certainly_over
from tests.faults.conftest import Scene
from tests.faults.history import Change, Ending, Operation, Outcome
from tests.faults.load import SESSION, Key
from tests.faults.workers import Fleet, Worker

# How long an INSERT may take from its snapshot to its commit, so that they overlap.
_SLOW = 0.04
_TRIGGERS = (
    f"""CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.owner_id LIKE 'storm-%' THEN PERFORM pg_sleep({_SLOW} * random()); END IF;
        RETURN NEW;
    END $$""",
    "CREATE TRIGGER dawdle BEFORE INSERT ON authsvc.sessions FOR EACH ROW EXECUTE FUNCTION dawdle()",
    "CREATE TRIGGER dawdle AFTER INSERT ON authsvc.session_ends FOR EACH ROW EXECUTE FUNCTION dawdle()",
)


@pytest.mark.parametrize("how", ["all are well", "one is stopped"])
async def test_a_session_that_is_opened_meanwhile_is_ended_or_newer(
    scene: Scene, volume: int, how: str
) -> None:
    """All workers agree permanently on which of the two; one that is created after the answer is alive.

    A worker that is stopped, and continues when the answer is there, agrees, too.
    """
    fates = {True: 0, False: 0}
    async with scene(workers=3) as (on, load):
        for statement in _TRIGGERS:
            await on.sql(statement)
        rounds = count()
        stopped, *openers = on.workers
        load.revokers = openers

        async def storm() -> None:
            owner_id = f"storm-{next(rounds)}"
            before = await asyncio.gather(*(load.make(owner_id=owner_id, kind=SESSION) for _ in range(3)))
            spared = await load.make(owner_id=owner_id, kind=SESSION)
            opened: list[tuple[float, Key]] = []
            asked: list[asyncio.Task[Outcome]] = []
            over = asyncio.Event()

            async def open_some(worker: Worker) -> None:
                while not over.is_set():
                    invoked = time.monotonic()
                    key = await load.make(worker=worker, owner_id=owner_id, kind=SESSION, warm=False)
                    opened.append((invoked, key))
                    asked.extend(load.verify_soon(key, each, timeout=10) for each in on.workers)

            if how == "one is stopped":
                await stopped.stop()
            opening = [asyncio.create_task(open_some(worker)) for worker in openers * 2]
            await load.until(lambda: len(opened) >= len(opening))
            answer = await load.revoke_all(before, openers[0], spared=spared)
            assert answer.ending is Ending.OK
            assert answer.within(certainly_over(on.lease))
            stopped.go_on()
            late = len(opened)
            await load.until(lambda: len(opened) >= late + 2 * len(opening))
            over.set()
            await asyncio.gather(*opening)
            ended = await ended_of(on, owner_id)
            # Sessions from before the answer may be ended by it; the checker holds it to that.
            for invoked, key in opened:
                if invoked < answer.answered:
                    is_ended = key.key_id in ended
                    fates[is_ended] += 1
                    if is_ended:
                        change = Operation.SESSION_REVOKE_ALL, key.key_id, openers[0].name
                        load.history.changes.append(
                            Change(*change, answer.invoked, answer.answered, answer.ending)
                        )
                else:
                    assert key.key_id not in ended
            await asyncio.gather(*asked)
            await load.recovered(stopped)
            for key in (spared, *before, *(key for _, key in opened)):
                wanted = Outcome.REVOKED if key.key_id in ended else Outcome.VALID
                assert await load.verdicts(key) == {wanted}

        await storm()
        await load.reach(volume, storm)
        while not all(fates.values()):
            await storm()
    print(f"opened meanwhile: {fates[True]} were ended, {fates[False]} were newer")  # noqa: T201


async def ended_of(on: Fleet, owner_id: str) -> set[str]:
    """Return the sessions of an owner that are revoked according to the database."""
    found = await on.sql(
        "SELECT session_id FROM authsvc.session_records WHERE owner_id = $1 AND revoke_time IS NOT NULL",
        owner_id,
    )
    return {row["session_id"] for row in found}
