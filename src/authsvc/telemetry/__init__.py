"""Logs and metrics.

Mechanism: every log line of a process, from authsvc and from libraries, goes through one handler (`logs`). It
removes values from the lines of libraries (`wording`), cuts key strings to their prefix, and limits the
number of similar lines (`line_limit`). Every metric is declared in `metrics`.

Bound: a line has at most about 12 KiB. A kind of warning or error is logged at most 20 times per minute; a
kind is a place in the code, so the number of kinds is bounded. The number of dropped lines is logged once a
minute and is available as a metric.

Failure: a line that cannot be formatted is replaced by one that names its origin.
"""

from authsvc.telemetry.logs import configure_logging, log_lines_dropped
from authsvc.telemetry.metrics import Metrics

__all__ = ["Metrics", "configure_logging", "log_lines_dropped"]
