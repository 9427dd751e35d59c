"""Which role and database a URL leads to."""

import os
from pathlib import Path

import pytest

from authsvc.store.hosts import InvalidUrlError
from authsvc.store.login import Login, login_of


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("postgresql://srv:secret@a,b:5433/data?sslmode=verify-full", {}, Login("srv", "data")),
        ("postgresql://my%20role@a/my%20data", {"PGUSER": "other"}, Login("my role", "my data")),
        ("postgresql://a?user=srv&database=data", {}, Login("srv", "data")),
        ("postgresql://a?user=srv&dbname=data", {}, Login("srv", "data")),
        ("postgresql:///data?host=/run/x&user=srv", {}, Login("srv", "data")),
        ("postgresql://a", {"PGUSER": "srv", "PGDATABASE": "data"}, Login("srv", "data")),
        ("postgresql://srv@a", {}, Login("srv", "srv")),
        ("postgresql://a/?user=srv", {"PGDATABASE": "data"}, Login("srv", "srv")),
        ("postgresql://a/data", {}, Login("", "data")),
        ("postgresql://a", {"PGUSER": ""}, Login("", "")),
        ("postgresql://a?service=mine", {}, Login("srv", "data")),
    ],
)
async def test_what_the_driver_reads(
    url: str,
    variables: dict[str, str],
    expected: Login,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The URL, its options, the service file and the environment; not the user of the operating system."""
    services = tmp_path / "services"
    services.write_text("[mine]\nuser=srv\ndbname=data\n")
    for name in ("PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert await login_of(url) == expected
    assert dict(os.environ) == before


async def test_a_url_that_the_driver_cannot_read() -> None:
    """The error holds no part of it."""
    with pytest.raises(InvalidUrlError) as caught:
        await login_of("postgresql://srv@a/data?secret")
    assert "secret" not in str(caught.value)
