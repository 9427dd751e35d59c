"""The prefix cache against a simple model, in any order of events."""

import asyncio
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from authsvc.model.credential import Credential
from authsvc.model.errors import Unavailable
from authsvc.verify.entry import Entry
from authsvc.verify.prefix_cache import PrefixCache

prefixes = st.sampled_from(["a", "b", "c", "d"])
owners = st.sampled_from(["", "acme", "globex"])
strings = st.tuples(prefixes, st.sampled_from([b"one", b"two"]))


@dataclass
class Load:
    """A fill in progress: `ends` is the result of its load."""

    prefix: str
    digest: bytes
    ends: "asyncio.Future[Entry | None]"
    waiting: "list[asyncio.Task[Entry | None]]"
    outdated: bool = False


class CacheMachine(RuleBasedStateMachine):
    """`remembered` is what the cache may return; it may lack only what it has evicted."""

    @initialize(capacity=st.integers(1, 12))
    def start(self, capacity: int) -> None:
        self.runner = asyncio.Runner()
        self.capacity = capacity
        self.cache = PrefixCache(capacity)
        self.remembered: dict[str, Entry] = {}
        self.loads: list[Load] = []
        self.lost = 0

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.close()

    @rule(string=strings)
    def miss(self, string: tuple[str, bytes]) -> None:
        """A caller joins the load of the same string, unless that is outdated; otherwise it starts one."""
        prefix, digest = string[0], string[0].encode() + string[1]
        current = [load for load in self.loads if load.digest == digest and not load.outdated]
        started: list[Load] = []

        async def ask() -> "asyncio.Task[Entry | None]":
            ends: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
            reached = asyncio.Event()

            async def load() -> Entry | None:
                started.append(Load(prefix, digest, ends, []))
                reached.set()
                return await ends

            task = asyncio.create_task(self.cache.fill(prefix, digest, load))
            if not current:
                await reached.wait()
            return task

        task = self.runner.run(ask())
        assert len(started) == (0 if current else 1)
        self.loads += started
        (current or started)[0].waiting.append(task)

    @precondition(lambda self: self.loads)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["entry", "nothing", "failure"]),
        owner_id=owners,
        size=st.sampled_from([0, 3000]),
    )
    def finish(self, data: st.DataObject, outcome: str, owner_id: str, size: int) -> None:
        """All waiting callers get the load's result; only an entry that is not outdated is remembered."""
        load = self.loads.pop(data.draw(st.integers(0, len(self.loads) - 1)))
        credential = Credential("key_1", owner_id, (), None, None, {"a": "x" * size}) if owner_id else None
        entry = Entry(load.digest, credential) if outcome == "entry" else None
        failure = Unavailable("gone", reason="GONE", retry_after=1)

        async def end() -> "list[Entry | BaseException | None]":
            if outcome == "failure":
                load.ends.set_exception(failure)
            else:
                load.ends.set_result(entry)
            return await asyncio.gather(*load.waiting, return_exceptions=True)

        expected = failure if outcome == "failure" else entry
        assert all(found is expected for found in self.runner.run(end()))
        if entry is not None and not load.outdated:
            self.remembered[load.prefix] = entry

    @precondition(lambda self: any(load.waiting for load in self.loads))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A caller that goes away leaves the load to the others."""
        load = data.draw(st.sampled_from([load for load in self.loads if load.waiting]))
        task = load.waiting.pop(data.draw(st.integers(0, len(load.waiting) - 1)))

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait([task])

        self.runner.run(cancel())
        assert task.cancelled()
        assert not load.ends.done()

    @rule(forgotten=st.sets(prefixes, min_size=1))
    def forget(self, forgotten: set[str]) -> None:
        """What is forgotten is gone, and loads of it in progress are outdated."""
        self.cache.forget(forgotten)
        for prefix in forgotten:
            self.remembered.pop(prefix, None)
            assert self.cache.get(prefix) is None
        for load in self.loads:
            load.outdated = load.outdated or load.prefix in forgotten

    @rule(prefix=prefixes)
    def look(self, prefix: str) -> None:
        """A hit is what was admitted last; a miss of something remembered was evicted."""
        found = self.cache.get(prefix)
        if found is None and self.remembered.pop(prefix, None) is not None:
            self.lost += 1
        assert found is self.remembered.get(prefix)

    @invariant()
    def stays_within_its_bound(self) -> None:
        """Never more than its capacity plus one entry; what the model has and the cache lacks was evicted."""
        if not hasattr(self, "cache"):
            return
        assert len(self.cache) <= min(self.capacity, len(self.remembered))
        assert self.lost + len(self.remembered) - len(self.cache) <= self.cache.evictions
        assert sum(entry.weight for entry in self.cache._entries.values()) == self.cache.weight
        assert self.cache.weight <= self.capacity or len(self.cache) == 1

    @invariant()
    def knows_whose_each_is(self) -> None:
        """The entries recorded for an owner are exactly its entries."""
        if not hasattr(self, "cache"):
            return
        owned = self.cache._owned
        for owner_id in ("", "acme", "globex"):
            mine = {
                prefix: entry for prefix, entry in self.cache._entries.items() if entry.owner_id == owner_id
            }
            assert sorted(owned.of(owner_id)) == sorted(mine)
            assert owned.weight(owner_id) == sum(entry.weight for entry in mine.values())


CacheMachine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestCacheMachine = CacheMachine.TestCase
