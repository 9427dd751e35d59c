"""The parts that tell contacts and webhooks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from authsvc.app.background import run_forever
from authsvc.app.defaults import default_policy_of
from authsvc.app.webhooks import signing_keys_of, webhook_caller_of
from authsvc.config.settings import Settings
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
class Notifying:
    """What runs beside requests. One worker of a replica is enough for it."""

    spread: Spread
    purge: NotificationPurge
    backlog: Backlog
    warnings: KeyWarnings
    missing_keys: MissingKeys
    mail: MailSender | None  # None: no mail server is set up.
    webhooks: WebhookSender | None  # None: AUTHSVC_WEBHOOK_KEYS is not set

    def works(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the works, to be run for as long as the worker lives."""
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
            run_forever(self.backlog.look, _each(_BACKLOG_SECONDS), "counting what waits to be sent"),
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


def notifying_of(settings: Settings, database: Database, clock: Callable[[], datetime]) -> Notifying:
    """Return the parts, on one database and clock. Raises ConfigError."""
    recipients, pace = MailRecipients(settings.smtp_url is not None, settings.mail_operator), Pace()
    return Notifying(
        spread=Spread(database, recipients, clock),
        purge=NotificationPurge(database, clock=clock),
        backlog=Backlog(database, clock),
        warnings=KeyWarnings(database, recipients, default_policy_of(settings), clock),
        missing_keys=MissingKeys(database, signing_keys_of(settings), clock),
        mail=_mail_of(settings, database, clock, pace),
        webhooks=WebhookSender(database, webhook_caller_of(settings, clock), clock, pace=pace)
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
