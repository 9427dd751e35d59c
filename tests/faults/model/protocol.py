"""The revocation protocol as a state and its steps (R1 to R8 of the design).

The model has one worker process (its registration, lease, applied chain, memory and
fills), one revoker that retries when an answer is lost, a reaper, and two database
nodes: a primary and its synchronous standby. The primary may fail over once
and stays readable. There is one key; revocations of other keys are "foreign" entries.

A log is a string: the character at index `seq` is the entry's nonce. "0" is the seed,
"r" and "R" are the revoker's first and second attempt, "x" is foreign. The worker's
chain is also such a string, "." where it knows no nonce (before it registered), and ""
when it has none. Its cursor is the chain's last index.

Time is counted in ticks, and only the remainder of a span is kept, so a state has no
date. The worker's clock is slow by `DRIFT` over a lease (A1 in the worst case), which is
exactly what the margin covers. A step may happen at any time after it became possible, so
every pause and every delayed message is a run in which ticks come first.

Merged, because a pause before the step has the same effect as one within it: reading
the head, a feed read and its application (entry by entry), the commit of a revocation
and t_c. Separate: the sending, snapshot, commit and reply of a renewal; the start,
snapshot and reply of a fill; begin, commit, list and answer of a revocation; check and
deletion of the reaper; reading a record and answering with it.

A worker that restarts has a new id, and its old row (which could only make the
revoker wait) is deleted at once, as if the supervisor had been quick.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

MARGIN = 1
DRIFT = 1
REVOCATIONS = "rR"
FOREIGN = "xy"
VALID, REVOKED, NOT_FOUND = "VALID", "REVOKED", "NOT_FOUND"


class Row(NamedTuple):
    """The worker's row in `verifier`."""

    beat: int
    applied: int


class Node(NamedTuple):
    """The view of a reader of one database node. `born`: the key was created."""

    row: Row | None
    log: str
    born: bool


class Worker(NamedTuple):
    """The verifier process. `lease` is in ticks left; `grantor` is the node that granted it."""

    registered: bool
    chain: str
    memory: str
    lease: int
    grantor: int


class Renewal(NamedTuple):
    """A renewal in flight. `age`: ticks since m0. `stage`: sent, read (snapshot taken) or acked."""

    stage: str
    age: int
    node: int
    entries: str


class Fill(NamedTuple):
    """A fill in progress. `start` is A0; `record` is "" until its statement was run at (seq, nonce)."""

    start: int
    record: str
    seq: int
    nonce: str


class Revoker(NamedTuple):
    """The revoker. `stage`: idle, begun, waiting or ok; `wait`: ticks left; `empty`: a list read too soon."""

    stage: str
    attempt: int
    nonce: str
    seq: int
    wait: int
    empty: bool


class Watch(NamedTuple):
    """What the reaper saw, on which node, and how many more ticks it must remain unchanged."""

    node: int
    beat: int
    left: int


class State(NamedTuple):
    """The whole state. `nodes[0]` is the first primary, `nodes[1]` its standby and successor.

    `held` is a VALID record that a verification invoked after OK read: "live", "dead" once
    it was dropped, "VALID" once that was the answer; "asked" and "stray" in mutants only.
    """

    nodes: tuple[Node, Node]
    failed_over: bool
    worker: Worker
    renewal: Renewal | None
    fill: Fill | None
    revoker: Revoker
    watch: Watch | None
    foreign: int
    held: str


