"""Commands for operators: serve, dev, migrate, settings."""

import asyncio
import logging
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from cyclopts import Parameter
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from authsvc import app
from authsvc.config import PREFIX, ConfigError, Settings, load_settings
from authsvc.devpg import DevPostgres
from authsvc.model.key_string import redact
from authsvc.store import migrate as migrations
from authsvc.telemetry import configure_logging

_log = logging.getLogger(__name__)

# Where a server listens that listens everywhere.
_SOMEWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not bound
_WELCOME = """\

Your administrator key, shown this once and kept in {file}:

  {key_string}

Try it in another terminal:

  grpcurl -plaintext -H "authorization: Bearer $(cat {quoted})" \\
    -d '{{"owner_id": "acme", "display_name": "Orders", "scopes": ["orders:read"]}}' \\
    {address} authsvc.v1.KeyService/CreateKey

  grpcurl -plaintext -H "authorization: Bearer $(cat {quoted})" \\
    -d '{{"owner_id": "acme"}}' {address} authsvc.v1.KeyService/ListKeys

  grpcurl -plaintext -H "authorization: Bearer $(cat {quoted})" \\
    -d "{{\\"key_string\\": \\"$(cat {quoted})\\"}}" {address} authsvc.v1.KeyService/VerifyKey
"""


async def serve() -> None:
    """Serve from the PostgreSQL of AUTHSVC_DATABASE_URL until SIGTERM or Ctrl-C."""
    settings = _start()
    async with app.running(settings) as service:
        _log.info("serving at %s", _reachable(settings.listen, service.port))
        await _stop_signal()


async def dev(*, new_admin_key: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Serve from an embedded PostgreSQL, ready for trying out; this is `make run`.

    Parameters
    ----------
    new_admin_key
        Mint another administrator key, for when the first one is lost.
    """
    settings = _start()
    stopped = asyncio.ensure_future(_stop_signal())
    _make_data_dir(settings.data_dir)
    async with _dev_database(settings) as url:
        await migrations.migrate(url, tell=_log.info)
        settings = settings.model_copy(update={"database_url": SecretStr(url)})
        async with app.running(settings) as service:
            address = _reachable(settings.listen, service.port)
            minted = await service.keys.ensure_administrator(another=new_admin_key)
            file = (settings.data_dir / "admin.key").resolve()
            print(f"authsvc serves at {address}; its data is in {settings.data_dir}. Ctrl-C stops it.")
            if minted is not None:
                _keep(file, minted.text)
                print(
                    _WELCOME.format(
                        file=file, quoted=shlex.quote(str(file)), key_string=minted.text, address=address
                    )
                )
            elif file.exists():
                print(f"Your administrator key is in {file}.")
            else:
                print(
                    f"{file} is gone and cannot be shown again; `authsvc dev --new-admin-key` mints another."
                )
            sys.stdout.flush()
            await stopped


async def migrate() -> None:
    """Bring the schema of AUTHSVC_DATABASE_URL up to date.

    With AUTHSVC_MIGRATION_DATABASE_URL, that role owns the schema, and the one of
    AUTHSVC_DATABASE_URL is granted the use of it and no more.
    """
    settings = _start()
    serving = settings.database_url
    owning = settings.migration_database_url or serving
    if owning is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: say which database to migrate")
    role = unquote(urlsplit(serving.get_secret_value()).username or "") if serving else ""
    done = await migrations.migrate(owning.get_secret_value(), serving_role=role, tell=print)
    print(f"{done} applied; the schema is up to date" if done else "nothing to do; the schema is up to date")


def settings() -> None:
    """List the settings, which come from the environment."""
    table = Table("setting", "default", "what it does", box=None)
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", ()) else str(field.default)
        table.add_row(PREFIX + name.upper(), default, field.description)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _start() -> Settings:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, redact)
    return settings


@asynccontextmanager
async def _dev_database(settings: Settings) -> AsyncIterator[str]:
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    async with DevPostgres(settings.data_dir / "postgres") as postgres:
        yield postgres.url


def _make_data_dir(data_dir: Path) -> None:
    """Make sure, before a key is minted, that there is where to keep it."""
    try:
        # Others may pass but not look: root's PostgreSQL runs as somebody else, in a directory of its own.
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=data_dir).close()
    except OSError as error:
        raise ConfigError(f"AUTHSVC_DATA_DIR: cannot write in {data_dir}: {error.strerror}") from error


async def _stop_signal() -> None:
    """Return at the first SIGTERM or SIGINT; the second one is the usual sudden end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _keep(file: Path, key_string: str) -> None:
    """Write a file that only we can read, whatever stood there before."""
    temporary = file.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(key_string + "\n")
    temporary.replace(file)


def _reachable(listen: str, port: int) -> str:
    """Return the address that a client on this machine can use."""
    host = listen.rpartition(":")[0]
    return f"{_SOMEWHERE.get(host, host)}:{port}"
