"""The pages of webhooks over plain HTTP: their secrets, changes, tests and deliveries."""

import re
from datetime import timedelta
from typing import Any

import asyncpg
from google.protobuf.duration_pb2 import Duration
from standardwebhooks.webhooks import Webhook as Verifier

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.v1.resources_pb2 import TechnicalContact
from tests.conftest import Clock, serving
from tests.notifications.receiver import answering, receiving
from tests.notifications.webhook_rows import insert_deliveries
from tests.web.console.conftest import SCOPES, Browser, Site, site_of

_URL = "https://hooks.example.org/authsvc"
_NEW = "/webhooks/new"
_HOSTILE = "<script>alert(1)</script>\"'>\n<img src=x onerror=alert(2)>"


def _secret(browser: Browser) -> str:
    found = re.search(r"data-secret>(whsec_[^<]+)<", browser.page.text)
    assert found is not None, browser.text
    return found[1]


async def _list(site: Site) -> list[Any]:
    return list((await site.service.admin.ListWebhooks(owner_id="acme")).webhooks)


async def _created(site: Site, **fields: Any) -> Any:
    made = await site.service.admin.CreateWebhook(owner_id="acme", **{"url": _URL, **fields})
    return made.webhook


async def _sql(site: Site, statement: str, *values: object) -> None:
    async with site.service.app.database.connection() as connection:
        await connection.execute(statement, *values)


async def test_a_webhook_is_created_and_its_secret_shown_once(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/webhooks", owner="acme")
        assert 'href="/webhooks/new?owner=acme"' in browser.page.text
        await browser.open(_NEW, owner="acme")
        form = {
            **browser.form(),
            "url": _URL,
            "description": _HOSTILE,
            "event_which": "some",
            "event": ["key.revoked", "key.created"],
            "contact_name": "Ada",
            "contact_email": "ada@example.org",
        }
        browser.page = await browser.http.post(_NEW, data=form)
        secret = _secret(browser)
        assert browser.page.status_code == 200
        assert browser.page.headers["cache-control"] == "no-store"
        [webhook] = await _list(site)
        assert webhook.url == _URL
        assert webhook.description == _HOSTILE
        assert list(webhook.event_types) == ["key.created", "key.revoked"]
        assert webhook.technical_contacts == [TechnicalContact(name="Ada", email="ada@example.org")]
        assert webhook.enabled
        browser.page = await browser.http.post(_NEW, data=form)  # as a reload does
        assert browser.page.status_code == 409
        assert "already created" in browser.text
        assert secret not in browser.text
        assert f"/webhooks/{webhook.webhook_id}/rotate" in browser.page.text
        assert len(await _list(site)) == 1
        await browser.open(f"/webhooks/{webhook.webhook_id}")
        assert secret not in browser.text
        assert "<img" not in browser.page.text
        assert "<script>alert" not in browser.page.text
        await browser.open(_NEW, owner="acme")  # another form may name the same URL
        await browser.send(url=_URL, event_which="all", enabled=[])
        assert _secret(browser) != secret
        assert sorted(each.enabled for each in await _list(site)) == [False, True]


_WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"url": "ftp://<b>example.org"}, "https://", "ftp://<b>example.org"),
    ({"url": "https://ada:pass@example.org"}, "user name", "ada:pass"),
    ({"url": ""}, "marked", ""),
    ({"event_which": "some"}, "Choose at least one", ""),
    ({"event": "key.created"}, "Some are chosen below", ""),
    ({"event_which": "some", "event": "key.create"}, "did you mean key.created", "key.create"),
    ({"contact_name": "<b>Ada", "contact_email": "nonsense"}, "marked", "<b>Ada"),
]


async def test_bad_input_is_told_at_its_field_and_kept(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(_NEW, owner="acme")
        form = {**browser.form(), "url": _URL, "event_which": "all", "description": "Kept"}
        for fields, told, kept in _WRONG:
            browser.page = await browser.http.post(_NEW, data={**form, **fields})
            assert browser.page.status_code == 400, fields
            assert told in browser.text, fields
            assert kept in browser.text, fields
            assert "<b>" not in browser.page.text
            assert "Kept</textarea>" in browser.page.text
            assert 'aria-invalid="true"' in browser.page.text
        assert await _list(site) == []


async def test_an_edit_keeps_what_was_not_changed(site: Site) -> None:
    contact = TechnicalContact(name="Ada", email="ada@example.org")
    webhook = await _created(site, event_types=["key.created"], technical_contacts=[contact])
    path = f"/webhooks/{webhook.webhook_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/edit")
        await browser.send(more="1")
        assert "Email of contact 2" in browser.text
        await browser.send(url=f"{_URL}/2")
        assert "The changes are saved" in browser.text
        [changed] = await _list(site)
        assert changed.url == f"{_URL}/2"
        assert list(changed.event_types) == ["key.created"]
        assert list(changed.technical_contacts) == [contact]
        await browser.open(f"{path}/edit")
        await browser.send(enabled=[], event_which="all")
        assert "This webhook is disabled" in browser.text
        [changed] = await _list(site)
        assert not changed.enabled
        assert not changed.event_types
        await browser.send(f"{path}/enable")
        assert "The webhook is enabled" in browser.text
        assert (await _list(site))[0].enabled


