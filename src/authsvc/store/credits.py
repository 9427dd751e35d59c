"""The credits of keys in the database. Implements `CreditStore` of `verify`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
        self._borrowing = SharedStatement(
            self._borrow,
            max_waiting=MAX_WAITING_LOANS,
            full="too many keys with credits are being verified",
        )

    async def borrow(self, loan: CreditLoan) -> tuple[int, int]:
        """Borrow what is needed when the statement is sent, which loans that wait at the same time share.

        Raises Overloaded when too many wait, and Unavailable when the database cannot answer.
        """
        return await self._borrowing.ask(loan)

    async def give_back(self, unused: Sequence[tuple[str, int, int]]) -> None:
        """Give back credits that were not used. Raises Unavailable when the database cannot answer."""
        async with self._database.connection() as connection:
            await connection.execute(
                _SQL["give_back_credits"],
                [account_id for account_id, _, _ in unused],
                [epoch for _, epoch, _ in unused],
                [held for _, _, held in unused],
            )

    async def _borrow(self, loans: Sequence[CreditLoan]) -> list[tuple[int, int]]:
        # An account has one loan at a time.
        ordered = sorted(range(len(loans)), key=lambda place: loans[place].account.account_id)
        needs = [loans[place].need() for place in ordered]
        async with self._database.connection() as connection:
            asked_time = self._stopwatch()
            row = await connection.fetchrow(
                _SQL["borrow_credits"],
                [loans[place].account.account_id for place in ordered],
                [least for least, _ in needs],
                [most for _, most in needs],
            )
        if row is None:
            raise AssertionError("a function that returns no set returns a row")
        answers = [(0, 0)] * len(loans)
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
        for place, (least, _), lent, left, epoch, amount, seconds in columns:
            account = loans[place].account
            account.learn(
                # One that is gone has no epoch: nothing is left of it.
                epoch=epoch if left is not None else account.epoch,
                lent=lent,
                left=left or 0,
                asked_time=asked_time,
                refill_amount=amount,
                refill_seconds=seconds,
            )
            answers[place] = least, lent
        return answers


async def lock(connection: Connection, key: Key) -> Credits | None:
    """Return the credits of a locked key; until the transaction ends, nobody takes or refills any.

    A refill that is due is done. Returns None if the key has no credits.
    """
    has_some = await connection.fetchval(_SQL["find_account"], key.key_id) is not None
    # Other keys may have the account even if this one has no credits.
    await connection.execute(_SQL["lock_account"], key.account_id)
    await connection.execute(_SQL["refill_account"], key.account_id)
    return await _read(connection, key.account_id) if has_some else None


async def given(connection: Connection, key: Key, before: Credits | None) -> Key:
    """Give a locked key its credits, instead of those `before`, or take them away; return it as it is now."""
    if key.credits is None:
        await connection.execute(_SQL["take_credits_away"], key.key_id)
        return key
    remaining, refill = key.credits.remaining, key.credits.refill
    amount, day = (None, None) if refill is None else refill
    is_kept = before is not None and before.remaining == remaining
    await connection.execute(_SQL["set_credits"], key.key_id, key.account_id, remaining, amount, day, is_kept)
    return replace(key, credits=await _read(connection, key.account_id))


async def _read(connection: Connection, account_id: str) -> Credits | None:
    row = await connection.fetchrow(_SQL["read_account"], account_id)
    return None if row is None else from_column(row["credits"])


async def share(connection: Connection, key_id: str, successor_id: str) -> None:
    """Let the successor of a key have its credits with it."""
    await connection.execute(_SQL["share_credits"], key_id, successor_id)


async def spent(connection: Connection, account_id: str) -> int:
    """Return how many credits of a locked account were spent since they were set or refilled."""
    row = await connection.fetchrow(_SQL["read_account"], account_id)
    return 0 if row is None else int(row["spent"])


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
