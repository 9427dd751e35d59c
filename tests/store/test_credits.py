"""Credits in the database: loans of many accounts at once, and what is left when all are carried out."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import asyncpg

from authsvc.model.credit_account import CreditAccount, CreditLoan
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
        assert await store.borrow(CreditLoan(account, 5)) == (5, 5)
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
        assert await store.borrow(CreditLoan(gone, 1)) == (1, 0)
        assert (gone.held, gone.remaining) == (0, 0)
    await connection.close()
