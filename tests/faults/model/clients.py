"""Clients that answer from memory as a state and its steps (R12 to R16): a follower, its workers, one client.

What a registration and the database do is explored in `protocol`, and what a follower and its worker say to
each other in `replica`; here both are shorter. There is one entry, the revocation of the only key, and one
client process, which follows one worker at a time, over a stream of its own. It may hang at any step for as
long as it likes, answer from memory while it reads nothing, leave, join another worker or the same one, and
fork. A worker may lose a stream, end the sub-leases of its clients, hang, die, stop and be replaced. The
follower may die, register again, or stop after its workers.

Each worker has a row in memory that outlives it, and there is one instant for the rows of dead workers that
were cleared. The end of a process is seen by its follower and by the supervisor, in any order. Each of them
takes steps: the follower reads the row and then that instant; the supervisor reaps the process, adds its row
to that instant, and clears the row. Another worker starts then. It attaches when the follower has seen the
end of the one before it. A new follower reads both in one step: whatever it may have missed, the supervisor
has not cleared when it forks, so the new follower finds that process dead later, and reads again.

Orders to a worker are a queue: "S0" and "S1" start it with an empty memory at that place, "D0" and "D1" drop
its lease first, "A0" and "A1" say that it has applied everything up to there, and a number is a lease, in
ticks left. A lease that would be the only order is taken at once: to use it later is to have got it later.
For the same reason a confirmation, and a word between a worker and its follower, arrive when they are sent.

A stream is two queues. Up: a number is a request for a sub-lease, "H" asks for the key, "C" confirms, "X"
says that the key is held no more, "L" leaves. Down: a number is a sub-lease, "K" brings the key, "F" has it
forgotten, "E" ends the sub-lease and the memory. The number is what will be left of the sub-lease on the
client's clock, which began when the client asked, so it becomes less on its way.

All times are in ticks left. The client's clock is slow by `DRIFT` over a sub-lease, which is exactly what
`MARGIN` covers. The margin of R6 is explored in `protocol`: here the clocks of the revoker and of the workers
agree, and the revoker waits for a lease without a margin.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

LEASE = 3
SUB_LEASE = 1
DRIFT = 1
MARGIN = 1
# When a sub-lease that was just granted is certainly over.
OVER = SUB_LEASE + MARGIN

Order = str | int
Message = str | int


class Stream(NamedTuple):
    """The stream between the client and a worker, and what the worker has noted of it.

    `open`: the worker has it. `holds`: the client may have the key by it. `until`: when its sub-lease is
    certainly over. `unconfirmed`: what was sent to it and has to be confirmed. `ended`: it gets nothing more.
    """

    open: bool
    up: tuple[Message, ...]
    down: tuple[Message, ...]
    holds: bool
    until: int
    unconfirmed: int
    ended: bool


class Client(NamedTuple):
    """The client. `reads` is the worker whose stream it reads, or -1.

    `seen` is what a verification that was invoked after OK has seen, in mutants that look twice.
    `copy` is what is left of the sub-lease of a fork that has the key.
    """

    reads: int
    memory: bool
    lease: int
    seen: str
    copy: int


class Worker(NamedTuple):
    """A worker. `place` is -1 before its start.

    `owes` is what its next confirmation will prove. `lost` is when the sub-leases of clients are certainly
    over whose streams have ended and who may have the key. `due` is when it has to confirm what it was told,
    in models that are `bounded`, and else -1. `row` is when its sub-leases are over by its row in the table.
    `end` is how far the supervisor has come with a process that has ended. In mutants, `proved` says that a
    hold that waits has read the key, and `writing` is an instant that is not in the table yet.
    """

    place: int
    memory: bool
    lease: int
    owes: tuple[int, ...]
    lost: int
    due: int
    row: int
    end: int
    proved: bool
    writing: int


class Attached(NamedTuple):
    """What a follower knows of a worker: what it has confirmed, and the end of its lease. Its orders.

    `gone`: the process has ended, and its row was cleared. `read` is what the follower has read of the table
    since it saw that, or -1.
    """

    seen: int
    until: int
    gone: bool
    read: int
    orders: tuple[Order, ...]


class Follower(NamedTuple):
    """A follower.

    `orphaned` is when the clients of processes are over that were attached and have ended. A successor has
    `lent`, when those are over of which it read in the table, and `awaited`: whether it waits for the process
    that each slot had at its start, and whether that is there still.
    """

    place: int
    lease: int
    lease_place: int
    attached: tuple[Attached | None, ...]
    orphaned: int
    lent: int
    awaited: tuple[int, ...]


class State(NamedTuple):
    """The whole state. `rows` is what the first registration, and that of the successor, have applied.

    `cleared` is when the sub-leases are over of workers whose rows were cleared.
    `wait` is the revoker's, and -1 before the commit.
    """

    rows: tuple[int | None, int | None]
    generation: int
    follower: Follower | None
    workers: tuple[Worker, ...]
    streams: tuple[Stream, ...]
    client: Client
    cleared: int
    wait: int
    answered: bool
    accepted: bool
    ends: int


CLOSED = Stream(open=False, up=(), down=(), holds=False, until=0, unconfirmed=0, ended=False)
JOINED = CLOSED._replace(open=True)
NOBODY = Client(reads=-1, memory=False, lease=0, seen="", copy=0)
FRESH = Worker(-1, memory=False, lease=0, owes=(), lost=0, due=-1, row=0, end=0, proved=False, writing=0)
# A process has ended; it is reaped; its row is added to what was cleared. Then the row is cleared.
ENDED, REAPED, ADDED = 1, 2, 3
# A process that a successor waits for is there, or was followed by another one in its slot.
HERE, GONE = 1, 2


@dataclass(frozen=True)
class Model:
    """The faults and bounds of one scenario, and the rules that are left out.

    `ends` is how often workers end, and `stops` says whether they, and then the follower, may stop. A `lone`
    worker is its own follower. A client that does not `move` joins once; if it asks `one_by_one`, it does so
    when its last message has arrived. In a `bounded` model, the time that a worker waits is counted. `begins`
    is a state to begin with; in a `frozen` model no time passes, and a `hung` client takes no step.
    """

    name: str
    workers: int = 1
    ends: int = 0
    stops: bool = False
    successor: bool = False
    lone: bool = False
    again: bool = False
    evicts: bool = False
    moves: bool = True
    one_by_one: bool = False
    loses: bool = False
    leaves: bool = False
    releases: bool = False
    bounded: bool = False
    begins: State | None = None
    frozen: bool = False
    hung: bool = False
    changes: frozenset[str] = frozenset()

    def has(self, change: str) -> bool:
        """Return whether a rule is left out."""
        return change in self.changes

    def changed(self, *changes: str) -> Self:
        """Return this scenario without these rules."""
        return replace(self, changes=frozenset(changes))

    def initial(self) -> State:
        """Return the initial state: a follower that has registered, and workers that have attached."""
        attached = Attached(seen=0, until=0, gone=False, read=-1, orders=())
        return self.begins or State(
            rows=(0, None),
            generation=0,
            follower=registered(0, (attached,) * self.workers),
            workers=(FRESH._replace(place=0, memory=True),) * self.workers,
            streams=(CLOSED,) * self.workers,
            client=NOBODY,
            cleared=0,
            wait=-1,
            answered=False,
            accepted=False,
            ends=self.ends,
        )

    def successors(self, state: State) -> "Steps":
        """Return every step that is possible."""
        if state.accepted or (is_gone(state) and not self.bounded):
            return
        for step in STEPS:
            yield from step(self, state)
        if not self.frozen:
            yield from tick(state)
        for number in range(self.workers):
            for worker_step in WORKER_STEPS:
                yield from worker_step(self, state, number)
            if not self.hung:
                for client_step in CLIENT_STEPS:
                    yield from client_step(self, state, number)


Step = tuple[str, State]
Steps = Iterator[Step]


def with_worker(state: State, number: int, worker: Worker) -> State:
    """Return the state with this worker."""
    workers = state.workers
    return state._replace(workers=(*workers[:number], worker, *workers[number + 1 :]))


def with_stream(state: State, number: int, stream: Stream) -> State:
    """Return the state with the stream to this worker."""
    streams = state.streams
    return state._replace(streams=(*streams[:number], stream, *streams[number + 1 :]))


def with_attached(state: State, number: int, attached: Attached | None) -> State:
    """Return the state with what the follower knows of this worker."""
    follower = state.follower
    if follower is None:
        return state
    each = (*follower.attached[:number], attached, *follower.attached[number + 1 :])
    return state._replace(follower=follower._replace(attached=each))


def registered(place: int, attached: tuple[Attached | None, ...]) -> Follower:
    """Return a follower that has just registered, and waits for nobody of its predecessor's."""
    return Follower(place, 0, 0, attached, orphaned=0, lent=0, awaited=(0,) * len(attached))


