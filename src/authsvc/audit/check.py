"""Verifies the chains of the audit log, and reports what is wrong with them.

Mechanism: first, the rows that say what was dropped are compared with the last event about a drop. Then the
ends of some hundred chains are read, and after that the events of these owners, a page at a time, in the
order of the primary key. Events never change. So what was read remains true while others record events and
drop old months, and what only looks wrong because of them is checked a second time.

Bound: `MAX_CHAINS_READ` ends and `MAX_EVENTS_READ` events in memory, and one line of the anchor file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from authsvc.model.audit_anchor import Anchor
from authsvc.model.audit_chain import BEGINNING, Chain, Fault, hash_of
from authsvc.model.audit_drop import NO_DROPS
from authsvc.model.audit_event import ChainedEvent, UnreadableEvent
from authsvc.model.caller import PLATFORM_OWNER
from authsvc.store import audit as audit_store
from authsvc.store.audit import Reached
from authsvc.store.pool import Database

MAX_CHAINS_READ = 500
MAX_EVENTS_READ = 2000


class AuditCheck:
    """Verifies all chains, or one, and counts what it has read.

    The `anchors` have to be in the order of their owners. `on_fault` and `on_chain` are called for each fault
    and each chain, `on_progress` after each page.
    """

    def __init__(
        self,
        database: Database,
        *,
        anchors: Iterable[Anchor] = (),
        on_fault: Callable[[Fault], object],
        on_chain: Callable[[Chain], object] = lambda _: None,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._anchors: Iterator[Anchor] = iter(anchors)
        self._anchor = next(self._anchors, None)
        self._on_fault = on_fault
        self._on_chain = on_chain
        self._on_progress = on_progress
        self.events = 0
        self.chains = 0
        self.faults = 0

    async def run(self, owner_id: str = "") -> None:
        """Verify the chain of an owner, or all chains if `owner_id` is empty.

        Faults of the log are reported to `on_fault` and not raised. Raises Unavailable or Overloaded if the
        database cannot answer now.
        """
        reached = ""
        sees_platform = owner_id in ("", PLATFORM_OWNER)
        if sees_platform:
            await self._check_drops()
        while True:
            async with self._database.connection() as connection:
                chains = await audit_store.find_ends(
                    connection, after=reached, only=owner_id, size=MAX_CHAINS_READ
                )
            if not sees_platform and any(chain.dropped.position for chain in chains):
                await self._check_drops(with_hash=True)
            all_read = len(chains) < MAX_CHAINS_READ
            last = owner_id if all_read else chains[-1].owner_id
            for chain in chains:
                chain.anchor = self._anchor_of(chain.owner_id, owner_id)
            after = Reached.start_of(owner_id) if owner_id else Reached.end_of(reached)
            await self._walk(chains, after, last)
            if all_read:
                break
            reached = last
        self._skip_anchors("", owner_id)

    async def _check_drops(self, *, with_hash: bool = False) -> None:
        """Check that an event records what was dropped, and with `with_hash` also the hash of that event."""
        async with self._database.transaction() as connection:
            last, drops = await audit_store.read_drops(connection, size=MAX_EVENTS_READ)
        if last is None:
            if drops != NO_DROPS:
                self._report([Fault(PLATFORM_OWNER, 0, "", "events were dropped: no event records it")])
        elif isinstance(last, UnreadableEvent):
            self._report(
                [Fault(PLATFORM_OWNER, last.link.position, last.event_id, f"cannot be read: {last.problem}")]
            )
        elif last.event.details.get("drops") != drops.hex():
            problem = "does not match authsvc.audit_drops: a drop was forged, altered or removed"
            self._report([Fault(PLATFORM_OWNER, last.link.position, last.event.event_id, problem)])
        elif with_hash and hash_of(last) != last.link.hash:
            problem = "was altered: its hash does not match"
            self._report([Fault(PLATFORM_OWNER, last.link.position, last.event.event_id, problem)])

    async def _walk(self, chains: Sequence[Chain], after: Reached, last: str) -> None:
        """Check the events of some owners against the ends of their chains."""
        unread = iter(chains)
        chain = next(unread, None)
        without_head = ""
        while True:
            async with self._database.connection() as connection:
                page, after = await audit_store.walk(connection, after, last=last, size=MAX_EVENTS_READ)
            for chained in page:
                owner_id = (
                    chained.owner_id if isinstance(chained, UnreadableEvent) else chained.event.owner_id
                )
                while chain is not None and chain.owner_id < owner_id:
                    await self._end(chain)
                    chain = next(unread, None)
                if chain is not None and chain.owner_id == owner_id:
                    await self._add(chain, chained)
                elif without_head != owner_id:
                    without_head = owner_id  # It has no head, or got one after the ends were read.
                    await self._end(Chain(without_head, BEGINNING, has_more=True))
            self._on_progress()
            if len(page) < MAX_EVENTS_READ:
                break
        while chain is not None:
            await self._end(chain)
            chain = next(unread, None)

    async def _add(self, chain: Chain, chained: ChainedEvent | UnreadableEvent) -> None:
        if chain.last.position + 1 < chained.link.position <= chain.head.position:
            await self._catch_up(chain)
        self._report(chain.add(chained))

    async def _end(self, chain: Chain) -> None:
        if chain.last.position < chain.head.position:
            await self._catch_up(chain)
        self._report(chain.end())
        if chain.has_more:
            async with self._database.connection() as connection:
                beyond = await audit_store.is_beyond_head(connection, chain.owner_id)
            if beyond:
                self._report(
                    [
                        Fault(
                            chain.owner_id, chain.head.position + 1, "", "events beyond the head of the chain"
                        )
                    ]
                )
        self.events += chain.events
        if chain.head != BEGINNING:
            self.chains += 1
            self._on_chain(chain)

    async def _catch_up(self, chain: Chain) -> None:
        """Read the ends of a chain again: months may have been dropped since they were read."""
        async with self._database.connection() as connection:
            ends = await audit_store.find_ends(connection, after="", only=chain.owner_id, size=1)
        if ends and ends[0].dropped.position > chain.dropped.position:
            chain.catches_up(ends[0].dropped, ends[0].dropped_before)

    def _anchor_of(self, owner_id: str, only: str) -> Anchor | None:
        self._skip_anchors(owner_id, only)
        if self._anchor is None or self._anchor.owner_id != owner_id:
            return None
        found, self._anchor = self._anchor, next(self._anchors, None)
        return found

    def _skip_anchors(self, before: str, only: str) -> None:
        """Report the anchors of owners without a chain, up to the owner `before`, or all if that is ""."""
        while self._anchor is not None and (not before or self._anchor.owner_id < before):
            if not only or self._anchor.owner_id == only:
                problem = "the chain is missing, but the anchor lists it"
                self._report([Fault(self._anchor.owner_id, self._anchor.link.position, "", problem)])
            self._anchor = next(self._anchors, None)

    def _report(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.faults += 1
            self._on_fault(fault)
