"""Rules R9 and R17 as a state and its steps: what a caller does whose authority is being revoked.

There are a few calls, each of which is one transaction. It is authenticated, takes its locks one by one,
reads its authority, writes, takes the last locks (the ends of the audit
chain and of the feed), checks the clock and the file, commits, and is answered. Any call may
pause for any time between two steps, and may die before its commit. (The message that commits locks the
end of the feed and checks the clock, so in truth there are fewer pauses.)

The creation of a key is judged before it locks anything, by a policy that it reads for this, and so is a
revocation by one statement, by the policy and by the key that it revokes. Under its locks, the statement
compares what was judged with what is there, and does nothing if they differ.

A key may create another one, and a cascade revokes a key with its descendants. It reads them without locks,
locks them in the order of all, reads them again, and locks those that are new if they are free. If they are
not, it begins again.

The database is PostgreSQL at READ COMMITTED:

- A statement sees what was committed when it began. Waiting for a lock does not change that
  snapshot; only a row that the statement itself locks is read in its state after the wait.
- SHARED is FOR KEY SHARE, or a shared advisory lock; EXCLUSIVE is FOR UPDATE, or an exclusive
  advisory lock; UPDATE is the lock of a plain UPDATE on a row, and does not conflict with SHARED.
- Locks are released when the transaction ends. A request is granted if no holder conflicts with it. Otherwise
  it waits for holders that conflict, and for earlier requests that conflict. A cycle of these
  is a deadlock. (PostgreSQL resolves some of these cycles by itself; here, none may exist.)

What is revoked is a fact: "key a", "session s", "policy", "epoch" (all sessions that existed);
"key a, later" is a scheduled revocation. Its time passes, and the file of certificates is
changed, outside of the database and at any time. Neither can be locked, so the requirement is weaker. What
the clock forbids at the end of the last wait is not committed; nor what the file forbids when the change has
been made, before the wait for the end of the feed: a file is not read while all others wait.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

SHARED, UPDATE, EXCLUSIVE = "shared", "by UPDATE", "exclusively"
_COMPATIBLE = ({SHARED}, {SHARED, UPDATE})
_FEED = ("lock", "feed", EXCLUSIVE)
# The one order in which locks are taken. P is the platform, O its tenant.
ORDER = ("owner P", "owner O", "sessions of O", "row p", "row a", "row b", "row c", "row s")
# The row that holds a fact; others are in rows that no call locks.
_ROW = {"key a": "row a", "key a, later": "row a", "key b": "row b", "key c": "row c", "session s": "row s"}
# What forbids a call without a commit: what is checked, and the event.
CLOCK, FILE = "clock", "file"
_HAPPENS = {CLOCK: "the instant passes", FILE: "the certificate is taken off the file"}
REFUSED = -1


class Plan(NamedTuple):
    """One call. `own` is its credential's row; `after` are calls that were answered OK before it is made."""

    name: str
    own: str
    needs: tuple[str, ...]
    shared: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    then: tuple[tuple[str, str], ...] = (("audit", EXCLUSIVE), ("feed", EXCLUSIVE))
    looks_at: tuple[str, ...] = (CLOCK,)
    opens_session: bool = False
    ends_sessions: bool = False
    judged_first: bool = False
    creates: str = ""
    cascades: str = ""  # the key that is revoked with its descendants; `exclusive` has the rows of all
    after: tuple[int, ...] = ()


class Call(NamedTuple):
    """The progress of a call, and what it knows.

    `place` is the next step of its program, or REFUSED; `saw` the facts that were revoked in its snapshot;
    `epoch` and `found` what its writing statement saw of sessions. The rest is for the properties.
    `overdue`: what forbade it, the clock or the file, at the end of a wait. `overtaken`: after its
    caller had been read, all sessions were ended, or were reported as none.
    """

    place: int = 0
    saw: frozenset[str] = frozenset()
    epoch: int = 0
    found: bool = False
    overdue: frozenset[str] = frozenset()
    overtaken: bool = False
    # The descendants that a cascade has read, and those of them that it knew when it locked.
    descendants: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()