def attached_to(state: State, number: int) -> Attached | None:
    """Return what the follower knows of this worker, if both are there."""
    return None if state.follower is None else state.follower.attached[number]


# The database, and time.


def is_committed(state: State) -> bool:
    """Return whether the key is revoked."""
    return state.wait >= 0


def commit(model: Model, state: State) -> Steps:
    """R6: commit the revocation. The revoker waits for a lease at most."""
    if not is_committed(state):
        yield "R6: the revocation is committed", state._replace(wait=LEASE)


def answer(model: Model, state: State) -> Steps:
    """R6: answer OK when all registrations have applied the entry, or all leases are over."""
    if not is_committed(state) or state.answered:
        return
    if not state.wait or all(applied is None or applied == 1 for applied in state.rows):
        # From now on it does not matter who is waited for.
        rows = (None if state.rows[0] is None else 1, None if state.rows[1] is None else 1)
        follower = state.follower
        yield (
            "R6: the revocation is answered OK",
            state._replace(
                rows=rows,
                follower=follower and follower._replace(orphaned=0, lent=0),
                workers=tuple(each._replace(row=0, writing=0) for each in state.workers),
                cleared=0,
                wait=0,
                answered=True,
            ),
        )


def is_gone(state: State) -> bool:
    """Return whether nobody has the key any more, nor can get it."""
    client = state.client
    return (
        is_committed(state)
        and not (client.memory or client.copy or client.seen)
        and all(each.place == 1 and not each.proved for each in state.workers)
        and all("K" not in each.down for each in state.streams)
    )


