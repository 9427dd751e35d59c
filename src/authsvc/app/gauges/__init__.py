"""The metrics of the parts, read when they are scraped, so that they cost nothing otherwise.

A counter that an alert looks at has each of its series from the start, with 0. Otherwise `rate` and
`increase` would not see the first events.
"""

from authsvc.app.gauges.clients import watch_clients
from authsvc.app.gauges.database import watch_database
from authsvc.app.gauges.entrance import watch_entrance
from authsvc.app.gauges.notifier import watch_notifier
from authsvc.app.gauges.ports import watch_http, watch_web
from authsvc.app.gauges.process import watch_files, watch_log, watch_loop
from authsvc.app.gauges.quotas import watch_quotas
from authsvc.app.gauges.records import watch_records
from authsvc.app.gauges.revocation import watch_replicas, watch_revocation
from authsvc.app.gauges.verification import watch_verification
from authsvc.app.parts import App

__all__ = ["watch", "watch_entrance", "watch_http", "watch_notifier", "watch_replicas", "watch_web"]


def watch(app: App) -> None:
    """Have the metrics of a worker look at its parts."""
    watch_verification(app)
    watch_revocation(app)
    watch_quotas(app.metrics, app.budgets, app.credit_accounts)
    watch_clients(app)
    watch_records(app)
    watch_files(app)
    watch_database(app.metrics, app.database)
    watch_loop(app.metrics, app.loop_lag)
    watch_log(app.metrics)
