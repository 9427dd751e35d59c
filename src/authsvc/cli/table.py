"""Tables that show text from others safely.

In a cell that is a `str`, characters that control a terminal are escaped, and markup is not interpreted. A
cell that is a `Text` holds our own words with a style. Commands do not use the tables of rich directly.
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
    """Return a table. The columns in `unbroken` are not wrapped."""
    shown = Table(*columns, box=None, show_header=with_header)
    for column in shown.columns:
        column.no_wrap = column.header in unbroken
        column.overflow = "fold"
    for row in rows:
        shown.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return shown