class Lock(NamedTuple):
    """A lock that a call holds or waits for."""

    thing: str
    mode: str
    call: int

    def conflicts(self, other: "Lock") -> bool:
        """Return whether two calls cannot hold these at once."""
        return (
            self.thing == other.thing
            and self.call != other.call
            and not any({self.mode, other.mode} <= modes for modes in _COMPATIBLE)
        )


class State(NamedTuple):
    """The whole state. `gone`, `sessions` (their epochs) and `made` (keys that were created) are committed.

    `queue` is in order of arrival.
    """

    calls: tuple[Call, ...]
    gone: frozenset[str]
    epoch: int
    sessions: frozenset[int]
    made: frozenset[str]
    passed: frozenset[str]
    held: frozenset[Lock]
    queue: tuple[Lock, ...]
    wrong: str


Steps = Iterator[tuple[str, State]]


@dataclass(frozen=True)
class Model:
    """Concurrent calls, and the rules that are broken."""

    name: str
    plans: tuple[Plan, ...]
    gone: frozenset[str] = frozenset()
    sessions: frozenset[int] = frozenset()
    made: frozenset[str] = frozenset()
    creators: tuple[tuple[str, str], ...] = ()  # a key that may be created, and its creator
    outside: frozenset[str] = frozenset()  # CLOCK: the time passes; FILE: the certificate is removed
    changes: frozenset[str] = frozenset()

    def has(self, change: str) -> bool:
        """Return whether a mutation is in force."""
        return change in self.changes

    def changed(self, *changes: str) -> Self:
        """Return this scenario with these changes."""
        return replace(self, changes=frozenset(changes))

    def initial(self) -> State:
        """Return the state in which no call has been made yet."""
        calls = tuple(Call() for _ in self.plans)
        nothing: frozenset[Lock] = frozenset()
        return State(calls, self.gone, 0, self.sessions, self.made, frozenset(), nothing, (), "")

    def descendants(self, key: str, made: frozenset[str]) -> frozenset[str]:
        """Return the keys that a key created, those that these created, and so on."""
        found: set[str] = set()
        while more := {k for k, by in self.creators if k in made and by in {key, *found}} - found:
            found |= more
        return frozenset(found)

    def successors(self, state: State) -> Steps:
        """Return every step that is possible."""
        for event in sorted(self.outside - state.passed):
            if event == FILE or "key a, later" in state.gone:
                yield _HAPPENS[event], state._replace(passed=state.passed | {event})
        for number, plan in enumerate(self.plans):
            steps = self.program(plan)
            call = state.calls[number]
            if call.place == REFUSED or call.place == len(steps):
                continue
            operation, *given = steps[call.place]
            for said, after in _OPERATIONS[operation](self, state, number, *given):
                yield f"{plan.name} {said}", after
            if 0 < call.place <= steps.index(("commit",)):
                yield f"{plan.name} dies", _ended(state, number, REFUSED)

    def program(self, plan: Plan) -> tuple[tuple[str, ...], ...]:
        """Return the steps of a call: by the rules, or with one of them broken."""
        locks: list[tuple[str, ...]] = [("lock", *lock) for lock in self._locks(plan)]
        read: list[tuple[str, ...]] = [("read",)]
        if plan.cascades:
            rows = {row: key for key, row in _ROW.items() if "later" not in key}
            locks = [
                ("lock-known", thing, rows[thing]) if mode == EXCLUSIVE else ("lock", thing, mode)
                for _, thing, mode in locks
            ]
            locks.insert(0, ("gather",))
            if not self.has("cascade-reads-once"):
                read += [("gather-again",), ("lock-new",)]
        if plan.judged_first:
            locks, read = [("snapshot",), *locks], [("compare",)]
            if self.has("compare-before-lock"):
                locks, read = [locks[0], *read, *locks[1:]], []
            elif self.has("never-compare") or (plan.takes and self.has("never-compare-the-key")):
                read = []
        elif self.has("read-before-lock"):
            locks, read = [*read, *locks], []
        elif self.has("read-and-lock-in-one-statement"):
            locks, read = [("snapshot",), *locks], [("read-snapshot",)]
        elif self.has("never-read-again"):
            read = []
        if self.has("lock-of-a-session-or-savepoint"):
            read.append(("release",))
        if plan.ends_sessions and self.has("nothing-to-do-without-lock"):
            locks.insert(0, ("glance",))
        if plan.opens_session or plan.ends_sessions:
            read.append(("write",))
        then: list[tuple[str, ...]] = [("lock", *lock) for lock in plan.then]
        if FILE in plan.looks_at and not self.has(f"no-look-at-{FILE}"):
            then.insert(then.index(_FEED), ("look", FILE))
        if CLOCK in plan.looks_at and not self.has(f"no-look-at-{CLOCK}"):
            # By the statement that has locked the end of the feed, and not before the message that does.
            then.insert(-1 if self.has("look-before-the-last-lock") else len(then), ("look", CLOCK))
        return (("authenticate",), *locks, *read, *then, ("commit",), ("answer",))

    def _locks(self, plan: Plan) -> list[tuple[str, str]]:
        modes = dict.fromkeys(plan.shared, SHARED) | dict.fromkeys(plan.exclusive, EXCLUSIVE)
        if self.has("no-lock") and not plan.takes:
            return []
        if self.has("revoker-without-lock") and plan.takes:
            # It locks what it changes anyway, by UPDATE, if it is a row.
            modes = {thing: UPDATE if mode == EXCLUSIVE else mode for thing, mode in modes.items()}
            modes = {thing: mode for thing, mode in modes.items() if mode != UPDATE or "row" in thing}
        if self.has("opening-shares-no-sessions") and plan.opens_session:
            modes.pop("sessions of O")
        things = sorted(modes, key=ORDER.index)
        if self.has("order-of-arrival"):
            things.sort(key=lambda thing: thing != plan.own)
        locks = [(thing, modes[thing]) for thing in things]
        if self.has("cascade-locks-as-it-finds") and plan.cascades:
            locks.sort(key=lambda each: each[0] in plan.exclusive and each[0] != _ROW[plan.cascades])
        if self.has("share-first") and plan.own in plan.exclusive:
            locks.insert(0, (plan.own, SHARED))
        return locks


