"""What the pages show of states that a service in a test does not get into."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from authsvc.app import web
from authsvc.model.caller import Caller
from authsvc.v1 import replica_service_pb2 as replica_pb
from authsvc.v1 import resources_pb2
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from authsvc.web.console.key_state import Badge, actions_of, badge_of
from authsvc.web.console.pages import Pages
from authsvc.web.console.static_files import StaticFiles
from authsvc.web.console.texts import Texts
from authsvc.web.console.webhook_state import webhook_state
from tests.conftest import Clock, serving
from tests.web.console.conftest import Site, site_of

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def _page(template: str, **values: Any) -> str:
    pages = Pages(Texts(), StaticFiles(), lambda: _NOW)
    known: dict[str, Any] = {
        "owner": "acme",
        "is_platform": True,
        "may": lambda *_: True,
        "link": lambda path, **_: path,
        "token": lambda _: "token",
        "sections": [],
        "problem": None,
        "first_page": "",
        "next_page": "/next",
    }
    caller = Caller("ses_x", "authsvc", ("full_access",))
    response = pages.page(template, known | values, caller=caller)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await response({"type": "http"}, receive=None, send=send)  # type: ignore[arg-type]
    body: bytes = sent[1]["body"]
    return body.decode()


async def test_workers_and_clients_that_delay_a_change() -> None:
    replicas = replica_pb.ReplicaStatus(head_seq=7, omitted_worker_count=3, omitted_client_count=4)
    replicas.read_time.FromDatetime(_NOW)
    for host in ("serving", "behind", "over"):
        worker = replicas.workers.add(host=host, worker_pids=[1, 2])
        worker.register_time.FromDatetime(_NOW - timedelta(hours=3))
    replicas.workers[1].behind_since.FromDatetime(_NOW - timedelta(seconds=5))
    replicas.workers[1].unconfirmed_pids.append(2)
    replicas.workers[2].lease_over = True
    client = replicas.clients.add(instance="<b>shop</b>", address="198.51.100.7", held_count=12)
    client.behind_since.FromDatetime(_NOW - timedelta(seconds=2))
    page = await _page("status.html", replicas=replicas)
    for told in ("Behind for 5 seconds", "waits for 2", "Lease expired", "Serving", "3 more", "4 more"):
        assert told in page
    assert "&lt;b&gt;shop" in page
    assert "Behind for 2 seconds" in page


async def test_deliveries_of_a_webhook() -> None:
    webhook = webhook_pb.Webhook(webhook_id="whk_x", url="https://example.org", enabled=True)
    webhook.failing_since.FromDatetime(_NOW)
    assert webhook_state(webhook) == "failing"
    failed = webhook_pb.WebhookDelivery(
        type="key.created", attempt_count=3, response_status=500, error="<b>500</b>"
    )
    failed.next_attempt_time.FromDatetime(_NOW + timedelta(minutes=5))
    deliveries = [(failed, state) for state in ("pending", "delivered", "failed", "unspecified")]
    page = await _page(
        "webhook.html",
        webhook=webhook,
        state="failing",
        deliveries=deliveries,
        path="/webhooks/whk_x",
        states=[],
        chosen="",
        done="",
        told="",
    )
    assert "Failing since" in page
    assert "in 5 minutes" in page
    assert "&lt;b&gt;500" in page


@pytest.mark.parametrize("reason", range(4))
def test_every_state_of_a_webhook_has_a_text(reason: int) -> None:
    webhook = webhook_pb.Webhook(disable_reason=reason)  # type: ignore[arg-type]
    assert f"webhooks.state.{webhook_state(webhook)}" in Texts()


async def test_a_key_that_nobody_has() -> None:
    key = resources_pb2.Key(key_id="key_x", display_name="Lost", state=1, never_delivered=True)  # type: ignore[arg-type]
    assert badge_of(key, _NOW) == Badge("never_delivered", "bad")
    page = await _page(
        "key.html",
        key=key,
        badge_found=badge_of(key, _NOW),
        is_revoked=False,
        is_disabled=False,
        hindrance="",
        actions=["rotate"],
        done="",
        usage=[],
        more_usage=False,
    )
    assert "Nobody has the key string" in page


@pytest.mark.parametrize(
    ("days", "expected"), [(6.9, ("expires", "bad")), (7.1, ("expires", "warn")), (30.1, ("active", "good"))]
)
def test_a_key_that_expires_soon(days: float, expected: tuple[str, str]) -> None:
    key = resources_pb2.Key(state=1)  # type: ignore[arg-type]
    key.expire_time.FromDatetime(_NOW + timedelta(days=days))
    assert badge_of(key, _NOW)[:2] == expected


def test_a_key_that_was_rotated_is_not_rotated_again() -> None:
    key = resources_pb2.Key(state=1, rotated_to_key_id="key_y")  # type: ignore[arg-type]
    assert actions_of(key) == ["edit", "disable", "revoke"]


async def test_an_answer_that_takes_too_long(site: Site) -> None:
    opened = await site.service.admin.CreateSession(owner_id="acme", scopes=["keys:read"])
    async with site_of(site.service, max_seconds=0) as hasty, hasty.browser() as browser:
        browser.http.cookies.set("authsvc", opened.session_token, domain="127.0.0.1")
        await browser.open("/keys")
        assert browser.page.status_code == 504
        assert "before the deadline" in browser.text


async def test_a_page_waits_as_long_as_a_change_may_take(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is the lease that the operator has set."""
    given: list[float] = []

    def recorded(*_: Any, max_seconds: float, **__: Any) -> None:
        given.append(max_seconds)

    monkeypatch.setattr(web, "console", recorded)
    async with serving(database_url, clock, web_listen="127.0.0.1:0", lease="1h"):
        assert given
    assert min(given) > 3600
