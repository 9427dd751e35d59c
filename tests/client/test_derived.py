"""The client verifies tokens that were derived from keys and sessions."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.client import AuthClient, BlockingAuthClient, CredentialType, Refused, Verdict, VerdictCode
from authsvc.keys.token_keys import new_token_key
from authsvc.v1.resources_pb2 import Credits, RateLimit
from tests.conftest import Clock, Service, serving
from tests.rpc.test_revoke import make

ORDERS = "https://orders.example"


@pytest.fixture
async def service(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    file = tmp_path / "token.key"
    file.write_text(new_token_key())
    async with serving(
        database_url, clock, token_keys_file=file, token_issuer="https://auth.example"
    ) as running:
        yield running


async def _derived(service: Service, credential: str) -> Any:
    return await service.as_caller(credential).DeriveToken(audience=ORDERS, scopes=["orders:read"])


async def test_a_token_of_a_key(service: Service, client: AuthClient) -> None:
    """The verdict names the key, and has the scopes of the token; RevokeKey ends the token."""
    made = await make(service, scopes=["orders:read", "tokens:derive"], annotations={"tier": "gold"})
    answer = await _derived(service, made.key_string)
    found = await client.verify_token(f" {answer.token}\n", ORDERS, "orders:read", "192.0.2.7")
    assert found == Verdict(
        code=VerdictCode.VALID,
        type=CredentialType.KEY,
        credential_id=made.key.key_id,
        owner_id="acme",
        scopes=("orders:read",),
        expire_time=answer.expire_time.ToDatetime(tzinfo=UTC),
        annotations={"tier": "gold"},
    )
    await service.flush()
    assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == "192.0.2.7"
    lacking = await client.verify_token(answer.token, ORDERS, any_of_scopes=["tokens:derive", "x"])
    assert lacking.code is VerdictCode.INSUFFICIENT_SCOPE
    assert await client.verify_token(answer.token, ORDERS, any_of_scopes=["orders:read", "x"])
    assert (await client.verify_token(answer.token, "other")).code is VerdictCode.NOT_FOUND
    await service.admin.RevokeKey(key_id=made.key.key_id)
    assert (await client.verify_token(answer.token, ORDERS)).code is VerdictCode.REVOKED


async def test_a_token_of_a_key_with_a_rate_limit(service: Service, client: AuthClient) -> None:
    """Each token takes from the limits of its key; a cost of 0 only asks."""
    limit = RateLimit(name="requests", limit=3, period=Duration(seconds=60))
    made = await make(service, scopes=["orders:read", "tokens:derive"], rate_limits=[limit])
    token = (await _derived(service, made.key_string)).token
    assert await client.verify_token(token, ORDERS, cost=0)
    assert await client.verify_token(token, ORDERS, cost=2)
    limited = await client.verify_token(token, ORDERS, cost=2)
    assert limited.code is VerdictCode.RATE_LIMITED
    assert limited.retry_after
    assert [(state.name, state.remaining) for state in limited.rate_limits] == [("requests", 1)]


async def test_a_token_of_a_key_with_credits(service: Service, client: AuthClient) -> None:
    made = await make(service, scopes=["orders:read", "tokens:derive"], credits=Credits(remaining=3))
    token = (await _derived(service, made.key_string)).token
    paid = await client.verify_token(token, ORDERS, cost=2)
    assert (paid.code, paid.credits_remaining) == (VerdictCode.VALID, 1)
    refused = await client.verify_token(token, ORDERS, cost=2)
    assert (refused.code, refused.credits_remaining) == (VerdictCode.CREDITS_EXHAUSTED, 1)


async def test_a_token_of_a_session(service: Service) -> None:
    """From code without an event loop."""
    session = await service.admin.CreateSession(owner_id="alice", scopes=["orders:read", "tokens:derive"])
    token = (await _derived(service, session.session_token)).token
    with BlockingAuthClient(service.address, key=service.admin_key, tls=None, deadline=30) as client:
        found = await asyncio.to_thread(client.verify_token, token, ORDERS, "orders:read")
        await asyncio.to_thread(client.close)
    assert (found.code, found.type) == (VerdictCode.VALID, CredentialType.SESSION)
    assert (found.credential_id, found.owner_id) == (session.session.session_id, "alice")


@pytest.mark.parametrize("text", ["", " \n", "x" * 20_000, "é", "\ud800"])
async def test_what_is_no_token_is_not_sent(service: Service, client: AuthClient, text: str) -> None:
    """It may not even be possible to send it."""
    before = client.hold_state.asked
    assert (await client.verify_token(text, ORDERS)).code is VerdictCode.NOT_FOUND
    assert client.hold_state.asked == before


async def test_other_texts_are_no_tokens(service: Service, client: AuthClient) -> None:
    """A key string is none, and neither is a token that was changed."""
    made = await make(service, scopes=["orders:read", "tokens:derive"])
    token = (await _derived(service, made.key_string)).token
    for text in ("x", made.key_string, token[:-2], "x" * 10_000):
        assert (await client.verify_token(text, ORDERS)).code is VerdictCode.NOT_FOUND
    with pytest.raises(Refused, match="audience"):
        await client.verify_token(token, "")
