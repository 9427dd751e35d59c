"""The metrics of revocation: the lease, the feed, and how long changes wait for the workers."""

from authsvc.app.parts import App


def watch_revocation(app: App) -> None:
    """Have the metrics of a worker look at its lease, at its place in the feed, and at its changes."""
    metrics = app.metrics
    metrics.watch_gauge(
        "lease_seconds", "Seconds for which this worker may answer from memory.", lambda: app.lease.left
    )
    metrics.watch_gauge(
        "lease_length_seconds",
        "Seconds for which a renewal lets it answer: AUTHSVC_LEASE.",
        lambda: app.lease_length,
    )
    metrics.watch_durations(
        "lease_renewal_seconds",
        "The time that the database took for the renewals of the lease that have succeeded.",
        lambda: app.holder.renewals,
    )
    metrics.watch_gauge(
        "feed_seq", "The last entry of the feed that this worker has applied.", lambda: app.holder.seq
    )
    metrics.watch_counter(
        "registrations",
        "How often this worker has started with an empty memory at a registration.",
        lambda: app.holder.starts,
    )
    metrics.watch_durations(
        "barrier_wait_seconds",
        "The time from the commit of a change until all workers had confirmed it, or until its caller was "
        "answered for another reason.",
        lambda: app.barrier.waits,
        label="outcome",
    )
    metrics.watch_gauge(
        "barrier_waiting", "Changes that wait for the workers now.", lambda: app.barrier.waiting
    )


def watch_replicas(app: App) -> None:
    """Have the metrics of the worker that looks at all replicas say what it has seen."""
    app.metrics.watch_gauge(
        "replicas",
        "Registrations of replicas in the database at the last look, of those that are lost too.",
        lambda: app.reaper.registered,
    )
    app.metrics.watch_gauge(
        "feed_lag_seconds",
        "For how long the replica that was furthest behind at the last look had had a change to apply.",
        lambda: app.reaper.lag,
    )
