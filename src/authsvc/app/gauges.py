"""The metrics of the parts, read when they are scraped, so that they cost nothing otherwise."""

from collections import Counter

from authsvc.app.notifier import Notifier
from authsvc.app.parts import App
from authsvc.app.quota_gauges import watch_quotas
from authsvc.model.webhook import Outcome
from authsvc.net.asgi_server import AsgiServer
from authsvc.net.open_files import in_use
from authsvc.rpc.served import Served
from authsvc.store.pool import Database
from authsvc.telemetry import Metrics, log_lines_dropped


def watch(app: App) -> None:
    """Have the metrics of a worker look at its parts."""
    _watch_verification(app)
    watch_quotas(app.metrics, app.budgets, app.credit_accounts)
    _watch_clients(app)
    _watch_records(app)
    _watch_files(app)
    _watch_database(app.metrics, app.database)
    _watch_log(app.metrics)


def _watch_verification(app: App) -> None:
    watch_counter, watch_gauge = app.metrics.watch_counter, app.metrics.watch_gauge
    watch_counter(
        "verdicts",
        "Verdicts on credentials, including those of callers.",
        lambda: {code.value: count for code, count in app.verifier.counts.items()},
        label="code",
    )
    watch_counter(
        "gateway_answers",
        "Answers to proxies, by the reason of a refusal.",
        lambda: app.access.counts,
        label="reason",
    )
    watch_gauge(
        "lease_seconds", "Seconds for which this worker may answer from memory.", lambda: app.lease.left
    )
    watch_gauge(
        "feed_seq", "The last entry of the feed that this worker has applied.", lambda: app.holder.seq
    )
    watch_counter(
        "registrations",
        "How often this worker has started with an empty memory at a registration.",
        lambda: app.holder.starts,
    )
    watch_gauge("cached_keys", "Keys in memory.", lambda: len(app.cache))
    watch_gauge("imported_look_ups", "Look-ups of imported keys in memory.", lambda: app.foreign.count)
    watch_counter("cache_evictions", "Keys dropped from memory for others.", lambda: app.cache.evictions)
    watch_gauge(
        "argon2_pending", "Secrets that are hashed, verified or sealed, or wait.", lambda: app.hasher.pending
    )
    watch_counter("argon2_runs", "Secrets hashed, verified or sealed.", lambda: app.hasher.runs)
    watch_counter(
        "uses_dropped",
        "Last uses and activities that were not kept, for lack of room.",
        lambda: app.usage.dropped + app.activity.dropped,
    )


def _watch_clients(app: App) -> None:
    watch_counter, watch_gauge = app.metrics.watch_counter, app.metrics.watch_gauge
    clients = app.holder.clients
    watch_gauge(
        "clients_following", "Clients that hold credentials of this worker.", lambda: len(clients.clients)
    )
    watch_gauge(
        "clients_held",
        "Credentials that they hold together.",
        lambda: sum(len(each.holdings) for each in clients.clients),
    )
    watch_counter(
        "clients_late", "How often a change had to wait for one of them.", lambda: clients.late.count
    )
    watch_counter(
        "clients_refused",
        "Clients that were not allowed to follow, by the reason.",
        lambda: clients.refused,
        label="reason",
    )


def _watch_records(app: App) -> None:
    watch_counter = app.metrics.watch_counter
    watch_counter(
        "key_strings_lost",
        "Keys created by calls that ended before their answer was sent.",
        lambda: app.keys.deliveries.lost,
    )
    watch_counter(
        "key_answers_dropped",
        "Answers with key strings whose delivery was not recorded, for lack of room.",
        lambda: app.keys.deliveries.dropped,
    )
    watch_counter(
        "rows_refused",
        "Rows written in the background that the database refused, so that they were dropped.",
        lambda: {
            "last_use": app.usage.refused,
            "activity": app.activity.refused,
            "delivery": app.keys.deliveries.refused,
            "refused_attempt": app.refusals.refused,
            "refused_address": app.refused_addresses.refused,
            "confirmation": app.confirmations.refused,
        },
        label="kind",
    )
    watch_counter(
        "leaks_reported",
        "Strings that were reported as leaked, whatever they are.",
        lambda: app.leaks.reported,
    )
    watch_counter(
        "leaks_revoked", "Keys and sessions that were revoked because of that.", lambda: app.leaks.revoked
    )
    watch_counter(
        "grace_periods_ended",
        "Grace periods that have ended because the old key was not used any more.",
        lambda: app.grace_ends.ended,
    )
    watch_counter("sessions_purged", "Ended sessions that were deleted.", lambda: app.purge.deleted)
    watch_counter(
        "audit_refusals_dropped",
        "Refused attempts that were not recorded in the audit log, for lack of room.",
        lambda: app.refusals.dropped,
    )
    watch_counter(
        "audit_refused_addresses_dropped",
        "Verifications from addresses that are not allowed that were not recorded, for lack of room.",
        lambda: app.refused_addresses.dropped,
    )
    watch_counter(
        "audit_confirmations_dropped",
        "Confirmations of changes that were not recorded in the audit log, for lack of room.",
        lambda: app.confirmations.dropped,
    )
    watch_counter(
        "audit_events_dropped",
        "Audit events dropped after the retention time.",
        lambda: app.audit_months.dropped,
    )


