"""A proxy's own key, in the check over HTTP."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Clock, Service, serving
from tests.gateway.client import get_http1
from tests.rpc.test_revoke import make

SCOPES = ("keys:verify", "sessions:verify")


@pytest.fixture
async def http(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    async with serving(
        database_url, clock, http_listen="127.0.0.1:0", anonymous_scopes=",".join(SCOPES)
    ) as service:
        yield service


async def test_an_empty_key_is_nobodys(http: Service, caplog: pytest.LogCaptureFixture) -> None:
    """An empty key does not make the caller anonymous; beside a valid one it is ignored."""
    own = ("x-authsvc-key", (await make(http, "authsvc", scopes=SCOPES)).key_string)
    asked = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/"),
        ("authorization", f"Bearer {(await make(http)).key_string}"),
    ]

    async def status(*keys: tuple[str, str]) -> int:
        return (await get_http1(http.app.http_port, "/check", [*keys, *asked])).status

    assert await status() == 200
    for empty in (("x-authsvc-key", ""), ("x-authsvc-key", " ")):
        caplog.clear()
        assert await status(empty) == 500
        assert "CREDENTIAL_MISSING" in caplog.text
        assert await status(empty, own) == 200
        assert await status(own, empty) == 200
    assert await status(own, own) == 500
