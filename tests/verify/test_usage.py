"""Last uses, written in the background."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.app.background import run_forever
from authsvc.model.client_hints import ClientHints
from authsvc.model.errors import Unavailable
from authsvc.model.key_string import KeyMint
from authsvc.model.use import Use
from authsvc.verify.usage import UsageLog
from tests.conftest import Ticker
from tests.verify.parts import FakeUseStore, Pause

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
UNAVAILABLE = Unavailable("the database is gone", reason="GONE", retry_after=1)


@pytest.fixture
def store() -> FakeUseStore:
    return FakeUseStore()


@pytest.fixture
def usage(store: FakeUseStore) -> UsageLog:
    return UsageLog(store)


async def test_a_use_is_written_once(usage: UsageLog, store: FakeUseStore) -> None:  # rule 23
    """A recorded use is written at the next flush, with its address, and not again."""
    usage.note("key_1", NOW, "192.0.2.1")
    assert store.batches == []
    await usage.flush()
    await usage.flush()
    assert store.batches == [[Use("key_1", NOW, "192.0.2.1")]]


async def test_nothing_to_write(usage: UsageLog, store: FakeUseStore) -> None:
    """If no use was recorded, the store is not called."""
    store.faults = [UNAVAILABLE]
    await usage.flush()
    assert store.faults == [UNAVAILABLE]


async def test_the_last_one_wins(usage: UsageLog, store: FakeUseStore) -> None:  # rule 23
    """Of several uses of a key the latest is written; of two at the same time the one recorded later."""
    usage.note("key_1", NOW, "192.0.2.1")
    usage.note("key_1", NOW + SECOND, "192.0.2.2")
    usage.note("key_1", NOW + SECOND, "")
    await usage.flush()
    assert store.uses == [Use("key_1", NOW + SECOND, "")]


async def test_a_long_user_agent_is_not_held(usage: UsageLog, store: FakeUseStore) -> None:
    """A service that verifies sessions forwards arbitrary user agents; they cannot fill memory."""
    usage.note("ses_1", NOW, "", "x" * 1_000_000)
    await usage.flush()
    [use] = store.uses
    assert use.user_agent == "x" * 512


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=30))
async def test_never_backwards(noted: list[tuple[str, int]]) -> None:  # rule 23
    """Whatever the order of recording, each key's latest use is written, once, in the order of ids."""
    store = FakeUseStore()
    usage = UsageLog(store)
    latest: dict[str, int] = {}
    for key_id, second in noted:
        usage.note(key_id, NOW + second * SECOND, "")
        latest[key_id] = max(second, latest.get(key_id, 0))
    await usage.flush()
    assert store.uses == [Use(key_id, NOW + latest[key_id] * SECOND, "") for key_id in sorted(latest)]


def note_many(usage: UsageLog, count: int, now: datetime = NOW) -> None:
    for number in reversed(range(count)):
        usage.note(f"key_{number:05}", now, "")


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (999, [999]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])]
)
async def test_batches(usage: UsageLog, store: FakeUseStore, count: int, sizes: list[int]) -> None:
    """At most 1000 uses are written at a time, all of them in the order of ids."""
    note_many(usage, count)
    await usage.flush()
    assert [len(batch) for batch in store.batches] == sizes
    assert [use.credential_id for use in store.uses] == [f"key_{number:05}" for number in range(count)]


async def test_a_failure_keeps_what_was_not_written(usage: UsageLog, store: FakeUseStore) -> None:
    """The error is raised; what was not written is written by the next flush, what was is not."""
    note_many(usage, 2500)
    store.faults = [None, UNAVAILABLE]
    with pytest.raises(Unavailable):
        await usage.flush()
    assert len(store.uses) == 1000
    await usage.flush()
    assert [use.credential_id for use in store.uses] == [f"key_{number:05}" for number in range(2500)]
    assert usage.dropped == 0


async def test_a_cancelled_flush_keeps_all(usage: UsageLog, store: FakeUseStore) -> None:
    """An interrupted flush loses nothing."""
    usage.note("key_1", NOW, "192.0.2.1")
    store.pause = Pause()
    flush = asyncio.create_task(usage.flush())
    await store.pause.reached()
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    store.pause = None
    await usage.flush()
    assert store.uses == [Use("key_1", NOW, "192.0.2.1")]


