"""The metrics of the budgets of rate limits, read when they are scraped."""

from authsvc.telemetry import Metrics
from authsvc.verify.budgets import Budgets


def watch_budgets(metrics: Metrics, budgets: Budgets) -> None:
    """Have the metrics of a worker look at what it borrows."""
    watch_counter, watch_gauge = metrics.watch_counter, metrics.watch_gauge
    watch_counter(
        "rate_limit_loans",
        "Questions to the database for units of rate limits, by their outcome; failed: it did not answer.",
        lambda: budgets.loans,
        label="outcome",
    )
    watch_gauge("rate_limit_loans_pending", "Those that are under way.", lambda: budgets.borrowing)
    watch_gauge("rate_limit_units", "Units that this worker holds.", lambda: budgets.held)
    watch_counter(
        "rate_limit_units_returned",
        "Units that were not used, given back to the database, or lost while it was out of reach.",
        lambda: {"given_back": budgets.given_back, "lost": budgets.lost},
        label="outcome",
    )
