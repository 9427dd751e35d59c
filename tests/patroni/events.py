"""What happens to the cluster, and how it is undone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from tests.patroni.cluster import TTL, Cluster
from tests.patroni.lan import Machine

# How long the primary runs without standbys, before its node is killed.
_AHEAD = 1.5
# The block is entered after the event, with the primary. On leaving it, what is broken is repaired.
Event: TypeAlias = Callable[[Cluster, Machine], AbstractAsyncContextManager[Machine]]


@asynccontextmanager
async def switchover(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """Patroni moves the primary, as an operator tells it to."""
    await cluster.switch_over(leader)
    yield await cluster.new_leader(leader)


@asynccontextmanager
async def kill_postgres(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """SIGKILL of the primary's PostgreSQL. Patroni starts it again on the same node."""
    yield await cluster.kill_postgres(leader)


@asynccontextmanager
async def kill_node(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """SIGKILL of everything on the primary's node, PostgreSQL and Patroni. Later Patroni is started again."""
    leader.kill()
    yield await cluster.new_leader(leader)
    cluster.start(leader)


@asynccontextmanager
async def freeze_node(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """SIGSTOP of everything on the primary's node; later SIGCONT."""
    leader.freeze()
    try:
        yield await cluster.new_leader(leader)
    finally:
        leader.thaw()


@asynccontextmanager
async def cut_network(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """The primary's node loses its network: packets vanish. Later it has it again."""
    leader.cut()
    try:
        yield await cluster.new_leader(leader)
    finally:
        leader.heal()


@asynccontextmanager
async def stop_etcd(cluster: Cluster, _: Machine) -> AsyncIterator[Machine]:
    """SIGKILL of etcd, for longer than the primary may go on without it; then it is started again."""
    cluster.etcd.kill()
    await cluster.lost_leader()
    await asyncio.sleep(TTL)
    await cluster.start_etcd()
    yield await cluster.new_leader()


@asynccontextmanager
async def kill_ahead(cluster: Cluster, leader: Machine) -> AsyncIterator[Machine]:
    """The standbys lose their network, and soon the primary's node loses its power.

    What asynchronous standbys had not received by then is lost.
    """
    standbys = [node for node in cluster.nodes if node is not leader]
    for node in standbys:
        node.cut()
    await asyncio.sleep(_AHEAD)
    leader.cut()  # Or the kernel would still send what dead processes have written.
    leader.kill()
    for node in standbys:
        node.heal()
    yield await cluster.new_leader(leader)
    leader.heal()
    cluster.start(leader)


EVENTS: dict[str, Event] = {
    "switchover": switchover,
    "kill-postgres": kill_postgres,
    "kill-node": kill_node,
    "freeze-node": freeze_node,
    "cut-network": cut_network,
    "stop-etcd": stop_etcd,
    "kill-ahead": kill_ahead,
}
# After these the old primary is there again, as it was.
RETURNING = frozenset({"freeze-node", "cut-network"})
