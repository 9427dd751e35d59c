"""Commands for operators: serve, dev, settings."""

import logging
import os
import secrets
import shlex
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import SecretBytes, SecretStr

from authsvc import app
from authsvc.cli.call import output
from authsvc.cli.parameters import Duration
from authsvc.cli.start_line import start_fields
from authsvc.cli.table import table
from authsvc.config.duration import format_duration
from authsvc.config.secret_files import SUFFIX, is_secret
from authsvc.config.settings import (
    PREFIX,
    ConfigError,
    Settings,
    load_settings,
)
from authsvc.config.transport import web_url
from authsvc.config.webhook_keys import KEY_BYTES, read_keys
from authsvc.keys.token_keys import new_token_key
from authsvc.model.key_string import redact
from authsvc.process import dev as dev_process
from authsvc.process import supervisor
from authsvc.process.child import Report
from authsvc.process.devpg import DevPostgres, kept_running
from authsvc.store import migrate as migrations
from authsvc.store.retention import Retention
from authsvc.telemetry import configure_logging

_log = logging.getLogger(__name__)

_Workers = Annotated[int | None, Parameter(validator=Number(gte=1, lte=256))]

_WELCOME = """\

Your administrator key, which is shown only once and stored in {file}:

  {key_string}

Try it in another terminal:

  KEY=$(cat {quoted}) grpcurl {tls} -expand-headers -H 'authorization: Bearer ${{KEY}}' \\
    -d '{{"owner_id": "acme", "display_name": "Orders", "scopes": ["orders:read"]}}' \\
    {address} authsvc.v1.KeyService/CreateKey

  KEY=$(cat {quoted}) grpcurl {tls} -expand-headers -H 'authorization: Bearer ${{KEY}}' \\
    -d '{{"owner_id": "acme"}}' {address} authsvc.v1.KeyService/ListKeys

  printf '{{"key_string": "%s"}}' "$(cat {quoted})" |
    KEY=$(cat {quoted}) grpcurl {tls} -expand-headers -H 'authorization: Bearer ${{KEY}}' \\
    -d @ {address} authsvc.v1.KeyService/VerifyKey
"""


def serve(*, workers: _Workers = None, wait_for_database: Duration = None) -> int:
    """Run the service on the PostgreSQL database of AUTHSVC_DATABASE_URL, until SIGTERM or Ctrl-C.

    SIGHUP replaces the workers with new ones, one after the other, and no call is lost. New code
    and new settings require a restart.

    Parameters
    ----------
    workers
        The number of worker processes. Overrides AUTHSVC_WORKERS.
    wait_for_database
        How long to wait at the start for a database that is reachable, writable and migrated, for
        instance 2m. Overrides AUTHSVC_WAIT_FOR_DATABASE.
    """
    settings = start(workers, {} if wait_for_database is None else {"wait_for_database": wait_for_database})
    app.transport(settings)

    def announce(port: int) -> None:
        _warn(settings)
        number = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
        address = settings.listen.with_port(port).reachable
        _log.info("serving at %s with %s", address, number, extra={"fields": start_fields(settings, port)})

    return supervisor.serve(settings, announce)


def dev(*, new_admin_key: Annotated[bool, Parameter(negative="")] = False, workers: _Workers = None) -> int:
    """Run the service on an embedded PostgreSQL, for trying it out; the same as `make run`.

    Parameters
    ----------
    new_admin_key
        Create another administrator key, if the first one is lost.
    workers
        The number of worker processes. Overrides AUTHSVC_WORKERS.
    """
    # A first trial has no scope catalogue. If there is one, other settings are checked against it.
    settings = start(workers, {} if os.environ.get(f"{PREFIX}SCOPES") else {"scopes": "*"})
    app.transport(settings)  # Before anything is created.
    _make_data_dir(settings.data_dir)
    if not settings.webhook_keys:
        settings = settings.model_copy(update={"webhook_keys": _webhook_keys(settings.data_dir)})
    if settings.token_keys_file is None:
        settings = settings.model_copy(update={"token_keys_file": _token_keys_file(settings.data_dir)})
    return dev_process.serve(settings, partial(_dev_database, settings, new_admin_key), _welcome)


def retention_of(settings: Settings) -> Retention:
    """Return how long the schema keeps audit events."""
    return Retention(settings.audit_retention, "audit_retention" in settings.model_fields_set)


def settings() -> None:
    """List the settings, which are environment variables.

    Durations are written like 500ms, 30s, 5m, 12h or 30d; a number without a unit is seconds.
    Secrets can be in files.
    """
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default in (None, "", (), {}) else _shown(default)
        variable = PREFIX + name.upper()
        or_file = f"; or, in a file, {variable}{SUFFIX}" if is_secret(field) else ""
        rows.append((variable, shown, f"{field.description}{or_file}"))
    output.print(table(("setting", "default", "description"), rows))


def _shown(default: object) -> str:
    if isinstance(default, timedelta):
        return format_duration(default)
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default.value if isinstance(default, Enum) else default)


