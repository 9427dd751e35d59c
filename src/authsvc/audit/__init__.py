"""The audit log: what was done, in the transaction that does it, and what was refused, written behind.

Each change calls `record` once, after its locks and before its end (see `store.audit.record` for the order of
locks). When the change is rolled back, so is its event. Both kinds of event form chains that
`authsvc audit verify` checks; months are dropped after the retention time.
"""

from authsvc.audit.events import record, record_many

__all__ = ["record", "record_many"]
