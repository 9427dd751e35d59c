"""The metrics of the notifier."""

from collections import Counter

from authsvc.app.gauges.database import watch_database
from authsvc.app.gauges.process import watch_log
from authsvc.app.notifier import Notifier
from authsvc.model.webhook import Outcome
from authsvc.store.pool import Database
from authsvc.telemetry import Metrics


def watch_notifier(metrics: Metrics, notifier: Notifier, database: Database) -> None:
    """Have the metrics of the notifier look at its parts."""
    watch_database(metrics, database)
    watch_log(metrics)
    backlog = notifier.backlog
    metrics.watch_gauge(
        "notifications_pending",
        "What waits to be sent to contacts and webhooks, of all replicas.",
        lambda: backlog.pending,
        label="kind",
    )
    metrics.watch_gauge(
        "notifications_oldest_seconds",
        "How long the oldest of it that is due has been.",
        lambda: backlog.oldest_seconds,
        label="kind",
    )
    metrics.watch_counter(
        "notification_attempts",
        "Attempts to send, by their outcome.",
        lambda: _attempts(notifier),
        label="outcome",
    )
    metrics.watch_counter(
        "key_warnings",
        "Warnings about keys that were written.",
        lambda: notifier.warnings.written,
        label="kind",
    )


def _attempts(notifier: Notifier) -> dict[str, int]:
    mail, webhooks = notifier.mail, notifier.webhooks
    calls = Counter[str]() if webhooks is None else webhooks.attempts
    return {
        "mail_sent": 0 if mail is None else mail.sent,
        "mail_failed": 0 if mail is None else mail.failed_attempts,
        "webhook_delivered": calls[Outcome.DELIVERED],
        "webhook_failed": calls.total() - calls[Outcome.DELIVERED],
    }
