"""A checker that is down, slow or broken: no request gets through, and service resumes afterwards."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Clock, Service, eventually, serving
from tests.gateway.conftest import Behind, bearer, key, new_directory, protected

_PROXIES = ("envoy", "nginx", "caddy")


@pytest.fixture
async def asked(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    async with serving(database_url, clock, http_listen="127.0.0.1:0") as service:
        yield service


@pytest.fixture(params=_PROXIES)
async def behind(
    request: pytest.FixtureRequest, asked: Service, checkout: Path, reachable_dir: Path
) -> AsyncIterator[Behind]:
    async with protected(asked, request.param, checkout, new_directory(reachable_dir)) as behind:
        yield behind


async def test_a_checker_that_does_not_answer(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets 503 after the proxy's timeout; the upstream gets nothing."""
    text, _ = await key(behind.service)
    go_on = asyncio.Event()
    access = behind.service.app.access
    decide = access.decide

    async def slow(*arguments: object) -> object:
        await go_on.wait()
        return await decide(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(access, "decide", slow)
    answer, seen = await behind.send("/", bearer(text))
    assert (answer.status, seen) == (503, None)
    go_on.set()
    answer, seen = await behind.send("/", bearer(text))
    assert answer.status == 200


async def test_a_checker_that_fails(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the checker is an error for the client, never an allowed request."""
    text, _ = await key(behind.service)

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(behind.service.app.access, "_answer", fail)
        answer, seen = await behind.send("/", bearer(text))
        assert seen is None
        assert answer.status in (500, 503)
    assert (await behind.send("/", bearer(text)))[0].status == 200


async def test_a_checker_that_cannot_know(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lease it is 503, with the time to retry after; a valid key is not called invalid."""
    text, _ = await key(behind.service)
    access, lease = behind.service.app.access, behind.service.app.lease
    decide = access.decide

    async def after_the_lease(*arguments: object) -> object:
        lease.end("this is a test")
        return await decide(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(access, "decide", after_the_lease)
        answer, seen = await behind.send("/", bearer(text))
        assert (answer.status, seen) == (503, None)
        assert answer.headers["retry-after"] == "1"
    # The worker gets a new lease, and Envoy must notice.
    await eventually(lambda: behind.send("/", bearer(text)), lambda sent: sent[0].status == 200)


async def test_a_proxy_whose_key_is_revoked(behind: Behind) -> None:
    """It refuses every request, and no client is told that its credential is invalid."""
    text, _ = await key(behind.service, owner_id="other")
    await behind.service.admin.BatchRevokeKeys(owner_id="authsvc", allow_last_administrator=True)
    answer, seen = await behind.send("/", bearer(text))
    assert seen is None
    assert answer.status in (500, 503)


@pytest.mark.parametrize("proxy", _PROXIES)
async def test_a_checker_that_is_down(
    proxy: str, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """503 and no access, whether it was stopped cleanly or never ran."""
    async with serving(database_url, clock, http_listen="127.0.0.1:0", drain_grace=1) as service:
        text, _ = await key(service)
        running = protected(service, proxy, checkout, new_directory(reachable_dir))
        behind = await running.__aenter__()
    try:
        for _ in range(3):
            answer, seen = await behind.send("/", bearer(text))
            assert (answer.status, seen) == (503, None)
            assert answer.headers["retry-after"] == "1"
        # What is not checked still works.
        assert (await behind.send("/healthz"))[0].status == 200
    finally:
        await running.__aexit__(None, None, None)


async def test_the_table_behind_envoy(
    database_url: str, clock: Clock, checkout: Path, reachable_dir: Path, tmp_path: Path
) -> None:
    """The table allows a preflight and a health check; what it does not name is refused."""
    file = tmp_path / "routes.toml"
    routes = (
        '[[route]]\npath = "/**"\nmethods = ["OPTIONS"]\npublic = true\n',
        '[[route]]\npath = "/any/*"\nany = true\n',
    )
    await asyncio.to_thread(file.write_text, "".join(routes))
    async with (
        serving(database_url, clock, routes=file) as service,
        protected(service, "envoy", checkout, new_directory(reachable_dir), path="/any/1") as behind,
    ):
        good, _ = await key(service)
        preflight = [("origin", "https://app.test"), ("access-control-request-method", "POST")]
        assert (await behind.send("/any/1", preflight, "OPTIONS"))[0].status == 200
        assert (await behind.send("/any/1"))[0].status == 401
        assert (await behind.send("/any/1", bearer(good)))[0].status == 200
        for target in ("/other", "/any", "/any/1/2", "/any/../other", "/Any/1"):
            assert (await behind.send(target, bearer(good)))[0].status == 403, target
