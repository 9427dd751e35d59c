"""A client of a running authsvc, and directories for tests that start one as a process."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from authsvc.client import AuthClient
from tests.conftest import Service


@pytest_asyncio.fixture
async def client(service: Service) -> AsyncIterator[AuthClient]:
    """A client with a key that can only verify, with a deadline that suits a busy machine."""
    made = await service.admin.CreateKey(
        owner_id="authsvc", display_name="checker", scopes=["keys:verify", "sessions:verify"]
    )
    async with AuthClient(service.address, key=made.key_string, tls=None, deadline=30) as running:
        yield running


@pytest.fixture
def directory(reachable_dir: Path) -> Path:
    """A directory for this test in which PostgreSQL works even for root."""
    directory = Path(tempfile.mkdtemp(dir=reachable_dir))
    directory.chmod(0o755)
    return directory