async def test_a_stale_form_loses_nothing_and_says_so(site: Site) -> None:
    webhook = await _created(site)
    path = f"/webhooks/{webhook.webhook_id}/edit"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(path)
        stale = {**browser.form(), "description": "Typed"}
        await browser.send(url=f"{_URL}/newer")
        browser.page = await browser.http.post(path, data=stale)
        assert browser.page.status_code == 409
        assert "Somebody else has changed this meanwhile" in browser.text
        assert "<strong>URL</strong>, <strong>Description</strong>" in browser.text
        assert "Typed</textarea>" in browser.page.text
        assert (await _list(site))[0].url == f"{_URL}/newer"
        await browser.send()
        assert (await _list(site))[0].description == "Typed"


async def test_why_the_service_disabled_a_webhook_and_how_to_enable_it(site: Site) -> None:
    webhook = await _created(site)
    path = f"/webhooks/{webhook.webhook_id}"
    async with site.browser(site.service.admin_key) as browser:
        await _sql(site, "UPDATE authsvc.webhooks SET failing_since = now()")
        await browser.open(path)
        assert "Calls have failed since" in browser.text
        stale = browser.form(f"{path}/test")
        for reason, told in (("gone", "410 Gone"), ("failing", "Mend the receiver")):
            await _sql(site, "UPDATE authsvc.webhooks SET enabled = false, disable_reason = $1", reason)
            await browser.open(path)
            assert told in browser.text
            form = browser.form(f"{path}/enable")
            await browser.send(f"{path}/enable")
            assert "The webhook is enabled" in browser.text
        answer = await browser.http.post(f"{path}/enable", data=form)  # of a state that is over
        assert answer.status_code == 409
        answer = await browser.http.post(f"{path}/enable", data=stale)  # with the token of another form
        assert answer.status_code == 403


async def test_a_secret_is_rotated_once(site: Site, clock: Clock) -> None:
    made = await site.service.admin.CreateWebhook(owner_id="acme", url=_URL)
    path = f"/webhooks/{made.webhook.webhook_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/rotate")
        form = {**browser.form(), "overlap": "hour"}
        browser.page = await browser.http.post(f"{path}/rotate", data=form)
        secret = _secret(browser)
        assert secret != made.secret
        [webhook] = await _list(site)
        assert webhook.old_secret_expire_time.ToDatetime(clock.now.tzinfo) == clock.now + timedelta(hours=1)
        assert "the old secret as well until" in browser.text
        browser.page = await browser.http.post(f"{path}/rotate", data=form)
        assert browser.page.status_code == 409
        assert secret not in browser.text
        assert (await _list(site))[0].etag == webhook.etag
        for _ in range(3):
            asked = pb.RotateWebhookSecretRequest(
                webhook_id=webhook.webhook_id, overlap=Duration(seconds=86400)
            )
            await site.service.admin.RotateWebhookSecret(asked)
        await browser.open(f"{path}/rotate")
        await browser.send(overlap="week")
        assert browser.page.status_code == 409
        assert "secrets are in use, which is the maximum" in browser.text
        await browser.send(overlap="at_once")
        _secret(browser)
        assert not (await _list(site))[0].HasField("old_secret_expire_time")


async def test_a_webhook_is_deleted_after_a_question(site: Site) -> None:
    webhook = await _created(site)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/webhooks/{webhook.webhook_id}/delete")
        assert "cannot be undone" in browser.text
        assert await _list(site)
        await browser.send()
        assert "The webhook is deleted" in browser.text
        assert await _list(site) == []


async def test_a_test_tells_how_it_went(database_url: str, clock: Clock) -> None:
    async with (
        serving(database_url, clock, scopes=SCOPES, webhook_networks="127.0.0.1") as service,
        site_of(service) as site,
        receiving() as receiver,
        site.browser(service.admin_key) as browser,
    ):
        await browser.open(_NEW, owner="acme")
        await browser.send(url=f"http://127.0.0.1:{receiver.port}/", event_which="all")
        secret = _secret(browser)
        [webhook] = await _list(site)
        path = f"/webhooks/{webhook.webhook_id}"
        await browser.open(path)
        await browser.send(f"{path}/test")
        assert "The test was delivered: the receiver answered 204" in browser.text.replace("<bdi>", "")
        [request] = receiver.requests
        headers = {**request.headers, "webhook-timestamp": request.headers["webhook-timestamp"]}
        assert (
            Verifier(secret).sign(headers["webhook-id"], clock.now, request.body.decode())
            in headers["webhook-signature"].split()
        )
        receiver.answer = answering(500)
        await browser.send(f"{path}/test")
        assert "The test was not delivered: answered 500" in browser.text.replace("<bdi>", "")
        claim = dict(browser.page.url.params)
        await browser.open(path, **{**claim, "done": "delivered 200"})
        assert 'role="status"' not in browser.page.text


