"""Clients that may show a certificate, and need not (AUTHSVC_TLS_CLIENT_AUTH=optional)."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from authsvc.config.settings import ConfigError, Settings
from authsvc.config.transport import check_transport
from tests.certificates import Authority
from tests.conftest import Client, Clock, serving
from tests.rpc.conftest import authority, files
from tests.rpc.refusal import refused
from tests.rpc.secure import Files, Secure

__all__ = ["authority", "files"]

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_CALLERS = '[[caller]]\nsubject = "CN=orders"\nowner_id = "acme"\nscopes = ["keys:verify"]\n'


@pytest.fixture
async def optional(
    database_url: str, clock: Clock, authority: Authority, files: Files, tmp_path: Path
) -> AsyncIterator[Secure]:
    """A service that takes certificates, with one caller of that kind."""
    callers = tmp_path / "callers.toml"
    callers.write_text(_CALLERS)
    async with serving(
        database_url,
        clock,
        transport="lane",
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
        tls_client_auth="optional",
        callers=callers,
    ) as service:
        yield Secure(service, authority, files)


async def test_a_client_without_a_certificate(optional: Secure) -> None:
    """It needs a key, and is told so."""
    async with optional.channel() as channel:
        assert await Client(channel, optional.service.admin_key).ListKeys(owner_id="acme") is not None
        with refused(_UNAUTHENTICATED, "CREDENTIAL_MISSING"):
            await Client(channel, None).VerifyKey(key_string="x")


async def test_a_client_with_a_certificate(optional: Secure) -> None:
    """It is the caller of its certificate, or is told that this is not listed."""
    async with optional.channel(optional.authority.issue("CN=orders")) as channel:
        assert not (await Client(channel, None).VerifyKey(key_string="x")).valid
    async with optional.channel(optional.authority.issue("CN=nobody")) as channel:
        with refused(_UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"):
            await Client(channel, None).VerifyKey(key_string="x")


async def test_a_certificate_of_another_authority(optional: Secure) -> None:
    """It is refused in the handshake, also if the client has a good key."""
    other = Authority("Another CA").issue("CN=orders")
    async with optional.channel(other) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Client(channel, optional.service.admin_key).ListKeys(owner_id="acme")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_certificate_one_may_be_anonymous(
    database_url: str, clock: Clock, authority: Authority, files: Files, tmp_path: Path
) -> None:
    """Where that is allowed. A certificate that is not listed does not make its client anonymous."""
    callers = tmp_path / "callers.toml"
    callers.write_text(_CALLERS)
    async with serving(
        database_url,
        clock,
        transport="lane",
        tls_cert=files.cert,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
        tls_client_auth="optional",
        callers=callers,
        anonymous_scopes=("keys:verify",),
    ) as service:
        secure = Secure(service, authority, files)
        async with secure.channel() as channel:
            assert not (await Client(channel, None).VerifyKey(key_string="x")).valid
        async with secure.channel(authority.issue("CN=nobody")) as channel:
            with refused(_UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"):
                await Client(channel, None).VerifyKey(key_string="x")


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"tls_client_auth": "optional"}, "AUTHSVC_TLS_CLIENT_CA"),
        ({"tls_client_auth": "optional", "transport": "grpcio"}, "AUTHSVC_TRANSPORT=lane"),
    ],
)
def test_what_does_not_fit_together(given: dict[str, str], remedy: str) -> None:
    """The error names the setting and what to do."""
    with pytest.raises(ConfigError, match=remedy) as caught:
        check_transport(Settings(**given))  # type: ignore[arg-type]
    assert "AUTHSVC_TLS_CLIENT_AUTH: " in str(caught.value)