def _later(left: int) -> int:
    return max(0, left - 1)


def _later_all(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages a tick later, without sub-leases that are over."""
    return tuple(
        each - 1 if isinstance(each, int) else each
        for each in messages
        if not isinstance(each, int) or each > 1
    )


def tick(state: State) -> Steps:
    """Let time pass for all."""
    follower, client = state.follower, state.client
    if follower is not None:
        follower = follower._replace(
            lease=_later(follower.lease),
            attached=tuple(
                each
                and each._replace(
                    until=_later(each.until),
                    read=min(each.read, _later(each.read)),
                    orders=_later_all(each.orders),
                )
                for each in follower.attached
            ),
            orphaned=_later(follower.orphaned),
            lent=_later(follower.lent),
        )
    after = state._replace(
        follower=follower,
        workers=tuple(
            each._replace(
                lease=_later(each.lease),
                lost=_later(each.lost),
                due=min(each.due, _later(each.due)),
                row=_later(each.row),
                writing=_later(each.writing),
            )
            for each in state.workers
        ),
        streams=tuple(
            each._replace(until=_later(each.until), up=_later_all(each.up), down=_later_all(each.down))
            for each in state.streams
        ),
        client=client._replace(lease=_later(client.lease), copy=_later(client.copy)),
        cleared=_later(state.cleared),
        wait=_later(state.wait) if is_committed(state) else -1,
    )
    if after != state:
        yield "time passes", after


# The follower.


def send(model: Model, state: State, number: int, order: Order) -> State:
    """Send an order to a worker that has attached. One that has ended does not get it."""
    attached = attached_to(state, number)
    if attached is None or has_ended(state, number):
        return state
    if not isinstance(order, int):
        return with_attached(state, number, attached._replace(orders=(*attached.orders, order)))
    orders = attached.orders
    attached = attached._replace(until=order)
    if not orders:
        return carried_out(model, with_attached(state, number, attached), number, order)
    if isinstance(orders[-1], int):
        # Two leases that follow each other have the effect of the later one.
        orders = orders[:-1]
    return with_attached(state, number, attached._replace(orders=(*orders, order)))


def granted(model: Model, state: State, number: int) -> State:
    """Grant the lease of the last renewal to a worker, if it has confirmed all entries up to it."""
    follower, attached = state.follower, attached_to(state, number)
    if follower is None or attached is None or follower.lease <= attached.until:
        return state
    if attached.seen < follower.lease_place:
        return state
    return send(model, state, number, follower.lease)


def spread(model: Model, state: State) -> State:
    """Advance to the entry, and have all workers apply it."""
    if state.follower is None:
        return state
    state = state._replace(follower=state.follower._replace(place=1))
    for number in range(model.workers):
        state = send(model, state, number, "A1")
    return state


def renew(model: Model, state: State) -> Steps:
    """R2: renew, spread the entry if it came, then grant the lease to workers that have confirmed it."""
    follower = state.follower
    if follower is None or state.rows[state.generation] is None:
        return
    place = 1 if is_committed(state) else 0
    if follower.lease == LEASE and follower.place == place:
        return
    after = state._replace(follower=follower._replace(lease=LEASE, lease_place=place))
    if place > follower.place:
        after = spread(model, after)
    for number in range(model.workers):
        after = granted(model, after, number)
    yield "R2: the follower renews its lease", after


def read(model: Model, state: State) -> Steps:
    """R3: read the feed, and spread the entry."""
    if state.follower is not None and is_committed(state) and state.follower.place == 0:
        yield "R3: the follower reads the entry", spread(model, state)


def acknowledge(model: Model, state: State) -> Steps:
    """R3, R15: acknowledge the entry when all have confirmed it, and no orphaned client may answer."""
    follower = state.follower
    if follower is None or follower.place == 0 or state.rows[state.generation] != 0 or follower.orphaned:
        return
    if all(each is None or each.seen == 1 or not each.until for each in follower.attached):
        rows = (1, None) if state.generation == 0 else (state.rows[0], 1)
        yield "R3: the follower acknowledges the entry", state._replace(rows=rows)


# The successor.


def die(model: Model, state: State) -> Steps:
    """R11: the follower dies, and a lone worker with it. What it sent still arrives."""
    if not model.successor or state.generation or state.follower is None:
        return
    arrived = [
        len(each.orders) if each is not None and each.orders else 0 for each in state.follower.attached
    ]
    for count in range(max(arrived) + 1):
        after = state
        for number, each in enumerate(state.follower.attached):
            for order in each.orders[:count] if each is not None else ():
                after = carried_out(model, after, number, order)
        after = after._replace(
            follower=None,
            generation=1,
            workers=tuple(each._replace(owes=()) for each in after.workers),
        )
        if model.lone:
            after = ended(model, after, 0)._replace(ends=0)
        yield f"the follower dies; {count} of its orders were still carried out", after


def lent_by_the_dead(model: Model, state: State) -> int:
    """Return when the clients of all processes are over that have ended and are reaped, by the table."""
    if model.has("successor-does-not-read"):
        return 0
    return max(state.cleared, *(each.row for each in state.workers if each.end >= REAPED), 0)


def succeed(model: Model, state: State) -> Steps:
    """R1, R11, R15: the successor registers at the end of the feed. The old registration stays."""
    if not state.generation or state.follower is not None or state.rows[1] is not None:
        return
    if model.lone and any(each.end for each in state.workers):
        return  # The supervisor starts it after that.
    place = 1 if is_committed(state) else 0
    follower = registered(place, (None,) * model.workers)
    if not model.has("not-read-at-the-start"):
        follower = follower._replace(lent=0 if state.answered else lent_by_the_dead(model, state))
    if not model.lone:
        follower = follower._replace(awaited=(HERE,) * model.workers)
    yield (
        f"R11: the successor registers at place {place}",
        state._replace(rows=(state.rows[0], place), follower=follower),
    )


def register_again(model: Model, state: State) -> Steps:
    """R1, R11: the follower has lost its registration or its place, and starts again under another id."""
    follower = state.follower
    if not model.again or state.generation or follower is None:
        return
    place = 1 if is_committed(state) else 0
    # What was confirmed before the new start does not count, nor what was carried out and is not confirmed.
    attached = tuple(each and each._replace(seen=-1) for each in follower.attached)
    after = state._replace(
        rows=(state.rows[0], place),
        generation=1,
        follower=registered(place, attached)._replace(orphaned=follower.orphaned),
        workers=tuple(each._replace(owes=()) for each in state.workers),
    )
    for number in range(model.workers):
        after = send(model, after, number, f"D{place}")
    yield f"R11: the follower registers again at place {place}", after


def last_lease(state: State, number: int) -> int:
    """Return what is left of the last lease that a worker was given."""
    attached = attached_to(state, number)
    return state.workers[number].lease if attached is None else attached.until


def remove(model: Model, state: State) -> Steps:
    """R11, R15: remove the old registration when nobody can answer under it any more.

    A process that is found to have ended is not waited for, but the table is read again.
    """
    follower = state.follower
    if not state.generation or follower is None or state.rows[0] is None or state.answered:
        return
    settled = [each is not None and each.seen == follower.place for each in follower.attached]
    if follower.orphaned or not all(
        settled[number] or each is None or not each.until for number, each in enumerate(follower.attached)
    ):
        return
    awaited, lent, left = list(follower.awaited), follower.lent, False
    for number, (each, attached) in enumerate(zip(follower.awaited, follower.attached, strict=True)):
        worker = state.workers[number]
        # The one that is attached now may be another process than the one that is waited for.
        is_same = attached is not None and (attached.gone or each == HERE)
        if not each or (settled[number] and is_same):
            awaited[number] = 0
        elif each == GONE or worker.end >= REAPED:
            awaited[number] = 0
            lent = lent if model.has("not-read-again") else lent_by_the_dead(model, state)
        else:
            left = left or bool(worker.end or last_lease(state, number))
    if not left and not lent:
        follower = follower._replace(lent=0, awaited=(0,) * model.workers)
        yield (
            "R11: the old registration is removed",
            state._replace(rows=(None, state.rows[1]), follower=follower),
        )
    elif (lent, tuple(awaited)) != (follower.lent, follower.awaited):
        yield (
            "R15: the successor looks at the processes, and reads the table if one was reaped",
            state._replace(follower=follower._replace(lent=lent, awaited=tuple(awaited))),
        )


def retire(model: Model, state: State) -> Steps:
    """R8, R15: the follower stops after its workers, and deletes its registration if no client may answer."""
    follower = state.follower
    if not model.stops or follower is None or state.generation or state.answered:
        return
    if any(follower.attached) or any(each.place >= 0 for each in state.workers):
        return
    if not follower.orphaned or model.has("left-with-orphans"):
        yield "R8: the follower stops", state._replace(rows=(None, None), follower=None)


# A worker and its follower.


def attach(model: Model, state: State, number: int) -> Steps:
    """R10: a worker attaches, and is brought to the follower's place."""
    follower, worker = state.follower, state.workers[number]
    if follower is None or follower.attached[number] is not None or worker.end:
        return
    attached = Attached(seen=-1, until=worker.lease, gone=False, read=-1, orders=())
    known = 0 <= worker.place <= follower.place
    for order in (f"A{follower.place}", f"S{follower.place}") if known else (f"S{follower.place}",):
        after = send(model, with_attached(state, number, attached), number, order)
        yield f"R10: worker {number} attaches, and gets {order}", granted(model, after, number)


def carried_out(model: Model, state: State, number: int, order: Order) -> State:
    """Return the state after a worker has carried out an order."""
    worker = state.workers[number]
    if isinstance(order, int):
        return with_worker(state, number, worker._replace(lease=max(worker.lease, order)))
    if model.bounded and worker.due < 0:
        worker = worker._replace(due=OVER)
    place = int(order[1:])
    before = worker.memory
    worker = worker._replace(owes=(*worker.owes, place))
    if order[0] in "SD":
        lease = worker.lease if order[0] == "S" else 0
        worker = worker._replace(place=place, memory=place == 0, lease=lease)
        return clients_ended(model, with_worker(state, number, worker), number, order[0])
    if place <= worker.place:
        return with_worker(state, number, worker)
    state = with_worker(state, number, worker._replace(place=1, memory=False))
    if model.has("passed-on-if-remembered") and not before:
        return state
    return passed_on(model, state, number)


def obey(model: Model, state: State, number: int) -> Steps:
    """R10, R14: carry out the next order, and pass it on."""
    attached = attached_to(state, number)
    if attached is None or not attached.orders or has_ended(state, number):
        return
    order, *rest = attached.orders
    after = with_attached(state, number, attached._replace(orders=tuple(rest)))
    yield f"R10: worker {number} carries out {order}", carried_out(model, after, number, order)


def is_settled(model: Model, state: State, number: int) -> bool:
    """Return whether each client that was told has confirmed, or its sub-lease is certainly over."""
    stream = state.streams[number]
    if model.has("confirmed-first"):
        return True
    return not state.workers[number].lost and (not stream.unconfirmed or not stream.until)


def is_late(state: State) -> bool:
    """Return whether a worker still waits for its clients when their sub-leases should be over."""
    return any(
        bool(each.owes) and not each.due and (bool(each.lost) or bool(stream.unconfirmed and stream.until))
        for each, stream in zip(state.workers, state.streams, strict=True)
    )


def confirm(model: Model, state: State, number: int) -> Steps:
    """R10, R14: confirm what was carried out, when the clients have confirmed it."""
    worker, attached = state.workers[number], attached_to(state, number)
    if attached is None or not worker.owes or not is_settled(model, state, number):
        return
    attached = attached._replace(seen=max(attached.seen, *worker.owes))
    after = with_worker(state, number, worker._replace(owes=(), due=-1))
    yield (
        f"R10: worker {number} confirms",
        granted(model, with_attached(after, number, attached), number),
    )


def has_ended(state: State, number: int) -> bool:
    """Return whether the process has ended that the follower knows by this number."""
    attached = attached_to(state, number)
    return bool(state.workers[number].end) or (attached is not None and attached.gone)


def ended(model: Model, state: State, number: int) -> State:
    """Return the state after the end of a worker. Its streams end; its row stays."""
    worker, attached = state.workers[number], attached_to(state, number)
    row = 0 if model.has("row-goes-with-the-worker") else worker.row
    after = with_worker(state, number, FRESH._replace(row=row, end=ENDED))
    if attached is not None:
        after = with_attached(after, number, attached._replace(orders=()))
    stream = state.streams[number]
    read_on = state.client.reads == number and stream.down
    return with_stream(after, number, CLOSED._replace(down=stream.down) if read_on else CLOSED)


def end_worker(model: Model, state: State, number: int) -> Steps:
    """The worker dies, or, R15, stops: then it has waited until no client may answer, and has noted that."""
    worker, stream = state.workers[number], state.streams[number]
    if not state.ends or worker.end or worker == FRESH:
        return
    after = state._replace(ends=state.ends - 1)
    if not model.lone:
        yield f"worker {number} dies", ended(model, after, number)
    if model.stops and (model.has("stop-does-not-wait") or not (worker.lost or stream.until)):
        after = with_worker(after, number, worker._replace(row=0))
        yield f"R15: worker {number} stops", ended(model, after, number)


def detach(model: Model, state: State, number: int) -> Steps:
    """R15: the follower sees that a process has ended, and reads when its clients are over."""
    follower, attached = state.follower, attached_to(state, number)
    if follower is None or attached is None or not has_ended(state, number):
        return
    after = with_attached(state, number, None)
    if attached.seen == 1 or not attached.until or state.answered or model.has("end-frees"):
        yield f"R10: the follower detaches worker {number}", after
        return
    reads = [("row", 0 if attached.gone else state.workers[number].row), ("cleared rows", state.cleared)]
    if model.has("cleared-rows-read-first"):
        reads.reverse()
    what, left = reads[attached.read >= 0]
    if attached.read < 0:
        after = with_attached(state, number, attached._replace(read=left))
    elif after.follower is not None:
        left = max(after.follower.orphaned, min(attached.until, max(attached.read, left)))
        after = after._replace(follower=after.follower._replace(orphaned=left))
    yield f"R15: the follower detaches worker {number}, and reads the {what}", after


def reap(model: Model, state: State, number: int) -> Steps:
    """R15: the supervisor reaps a process, adds its row to what was cleared, and clears it."""
    worker, follower = state.workers[number], state.follower
    if worker.end == ENDED:
        yield f"worker {number} is reaped", with_worker(state, number, worker._replace(end=REAPED))
    elif worker.end == REAPED:
        if model.has("cleared-first"):
            after = with_worker(state, number, worker._replace(row=0, end=ADDED, writing=worker.row))
        else:
            after = with_worker(state, number, worker._replace(end=ADDED))
            if not model.has("clearing-forgets"):
                after = after._replace(cleared=max(state.cleared, worker.row))
        yield f"R15: the supervisor adds the row of worker {number} to the cleared ones", after
    elif worker.end == ADDED:
        after = with_worker(state, number, FRESH)
        after = after._replace(cleared=max(state.cleared, worker.writing))
        if follower is not None:
            attached, awaited = follower.attached[number], list(follower.awaited)
            after = with_attached(after, number, attached and attached._replace(gone=True))
            awaited[number] = GONE if awaited[number] else 0
            follower = after.follower and after.follower._replace(awaited=tuple(awaited))
            after = after._replace(follower=follower)
        yield f"R15: the supervisor clears the row of worker {number}, and starts another one", after


def write_row(model: Model, state: State, number: int) -> Steps:
    """In mutants: the row of a worker changes in between."""
    worker, stream = state.workers[number], state.streams[number]
    if worker.end or state.answered:
        return
    if model.has("granted-before-noted") and worker.writing:
        after = worker._replace(row=max(worker.row, worker.writing), writing=0)
        yield f"worker {number} notes its sub-lease", with_worker(state, number, after)
    if model.has("written-in-pieces") and worker.row and isinstance((*stream.up, "")[0], int):
        after = worker._replace(row=0, writing=worker.row)
        yield f"worker {number} begins to write its row", with_worker(state, number, after)
    if model.has("successor-overwrites") and worker.row:
        after = worker._replace(row=0)
        yield f"a successor in the slot of worker {number} takes its row", with_worker(state, number, after)


# A worker and its client.


def tell(model: Model, state: State, number: int, message: Message) -> State:
    """Send a message down a stream, where nobody may read it."""
    stream = state.streams[number]
    down = stream.down
    if state.client.reads == number:
        if isinstance(message, int) and down and isinstance(down[-1], int):
            # Two sub-leases that follow each other have the effect of the longer one.
            message = max(message, *down[-1:])
            down = down[:-1]
        down = (*down, message)
    if message in ("F", "E"):
        stream = stream._replace(unconfirmed=stream.unconfirmed + 1, holds=False)
    return with_stream(state, number, stream._replace(down=down))


def passed_on(model: Model, state: State, number: int) -> State:
    """R14: have the client forget the key, if it may hold it."""
    if state.streams[number].holds:
        return tell(model, state, number, "F")
    return state


def clients_ended(model: Model, state: State, number: int, why: str) -> State:
    """R14: end the sub-lease and the memory of the client."""
    stream = state.streams[number]
    if not stream.open or stream.ended or model.has(f"{why}-without-clients"):
        return state
    after = tell(model, state, number, "E")
    # The rest is not answered any more.
    up = tuple(each for each in stream.up if each in ("C", "L"))
    return with_stream(after, number, after.streams[number]._replace(up=up, ended=True))


def evict(model: Model, state: State, number: int) -> Steps:
    """The worker forgets the key to make room. Clients may still hold it."""
    worker = state.workers[number]
    if model.evicts and worker.memory and state.streams[number].holds:
        yield f"worker {number} evicts the key", with_worker(state, number, worker._replace(memory=False))


def serve(model: Model, state: State, number: int) -> Steps:
    """R12, R13: handle the next message of the client."""
    stream = state.streams[number]
    if not stream.open or not stream.up:
        return
    message, *rest = stream.up
    stream = stream._replace(up=tuple(rest))
    after = with_stream(state, number, stream)
    match message:
        case int():
            yield from _lease_asked(model, after, number, message)
        case "H":
            yield from _key_asked(model, after, number)
        case "C":
            stream = stream._replace(unconfirmed=stream.unconfirmed - 1)
            if stream.ended and not stream.unconfirmed:
                stream = stream._replace(until=0)
            if state.client.reads != number:
                stream = abandoned(stream)
            yield f"R14: worker {number} gets a confirmation", with_stream(state, number, stream)
        case "X":
            stream = stream._replace(holds=False)
            if state.client.reads != number:
                stream = abandoned(stream)
            yield (
                f"R12: worker {number} hears that the key is not held any more",
                with_stream(state, number, stream),
            )
        case _:
            yield f"R12: worker {number} hears that the client has left", with_stream(state, number, CLOSED)


def _lease_asked(model: Model, state: State, number: int, left: int) -> Steps:
    stream, worker = state.streams[number], state.workers[number]
    early = model.has("granted-unconfirmed") or model.has("lease-overtakes")
    if stream.ended or (stream.unconfirmed and not early):
        yield f"R13: worker {number} grants nothing to a client that has not confirmed", state
        return
    room = SUB_LEASE if model.has("granted-without-margin") else OVER
    if worker.lease < room and not model.has("granted-without-lease"):
        yield f"R13: worker {number} has no lease to grant from", state
        return
    until = SUB_LEASE if model.has("noted-without-margin") else OVER
    if model.has("not-noted-again") and stream.until:
        until = stream.until
    after = with_stream(state, number, stream._replace(until=until))
    if model.has("granted-before-noted"):
        after = with_worker(after, number, worker._replace(writing=until))
    elif state.ends and not state.answered:
        # A row is read only when its worker has ended.
        row = max(until, worker.row, worker.writing)
        after = with_worker(after, number, worker._replace(row=row, writing=0))
    yield f"R13, R15: worker {number} notes and grants a sub-lease", tell(model, after, number, left)


def _key_asked(model: Model, state: State, number: int) -> Steps:
    stream, worker = state.streams[number], state.workers[number]
    if stream.ended or not worker.memory or (not worker.lease and not model.has("held-without-lease")):
        yield f"R12: worker {number} does not know the key now", state
        return
    if model.has("held-after-a-wait"):
        yield (
            f"worker {number} has proved the key, and waits",
            with_worker(state, number, worker._replace(proved=True)),
        )
        return
    after = tell(model, state, number, "K")
    if model.has("noted-after-a-wait"):
        after = with_worker(after, number, worker._replace(proved=True))
    else:
        after = with_stream(after, number, after.streams[number]._replace(holds=True))
    yield f"R12: worker {number} notes that the client holds the key, and sends it", after


def hold_ends(model: Model, state: State, number: int) -> Steps:
    """In mutants: a hold that waited goes on."""
    worker, stream = state.workers[number], state.streams[number]
    if not worker.proved:
        return
    after = with_worker(state, number, worker._replace(proved=False))
    if stream.open and not stream.ended:
        if model.has("held-after-a-wait"):
            after = tell(model, after, number, "K")
        after = with_stream(after, number, after.streams[number]._replace(holds=True))
    yield f"worker {number} goes on, and notes that the client holds the key", after


def lose_stream(model: Model, state: State, number: int) -> Steps:
    """R14: the worker sees the stream end. What it sent may still arrive."""
    stream = state.streams[number]
    if not stream.open or not model.loses:
        return
    worker, read_on = state.workers[number], state.client.reads == number and stream.down
    if (stream.holds or stream.unconfirmed) and not model.has("stream-end-frees"):
        worker = worker._replace(lost=max(worker.lost, stream.until))
    after = with_stream(state, number, CLOSED._replace(down=stream.down) if read_on else CLOSED)
    yield f"worker {number} loses the stream", with_worker(after, number, worker)


def stop_lending(model: Model, state: State, number: int) -> Steps:
    """The worker ends its clients because it stops, or because they are slow."""
    stream = state.streams[number]
    if model.stops and stream.open and not stream.ended:
        yield f"worker {number} ends its clients", clients_ended(model, state, number, "stopped")


# The client.


def abandoned(stream: Stream) -> Stream:
    """Return a stream that the client does not read any more, as far as anybody may wait for it.

    The worker may still grant a sub-lease, or send the key; nobody gets them, and more would be waited for.
    """
    if not stream.holds and not stream.unconfirmed:
        return CLOSED
    return stream._replace(up=tuple(each for each in stream.up if each in ("C", "X", "L")), down=())


def join(model: Model, state: State, number: int) -> Steps:
    """R12: join a worker, with no memory and no sub-lease. An earlier stream is not read any more."""
    client = state.client
    worker = state.workers[number]
    if client == NOBODY and number:
        return  # Which one is the first makes no difference.
    if (
        worker.place < 0
        or (client.reads >= 0 and not model.moves)
        or (client.reads == number and state.streams[number].open and not state.streams[number].ended)
    ):
        return

    def keeps(what: str) -> bool:
        return model.has(f"joined-with-{what}") or model.has(f"joined-again-with-{what}")

    after = state
    if client.reads >= 0:
        after = with_stream(after, client.reads, abandoned(after.streams[client.reads]))
    stream = after.streams[number]
    if stream.open and (stream.holds or stream.unconfirmed):
        worker = worker._replace(lost=max(worker.lost, stream.until))
        after = with_worker(after, number, worker)
    client = client._replace(
        reads=number,
        memory=client.memory and keeps("memory"),
        lease=client.lease if keeps("lease") else 0,
        seen="",
    )
    yield f"R12: the client joins worker {number}", with_stream(after, number, JOINED)._replace(client=client)


def say(state: State, number: int, message: Message) -> State:
    """Send a message up a stream."""
    stream = state.streams[number]
    if not stream.open or (stream.ended and message not in ("C", "L")):
        return state
    return with_stream(state, number, stream._replace(up=(*stream.up, message)))


def ask_lease(model: Model, state: State, number: int) -> Steps:
    """R13: note the time, and ask for a sub-lease."""
    stream, client = state.streams[number], state.client
    left = SUB_LEASE + DRIFT
    if client.reads != number or not stream.open or any(isinstance(each, int) for each in stream.up):
        return
    if client.lease < left and not (stream.up and model.one_by_one):
        yield "R13: the client asks for a sub-lease", say(state, number, left)


def ask_key(model: Model, state: State, number: int) -> Steps:
    """R12: ask for the key, which is not in memory."""
    stream, client = state.streams[number], state.client
    under_way = (*stream.up, *stream.down).count("H") + stream.down.count("K")
    most = 2 if model.releases else 1
    if stream.up and model.one_by_one:
        return
    if client.reads == number and stream.open and not client.memory and under_way < most:
        yield "R12: the client asks for the key", say(state, number, "H")


def receive(model: Model, state: State, number: int) -> Steps:
    """R13, R14: carry out the next message of the worker, and confirm it."""
    stream, client = state.streams[number], state.client
    if client.reads != number or not stream.down:
        return
    message, *rest = stream.down
    after = with_stream(state, number, stream._replace(down=tuple(rest)))
    match message:
        case int():
            left = message
            if model.has("counted-from-the-answer"):
                left = SUB_LEASE + DRIFT
            if model.has("counted-from-another-request"):
                left = max(left, *(each for each in stream.up if isinstance(each, int)), 0)
            client = client._replace(lease=max(client.lease, left))
            yield "R13: the client gets the sub-lease", after._replace(client=client)
        case "K":
            yield "R12: the client gets the key", after._replace(client=client._replace(memory=True))
        case "F":
            kept = client.memory and model.has("client-keeps-the-key")
            after = say(after._replace(client=client._replace(memory=kept)), number, "C")
            yield "R14: the client forgets the key", after
        case _:
            if not model.has("client-goes-on"):
                client = client._replace(memory=False, lease=0)
            after = say(after._replace(client=client), number, "C")
            yield "R14: the client gives up its sub-lease and its memory", after


def overtake(model: Model, state: State, number: int) -> Steps:
    """In mutants: the client handles a key, or confirms, out of turn."""
    stream, client = state.streams[number], state.client
    if client.reads != number:
        return
    if model.has("key-overtaken") and stream.down[:2] == ("K", "F"):
        after = with_stream(state, number, stream._replace(down=("K", *stream.down[2:])))
        after = say(after._replace(client=client._replace(memory=False)), number, "C")
        yield "the client forgets the key before it has got it", after
    if model.has("lease-overtakes") and stream.down[:1] == ("F",) and isinstance(stream.down[-1], int):
        after = with_stream(state, number, stream._replace(down=stream.down[:-1]))
        client = client._replace(lease=max(client.lease, stream.down[-1]))
        yield "the client takes a sub-lease before it forgets the key", after._replace(client=client)
    if model.has("confirmed-on-arrival") and "F" in stream.down and "C" not in stream.up:
        yield "the client confirms before it forgets the key", say(state, number, "C")


def release(model: Model, state: State, number: int) -> Steps:
    """R12: drop the key to make room, and say so; not while the key was asked for again."""
    stream, client = state.streams[number], state.client
    if not model.releases or client.reads != number or not client.memory:
        return
    if model.has("released-while-asking") or ("H" not in stream.up and "K" not in stream.down):
        after = state._replace(client=client._replace(memory=False))
        yield "R12: the client drops the key, and says so", say(after, number, "X")


def leave(model: Model, state: State, number: int) -> Steps:
    """R12: give up the sub-lease and the memory, and say so."""
    client = state.client
    if not model.leaves or client.reads != number or not state.streams[number].open:
        return
    after = say(state, number, "L")
    after = with_stream(after, number, abandoned(after.streams[number]))
    if model.has("left-with-lease"):
        client = client._replace(reads=-1)
    else:
        client = client._replace(reads=-1, memory=False, lease=0, seen="")
    yield "R12: the client leaves", after._replace(client=client)


def fork(model: Model, state: State) -> Steps:
    """In mutants: the client forks, and the fork answers, too."""
    client = state.client
    if model.has("fork-answers") and client.memory and client.lease > client.copy:
        yield "the client forks", state._replace(client=client._replace(copy=client.lease))


def verify(model: Model, state: State) -> Steps:
    """R16: a verification that was invoked after OK finds the key in memory, and the sub-lease held."""
    client = state.client
    if not state.answered or model.hung:
        return
    held = client.lease or model.has("sub-lease-not-checked")
    if (client.memory and held) or client.copy:
        yield "R16: after that OK, the client answers VALID", state._replace(accepted=True)
    if model.has("memory-checked-first") and client.memory and not client.seen:
        yield (
            "a verification, invoked after that OK, sees the key in memory",
            state._replace(client=client._replace(seen="memory")),
        )
    if model.has("sub-lease-checked-first") and client.lease and not client.seen:
        yield (
            "a verification, invoked after that OK, sees the sub-lease held",
            state._replace(client=client._replace(seen="lease")),
        )
    if (client.seen == "memory" and client.lease) or (client.seen == "lease" and client.memory):
        yield "R16: that verification goes on, and answers VALID", state._replace(accepted=True)


STEPS: tuple[Callable[[Model, State], Steps], ...] = (
    commit,
    answer,
    renew,
    read,
    acknowledge,
    die,
    succeed,
    register_again,
    remove,
    retire,
    verify,
    fork,
)
WORKER_STEPS: tuple[Callable[[Model, State, int], Steps], ...] = (
    attach,
    obey,
    confirm,
    end_worker,
    detach,
    reap,
    write_row,
    evict,
    serve,
    hold_ends,
    lose_stream,
    stop_lending,
)
CLIENT_STEPS: tuple[Callable[[Model, State, int], Steps], ...] = (
    join,
    ask_lease,
    ask_key,
    receive,
    overtake,
    release,
    leave,
)
