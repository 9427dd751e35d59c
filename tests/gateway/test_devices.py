"""A user's device behind each of the proxies: its user agent and client hints."""

from pathlib import Path

import pytest

from authsvc.v1.resources_pb2 import Device
from tests.conftest import Clock, serving
from tests.gateway.client import Headers
from tests.gateway.conftest import bearer, new_directory, protected

_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"


@pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])
@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_the_device_of_a_session(
    proxy: str, http2: bool, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> None:
    """A UTF-8 user agent is decoded, client hints are trusted, a gRPC user agent is ignored."""
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(service, proxy, checkout, new_directory(reachable_dir), http2=http2) as behind,
    ):
        opened = await service.admin.CreateSession(owner_id="alice", ip_address="192.0.2.77")

        async def device(*headers: tuple[str, str | bytes]) -> Device:
            clock.advance(seconds=1)
            sent: Headers = [*bearer(opened.session_token), *headers]
            answer, seen = await behind.send("/other", sent)
            assert answer.status == 200
            assert seen is not None
            await service.flush()
            session = await service.admin.GetSession(session_id=opened.session.session_id)
            assert session.ip_address == "127.0.0.1"
            found: Device = session.device
            return found

        assert (await device(("user-agent", "Gerät/1.0".encode()))).user_agent == "Gerät/1.0"
        assert (await device(("user-agent", "端末/2.0 (ó)".encode()))).user_agent == "端末/2.0 (ó)"
        assert (await device(("user-agent", "grpc-go/1.70.0"))).user_agent == "端末/2.0 (ó)"
        agent = ("user-agent", _WINDOWS)
        found = await device(agent)
        assert (found.os, found.os_version) == ("Windows", "")
        found = await device(
            agent, ("sec-ch-ua-platform", '"Windows"'), ("sec-ch-ua-platform-version", '"15.0.0"')
        )
        assert (found.user_agent, found.os, found.os_version) == (_WINDOWS, "Windows", "11")
