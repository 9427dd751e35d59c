"""Webhooks by names of a real name server, by the resolver of the system, in a network of the test's own."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.notifications.name_server import ADDRESSES, NAMES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"),
        reason="needs a network namespace: run as root, with unshare (util-linux) and ip (iproute2)",
    ),
]

_NOT_ALLOWED = "an address of the name is not allowed"
_RESOLVER = "nameserver 127.0.0.1\nsearch search.example\noptions attempts:1 timeout:5\n"
_SET_UP = """
set -e
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
ip link set lo up
for address in $2; do ip address add "$address/32" dev lo; done
exec "$3" -m tests.notifications.name_server
"""


async def _calls(directory: Path) -> dict[str, dict[str, object]]:
    """Return what became of the calls."""
    (directory / "resolv.conf").write_text(_RESOLVER, "utf-8")
    (directory / "nsswitch.conf").write_text("hosts: dns\n", "utf-8")
    command = ("unshare", "--net", "--mount", "sh", "-c", _SET_UP, "sh", directory, " ".join(ADDRESSES))
    process = await asyncio.create_subprocess_exec(
        *command, sys.executable, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if b"Operation not permitted" in errors:
        pytest.skip("this machine allows no network namespace")
    assert process.returncode == 0, errors.decode()
    found: dict[str, dict[str, object]] = json.loads(output)
    return found


async def test_names(tmp_path: Path) -> None:
    """Refused if any answer is private, before a byte is sent; each name is asked for once."""
    calls = await _calls(tmp_path)
    errors = {
        "public.example.com": "",
        "rebinding.example.com": "",
        "nothing.example.com": "the name does not resolve",
        "unknown.example.com": "the name does not resolve",
        "vault.prod": "the name does not resolve",  # Not vault.prod.search.example, without networks.
    }
    for name in (*NAMES, "unknown.example.com", "vault.prod"):
        call = calls[name]
        error = errors.get(name, _NOT_ALLOWED)
        assert (name, call["error"], call["connections"]) == (name, error, int(not error))
        assert call["asked"] == 1, name
