"""A replica as a state and its steps (R10 and R11): a follower, its successor, and one worker.

What a registration and the database do is explored in `protocol`; here their statements are one step each.
There is one entry, the revocation of the only key. The worker fills its memory from nodes that may be behind,
and the follower may read the feed there. The database may acknowledge without the follower hearing of it.
It may hang (take no step) for as long as it likes, die and be replaced, or close its channel because of a
fault. The follower may die at any time; its successor registers anew and takes over. Or it loses its
registration, or its place in the feed, and registers again itself.

Orders to the worker are a queue. "S0" and "S1" start it with an empty memory at that place, "A0" and "A1" say
that it has applied everything up to there, "F" has the key forgotten because of a hint, "V" says that the
hint was true, "D" drops the lease and the memory, and a number is a lease, in ticks left. All other times are
ticks left, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

LEASE = 2
MARGIN = 1
# What the confirmation of an order proves, besides a place: nothing, or that the key was forgotten.
NOTHING_PROVED, FORGOTTEN = -2, -1

Order = str | int


class Worker(NamedTuple):
    """The worker. `place` and `forgotten` are -1 before its start; `fill` is what a fill has read, or ""."""

    place: int
    forgotten: int
    memory: str
    lease: int
    fill: str
    fill_since: int
    fill_place: int


class Channel(NamedTuple):
    """The orders that are on their way, and what was sent and not confirmed yet.

    `carried` are orders that the worker has carried out, and whose confirmation is on its way.
    """

    orders: tuple[Order, ...]
    carried: int
    unconfirmed: tuple[int, ...]  # what the confirmation of each order proves


class Follower(NamedTuple):
    """A follower. `seen` and `until` are what it knows of the worker: its place, and the end of its lease."""

    place: int
    acknowledged: int
    lease: int
    lease_place: int
    hinted: bool
    attached: bool
    seen: int
    until: int
    channel: Channel


class Row(NamedTuple):
    """A registration."""

    applied: int


class State(NamedTuple):
    """The whole state. `rows` are the first registration and that of the successor, or the second.

    `over` is when all leases of the first are taken to be over; `awaited` says that the worker is waited for
    until then. `wait` is the revoker's, and -1 before the commit.
    """

    rows: tuple[Row | None, Row | None]
    generation: int
    follower: Follower | None
    worker: Worker
    over: int
    awaited: bool
    wait: int
    answered: bool
    accepted: bool


NOTHING = Channel((), 0, ())
FRESH = Worker(place=-1, forgotten=0, memory="", lease=0, fill="", fill_since=0, fill_place=0)


@dataclass(frozen=True)
class Model:
    """The rules that are left out."""

    name: str
    successor: bool = False
    again: bool = False
    changes: frozenset[str] = frozenset()

    def has(self, change: str) -> bool:
        """Return whether a rule is left out."""
        return change in self.changes

    def changed(self, *changes: str) -> Self:
        """Return this scenario without these rules."""
        return replace(self, changes=frozenset(changes))

    def initial(self) -> State:
        """Return the initial state: a follower that has registered, and a worker that has not attached."""
        return State(
            rows=(Row(0), None),
            generation=0,
            follower=_started(0),
            worker=FRESH,
            over=0,
            awaited=False,
            wait=-1,
            answered=False,
            accepted=False,
        )

    def successors(self, state: State) -> "Steps":
        """Return every step that is possible."""
        if not state.accepted:
            for step in STEPS:
                yield from step(self, state)


Step = tuple[str, State]
Steps = Iterator[Step]


def _started(place: int) -> Follower:
    return Follower(
        place=place,
        acknowledged=0,
        lease=0,
        lease_place=0,
        hinted=False,
        attached=False,
        seen=-1,
        until=0,
        channel=NOTHING,
    )


# The database.


def is_committed(state: State) -> bool:
    """Return whether the key is revoked."""
    return state.wait >= 0


def commit(model: Model, state: State) -> Steps:
    """R6: commit the revocation. The revoker waits for a lease and the margin at most."""
    if not is_committed(state):
        yield "R6: the revocation is committed", state._replace(wait=LEASE + MARGIN)


def answer(model: Model, state: State) -> Steps:
    """R6: answer OK when all registrations have applied the entry, or all leases are over."""
    if not is_committed(state) or state.answered:
        return
    behind = [row for row in state.rows if row is not None and row.applied < 1]
    if not behind or not state.wait:
        yield "R6: the revocation is answered OK", state._replace(answered=True)


def tick(model: Model, state: State) -> Steps:
    """Let time pass for all."""

    def later(left: int) -> int:
        return max(0, left - 1)

    worker, follower = state.worker, state.follower
    if follower is not None:
        orders = tuple(later(order) if isinstance(order, int) else order for order in follower.channel.orders)
        follower = follower._replace(
            lease=later(follower.lease),
            until=later(follower.until),
            channel=follower.channel._replace(orders=orders),
        )
    after = state._replace(
        worker=worker._replace(lease=later(worker.lease)),
        follower=follower,
        over=later(state.over),
        wait=later(state.wait) if is_committed(state) else -1,
    )
    if after != state:
        yield "time passes", after


# The follower.


def send(follower: Follower, order: Order) -> Follower:
    """Send an order, and remember what its confirmation will prove."""
    channel = follower.channel
    if isinstance(order, int) and channel.orders and isinstance(channel.orders[-1], int):
        # Two leases that follow each other have the effect of the later one.
        orders = (*channel.orders[:-1], order)
        return follower._replace(until=order, channel=channel._replace(orders=orders))
    proves = NOTHING_PROVED
    match order:
        case int():
            follower = follower._replace(until=order)
        case "V" if is_settled(follower):
            follower = follower._replace(seen=1)  # It has forgotten the key, and has confirmed that.
        case "V":
            proves = 1
        case "F":
            proves = FORGOTTEN
        case "D":
            pass
        case _:
            proves = int(order[1:])
    return follower._replace(
        channel=channel._replace(orders=(*channel.orders, order), unconfirmed=(*channel.unconfirmed, proves))
    )


def is_settled(follower: Follower) -> bool:
    """Return whether the worker has confirmed everything that it was sent."""
    return follower.seen >= 0 and all(each == NOTHING_PROVED for each in follower.channel.unconfirmed)


def blocks(model: Model, follower: Follower, seq: int) -> bool:
    """Return whether an entry has to wait for the worker."""
    if model.has("acknowledge-unconfirmed") or not follower.attached:
        return False
    return follower.seen < seq and (follower.until > 0 and not model.has("hung-counts-as-dead"))


def renew(model: Model, state: State) -> Steps:
    """R2: renew, spread the entry if it came, then grant the lease to a worker that has confirmed it."""
    follower = state.follower
    if follower is None or state.rows[state.generation] is None:
        return
    place = 1 if is_committed(state) else 0
    if follower.lease == LEASE and follower.place == place:
        return
    is_new = place > follower.place or follower.hinted
    follower = follower._replace(lease=LEASE, lease_place=place, place=place, hinted=False)
    if follower.attached and model.has("grant-before-entries"):
        follower = send(follower, LEASE)
    if follower.attached and is_new:
        follower = send(follower, f"A{place}")
    yield "R2: the follower renews its lease", _granted(model, state._replace(follower=follower))


def read(model: Model, state: State) -> Steps:
    """R3: read the feed, and spread the entry."""
    follower = state.follower
    if follower is None or not is_committed(state) or follower.place == 1:
        return
    follower = follower._replace(place=1, hinted=False)
    if follower.attached:
        follower = send(follower, "A1")
    yield "R3: the follower reads the entry", state._replace(follower=follower)


def hint(model: Model, state: State) -> Steps:
    """R3: a hint announces the entry; have it forgotten."""
    follower = state.follower
    if follower is None or not is_committed(state) or follower.place == 1 or follower.hinted:
        return
    follower = follower._replace(hinted=True)
    if follower.attached:
        follower = send(follower, "F")
    yield "R3: the follower has the key forgotten because of a hint", state._replace(follower=follower)


def follow_hint(model: Model, state: State) -> Steps:
    """R3: acknowledge the hinted entry when all have forgotten it."""
    follower = state.follower
    if follower is None or not follower.hinted:
        return
    waits = follower.attached and not is_settled(follower) and follower.until > 0
    if waits and not model.has("hint-acknowledged-early"):
        return
    follower = follower._replace(hinted=False, place=1, acknowledged=1)
    if follower.attached:
        follower = send(follower, "V")
    yield (
        "R3: the follower acknowledges the hinted entry",
        _granted(model, _applied(state._replace(follower=follower), 1)),
    )


def lose_answer(model: Model, state: State) -> Steps:
    """R3: the hinted entry is acknowledged, but the follower does not hear of it."""
    follower = state.follower
    if follower is not None and follower.hinted and (not follower.attached or is_settled(follower)):
        yield "R3: the answer to an acknowledgement is lost", _applied(state, 1)


def read_behind(model: Model, state: State) -> Steps:
    """R3: the follower reads the feed on a node that is behind. That does not take a hint back."""
    follower = state.follower
    if follower is None or not follower.hinted or not model.has("read-takes-hint-back"):
        return
    follower = follower._replace(hinted=False)
    if follower.attached:
        follower = send(follower, f"A{follower.place}")
    yield "the follower takes the hint back", state._replace(follower=follower)


def acknowledge(model: Model, state: State) -> Steps:
    """R10: acknowledge the entry when the worker has confirmed it, or its lease is over."""
    follower = state.follower
    if follower is None or follower.place < 1 or follower.acknowledged == 1:
        return
    if not blocks(model, follower, 1):
        yield (
            "R10: the follower acknowledges the entry",
            _applied(state._replace(follower=follower._replace(acknowledged=1)), 1),
        )


def _applied(state: State, seq: int) -> State:
    rows = list(state.rows)
    row = rows[state.generation]
    if row is not None:
        rows[state.generation] = Row(max(row.applied, seq))
    return state._replace(rows=(rows[0], rows[1]))


def _granted(model: Model, state: State) -> State:
    """Grant the lease of the last renewal, if the worker has confirmed all entries up to it."""
    follower = state.follower
    if follower is None or not follower.attached or follower.lease <= follower.until:
        return state
    if follower.seen >= follower.lease_place or model.has("grant-unconfirmed"):
        return state._replace(follower=send(follower, follower.lease))
    return state


def confirm(model: Model, state: State) -> Steps:
    """R10: a confirmation arrives at the follower."""
    follower = state.follower
    if follower is None or not follower.channel.carried:
        return
    channel = follower.channel
    proved = [each for each in channel.unconfirmed[: channel.carried] if each >= 0]
    follower = follower._replace(
        seen=max([follower.seen, *proved]),
        channel=channel._replace(unconfirmed=channel.unconfirmed[channel.carried :], carried=0),
    )
    yield "R10: the worker's confirmation arrives", _granted(model, state._replace(follower=follower))


def attach(model: Model, state: State) -> Steps:
    """R10: bring a worker to the place of the follower: from where it is, or with an empty memory."""
    follower, worker = state.follower, state.worker
    if follower is None or follower.attached:
        return
    follower = follower._replace(attached=True, seen=-1, until=worker.lease, channel=NOTHING)
    known = 0 <= worker.place <= follower.place
    if model.has("no-catch-up") and known:
        follower = follower._replace(seen=follower.place)
    else:
        follower = send(follower, f"{'A' if known else 'S'}{follower.place}")
        if known and worker.place == follower.place == 0 and model.has("no-catch-up"):
            follower = follower._replace(seen=0)
    if follower.hinted and not model.has("newcomer-without-hint"):
        follower = send(follower, "F")
    after = state._replace(follower=follower)
    if model.has("removed-when-attached"):
        after = after._replace(awaited=False)
    yield "R10: the worker attaches", _granted(model, after)


# The successor.


def die(model: Model, state: State) -> Steps:
    """R11: the follower dies. What it sent still arrives."""
    if not model.successor or state.generation or state.follower is None:
        return
    orders = state.follower.channel.orders if state.follower.attached else ()
    for number in range(len(orders) + 1):
        worker = state.worker
        for order in orders[:number]:
            worker = carried_out(model, worker, order)
        yield (
            f"the follower dies; {number} of its orders were still carried out",
            state._replace(follower=None, generation=1, worker=worker, over=LEASE, awaited=True),
        )


def succeed(model: Model, state: State) -> Steps:
    """R1, R11: the successor registers, and starts at the end of the feed. The old registration stays."""
    if state.generation and state.follower is None and state.rows[1] is None:
        place = 1 if is_committed(state) else 0
        first = None if model.has("removed-at-once") else state.rows[0]
        yield (
            f"R11: the successor registers at place {place}",
            state._replace(rows=(first, Row(place)), follower=_started(place)._replace(acknowledged=place)),
        )


def register_again(model: Model, state: State) -> Steps:
    """R1, R11: the follower has lost its registration or its place, and starts again under another id."""
    follower = state.follower
    if not model.again or state.generation or follower is None:
        return
    place = 1 if is_committed(state) else 0
    channel = follower.channel
    # What was confirmed before the new start does not count.
    before = tuple(NOTHING_PROVED for _ in channel.unconfirmed)
    follower = follower._replace(
        place=place,
        acknowledged=place,
        lease=0,
        lease_place=0,
        hinted=False,
        seen=-1,
        channel=channel._replace(unconfirmed=before),
    )
    if follower.attached:
        if not model.has("start-without-drop"):
            follower = send(follower, "D")
        follower = send(follower, f"S{place}")
    first = None if model.has("former-removed-at-once") else state.rows[0]
    yield (
        f"R11: the follower registers again at place {place}",
        state._replace(rows=(first, Row(place)), generation=1, follower=follower, over=LEASE, awaited=True),
    )


def remove(model: Model, state: State) -> Steps:
    """R11: remove the old registration when the worker has confirmed, or all its leases are over."""
    follower = state.follower
    if not state.generation or follower is None or state.rows[0] is None:
        return
    settled = follower.attached and is_settled(follower)
    if settled or not state.over or not state.awaited:
        yield (
            "R11: the successor removes the old registration",
            state._replace(rows=(None, state.rows[1]), awaited=False),
        )


# The worker.


def carried_out(model: Model, worker: Worker, order: Order) -> Worker:
    """Return the worker after an order."""
    if isinstance(order, int):
        return worker._replace(lease=max(worker.lease, order))
    match order[0]:
        case "S":
            place = int(order[1:])
            return worker._replace(place=place, forgotten=place, memory="", fill="")
        case "A" if int(order[1:]) > worker.place:
            return worker._replace(place=1, forgotten=1, memory="", fill="")
        case "A":
            return worker._replace(forgotten=worker.place)
        case "F":
            return worker._replace(forgotten=1, memory="", fill="")
        case "D":
            return worker._replace(memory="", fill="", lease=0)
        case _:
            return worker._replace(place=1, forgotten=1)


def _carried(channel: Channel) -> Channel:
    """Return the channel when one more order was carried out, without confirmations that prove nothing."""
    number = channel.carried + 1
    proofs = tuple(each for each in channel.unconfirmed[:number] if each != NOTHING_PROVED)
    return channel._replace(carried=len(proofs), unconfirmed=(*proofs, *channel.unconfirmed[number:]))


def obey(model: Model, state: State) -> Steps:
    """R10: carry out the next order."""
    follower = state.follower
    if follower is None or not follower.attached or not follower.channel.orders:
        return
    channel = follower.channel
    order, *rest = channel.orders
    yield (
        f"R10: the worker carries out {order}",
        state._replace(
            worker=carried_out(model, state.worker, order),
            follower=follower._replace(channel=_carried(channel._replace(orders=tuple(rest)))),
        ),
    )


def end_worker(model: Model, state: State) -> Steps:
    """The worker dies, or gives up its lease and then the channel; another one takes its place."""
    if state.worker == FRESH:
        return
    lease = state.worker.lease if model.has("closed-before-the-lease") else 0
    worker = FRESH._replace(lease=lease, memory=state.worker.memory if lease else "")
    follower = state.follower
    if follower is not None:
        follower = follower._replace(attached=False, seen=-1, until=0, channel=NOTHING)
    yield (
        "the worker ends, and another one starts",
        state._replace(worker=worker, follower=follower, awaited=False),
    )


def fill_read(model: Model, state: State) -> Steps:
    """R5: a fill reads the key, perhaps from a node that is behind."""
    worker = state.worker
    if worker.fill or worker.memory or worker.place < 0:
        return
    for place in range(2 if is_committed(state) else 1):
        yield (
            f"R5: a fill reads the key at place {place}",
            state._replace(
                worker=worker._replace(
                    fill="REVOKED" if place else "VALID", fill_since=worker.forgotten, fill_place=place
                )
            ),
        )


def fill_end(model: Model, state: State) -> Steps:
    """R5: what was read is remembered if it is not too old, and the worker has applied what it contains."""
    worker = state.worker
    if not worker.fill or worker.fill_place > worker.place:
        return
    kept = worker.fill if worker.fill_place >= worker.fill_since and worker.fill == "VALID" else ""
    yield "R5: the fill ends", state._replace(worker=worker._replace(fill="", memory=kept))


def verify(model: Model, state: State) -> Steps:
    """R4: a verification that was invoked after OK finds the key in memory, and the lease held."""
    if state.answered and state.worker.memory == "VALID" and state.worker.lease:
        yield "R4: after that OK, the worker answers VALID", state._replace(accepted=True)


STEPS: tuple[Callable[[Model, State], Steps], ...] = (
    commit,
    answer,
    tick,
    renew,
    read,
    hint,
    follow_hint,
    lose_answer,
    read_behind,
    acknowledge,
    confirm,
    attach,
    die,
    succeed,
    register_again,
    remove,
    obey,
    end_worker,
    fill_read,
    fill_end,
    verify,
)
