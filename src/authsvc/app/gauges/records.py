"""The metrics of what is written in the background, and of what is recorded and deleted."""

from authsvc.app.parts import App


def watch_records(app: App) -> None:
    """Have the metrics of a worker look at what it records."""
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
