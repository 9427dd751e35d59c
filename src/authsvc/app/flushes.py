"""What a worker writes when it stops, because it is written behind."""

from contextlib import AsyncExitStack
from functools import partial

from authsvc.app.background import flush_at_end
from authsvc.app.parts import App


def flush_app_at_end(app: App, stack: AsyncExitStack) -> None:
    """Have what is written behind written when the stack ends."""
    for flush, what in (
        (app.usage.flush, "most recent uses of keys"),
        (app.activity.flush, "most recent activities"),
        (app.refusals.flush, "most recent refused attempts"),
        (app.refused_addresses.flush, "most recent refusals by address"),
        (app.confirmations.flush, "most recent confirmations of changes"),
        (app.client_report.withdraw, "end of the clients of this worker"),
        (app.keys.deliveries.flush, "delivery status of new keys"),
        (partial(app.budgets.give_back, everything=True), "units of rate limits that were not used"),
        (partial(app.credit_accounts.give_back, everything=True), "credits that were not used"),
    ):
        stack.push_async_callback(flush_at_end, flush, what)
