"""Rule 28 over random sequences of calls: exactly one audit event for each change, in any order of calls.

Changes are read from the tables before and after each call, not from the answers of the service. So a
missing event, an extra one, or one of the wrong owner fails the test.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.audit.check import AuditCheck
from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Unauthenticated
from authsvc.model.scope import FULL_ACCESS
from authsvc.model.session import NewSession
from authsvc.v1 import audit_service_pb2 as pb
from tests.conftest import Clock, Service

OWNERS = ("acme", "alice", "bob")
# Whether a row changed by request; the last use and the last activity do not count.
_STATE = {
    "key": "SELECT key_id AS id, owner_id, version::text AS state FROM authsvc.keys",
    "session": "SELECT session_id AS id, owner_id, revoke_time::text AS state FROM authsvc.sessions",
    "policy": "SELECT owner_id AS id, owner_id, version::text AS state FROM authsvc.owner_policies",
    "end": "SELECT owner_id || epoch AS id, owner_id, '' AS state FROM authsvc.session_ends",
}
_REFUSALS = {"FAILED_PRECONDITION", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "INVALID_ARGUMENT"}


@dataclass
class Courses:
    """What all sequences on a service share."""

    service: Service
    connection: Any
    number: int = 0
    done: Counter[str] = field(default_factory=Counter)
    events: int = 0

    async def state(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return the owner and the state of every row."""
        return {
            (kind, row["id"]): (row["owner_id"], row["state"])
            for kind, query in _STATE.items()
            for row in await self.connection.fetch(query)
        }

    async def recorded(self) -> Counter[tuple[str, str, str]]:
        """Return the number of events by action, owner and target, without refusals."""
        rows = await self.connection.fetch(
            "SELECT action, owner_id, target_id FROM authsvc.audit_events WHERE action <> 'REFUSED'"
        )
        return Counter((row["action"], row["owner_id"], row["target_id"]) for row in rows)


class Course:
    """Random calls about owners of its own; compares the changes with the recorded events."""

    def __init__(self, courses: Courses, choose: random.Random) -> None:
        courses.number += 1
        self.courses = courses
        self.choose = choose
        self.owners = [f"{owner}-{courses.number}" for owner in OWNERS]
        self.keys: list[str] = []
        self.sessions: list[str] = []

    async def run(self, steps: int, clock: Clock) -> None:
        """Make this many calls, and check after each that its events match its changes."""
        before, recorded = await self.courses.state(), await self.courses.recorded()
        for _ in range(steps):
            clock.advance(seconds=self.choose.choice([0, 1, 600]))
            method, fields, at_once = self.call()
            try:
                answer = await getattr(self.courses.service.admin, method)(**fields)
            except grpc.aio.AioRpcError as error:
                assert error.code().name in _REFUSALS, error  # noqa: PT017
                answer = None
            after, now = await self.courses.state(), await self.courses.recorded()
            changed = {key: row for key, row in after.items() if before.get(key) != row}
            changed |= {key: row for key, row in before.items() if key not in after}
            self.learn(answer)
            self.compare(method, fields, changed, now - recorded, known=set(before), at_once=at_once)
            before, recorded = after, now

    def compare(
        self,
        method: str,
        fields: dict[str, Any],
        changed: dict[tuple[str, str], tuple[str, str]],
        left: Counter[tuple[str, str, str]],
        *,
        known: set[tuple[str, str]],
        at_once: bool,
    ) -> None:
        """Compare the events of a call with the rows that it changed."""
        self.courses.done[method] += bool(changed)
        self.courses.events += left.total()
        told = (method, fields, changed, left)
        if method == "RotateKey" and changed:
            # Two rows change: the replaced key, which the event is about, and its successor.
            assert len(changed) == 2, told
            [((action, owner_id, target_id), count)] = left.items()
            assert (action, count, ("key", target_id) in known) == ("KEY_ROTATED", 1, True), told
            assert {row[0] for row in changed.values()} == {owner_id}, told
        elif at_once and changed:
            [((_, owner_id, target_id), count)] = left.items()
            assert count == 1, told
            assert {row[0] for row in changed.values()} == {owner_id} == {target_id}, told
        else:
            assert {(owner, target): count for (_, owner, target), count in left.items()} == {
                (owner, key[1]): 1 for key, (owner, _) in changed.items()
            }, told

    def call(self) -> tuple[str, dict[str, Any], bool]:
        """Return an RPC, its fields, and whether it changes everything of an owner at once."""
        pick, owner = self.choose, self.choose.choice(self.owners)
        key = pick.choice(self.keys or ["key_none"])
        several = pick.sample(self.keys, min(len(self.keys), pick.randint(1, 4))) or ["key_none"]
        session = pick.choice(self.sessions or ["ses_none"])
        calls: list[tuple[int, str, dict[str, Any], bool]] = [
            (8, "CreateKey", {"owner_id": owner, "display_name": "x",
                             "request_id": pick.choice(["", "a"])}, False),
            (6, "CreateSession", {"owner_id": owner}, False),
            (4, "UpdateKey", {"key": {"key_id": key, "etag": pick.choice(["", "", "no"]),
                                      "description": pick.choice(["", "a"])},
                              "update_mask": {"paths": ["description"]}}, False),
            (4, "RotateKey", {"key_id": key, "grace_period": {"seconds": pick.choice([0, 3600])}}, False),
            (4, "RevokeKey", {"key_id": key, "revoke_in": {"seconds": pick.choice([0, 0, 3600])}}, False),
            (3, "BatchRevokeKeys", {"key_ids": several}, False),
            (1, "BatchRevokeKeys", {"owner_id": owner}, True),
            (4, "DeleteKey", {"key_id": key}, False),
            (4, "BatchDeleteKeys", {"key_ids": several}, False),
            (4, "RevokeSession", {"session_id": session}, False),
            (1, "RevokeAllSessions", {"owner_id": owner}, True),
            (1, "UpdateOwnerPolicy", {"policy": {"owner_id": owner, "max_active_keys": pick.choice([0, 9])},
                                      "update_mask": {"paths": ["max_active_keys"]}}, False),
            (1, "GetKey", {"key_id": key}, False),
            (1, "ListAuditEvents", {"owner_id": owner}, False),
        ]  # fmt: skip
        [(_, method, fields, at_once)] = pick.choices(calls, [weight for weight, *_ in calls])
        return method, fields, at_once

    def learn(self, answer: Any) -> None:
        for known, kind, name in ((self.keys, "key", "key_id"), (self.sessions, "session", "session_id")):
            if answer is not None and kind in answer.DESCRIPTOR.fields_by_name:
                known.append(getattr(getattr(answer, kind), name))
                del known[:-40]  # few, so that each one changes more often


