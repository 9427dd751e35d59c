"""A key is revoked while real proxies check requests at full rate with two workers."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.process import free_port, running
from tests.gateway.conftest import ASKS, new_directory, proxied

_CLIENTS, _KEYS = 8, 5


class Client:
    """Sends one request after another, and knows which ones were sent after the revocation."""

    def __init__(self, port: int, text: str, revoked: asyncio.Event) -> None:
        self._port, self._text, self._revoked = port, text, revoked
        self.before: list[int] = []
        self.after: list[int] = []
        self.warm = asyncio.Event()

    async def run(self) -> None:
        """Send until ten requests that were sent after the revocation have been answered."""
        while len(self.after) < 10:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                # nginx closes a connection after a thousand requests.
                while len(self.after) < 10 and await self._ask(reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request; return whether the connection stays open."""
        late = self._revoked.is_set()
        target = "/late" if late else "/early"
        writer.write(
            f"GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._text}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r")[0]))
        (self.after if late else self.before).append(int(head.split()[1]))
        if len(self.before) > 5:
            self.warm.set()
        return b"\r\nconnection: close\r\n" not in head


@pytest.mark.parametrize("proxy", ["envoy", "nginx", "caddy"])
async def test_nothing_passes_after_the_answer(
    proxy: str, checkout: Path, reachable_dir: Path
) -> None:  # rule 15
    """No request that is sent after RevokeKey has returned gets through."""
    http_port = free_port()
    with running(
        "dev", new_directory(reachable_dir), workers=2, http_listen=f"127.0.0.1:{http_port}"
    ) as server:
        async with server.client() as admin:
            own = await admin.CreateKey(owner_id="authsvc", display_name="proxy", scopes=ASKS)
            ports = {"50051": int(server.address.rpartition(":")[2]), "50080": http_port}
            directory = new_directory(reachable_dir)
            async with proxied(proxy, checkout, directory, own.key_string, ports) as (upstream, at):
                for _ in range(_KEYS):
                    made = await admin.CreateKey(owner_id="acme", display_name="x")
                    revoked = asyncio.Event()
                    clients = [Client(at.port, made.key_string, revoked) for _ in range(_CLIENTS)]
                    async with asyncio.TaskGroup() as group:
                        for client in clients:
                            group.create_task(client.run())
                        for client in clients:
                            await client.warm.wait()
                        await admin.RevokeKey(key_id=made.key.key_id)
                        revoked.set()
                    for client in clients:
                        assert set(client.before) <= {200, 401}
                        assert 200 in client.before
                        assert set(client.after) == {401}
                assert all(seen.target != "/late" for seen in upstream.seen)
