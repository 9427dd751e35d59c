"""`authsvc dev` with a database and workers that do nothing; the test names what they do wrong.

Prints a line for each thing that happens. The lines `database` and `worker` have the process id.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from authsvc.config.settings import Settings, load_settings
from authsvc.model.errors import OperatorError
from authsvc.process import dev, follower, notifier, worker
from authsvc.process.child import Report

WRONG = set(sys.argv[1:])


def tell(line: str) -> None:
    # In one write, since processes share the pipe.
    os.write(1, f"{line}\n".encode())


@asynccontextmanager
async def database(report: Report) -> AsyncIterator[str]:
    tell(f"database {os.getpid()}")
    if "database-fails" in WRONG:
        raise OperatorError("the disk is full")
    if "database-has-a-bug" in WRONG:
        raise ValueError("hunter2")
    report("minted", "a key")
    if "database-hangs-at-start" in WRONG:
        await asyncio.Event().wait()
    yield "postgresql://u@127.0.0.1/d"
    tell("database stops")
    if "database-hangs-at-stop" in WRONG:
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(
    settings: Settings, slot: int, shared: object, predecessors: Collection[UUID], report: Report
) -> AsyncIterator[str]:
    assert settings.database_url is not None
    tell(f"worker {os.getpid()}")
    if "worker-fails" in WRONG:
        raise OperatorError("the schema is old")
    yield "50051"
    tell("worker stops")


@asynccontextmanager
async def following(*_: object) -> AsyncIterator[str]:
    yield ""


def announce(_: Settings, port: int, minted: str) -> None:
    tell(f"serving at {port} with {minted}")


if __name__ == "__main__":
    worker.serving = serving
    follower.following = notifier.notifying = following  # type: ignore[assignment]
    settings = load_settings(workers=2, listen="127.0.0.1:0", drain_grace="300")
    try:
        sys.exit(dev.serve(settings, database, announce))
    except OperatorError as error:
        tell(f"{type(error).__name__}: {error}")
        sys.exit(1)
