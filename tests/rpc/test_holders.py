"""HolderService: what clients that verify by themselves are told (R12 to R15 in docs/revocation.md)."""

import asyncio

import pytest

from tests.conftest import Service
from tests.rpc.following import following


async def test_a_revocation_waits_until_the_client_has_confirmed(service: Service) -> None:
    """It is told at once, and RevokeKey answers when it has forgotten the key."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
    async with following(service.address, service.admin_key) as client:
        joined = await client.join()
        assert joined.lease.ToTimedelta().total_seconds() == 5
        held = await client.hold(made.key_string)
        assert held.credential.credential_id == made.key.key_id
        assert (await client.renew()).lease.ToTimedelta().total_seconds() == pytest.approx(5, abs=0.01)
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
        forget = await client.read("forget")
        assert forget.key_prefixes == [made.key.key_prefix]
        done, _ = await asyncio.wait([revoking], timeout=0.5)
        assert not done
        await client.confirm(forget)
        await revoking
