"""Fixtures for tests of the transport: services with certificates."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.certificates import Authority, replace
from tests.conftest import Clock, both_transports, serving
from tests.rpc.secure import Files, Secure

pytest_generate_tests = both_transports


@pytest.fixture(autouse=True)
def over_each(transport: str) -> None:
    """Run all tests of this directory over each transport."""


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
