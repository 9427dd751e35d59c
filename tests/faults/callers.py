"""What callers can do while their authority is revoked: `python -m tests.faults.callers [trials]`.

Everything is called over gRPC. Three workers serve one database. In a trial a caller repeats a call,
through all workers, until it is refused; meanwhile an administrator revokes its authority.
Others keep the end of the owner's audit chain busy, where changes wait longest. What existed when the
administrator was answered OK is compared with what exists when the caller's last call has ended.
"""

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2, owner_policy_service_pb2, resources_pb2
from tests.faults.lane import Call, Lane, answered, until_refused
from tests.faults.workers import Fleet, fleet

# The result of a trial: how many calls of the caller were answered OK, and how many changes came too late.
Found: TypeAlias = tuple[int, int]

# How many calls of a caller are in flight at a time, and how many of those that keep the chain busy.
_CALLS = 6
_BUSY = 6
_WORKERS = 3
# How many seconds callers wait at most for the revocation of their authority to begin.
_HEAD_START = 0.02
# How many trials of a kind run in parallel, each in its own lane.
_LANES = 2
_SCOPES = [f"orders:{number}" for number in range(40)]
_POLICY = owner_policy_service_pb2.OwnerPolicy


async def sessions_of_a_revoked_key(lane: Lane) -> Found:
    """CreateSession by a key that is revoked, and then all sessions are: none of its sessions is alive.

    It is one call, so that there may be no session yet when all are ended.
    """
    made = await lane.create_key("sessions:write")
    call = partial(lane.client(lane.trial, made.key_string).CreateSession, owner_id=lane.owner_id)
    for number in range(_WORKERS):
        await answered(partial(lane.client(number, lane.admin_key).VerifyKey, key_string=made.key_string))

    async def open_one() -> int:
        await asyncio.sleep(_HEAD_START * lane.random.random())
        return await until_refused(call, most=1)

    opening = asyncio.create_task(open_one())
    await asyncio.sleep(_HEAD_START / 2 * lane.random.random())
    await lane.ask("RevokeKey", key_id=made.key.key_id)
    await lane.ask("RevokeAllSessions", owner_id=lane.owner_id)
    done = await opening
    late = await lane.sessions_by(made.key.key_id)
    await lane.ask("RevokeAllSessions", owner_id=lane.owner_id)
    return done, len(late)


async def keys_of_a_revoked_key(lane: Lane) -> Found:
    """CreateKey by a key that is revoked: the list of keys that it has created does not grow any more."""
    made = await lane.create_key("keys:write")
    calls = _calls(lane, made.key_string, "CreateKey", owner_id=lane.owner_id, display_name="Orders")
    return await lane.against(
        calls, partial(lane.ask, "RevokeKey", key_id=made.key.key_id), partial(lane.keys_by, made.key.key_id)
    )


async def scopes_by_a_revoked_key(lane: Lane) -> Found:
    """UpdateKey that adds a scope, by a key that is revoked or loses that scope: none is added later."""
    made = await lane.create_key("keys:write", *_SCOPES)
    targets = [(await lane.create_key()).key.key_id for _ in range(_CALLS)]

    def adding(number: int) -> Call:
        client, scopes = lane.client(number, made.key_string), cycle(_SCOPES)

        def call() -> Awaitable[Any]:
            # A different one each time: without the right to grant it, the caller is always refused.
            return client.UpdateKey(_update(targets[number], scopes=[next(scopes)]))

        return call

    async def look() -> Collection[object]:
        keys = await asyncio.gather(*(lane.ask("GetKey", key_id=key_id) for key_id in targets))
        return [(key.key_id, scope) for key in keys for scope in key.scopes]

    take_away = (
        partial(lane.ask, "RevokeKey", key_id=made.key.key_id)
        if lane.trial % 2
        else partial(lane.ask, "UpdateKey", _update(made.key.key_id, scopes=["keys:write"]))
    )
    return await lane.against([adding(number) for number in range(_CALLS)], take_away, look)


