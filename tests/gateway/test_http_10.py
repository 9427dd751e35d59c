"""HTTP/1.0 clients, such as an nginx with default settings, in front of each proxy."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Clock, serving
from tests.gateway.client import get_http1, read_answer
from tests.gateway.conftest import bearer, key, new_directory, protected
from tests.gateway.proxies import balancer, uncommented


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_a_client_of_http_10(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """It is checked and served, also without a Host header; Envoy must be configured for that."""
    change = partial(uncommented, first="http_protocol_options:") if proxy == "envoy" else str
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, new_directory(reachable_dir), change=change) as behind,
        balancer(checkout, new_directory(reachable_dir), behind.proxy.port, "1.0") as before,
    ):
        text, _ = await key(service)
        assert (await get_http1(before.port, "/other", bearer(text))).status == 200
        assert (await get_http1(before.port, "/other")).status == 401

        async def get(credential: str) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", behind.proxy.port)
            writer.write(b"GET /other HTTP/1.0\r\nauthorization: Bearer %s\r\n\r\n" % credential.encode())
            answer = await read_answer(reader)
            writer.close()
            return answer.status

        assert [await get(text), await get("rubbish")] == [200, 401]
