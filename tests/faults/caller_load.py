"""Callers that make changes through several workers at once, while their authority is revoked."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.v1 import audit_service_pb2, owner_policy_service_pb2, resources_pb2
from tests.conftest import Client
from tests.faults.caller_history import Call, CallerHistory, Cascade, Look, Positions, Taken, Taking
from tests.faults.workers import Fleet, Worker

# The errors of a caller without permission; the last one when keys are disabled.
_GONE = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
_SCOPES = ["keys:write", "sessions:write", *(f"orders:{number}" for number in range(20))]
# Where nobody is.
_ELSEWHERE = "203.0.113.0/24"
# Not the name of any RPC.
_BY_OTHERS = {Taking.EXPIRED, Taking.UNLISTED}
_REVOKED, _ENDED = resources_pb2.KEY_STATE_REVOKED, resources_pb2.SESSION_STATE_REVOKED
_SESSIONS = {Taking.SESSION_REVOKED, Taking.SESSIONS_REVOKED}
# The audit events of a revocation, if another caller did it.
# What the service records of a caller after the fact: that it was refused, and when a change was confirmed.
_NO_CHANGES = {
    audit_service_pb2.AUDIT_ACTION_REFUSED,
    audit_service_pb2.AUDIT_ACTION_CHANGE_CONFIRMED,
    audit_service_pb2.AUDIT_ACTION_KEY_ADDRESS_REFUSED,
}
_TAKES = {
    audit_service_pb2.AUDIT_ACTION_KEY_REVOKED,
    audit_service_pb2.AUDIT_ACTION_KEY_ROTATED,
    audit_service_pb2.AUDIT_ACTION_KEY_UPDATED,
    audit_service_pb2.AUDIT_ACTION_KEY_DISABLED,
    audit_service_pb2.AUDIT_ACTION_OWNER_KEYS_REVOKED,
    audit_service_pb2.AUDIT_ACTION_OWNER_POLICY_UPDATED,
    audit_service_pb2.AUDIT_ACTION_SESSION_REVOKED,
    audit_service_pb2.AUDIT_ACTION_OWNER_SESSIONS_REVOKED,
}
# How many calls of a caller are in flight at a time, and how many keys each of them may revoke.
_CALLS = 3
_VICTIMS = 2
_TIMEOUT = 4.0
# This many calls are answered OK before the authority is revoked, if they are within some seconds.
_LET = 5
_LET_WITHIN = 2.0


@dataclass(frozen=True)
class Caller:
    """A caller with its own owner, and the keys that it changes and revokes."""

    caller_id: str
    owner_id: str
    text: str = field(repr=False)
    targets: tuple[str, ...]
    victims: tuple[str, ...]
    # The key that created it, if a cascade of this ends it.
    root_id: str = ""


class CallerLoad:
    """Creates callers, makes calls for them, and revokes their authority, one after another."""

    def __init__(
        self, fleet: Fleet, history: CallerHistory, seed: int, changers: Callable[[], Sequence[Worker]]
    ) -> None:
        """Set the workers that changes may be sent to."""
        self._fleet = fleet
        self._changers = changers
        self._history = history
        self._random = random.Random(seed)  # noqa: S311
        self._owners = count(1)
        self._takings = cycle(taking for taking in Taking if taking not in _BY_OTHERS)
        self._ended: list[Caller] = []
        self._stopping = False

    async def go_on(self) -> None:
        """Continue until `stop`."""
        while not self._stopping:
            await self._one(next(self._takings))

    def stop(self) -> None:
        """Create no new callers, and let the current ones end soon."""
        self._stopping = True

    async def look_again(self, seconds: float) -> None:
        """Check at the end what all callers have created, as far as the time allows."""
        deadline = time.monotonic() + seconds
        for caller in self._ended:
            if time.monotonic() < deadline:
                await self._look(caller, deadline)

    async def _one(self, taking: Taking) -> None:
        caller = await self._make(taking)
        if caller is None:
            return
        over, let = asyncio.Event(), asyncio.Semaphore(0)
        calling = [asyncio.create_task(self._call(caller, number, over, let)) for number in range(_CALLS)]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LET_WITHIN):
                    for _ in range(self._random.randint(1, _LET)):
                        await let.acquire()
            if await self._take_away(caller, taking):
                await self._look(caller)
                over.set()
                await asyncio.gather(*calling)
                await self._look(caller)
                await self._read_chain(caller)
                self._ended.append(caller)
        finally:
            for task in calling:
                task.cancel()
            await asyncio.gather(*calling, return_exceptions=True)

    async def _make(self, taking: Taking) -> Caller | None:
        owner_id = f"caller-{next(self._owners)}"
        fields: dict[str, Any] = {"owner_id": owner_id, "scopes": _SCOPES}
        root = None
        if taking is Taking.CASCADED:
            root = await self._ask("CreateKey", display_name="root", **fields)
            if root is None:
                return None
            made = await self._ask("CreateKey", by=root.key_string, display_name="caller", **fields)
        elif taking in _SESSIONS:
            made = await self._ask("CreateSession", **fields)
        else:
            made = await self._ask("CreateKey", display_name="caller", **fields)
        other = {"owner_id": owner_id, "display_name": "other"}
        others = await asyncio.gather(
            *(self._ask("CreateKey", **other) for _ in range(_CALLS * (1 + _VICTIMS)))
        )
        if made is None or None in others:
            return None
        ids = tuple(other.key.key_id for other in others)
        if taking in _SESSIONS:
            caller_id, text = made.session.session_id, made.session_token
        else:
            caller_id, text = made.key.key_id, made.key_string
        root_id = root.key.key_id if root is not None else ""
        return Caller(caller_id, owner_id, text, ids[:_CALLS], ids[_CALLS:], root_id)

    async def _call(self, caller: Caller, number: int, over: asyncio.Event, let: asyncio.Semaphore) -> None:
        """Call one worker after another until the caller is refused."""
        victims = iter(caller.victims[number::_CALLS])
        for step in count(number):
            if self._stopping:
                return
            worker = await self._worker()
            if worker is None:
                return
            method, fields = self._what(caller, number, step, victims)
            is_late = over.is_set()
            invoked = time.monotonic()
            try:
                client = Client(worker.channel, caller.text)
                await getattr(client, method)(timeout=_TIMEOUT, **fields)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _GONE | _PASSING:
                    raise
                self._history.refused_after += is_late and error.code() in _GONE
                if is_late:
                    return
                # One more call follows, which was certainly invoked after the revocation.
                await (over.wait() if error.code() in _GONE else asyncio.sleep(0.02))
                continue
            told = Call(caller.caller_id, method, worker.name, invoked, time.monotonic())
            self._history.calls.append(told)
            let.release()

    def _what(
        self, caller: Caller, number: int, step: int, victims: Iterator[str]
    ) -> tuple[str, dict[str, Any]]:
        """Return the caller's next call: a key, a scope, a session, and sometimes a revocation."""
        if step % 4 == 0 and (victim := next(victims, None)):
            return "RevokeKey", {"key_id": victim}
        if step % 3 == 0:
            return "CreateKey", {"owner_id": caller.owner_id, "display_name": "by a caller"}
        if step % 3 == 1:
            return "CreateSession", {"owner_id": caller.owner_id}
        scopes = _SCOPES[2 : 3 + step % (len(_SCOPES) - 2)]
        return "UpdateKey", _scopes(caller.targets[number], scopes)

    async def _take_away(self, caller: Caller, taking: Taking) -> bool:
        """Revoke the authority, repeatedly until that is answered; return whether it was."""
        policy = owner_policy_service_pb2.OwnerPolicy(owner_id=caller.owner_id, keys_enabled=False)
        policy.allowed_networks.append(_ELSEWHERE)
        ways: dict[Taking, tuple[str, dict[str, Any]]] = {
            Taking.REVOKED: ("RevokeKey", {"key_id": caller.caller_id}),
            Taking.CASCADED: ("RevokeKey", {"key_id": caller.root_id, "cascade": True}),
            Taking.ROTATED: ("RotateKey", {"key_id": caller.caller_id}),
            Taking.REDUCED: ("UpdateKey", _scopes(caller.caller_id, [])),
            Taking.DISABLED: ("DisableKey", {"key_id": caller.caller_id}),
            Taking.CONFINED: ("UpdateKey", _confined(caller.caller_id)),
            Taking.OWNER_CONFINED: (
                "UpdateOwnerPolicy",
                {"policy": policy, "update_mask": FieldMask(paths=["allowed_networks"])},
            ),
            Taking.OWNER_REVOKED: ("BatchRevokeKeys", {"owner_id": caller.owner_id}),
            Taking.SWITCHED_OFF: (
                "UpdateOwnerPolicy",
                {"policy": policy, "update_mask": FieldMask(paths=["keys_enabled"])},
            ),
            Taking.SESSION_REVOKED: ("RevokeSession", {"session_id": caller.caller_id}),
            Taking.SESSIONS_REVOKED: ("RevokeAllSessions", {"owner_id": caller.owner_id}),
        }
        method, fields = ways[taking]
        while not self._stopping and (worker := await self._worker()) is not None:
            invoked = time.monotonic()
            try:
                await getattr(self._fleet.client(worker), method)(timeout=12.0, **fields)
            except grpc.aio.AioRpcError as error:
                # That nothing is left to do is equivalent to OK.
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    if error.code() not in _PASSING:
                        raise
                    await asyncio.sleep(0.02)
                    continue
            told = Taken(caller.caller_id, taking, worker.name, invoked, time.monotonic())
            self._history.taken.append(told)
            return True
        return False

    async def _look(self, caller: Caller, deadline: float = 0.0) -> None:
        """Record what a caller has created, according to lists."""
        invoked = time.monotonic()
        keys = await self._ask("ListKeys", deadline, owner_id=caller.owner_id, page_size=1000)
        sessions = await self._ask(
            "ListSessions", deadline, owner_id=caller.owner_id, include_ended=True, page_size=1000
        )
        if keys is None or sessions is None:
            return
        assert not keys.next_page_token
        assert not sessions.next_page_token
        if caller.root_id:
            alive = {key.key_id for key in keys.keys if key.state != _REVOKED and _is_by(caller, key)}
            alive |= {s.session_id for s in sessions.sessions if s.state != _ENDED and _is_by(caller, s)}
            cascade = Cascade(caller.root_id, "the last worker asked", invoked, frozenset(alive))
            self._history.cascades.append(cascade)
        made = {key.key_id for key in keys.keys if key.creator_id == caller.caller_id}
        made |= {s.session_id for s in sessions.sessions if s.creator_id == caller.caller_id}
        made |= {f"revocation of {k.key_id}" for k in keys.keys if k.revoker_id == caller.caller_id}
        made |= {f"{s} for {k.key_id}" for k in keys.keys if k.key_id in caller.targets for s in k.scopes}
        self._history.looks.append(Look(caller.caller_id, invoked, frozenset(made)))

    async def _read_chain(self, caller: Caller) -> None:
        """Record the positions of a caller's events and of its revocation in the audit chain of its owner."""
        page = await self._ask("ListAuditEvents", owner_id=caller.owner_id, page_size=1000)
        if page is None:
            return
        assert not page.next_page_token
        done = [
            event.position
            for event in page.events
            if event.actor_id == caller.caller_id and event.action not in _NO_CHANGES
        ]
        taken = min(
            event.position
            for event in page.events
            if event.actor_id != caller.caller_id
            and event.action in _TAKES
            and event.target_id in (caller.caller_id, caller.owner_id)
        )
        self._history.positions.append(Positions(caller.caller_id, taken, tuple(sorted(done))))

    async def _worker(self) -> Worker | None:
        """Return a worker that serves and may be sent changes; None when none is needed any more."""
        while not (workers := [worker for worker in self._changers() if worker.serves]):
            if self._stopping:
                return None
            await asyncio.sleep(0.02)
        return self._random.choice(workers)

    async def _ask(self, method: str, deadline: float = 0.0, /, by: str = "", **fields: Any) -> Any:
        """Return the response to a key, or to the administrator; None if the load ends first."""
        while deadline or not self._stopping:
            worker = await self._worker()
            if worker is None or 0 < deadline < time.monotonic():
                return None
            try:
                client = Client(worker.channel, by) if by else self._fleet.client(worker)
                return await getattr(client, method)(timeout=_TIMEOUT, **fields)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSING:
                    raise
            await asyncio.sleep(0.02)
        return None


def _is_by(caller: Caller, made: Any) -> bool:
    """Return whether a key or a session was created by a caller, or by the key that created the caller."""
    return made.creator_id in (caller.caller_id, caller.root_id)


def _confined(key_id: str) -> dict[str, Any]:
    key = resources_pb2.Key(key_id=key_id, allowed_networks=[_ELSEWHERE])
    return {"key": key, "update_mask": FieldMask(paths=["allowed_networks"])}


def _scopes(key_id: str, scopes: list[str]) -> dict[str, Any]:
    key = resources_pb2.Key(key_id=key_id, scopes=scopes)
    return {"key": key, "update_mask": FieldMask(paths=["scopes"])}