async def managers_opened_by_a_key(lane: Lane) -> Found:
    """CreateSession with keys:write by a key, until the policy says SESSIONS_ONLY: none is created later."""
    made = await lane.create_key("sessions:write", "keys:write")
    calls = _calls(lane, made.key_string, "CreateSession", owner_id=lane.owner_id, scopes=["keys:write"])
    found = await lane.against(
        calls,
        partial(_set_policy, lane, key_managers=owner_policy_service_pb2.KEY_MANAGERS_SESSIONS_ONLY),
        partial(lane.sessions_by, made.key.key_id),
    )
    await _set_policy(lane, key_managers=owner_policy_service_pb2.KEY_MANAGERS_ANY)
    await lane.ask("RevokeAllSessions", owner_id=lane.owner_id)
    return found


async def what_a_cascade_leaves(lane: Lane) -> Found:
    """A key, and one that it created, create keys and sessions until a cascade ends both: none is left."""
    root = await lane.create_key("keys:write", "sessions:write")
    by_root = partial(lane.client(lane.trial, root.key_string).CreateKey, owner_id=lane.owner_id)
    child = await answered(partial(by_root, display_name="child", scopes=["keys:write", "sessions:write"]))
    creators = root, child

    async def look() -> Collection[object]:
        """Return nothing: whatever was there when the cascade was answered is compared, too."""
        return ()

    async def alive() -> list[str]:
        ids = {each.key.key_id for each in creators}
        found = [key for each in ids for key in await lane.keys_by(each, is_alive=True)]
        return found + [session for each in ids for session in await lane.sessions_by(each)]

    calls = [
        call
        for creator in creators
        for call in (
            *_calls(lane, creator.key_string, "CreateKey", owner_id=lane.owner_id, display_name="x")[:2],
            *_calls(lane, creator.key_string, "CreateSession", owner_id=lane.owner_id)[:2],
        )
    ]
    end = partial(lane.ask, "RevokeKey", key_id=root.key.key_id, cascade=True)
    done, _ = await lane.against(calls, end, look)
    return done, len(await alive())


async def keys_beyond_the_limit(lane: Lane) -> Found:
    """One active key is allowed; its revocation is postponed when it is due, while others are created."""
    if lane.trial == 0:
        await _set_policy(lane, max_active_keys=1)
    made = await lane.create_key()
    due = 0.02 + 0.02 * lane.random.random()
    begun = time.monotonic()
    await lane.ask("RevokeKey", key_id=made.key.key_id, revoke_in=_seconds(due))
    key_strings = [made.key_string]

    async def put_off(number: int) -> None:
        """Slightly before it is due, as well as the client can tell."""
        await asyncio.sleep(max(0.0, begun + due - time.monotonic() - 0.01 * lane.random.random()))
        client = lane.client(number, lane.admin_key)
        request = {"key_id": made.key.key_id, "revoke_in": _seconds(3600)}
        await _unless_forbidden(partial(client.RevokeKey, **request))

    async def create(number: int) -> None:
        """From when it is due until one exists."""
        client = lane.client(number, lane.admin_key)
        while time.monotonic() < begun + due + 0.1 and len(key_strings) == 1:
            told = await _unless_forbidden(
                partial(client.CreateKey, owner_id=lane.owner_id, display_name="Orders")
            )
            if told is not None:
                key_strings.append(told.key_string)

    await asyncio.gather(*(put_off(number) for number in range(3)), *(create(number) for number in range(3)))
    verdicts = [await lane.ask("VerifyKey", key_string=key_string) for key_string in key_strings]
    alive = sum(verdict.valid for verdict in verdicts)
    await lane.ask("BatchRevokeKeys", owner_id=lane.owner_id)
    return len(key_strings), max(0, alive - 1)


KINDS: dict[str, Callable[[Lane], Awaitable[Found]]] = {
    "CreateSession": sessions_of_a_revoked_key,
    "CreateKey": keys_of_a_revoked_key,
    "UpdateKey": scopes_by_a_revoked_key,
    "cascade": what_a_cascade_leaves,
    "SESSIONS_ONLY": managers_opened_by_a_key,
    "max_active_keys": keys_beyond_the_limit,
}


