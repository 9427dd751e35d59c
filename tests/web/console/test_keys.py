"""The pages of API keys over plain HTTP: the table, the forms, and what the service refuses."""

import re
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock
from tests.web.console.conftest import Browser, Site


def _secret(browser: Browser) -> str:
    found = re.search(r"data-secret>([^<]+)<", browser.page.text)
    assert found is not None, browser.text
    return found[1]


def _names(browser: Browser) -> list[str]:
    return re.findall(r'role="rowheader"><a href="[^"]*"><bdi>([^<]*)</bdi>', browser.page.text)


async def _policy(site: Site, **fields: object) -> None:
    policy = policy_pb.OwnerPolicy(owner_id="acme", **fields)  # type: ignore[arg-type]
    asked = policy_pb.UpdateOwnerPolicyRequest(policy=policy)
    asked.update_mask.paths.extend(fields)
    await site.service.admin.UpdateOwnerPolicy(asked)


async def test_the_table_shows_what_people_look_for(site: Site) -> None:  # rules 9, 11, 12
    admin = site.service.admin
    made = await admin.CreateKey(
        owner_id="acme", display_name="Billing", scopes=["orders:read"], ttl=Duration(seconds=20 * 86400)
    )
    await admin.CreateKey(owner_id="acme", display_name="Soon", ttl=Duration(seconds=6 * 86400))
    await admin.CreateKey(owner_id="acme", display_name="Later", ttl=Duration(seconds=60 * 86400))
    await admin.VerifyKey(key_string=made.key_string)
    await site.service.flush()
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys", owner="acme")
        rows = dict(re.findall(r"<bdi>(\w+)</bdi></a>(.*?)</tr>", browser.page.text, re.DOTALL))
        assert made.key.key_prefix in rows["Billing"]
        assert "orders:read" in rows["Billing"]
        assert "just now</time>" in rows["Billing"]
        assert 'class="badge warn"' in rows["Billing"]
        assert "in 20 days" in rows["Billing"]
        assert 'class="badge bad"' in rows["Soon"]
        assert "Never used" in rows["Soon"]
        assert 'class="badge good"' in rows["Later"]


async def test_search_filters_order_and_pages_are_in_the_address(site: Site, clock: Clock) -> None:  # rule 10
    admin = site.service.admin
    for number in range(30):
        made = await admin.CreateKey(owner_id="acme", display_name=f"Key {number:02}", scopes=["orders:read"])
        clock.advance(minutes=1)
    await admin.RevokeKey(key_id=made.key.key_id)
    await admin.CreateKey(owner_id="acme", display_name="Other", ttl=Duration(seconds=86400))
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys", owner="acme")
        assert _names(browser)[:2] == ["Other", "Key 29"]
        assert len(_names(browser)) == 25
        path = re.search(r'href="([^"]*)" rel="next"', browser.text)
        assert path is not None
        await browser.open(path[1])
        assert _names(browser) == [f"Key {number:02}" for number in range(5, -1, -1)]
        await browser.open("/keys", owner="acme", sort="display_name asc", q="key 0")
        assert _names(browser) == [f"Key {number:02}" for number in range(10)]
        assert 'aria-sort="ascending"' in browser.page.text
        await browser.open("/keys", owner="acme", state="revoked")
        assert _names(browser) == ["Key 29"]
        await browser.open("/keys", owner="acme", expiring="7")
        assert _names(browser) == ["Other"]
        await browser.open("/keys", owner="acme", scope="orders:read", q="other")
        assert "No key matches" in browser.text
        await browser.open("/keys", owner="acme", q=made.key.key_prefix)
        assert _names(browser) == ["Key 29"]


async def test_each_choice_of_expiry(site: Site, clock: Clock) -> None:  # rule 3
    clock.now = datetime(2027, 1, 31, 12, tzinfo=UTC)
    expected = {
        "five_days": datetime(2027, 2, 5, 12),
        "one_month": datetime(2027, 2, 28, 12),
        "six_months": datetime(2027, 7, 31, 12),
        "one_year": datetime(2028, 1, 31, 12),
        "date": datetime(2027, 3, 2),
    }
    async with site.browser(site.service.admin_key) as browser:
        for choice in (*expected, "unlimited"):
            await browser.open("/keys/new", owner="acme")
            await browser.send(name=choice, expiry=choice, date="2027-03-01")
            _secret(browser)
    keys = (await site.service.admin.ListKeys(owner_id="acme")).keys
    found = {key.display_name: key.expire_time.ToDatetime() for key in keys if key.HasField("expire_time")}
    assert found == expected
    assert len(keys) == 6