@dataclass(frozen=True)
class Model:
    """The bounds of one scenario, and the rules that are broken or added in it."""

    name: str
    lease: int = 2
    failover: bool = False
    attempts: int = 1
    foreign: int = 0
    beats: int = 0  # the reaper distinguishes this many beats, and ignores later ones; 0: no reaper
    creation: bool = False  # the key is created during the run, not before
    swift: bool = False  # a fill and a verification are one step each (R4 and R5 are explored elsewhere)
    changes: frozenset[str] = frozenset()

    def has(self, change: str) -> bool:
        """Return whether a mutation (or an amendment) is in force."""
        return change in self.changes

    def initial(self) -> State:
        """Return the initial state: no worker has registered."""
        node = Node(row=None, log="0", born=not self.creation)
        return State(
            nodes=(node, node),
            failed_over=False,
            worker=Worker(registered=False, chain="", memory="", lease=0, grantor=0),
            renewal=None,
            fill=None,
            revoker=Revoker("idle", attempt=0, nonce="", seq=0, wait=0, empty=False),
            watch=None,
            foreign=0,
            held="",
        )

    def successors(self, state: State) -> "Steps":
        """Return every step that is possible."""
        for step in STEPS:
            yield from step(self, state)

    def changed(self, *changes: str) -> Self:
        """Return this scenario with these changes."""
        return replace(self, changes=frozenset(changes))


Step = tuple[str, State]
Steps = Iterator[Step]


# The database.


def primary(state: State) -> int:
    """Return the index of the node whose synchronous commits are acknowledged."""
    return 1 if state.failed_over else 0


def reachable(state: State) -> tuple[int, ...]:
    """Return the nodes that a connection may lead to: an old primary is one, a standby is not."""
    return (0, 1) if state.failed_over else (0,)


def called(state: State, node: int) -> str:
    """Name a node in a trace."""
    if not state.failed_over:
        return "the primary"
    return "the new primary" if node else "the old primary"


def acknowledged(state: State, after: Node) -> State:
    """Commit at the primary, synchronously: earlier entries of its log are also on the standby (A2)."""
    return state._replace(nodes=(state.nodes[0] if state.failed_over else after, after))


def local(state: State, node: int, after: Node) -> State:
    """Commit at one node only: asynchronously, or with a wait for the standby that was cancelled."""
    return state._replace(nodes=(after, state.nodes[1]) if node == 0 else (state.nodes[0], after))


def has_entry(log: str, seq: int, nonce: str) -> bool:
    """Return whether a log (or a chain) has the entry: the seq alone is not enough."""
    return seq < len(log) and log[seq] == nonce


def goes_on(model: Model, log: str, chain: str) -> bool:
    """Return whether a log continues a chain: it has the entry at the chain's cursor (R2, R3)."""
    cursor = len(chain) - 1
    return has_entry(log, cursor, chain[cursor]) or (model.has("no-nonce") and cursor < len(log))


def shows_revoked(log: str) -> bool:
    """Return whether the key is revoked in this log."""
    return "r" in log or "R" in log


def record_at(node: Node) -> str:
    """Return the result of reading the key."""
    if not node.born:
        return NOT_FOUND
    return REVOKED if shows_revoked(node.log) else VALID


def ship(model: Model, state: State) -> Steps:
    """Let the standby catch up with commits that did not wait for it."""
    if not state.failed_over and state.nodes[0] != state.nodes[1]:
        yield "the standby catches up", state._replace(nodes=(state.nodes[0], state.nodes[0]))


def fail_over(model: Model, state: State) -> Steps:
    """Promote the standby. It may have some of the commits in flight; the old primary stays readable."""
    if not model.failover or state.failed_over:
        return
    old, new = state.nodes
    revoker, renewal = state.revoker, state.renewal
    promoted = state._replace(failed_over=True)
    yield "failover", promoted
    if old != new:
        return
    shipped = promoted
    if revoker.stage == "begun":
        shipped = promoted._replace(
            nodes=(old, new._replace(log=new.log + revoker.nonce)), revoker=revoker._replace(stage="idle")
        )
        yield "failover; the successor has the revocation that was in flight, the revoker an error", shipped
    if renewal is not None and renewal.stage == "read" and new.row is not None:
        for before in (promoted,) if shipped is promoted else (promoted, shipped):
            node = before.nodes[1]._replace(row=renewed(model, state, new.row))
            yield "failover; the successor has what was in flight", local(before, 1, node)


def create(model: Model, state: State) -> Steps:
    """Create the key: a synchronous, acknowledged commit. Only then can any client know the key string."""
    node = state.nodes[primary(state)]
    if not node.born:
        yield (
            f"the key is created at {called(state, primary(state))}",
            acknowledged(state, node._replace(born=True)),
        )


