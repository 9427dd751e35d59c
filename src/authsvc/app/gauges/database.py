"""The metrics of the connections to the database."""

from authsvc.store.pool import Database
from authsvc.telemetry import Metrics


def watch_database(metrics: Metrics, database: Database) -> None:
    """Have the metrics of a process look at its pool of connections."""
    watch_counter, watch_gauge = metrics.watch_counter, metrics.watch_gauge
    watch_counter("database_checkouts", "Connections taken from the pool.", lambda: database.checkouts)
    watch_gauge("database_pool_size", "Connections that there may be.", lambda: database.size)
    watch_gauge("database_connections", "Open connections of the pool.", lambda: database.connected)
    watch_gauge("database_connections_in_use", "Connections that are lent.", lambda: database.lent)
    watch_gauge(
        "database_connections_waiting", "Callers that wait for a connection.", lambda: database.waiting
    )
    metrics.watch_durations(
        "database_connection_wait_seconds",
        "The time that callers have waited for a connection of the pool, also in vain.",
        lambda: database.waits,
    )
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
