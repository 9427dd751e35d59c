"""Scenarios in which R17 matters: something is created while a cascade ends its creator.

As in `authority_course`, a creation waits for the end of acme's audit chain. The creators belong to the
platform, whose end is in another chain.
"""

import asyncio
from collections.abc import Collection
from typing import Any
from unittest import mock

from google.protobuf.duration_pb2 import Duration

from authsvc.revocation.descendants import Descendants
from authsvc.v1 import resources_pb2
from tests.faults.authority_course import Course, over
from tests.faults.caller_history import Cascade

_REVOKED = resources_pb2.KEY_STATE_REVOKED


async def a_key_is_created_under_a_cascade(going: Course) -> None:
    """By the key itself, which has created nothing before."""
    root = await _creator(going)
    await _under_way(going, root, root)


async def a_descendant_creates_under_a_cascade(going: Course, *, is_known: bool = True) -> None:
    """By a key that it has created; unless this `is_known`, after the first read of the cascade."""
    root = await _creator(going)
    child = await _creator(going, root)
    if is_known:
        await _under_way(going, root, child)
        return
    find, reads = Descendants.find, 0

    async def nothing_at_first(*given: Any) -> Collection[str]:
        nonlocal reads
        reads += 1
        return () if reads == 1 else await find(*given)

    with mock.patch.object(Descendants, "find", nothing_at_first):
        await _under_way(going, root, child)


async def a_creator_ends_by_schedule_under_a_cascade(going: Course) -> None:
    """It has begun to create in time, and its time is over when the cascade reads it."""
    root = await _creator(going)
    child = await _creator(going, root)
    await going.service.admin.RevokeKey(key_id=child.key.key_id, revoke_in=Duration(seconds=60))
    await _under_way(going, root, child, seconds=120)


async def _creator(going: Course, by: Any = None) -> Any:
    calls = going.service.admin if by is None else going.service.as_caller(by.key_string)
    return await calls.CreateKey(owner_id="authsvc", display_name="creator", scopes=["full_access"])


async def _under_way(going: Course, root: Any, creator: Any, *, seconds: float = 0) -> None:
    """A creation waits for acme's chain; the cascade is answered, or waits for the creation."""
    creating_by = going.service.as_caller(creator.key_string)
    async with going.chain("acme") as acme:
        creating = asyncio.ensure_future(creating_by.CreateKey(owner_id="acme", display_name="created"))
        await acme.waited_for(1)
        going.service.clock.advance(seconds=seconds)
        ending = asyncio.ensure_future(going.service.admin.RevokeKey(key_id=root.key.key_id, cascade=True))
        await acme.waited_for(2, ending)
    await ending
    answered = going.now()
    await over(creating)
    found = [
        key
        for owner in ("acme", "authsvc")
        for key in (await going.service.admin.ListKeys(owner_id=owner)).keys
        if key.creator_id in (root.key.key_id, creator.key.key_id)
    ]
    alive = frozenset(key.key_id for key in found if key.state != _REVOKED)
    going.history.cascades.append(Cascade(root.key.key_id, "the worker", float(answered), alive))
