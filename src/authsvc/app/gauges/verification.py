"""The metrics of verification: verdicts, memory, and proofs."""

from authsvc.app.parts import App

# The answers to proxies that alerts and the dashboard look for.
_GATEWAY_REASONS = (
    *("GATEWAY_FAULT", "CREDENTIAL_MISSING", "CREDENTIAL_INVALID", "SCOPE_MISSING", "ROUTE_NOT_PERMITTED"),
)


def watch_verification(app: App) -> None:
    """Have the metrics of a worker look at what verifies."""
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
        lambda: dict.fromkeys(_GATEWAY_REASONS, 0) | app.access.counts,
        label="reason",
    )
    watch_counter(
        "gateway_undecided",
        "Answers to proxies that nothing can be decided now, with status 503.",
        lambda: app.access.undecided,
    )
    watch_gauge("cached_keys", "Keys in memory.", lambda: len(app.cache))
    watch_gauge(
        "cache_weight", "The weight of what is in memory; a usual key weighs 1.", lambda: app.cache.weight
    )
    watch_gauge("cache_capacity", "The weight that memory may have.", lambda: app.cache.capacity)
    watch_counter("cache_evictions", "Keys dropped from memory for others.", lambda: app.cache.evictions)
    watch_counter("cache_fills", "Look-ups of keys that were not in memory.", lambda: app.cache.fills)
    watch_gauge("cache_fills_pending", "Those that are under way.", lambda: app.cache.filling)
    watch_gauge("imported_look_ups", "Look-ups of imported keys in memory.", lambda: app.foreign.count)
    watch_gauge(
        "argon2_pending", "Secrets that are hashed, verified or sealed, or wait.", lambda: app.hasher.pending
    )
    watch_gauge("argon2_queue_limit", "How many of them there may be.", lambda: app.hasher.queue_limit)
    watch_counter("argon2_runs", "Secrets hashed, verified or sealed.", lambda: app.hasher.runs)
    watch_counter(
        "uses_dropped",
        "Last uses and activities that were not kept, for lack of room.",
        lambda: app.usage.dropped + app.activity.dropped,
    )
