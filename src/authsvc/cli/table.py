"""Tables for people, of what others wrote.

In a cell that is a `str`, what a terminal would act on is escaped, and no markup is read. One that is a
`Text` is our own words with a style. No command makes a table of rich by itself.
"""

from collections.abc import Collection, Iterable, Sequence

import rich.table
from rich.text import Text

from authsvc.cli.printable import printable

Table = rich.table.Table
Cell = str | Text


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    unbroken: Collection[str] = (),
    with_header: bool = True,
) -> Table:
    """Return a table; the columns that are `unbroken` are not folded."""
    shown = Table(*columns, box=None, show_header=with_header)
    for column in shown.columns:
        column.no_wrap = column.header in unbroken
        column.overflow = "fold"
    for row in rows:
        shown.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return shown
