"""Behind a load balancer, Envoy sees its address; authsvc believes what that one says of the client's."""

from ipaddress import IPv4Network
from pathlib import Path

from tests.conftest import Clock, serving
from tests.gateway.conftest import bearer, key, new_directory, protected


async def test_envoy_behind_a_load_balancer(
    database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:  # rules 23, 24
    """The client is whom the balancer names, and nobody further left, who may be made up."""
    # For who connects by loopback, Envoy names an address of the machine, which may be any.
    balancers = tuple(IPv4Network("0.0.0.0/0").address_exclude(IPv4Network("203.0.113.0/24")))
    async with (
        serving(database_url, clock, trusted_proxies=balancers) as service,
        protected(service, "envoy", checkout, new_directory(reachable_dir)) as behind,
    ):
        text, key_id = await key(service, "orders:read")
        forwarded = ("x-forwarded-for", "198.51.100.1, 203.0.113.9")
        answer, seen = await behind.send("/orders/1", [*bearer(text), forwarded])
        assert answer.status == 200
        assert seen is not None
        await service.flush()
        assert (await service.admin.GetKey(key_id=key_id)).last_use_ip == "203.0.113.9"