def revoke_foreign(model: Model, state: State) -> Steps:
    """Revoke another key: acknowledged, or visible on one node only because its wait was cancelled."""
    if state.foreign == model.foreign:
        return
    nonce = FOREIGN[state.foreign]
    counted = state._replace(foreign=state.foreign + 1)
    at = primary(state)
    node = state.nodes[at]
    yield (
        f"another key is revoked at {called(state, at)}: seq {len(node.log)}",
        acknowledged(counted, node._replace(log=node.log + nonce)),
    )
    if model.failover:
        node = state.nodes[0]
        yield (
            f"another key's revocation at {called(state, 0)} is visible, unacknowledged: seq {len(node.log)}",
            local(counted, 0, node._replace(log=node.log + nonce)),
        )


# The worker.


def apply(model: Model, state: State, entries: str) -> State:
    """Apply entries in order: drop the key, and detach its fill (R3, R5)."""
    worker = state.worker._replace(chain=state.worker.chain + entries)
    if not shows_revoked(entries):
        return state._replace(worker=worker)
    return state._replace(
        worker=worker._replace(memory=""),
        fill=state.fill if model.has("no-tombstones") else None,
        held="dead" if state.held == "live" else state.held,
    )


def start_anew(model: Model, state: State) -> State:
    """Drop chain, lease and memory and detach all fills; be unregistered until there is a new id (R2)."""
    nodes, watch = state.nodes, state.watch
    if not model.has("same-id"):
        nodes = (nodes[0]._replace(row=None), nodes[1]._replace(row=None))
        watch = None
    memory = state.worker.memory if model.has("drop-keeps-memory") else ""
    return state._replace(
        nodes=nodes,
        watch=watch,
        worker=Worker(registered=False, chain="", memory=memory, lease=0, grantor=0),
        renewal=None,
        fill=state.fill if model.has("drop-keeps-fills") else None,
        held="dead" if state.held == "live" else state.held,
    )


def restart(model: Model, state: State) -> Steps:
    """End the worker, or let it detect that its log has diverged; a new one begins."""
    if state.worker.registered or state.worker.chain:
        yield "the worker drops everything and starts anew", start_anew(model, state)


def register(model: Model, state: State) -> Steps:
    """R1: insert the row, in a separate transaction that is acknowledged before anything else."""
    if state.worker.registered or model.has("register-while-granting"):
        return
    node = state.nodes[primary(state)]
    yield (
        f"R1: the worker registers at {called(state, primary(state))}",
        acknowledged(
            state._replace(worker=state.worker._replace(registered=True)), node._replace(row=Row(0, 0))
        ),
    )


def read_head(model: Model, state: State) -> Steps:
    """R1: then read the head as the cursor, with an empty memory."""
    worker = state.worker
    if worker.chain or not (worker.registered or model.has("register-while-granting")):
        return
    for at in reachable(state):
        log = state.nodes[at].log
        yield (
            f"R1: the worker reads the head at {called(state, at)}: seq {len(log) - 1}",
            state._replace(worker=worker._replace(chain="." * (len(log) - 1) + log[-1])),
        )


def renewed(model: Model, state: State, row: Row) -> Row:
    """Return the row after a renewal's UPDATE."""
    cursor = len(state.worker.chain) - 1
    if model.has("acknowledge-before-applying") and state.renewal is not None:
        cursor += len(state.renewal.entries)
    return Row(min(row.beat + 1, model.beats), max(row.applied, cursor))


def renew_send(model: Model, state: State) -> Steps:
    """R2: take m0, then send. One operation is in flight at a time."""
    if state.worker.chain and state.renewal is None:
        yield "R2: the worker takes m0 and sends a renewal", state._replace(renewal=Renewal("sent", 0, 0, ""))


