"""What all measurements share: a database, and two instances of the service, one of them in this process."""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench import server

# Nothing here has to survive the run, and only the load may use the CPU.
POSTGRES = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The running parts. `app` is the service in this process, `server` the one in a separate process."""

    quick: bool
    app: app.App
    database_url: str
    server: server.Process
    stub: KeyServiceStub
    admin_key: str

    def as_caller(self, key_string: str) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata of a call."""
        return (("authorization", f"Bearer {key_string}"),)

    async def postgres_fact(self) -> str:
        """Return the version and the settings of PostgreSQL."""
        connection = await asyncpg.connect(self.database_url)
        try:
            version = await connection.fetchval("SHOW server_version")
        finally:
            await connection.close()
        return f"PostgreSQL {version}: " + ", ".join(f"{name}={value}" for name, value in POSTGRES.items())


def say(text: str) -> None:
    """Report progress to the user."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@asynccontextmanager
async def running(*, quick: bool) -> AsyncIterator[Bench]:
    """Run everything that is measured."""
    say("starting PostgreSQL and the service")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with DevPostgres(Path(directory) / "postgres", settings=POSTGRES) as postgres:
            await migrate(postgres.url)
            settings = load_settings(listen="127.0.0.1:0", database_url=postgres.url, scopes="*")
            async with (
                app.running(settings) as service,
                server.running(postgres.url) as process,
                grpc.aio.insecure_channel(process.address) as channel,
            ):
                minted = await service.keys.ensure_administrator()
                assert minted is not None
                yield Bench(
                    quick=quick,
                    app=service,
                    database_url=postgres.url,
                    server=process,
                    stub=KeyServiceStub(channel),
                    admin_key=minted.text,
                )
