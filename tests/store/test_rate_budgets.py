"""Budgets in the database: loans of many at once, and what is left when all are carried out."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

import asyncpg

from authsvc.model.budget import Budget
from authsvc.model.loan import Loan
from authsvc.model.rate_limit import RateLimit
from authsvc.store.pool import Database
from authsvc.store.rate_budgets import RateBudgetStore, delete_due
from authsvc.verify.clock import boottime

MONTH = 31 * 86_400


async def test_loans_of_several_workers_do_not_wait_for_each_other(database_url: str) -> None:
    """Overlapping budgets in any order, given back and purged meanwhile: no deadlock, no unit too many."""
    chance = Random(7)  # noqa: S311 - not a secret
    limits = [RateLimit(name, 60, MONTH) for name in "abcde"]
    async with AsyncExitStack() as stack:
        databases = [
            await stack.enter_async_context(Database.open(database_url, size=4, pooler=False))
            for _ in range(4)
        ]
        stores = [RateBudgetStore(database, boottime) for database in databases]
        lent: dict[tuple[str, str], int] = {}

        async def work(store: RateBudgetStore, database: Database) -> None:
            for _ in range(30):
                subject = f"key_{chance.randrange(3)}"
                budgets = [Budget(subject, limit, of_owner=False) for limit in chance.sample(limits, 3)]
                needs, answers, _ = await store.borrow(Loan(budgets, 1))
                units = [answer.units for answer in answers]
                assert sum(units) in (0, len(needs)), "a loan is granted wholly or not at all"
                if not sum(units):
                    continue
                if chance.random() < 0.3:
                    await store.give_back([(budget, 1) for budget in budgets])
                else:
                    for budget in budgets:
                        name = budget.subject, budget.limit.name
                        lent[name] = lent.get(name, 0) + 1
                if chance.random() < 0.1:
                    async with database.transaction() as connection:
                        await delete_due(connection, size=100)

        await asyncio.gather(
            *(work(store, database) for store, database in zip(stores, databases, strict=True) for _ in "123")
        )
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch("SELECT subject, name, used FROM authsvc.rate_budgets")
        await connection.close()
    used = {(row["subject"], row["name"]): row["used"] for row in rows}
    assert max(lent.values()) <= 60
    for name, units in lent.items():
        assert units - 0.1 <= used[name] <= units, "nothing else comes back within the test"


async def test_loans_of_one_moment_share_a_statement(database_url: str) -> None:
    """Each is answered by itself, in their order: the first ones get what there is."""
    async with Database.open(database_url, size=2, pooler=False) as database:
        store, limit = RateBudgetStore(database, boottime), RateLimit("a", 10, MONTH)
        before = database.checkouts
        answers = await asyncio.gather(
            *(store.borrow(Loan([Budget("key_1", limit, of_owner=False)], 3)) for _ in range(5))
        )
        assert database.checkouts - before == 1
        assert [lent[0].units for _, lent, _ in answers] == [3, 3, 3, 0, 0]
        assert [round(lent[0].used) for _, lent, _ in answers] == [9] * 5