# The steps of a call.


def authenticate(model: Model, state: State, number: int) -> Steps:
    """Authenticate the caller from memory, which is right at this moment and may be outdated later."""
    plan = model.plans[number]
    if any(state.calls[earlier].place != len(model.program(model.plans[earlier])) for earlier in plan.after):
        return
    if {key for key, _ in model.creators if key in plan.needs} - state.made:
        return  # It has not been created yet.
    if _lost(plan, state.gone) or _forbidden(plan, state.gone, state.passed):
        yield "is refused at once", _ended(state, number, REFUSED)
    else:
        yield "is authenticated", _next(state, number, saw=state.gone)


def lock(model: Model, state: State, number: int, thing: str, mode: str) -> Steps:
    """Take a lock, or wait for it."""
    asked = Lock(thing, mode, number)
    if not any(asked.conflicts(held) for held in state.held):
        queue = tuple(waiting for waiting in state.queue if waiting != asked)
        granted = state._replace(held=state.held | {asked}, queue=queue)
        waited = _waited(model, state, number, ("lock", thing, mode))
        yield f"locks {thing} {mode}", _next(granted, number, **waited)
    if asked not in state.queue and any(asked.conflicts(other) for other in (*state.held, *state.queue)):
        yield f"waits for {thing} {mode}", state._replace(queue=(*state.queue, asked))


def read(model: Model, state: State, number: int) -> Steps:
    """Read the caller's authority, in a statement of its own."""
    yield from _judge(model, state, number, state.gone)


def snapshot(model: Model, state: State, number: int) -> Steps:
    """Begin the statement that locks and reads."""
    yield "begins to lock and to read", _next(state, number, saw=state.gone)


def read_snapshot(model: Model, state: State, number: int) -> Steps:
    """End that statement: it sees the state at its beginning, and rows that it locked as they are now."""
    locked = {held.thing for held in state.held if held.call == number}
    fresh = {fact for fact in state.gone if _ROW.get(fact) in locked}
    yield from _judge(model, state, number, state.calls[number].saw | fresh)


def compare(model: Model, state: State, number: int) -> Steps:
    """Compare what was judged with what is there now; give up if that differs."""
    needs = set(model.plans[number].needs)
    if state.calls[number].saw & needs != state.gone & needs:
        yield "sees that what it was judged by has changed", _ended(state, number, REFUSED)
    else:
        yield from _judge(model, state, number, state.gone)


