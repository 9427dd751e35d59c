"""Basic authentication in front of everything, as for a staging system, beside a credential of ours."""

from base64 import b64encode
from pathlib import Path

import pytest

from tests.conftest import Clock, serving
from tests.gateway.conftest import key, new_directory, protected


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_basic_is_not_looked_at_where_it_is_left_out(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """Only the key beside it is checked and removed; Envoy forwards Basic to the upstream."""
    wall = ("authorization", f"Basic {b64encode(b'staging:password').decode()}")
    places = "bearer,x-api-key"
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0", gateway_credentials=places) as service,
        protected(service, proxy, checkout, new_directory(reachable_dir)) as behind,
    ):
        good, key_id = await key(service)
        answer, seen = await behind.send("/other", [wall, ("x-api-key", good)])
        assert answer.status == 200
        assert seen is not None
        assert seen.all("x-auth-key-id") == [key_id]
        assert seen.all("x-api-key") == []
        assert seen.all("authorization") == ([wall[1]] if proxy == "envoy" else [])
        assert (await behind.send("/other", [wall, ("x-api-key", "rubbish")]))[0].status == 401
        assert (await behind.send("/other", [wall]))[0].status == 401
