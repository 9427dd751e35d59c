"""A supervisor with an auxiliary process and workers that do nothing; the test says what goes wrong.

Prints a line for each thing that happens. The lines `auxiliary` and `worker` have the process id.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from authsvc.config.settings import Settings, load_settings
from authsvc.model.errors import OperatorError
from authsvc.process import follower, notifier, supervisor, worker
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import Pipe, Report
from authsvc.process.children import Children
from authsvc.process.slots import Worker
from authsvc.telemetry import configure_logging

WRONG = set(sys.argv[1:])
GO_ON = Pipe()


def tell(line: str) -> None:
    # In one write, since processes share the pipe.
    os.write(1, f"{line}\n".encode())


@asynccontextmanager
async def helping(report: Report) -> AsyncIterator[str]:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, GO_ON.writer.write, b"12")
    tell(f"auxiliary {os.getpid()}")
    if "fails" in WRONG:
        raise OperatorError("the disk is full")
    report("word", "a text")
    if "hangs-at-start" in WRONG:
        await asyncio.Event().wait()
    yield ""
    tell("auxiliary stops")
    if "hangs-at-stop" in WRONG:
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(
    settings: Settings, slot: int, shared: object, predecessors: Collection[UUID], report: Report
) -> AsyncIterator[str]:
    tell(f"worker {os.getpid()}")
    yield "50051"
    if "worker-waits" in WRONG:
        tell("worker waits")
        # Until the auxiliary process that was started meanwhile says so.
        await asyncio.to_thread(GO_ON.reader.read, 1)
    tell("worker stops")


@asynccontextmanager
async def following(*_: object) -> AsyncIterator[str]:
    yield ""


@asynccontextmanager
async def notifying(*_: object) -> AsyncIterator[str]:
    if "notifier-fails" in WRONG:
        # The workers are ready before it fails.
        await asyncio.to_thread(GO_ON.reader.read, 1)
        raise OperatorError("a template is broken")
    yield ""
    if "notifier-tells" in WRONG:
        tell("notifier stops")


class Telling(supervisor.Supervisor):
    """Says which workers it knows to be ready."""

    def _note_ready(self, worker: Worker, port: int) -> None:
        super()._note_ready(worker, port)
        if "notifier-fails" in WRONG:
            tell("ready")


if __name__ == "__main__":
    worker.serving = serving
    follower.following = following  # type: ignore[assignment]
    notifier.notifying = notifying  # type: ignore[assignment]
    configure_logging("info", "json", str)
    settings = load_settings(workers=2, drain_grace="300")
    with Children() as children:
        auxiliary = Auxiliary(
            children,
            "the helper",
            helping,
            max_start_seconds=0.5 if "hangs-at-start" in WRONG else 60,
            max_stop_seconds=0.5 if "hangs-at-stop" in WRONG else 60,
            note=lambda word, text: tell(f"reports {word}: {text}"),
        )
        running = Telling(
            settings, children, announce=lambda port: tell(f"serving at {port}"), auxiliaries=[auxiliary]
        )
        if fault := running.run():
            tell(f"fault: {fault}")
        sys.exit(children.signals.exit_code)
