"""Fixtures for tests of the transport: services with certificates."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.certificates import Authority, replace
from tests.conftest import Clock, both_transports, serving
from tests.rpc.secure import Files, Secure

# About use cases, which are the same code behind each transport. They run over the default one. The access
# table and the hostile tenant make every call over both.
_OF_USE_CASES = {
    "account_page",
    "audit",
    "audit_course",
    "authority",
    "create",
    "credits",
    "last_administrator",
    "list",
    "networks",
    "pause",
    "platform",
    "policies",
    "policy_limits",
    "rate_limits",
    "revoke",
    "rotate",
    "rotation_status",
    "scopes",
    "sealed",
    "self_service",
    "sessions",
    "update",
    "usage",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run all tests of this directory over each transport, except those about use cases."""
    if metafunc.module.__name__.rpartition(".test_")[2] not in _OF_USE_CASES:
        both_transports(metafunc)


@pytest.fixture(autouse=True)
def over_one(transport: str) -> None:
    """Have each test run over a transport."""


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    """A certificate and key for the server, and the certificate authority of the clients."""
    files = Files(tmp_path)
    files.write(authority.issue("CN=server"))
    replace(files.client_ca, authority.cert)
    return files


@pytest.fixture
async def secure(
    database_url: str, clock: Clock, authority: Authority, files: Files
) -> AsyncIterator[Secure]:
    """A service that uses TLS and does not request client certificates."""
    async with serving(database_url, clock, tls_cert=files.cert, tls_key=files.key) as service:
        yield Secure(service, authority, files)


@pytest.fixture
async def mutual(
    database_url: str, clock: Clock, authority: Authority, files: Files
) -> AsyncIterator[Secure]:
    """A service that also requires client certificates."""
    async with serving(
        database_url, clock, tls_cert=files.cert, tls_key=files.key, tls_client_ca=files.client_ca
    ) as service:
        yield Secure(service, authority, files)
