"""Writes audit events in the background, in a transaction for each owner.

So no owner waits long for the chain of another, and what is wrong with one chain does not hold up the others.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from authsvc.model.errors import Unavailable
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.driver_errors import LOCK_TIMEOUT

Row = TypeVar("Row")


async def write_by_owner(
    writer: BatchWriter[Row],
    rows: Collection[Row],
    owner_of: Callable[[Row], str],
    settled: Callable[[Sequence[Row]], object],
) -> None:
    """Write rows, those of an owner together; `settled` gets those that need not be tried again.

    An error that concerns one owner is raised when all others are written, and any other one at once.
    """
    by_owner: dict[str, list[Row]] = {}
    for row in rows:
        by_owner.setdefault(owner_of(row), []).append(row)
    error: Exception | None = None
    for of_owner in by_owner.values():
        try:
            await writer.write(of_owner, settled=settled)
        except Exception as problem:
            if isinstance(problem, Unavailable) and problem.reason != LOCK_TIMEOUT:
                raise
            error = problem  # It concerns only the events or the chain of this owner.
    if error is not None:
        raise error