def renew_read(model: Model, state: State) -> Steps:
    """R2: the statement takes its snapshot. Without the row or the cursor's entry: start over."""
    renewal, worker = state.renewal, state.worker
    if renewal is None or renewal.stage != "sent":
        return
    for at in reachable(state):
        node = state.nodes[at]
        known = goes_on(model, node.log, worker.chain)
        if node.row is None:
            known = known and (model.has("register-while-granting") or model.has("renew-unregistered"))
        if not known:
            yield (
                f"R2: the renewal finds no row at {called(state, at)}; the worker starts anew",
                start_anew(model, state),
            )
            continue
        entries = node.log[len(worker.chain) :]
        yield (
            f"R2: the renewal takes its snapshot at {called(state, at)}: {len(entries)} new entries",
            state._replace(renewal=renewal._replace(stage="read", node=at, entries=entries)),
        )


def renew_commit(model: Model, state: State) -> Steps:
    """R2: the statement commits, acknowledged by the standby or not. It finds no row that was reaped."""
    renewal = state.renewal
    if renewal is None or renewal.stage != "read":
        return
    at = renewal.node
    node = state.nodes[at]
    after = node
    if node.row is not None:
        after = node._replace(row=renewed(model, state, node.row))
    elif model.has("register-while-granting"):
        after = node._replace(row=Row(0, len(state.worker.chain) - 1))
    elif not model.has("renew-unregistered"):
        yield (
            "R2: the row was reaped before the renewal had it; the worker starts anew",
            start_anew(model, state),
        )
        return
    acked = state._replace(renewal=renewal._replace(stage="acked"))
    if at == primary(state):
        yield f"R2: the renewal commits at {called(state, at)}, acknowledged", acknowledged(acked, after)
    if at == 0 and model.failover:
        asynchronous = model.has("renew-asynchronously")
        yield (
            f"R2: the renewal is visible at {called(state, at)}, unacknowledged",
            local(acked if asynchronous else state._replace(renewal=None), at, after),
        )


def renew_reply(model: Model, state: State) -> Steps:
    """R2: on the reply, apply the entries, then hold a lease from m0."""
    renewal = state.renewal
    if renewal is None or renewal.stage != "acked":
        return
    age = 0 if model.has("lease-from-reply") else renewal.age
    left = model.lease + DRIFT - age
    after = apply(model, state, renewal.entries)
    worker = after.worker
    if model.has("timeline") and renewal.node != worker.grantor:
        worker = worker._replace(memory="")
        after = after._replace(fill=None, held="dead" if after.held == "live" else after.held)
    yield (
        f"R2: the reply arrives; the worker applies {len(renewal.entries)} entries and has a lease of {left}",
        after._replace(renewal=None, worker=worker._replace(lease=left, grantor=renewal.node)),
    )


def renew_lost(model: Model, state: State) -> Steps:
    """R2: an error or a time-out: this renewal gives no lease."""
    if state.renewal is not None:
        yield "R2: the renewal's reply is lost", state._replace(renewal=None)


def feed(model: Model, state: State) -> Steps:
    """R3: read and apply the next entry after the cursor; a log without the cursor's entry is another log."""
    worker = state.worker
    if not worker.chain or state.renewal is not None:
        return
    seq = len(worker.chain)
    for at in reachable(state):
        log = state.nodes[at].log
        if seq < len(log) and goes_on(model, log, worker.chain):
            yield f"R3: the worker applies seq {seq} from {called(state, at)}", apply(model, state, log[seq])


def acknowledge(model: Model, state: State) -> Steps:
    """R3: after applying, record it in the row, asynchronously."""
    worker = state.worker
    if not worker.chain or state.renewal is not None:
        return
    cursor = len(worker.chain) - 1
    for at in reachable(state):
        node = state.nodes[at]
        if node.row is None or node.row.applied >= cursor:
            continue
        if goes_on(model, node.log, worker.chain):
            yield (
                f"R3: the worker acknowledges seq {cursor} at {called(state, at)}",
                local(state, at, node._replace(row=node.row._replace(applied=cursor))),
            )


