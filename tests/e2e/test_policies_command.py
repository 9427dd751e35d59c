"""`authsvc policies`: shows and updates what an owner may do with API keys."""

import json
import uuid

import pytest

from tests.e2e.process import Server


@pytest.fixture
def owner() -> str:
    """An owner without a policy."""
    return f"acme-{uuid.uuid4()}"


def test_a_plan_is_sold_and_cancelled(dev: Server, owner: str) -> None:  # rule 7
    """Show the default, set limits, disable, enable; each is in effect when the command has ended."""
    done = dev.run("policies", "get", owner)
    assert done.code == 0, done.stderr
    assert "the default policy" in done.stdout
    assert "no limit" in done.stdout

    limits = ("--max-active-keys", "1", "--allowed-scopes", "orders:read, orders:write")
    lifetime = ("--max-key-lifetime", "90d", "--key-edits", "details", "--brand", "eg")
    others = ("--contacts-required", "--rotation-period", "60d")
    done = dev.run("policies", "update", owner, *limits, *lifetime, *others)
    assert done.code == 0, done.stderr
    rows = [line.strip().partition("  ") for line in done.stdout.splitlines()]
    shown = {name: value.strip() for name, _, value in rows}
    assert shown["allowed scopes"] == "orders:read orders:write"
    assert (shown["max active keys"], shown["max key lifetime"]) == ("1", "90 days")
    assert (shown["key edits"], shown["brand"], shown["contacts required"]) == ("details", "eg", "yes")
    assert shown["rotation period"] == "60 days"

    create = ("keys", "create", owner, "Orders", "--scope", "orders:read", "--ttl", "30d")
    done = dev.run(*create)
    assert (done.code, "requires a technical contact" in done.stderr) == (1, True)
    done = dev.run(*create, "--contact", "Ada <ada@example.org>")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("eg_live_")
    done = dev.run(*create, "--contact", "Ada <ada@example.org>")
    assert (done.code, "allows at most 1 active key" in done.stderr) == (1, True)

    done = dev.run("policies", "update", owner, "--no-keys-enabled", "--json")
    policy = json.loads(done.stdout)
    assert (policy["keys_enabled"], policy["max_active_keys"], policy["brand"]) == (False, 1, "eg")
    done = dev.run("policies", "get", owner)
    assert "NO: keys do not work" in done.stdout
    done = dev.run(
        "policies", "update", owner, "--keys-enabled", "--etag", policy["etag"], "--allowed-scopes", ""
    )
    assert done.code == 0, done.stderr
    policy = json.loads(dev.run("policies", "get", owner, "--json").stdout)
    assert (policy["keys_enabled"], policy["allowed_scopes"]) == (True, [])
    assert (policy["max_key_lifetime"], policy["rotation_period"]) == ("7776000s", "5184000s")


def test_what_is_wrong_is_said_in_one_line(dev: Server, owner: str) -> None:
    """Nothing to update, an old etag, the platform, an invalid owner."""
    for arguments, told in (
        (("update", owner), "nothing to update"),
        (("update", owner, "--brand", "eg", "--etag", "old"), "was changed since it was read"),
        (("update", "authsvc", "--no-keys-enabled"), "cannot lock itself out"),
        (("update", owner, "--max-active-keys", "-1"), "max_active_keys"),
        (("get", "a b"), "owner_id"),
    ):
        done = dev.run("policies", *arguments)
        assert (done.code, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("authsvc: ")
        assert told in line
