"""A separate network for one process: a link to its clients, and one to what it uses, which can be cut.

For a worker, that is the database; for a client that verifies by itself, it is the service.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_NOBODY = ("lladdr", "02:00:00:00:00:01", "nud", "permanent")


@dataclass(frozen=True)
class Network:
    """Two links. Addresses are from the benchmarking range (RFC 2544), which nothing else uses."""

    name: str
    block: int

    @property
    def command(self) -> tuple[str, ...]:
        """The prefix of a command that runs in it."""
        return "ip", "netns", "exec", self.name

    @property
    def worker_address(self) -> str:
        """The address of the worker for clients."""
        return f"198.18.{self.block}.2"

    @property
    def database_address(self) -> str:
        """The address at which the process finds what it uses, such as the proxy to the database."""
        return f"198.19.{self.block}.1"

    def cut(self) -> None:
        """Take the link to the database down at its far end: packets are lost without an error."""
        _ip("link", "set", f"fd{self.block}", "down")

    def lose_what_it_sends(self) -> None:
        """Lose only what is sent to the database's side: it goes to a link address that nobody has."""
        _ip(
            "-n",
            self.name,
            "neighbour",
            "replace",
            self.database_address,
            "dev",
            f"fd{self.block}n",
            *_NOBODY,
        )

    def lose_what_it_is_sent(self) -> None:
        """Lose only what is sent from there."""
        _ip("neighbour", "replace", self._own_address, "dev", f"fd{self.block}", *_NOBODY)

    def heal(self) -> None:
        """Lose nothing any more."""
        _ip("link", "set", f"fd{self.block}", "up")
        for end in (
            ("-n", self.name, "neighbour", "flush", "to", self.database_address, "nud", "permanent"),
            ("neighbour", "flush", "to", self._own_address, "nud", "permanent"),
        ):
            _ip(*end)

    @property
    def _own_address(self) -> str:
        return f"198.19.{self.block}.2"


@contextmanager
def network() -> Iterator[Network]:
    """Create a network while the block runs; skip the test without the permission for it."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root and iproute2")
    made = Network(f"faults-{os.getpid()}", os.getpid() % 250 + 1)
    if subprocess.run(["ip", "netns", "add", made.name], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here")
    try:
        for here, net in (("fc", "198.18"), ("fd", "198.19")):
            link, there = f"{here}{made.block}", f"{here}{made.block}n"
            _ip("link", "add", link, "type", "veth", "peer", "name", there, "netns", made.name)
            _ip("address", "add", f"{net}.{made.block}.1/24", "dev", link)
            _ip("-n", made.name, "address", "add", f"{net}.{made.block}.2/24", "dev", there)
            _ip("link", "set", link, "up")
            _ip("-n", made.name, "link", "set", there, "up")
        yield made
    finally:
        # Its ends of the links are deleted with it, and ours with them.
        _ip("netns", "delete", made.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)