@pytest_asyncio.fixture
async def courses(service: Service, database_url: str) -> AsyncIterator[Courses]:
    """In the end each method has changed something, and all chains are intact."""
    connection = await asyncpg.connect(database_url)
    try:
        yield (courses := Courses(service, connection))
        assert len(courses.done) >= 11
        assert {name for name, done in courses.done.items() if not done} == {"GetKey", "ListAuditEvents"}
        # Plus the event of the administrator's key. Events of refusals are written once a minute.
        refused = "SELECT count(*) FROM authsvc.audit_events WHERE action = 'REFUSED'"
        assert await whole(service) == courses.events + 1 + await connection.fetchval(refused)
    finally:
        await connection.close()


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(choose=st.randoms(use_true_random=False))
async def test_one_event_for_each_change(
    courses: Courses, clock: Clock, choose: random.Random
) -> None:  # rule 28
    """Thousands of calls: changes and events agree after each call, and the chains are intact."""
    await Course(courses, choose).run(40, clock)


async def whole(service: Service) -> int:
    """Verify all chains; return the number of their events."""
    check = AuditCheck(service.app.database, on_fault=lambda fault: pytest.fail(str(fault)))
    await check.run()
    return check.events


async def test_changes_at_once_over_several_owners(service: Service, clock: Clock) -> None:  # rule 28
    """Batches over owners in any order, whole owners, sign-ins: no deadlock, and each change is recorded."""
    keys = [
        (await service.admin.CreateKey(owner_id=owner, display_name="x")).key.key_id
        for _ in range(12)
        for owner in OWNERS
    ]
    choose = random.Random(1)  # noqa: S311 - any sequence will do

    async def change(number: int) -> None:
        owner = choose.choice(OWNERS)
        match number % 6:
            case 0:
                await service.admin.BatchRevokeKeys(key_ids=choose.sample(keys, 9))
            case 1:
                await service.admin.BatchRevokeKeys(owner_id=owner)
            case 2:
                await service.admin.RevokeAllSessions(owner_id=owner)
            case 3:
                await service.admin.CreateKey(owner_id=owner, display_name="x")
            case _:
                await service.admin.CreateSession(owner_id=owner)

    await asyncio.gather(*(change(number) for number in range(240)))
    counted: Counter[int] = Counter()
    for owner in OWNERS:
        found = (await service.admin.ListAuditEvents(owner_id=owner, page_size=1000)).events
        assert [event.position for event in found] == list(range(len(found), 0, -1))
        counted.update(event.action for event in found)
    assert counted[pb.AUDIT_ACTION_KEY_CREATED] == len(keys) + 40
    assert counted[pb.AUDIT_ACTION_SESSION_CREATED] == 80
    assert await whole(service) == sum(counted.values()) + 1


async def test_who_is_revoked_meanwhile_leaves_no_event(service: Service) -> None:  # rule 28
    """A session whose creator is gone is not created or recorded; concurrent ones are."""
    gone = Caller("key_gone", "acme", (FULL_ACCESS,), CredentialKind.KEY)
    new = NewSession(owner_id="acme")
    create = service.app.sessions.create
    first, refusal, second = await asyncio.gather(
        create(BOOTSTRAP, new), create(gone, new), create(BOOTSTRAP, new), return_exceptions=True
    )
    assert isinstance(refusal, Unauthenticated)
    found = (await service.admin.ListAuditEvents(owner_id="acme")).events
    assert not isinstance(first, BaseException)
    assert not isinstance(second, BaseException)
    assert {event.target_id for event in found} == {first[0].session_id, second[0].session_id}
    assert await whole(service) == 3
