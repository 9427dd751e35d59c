"""Writes down who is to get each notification.

Mechanism: takes the oldest notifications of the outbox, finds the contacts of the key and the webhooks that
listen, and inserts one row for each address and each webhook, in one transaction. A notification that nobody
is to get is deleted. Mail for what has no contact goes to the operator.

Bound: one notifier at a time, `BATCH` notifications in a transaction. It looks twice a second:
a change sends no NOTIFY, which would keep others from committing while it commits (ADR 29).

Failure: a batch that fails is rolled back and tried again. After a fault, its notifications are spread one at
a time, and the one that fails is set aside for ten minutes, so that it holds up no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.device import Device
from authsvc.model.errors import RetryableError
from authsvc.model.identifier import new_identifier
from authsvc.model.key import TechnicalContact
from authsvc.model.notification import Notification, NotificationType
from authsvc.notifications.recipients import MailRecipients
from authsvc.notifications.signed_in import device_of
from authsvc.sessions.device import describe
from authsvc.store import notifications as notification_store
from authsvc.store import purge as jobs
from authsvc.store.notifications import ListeningWebhook, Mail, WebhookDelivery
from authsvc.store.pool import Connection, Database

_log = logging.getLogger(__name__)

#: Notifications in a transaction.
BATCH = 100
_JOB = "notifications"
# Devices that are described without a pause, 0.2 ms each.
_DEVICES_AT_ONCE = 20
# How many notifications that failed by themselves are set aside, and for how long.
_MAX_SET_ASIDE, _SET_ASIDE_FOR = 1000, timedelta(minutes=10)


class Spread:
    """Writes down the recipients of notifications."""

    def __init__(self, database: Database, recipients: MailRecipients, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._recipients = recipients
        self._clock = clock
        self._set_aside: dict[str, datetime] = {}  # notifications that failed by themselves, and until when
        self._singly = 0  # for how many steps notifications are spread one at a time

    async def work(self, pause: Callable[[], Awaitable[object]] | None = None) -> None:
        """Spread all notifications that there are, with a pause after each batch."""
        while await self.step():
            if pause is not None:
                await pause()

    async def step(self) -> bool:
        """Spread one batch; return whether there may be more."""
        self._set_aside = {each: until for each, until in self._set_aside.items() if until > self._clock()}
        if not await self._is_needed():
            return False
        size, batch = 1 if self._singly else BATCH, list[Notification]()
        try:
            async with self._database.transaction() as connection:
                if await jobs.take(connection, _JOB, self._clock()) is None:
                    return False
                batch += await notification_store.list_unspread(
                    connection, size=size, excluding=list(self._set_aside)
                )
                await self._spread(connection, batch)
        except RetryableError:
            raise
        except Exception as error:
            if not batch:
                raise
            self._note_fault(batch, error)
            return True
        self._singly = max(0, self._singly - 1)
        return len(batch) == size

    async def _is_needed(self) -> bool:
        async with self._database.connection() as connection:
            return await notification_store.has_unspread(connection, excluding=list(self._set_aside))

    def _note_fault(self, batch: Sequence[Notification], error: Exception) -> None:
        """After a fault in a batch, spread its notifications one at a time; set aside the one that fails."""
        if len(batch) > 1:
            self._singly = len(batch)
            return
        [notification] = batch
        if len(self._set_aside) < _MAX_SET_ASIDE:
            self._set_aside[notification.notification_id] = self._clock() + _SET_ASIDE_FOR
        self._singly = max(0, self._singly - 1)
        _log.error(
            "notification %s (%s of %s) cannot be spread; it will be retried later",
            notification.notification_id,
            notification.type,
            notification.target_id,
            exc_info=error,
        )

    async def _spread(self, connection: Connection, batch: Sequence[Notification]) -> None:
        """Write down the recipients of a batch."""
        webhooks = await notification_store.listening_webhooks(
            connection, {notification.owner_id for notification in batch}
        )
        now, mails, deliveries = self._clock(), list[Mail](), list[tuple[str, str]]()
        for notification in batch:
            if not await self._is_news(connection, notification):
                continue
            contacts = await self._contacts(connection, notification)
            mails += self._recipients.mails(notification, contacts)
            deliveries += _deliveries(notification, webhooks)
        await notification_store.insert_mails(connection, mails, now)
        # They are made in the order of their ids.
        ids = sorted(new_identifier("dlv", now) for _ in deliveries)
        await notification_store.insert_webhook_deliveries(
            connection, [WebhookDelivery(each, *to) for each, to in zip(ids, deliveries, strict=True)], now
        )
        told = {mail.notification_id for mail in mails} | {told_of for _, told_of in deliveries}
        await notification_store.mark_spread(connection, told, now)
        others = [each.notification_id for each in batch if each.notification_id not in told]
        await notification_store.drop(connection, others)

    async def _is_news(self, connection: Connection, notification: Notification) -> bool:
        """Return False for a session on a device that the owner was seen on before."""
        if notification.type != NotificationType.SESSION_CREATED or not notification.subject:
            return True
        subject = notification.subject
        known = await notification_store.devices_before(
            connection,
            notification.owner_id,
            notification.target_id,
            datetime.fromisoformat(subject["create_time"]),
        )
        new = _traits(device_of(subject))
        for number, (user_agent, hints) in enumerate(known):
            if _traits(describe(user_agent, hints)) == new:
                return False
            if number % _DEVICES_AT_ONCE == 0:
                await asyncio.sleep(0)  # Whoever signs in chooses the user agents: others have their turn.
        return True

    async def _contacts(
        self, connection: Connection, notification: Notification
    ) -> Sequence[TechnicalContact]:
        if not (notification.is_of_all_keys and self._recipients.wants(notification)):
            return notification.contacts
        return await notification_store.contacts_of_revoked_keys(
            connection, notification.owner_id, datetime.fromisoformat(notification.details["revoke_time"])
        )


def _deliveries(
    notification: Notification, webhooks: Sequence[ListeningWebhook]
) -> Iterator[tuple[str, str]]:
    """Yield the id of each webhook that is to be told of a notification, with that of the notification."""
    for webhook in webhooks:
        if webhook.owner_id not in (notification.owner_id, PLATFORM_OWNER):
            continue
        if not webhook.event_types or notification.type in webhook.event_types:
            yield webhook.webhook_id, notification.notification_id


def _traits(device: Device) -> tuple[str, str, str]:
    """Return what tells one device from another: its browser or program, its system and its model."""
    return device.browser, device.os, device.model
