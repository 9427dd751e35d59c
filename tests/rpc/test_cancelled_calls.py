"""Calls that their clients give up, at many points: the log has nothing to say of them."""

import asyncio
import logging
from collections.abc import Awaitable
from itertools import count
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Client, Service

# Seconds after which a call is given up: while it is read, locks, writes, commits, and waits for workers.
_STEP, _STEPS = 0.0007, 40


async def _given_up(call: Awaitable[Any], seconds: float) -> bool:
    """Give a call up after a time; return whether it was answered before."""
    calling = asyncio.ensure_future(call)
    await asyncio.wait([calling], timeout=seconds)
    is_answered = not calling.cancel()
    await asyncio.wait([calling])
    return is_answered


async def _calls(admin: Client, made: Any, number: int) -> list[Awaitable[Any]]:
    key_id = made.key.key_id
    return [
        admin.CreateKey(owner_id="acme", display_name=f"new {number}", scopes=["a:b"]),
        admin.UpdateKey(
            key={"key_id": key_id, "display_name": f"name {number}"},
            update_mask=FieldMask(paths=["display_name"]),
        ),
        admin.ListKeys(owner_id="acme"),
        admin.VerifyKey(key_string=made.key_string),
        admin.CreateSession(owner_id="acme"),
        admin.ListAuditEvents(owner_id="acme"),
        admin.RotateKey(key_id=key_id),
        admin.RevokeKey(key_id=key_id),
        admin.DeleteKey(key_id=key_id),
    ]


async def test_a_cancelled_call_leaves_no_line(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Of any level that operators look at, whatever the call does at that moment."""
    admin = service.admin
    caplog.set_level(logging.WARNING)
    answered = []
    for number in range(_STEPS):
        made = await admin.CreateKey(owner_id="acme", display_name=f"key {number}", scopes=["a:b"])
        calls = await _calls(admin, made, number)
        answered += await asyncio.gather(*(_given_up(call, number * _STEP) for call in calls))
    assert not all(answered), "no call was given up"
    # All connections are as they should be.
    await asyncio.gather(*(admin.ListKeys(owner_id="acme") for _ in range(20)))
    assert [(record.name, record.getMessage()) for record in caplog.records] == []


async def test_a_transaction_that_was_left_open(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """It is rolled back before the next caller gets the connection, and the log says nothing."""
    caplog.set_level(logging.WARNING)
    database = service.app.database
    for attempt in count():
        async with database.connection() as connection:
            if attempt == 1:
                assert not connection.is_in_transaction()
                break
            await connection.execute("BEGIN; CREATE TABLE left_open ()")
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass('left_open')") is None
    assert [(record.name, record.getMessage()) for record in caplog.records] == []
