"""What becomes of a webhook whose calls fail: its owner is warned, and it is disabled.

Both are notifications, so they reach the technical contacts of the webhook by mail, or the operator if it has
none, and the other webhooks of its owner.
"""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from authsvc.model.identifier import new_identifier
from authsvc.model.notification import Notification, NotificationType
from authsvc.model.retry_schedule import failing
from authsvc.model.webhook import Attempt, DisableReason, Webhook
from authsvc.store import notifications as notification_store
from authsvc.store import webhook_deliveries as delivery_store
from authsvc.store import webhooks as webhook_store
from authsvc.store.pool import Connection
from authsvc.store.webhook_deliveries import Line

# The receiver will never come back (RFC 9110, 15.5.11).
_GONE = 410


async def note_failure(
    connection: Connection, line: Line, called: Webhook, attempt: Attempt, now: datetime
) -> bool:
    """Note that a call of the line's webhook has failed; return whether the webhook was disabled.

    `called` is the webhook as it was then. What its previous URL answered says nothing about the new one.

    The line is given back until the webhook may be called again. The transaction locks the webhook.
    """
    webhook = await webhook_store.find(connection, line.webhook_id, owner_id=None, lock=True)
    if webhook is None or not webhook.enabled:
        return False
    if webhook.url != called.url:
        await delivery_store.give_line_back(connection, line, now)
        return False
    state = failing(
        now,
        since=webhook.failing_since,
        warn_time=webhook.warn_time,
        idle_since=line.idle_since,
        retry_after=attempt.retry_after,
    )
    if attempt.status == _GONE or state.is_disabled:
        reason = DisableReason.GONE if attempt.status == _GONE else DisableReason.FAILING
        await delivery_store.disable(connection, webhook.webhook_id, reason, since=state.since, at=now)
        await _tell(connection, webhook, NotificationType.WEBHOOK_DISABLED, attempt, state.since, now, reason)
        return True
    warn_time = webhook.warn_time if state.since == webhook.failing_since else None
    if state.is_warned:
        warn_time = now
    await delivery_store.mark_failing(connection, webhook.webhook_id, since=state.since, warn_time=warn_time)
    if state.is_warned:
        await _tell(connection, webhook, NotificationType.WEBHOOK_FAILING, attempt, state.since, now)
    await delivery_store.give_line_back(connection, line, now + state.pause)
    return False


async def _tell(
    connection: Connection,
    webhook: Webhook,
    kind: NotificationType,
    attempt: Attempt,
    since: datetime,
    now: datetime,
    reason: DisableReason = DisableReason.OWNER,
) -> None:
    """Write down that the owner of a webhook is to be told."""
    notification = Notification(
        notification_id=new_identifier("ntf", now),
        type=kind,
        owner_id=webhook.owner_id,
        event_time=now,
        position=None,
        target_id=webhook.webhook_id,
        details={},
        subject={
            "webhook_id": webhook.webhook_id,
            "url": _shown(webhook.url),
            "description": webhook.description,
            "failing_since": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "last_error": attempt.error,
            "disable_reason": reason.value,
        },
        contacts=webhook.technical_contacts,
    )
    await notification_store.insert(connection, [notification])


def _shown(url: str) -> str:
    """Return the scheme and the host of a URL: some receivers expect a secret in the rest."""
    return urlsplit(url)._replace(path="", query="").geturl()
