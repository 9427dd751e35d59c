"""`authsvc keys usage`, `preview-revocation`, `rotation-status`, and `preview-networks`."""

import json
import uuid
from typing import Any

import pytest

from tests.e2e.process import Server, eventually


@pytest.fixture
def owner() -> str:
    """An owner without keys."""
    return f"acme-{uuid.uuid4()}"


def uses(dev: Server, key_id: str) -> list[dict[str, Any]]:
    done = dev.run("keys", "usage", key_id, "--by", "network", "--json")
    assert done.code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def used(dev: Server, owner: str) -> tuple[str, str]:
    """Return the id of a key that was used from two networks, and its string."""
    async with dev.client() as client:
        made = await client.CreateKey(owner_id=owner, display_name="Orders")
        for address in ("192.0.2.7", "198.51.100.7", "198.51.100.8"):
            verdict = await client.VerifyKey(
                key_string=made.key_string, client_ip=address, user_agent="curl/8.5.0"
            )
            assert verdict.valid
    await eventually(lambda: sum(int(row["uses"]) for row in uses(dev, made.key.key_id)) == 3)
    return made.key.key_id, made.key_string


async def test_who_uses_a_key_and_who_would_be_cut_off(dev: Server, owner: str) -> None:
    key_id, key_string = await used(dev, owner)
    shown = dev.run("keys", "usage", key_id)
    assert (shown.code, shown.stderr) == (0, "")
    assert {"198.51.100.0/24", "192.0.2.0/24"} <= set(shown.stdout.split())
    assert key_string not in shown.stdout

    preview = dev.run("keys", "preview-revocation", key_id)
    assert preview.code == 0, preview.stderr
    assert "192.0.2.0/24" in preview.stdout
    assert "It has created 0 keys and 0 sessions that go on." in preview.stdout
    etag = preview.stdout.rpartition("etag: ")[2].strip()
    refused = dev.run("keys", "revoke", key_id, "--etag", etag[:-1] + "x")
    assert (refused.code, refused.stdout) == (1, "")

    rotated = dev.run("keys", "rotate", key_id, "--grace", "1h")
    assert rotated.code == 0, rotated.stderr
    status = dev.run("keys", "rotation-status", key_id)
    assert status.code == 0, status.stderr
    assert "Nobody has used the old key since the rotation." in status.stdout
    assert "The old key works until" in status.stdout


async def test_which_networks_would_be_refused(dev: Server, owner: str) -> None:
    """Of a key, and of an owner; nothing is changed by asking."""
    key_id, _ = await used(dev, owner)
    for preview in (
        ("keys", "preview-networks", key_id, "--network", "192.0.2.0/24", "--network", "198.51.100.0/25"),
        (
            "policies",
            "preview-networks",
            owner,
            "--allowed-networks",
            "192.0.2.0/24, 198.51.100.0/25",
        ),
    ):
        done = dev.run(*preview)
        assert (done.code, done.stderr) == (0, "")
        rows = [line.split() for line in done.stdout.splitlines()]
        assert rows[1][:5] == ["198.51.100.0/24", "in", "part", "2", "1"]
        assert "Uses from networks that would be allowed: 1\n" in done.stdout
    done = dev.run("keys", "preview-networks", key_id)
    assert "No network that was used in these days would be refused." in done.stdout
    assert "would be allowed: 3\n" in done.stdout
    done = dev.run("keys", "preview-networks", key_id, "--network", "192.0.2.7/24")
    assert (done.code, done.stdout) == (1, "")
    assert "allowed_networks" in done.stderr
    async with dev.client() as client:
        assert not (await client.GetKey(key_id=key_id)).allowed_networks
