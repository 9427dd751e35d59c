"""`authsvc notifications`, on the database of a running service."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import asyncpg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from tests.e2e.process import Ended, authsvc, free_port

_FAIL = """
    INSERT INTO authsvc.notifications (
        notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details,
        subject, contacts, spread_time)
    VALUES ('evt_1', 'key.revoked', 'acme', now(), 'key_1', '', '', '', '{}', '{}', '[]', now());
    INSERT INTO authsvc.mails (
        notification_id, owner_id, address, contact_name, state, message_id, attempt_count, create_time,
        next_time, attempt_time, reply_code, error)
    VALUES ('evt_1', 'acme', 'ann@example.org', 'Ann', 'failed', 'm1', 1, now(), now(), now(), 550,
            'no such user'),
           ('evt_1', 'acme', 'bob@example.org', 'Bob', 'sent', 'm2', 1, now(), now(), now(), 250, '');
    INSERT INTO authsvc.webhooks (
        webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, create_time,
        creator_id, update_time, version, secrets, line_time)
    VALUES ('whk_on', 'acme', 'https://a.example/', '', '{}', '[]', true, now(), '', now(), 1, '[]', now()),
           ('whk_off', 'acme', 'https://b.example/', '', '{}', '[]', false, now(), '', now(), 1, '[]', now());
    INSERT INTO authsvc.webhook_deliveries (
        delivery_id, webhook_id, notification_id, state, attempt_count, create_time, next_time, attempt_time,
        response_status, error)
    VALUES ('dlv_1', 'whk_on', 'evt_1', 'failed', 10, now(), now(), now(), 503, 'answered 503'),
           ('dlv_2', 'whk_off', 'evt_1', 'failed', 10, now(), now(), now(), 0, 'the name does not resolve');
"""


def run(directory: Path, database_url: str, *arguments: str) -> Ended:
    return authsvc("notifications", *arguments, cwd=directory, database_url=database_url)


def listed(directory: Path, database_url: str, *arguments: str) -> list[tuple[str, str]]:
    """Return the recipients and states of a list."""
    done = run(directory, database_url, "list", "--json", *arguments)
    assert (done.code, done.stderr) == (0, "")
    rows = map(json.loads, done.stdout.splitlines())
    return sorted((row["recipient"], row["state"]) for row in rows)


async def test_what_has_failed_is_listed_and_sent_again(directory: Path, database_url: str) -> None:
    """With the reason; a disabled webhook is left out."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_FAIL)
    finally:
        await connection.close()
    failed = [("ann@example.org", "failed"), ("whk_off", "failed"), ("whk_on", "failed")]
    assert listed(directory, database_url, "--failed") == failed
    assert listed(directory, database_url) == sorted([*failed, ("bob@example.org", "sent")])
    assert listed(directory, database_url, "--pending") == []
    assert listed(directory, database_url, "--owner", "other") == []
    assert len(listed(directory, database_url, "--owner", "acme", "--notification", "evt_1")) == 4
    table = run(directory, database_url, "list", "--failed", "--limit", "2")
    assert table.stdout.splitlines()[0].split() == [
        *("notification", "type", "owner", "to", "state", "attempts", "last", "next", "error")
    ]
    assert "no such user" in run(directory, database_url, "list", "--failed").stdout
    assert table.stderr == "Only the first 2 are shown; use --limit to show more.\n"
    done = run(directory, database_url, "retry", "evt_1")
    assert (done.code, done.stdout) == (0, "2 will be sent again\n")
    assert listed(directory, database_url, "--failed") == [("whk_off", "failed")]
    done = run(directory, database_url, "retry", "--all")
    assert (done.code, done.stdout) == (0, "nothing that has failed can be sent again\n")


async def test_what_is_wrong_is_said_in_one_line(directory: Path, database_url: str) -> None:
    """An unknown notification, none at all, too many lines, no database."""
    for arguments, problem in (
        (("retry", "evt_x"), "evt_x is not known; see `authsvc notifications list`"),
        (("retry",), "name one notification, or use --all"),
        (("retry", "evt_x", "--all"), "name one notification, or use --all"),
    ):
        done = run(directory, database_url, *arguments)
        assert (done.code, done.stdout, done.stderr) == (1, "", f"authsvc: {problem}\n")
    assert run(directory, database_url, "list", "--limit", "0").code != 0
    done = authsvc("notifications", "list", cwd=directory)
    assert (done.code, done.stdout) == (1, "")
    assert "AUTHSVC_DATABASE_URL" in done.stderr


def test_a_mail_is_sent(directory: Path) -> None:
    """By the settings of the service; what the server answered is said."""
    server = Controller(Mailbox(directory / "mail"), hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        given = {"smtp_url": f"smtp://127.0.0.1:{server.port}", "mail_from": "authsvc@example.org"}
        done = authsvc("notifications", "test", "ops@example.org", cwd=directory, **given)
    finally:
        server.stop()
    assert done.stdout == f"127.0.0.1:{server.port} took the mail to ops@example.org (reply 250)\n"
    [mail] = (directory / "mail" / "new").iterdir()
    assert "To: ops@example.org" in mail.read_text("utf-8")


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(204 if self.path == "/hook" and self.headers["webhook-signature"] else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    """Run a receiver of webhooks, at the path /hook of this address."""
    with HTTPServer(("127.0.0.1", free_port()), _Receiver) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_is_called(directory: Path, receiver: str) -> None:
    """By the rules for webhooks."""

    def call(path: str, **settings: object) -> Ended:
        return authsvc("notifications", "test", receiver + path, cwd=directory, **settings)

    local = {"webhook_networks": "127.0.0.1"}
    assert call("/hook", **local).stdout == f"{receiver}/hook answered 204\n"
    done = call("/other", **local)
    assert (done.code, done.stderr) == (1, f"authsvc: {receiver}/other: answered 404\n")
    done = call("/hook")
    assert (done.code, done.stdout) == (1, "")
    assert "AUTHSVC_WEBHOOK_NETWORKS" in done.stderr


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("whk_1", "whk_1 is neither a mail address nor a URL"),
        ("ops@example.org", "AUTHSVC_SMTP_URL: no mail server is set"),
        ("ftp://example.org/", "ftp://example.org/: the URL is not a URL of a webhook"),
    ],
)
def test_what_cannot_be_tested(directory: Path, target: str, problem: str) -> None:
    """The message says what to do instead."""
    done = authsvc("notifications", "test", target, cwd=directory)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"authsvc: {problem}")
