"""A real gateway that introspects: Apache with mod_auth_openidc, as docs/introspection.md sets it up."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from authsvc.web.introspection import Introspection
from authsvc.web.rpcs import Rpcs
from tests.certificates import Authority, replace
from tests.client.webapp import serving_asgi
from tests.conftest import Service
from tests.e2e.process import free_port
from tests.gateway.proxies import Proxy, started
from tests.web.mounted import client_of, rpcs_of
from tests.web.test_oauth import GATEWAY

_MODULES = Path("/usr/lib/apache2/modules")
_NEEDED = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc")
_AROUND = """
ServerName localhost
ServerRoot {directory}
PidFile {directory}/pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/errors
Listen 127.0.0.1:{port}
User nobody
Group nogroup
DocumentRoot {directory}/pages
OIDCCABundlePath {directory}/ca.pem
{modules}
"""
_PLACES = {
    "https://authsvc.internal:8443/introspect": "https://127.0.0.1:{asked}/introspect",
    "/etc/authsvc/gateway.conf": "{directory}/gateway.conf",
}


@pytest.fixture(autouse=True)
def needed() -> None:
    """Skip the tests where there is no Apache."""
    if not (shutil.which("apache2", path="/usr/sbin") and (_MODULES / "mod_auth_openidc.so").exists()):
        pytest.skip("no Apache: apt-get install apache2-bin libapache2-mod-auth-openidc")


@pytest.fixture
def directory(reachable_dir: Path, unique: str) -> Path:
    """Apache's directory, with a page and the certificate of authsvc."""
    directory = reachable_dir / f"{unique}_apache"
    (directory / "pages").mkdir(parents=True)
    (directory / "pages/index.html").write_text("the upstream")
    authority = Authority()
    replace(directory / "ca.pem", authority.cert)
    authority.issue("CN=authsvc").write(directory / "tls.pem", directory / "tls.key")
    return directory


def configured(checkout: Path, directory: Path, asked: int, listen: int) -> str:
    """Return the configuration in the document, with the places of this test, and what it needs around."""
    text = (checkout / "docs/introspection.md").read_text("utf-8")
    (found,) = re.findall(r"```apache\n(.*?)```", text, re.DOTALL)
    for old, new in _PLACES.items():
        assert old in found
        found = found.replace(old, new.format(asked=asked, directory=directory))
    modules = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _NEEDED)
    return _AROUND.format(directory=directory, port=listen, modules=modules) + str(found)


@asynccontextmanager
async def gateway(rpcs: Rpcs, checkout: Path, directory: Path, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Run Apache in front of a page; yield a client of it."""
    (directory / "gateway.conf").write_text(f"OIDCOAuthClientSecret {key}\n")
    tls = {"ssl_certfile": directory / "tls.pem", "ssl_keyfile": directory / "tls.key"}
    listen = free_port()
    async with serving_asgi(Introspection(rpcs, client_of), lifespan="off", **tls) as asked:
        (directory / "conf").write_text(configured(checkout, directory, asked, listen))
        command = ["/usr/sbin/apache2", "-f", str(directory / "conf"), "-DFOREGROUND"]
        async with (
            started(command, Proxy("apache", listen, directory)),
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listen}", trust_env=False) as http,
        ):
            yield http


async def test_a_gateway(service: Service, checkout: Path, directory: Path) -> None:  # rules 15, 20, 22
    """It lets valid tokens through, and asks for each request, so that none works after its revocation."""
    admin = service.admin
    own = await admin.CreateKey(owner_id="authsvc", display_name="Gateway", scopes=GATEWAY)

    async def key(*scopes: str, **fields: object) -> tuple[str, str]:
        made = await admin.CreateKey(owner_id="acme", display_name="Orders", scopes=scopes, **fields)
        return made.key_string, made.key.key_id

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(gateway(rpcs_of(service), checkout, directory, own.key_string))

        async def status(token: str) -> int:
            return (await http.get("/index.html", headers={"authorization": f"Bearer {token}"})).status_code

        # The time of the service stands still, and Apache's does not.
        forever, everything = await key("orders:read", "orders:write"), await key("full_access")
        expiring = await key("orders:read", ttl={"seconds": 50 * 365 * 24 * 3600})
        other, _ = await key("orders:write", "reorders:read")
        session = await admin.CreateSession(owner_id="u-1", scopes=["orders:read"])
        assert (await http.get("/index.html")).status_code == 401
        assert [await status(text) for text in ("x", forever[0][:-1], other)] == [401] * 3
        for token, key_id in (forever, everything, expiring):
            assert [await status(token) for _ in range(2)] == [200, 200]
            await admin.RevokeKey(key_id=key_id)
            assert await status(token) == 401
        assert await status(session.session_token) == 200
        service.app.lease.end("this is a test")
        assert await status(session.session_token) == 401
