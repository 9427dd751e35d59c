"""The hot room: all that the verification of a credential executes.

Mechanism: a presented string is looked up by its prefix in memory and compared,
as a keyed digest, with the one string that was proved for that prefix; then its
times and scopes are judged. Only a prefix that memory does not know goes on to
the tag (one HMAC), the database (one row) and argon2id (one proof), once for all
who wait, and the outcome is remembered.

Bound: memory by the cache's capacity, work by the pools' queues; what is more is
refused with RESOURCE_EXHAUSTED instead of queued.

Failure: with the database gone, what is in memory goes on being answered, and
what is not is UNAVAILABLE, never "invalid".
"""
