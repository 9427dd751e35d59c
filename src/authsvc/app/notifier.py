"""The notifier: tells contacts and webhooks, in a process of its own.

The parts use a database and a clock, and no part of a worker.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, repeat
from typing import Any

from authsvc.app.background import in_background, run_forever
from authsvc.app.database import Wait, read_time, served_database
from authsvc.app.defaults import default_policy_of
from authsvc.app.tracing import traced
from authsvc.app.webhooks import signing_keys_of, webhook_caller_of
from authsvc.config.settings import ConfigError, Settings
from authsvc.model.errors import RetryableError
from authsvc.notifications.backlog import Backlog
from authsvc.notifications.mail.claims import MailLimits
from authsvc.notifications.mail.sender import MailSender
from authsvc.notifications.mail.setup import mail_parts_of
from authsvc.notifications.pace import Pace
from authsvc.notifications.purge import NotificationPurge
from authsvc.notifications.recipients import MailRecipients
from authsvc.notifications.spread import Spread
from authsvc.notifications.warnings import KeyWarnings
from authsvc.notifications.webhooks.missing_keys import MissingKeys
from authsvc.notifications.webhooks.sender import WebhookSender
from authsvc.store.pool import Database
from authsvc.telemetry.spans import Tracer
from authsvc.verify.clock import DatabaseClock

# Connections to the database, which its works use in turns.
_MAX_CONNECTIONS = 8
# Seconds between two readings of the clock of the database.
_CLOCK_SECONDS = 10.0
# Seconds between two looks for notifications, for mails, and for notifications that are old.
_SPREAD_SECONDS, _MAIL_SECONDS, _PURGE_SECONDS, _PURGE_PAUSE_SECONDS = 0.5, 0.5, 60.0, 0.1
# Seconds between two batches of notifications, so that telling does not slow down a flood of changes.
_SPREAD_PAUSE_SECONDS = 0.25
# Seconds between two counts of what waits.
_BACKLOG_SECONDS = 15.0
# Seconds between two looks whether keys are to be walked over, and between two batches.
_WARNINGS_SECONDS, _WARNINGS_PAUSE_SECONDS = 5.0, 0.25
# Seconds between two looks for keys of webhooks that are missing.
_MISSING_KEYS_SECONDS = 30.0
# Seconds between two looks for deliveries that are due, and for those of disabled webhooks.
_DELIVERIES_SECONDS, _TIDY_SECONDS = 0.5, 60.0


@dataclass(frozen=True, kw_only=True)
class Notifier:
    """The parts of the notifier."""

    spread: Spread
    purge: NotificationPurge
    backlog: Backlog
    warnings: KeyWarnings
    missing_keys: MissingKeys
    mail: MailSender | None  # None: no mail server is set up.
    webhooks: WebhookSender | None  # None: AUTHSVC_WEBHOOK_KEYS is not set

    def works(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the works, to be run for as long as the process lives."""
        return (
            run_forever(
                partial(self.spread.work, _each(_SPREAD_PAUSE_SECONDS)),
                _each(_SPREAD_SECONDS),
                "spreading notifications",
            ),
            run_forever(
                partial(self.purge.work, _each(_PURGE_PAUSE_SECONDS)),
                _each(_PURGE_SECONDS),
                "deleting old notifications",
            ),
            run_forever(
                self.backlog.look, _at_once_and_each(_BACKLOG_SECONDS), "counting what waits to be sent"
            ),
            run_forever(
                partial(self.warnings.work, _each(_WARNINGS_PAUSE_SECONDS)),
                _each(_WARNINGS_SECONDS),
                "warning about keys",
            ),
            run_forever(
                self.missing_keys.look, _each(_MISSING_KEYS_SECONDS), "looking for missing keys of webhooks"
            ),
            *(
                ()
                if self.mail is None
                else (
                    run_forever(self.mail.work, _each(_MAIL_SECONDS), "sending mail", level=logging.WARNING),
                )
            ),
            *(() if self.webhooks is None else _delivering(self.webhooks)),
        )


@asynccontextmanager
async def notifying(settings: Settings) -> AsyncIterator[tuple[Notifier, Database]]:
    """Tell contacts and webhooks while the block runs, by a database of the notifier's own.

    Raises ConfigError when the database or a setting cannot be used.
    """
    size = min(_MAX_CONNECTIONS, settings.database_pool_size)
    # The first worker says what is waited for.
    wait = Wait(settings.wait_for_database, logging.DEBUG)
    clock = DatabaseClock()
    async with (
        traced(settings, "notifier") as tracer,
        served_database(settings.model_copy(update={"database_pool_size": size}), wait) as (database, _),
        AsyncExitStack() as stack,
    ):
        notifier = notifier_of(settings, database, clock, tracer)
        try:
            await read_time(database, clock)
        except RetryableError as error:
            raise ConfigError("AUTHSVC_DATABASE_URL: cannot read the time of the database") from error
        look = partial(_look, database, clock)
        reading = run_forever(look, _each(_CLOCK_SECONDS), "reading the time of the database")
        for work in (reading, *notifier.works()):
            await stack.enter_async_context(in_background(work))
        yield notifier, database


async def _look(database: Database, clock: DatabaseClock) -> None:
    """Read the time of the database. If that fails, its node may be gone, so connections are opened anew."""
    try:
        await read_time(database, clock)
    except RetryableError:
        await database.refresh()
        raise


def notifier_of(
    settings: Settings, database: Database, clock: Callable[[], datetime], tracer: Tracer | None = None
) -> Notifier:
    """Return the parts, on one database and clock. Raises ConfigError."""
    recipients, pace = MailRecipients(settings.smtp_url is not None, settings.mail_operator), Pace()
    return Notifier(
        spread=Spread(database, recipients, clock),
        purge=NotificationPurge(database, clock=clock),
        backlog=Backlog(database, clock),
        warnings=KeyWarnings(database, recipients, default_policy_of(settings), clock),
        missing_keys=MissingKeys(database, signing_keys_of(settings), clock),
        mail=_mail_of(settings, database, clock, pace),
        webhooks=WebhookSender(database, webhook_caller_of(settings, clock), clock, pace=pace, tracer=tracer)
        if settings.webhook_keys
        else None,
    )


def _mail_of(
    settings: Settings, database: Database, clock: Callable[[], datetime], pace: Pace
) -> MailSender | None:
    if settings.smtp_url is None:
        return None
    server, composer = mail_parts_of(settings)
    limits = MailLimits(settings.mail_address_limit, settings.mail_owner_limit)
    return MailSender(database, server, composer, limits, clock, pace=pace)


def _delivering(sender: WebhookSender) -> Sequence[Coroutine[Any, Any, None]]:
    return (
        _until_stopped(sender),
        run_forever(sender.tidy, _each(_TIDY_SECONDS), "giving up deliveries of disabled webhooks"),
    )


async def _until_stopped(sender: WebhookSender) -> None:
    try:
        await run_forever(
            sender.look, partial(sender.due, _DELIVERIES_SECONDS), "looking for deliveries to webhooks"
        )
    finally:
        await sender.stop()


def _each(seconds: float) -> Callable[[], Awaitable[None]]:
    return partial(asyncio.sleep, seconds)


def _at_once_and_each(seconds: float) -> Callable[[], Awaitable[None]]:
    pauses = chain((0.0,), repeat(seconds))
    return lambda: asyncio.sleep(next(pauses))
