"""`authsvc migrate`: updates the schema, or says what that would do."""

import asyncio
import sys
from datetime import timedelta
from functools import partial
from typing import Annotated
from urllib.parse import unquote, urlsplit

from cyclopts import Parameter

from authsvc.cli.call import ClientError, notes
from authsvc.cli.parameters import Duration
from authsvc.cli.service import retention_of, start
from authsvc.config.settings import ConfigError, Settings
from authsvc.store import migrate as migrations
from authsvc.store.privileges import grants

# 1 is an error, and 2 one of the command line.
_MISSING_STATUS = 3


async def migrate(
    *,
    check: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    lock_wait: Duration = None,
) -> None:
    """Update the schema of the database of AUTHSVC_DATABASE_URL.

    The service can run meanwhile: no lock is waited for, or held, for long enough to end the lease
    of a worker. If AUTHSVC_MIGRATION_DATABASE_URL is set, its role owns the schema, and the role of
    AUTHSVC_DATABASE_URL gets only the privileges that serving requires. From then on, audit events
    are kept for AUTHSVC_AUDIT_RETENTION. If that is not set, its default can lengthen the retention
    of the schema but not shorten it.

    Parameters
    ----------
    check
        Change nothing, and list the migrations that are missing. Exit with status 0 if there is
        none, with 3 if there are some, and with 1 if that cannot be told.
    dry_run
        Change nothing, and print the SQL that would be executed. It is not tried out, because that
        would take the locks of a migration.
    lock_wait
        How long to wait for a lock that other sessions hold, for instance 30s; 0 tries once. By
        default, 5m.
    """
    if check and dry_run:
        raise ClientError("--check and --dry-run: use one of them")
    if lock_wait is not None and lock_wait < timedelta():
        raise ClientError("--lock-wait: use 0 or more, for instance 30s")
    settings = start()
    serving = settings.database_url
    owning = settings.migration_database_url or serving
    if owning is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set this to the database to migrate")
    url = owning.get_secret_value()
    role = _role_of(serving.get_secret_value()) if serving else ""
    if check or dry_run:
        missing = await migrations.unapplied(url, pooler=settings.feed == "poll")
        if dry_run:
            _print_sql(missing, role if role != _role_of(url) else "")
        else:
            _print_missing(missing)
        return
    await _apply(url, settings, role, migrations.LOCK_WAIT if lock_wait is None else lock_wait)


def _role_of(url: str) -> str:
    return unquote(urlsplit(url).username or "")


async def _apply(url: str, settings: Settings, role: str, lock_wait: timedelta) -> None:
    tell = partial(print, flush=True)  # Also into a pipe: somebody may have to act.
    try:
        done = await migrations.migrate(
            url,
            pooler=settings.feed == "poll",
            serving_role=role,
            retention=retention_of(settings),
            lock_wait=lock_wait,
            tell=tell,
        )
    except asyncio.CancelledError:
        notes.print("Interrupted. Run `authsvc migrate` again: it continues with what was not applied.")
        raise
    tell(f"{done} applied; the schema is up to date" if done else "nothing to do; the schema is up to date")


def _print_missing(missing: list[migrations.Migration]) -> None:
    for migration in missing:
        print(f"missing {migration}")
    if missing:
        sys.exit(_MISSING_STATUS)
    print("nothing to do; the schema is up to date")


def _print_sql(missing: list[migrations.Migration], role: str) -> None:
    for migration in missing:
        print(f"-- migration {migration}\n\nBEGIN;\n{migration.sql.strip()}\nCOMMIT;\n")
    if role:
        print(f"-- each time\n\nBEGIN;{grants(role).rstrip()}\nCOMMIT;")
    count = "1 migration is" if len(missing) == 1 else f"{len(missing)} migrations are"
    notes.print(f"{count} missing; nothing was executed." if missing else "No migration is missing.")
