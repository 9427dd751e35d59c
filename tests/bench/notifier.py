"""The notifier in a process of its own, for services that run without a supervisor: `tests.bench.server`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import uvloop

from authsvc.config.settings import load_settings
from authsvc.model.key_string import redact
from authsvc.process import notifier
from authsvc.telemetry import configure_logging


@asynccontextmanager
async def running(url: str, *, core: int, settings: Mapping[str, str]) -> AsyncIterator[int]:
    """Run it on a core while the block runs; yield its process id."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(core), sys.executable, "-m", "tests.bench.notifier"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "AUTHSVC_DATABASE_URL": url, "AUTHSVC_LOG_LEVEL": "error", **settings},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if not await process.stdout.readline():
        raise RuntimeError("the notifier has ended; its last words are above")
    try:
        yield process.pid
    finally:
        process.stdin.close()
        await process.wait()


async def _main() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, redact)
    async with notifier.notifying(settings, None, lambda _word, _text: None):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_main())
