"""Two deployments behind deploy/envoy/owners.yaml: a call goes where its credential was issued."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.conftest import Client, Clock, Service, new_database, serving
from tests.e2e.process import free_port
from tests.gateway.conftest import new_directory
from tests.gateway.proxies import NoProxyError, Proxy, program, started
from tests.rpc.refusal import refused

pytestmark = pytest.mark.slow

_BRANDS = ("one", "two")
_FILE = "deploy/envoy/owners.yaml"


@dataclass
class Router:
    """Envoy before a deployment for each brand."""

    services: dict[str, Service]
    channel: grpc.aio.Channel

    def admin(self, brand: str) -> Client:
        """Return the administrator of a deployment, who calls through Envoy."""
        return Client(self.channel, self.services[brand].admin_key)


@pytest_asyncio.fixture
async def router(
    checkout: Path, reachable_dir: Path, postgres: DevPostgres, unique: str, clock: Clock
) -> AsyncIterator[Router]:
    async with AsyncExitStack() as stack:
        services = {}
        for brand in _BRANDS:
            url = await stack.enter_async_context(new_database(postgres, f"{unique}_{brand}"))
            services[brand] = await stack.enter_async_context(serving(url, clock, brand=brand))
        ports = {
            port: services[brand].address.rpartition(":")[2]
            for brand, port in zip(_BRANDS, ("50061", "50062"), strict=True)
        }
        address = await stack.enter_async_context(_envoy(checkout, new_directory(reachable_dir), ports))
        yield Router(services, await stack.enter_async_context(grpc.aio.insecure_channel(address)))


@asynccontextmanager
async def _envoy(checkout: Path, directory: Path, ports: dict[str, str]) -> AsyncIterator[str]:
    """Run Envoy with the file of deploy/, in which only ports differ; yield its address."""
    try:
        binary = str(program(checkout, "envoy"))
    except NoProxyError as reason:
        pytest.skip(str(reason))
    listen = free_port()
    text = (checkout / _FILE).read_text("utf-8")
    for old, new in {"50050": str(listen), **ports}.items():
        text, count = re.subn(rf"port_value: {old}\b", f"port_value: {new}", text)
        assert count == 1, old
    file = directory / "owners.yaml"
    file.write_text(text)
    command = [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    async with started(command, Proxy("envoy", listen, directory)):
        yield f"127.0.0.1:{listen}"


async def test_a_call_goes_where_its_credential_was_issued(router: Router) -> None:
    """Keys, their own calls, and sessions; each deployment knows only its own."""
    for brand, other in zip(_BRANDS, reversed(_BRANDS), strict=True):
        admin = router.admin(brand)
        made = await admin.CreateKey(owner_id=f"{brand}-owner", display_name="x", scopes=["keys:self"])
        assert made.key_string.startswith(f"{brand}_live_")
        assert (await router.services[brand].admin.GetKey(key_id=made.key.key_id)).owner_id
        with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
            await router.services[other].admin.GetKey(key_id=made.key.key_id)
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        # The key of a verifier of the other deployment leads there, where this key is unknown.
        assert not (await router.admin(other).VerifyKey(key_string=made.key_string)).valid
        # The owner's own call, without any key of the platform.
        await Client(router.channel, made.key_string).RevokeSelf()
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid
        opened = await admin.CreateSession(owner_id="alice")
        assert opened.session_token.startswith(f"{brand}_session_")


@pytest.mark.parametrize(
    "value",
    ["", "three_live_x", "Bearer three_live_x", "Bearer xone_live_x", "Bearer one_live_", "Basic b25lOng="],
)
async def test_a_credential_of_nobody_reaches_no_deployment(router: Router, value: str) -> None:
    """Envoy answers, as authsvc would: UNAUTHENTICATED."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await Client(router.channel, None, authorization=value).ListKeys(owner_id="acme")
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "brand" in str(error.value.details())


@pytest.mark.parametrize("brand", _BRANDS)
async def test_callers_without_a_credential_name_the_deployment(router: Router, brand: str) -> None:
    """They come to authsvc, which refuses them."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await Client(router.channel, None, x_authsvc_deployment=brand).ListKeys(owner_id="acme")
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "brand" not in str(error.value.details())
