"""The one table at the end, and the facts about the machine that are needed to interpret it."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

_LIBRARIES = (
    "grpcio",
    "protobuf",
    "protovalidate",
    "uvloop",
    "asyncpg",
    "argon2-cffi",
    "prometheus-client",
)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A target for which more is better."""

    bound: float

    def __str__(self) -> str:
        return f"≥ {self.bound:g}"

    def is_met(self, value: float) -> bool:
        """Return whether `value` meets the target."""
        return value >= self.bound


@dataclass(frozen=True, slots=True)
class AtMost:
    """A target for which less is better."""

    bound: float

    def __str__(self) -> str:
        return f"≤ {self.bound:g}"

    def is_met(self, value: float) -> bool:
        """Return whether `value` meets the target."""
        return value <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: `one` divided by `other` is `ratio`. Without a target it is for orientation."""

    part: str
    what: str
    one: str
    other: str
    ratio: float
    aim: AtLeast | AtMost | None = None

    @property
    def outcome(self) -> str:
        """Met, not met, or empty if there is no target."""
        if self.aim is None:
            return ""
        return "met" if self.aim.is_met(self.ratio) else "NOT MET"


def show(rows: Sequence[Row], facts: Sequence[str]) -> None:
    """Print the facts and the table."""
    table = Table("part", "what", "one side", "the other", box=None, pad_edge=False)
    table.add_column("ratio", justify="right")
    table.add_column("aim", justify="right")
    table.add_column("")
    part = ""
    for row in rows:
        if part and part != row.part:
            table.add_section()
        part = row.part
        colour = {"met": "green", "NOT MET": "bold red"}.get(row.outcome, "")
        table.add_row(
            row.part,
            row.what,
            row.one,
            row.other,
            f"{row.ratio:.2f}",
            str(row.aim or ""),
            row.outcome,
            style=colour if sys.stdout.isatty() else "",
        )
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print()
    for fact in facts:
        console.print(fact, soft_wrap=True, markup=False)
    console.print()
    console.print(table)
    aims = [row for row in rows if row.aim is not None]
    missed = [row for row in aims if row.outcome != "met"]
    console.print(f"\n{len(aims) - len(missed)} of {len(aims)} aims met.")


def machine() -> list[str]:
    """Return the facts about the machine and the libraries."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"CPU: {_processor()}, {os.cpu_count()} cores; load averages at the start: {load}",
        f"Python {platform.python_version()} on {platform.system()} {platform.release()}",
        f"Libraries: {libraries}",
    ]


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