def start(workers: int | None = None, given: Mapping[str, object] = {}) -> Settings:
    """Return the settings and configure logging. Those in `given` take precedence over the environment."""
    settings = load_settings(**given) if workers is None else load_settings(workers=workers, **given)
    configure_logging(settings.log_level, settings.log_format, redact)
    return settings


@asynccontextmanager
async def _dev_database(settings: Settings, new_admin_key: bool, report: Report) -> AsyncIterator[str]:
    """Run the database of `authsvc dev`, with the schema and an administrator key, and yield its URL."""
    async with AsyncExitStack() as stack:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        else:
            # For each worker, the new worker of a rolling restart, the notifier, and people who look at the
            # database.
            connections = (settings.workers + 1) * (settings.database_pool_size + 1) + 20
            postgres = DevPostgres(
                settings.data_dir / "postgres", settings={"max_connections": str(max(100, connections))}
            )
            url = (await stack.enter_async_context(postgres)).url
            await stack.enter_async_context(kept_running(postgres))
        await migrations.migrate(
            url, pooler=settings.feed == "poll", retention=retention_of(settings), tell=_log.info
        )
        settings = settings.model_copy(update={"database_url": SecretStr(url)})
        async with app.administering(settings) as keys:
            minted = await keys.ensure_administrator(another=new_admin_key)
        if minted is not None:
            # Stored before anything else can fail, since it cannot be shown again.
            _keep(_admin_key_file(settings), minted.text)
            report("minted", minted.text)
        yield url


def _welcome(settings: Settings, port: int, minted: str) -> None:
    """Print the address of `authsvc dev`, and where the administrator key is."""
    _warn(settings)
    address, file = settings.listen.with_port(port).reachable, _admin_key_file(settings)
    _log.info("serving at %s", address, extra={"fields": start_fields(settings, port)})
    print(f"authsvc serves at {address}; its data is in {settings.data_dir}. Ctrl-C stops it.")
    if url := web_url(settings):
        pages = f" The console is at {url}/." if settings.console == "on" else ""
        print(f"It serves the same RPCs over HTTP at {url}, see docs/http.md.{pages}")
    if minted:
        tls = "-plaintext" if settings.tls_cert is None else "-cacert ca.pem"
        if settings.tls_client_ca is not None:
            tls += " -cert client.pem -key client.key"
        quoted = shlex.quote(str(file))
        print(_WELCOME.format(file=file, quoted=quoted, key_string=minted, address=address, tls=tls))
    elif file.exists():
        print(f"Your administrator key is in {file}.")
    else:
        print(
            f"{file} is missing, and the key cannot be shown again. "
            "Create another one with `authsvc dev --new-admin-key`."
        )
    sys.stdout.flush()


def _warn(settings: Settings) -> None:
    """Warn about settings that reduce security."""
    plain = [settings.listen] if settings.tls_cert is None else []
    plain += [settings.web_listen] if settings.tls_cert is None and settings.web_listen else []
    for listen in filter(None, (*plain, settings.http_listen)):
        if not listen.is_loopback:
            _log.warning("key strings are sent in plain text to %s: use it only on a private network", listen)
    if settings.anonymous_scopes:
        _log.warning(
            "AUTHSVC_ANONYMOUS_SCOPES: callers of %s without a credential act on every owner, with %s",
            " or ".join(map(str, filter(None, (settings.listen, settings.http_listen, settings.web_listen)))),
            ", ".join(settings.anonymous_scopes),
        )


def _admin_key_file(settings: Settings) -> Path:
    return (settings.data_dir / "admin.key").resolve()


def _webhook_keys(data_dir: Path) -> tuple[SecretBytes, ...]:
    """Return the key in the data directory from which secrets of webhooks are derived; make it first."""
    file = (data_dir / "webhook.key").resolve()
    try:
        if not file.exists():
            _keep(file, b64encode(secrets.token_bytes(KEY_BYTES)).decode())
        return read_keys(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"AUTHSVC_DATA_DIR: cannot use {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(
            f"{file}: {error}, or remove the file, so that the next start makes a new one; then the secrets "
            "of all webhooks have to be rotated"
        ) from None


def _token_keys_file(data_dir: Path) -> Path:
    """Return the file in the data directory with the key that signs tokens; make it first."""
    file = (data_dir / "token.key").resolve()
    try:
        if not file.exists():
            _keep(file, new_token_key())
    except OSError as error:
        raise ConfigError(f"AUTHSVC_DATA_DIR: cannot use {file}: {error.strerror}") from error
    return file


def _make_data_dir(data_dir: Path) -> None:
    """Make sure, before a key is created, that it can be stored."""
    try:
        # Others can traverse it but not list it: for root, PostgreSQL runs as another user in a subdirectory.
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=data_dir).close()
    except OSError as error:
        raise ConfigError(f"AUTHSVC_DATA_DIR: cannot write in {data_dir}: {error.strerror}") from error


def _keep(file: Path, key: str) -> None:
    """Write a file that only its owner can read, and replace an existing one."""
    temporary = file.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(key + "\n")
    temporary.replace(file)
