"""The credits of keys in the database. Implements `CreditStore` of `verify`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from authsvc.model.credit_account import CreditLoan
from authsvc.model.credits import Credits, Refill
from authsvc.model.key import Key
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries
from authsvc.store.shared_statement import SharedStatement

_SQL = load_queries("credits.sql")
#: How many loans may wait.
MAX_WAITING_LOANS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CreditAccountStore:
    """Each statement is a transaction of its own, which takes the locks of accounts in the order of ids."""

    def __init__(self, database: Database, stopwatch: Callable[[], float]) -> None:
        self._database = database
        self._stopwatch = stopwatch
        # Since a borrow has failed, whose credits may be lost, none is borrowed in advance.
        self._is_failing = False
        self._borrowing = SharedStatement(
            self._borrow,
            max_waiting=MAX_WAITING_LOANS,
            full="too many keys with credits are being verified",
        )

    async def borrow(self, loan: CreditLoan) -> bool:
        """Borrow what is needed when the statement is sent, which loans that wait at the same time share.

        Returns whether anything was lent, or nothing was lacking. Raises Overloaded when too many wait, and
        Unavailable when the database cannot answer.
        """
        return await self._borrowing.ask(loan)

    async def give_back(self, unused: Sequence[tuple[str, int, int]]) -> None:
        """Give back credits that were not used. Raises Unavailable when the database cannot answer."""
        columns = [list(column) for column in zip(*unused, strict=True)]
        await self._database.commit_row(_SQL["give_back_credits"], lambda: columns)

    async def _borrow(self, loans: Sequence[CreditLoan]) -> list[bool]:
        # An account has one loan at a time.
        ordered = sorted(range(len(loans)), key=lambda place: loans[place].account.account_id)
        needs: list[tuple[int, list[int]]] = []
        asked_time = 0.0

        def arguments() -> Sequence[object]:
            nonlocal asked_time
            asked_time = self._stopwatch()
            needs.extend(loans[place].need() for place in ordered)
            each = [(number, cost) for number, (_, costs) in enumerate(needs, 1) for cost in costs]
            return (
                [loans[place].account.account_id for place in ordered],
                [held for held, _ in needs],
                [number for number, _ in each],
                [cost for _, cost in each],
                self._is_failing,
            )

        try:
            row = await self._database.commit_row(_SQL["borrow_credits"], arguments)
        except BaseException:
            self._is_failing = True
            raise
        self._is_failing = False
        if row is None:
            raise AssertionError("a function that returns no set returns a row")
        answers = [False] * len(loans)
        columns = zip(
            ordered,
            needs,
            row["lent"],
            row["remaining"],
            row["epochs"],
            row["refill_amounts"],
            row["refill_seconds"],
            strict=True,
        )
        for place, (held, costs), lent, left, epoch, amount, seconds in columns:
            account = loans[place].account
            account.learn(
                # One that is gone has no epoch: nothing is left of it.
                epoch=epoch if left is not None else account.epoch,
                lent=lent,
                left=left or 0,
                asked_time=asked_time,
                answer_time=self._stopwatch(),
                refill_amount=amount,
                refill_seconds=seconds,
            )
            answers[place] = lent > 0 or sum(costs) <= held
        return answers


class Account(NamedTuple):
    """A locked account that a key may have; `credits` are None if there is none.

    Keys that were rotated share an account, and not each of them may have it. `spent` is since the credits
    were set or refilled.
    """

    credits: Credits | None
    is_of_key: bool
    spent: int

    @property
    def of_key(self) -> Credits | None:
        """The credits of the key; None if it has none."""
        return self.credits if self.is_of_key else None


async def lock(connection: Connection, key: Key) -> Account:
    """Return the account of a locked key; until the transaction ends, nobody takes or refills any credits.

    A refill that is due is done.
    """
    await connection.execute(_SQL["lock_account"], key.account_id)
    await connection.execute(_SQL["refill_account"], key.account_id)
    return await _read(connection, key)


async def given(connection: Connection, key: Key, *, is_kept: bool = False) -> Key:
    """Give a locked key its credits, or take them away; return it as it is now.

    With `is_kept`, what remains of those that it has stays, also what workers have borrowed.
    """
    if key.credits is None:
        await connection.execute(_SQL["take_credits_away"], key.key_id)
        return key
    remaining, refill = key.credits.remaining, key.credits.refill
    amount, day = (None, None) if refill is None else refill
    await connection.execute(_SQL["set_credits"], key.key_id, key.account_id, remaining, amount, day, is_kept)
    return replace(key, credits=(await _read(connection, key)).credits)


async def _read(connection: Connection, key: Key) -> Account:
    row = await connection.fetchrow(_SQL["read_account"], key.account_id, key.key_id)
    if row is None:
        return Account(None, is_of_key=False, spent=0)
    return Account(from_column(row["credits"]), row["is_of_key"], row["spent"])


async def share(connection: Connection, key_id: str, successor_id: str) -> None:
    """Let the successor of a key have its credits with it."""
    await connection.execute(_SQL["share_credits"], key_id, successor_id)


async def find_refund(connection: Connection, account_id: str, refund_id: str) -> int | None:
    """Return how many credits a refund has given back; None if there was none with this id."""
    amount: int | None = await connection.fetchval(_SQL["find_refund"], account_id, refund_id)
    return amount


async def refund(
    connection: Connection, account_id: str, refund_id: str, amount: int, *, at: datetime
) -> None:
    """Give credits back to a locked account, at most those that were spent."""
    await connection.execute(_SQL["refund"], account_id, refund_id, amount, at)


async def delete_old_refunds(connection: Connection, *, before: datetime, size: int) -> int:
    """Forget up to `size` refunds of the time before; return how many."""
    deleted: int = await connection.fetchval(_SQL["delete_old_refunds"], before, size)
    return deleted


async def delete_unused_accounts(connection: Connection, *, size: int) -> int:
    """Delete up to `size` accounts that no key has any more; return how many."""
    deleted: int = await connection.fetchval(_SQL["delete_unused_accounts"], size)
    return deleted


def from_column(values: Sequence[int | None] | None) -> Credits | None:
    """Return the credits in a column; None for NULL."""
    if values is None:
        return None
    remaining, amount, day, microseconds = values
    if amount is None or day is None or microseconds is None:
        return Credits(remaining)
    return Credits(remaining, Refill(amount, day), _EPOCH + timedelta(microseconds=microseconds))