async def test_what_is_wrong_is_told_at_its_field(site: Site) -> None:  # rule 2
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        await browser.send(
            name="",
            description="Kept",
            contact_name=["Ada"],
            contact_email=["nonsense"],
            expiry="date",
            date="2020-01-01",
            scope=["orders:read"],
        )
        assert browser.page.status_code == 400
        assert 'id="name-error"' in browser.page.text
        assert 'aria-describedby="name-hint name-error" aria-invalid="true"' in browser.page.text
        assert "Kept</textarea>" in browser.page.text
        assert 'value="nonsense"' in browser.page.text
        assert 'value="orders:read" checked' in browser.page.text
        await browser.send(name="Named", contact_email=["ada@example.org"])
        assert browser.page.status_code == 400
        assert 'id="expiry-error"' in browser.page.text
        await browser.send(expiry="date", date="nonsense")
        assert "Choose a date" in browser.text
        await browser.send(expiry="unlimited")
        _secret(browser)


async def test_a_form_that_is_sent_again_makes_no_second_key(site: Site) -> None:  # rule 1
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        form = {**browser.form(), "name": "Once"}
        browser.page = await browser.http.post("/keys/new", data=form)
        secret = _secret(browser)
        browser.page = await browser.http.post("/keys/new", data=form)
        assert browser.page.status_code == 409
        assert "already created" in browser.text
        assert secret not in browser.page.text
        [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
        assert f"/keys/{key.key_id}/rotate" in browser.page.text
        assert not key.never_delivered


async def test_more_contacts_without_a_script(site: Site) -> None:  # rule 4
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Two", contact_name="Ada", contact_email="ada@example.org", more="1")
        assert "Email of contact 2" in browser.text
        form = browser.form()
        await browser.send(
            contact_name=["Ada", "Grace"], contact_email=["ada@example.org", "grace@example.org"]
        )
        _secret(browser)
        assert form["name"] == ["Two"]
    [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
    assert [contact.name for contact in key.technical_contacts] == ["Ada", "Grace"]


async def test_only_scopes_that_the_caller_has_are_offered(site: Site) -> None:  # rule 6
    own = ["keys:read", "keys:write", "sessions:write", "orders:read"]
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Own", scopes=own)
    async with site.browser(made.key_string) as browser:
        await browser.open("/keys/new")
        assert set(re.findall(r'name="scope" value="([^"]*)"', browser.page.text)) == set(own)
        await browser.send(name="More", scope=["orders:write"])
        assert browser.page.status_code == 403
        assert "scope" in browser.text


async def test_an_edit_sends_what_was_changed(site: Site) -> None:  # rule 8
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Before", scopes=["orders:read"])
    path = f"/keys/{made.key.key_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/edit")
        await browser.send(
            name="After", scope=["orders:read", "reports:read"], expiry="date", date="2027-01-01"
        )
        assert "The changes are saved" in browser.text
        key = await admin.GetKey(key_id=made.key.key_id)
        assert key.display_name == "After"
        assert list(key.scopes) == ["orders:read", "reports:read"]
        assert key.expire_time.ToDatetime() == datetime(2027, 1, 2)
        await browser.open(f"{path}/edit")
        stale = browser.form()
        await browser.send(expiry="never")
        assert not (await admin.GetKey(key_id=made.key.key_id)).HasField("expire_time")
        browser.page = await browser.http.post(f"{path}/edit", data={**stale, "name": "Stale"})
        assert browser.page.status_code == 409
        assert "Somebody else has changed this meanwhile" in browser.text
        await _policy(site, key_edits=policy_pb.KEY_EDITS_DETAILS)
        await browser.open(f"{path}/edit")
        assert 'name="scope"' not in browser.page.text
        await browser.send(description="Allowed")
        assert (await admin.GetKey(key_id=made.key.key_id)).description == "Allowed"
        await _policy(site, key_edits=policy_pb.KEY_EDITS_NONE)
        await browser.open(f"{path}/edit")
        assert "allows no changes" in browser.text


async def test_what_the_policy_refuses_is_told_in_words(site: Site) -> None:  # rules 4, 5, 7
    async with site.browser(site.service.admin_key) as browser:
        await _policy(site, contacts_required=True)
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Refused")
        assert browser.page.status_code == 409
        assert "requires a technical contact" in browser.text
        await _policy(site, keys_enabled=False)
        await browser.open("/policy", owner="acme")
        assert "Switched off" in browser.text
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Refused", contact_name="Ada", contact_email="ada@example.org")
        assert "does not allow API keys" in browser.text


async def test_a_rotation_leaves_time_for_the_old_key(site: Site, clock: Clock) -> None:  # rule 30
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/rotate")
        form = {**browser.form(), "grace": "minutes"}
        browser.page = await browser.http.post(f"/keys/{made.key.key_id}/rotate", data=form)
        secret = _secret(browser)
        assert (await admin.VerifyKey(key_string=secret)).valid
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        browser.page = await browser.http.post(f"/keys/{made.key.key_id}/rotate", data=form)
        assert browser.page.status_code == 409
        assert secret not in browser.page.text
        clock.advance(minutes=14)
        await browser.open(f"/keys/{made.key.key_id}")
        assert "Replaced by" in browser.text
        clock.advance(minutes=2)
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid
        assert (await admin.VerifyKey(key_string=secret)).valid


async def test_a_key_in_use_is_revoked_by_its_name(site: Site) -> None:  # rules 15, 18
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Bücher")
    await admin.VerifyKey(key_string=made.key_string)
    await site.service.flush()
    path = f"/keys/{made.key.key_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/revoke")
        assert "stays signed in, for an hour at most" in browser.text
        assert 'href="/devices/log-out?owner=acme"' in browser.page.text
        await browser.send(reason="Moved", typed="Bucher")
        assert browser.page.status_code == 400
        assert "This is not the name" in browser.text
        assert 'value="Moved"' in browser.page.text
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        await browser.send(typed="Bu\u0308cher")
        assert "The key is revoked" in browser.text
        assert "Moved" in browser.text
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid
        await browser.open(f"{path}/delete")
        await browser.send()
        assert "The key is deleted" in browser.text
        await browser.open(path)
        assert browser.page.status_code == 404


