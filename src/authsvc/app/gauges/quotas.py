"""The metrics of rate limits and credits, read when they are scraped."""

from authsvc.telemetry import Metrics
from authsvc.verify.budgets import Budgets
from authsvc.verify.credit_accounts import CreditAccounts


def watch_quotas(metrics: Metrics, budgets: Budgets, accounts: CreditAccounts) -> None:
    """Have the metrics of a worker look at the units and credits that it borrows."""
    _watch_budgets(metrics, budgets)
    _watch_accounts(metrics, accounts)


def _watch_budgets(metrics: Metrics, budgets: Budgets) -> None:
    watch_counter, watch_gauge = metrics.watch_counter, metrics.watch_gauge
    watch_counter(
        "rate_limit_loans",
        "Questions to the database for units of rate limits, by their outcome; failed: it did not answer.",
        lambda: budgets.loans.outcomes,
        label="outcome",
    )
    watch_gauge("rate_limit_loans_pending", "Those that are under way.", lambda: len(budgets.loans))
    watch_gauge("rate_limit_units", "Units that this worker holds.", lambda: budgets.held)
    watch_counter(
        "rate_limit_units_returned",
        "Units that were not used, given back to the database, or lost while it was out of reach.",
        lambda: {"given_back": budgets.given_back, "lost": budgets.lost},
        label="outcome",
    )


def _watch_accounts(metrics: Metrics, accounts: CreditAccounts) -> None:
    watch_counter, watch_gauge = metrics.watch_counter, metrics.watch_gauge
    watch_counter(
        "credit_loans",
        "Questions to the database for credits, by their outcome; failed: it did not answer.",
        lambda: accounts.loans.outcomes,
        label="outcome",
    )
    watch_gauge("credit_loans_pending", "Those that are under way.", lambda: len(accounts.loans))
    watch_gauge("credits_held", "Credits that this worker holds.", lambda: accounts.held)
    watch_counter(
        "credits_returned",
        "Credits that were not used, given back to the database, or lost while it was out of reach.",
        lambda: {"given_back": accounts.given_back, "lost": accounts.lost},
        label="outcome",
    )
