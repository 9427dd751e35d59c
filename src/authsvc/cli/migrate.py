"""`authsvc migrate`: updates the schema, or says what that would do."""

import asyncio
import sys
from datetime import timedelta
from functools import partial
from typing import Annotated

from cyclopts import Parameter
from pydantic import SecretStr

from authsvc.cli.call import notes
from authsvc.cli.parameters import Duration
from authsvc.cli.service import retention_of, start
from authsvc.config.settings import ConfigError, Settings
from authsvc.store import migrate as migrations
from authsvc.store.hosts import InvalidUrlError
from authsvc.store.login import Login, login_of
from authsvc.store.privileges import grants
from authsvc.store.retention import Retention

# 1 is an error, and 2 one of the command line.
_MISSING_STATUS = 3
_FOR_READING = """\
-- For reading only. Do not execute this by hand: `authsvc migrate` applies it, and records that it did.
-- A migration that is executed without being recorded makes every later `authsvc migrate` fail.
"""


def check_options(*, check: bool = False, dry_run: bool = False, lock_wait: timedelta | None = None) -> None:
    """Raise ValueError for options of `migrate` that make no sense; the command line is wrong then."""
    if check and dry_run:
        raise ValueError("--check and --dry-run: use one of them")
    if lock_wait is not None and lock_wait < timedelta():
        raise ValueError("--lock-wait: use 0 or more, for instance 30s")


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
        none, with 3 if there are some, and with 1 if that cannot be told. A retention of audit events
        that would change is shown, and has no influence on the status.
    dry_run
        Change nothing, and print the SQL that would be executed, for reading. It is not tried out,
        because that would take the locks of a migration.
    lock_wait
        How long to wait for a lock that other sessions hold, for instance 30s; 0 tries once. By
        default, 5m.
    """
    settings = start()
    owning = settings.migration_database_url or settings.database_url
    if owning is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set this to the database to migrate")
    url = owning.get_secret_value()
    role = await _serving_role(settings.database_url, settings.migration_database_url)
    if check or dry_run:
        plan = await migrations.plan(url, pooler=settings.feed == "poll")
        show = _print_sql if dry_run else _print_missing
        show(plan, retention_of(settings), role if role != plan.role else "")
        return
    await _apply(url, settings, role, migrations.LOCK_WAIT if lock_wait is None else lock_wait)


async def _serving_role(serving: SecretStr | None, owning: SecretStr | None) -> str:
    """Return the role that gets the privileges. Raise ConfigError unless both URLs fit together."""
    if serving is None:
        return ""
    server = await _login("AUTHSVC_DATABASE_URL", serving)
    if owning is None:
        return server.role
    if not server.role:
        raise ConfigError(
            "AUTHSVC_DATABASE_URL: name the role that serves, which gets the privileges, for instance "
            "postgresql://ROLE@HOST/DATABASE; neither the URL nor PGUSER names one"
        )
    owner = await _login("AUTHSVC_MIGRATION_DATABASE_URL", owning)
    if server.database != owner.database:
        raise ConfigError(
            "AUTHSVC_DATABASE_URL and AUTHSVC_MIGRATION_DATABASE_URL: name the same database in both; they "
            f'are for "{server.database}" and "{owner.database}". Without a name, it is that of the role. '
            "Instead of a name that only a pooler knows, give `authsvc migrate` that of the database"
        )
    return server.role


async def _login(name: str, url: SecretStr) -> Login:
    try:
        return await login_of(url.get_secret_value())
    except InvalidUrlError as error:
        raise ConfigError(f"{name}: {error}") from error


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


def _print_missing(plan: migrations.Plan, retention: Retention, _: str) -> None:
    for migration in plan.missing:
        print(f"missing {migration}")
    change = _change(plan, retention)
    if change:
        print(change)
    if plan.missing:
        sys.exit(_MISSING_STATUS)
    print("no migration is missing" if change else "nothing to do; the schema is up to date")


def _print_sql(plan: migrations.Plan, retention: Retention, role: str) -> None:
    parts = [f"-- migration {migration}\n\nBEGIN;\n{migration.sql.strip()}\n" for migration in plan.missing]
    change = _change(plan, retention)
    if retention.replaces(plan.kept):
        told = change or f"the retention of audit events: {retention}"
        parts.append(f"-- {told}\n\nBEGIN;{retention.sql.rstrip()}\n")
    if role:
        parts.append(f"-- each time\n\nBEGIN;{grants(role).rstrip()}\n")
    if parts:
        print("\n".join([_FOR_READING, *(f"{part}COMMIT;\n" for part in parts)]), end="")
    count = "1 migration is" if len(plan.missing) == 1 else f"{len(plan.missing)} migrations are"
    told = f"{count} missing; nothing was executed." if plan.missing else "No migration is missing."
    notes.print(f"{told} {change}." if change else told)


def _change(plan: migrations.Plan, retention: Retention) -> str:
    """Return in words how the stored retention would change, or "" if it would not."""
    if plan.kept is None or not retention.replaces(plan.kept):
        return ""
    kept = Retention(plan.kept, was_asked_for=False)
    is_shorter = retention.length and (not kept.length or retention.length < kept.length)
    dropped = "; older ones may then be dropped" if is_shorter else ""
    return f"`authsvc migrate` would keep audit events {retention} instead of {kept}{dropped}"
