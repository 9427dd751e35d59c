"""What the service tells its operators: logs and metrics.

Mechanism: every line of a process, ours and the libraries', leaves through one handler (`logs`), which takes
values out of what libraries say (`wording`), cuts key strings down to their prefix, and counts alike lines
(`line_limit`). Every metric is declared in `metrics`.

Bound: a line has some 12 KiB at most, and a kind of warning or error 20 lines a minute; kinds are places in
the code, so their number is bounded. How many were left out is told once a minute and by a metric.

Failure: a line that cannot be put together is replaced by one that says where it comes from.
"""

from authsvc.telemetry.logs import configure_logging, log_lines_dropped
from authsvc.telemetry.metrics import Metrics

__all__ = ["Metrics", "configure_logging", "log_lines_dropped"]
