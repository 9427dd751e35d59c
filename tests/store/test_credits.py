"""Credits in the database: loans of many accounts at once, and what is left when all are carried out."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import asyncpg
import pytest

from authsvc.model.credit_account import CreditAccount, CreditLoan
from authsvc.model.errors import Unavailable
from authsvc.store.credits import CreditAccountStore
from authsvc.store.pool import Database
from authsvc.verify.clock import boottime

_UNITS = 300
_INSERT = """
    INSERT INTO authsvc.credit_accounts (account_id, remaining, epoch) SELECT 'key_' || n, $1, 7
      FROM generate_series(0, 4) AS n
"""


async def test_loans_of_several_workers_do_not_wait_for_each_other(database_url: str) -> None:
    """Overlapping accounts in any order, given back meanwhile: no deadlock, and no credit is made or lost."""
    chance = Random(7)  # noqa: S311 - not a secret
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, _UNITS)
    taken: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        databases = [
            await stack.enter_async_context(Database.open(database_url, size=4, pooler=False))
            for _ in range(3)
        ]
        stores = [CreditAccountStore(database, boottime) for database in databases]

        async def work(store: CreditAccountStore) -> None:
            for _ in range(25):
                names = [f"key_{number}" for number in chance.sample(range(5), 3)]
                accounts = [CreditAccount(name) for name in names]
                cost = chance.randrange(1, 4)
                await asyncio.gather(*(store.borrow(CreditLoan(account, cost)) for account in accounts))
                unused = []
                for account in accounts:
                    assert account.held == 0 or cost <= account.held <= max(cost, _UNITS // 100)
                    used = min(account.held, cost) if chance.random() < 0.7 else 0
                    taken[account.account_id] += used
                    unused.append((account.account_id, account.epoch, account.held - used))
                await store.give_back(unused)

        await asyncio.gather(*(work(store) for store in stores))
    rows = await connection.fetch("SELECT account_id, remaining, spent FROM authsvc.credit_accounts")
    await connection.close()
    assert {row["account_id"]: row["spent"] for row in rows} == dict(taken)
    assert {row["remaining"] + row["spent"] for row in rows} == {_UNITS}


async def test_what_is_given_back_of_an_earlier_epoch_is_gone(database_url: str) -> None:
    """As are credits of an account that is gone; and an answer from before does not count any more."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, _UNITS)
    async with Database.open(database_url, size=2, pooler=False) as database:
        store, account = CreditAccountStore(database, boottime), CreditAccount("key_1")
        assert await store.borrow(CreditLoan(account, 5))
        assert (account.held, account.left, account.remaining) == (5, 295, 300)
        await connection.execute("UPDATE authsvc.credit_accounts SET remaining = 9, spent = 0, epoch = 8")
        await store.give_back([("key_1", account.epoch, 5), ("key_none", 7, 5)])
        assert (
            await connection.fetchval(
                "SELECT remaining FROM authsvc.credit_accounts WHERE account_id = 'key_1'"
            )
            == 9
        )
        account.see(9)
        await store.borrow(CreditLoan(account, 5))
        assert (account.held, account.remaining) == (0, None)
        gone = CreditAccount("key_none")
        assert not await store.borrow(CreditLoan(gone, 1))
        assert (gone.held, gone.remaining) == (0, 0)
    await connection.close()


async def test_a_cost_that_is_too_high_takes_nothing(database_url: str) -> None:
    """As many of the verifications are lent for as there is enough, the cheapest first, and no more."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, _UNITS)
    async with Database.open(database_url, size=2, pooler=False) as database:
        store = CreditAccountStore(database, boottime)
        for number, (costs, lent) in enumerate(
            (((1, 4_000_000_000), 1), ((200, 5, 150), 155), ((1, 2), 3), ((0, 1000), 0), ((0,), 0))
        ):
            account = CreditAccount(f"key_{number}")
            loan = CreditLoan(account, costs[0])
            for cost in costs[1:]:
                loan.add(cost)
            assert await store.borrow(loan) == (lent > 0 or costs == (0,))
            assert (account.held, account.remaining) == (lent, _UNITS)
        # What is held already counts.
        account = CreditAccount("key_0")
        account.learn(
            epoch=7, lent=50, left=0, asked_time=0, answer_time=0, refill_amount=None, refill_seconds=None
        )
        assert await store.borrow(CreditLoan(account, 60))
        assert account.held == 60
    await connection.close()


async def test_after_a_failure_nothing_is_borrowed_in_advance(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lent in an answer that is lost is lost, so an outage must not cost a slice each time."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, 10_000)
    async with Database.open(database_url, size=2, pooler=False) as database:
        store, account = CreditAccountStore(database, boottime), CreditAccount("key_1")

        async def lost(*_: object) -> None:
            raise Unavailable("x", reason="COMMIT_UNCERTAIN", retry_after=1)

        with monkeypatch.context() as patch:
            patch.setattr(database, "commit_row", lost)
            with pytest.raises(Unavailable):
                await store.borrow(CreditLoan(account, 5))
        await store.borrow(CreditLoan(account, 5))
        assert account.held == 5
        await store.borrow(CreditLoan(account, 6))
        assert account.held == 5 + 99
    await connection.close()


async def test_a_locked_account_is_waited_for_within_bounds(database_url: str) -> None:
    """A transaction that keeps it locked holds up the loans of others for two seconds at most."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, _UNITS)
    async with Database.open(database_url, size=2, pooler=False) as database, connection.transaction():
        await connection.execute("SELECT FROM authsvc.credit_accounts WHERE account_id = 'key_1' FOR UPDATE")
        store = CreditAccountStore(database, boottime)
        with pytest.raises(Unavailable):
            await store.borrow(CreditLoan(CreditAccount("key_1"), 5))
        other = CreditAccount("key_2")
        assert await store.borrow(CreditLoan(other, 5))
    await connection.close()


async def test_a_question_that_changes_nothing_waits_for_no_disk(database_url: str) -> None:
    """Nor for the standby, so a refusal can be told while that is away."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_INSERT, _UNITS)
    asked = "SELECT lent FROM authsvc.borrow_credits(ARRAY['key_1'], ARRAY[0], ARRAY[1], $1::bigint[], false)"

    async def commit_setting(cost: int) -> str:
        async with connection.transaction():
            await connection.execute(asked, [cost])
            return str(await connection.fetchval("SHOW synchronous_commit"))

    assert [await commit_setting(cost) for cost in (5, 0, 1000)] == ["on", "off", "off"]
    await connection.execute(
        "UPDATE authsvc.credit_accounts SET refill_amount = 9, refill_day = 1, refill_time = '2020-01-01'"
    )
    assert await commit_setting(0) == "on"
    await connection.close()