async def test_a_newer_use_survives_a_failing_flush(usage: UsageLog, store: FakeUseStore) -> None:  # rule 23
    """What is recorded while a flush is failing is newer, and is what the next one writes."""
    usage.note("key_1", NOW, "192.0.2.1")
    usage.note("key_2", NOW, "192.0.2.1")
    store.pause, store.faults = Pause(), [UNAVAILABLE]
    flush = asyncio.create_task(usage.flush())
    await store.pause.reached()
    usage.note("key_1", NOW + SECOND, "192.0.2.2")
    store.pause.open()
    with pytest.raises(Unavailable):
        await flush
    await usage.flush()
    assert store.uses == [Use("key_1", NOW + SECOND, "192.0.2.2"), Use("key_2", NOW, "192.0.2.1")]


async def test_a_use_noted_during_a_flush_is_written_by_the_next(
    usage: UsageLog, store: FakeUseStore
) -> None:
    """A flush writes what there was when it began."""
    usage.note("key_1", NOW, "")
    store.pause = Pause()
    flush = asyncio.create_task(usage.flush())
    await store.pause.reached()
    usage.note("key_1", NOW + SECOND, "")
    store.pause.open()
    await flush
    await usage.flush()
    assert store.batches == [[Use("key_1", NOW, "")], [Use("key_1", NOW + SECOND, "")]]


async def test_the_limit_drops_and_counts(store: FakeUseStore) -> None:
    """Beyond the limit, uses of further keys are dropped and counted; a flush makes room."""
    usage = UsageLog(store, limit=2)
    for key_id in ("key_1", "key_2", "key_3", "key_3"):
        usage.note(key_id, NOW, "")
    usage.note("key_1", NOW + SECOND, "")
    assert usage.dropped == 2
    await usage.flush()
    assert store.uses == [Use("key_1", NOW + SECOND, ""), Use("key_2", NOW, "")]
    usage.note("key_3", NOW, "")
    await usage.flush()
    assert store.uses[2:] == [Use("key_3", NOW, "")]
    assert usage.dropped == 2


async def test_the_limit_holds_after_a_failing_flush(store: FakeUseStore) -> None:
    """What returns from a failing flush takes no more than the remaining room; what is dropped is counted."""
    usage = UsageLog(store, limit=2)
    usage.note("key_1", NOW, "")
    usage.note("key_2", NOW, "")
    store.pause, store.faults = Pause(), [UNAVAILABLE]
    flush = asyncio.create_task(usage.flush())
    await store.pause.reached()
    usage.note("key_3", NOW, "")
    store.pause.open()
    with pytest.raises(Unavailable):
        await flush
    await usage.flush()
    assert len(store.uses) == 2
    assert usage.dropped == 1


async def test_a_faulty_batch_does_not_hold_up_the_others(usage: UsageLog, store: FakeUseStore) -> None:
    """One use that the store can never accept does not prevent the writing of later ids."""
    fault = ValueError("a fault of this batch")
    note_many(usage, 2000)
    for _ in range(3):
        store.faults = [fault]
        with pytest.raises(ValueError, match="a fault of this batch"):
            await usage.flush()
    assert len(store.uses) == 1000


class Rhythm:
    """Ticks one at a time, each only after everything that the last one caused is done."""

    def __init__(self, usage: UsageLog) -> None:
        self._go = Ticker()
        self._idle = asyncio.Event()
        self._task = asyncio.create_task(
            run_forever(usage.flush, self._tick, "writing", level=logging.WARNING)
        )
        self._task.add_done_callback(lambda _: self._idle.set())

    async def _tick(self) -> None:
        self._idle.set()
        await self._go()

    async def beat(self) -> None:
        await self._idle.wait()
        self._idle.clear()
        self._go.tick()
        await self._idle.wait()
        assert not self._task.done()

    async def stop(self) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task


async def test_run_flushes_after_each_tick(usage: UsageLog, store: FakeUseStore) -> None:
    """Between two ticks nothing is written; after one, all is."""
    rhythm = Rhythm(usage)
    for second in range(3):
        usage.note("key_1", NOW + second * SECOND, "")
        assert len(store.batches) == second
        await rhythm.beat()
        assert store.batches[second:] == [[Use("key_1", NOW + second * SECOND, "")]]
    await rhythm.stop()