def watch_notifier(metrics: Metrics, notifier: Notifier, database: Database) -> None:
    """Have the metrics of the notifier look at its parts."""
    _watch_database(metrics, database)
    _watch_log(metrics)
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


def _watch_files(app: App) -> None:
    watch_gauge = app.metrics.watch_gauge
    if app.tls is not None:
        watch_gauge(
            "certificate_seconds", "Seconds for which the certificate is valid.", app.tls.seconds_left
        )
    watch_gauge(
        "stale_files",
        "Files that have changed and are broken, so that their previous content is used.",
        lambda: sum(files.is_stale for files in app.reloaded_files),
    )


def _watch_log(metrics: Metrics) -> None:
    metrics.watch_counter(
        "log_lines_dropped",
        "Log lines that were not written, since there were too many of their kind.",
        log_lines_dropped,
        label="logger",
    )


def _watch_database(metrics: Metrics, database: Database) -> None:
    watch_counter, watch_gauge = metrics.watch_counter, metrics.watch_gauge
    watch_counter("database_checkouts", "Connections taken from the pool.", lambda: database.checkouts)
    slots = database.slots.kinds
    watch_gauge(
        "database_slots",
        "How many changes, revocations and lists may use the database at a time.",
        lambda: {kind: each.size for kind, each in slots.items()},
        label="kind",
    )
    watch_gauge(
        "database_slots_in_use",
        "How many of these slots are in use.",
        lambda: {kind: each.in_use for kind, each in slots.items()},
        label="kind",
    )
    watch_gauge(
        "database_slots_waiting",
        "Calls that wait for such a slot; a revocation waits for two kinds.",
        lambda: {kind: each.waiting for kind, each in slots.items()},
        label="kind",
    )
    watch_counter(
        "database_slots_refused",
        "Calls that got no such slot in time.",
        lambda: {kind: each.refused for kind, each in slots.items()},
        label="kind",
    )


def watch_entrance(metrics: Metrics, served: Served) -> None:
    """Have the metrics of a worker look at its entrance and its port."""
    entrance, bounds = served.entrance, served.bounds
    metrics.watch_counter(
        "limited",
        "Calls refused or delayed because of a limit.",
        lambda: {
            **entrance.limits.refused,
            "in_flight": entrance.gate.refused,
            "unread": bounds.answers.refused,
            **served.refused,
            "stranger": entrance.strangers.delayed + entrance.probes.delayed,
        },
        label="limit",
    )
    metrics.watch_counter(
        "connections_closed",
        "Connections of clients that were closed, by reason.",
        lambda: bounds.connections.closed,
        label="reason",
    )
    metrics.watch_gauge(
        "connection_limit",
        "Connections of clients that this worker accepts.",
        lambda: bounds.connections.max_connections,
    )
    metrics.watch_gauge(
        "connections", "Open connections of clients over gRPC.", lambda: bounds.connections.open
    )
    metrics.watch_gauge("open_files", "Files and connections that this worker has open.", in_use)
    metrics.watch_gauge(
        "unsent_bytes", "Bytes of answers that clients have not read.", lambda: bounds.answers.unsent
    )


def watch_http(metrics: Metrics, server: AsgiServer) -> None:
    """Have the metrics of a worker look at its port for checks over HTTP."""
    _watch_port(metrics, server, "http", "HTTP connections")


def watch_web(metrics: Metrics, server: AsgiServer) -> None:
    """Have the metrics of a worker look at its port for the RPCs over HTTP."""
    _watch_port(metrics, server, "web", "connections to AUTHSVC_WEB_LISTEN")


def _watch_port(metrics: Metrics, server: AsgiServer, name: str, what: str) -> None:
    metrics.watch_counter(
        f"{name}_connections_closed",
        f"{what[0].upper()}{what[1:]} that were closed for lack of room, by reason.",
        lambda: server.closed,
        label="reason",
    )
    metrics.watch_gauge(f"{name}_connections", f"Open {what}.", lambda: len(server.connections))
    metrics.watch_gauge(
        f"{name}_connection_limit",
        f"{what[0].upper()}{what[1:]} that this worker accepts.",
        lambda: server.max_connections,
    )