def gather(model: Model, state: State, number: int) -> Steps:
    """Read the descendants, before anything is locked."""
    found = model.descendants(model.plans[number].cascades, state.made)
    yield f"finds {_listed(found)}", _next(state, number, descendants=found, known=found)


def lock_known(model: Model, state: State, number: int, thing: str, key: str) -> Steps:
    """Lock the key, or a descendant that is known."""
    plan = model.plans[number]
    wanted = {plan.cascades}
    if not model.has("cascade-locks-only-the-key"):
        wanted |= state.calls[number].known
    if key in wanted:
        yield from lock(model, state, number, thing, EXCLUSIVE)
    else:
        yield f"passes {thing}", _next(state, number)


def gather_again(model: Model, state: State, number: int) -> Steps:
    """Read the descendants under the locks, in a later snapshot."""
    found = model.descendants(model.plans[number].cascades, state.made)
    yield f"finds {_listed(found)} again", _next(state, number, descendants=found)


def lock_new(model: Model, state: State, number: int) -> Steps:
    """Lock what is new if it is free, and read again; begin again if it is not free."""
    call = state.calls[number]
    new = sorted(call.descendants - call.known)
    steps = model.program(model.plans[number])
    if not new:
        yield "finds nothing new", _next(state, number)
        return
    asked = {Lock(_ROW[key], EXCLUSIVE, number) for key in new}
    if any(mine.conflicts(held) for mine in asked for held in state.held):
        if model.has("cascade-waits-for-what-is-new"):
            waiting = tuple(sorted(asked - set(state.queue)))
            if waiting:
                yield "waits for what is new", state._replace(queue=(*state.queue, *waiting))
            return
        yield "begins again", _ended(state, number, steps.index(("gather",)))
        return
    queue = tuple(waiting for waiting in state.queue if waiting not in asked)
    again = call._replace(place=steps.index(("gather-again",)), known=call.descendants)
    yield "locks what is new", _with(state._replace(held=state.held | asked, queue=queue), number, again)


def release(model: Model, state: State, number: int) -> Steps:
    """Break R9: release the locks before the commit."""
    kept = frozenset(held for held in state.held if held.call != number)
    yield "lets its locks go", _next(state._replace(held=kept), number)


def glance(model: Model, state: State, number: int) -> Steps:
    """Break R9: check whether there are sessions before anything is locked; continue only if there are."""
    if state.epoch in state.sessions:
        yield "sees sessions", _next(state, number)
    else:
        steps = model.program(model.plans[number])
        call = state.calls[number]._replace(place=steps.index(("look", CLOCK)))
        yield "sees no session", _with(state, number, call)


def write(model: Model, state: State, number: int) -> Steps:
    """Insert a session in the epoch that is seen, or find the sessions to end."""
    known = {"epoch": state.epoch, "found": state.epoch in state.sessions}
    said = "inserts a session" if model.plans[number].opens_session else "looks for sessions"
    yield said, _next(state, number, **known)


def look(model: Model, state: State, number: int, at: str) -> Steps:
    """Compare the times that were read with the clock, or read the file again."""
    if at in _forbidden(model.plans[number], state.calls[number].saw, state.passed):
        yield f"is too late by the {at}", _ended(state, number, REFUSED)
    else:
        yield f"is in order by the {at}", _next(state, number)


def commit(model: Model, state: State, number: int) -> Steps:
    """Make all changes visible at once, and release the locks."""
    plan, call = model.plans[number], state.calls[number]
    wrong, gone, epoch, sessions, calls = "", state.gone, state.epoch, state.sessions, list(state.calls)
    if _lost(plan, gone):
        wrong = f"{plan.name} commits after its authority was taken away"
    elif call.overdue:
        wrong = f"{plan.name} commits what the {' and the '.join(call.overdue)} forbade"
    if plan.opens_session:
        sessions |= {call.epoch}
        if call.overtaken and call.epoch == epoch:
            wrong = wrong or "a session outlives the end of all, and was being opened before"
    if plan.ends_sessions:
        epoch += call.found
        if epoch in sessions:
            wrong = wrong or "a session outlives the end of all, and was there before"
        calls = [
            other._replace(overtaken=other.overtaken or _is_in_order(model, index, other))
            for index, other in enumerate(calls)
        ]
    if not plan.ends_sessions or call.found:
        gone |= set(plan.takes) | call.descendants
    made = state.made | {plan.creates} if plan.creates else state.made
    if plan.cascades and model.descendants(plan.cascades, made) - gone:
        wrong = wrong or "a descendant outlives the cascade"
    after = state._replace(
        calls=tuple(calls), gone=gone, epoch=epoch, sessions=sessions, made=made, wrong=state.wrong or wrong
    )
    yield "commits", _ended(after, number, call.place + 1)