async def test_run_outlives_an_outage(
    usage: UsageLog, store: FakeUseStore, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store is unreachable everything is kept, with one warning per outage; then it is written."""
    rhythm = Rhythm(usage)
    for _ in range(2):
        caplog.clear()
        usage.note("key_1", NOW, "")
        store.faults = [UNAVAILABLE, UNAVAILABLE, UNAVAILABLE]
        for _ in range(3):
            await rhythm.beat()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the database is gone" in caplog.text
        await rhythm.beat()
    assert store.batches == [[Use("key_1", NOW, "")]] * 2
    await rhythm.stop()


async def test_run_outlives_a_fault(
    usage: UsageLog, store: FakeUseStore, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged with its traceback, and writing continues."""
    rhythm = Rhythm(usage)
    usage.note("key_1", NOW, "")
    store.faults = [ZeroDivisionError("a fault")]
    await rhythm.beat()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "ZeroDivisionError: a fault" in caplog.text
    await rhythm.beat()
    assert store.uses == [Use("key_1", NOW, "")]
    await rhythm.stop()


async def test_one_owner_gets_half_of_the_room(store: FakeUseStore) -> None:
    """An owner that uses many credentials leaves room for others, also while nothing can be written."""
    usage = UsageLog(store, limit=10)
    for attempt in range(3):
        for number in range(20):
            usage.note(f"mallory_{number}", NOW, "", "", "mallory")
        store.faults = [UNAVAILABLE]
        with pytest.raises(Unavailable):
            await usage.flush()
        assert usage.dropped == 15 * (attempt + 1)
    for number in range(5):
        usage.note(f"acme_{number}", NOW, "", "", "acme")
    await usage.flush()
    assert len(store.uses) == 10
    usage.note("mallory_1", NOW, "", "", "mallory")
    assert usage.dropped == 45


async def test_user_agents_are_bounded_together(
    usage: UsageLog, store: FakeUseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit uses are recorded without it; what is replaced or written makes room."""
    monkeypatch.setattr("authsvc.verify.usage.MAX_TEXT_LENGTH", 1024)
    for number in range(4):
        usage.note(f"ses_{number}", NOW, "192.0.2.1", f"{number}" * 2000)
    usage.note("ses_0", NOW + SECOND, "192.0.2.1", "short")
    usage.note("ses_3", NOW + SECOND, "192.0.2.1", "3" * 507)
    await usage.flush()
    assert [len(use.user_agent) for use in store.uses] == [5, 512, 0, 507]
    usage.note("ses_4", NOW, "", "4" * 512)
    await usage.flush()
    assert store.uses[-1].user_agent == "4" * 512


async def test_the_client_hints_of_all_together_are_bounded(
    usage: UsageLog, store: FakeUseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count like user agents; without room for both, only the user agent is recorded."""
    monkeypatch.setattr("authsvc.verify.usage.MAX_TEXT_LENGTH", 1024)
    hints = ClientHints(brands="b" * 200)
    for number in range(3):
        usage.note(f"ses_{number}", NOW, "", f"{number}" * 300, "", hints)
    usage.note("ses_3", NOW, "", "3" * 100)
    usage.note("ses_0", NOW + SECOND, "", "0")
    usage.note("ses_4", NOW, "", "4" * 100, "", hints)
    await usage.flush()
    noted = [(len(use.user_agent), len(use.client_hints.brands)) for use in store.uses]
    assert noted == [(1, 0), (300, 200), (0, 0), (0, 0), (100, 200)]


async def test_no_token_is_cut_so_that_it_is_not_known(usage: UsageLog, store: FakeUseStore) -> None:
    """A token in a long user agent is redacted before the rest is shortened, wherever it is."""
    token = KeyMint(b"k" * 32).mint("authsvc", "session")
    for place in range(512 - len(token.text), 513):
        usage.note("ses_1", NOW, "", "x" * (place - 1) + " " + token.text + " " + "y" * 2000)
        await usage.flush()
        assert token.secret[:4] not in store.uses[-1].user_agent