def verify(model: Model, state: State) -> Steps:
    """R4: a verification invoked after OK reads the memory, and still has to check the digest."""
    if state.revoker.stage != "ok" or state.held == VALID:
        return
    found = state.worker.memory == VALID
    if model.has("lease-checked-first"):
        if state.held == "" and state.worker.lease:
            yield "R4: after that OK, a verification is invoked under a lease", state._replace(held="asked")
        if state.held == "asked" and found:
            yield "R4: the verification takes the record", state._replace(held="live")
    elif model.swift:
        if found and state.worker.lease:
            yield (
                "R4: after that OK, a verification is invoked; the answer is VALID",
                state._replace(held=VALID),
            )
    elif found and not state.held:
        yield "R4: after that OK, a verification is invoked and takes the record", state._replace(held="live")


def answer(model: Model, state: State) -> Steps:
    """R4: last, check the lease, and that the record was not dropped; else be UNAVAILABLE or start over."""
    if state.held in ("", "asked", VALID):
        return
    leased = state.worker.lease > 0 or model.has("lease-checked-first")
    current = state.held != "dead" or model.has("record-not-checked-last")
    if leased and current:
        yield "R4: the answer is VALID", state._replace(held=VALID)
    else:
        yield "R4: the answer is UNAVAILABLE, or the verification starts over", state._replace(held="")


def evict(model: Model, state: State) -> Steps:
    """Evict: the record leaves the memory, and any verification that holds it must read again."""
    if not state.worker.memory or model.swift:
        return
    held = state.held
    if held == "live":
        held = "stray" if model.has("evicted-record-answers") else "dead"
    yield "the record is evicted", state._replace(worker=state.worker._replace(memory=""), held=held)


def fill_start(model: Model, state: State) -> Steps:
    """R5: on a miss, note the applied seq A0 and send the statement."""
    worker = state.worker
    if state.fill is not None or worker.memory or not worker.chain or not state.nodes[primary(state)].born:
        return
    start = len(worker.chain) - 1
    if model.swift:
        for at in reachable(state):
            log = state.nodes[at].log
            if len(log) > start and has_entry(worker.chain, len(log) - 1, log[-1]):
                record = record_at(state.nodes[at])
                yield (
                    f"R5: a fill reads {record} at {called(state, at)} and admits it",
                    state._replace(worker=worker._replace(memory=record)),
                )
        return
    yield f"R5: a fill starts, A0 = {start}", state._replace(fill=Fill(start, "", 0, ""))


def fill_read(model: Model, state: State) -> Steps:
    """R5: one statement reads the record and the head."""
    fill = state.fill
    if fill is None or fill.record:
        return
    for at in reachable(state):
        node = state.nodes[at]
        if model.has("timeline") and at != state.worker.grantor:
            continue  # its timeline differs from that of the lease: read again, which changes nothing
        record, seq = record_at(node), len(node.log) - 1
        if model.has("confirm") and record == NOT_FOUND and at != primary(state):
            continue  # the synchronous write after it is not acknowledged: read again
        yield (
            f"R5: the fill reads {record} at {called(state, at)}, head seq {seq}",
            state._replace(fill=Fill(fill.start, record, seq, node.log[seq])),
        )


def fill_reply(model: Model, state: State) -> Steps:
    """R5: cache the record if F >= A0 and (F, nonce) is in the chain (catch up first); else read again."""
    fill, worker = state.fill, state.worker
    if fill is None or not fill.record or not worker.chain:
        return
    loose = model.has("no-fill-check")
    recent = fill.seq >= fill.start or loose or model.has("fill-without-start")
    known = has_entry(worker.chain, fill.seq, fill.nonce) or loose or model.has("fill-without-chain")
    if recent and known:
        yield (
            f"R5: the fill admits {fill.record}",
            state._replace(fill=None, worker=worker._replace(memory=fill.record)),
        )
    else:
        yield "R5: the fill must read again", state._replace(fill=Fill(fill.start, "", 0, ""))


# The revoker.


def wait_of(model: Model) -> int:
    """Return how long the revoker waits for silent workers."""
    if model.has("no-wait"):
        return 0
    return model.lease + (0 if model.has("no-margin") else MARGIN)


