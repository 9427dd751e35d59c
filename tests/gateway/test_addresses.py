"""The address of a user, behind each proxy and behind another proxy in front of it."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.conftest import Clock, serving
from tests.gateway.client import Headers, get_http1
from tests.gateway.conftest import bearer, key, new_directory, protected
from tests.gateway.proxies import balancer

_USER = "127.0.0.9"
# What users claim about their address.
_MADE_UP: list[Headers] = [
    [],
    [("x-forwarded-for", "203.0.113.9")],
    [("x-forwarded-for", "203.0.113.9, 127.0.0.1")],
    [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "203.0.113.10")],
    [("x-forwarded-for", "")],
    [("x-forwarded-for", "rubbish,")],
]

_CHAINS = [
    ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
    ("198.51.100.1, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
    ("203.0.113.9:4711", "203.0.113.9"),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("2001:DB8::0001", "2001:db8::1"),
    ("[2001:db8::1]:4711", "2001:db8::1"),
    ("203.0.113.9, rubbish", "127.0.0.1"),
]


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_where_a_user_is(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:  # rules 23, 24
    """The address that connects to the proxy, or to a trusted one before it; users' claims are ignored."""
    trusted = (ip_network("127.0.0.1/32"),)
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0", trusted_proxies=trusted) as service,
        protected(service, proxy, checkout, new_directory(reachable_dir)) as behind,
        balancer(checkout, new_directory(reachable_dir), behind.proxy.port) as before,
    ):
        connected: list[str] = []
        behind.upstream.seen.clear()
        opened = await service.admin.CreateSession(owner_id="alice", ip_address="192.0.2.77")

        async def seen(port: int, said: Headers, address: str) -> tuple[str, str]:
            clock.advance(seconds=1)
            connected.append("127.0.0.1" if port == before.port else address)
            text, key_id = await key(service)
            for credential in (text, opened.session_token):
                shown = [*bearer(credential), *said]
                assert (await get_http1(port, "/other", shown, address=address)).status == 200
            await service.flush()
            last = await service.admin.GetKey(key_id=key_id)
            session = await service.admin.GetSession(session_id=opened.session.session_id)
            return last.last_use_ip, session.ip_address

        for said in _MADE_UP:
            assert await seen(behind.proxy.port, said, _USER) == (_USER, _USER), said
            assert await seen(before.port, said, _USER) == (_USER, _USER), said
        # What a trusted load balancer may report for users that come from elsewhere.
        for chain, kept in _CHAINS:
            said = [("x-forwarded-for", chain)]
            assert await seen(behind.proxy.port, said, "127.0.0.1") == (kept, kept), chain
        # The last address that the upstream gets is the one that connected to its proxy.
        assert [
            found.all("x-forwarded-for")[-1].split(",")[-1].strip() for found in behind.upstream.seen
        ] == [address for address in connected for _ in range(2)]
        # A user on the host of the trusted proxies has that host's address.
        assert await seen(before.port, [], "127.0.0.1") == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_a_proxy_that_is_not_trusted(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:  # rules 23, 24
    """Without trusted proxies, the address of a user is the one that connects."""
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, new_directory(reachable_dir)) as behind,
        balancer(checkout, new_directory(reachable_dir), behind.proxy.port) as before,
    ):
        text, key_id = await key(service)
        assert (await get_http1(before.port, "/other", bearer(text), address=_USER)).status == 200
        await service.flush()
        assert (await service.admin.GetKey(key_id=key_id)).last_use_ip == "127.0.0.1"
