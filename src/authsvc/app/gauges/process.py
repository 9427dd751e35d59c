"""The metrics of a process: its event loop, its files, its log."""

from authsvc.app.loop_lag import LoopLag
from authsvc.app.parts import App
from authsvc.telemetry import Metrics, log_lines_dropped


def watch_loop(metrics: Metrics, loop_lag: LoopLag) -> None:
    """Have the metrics of a process look at how late its event loop is."""
    metrics.watch_durations(
        "event_loop_lag_seconds",
        "How late the event loop was, measured four times a second.",
        lambda: loop_lag.lags,
    )


def watch_files(app: App) -> None:
    """Have the metrics of a worker look at its files."""
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


def watch_log(metrics: Metrics) -> None:
    """Have the metrics of a process look at its log."""
    metrics.watch_counter(
        "log_lines_dropped",
        "Log lines that were not written, since there were too many of their kind.",
        log_lines_dropped,
        label="logger",
    )
