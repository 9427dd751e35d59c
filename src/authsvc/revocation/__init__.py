"""Revocation: when RevokeKey answers, no worker of any replica accepts the key.

The same holds for every other change.

These rules make it so, each with the function that carries it. docs/revocation.md has them in full, with the
proof.

    R1  Register.   A replica starts at the end of the feed, with empty caches.   Follower._register
    R2  Renew.      The lease counts from before the query, and is taken after    Follower._renew
                    the entries in its result were applied.
    R3  Follow.     Forget what an entry names, then acknowledge the entry.       Follower._read,
                                                                                  Follower._follow_hint
    R4  Verify.     The lease is checked last, with no await before the answer.   Judge.verdict
    R5  Fill.       A row is remembered only if all changes it contains were      Loader._find,
                    applied, and no later change concerns it.                     Holder.knows,
                                                                                  PrefixCache.forget
    R6  Change.     The entry is committed with the change. Then the call waits   Barrier.change,
                    until each worker has acknowledged it or its lease is over.   Barrier._wait
    R7  Repeat.     "Nothing left to do" is answered after the same wait.         Barrier.change
    R8  Leave.      Stop answering, then delete the registration. That of a dead  Follower.stop,
                    replica is deleted when its lease is certainly over.          Reaper.look
    R9  Authority.  A change locks what its caller's authority rests on, then     Authority.transaction,
                    reads it, and checks its times again before the commit.       Authorized.refuse_if_gone
    R10 Attach.     All workers of a replica get the same orders in one sequence, Holders.send,
                    and their lease after the entries before it. An entry is      Holders.grant,
                    acknowledged when all have confirmed it, or have no lease.    Holders.confirmed_seq
    R11 Succeed.    Workers outlive their follower and attach to the next. The    Predecessors.removable
                    old registration stays while one may answer under it.
    R12 Hold.       A client gets a credential from the memory of the worker that ClientHolders.hold
                    it follows, in one step with the note that it holds that.
    R13 Sub-lease.  It counts from before the client asked, and is certainly over ClientHolders.renew
                    before the lease of the worker.
    R14 Pass on.    A worker confirms what it has forgotten when each client that ClientHolders.pass_on,
                    held it has, too, or its sub-lease is certainly over.         RemoteFollower._confirm
    R15 Lend.       A worker that has ended counts as one that answers until the  Holders.detach,
                    sub-leases that it has granted are over.                      Predecessors.removable
    R16 Answer in   The process that follows has the entry, and the sub-lease.    Memory.recall
        the client.
    R17 Cascade.    What a key created is read again when all of it is locked,    Descendants.find,
                    and what is new then is locked if it is free.                 Descendants.lock_all

Bound: a change is answered within milliseconds while all workers are well, and within one lease plus a margin
while a worker is unreachable.

Failure: a worker that cannot reach the database stops answering from memory when its lease ends. A call that
stops waiting is told that the change is durable and how many workers have not confirmed it.
"""