def _calls(lane: Lane, key_string: str, method: str, **fields: object) -> list[Call]:
    """Return the same call to each worker, and several times to some."""
    clients = [lane.client(number, key_string) for number in range(_CALLS)]
    return [partial(getattr(client, method), **fields) for client in clients]


def _update(key_id: str, **fields: Any) -> key_service_pb2.UpdateKeyRequest:
    key = resources_pb2.Key(key_id=key_id, **fields)
    return key_service_pb2.UpdateKeyRequest(key=key, update_mask=FieldMask(paths=list(fields)))


async def _set_policy(lane: Lane, **fields: Any) -> None:
    await lane.ask(
        "UpdateOwnerPolicy",
        policy=_POLICY(owner_id=lane.owner_id, **fields),
        update_mask=FieldMask(paths=list(fields)),
    )


def _seconds(seconds: float) -> Duration:
    return Duration(nanos=round(seconds * 1e9)) if seconds < 1 else Duration(seconds=round(seconds))


async def _unless_forbidden(call: Call) -> Any:
    """Return the response; None if the state does not allow the call."""
    try:
        return await answered(call)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
    return None


@dataclass
class Tally:
    """The totals of all trials of a kind."""

    kind: str
    trials: int = 0
    changes: int = 0
    broken: int = 0  # trials with violations
    violations: int = 0
    seconds: float = 0.0

    def row(self) -> str:
        """Return it as a row of the table."""
        numbers = f"{self.trials:>10}{self.changes:>10}{self.broken:>10}{self.violations:>12}"
        return f"{self.kind:<18}{numbers}{self.seconds:>10.0f}"


HEAD = f"{'kind':<18}{'trials':>10}{'changes':>10}{'broken':>10}{'violations':>12}{'seconds':>10}"


async def flood(on: Fleet, kind: str, trials: int) -> Tally:
    """Run this many trials of a kind, and return their totals."""
    tally, left, begun = Tally(kind), iter(range(trials)), time.monotonic()

    async def run(lane: Lane) -> None:
        for lane.trial, _ in enumerate(left):
            changes, violations = await KINDS[kind](lane)
            tally.trials += 1
            tally.changes += changes
            tally.broken += violations > 0
            tally.violations += violations

    async def in_a_lane(number: int) -> None:
        lane = Lane(on, f"{kind}-{number}".lower())
        async with lane.busy(await _busy_calls(lane, kind)):
            await run(lane)

    await asyncio.gather(*(in_a_lane(number) for number in range(min(_LANES, trials))))
    tally.seconds = time.monotonic() - begun
    return tally


async def _busy_calls(lane: Lane, kind: str) -> list[Call]:
    """Return calls that keep the end of the audit chain busy and do not affect the trials."""
    if kind == "max_active_keys":
        # Keys would count.
        session = {"owner_id": lane.owner_id, "scopes": ["orders:read"]}
        return [
            partial(lane.client(number, lane.admin_key).CreateSession, **session) for number in range(_BUSY)
        ]
    keys = [(await lane.create_key()).key.key_id for _ in range(_BUSY)]
    return [
        partial(lane.client(number, lane.admin_key).UpdateKey, _update(key_id, description="busy"))
        for number, key_id in enumerate(keys)
    ]


async def main(arguments: Iterable[str]) -> int:
    """Print the table; return 1 if there was a violation."""
    parser = ArgumentParser(prog="python -m tests.faults.callers", description=__doc__)
    parser.add_argument("trials", nargs="?", type=int, default=1000, help="of each kind")
    parser.add_argument("--only", choices=KINDS, action="append", help="a kind; may be given again")
    given = parser.parse_args(list(arguments))
    violations = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        async with DevPostgres(Path(place) / "postgres", settings={"max_connections": "200"}) as postgres:
            await migrate(postgres.url)
            async with fleet(Path(place), postgres.url, workers=_WORKERS, lease=5.0) as on:
                say(HEAD)
                for kind in given.only or KINDS:
                    tally = await flood(on, kind, given.trials)
                    violations += tally.violations
                    say(tally.row())
                say("\n".join(on.faults()))
    return min(violations, 1)


def say(line: str) -> None:
    """Write a line immediately."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
