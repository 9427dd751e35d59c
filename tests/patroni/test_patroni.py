"""Two events of `python -m tests.patroni`, once each: what was acknowledged survives, and all are back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.patroni.cluster import Cluster, cluster
from tests.patroni.lan import Unsupported
from tests.patroni.trial import trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_LEASE = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(reachable_dir: Path) -> AsyncIterator[Cluster]:
    """A healthy cluster."""
    directory = reachable_dir / "patroni"
    directory.mkdir()
    try:
        async with cluster(directory) as made:
            yield made
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("event", "through"), [("switchover", "haproxy"), ("kill-node", "hosts")])
async def test_what_was_acknowledged_survives(
    running: Cluster, tmp_path: Path, event: str, through: str
) -> None:
    """By a switchover, and when the primary's node is lost."""
    result = await trial(running, event, through, tmp_path / f"run-{event}", _LEASE)
    print(result)  # noqa: T201
    assert (result.lost, result.undone, result.accepted) == (0, 0, 0)
    assert result.is_right
    assert result.verifications > 500
    assert result.changes > 50
    assert result.created > 50
