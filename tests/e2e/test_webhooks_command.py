"""`authsvc webhooks`: registers webhooks, and shows what was delivered to them."""

import json
import re
import uuid

import pytest

from tests.e2e.process import Server, until

# A name that never resolves: nothing is called.
URL = "https://hooks.invalid/authsvc"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


@pytest.fixture
def owner() -> str:
    """An owner without webhooks."""
    return f"acme-{uuid.uuid4()}"


def create(dev: Server, owner: str, *arguments: str) -> tuple[str, str]:
    """Create a webhook; return its id and its secret."""
    done = dev.run("webhooks", "create", owner, URL, *arguments)
    assert done.code == 0, done.stderr
    [webhook_id] = re.findall(r"whk_\w{26}", done.stderr)
    return webhook_id, done.stdout


def test_a_webhook_is_registered_and_removed(dev: Server, owner: str) -> None:
    """Create, look, update, rotate, delete. Only the secret goes to standard output, and only once."""
    contact = ("--contact", "Ada <ada@example.org>")
    webhook_id, shown = create(dev, owner, "--event", "key.revoked", "--event", "key.created", *contact)
    assert SECRET.fullmatch(shown.removesuffix("\n"))
    done = dev.run("webhooks", "list", owner)
    assert done.code == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split() == ["id", "url", "events", "state", "created"]
    assert row.split()[:5] == [webhook_id, URL, "key.created", "key.revoked", "ENABLED"]
    done = dev.run("webhooks", "get", webhook_id)
    rows = [line.strip().partition("  ") for line in done.stdout.splitlines()]
    fields = {name: value.strip() for name, _, value in rows}
    assert (fields["owner"], fields["contacts"]) == (owner, "Ada <ada@example.org>")
    assert (fields["state"], fields["old secret"]) == ("ENABLED", "none")

    done = dev.run(
        "webhooks", "update", webhook_id, "--no-enabled", "--all-events", "--no-contacts", "--json"
    )
    changed = json.loads(done.stdout)
    assert "enabled" not in changed
    assert (changed["disable_reason"], "event_types" in changed) == ("WEBHOOK_DISABLE_REASON_OWNER", False)
    assert "technical_contacts" not in changed
    etag = ("--etag", changed["etag"])
    done = dev.run("webhooks", "update", webhook_id, "--enabled", "--event", "key.expiring", *etag)
    assert done.code == 0, done.stderr
    assert "key.expiring" in done.stdout

    done = dev.run("webhooks", "rotate-secret", webhook_id, "--overlap", "1h")
    assert done.code == 0, done.stderr
    assert SECRET.fullmatch(done.stdout.removesuffix("\n"))
    assert done.stdout != shown
    assert "Calls are signed with both secrets until 2" in done.stderr
    assert "used until 2" in dev.run("webhooks", "get", webhook_id).stdout
    done = dev.run("webhooks", "rotate-secret", webhook_id, "--overlap", "0s")
    assert done.code == 0, done.stderr
    assert "both secrets" not in done.stderr

    done = dev.run("webhooks", "delete", webhook_id)
    assert (done.code, done.stdout) == (0, f"{webhook_id} is deleted.\n")
    assert dev.run("webhooks", "list", owner, "--json").stdout == ""
    listed = dev.run("audit", "list", owner, "--action", "webhook-deleted", "--target", webhook_id)
    assert "host=hooks.invalid" in listed.stdout


def test_what_was_delivered_is_listed(dev: Server, owner: str) -> None:
    """A change is to be delivered; a delivery can be made again; a test that fails says why."""
    webhook_id, _ = create(dev, owner)
    assert dev.run("keys", "create", owner, "Orders").code == 0

    def deliveries(*arguments: str) -> list[dict[str, object]]:
        done = dev.run("webhooks", "deliveries", webhook_id, "--json", *arguments)
        assert done.code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    until(lambda: bool(deliveries()), 20)
    [delivery] = deliveries("--state", "pending")
    assert (delivery["type"], delivery["owner_id"]) == ("key.created", owner)
    assert deliveries("--state", "failed", "--state", "delivered") == []
    done = dev.run("webhooks", "redeliver", str(delivery["delivery_id"]))
    assert done.code == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split()[:5] == ["id", "event", "type", "owner", "state"]
    assert row.split()[:5] == [
        delivery["delivery_id"],
        delivery["notification_id"],
        "key.created",
        owner,
        "PENDING",
    ]
    done = dev.run("webhooks", "test", webhook_id)
    assert (done.code, done.stdout) == (1, "")
    assert re.match(r"authsvc: the call test_\w{26} failed: .", done.stderr)


def test_what_is_wrong_is_said_in_one_line(dev: Server, owner: str) -> None:
    """Nothing to update, what excludes each other, unknown ids and types, a URL without TLS."""
    webhook_id, _ = create(dev, owner, "--disabled")
    for arguments, told in (
        (("update", webhook_id), "nothing to update"),
        (("update", webhook_id, "--event", "key.created", "--all-events"), "mutually exclusive"),
        (("update", webhook_id, "--enabled", "--etag", "old"), "was changed since it was read"),
        (("update", webhook_id, "--event", "key.create"), "did you mean key.created?"),
        (("update", webhook_id, "--contact", "Ada"), "write it as 'Name <mail@example.org>'"),
        (("create", owner, "http://hooks.invalid/"), "https://"),
        (("rotate-secret", webhook_id, "--overlap", "8d"), "overlap"),
        (("get", "whk_nobody"), "is not known"),
        (("redeliver", "dlv_nobody"), "is not known"),
        (("deliveries", "whk_nobody"), "is not known"),
    ):
        done = dev.run("webhooks", *arguments)
        assert (done.code, done.stdout) == (1, ""), arguments
        [line] = done.stderr.splitlines()
        assert line.startswith("authsvc: ")
        assert told in line