async def test_a_revocation_may_be_scheduled(site: Site, clock: Clock) -> None:  # rule 14
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/revoke")
        await browser.send(when="hour")
        assert "Ends" in browser.text
        await browser.open(f"/keys/{made.key.key_id}/delete")
        assert "Only a revoked key can be deleted" in browser.text
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        clock.advance(minutes=61)
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid


async def test_what_a_key_created_is_revoked_with_it(site: Site) -> None:
    """The page offers it with the number of keys, where there may be something; not for later."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Builder", scopes=["keys:write"])
    by_key = site.service.as_caller(made.key_string)
    created = await by_key.CreateKey(owner_id="acme", display_name="Built")
    gone = await by_key.CreateKey(owner_id="acme", display_name="Gone")
    await admin.RevokeKey(key_id=gone.key.key_id)
    plain = await admin.CreateKey(owner_id="acme", display_name="Plain")
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{plain.key.key_id}/revoke")
        assert 'name="cascade"' not in browser.page.text
        await site.service.flush()
        await browser.open(f"/keys/{made.key.key_id}/revoke")
        assert "Keys: 1, signed-in devices: 0." in browser.text
        assert 'name="cascade" value="1" aria-describedby="cascade-hint"' in browser.page.text
        await browser.send(cascade="1", when="hour", typed="Builder")
        assert browser.page.status_code == 400
        assert "What the key created can end only now" in browser.text
        assert 'name="cascade" value="1" checked' in browser.page.text
        assert (await admin.VerifyKey(key_string=created.key_string)).valid
        await browser.send(cascade="1", when="now", typed="Builder")
        assert "The key is revoked" in browser.text
    assert not (await admin.VerifyKey(key_string=created.key_string)).valid
    assert (await admin.VerifyKey(key_string=plain.key_string)).valid


async def test_what_a_revoked_key_created_ends_afterwards(site: Site) -> None:
    """Its page leads to the form, which is offered as long as there may be something."""
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Builder", scopes=["keys:write"])
    created = await site.service.as_caller(made.key_string).CreateKey(owner_id="acme", display_name="Built")
    plain = await admin.CreateKey(owner_id="acme", display_name="Plain")
    await site.service.flush()
    for key in (made.key, plain.key):
        await admin.RevokeKey(key_id=key.key_id, reason="Leaked")
    path = f"/keys/{made.key.key_id}"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{plain.key.key_id}/revoke")
        assert "This key is already revoked." in browser.text
        assert "<button" not in browser.page.text.partition('<form method="post" class="card">')[2]
        await browser.open(path)
        assert f'href="{path}/revoke' in browser.page.text
        await browser.open(f"{path}/revoke")
        assert "End what Builder created?" in browser.text
        assert "Keys: 1, signed-in devices: 0." in browser.text
        assert (await admin.VerifyKey(key_string=created.key_string)).valid
        await browser.send(reason="Of the thief")
        assert "What the key created has ended." in browser.text
        assert not (await admin.VerifyKey(key_string=created.key_string)).valid
        ended = await admin.GetKey(key_id=created.key.key_id)
        assert ended.revoke_reason == "Of the thief"
        assert (await admin.GetKey(key_id=made.key.key_id)).revoke_reason == "Leaked"
        await browser.open(f"{path}/revoke")
        assert "Keys: 0, signed-in devices: 0." in browser.text
        await browser.send()
        assert browser.page.status_code == 409
        assert "Nothing was left to end." in browser.text


async def test_the_last_administrator_key_is_kept(site: Site) -> None:
    [key] = (await site.service.admin.ListKeys(owner_id="authsvc")).keys
    async with site.browser(site.service.admin_key) as browser:
        await site.service.flush()
        await browser.open(f"/keys/{key.key_id}/revoke")
        await browser.send(typed=key.display_name)
        assert browser.page.status_code == 409
        assert "Create another one first" in browser.text


async def test_contacts_are_shown(site: Site) -> None:
    contact = resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")
    made = await site.service.admin.CreateKey(
        owner_id="acme", display_name="Billing", technical_contacts=[contact]
    )
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}")
        assert "ada@example.org" in browser.text
