"""Verification: all code that runs when a key string or a session token is verified.

Read the modules in this order:

    question        What is asked: the expected kind, the caller, the required scopes, the client.
    verifier        The entry points. `recall` answers from memory without await; `verify` may load.
    prefix_cache    What is in memory: one proved string for each key prefix. It says how the cache is bounded
                    and shared between owners, and why a load cannot bring back what a change has removed.
                    `entry` is one item, `holdings` the items of each owner.
    judge           The last step: lease, kind, owner, times, policy, scopes. Nothing is awaited after it.
    lease           The right to answer from memory, measured with the stopwatch of `clock`.
    loader          A prefix that is not in memory: one row, then one proof with argon2id (`hasher`) or
                    SHA-256 (`session_digest`).
    budgets         The rate limits of keys: taken from memory, borrowed from the database, given back.
    doubts          What the database is asked before a credential is judged: `activity_check` for a session
                    near its idle end, and `budgets`.
    usage           The last use of keys and sessions, written later in batches.

What a security review should find:

- A credential is found by its prefix and accepted only if the keyed digest of the whole string equals that of
  the string that was proved. Digests are compared in constant time (`Verifier._prove_from_memory`).
- A wrong secret, an unknown prefix and another owner's key give the same answer, NOT_FOUND. From memory, a
  wrong secret costs as much time as the right one.
- A string of the wrong form, or with a wrong tag, costs one HMAC for each accepted tag key. It never reaches
  the database or argon2.
- After a change was answered, no verdict rests on the old state (`Judge.verdict`, `Loader._find`,
  `PrefixCache.forget`). docs/revocation.md has the proof.
- The secret itself is not kept. Memory holds keyed digests, under a key that this process has drawn.

Bound: memory is bounded by the capacity of the cache, work by the queues of the database and of argon2. What
exceeds them is refused with RESOURCE_EXHAUSTED and not queued.

Failure: without the database, credentials in memory are still verified until the lease ends. All others get
UNAVAILABLE, never a negative verdict.
"""