def answer(model: Model, state: State, number: int) -> Steps:
    """Answer OK; a revoker has waited for all workers by then."""
    yield "is answered OK", _next(state, number)


_OPERATIONS: dict[str, Callable[..., Steps]] = {
    "authenticate": authenticate,
    "lock": lock,
    "read": read,
    "snapshot": snapshot,
    "read-snapshot": read_snapshot,
    "compare": compare,
    "gather": gather,
    "lock-known": lock_known,
    "gather-again": gather_again,
    "lock-new": lock_new,
    "release": release,
    "glance": glance,
    "write": write,
    "look": look,
    "commit": commit,
    "answer": answer,
}


def _lost(plan: Plan, gone: frozenset[str]) -> bool:
    """Return whether the caller's authority was revoked, according to `gone`."""
    return any(fact in gone for fact in plan.needs)


def _forbidden(plan: Plan, gone: frozenset[str], passed: frozenset[str]) -> frozenset[str]:
    """Return what forbids the call, the clock or the file."""
    forbidding = passed
    if not any(f"{fact}, later" in gone for fact in plan.needs):
        forbidding -= {CLOCK}
    return forbidding & set(plan.looks_at)


def _judge(model: Model, state: State, number: int, saw: frozenset[str]) -> Steps:
    if _lost(model.plans[number], saw):
        yield "reads that its authority is gone", _ended(state, number, REFUSED)
    else:
        yield (
            "reads that it has its authority",
            _next(state, number, saw=saw, **_waited(model, state, number)),
        )


def _waited(model: Model, state: State, number: int, at: tuple[str, ...] = ()) -> dict[str, frozenset[str]]:
    """Record whether the clock or the file forbids the call, at the end of a wait."""
    overdue = _forbidden(model.plans[number], state.gone, state.passed)
    if at == _FEED:
        overdue = (overdue - {FILE}) | (state.calls[number].overdue & {FILE})
    return {"overdue": overdue}


def _is_in_order(model: Model, number: int, call: Call) -> bool:
    """Return whether a session is being created whose caller was read under its locks."""
    plan = model.plans[number]
    if not plan.opens_session or call.place == REFUSED:
        return False
    steps = model.program(plan)
    return steps.index(("write",)) <= call.place <= steps.index(("commit",))


def _listed(keys: frozenset[str]) -> str:
    return " and ".join(sorted(keys)) or "no descendant"


def _next(state: State, number: int, **known: object) -> State:
    call = state.calls[number]
    return _with(state, number, call._replace(place=call.place + 1, **known))  # type: ignore[arg-type]


def _ended(state: State, number: int, place: int) -> State:
    """End the transaction of a call: its locks are released, and what it knew does not matter any more."""
    held = frozenset(lock for lock in state.held if lock.call != number)
    queue = tuple(lock for lock in state.queue if lock.call != number)
    return _with(state._replace(held=held, queue=queue), number, Call(place))


def _with(state: State, number: int, call: Call) -> State:
    return state._replace(calls=(*state.calls[:number], call, *state.calls[number + 1 :]))


# What must never happen.


def broken(state: State) -> bool:
    """Return whether something was committed that R9 or R17 forbids."""
    return bool(state.wrong)


def deadlocked(state: State) -> bool:
    """Return whether calls wait for one another in a cycle."""
    waits_for: dict[int, set[int]] = {}
    for place, waiting in enumerate(state.queue):
        others = (*state.held, *state.queue[:place])
        waits_for[waiting.call] = {other.call for other in others if waiting.conflicts(other)}
    # A call that waits for no other one continues, and so do calls that wait only for such calls.
    while free := {call for call, others in waits_for.items() if not others & waits_for.keys()}:
        for call in free:
            del waits_for[call]
    return bool(waits_for)
