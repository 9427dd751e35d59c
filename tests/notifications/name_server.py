"""A name server whose answers the test chooses (RFC 1035), and calls of webhooks by names that it knows.

`python -m tests.notifications.name_server` runs in a network namespace of its own, whose resolver asks this
server. It prints what became of each call as JSON. Public addresses are on the loopback there, so nothing
gets out.
"""

import asyncio
import json
import socket
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from authsvc.model.address import network
from authsvc.model.webhook import SecretVersion, Webhook
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from tests.notifications.receiver import receiving

_A, _AAAA = 1, 28
#: The names, with the addresses of each: those of the first look-up, of the second one, and so on.
NAMES: dict[str, list[list[str]]] = {
    "public.example.com": [["8.8.8.8"]],
    "private.example.com": [["10.0.0.7"]],
    "loopback.example.com": [["127.0.0.1"]],
    "metadata.example.com": [["169.254.169.254"]],
    "mixed.example.com": [["8.8.8.8", "10.0.0.7"]],
    "six.example.com": [["::1"]],
    "mapped.example.com": [["::ffff:10.0.0.7"]],
    "nat64.example.com": [["64:ff9b::a00:7"]],
    "rebinding.example.com": [["8.8.8.8"], ["10.0.0.7"], ["10.0.0.7"]],
    "nothing.example.com": [[]],
    "vault.prod.search.example": [["10.0.0.7"]],
}
#: Addresses of the namespace.
ADDRESSES = ("8.8.8.8", "10.0.0.7", "169.254.169.254")


class NameServer(asyncio.DatagramProtocol):
    """Answers each look-up of a name with the next of its answers, and counts them."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, int], int] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        """Answer a question."""
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question = data[12 : at + 5]
        name, kind = ".".join(labels).lower(), int.from_bytes(data[at + 1 : at + 3], "big")
        before = self.asked.get((name, kind), 0)
        self.asked[name, kind] = before + 1
        answers = NAMES.get(name)
        found = [] if answers is None else answers[min(before, len(answers) - 1)]
        version = {_A: 4, _AAAA: 6}.get(kind, 0)
        addresses = [each for each in map(ip_address, found) if each.version == version]
        flags = b"\x81\x83" if answers is None else b"\x81\x80"
        counts = b"".join(count.to_bytes(2, "big") for count in (1, len(addresses), 0, 0))
        records = b"".join(
            b"\xc0\x0c"
            + kind.to_bytes(2, "big")
            + b"\0\1\0\0\0\0"
            + len(each.packed).to_bytes(2, "big")
            + each.packed
            for each in addresses
        )
        self._transport.sendto(data[:2] + flags + counts + question + records, peer)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 53))
    keys = SigningKeys([b"1" * 32])
    now = datetime.now(UTC)
    # 8.8.8.8 is named so that it may be called without TLS.
    caller = WebhookCaller(keys, AddressRules([network("8.8.8.8")]), lambda: now)
    public_caller = WebhookCaller(keys, AddressRules(), lambda: now)
    result = dict[str, dict[str, Any]]()
    async with receiving(host="0.0.0.0") as receiver:
        with socket.create_server(("::", receiver.port), family=socket.AF_INET6, dualstack_ipv6=False) as six:
            six.setblocking(False)
            for name in [*NAMES, "unknown.example.com", "vault.prod"]:
                before = receiver.connections
                webhook = Webhook(
                    webhook_id="whk_1",
                    owner_id="acme",
                    url=f"http://{name}:{receiver.port}/",
                    create_time=now,
                    creator_id="",
                    update_time=now,
                    secrets=(SecretVersion(1, keys.current_id),),
                )
                calling = public_caller if name == "vault.prod" else caller
                attempt = await calling.call(webhook, "evt_1", b"{}")
                result[name] = {
                    "outcome": attempt.outcome,
                    "error": attempt.error,
                    "connections": receiver.connections - before,
                    "asked": server.asked.get((name, _A), 0),
                }
            try:
                six.accept()
                result["six.example.com"]["connections"] += 1
            except BlockingIOError:
                pass
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