def revoke_begin(model: Model, state: State) -> Steps:
    """R6, R7: begin. A retry does the same: it writes again, then waits."""
    revoker = state.revoker
    if revoker.stage != "idle" or revoker.attempt == model.attempts:
        return
    attempt = revoker.attempt + 1
    nonce = REVOCATIONS[attempt - 1]
    wait = wait_of(model) if model.has("wait-from-begin") else 0
    yield (
        f"R6: the revoker begins attempt {attempt}",
        state._replace(revoker=Revoker("begun", attempt, nonce, 0, wait, empty=False)),
    )
    if attempt == 1:
        return
    for at in reachable(state):
        log = state.nodes[at].log
        if shows_revoked(log) and model.has("retry-ok-at-once"):
            yield (
                f"R7: the retry finds the key revoked at {called(state, at)} and answers OK",
                state._replace(revoker=revoker._replace(stage="ok", attempt=attempt)),
            )
        if shows_revoked(log) and model.has("retry-without-write"):
            seq = max(log.find(nonce) for nonce in REVOCATIONS)
            yield (
                f"R7: the retry finds the key revoked at {called(state, at)} and only waits",
                state._replace(
                    revoker=Revoker("waiting", attempt, log[seq], seq, wait_of(model), empty=False)
                ),
            )


def revoke_list_early(model: Model, state: State) -> Steps:
    """Break R6: read the list before the commit."""
    revoker = state.revoker
    if not model.has("list-before-commit") or revoker.stage != "begun" or revoker.empty:
        return
    node = state.nodes[primary(state)]
    if node.row is None or node.row.applied >= len(node.log):
        yield "R6: the revoker lists nobody", state._replace(revoker=revoker._replace(empty=True))


def revoke_commit(model: Model, state: State) -> Steps:
    """R6: commit seq, nonce, state and entry atomically; take t_c after the acknowledgement, or fail."""
    revoker = state.revoker
    if revoker.stage != "begun":
        return
    at = primary(state)
    node = state.nodes[at]
    wait = revoker.wait if model.has("wait-from-begin") else wait_of(model)
    yield (
        f"R6: the revocation commits at {called(state, at)}, acknowledged: seq {len(node.log)}",
        acknowledged(
            state._replace(revoker=revoker._replace(stage="waiting", seq=len(node.log), wait=wait)),
            node._replace(log=node.log + revoker.nonce),
        ),
    )
    if model.failover:
        node = state.nodes[0]
        yield (
            f"R6: the revocation is visible at {called(state, 0)}, unacknowledged: seq {len(node.log)}",
            local(
                state._replace(revoker=revoker._replace(stage="idle", wait=0, empty=False)),
                0,
                node._replace(log=node.log + revoker.nonce),
            ),
        )


def revoke_list(model: Model, state: State) -> Steps:
    """R6: list workers that have not applied it, if the log has it; OK if none, or if the wait is over."""
    revoker = state.revoker
    if revoker.stage != "waiting":
        return
    done = state._replace(revoker=revoker._replace(stage="ok", seq=0, wait=0, empty=False))
    if not revoker.wait:
        yield "R6: the wait is over; the revoker answers OK", done
    elif model.has("list-before-commit"):
        if revoker.empty:
            yield "R6: the revoker had listed nobody and answers OK", done
        return
    else:
        for at in reachable(state):
            node = state.nodes[at]
            # It finds its place in the feed by the nonce, after the commit.
            place = len(node.log) - 1 if model.has("place-without-nonce") else revoker.seq
            known = has_entry(node.log, revoker.seq, revoker.nonce)
            if not (known or model.has("list-anywhere") or model.has("place-without-nonce")):
                continue
            if node.row is None or node.row.applied >= place:
                yield f"R6: the revoker lists nobody at {called(state, at)} and answers OK", done


def revoke_lost(model: Model, state: State) -> Steps:
    """R7: the revoker dies, or its answer is lost; the client may try again."""
    if state.revoker.stage == "waiting" and state.revoker.attempt < model.attempts:
        yield (
            "R7: the revoker's answer is lost",
            state._replace(revoker=Revoker("idle", state.revoker.attempt, "", 0, 0, empty=False)),
        )


# Deregistration and reaping.


