"""Envoy authenticates to authsvc with a client certificate instead of a key."""

import re
from pathlib import Path

from authsvc.model.caller import BOOTSTRAP
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.new_key import NewKey
from tests.certificates import Authority
from tests.conftest import Clock, serving
from tests.gateway.client import get_http1
from tests.gateway.conftest import bearer, new_directory, proxied
from tests.gateway.proxies import uncommented

_NEVER = ExpirationPreset.UNLIMITED
_CALLERS = """
[[caller]]
spiffe_id = "spiffe://example.org/gateway"
owner_id = "authsvc"
scopes = ["keys:verify", "sessions:verify"]
"""


def _by_certificate(text: str) -> str:
    """Do what the file says about TLS: enable its lines, and remove the key."""
    injector = re.search(
        r"        # Envoy sends its own key(.*\n)+?(?=        - name: \S+upstream_codec)", text
    )
    assert injector is not None
    return uncommented(text, "transport_socket:").replace(injector[0], "")


async def test_envoy_shows_a_certificate(
    database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """The caller that is listed for the certificate may ask; Envoy trusts only the configured authority."""
    directory, authority = new_directory(reachable_dir), Authority()
    authority.issue("CN=server").write(directory / "tls.pem", directory / "tls.key")
    (directory / "authsvc-ca.pem").write_bytes(authority.cert)
    (directory / "callers.toml").write_text(_CALLERS)
    authority.issue(uris=("spiffe://example.org/gateway",)).write(
        directory / "gateway.pem", directory / "gateway-key.pem"
    )
    async with serving(
        database_url,
        clock,
        tls_cert=directory / "tls.pem",
        tls_key=directory / "tls.key",
        tls_client_ca=directory / "authsvc-ca.pem",
        callers=directory / "callers.toml",
    ) as service:
        new = NewKey(owner_id="acme", display_name="x", scopes=("orders:read",), expiration=_NEVER)
        _, minted = await service.app.keys.create(BOOTSTRAP, new)
        ports = {"50051": service.app.port}
        async with proxied("envoy", checkout, directory, "", ports, change=_by_certificate) as (_, at):
            assert (await get_http1(at.port, "/orders", bearer(minted.text))).status == 200
            assert (await get_http1(at.port, "/orders", bearer("x"))).status == 401
            assert (await get_http1(at.port, "/orders", bearer(minted.text), "POST")).status == 403
