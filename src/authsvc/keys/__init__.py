"""API keys: creating, reading, updating, rotating, disabling, revoking and deleting them.

`Keys` has one method for each use case of KeyService. A method is in the file of its name, in a base class
of `Keys` that declares the parts it needs. These base classes are Protocols, so mypy rejects a `Keys` that
does not set all of these parts. `leaks` is about keys and sessions, and a class of its own. `policies` has
the use cases of OwnerPolicyService, `tag_keys` those of `authsvc tag-key`.

    create ─┐                         ┌─ policy, count ─┐
    rotate ─┼─▶ minting ──────────────┤                 ├─▶ store
    update ─┤                         └─ insert ────────┤
    revoke ─┼─▶ change: authority, barrier ─────────────┘
    delete ─┘

The caller is the first argument of every use case, and the use case checks what this caller may do. So no
transport can bypass the check. A change runs in one transaction and returns when no worker acts on the
previous state (see `revocation.barrier`). Locks are always taken in the same order, which rules out
deadlocks: what `revocation.authority` locks (owners, the sessions of owners, credentials), a `request_id`,
the count of an owner's active keys, the heads of audit chains, the end of the feed.

Docstrings name the errors that a use case raises, with their reasons. Besides these:

- Every use case raises Overloaded (DATABASE_QUEUE_FULL, DATABASE_BUSY) when too many calls are waiting for
  the database, and Unavailable (DATABASE_UNAVAILABLE, LOCK_TIMEOUT and others of `store.driver_errors`) when
  the database cannot answer now. Both carry the seconds to wait before a retry.
- Every change raises Unauthenticated (CREDENTIAL_REVOKED, CREDENTIAL_EXPIRED, CREDENTIAL_DISABLED,
  CREDENTIAL_ADDRESS_NOT_ALLOWED, CERTIFICATE_UNKNOWN) or PermissionDenied (SCOPE_MISSING) when the caller
  loses its authority before the commit. Nothing is written then.
- Every change raises Unavailable (COMMIT_UNCERTAIN) when it is unknown whether the commit is durable, and
  DeadlineExceeded (WORKERS_UNCONFIRMED) when it is durable but the caller's deadline passed before all
  workers confirmed it. Repeating the call waits for them.
"""

from authsvc.keys.keys import Keys
from authsvc.keys.leaks import Leaks

__all__ = ["Keys", "Leaks"]