def leave(model: Model, state: State) -> Steps:
    """Break R8: delete the own row while still answering."""
    node = state.nodes[primary(state)]
    if model.has("leave-before-stopping") and node.row is not None:
        yield "R8: the leaving worker deletes its row", acknowledged(state, node._replace(row=None))


def reap_look(model: Model, state: State) -> Steps:
    """R8: read the beat of a row."""
    if state.watch is not None or not model.beats:
        return
    span = model.lease + MARGIN
    if model.has("reap-early"):
        span = model.lease - 1
    for at in reachable(state):
        row = state.nodes[at].row
        if row is not None and row.beat < model.beats:
            yield (
                f"R8: the reaper sees beat {row.beat} at {called(state, at)}",
                state._replace(watch=Watch(at, row.beat, span)),
            )


def reap_delete(model: Model, state: State) -> Steps:
    """R8: delete the row if its beat is still the one that was read, on the node where it was read."""
    watch = state.watch
    if watch is None or watch.left:
        return
    unwatched = state._replace(watch=None)
    reaped = False
    for at in reachable(state) if model.has("reap-across-nodes") else (watch.node,):
        row = state.nodes[at].row
        if row is None or (row.beat != watch.beat and not model.has("reap-without-beat")):
            continue
        after = state.nodes[at]._replace(row=None)
        reaped = True
        if at == primary(state):
            yield f"R8: the reaper deletes the row at {called(state, at)}", acknowledged(unwatched, after)
        if at == 0 and model.failover:
            yield (
                f"R8: the reaper's deletion is visible at {called(state, at)}, unacknowledged",
                local(unwatched, at, after),
            )
    if not reaped:
        yield "R8: the reaper sees that the beat has changed", unwatched


# Time.


def tick(model: Model, state: State) -> Steps:
    """Let a tick pass on every clock."""
    worker, renewal, revoker, watch = state.worker, state.renewal, state.revoker, state.watch
    if worker.lease:
        worker = worker._replace(lease=worker.lease - 1)
    if renewal is not None and renewal.age < model.lease + DRIFT:
        renewal = renewal._replace(age=renewal.age + 1)
    if revoker.wait:
        revoker = revoker._replace(wait=revoker.wait - 1)
    if watch is not None and watch.left:
        watch = watch._replace(left=watch.left - 1)
    yield "a tick", state._replace(worker=worker, renewal=renewal, revoker=revoker, watch=watch)


STEPS: tuple[Callable[[Model, State], Steps], ...] = (
    *(ship, fail_over, create, revoke_foreign),
    *(restart, register, read_head, renew_send, renew_read, renew_commit, renew_reply, renew_lost),
    *(feed, acknowledge, verify, answer, evict, fill_start, fill_read, fill_reply),
    *(revoke_begin, revoke_list_early, revoke_commit, revoke_list, revoke_lost),
    *(leave, reap_look, reap_delete, tick),
)


# What must never happen.


def valid_after_ok(state: State) -> bool:
    """Safety violation: a verification that was invoked after OK was answered VALID."""
    return state.held == VALID


def stale_under_lease(state: State) -> bool:
    """Return whether memory holds VALID under a live lease after OK: stricter than required, and simpler."""
    return state.revoker.stage == "ok" and state.worker.lease > 0 and state.worker.memory == VALID


def dead_though_alive(state: State) -> bool:
    """Return whether a worker that follows the primary's log answers NOT_FOUND or REVOKED for a living key.

    Living: it was created, and the primary's log does not revoke it. A worker on the old
    primary's branch, or with its lease, is exempt: its next renewal ends this.
    """
    worker, at = state.worker, primary(state)
    node = state.nodes[at]
    return (
        worker.memory in (REVOKED, NOT_FOUND)
        and worker.lease > 0
        and worker.grantor == at
        and has_entry(node.log, len(worker.chain) - 1, worker.chain[-1])
        and record_at(node) == VALID
    )


def new_key_not_found(state: State) -> bool:
    """Return whether NOT_FOUND is answered for a key whose creation was acknowledged, under any lease."""
    return state.worker.lease > 0 and state.worker.memory == NOT_FOUND