async def test_deliveries_are_filtered_and_made_again(site: Site, clock: Clock, database_url: str) -> None:
    webhook = await _created(site)
    path = f"/webhooks/{webhook.webhook_id}"
    connection = await asyncpg.connect(database_url)
    await insert_deliveries(connection, clock.now, 53, webhook.webhook_id)
    await connection.close()
    await _sql(
        site,
        "UPDATE authsvc.webhook_deliveries SET state = 'failed', attempt_count = 9, response_status = 500, "
        "error = 'answered 500' WHERE delivery_id < $1",
        f"dlv_{webhook.webhook_id}_00052",
    )
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(path, state="failed")
        assert browser.page.text.count('role="rowheader"') == 50
        assert "answered 500" in browser.text
        assert ">Pending</span>" not in browser.page.text
        following = re.search(r'href="([^"]*)" rel="next"', browser.text)
        assert following is not None
        await browser.open(following[1])
        assert browser.page.text.count('role="rowheader"') == 1
        delivery = f"dlv_{webhook.webhook_id}_00001"
        await browser.send(f"{path}/deliveries/{delivery}/redeliver")
        assert "The delivery is made again now" in browser.text
        await browser.open(path, state="pending")
        assert browser.page.text.count('role="rowheader"') == 3
        await browser.open(path, state="delivered")
        assert "No delivery matches" in browser.text
        await browser.open(path, state="pending")
        form = browser.form(f"{path}/deliveries/dlv_{webhook.webhook_id}_00053/redeliver")
        await _sql(site, "UPDATE authsvc.webhooks SET enabled = false, disable_reason = 'failing'")
        answer = await browser.http.post(
            f"{path}/deliveries/dlv_{webhook.webhook_id}_00053/redeliver", data=form
        )
        assert answer.status_code == 409
        assert "Enable it first" in answer.text
        await browser.open(path, state="pending")
        assert "redeliver" not in browser.page.text


async def test_owners_see_and_change_their_own_with_the_scope_for_it(site: Site) -> None:  # rule 19
    admin = site.service.admin
    foreign = (await admin.CreateWebhook(owner_id="other", url=f"{_URL}/foreign")).webhook
    own = await _created(site)
    scopes = ["webhooks:read", "sessions:write"]
    reader = await admin.CreateKey(owner_id="acme", display_name="Reader", scopes=scopes)
    writer = await admin.CreateKey(owner_id="acme", display_name="W", scopes=[*scopes, "webhooks:write"])
    async with site.browser(reader.key_string) as browser:
        await browser.open("/webhooks")
        assert _NEW not in browser.page.text
        await browser.open(f"/webhooks/{own.webhook_id}")
        assert _URL in browser.text
        assert f"{own.webhook_id}/" not in browser.page.text.replace(
            f'action="/webhooks/{own.webhook_id}"', ""
        )
        for path in (_NEW, *(f"/webhooks/{own.webhook_id}/{name}" for name in ("edit", "rotate", "delete"))):
            await browser.open(path)
            assert browser.page.status_code == 403
            assert "webhooks:write" in browser.text
    async with site.browser(writer.key_string) as browser:
        await browser.open(_NEW, owner="other")
        await browser.send(url=f"{_URL}/own", event_which="all")
        _secret(browser)
        assert {each.url for each in await _list(site)} == {_URL, f"{_URL}/own"}
        for name in ("", "/edit", "/rotate", "/delete"):
            await browser.open(f"/webhooks/{foreign.webhook_id}{name}")
            assert browser.page.status_code == 404
            assert "foreign" not in browser.text
        await browser.open(f"/webhooks/{own.webhook_id}/delete")
        form = browser.form()
        for name in ("delete", "edit", "rotate", "test", "enable", "deliveries/dlv_x/redeliver"):
            answer = await browser.http.post(f"/webhooks/{own.webhook_id}/{name}x", data=form)
            assert answer.status_code in (403, 404, 405)
            for wrong in ({"form_token": ""}, {"form_token": form["form_token"][0][:-1]}):
                path = f"/webhooks/{own.webhook_id}/{name}"
                answer = await browser.http.post(path, data={**form, **wrong})
                assert answer.status_code == 403, path
    assert len(await _list(site)) == 2


async def test_without_the_operators_key_nothing_is_created(database_url: str, clock: Clock) -> None:
    async with (
        serving(database_url, clock, webhook_keys="") as service,
        site_of(service) as site,
        site.browser(service.admin_key) as browser,
    ):
        await browser.open(_NEW, owner="acme")
        await browser.send(url=_URL, event_which="all")
        assert browser.page.status_code == 409
        assert "AUTHSVC_WEBHOOK_KEYS" in browser.text
