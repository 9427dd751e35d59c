"""One event under load, and what clients and the database say of it afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.patroni.cluster import Cluster
from tests.patroni.events import EVENTS, RETURNING
from tests.patroni.judgement import judge
from tests.patroni.lan import Machine
from tests.patroni.load import ClusterLoad
from tests.patroni.replicas import replicas

REPLICAS = 2
# How long the load runs before an event, and after everything is well again.
_STEADY = 2.0
# How long a node that does not answer is left so, if a replica does not get along without it.
_PATIENCE = 30.0
# How long everything may take to be back when nothing is broken any more.
_BACK_WITHIN = 30.0


@dataclass
class Result:
    """What one run has measured. Durations are in seconds."""

    event: str
    through: str
    writes: float = 0.0
    warm: float = 0.0
    cold: float = 0.0
    verifications: int = 0
    changes: int = 0
    created: int = 0
    lost: int = 0
    undone: int = 0
    accepted: int = 0
    others: list[str] = field(default_factory=list)
    # Who was not answered while the node was silent, and who was not when everything was repaired.
    waits_for_node: list[str] = field(default_factory=list)
    not_back: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    # Why calls were refused for now, and how often.
    refusals: dict[str, int] = field(default_factory=dict)
    # Errors in the logs of the replicas. They break no guarantee.
    faults: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether the guarantees were kept, and everybody is back."""
        broken = self.lost + self.undone + self.accepted
        return not (broken or self.others or self.not_back or self.hanging)


async def trial(cluster: Cluster, event: str, through: str, directory: Path, lease: float) -> Result:
    """Let one event happen under load; return what was measured.

    `through` is "hosts", the list of all nodes with the primary first, or "haproxy". The cluster is healthy
    before and after.
    """
    # The load reuses the names of owners, so each trial has a database of its own.
    database = directory.name.replace("-", "_")
    await cluster.create_database(database)
    leader = await cluster.healthy()
    others = [node for node in cluster.nodes if node is not leader]
    hosts = [cluster.proxy] if through == "haproxy" else [leader, *others]
    url = cluster.url(database, *hosts)
    result = Result(event, through)
    async with replicas(directory, url, count=REPLICAS, lease=lease) as on:
        load = ClusterLoad(on, keys=20, changers=2)
        try:
            await load.start(only_probes=not cluster.synchronous)
            await asyncio.sleep(_STEADY)
            begun = time.monotonic()
            async with AsyncExitStack() as stack:
                if event in RETURNING:
                    await stack.enter_async_context(_stale_writer(cluster, leader, database, result))
                async with EVENTS[event](cluster, leader) as primary:
                    assert primary.runs
                    result.waits_for_node = await load.answered(time.monotonic(), _PATIENCE)
                repaired = time.monotonic()
                result.not_back = await load.answered(repaired, _BACK_WITHIN)
                primary = await cluster.healthy()
                await asyncio.sleep(_STEADY)
            result.not_back += await load.answered(time.monotonic(), _BACK_WITHIN)
            over = time.monotonic()
            await load.finish()
            await _judge(load, cluster, database, result)
        finally:
            await load.abandon()
        result.writes = max(answers.gap(begun, over) for answers in load.writes)
        result.cold = max(answers.gap(begun, over) for answers in load.cold)
        result.warm = max(answers.gap(begun, over) for answers in load.warm.values())
    result.refusals = dict(load.refusals.most_common(4))
    result.faults = on.faults()
    return result


async def _judge(load: ClusterLoad, cluster: Cluster, database: str, result: Result) -> None:
    """Compare what was answered with the database, and with what verifications say."""
    primary = await cluster.healthy()
    result.hanging = await _hanging(cluster, primary)
    await load.verify_all()
    rows = await cluster.fetch(
        primary,
        "SELECT credential_id, revoke_time <= now() AS is_revoked FROM authsvc.credentials",
        database=database,
    )
    revoked = {row["credential_id"]: bool(row["is_revoked"]) for row in rows}
    found = judge(load.history, load.created, revoked)
    result.lost += len(found.lost)
    result.undone = len(found.undone)
    result.accepted = len(found.accepted)
    result.others = [*found.accepted, *found.others]
    result.verifications = len(load.history.verifications)
    result.changes = len(load.history.changes)
    result.created = len(load.created)


async def _hanging(cluster: Cluster, primary: Machine) -> list[str]:
    """Return the transactions of replicas that have been open for longer than any may."""
    rows = await cluster.fetch(
        primary,
        "SELECT state, wait_event, query FROM pg_stat_activity"
        " WHERE application_name = 'authsvc' AND xact_start < now() - interval '10 s'",
    )
    return [f"{row['state']} ({row['wait_event']}): {row['query']}" for row in rows]


@asynccontextmanager
async def _stale_writer(cluster: Cluster, old: Machine, database: str, result: Result) -> AsyncIterator[None]:
    """Write to the old primary all the time; at the end, what it has acknowledged must be there."""
    acknowledged: list[int] = []

    async def go_on() -> None:
        number = 0
        while True:
            try:
                connection = await asyncpg.connect(cluster.url(database, old), timeout=2, command_timeout=2)
                try:
                    while True:
                        number += 1
                        await connection.execute("INSERT INTO public.stale_writes VALUES ($1)", number)
                        acknowledged.append(number)
                        await asyncio.sleep(0.05)
                finally:
                    connection.terminate()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(0.05)

    created = await asyncpg.connect(cluster.url(database, old), timeout=5)
    await created.execute("CREATE TABLE public.stale_writes (number int)")
    await created.close()
    writing = asyncio.create_task(go_on())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    new = await cluster.healthy()
    rows = await cluster.fetch(new, "SELECT number FROM public.stale_writes", database=database)
    result.lost += len(set(acknowledged) - {row["number"] for row in rows})
