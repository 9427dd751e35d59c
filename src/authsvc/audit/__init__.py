"""The audit log: records what was done and what was refused, and lists and verifies it.

`Audit` has the use cases of AuditService. `record` and `record_many` are called by the use cases that change
something, in their transaction. `refusals` records refused attempts in the background, and `confirmations`
what changes were confirmed by. All events form chains, one for each owner, which `check` verifies for
`authsvc audit verify`. `months` makes the partitions of the log, and drops those that are older than the
retention.
"""

from authsvc.audit.audit import Audit
from authsvc.audit.events import record, record_many

__all__ = ["Audit", "record", "record_many"]
