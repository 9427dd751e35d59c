"""Which caller revokes whose authority while it is used, and R9 and R17 with one of their parts left out.

A, B and C are callers of the tenant O, by the keys a, b and c or the session s. P is the platform's
administrator.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.model.authority import (
    CLOCK,
    EXCLUSIVE,
    FILE,
    UPDATE,
    Model,
    Plan,
    State,
    broken,
    deadlocked,
)
from tests.faults.model.explore import Changed

# Calls that change something.
BY_KEY = Plan("a change by the key", "row a", needs=("key a", "policy"), shared=("owner O", "row a"))
CREATION = Plan(
    "CreateKey by the key",
    "row a",
    needs=("key a", "policy"),
    shared=("owner O", "row a"),
    then=(("audit", EXCLUSIVE),),
    judged_first=True,
)
BY_SESSION = Plan(
    "a change by the session",
    "row s",
    needs=("session s", "epoch"),
    shared=("owner O", "sessions of O", "row s"),
)
BY_CERTIFICATE = Plan(
    "a change by a certificate", "", needs=("policy",), shared=("owner O",), looks_at=(CLOCK, FILE)
)
OPENING = Plan(
    "CreateSession by the key",
    "row a",
    needs=("key a",),
    shared=("owner O", "sessions of O", "row a"),
    then=(("audit", EXCLUSIVE),),
    opens_session=True,
)
# Calls that revoke authority.
_P = Plan("", "row p", needs=(), shared=("owner P", "row p"))
REVOKE_KEY = _P._replace(
    name="RevokeKey", shared=("owner P", "owner O", "row p"), exclusive=("row a",), takes=("key a",)
)
SCHEDULE = REVOKE_KEY._replace(name="RevokeKey for later", takes=("key a, later",))
REVOKE_OWNER = _P._replace(
    name="BatchRevokeKeys of the owner",
    exclusive=("owner O",),
    takes=("key a", "key b"),
    then=(("row a", UPDATE), ("row b", UPDATE), *_P.then),
)
SWITCH_OFF = _P._replace(name="UpdateOwnerPolicy", exclusive=("owner O",), takes=("policy",))
REVOKE_SESSION = _P._replace(
    name="RevokeSession", shared=("owner P", "owner O", "row p"), exclusive=("row s",), takes=("session s",)
)
END_SESSIONS = _P._replace(
    name="RevokeAllSessions", exclusive=("sessions of O",), takes=("epoch",), ends_sessions=True
)
# Callers that revoke each other's authority, or their own.
REVOKE_SELF = Plan(
    "RevokeKey of a by A",
    "row a",
    needs=("key a",),
    shared=("owner O",),
    exclusive=("row a",),
    takes=("key a",),
)
A_REVOKES_B = REVOKE_SELF._replace(
    name="RevokeKey of b by A", shared=("owner O", "row a"), exclusive=("row b",), takes=("key b",)
)
B_REVOKES_A = A_REVOKES_B._replace(
    name="RevokeKey of a by B",
    own="row b",
    needs=("key b",),
    shared=("owner O", "row b"),
    exclusive=("row a",),
    takes=("key a",),
)
A_REVOKES_ALL = REVOKE_OWNER._replace(
    name="BatchRevokeKeys of the owner by A", own="row a", needs=("key a",), shared=("row a",)
)
B_REVOKES_ALL = A_REVOKES_ALL._replace(
    name="BatchRevokeKeys of the owner by B", own="row b", needs=("key b",), shared=("row b",)
)
# The same by one statement, which relies on the revoked key as it was read, too.
A_REVOKES_B_AT_ONCE = A_REVOKES_B._replace(
    name="RevokeKey of b by A, by one statement", needs=("key a", "policy", "key b"), judged_first=True
)
B_REVOKES_A_AT_ONCE = B_REVOKES_A._replace(
    name="RevokeKey of a by B, by one statement", needs=("key a", "policy", "key b"), judged_first=True
)
# Keys that create keys, and a revocation that ends all of them.
A_CREATES_B = CREATION._replace(name="CreateKey of b by A", creates="key b")
B_CREATES_C = CREATION._replace(
    name="CreateKey of c by B",
    own="row b",
    needs=("key b", "policy"),
    shared=("owner O", "row b"),
    creates="key c",
)
B_CREATES_A = B_CREATES_C._replace(name="CreateKey of a by B", creates="key a")
CASCADE = REVOKE_KEY._replace(
    name="RevokeKey of a with cascade", exclusive=("row a", "row b", "row c"), cascades="key a"
)
CASCADE_OF_B = CASCADE._replace(
    name="RevokeKey of b with cascade", exclusive=("row a", "row b"), takes=("key b",), cascades="key b"
)
_A_THEN_B = (("key b", "key a"), ("key c", "key b"))
_B_THEN_A = (("key a", "key b"),)

SIGNED_IN = frozenset({0})
REVOKED = Model("a key is revoked", (BY_KEY, REVOKE_KEY))
TWICE = Model("a key is revoked twice", (BY_KEY, REVOKE_KEY, REVOKE_KEY._replace(name="another RevokeKey")))
OWNER = Model("all keys are revoked", (BY_KEY, REVOKE_OWNER))
POLICY = Model("a policy is changed", (BY_KEY, SWITCH_OFF))
SCHEDULED = Model("a revocation is scheduled", (BY_KEY, SCHEDULE), outside=frozenset({CLOCK}))
EXPIRY = Model(
    "a key expires", (BY_KEY, REVOKE_KEY), gone=frozenset({"key a, later"}), outside=frozenset({CLOCK})
)
CERTIFICATE = Model("a certificate is taken off", (BY_CERTIFICATE, SWITCH_OFF), outside=frozenset({FILE}))
SESSION = Model("a session is revoked", (BY_SESSION, REVOKE_SESSION), sessions=SIGNED_IN)
EPOCH = Model("all sessions are revoked", (BY_SESSION, END_SESSIONS), sessions=SIGNED_IN)
OPENED = Model("a first session is opened", (OPENING, END_SESSIONS))
OPENED_MORE = Model("another session is opened", (OPENING, END_SESSIONS), sessions=SIGNED_IN)
OPENED_BY_REVOKED = Model(
    "its opener is revoked first", (OPENING, REVOKE_KEY, END_SESSIONS._replace(after=(1,)))
)
CREATED = Model("a key is created by one that is revoked", (CREATION, REVOKE_KEY))
CREATED_BY_POLICY = Model("a key is created and a policy is changed", (CREATION, SWITCH_OFF))
CREATED_IN_TIME = Model(
    "a key is created by one that expires",
    (CREATION, REVOKE_KEY),
    gone=frozenset({"key a, later"}),
    outside=frozenset({CLOCK}),
)
SELF = Model(
    "a key revokes itself twice", (REVOKE_SELF, REVOKE_SELF._replace(name="RevokeKey of a by A again"))
)
AT_ONCE = Model(
    "a key is revoked by one statement, and by another call", (A_REVOKES_B_AT_ONCE, B_REVOKES_A, REVOKE_KEY)
)
AT_ONCE_BY_POLICY = Model(
    "a key is revoked by one statement, and a policy is changed", (A_REVOKES_B_AT_ONCE, SWITCH_OFF)
)
AT_ONCE_IN_TIME = Model(
    "a key is revoked by one statement, by one that expires",
    (A_REVOKES_B_AT_ONCE, REVOKE_KEY),
    gone=frozenset({"key a, later"}),
    outside=frozenset({CLOCK}),
)
ONE_ANOTHER_AT_ONCE = Model(
    "two keys revoke each other by one statement", (A_REVOKES_B_AT_ONCE, B_REVOKES_A_AT_ONCE)
)
ONE_ANOTHER = Model("two keys revoke each other", (A_REVOKES_B, B_REVOKES_A))
EACH_ALL = Model("two keys revoke all", (A_REVOKES_ALL, B_REVOKES_ALL, BY_KEY))
ALL_AT_ONCE = Model("all of it at once", (OPENING, A_REVOKES_ALL, REVOKE_KEY, END_SESSIONS))
CASCADED = Model("a key is created under a cascade", (A_CREATES_B, CASCADE), creators=_A_THEN_B)
CASCADED_DEEP = Model(
    "keys create keys under a cascade", (A_CREATES_B, B_CREATES_C, CASCADE), creators=_A_THEN_B
)
CASCADED_TWICE = Model(
    "two cascades, and a key is created",
    (B_CREATES_C, CASCADE, CASCADE._replace(name="another cascade")),
    made=frozenset({"key b"}),
    creators=_A_THEN_B,
)
CASCADED_BACK = Model(
    "a key revokes its creator under a cascade",
    (A_REVOKES_B, CASCADE_OF_B),
    made=frozenset({"key a"}),
    creators=_B_THEN_A,
)
CASCADED_BACK_AT_ONCE = Model(
    "a new key revokes its creator under a cascade",
    (B_CREATES_A, A_REVOKES_B, CASCADE_OF_B),
    creators=_B_THEN_A,
)

# The minimum number of states of each scenario: fewer mean that a step does not happen any more.
FLOORS = {
    REVOKED: 120,
    TWICE: 1_500,
    OWNER: 110,
    POLICY: 100,
    SCHEDULED: 180,
    EXPIRY: 300,
    CERTIFICATE: 200,
    SESSION: 130,
    EPOCH: 120,
    OPENED: 130,
    OPENED_MORE: 140,
    OPENED_BY_REVOKED: 230,
    CREATED: 100,
    CREATED_BY_POLICY: 100,
    CREATED_IN_TIME: 200,
    SELF: 90,
    AT_ONCE: 1_700,
    AT_ONCE_BY_POLICY: 130,
    AT_ONCE_IN_TIME: 380,
    ONE_ANOTHER_AT_ONCE: 140,
    ONE_ANOTHER: 100,
    EACH_ALL: 750,
    ALL_AT_ONCE: 15_000,
    CASCADED: 190,
    CASCADED_DEEP: 700,
    CASCADED_TWICE: 3_500,
    CASCADED_BACK: 170,
    CASCADED_BACK_AT_ONCE: 650,
}


def any_violation(state: State) -> bool:
    """Return whether a state violates R9 or R17."""
    return broken(state) or deadlocked(state)


@dataclass(frozen=True)
class Variant(Changed[State]):
    """R9 or R17 without one of its parts; it commits a forbidden change unless another violation is named."""

    violated: Callable[[State], bool] = broken


# Each has a counterexample.
MUTANTS = {
    "no-lock": Variant(REVOKED, "a change locks nothing"),
    "read-before-lock": Variant(REVOKED, "the caller is read before the locks are there"),
    "read-and-lock-in-one-statement": Variant(POLICY, "one statement locks and reads: an old snapshot"),
    "never-read-again": Variant(REVOKED, "the caller is what it was when it was authenticated"),
    "revoker-without-lock": Variant(REVOKED, "a plain UPDATE revokes; FOR KEY SHARE does not hold it up"),
    "lock-of-a-session-or-savepoint": Variant(REVOKED, "the locks go before the commit"),
    "nothing-to-do-without-lock": Variant(OPENED, "who ends all sessions looks for some before it locks"),
    "opening-shares-no-sessions": Variant(OPENED, "who opens a session does not share the sessions' lock"),
    "no-look-at-clock": Variant(SCHEDULED, "nobody looks at the clock when the last wait is over"),
    "look-before-the-last-lock": Variant(
        SCHEDULED, "the clock is looked at before the end of the feed is locked"
    ),
    "never-compare": Variant(CREATED_BY_POLICY, "a key is created by the policy that it was judged by"),
    "compare-before-lock": Variant(CREATED, "what a key was judged by is compared before it is locked"),
    "never-compare-the-key": Variant(ONE_ANOTHER_AT_ONCE, "a key is revoked as it was read without a lock"),
    "no-look-at-file": Variant(CERTIFICATE, "nobody looks at the file when the last wait is over"),
    "order-of-arrival": Variant(ONE_ANOTHER, "everybody locks its own credential first", deadlocked),
    "cascade-reads-once": Variant(CASCADED, "what is read before the locks is all that is revoked"),
    "cascade-locks-only-the-key": Variant(CASCADED_DEEP, "descendants create while they are read"),
    "cascade-locks-as-it-finds": Variant(CASCADED_BACK, "a creator is locked before its key", deadlocked),
    "cascade-waits-for-what-is-new": Variant(
        CASCADED_BACK_AT_ONCE, "what is new is locked after the rest, with a wait", deadlocked
    ),
    "share-first": Variant(SELF, "who revokes itself shares its row, then locks it", deadlocked),
}

# PostgreSQL reads a row that a statement locks in its state after the wait, so one statement would suffice.
SPARE = {
    "read-and-lock-in-one-statement": Variant(REVOKED, "one statement locks and reads the row that it locks"),
}
