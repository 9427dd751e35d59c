"""What makes a change true everywhere: when RevokeKey answers, no worker of any replica accepts the key.

The rules, with the function that carries each. docs/revocation.md states them in full and proves them.

    R1  Register.   A worker starts at the end of the feed, with nothing in memory.   Follower._register
    R2  Renew.      The lease counts from before the question, after the entries      Follower._renew
                    that the answer holds were applied.
    R3  Follow.     Forget what an entry names, then acknowledge it.                  Follower._read, _take
    R4  Verify.     The lease is checked last, with no await before the answer.       verify: Verifier._judge
    R5  Fill.       A row is remembered only if the entries it builds on were         verify: Verifier._find,
                    applied, and nothing revoked it meanwhile.                        Follower.knows
    R6  Change.     The entry is committed with the change; then the call waits       Barrier.change, _wait
                    until each worker has acknowledged or its lease is over.
    R7  Repeat.     "Nothing left to do" is answered after the same wait.             Barrier.change
    R8  Leave.      Stop answering, then delete the registration. Rows of dead        Follower.stop,
                    workers are deleted when their lease is certainly over.           Reaper.look
    R9  Authority.  A change locks what its caller's authority rests on, reads        Authority.transaction
                    it after that, and checks it again before the commit.

Bound: a change is answered within milliseconds while all workers are well, and within one lease plus a margin
while a worker is unreachable.

Failure: a worker that cannot reach the database stops answering from memory when its lease ends. A call that
gives up waiting is told that the change is durable and how many workers have not confirmed it.
"""
