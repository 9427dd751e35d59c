"""The pages of policies over plain HTTP: what is saved, who may, and what is refused."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import owner_policy_service_pb2 as pb
from tests.web.console.conftest import Browser, Site

_PATH = "/policy/edit"
_HOSTILE = "<script>alert(1)</script>\"'>"


async def _policy(site: Site) -> Any:
    return await site.service.admin.GetOwnerPolicy(owner_id="acme")


async def _save(browser: Browser, **fields: Any) -> None:
    await browser.open(_PATH, owner="acme")
    await browser.send(**fields)


async def test_every_field_is_saved_and_shown_as_it_was_typed(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/policy", owner="acme")
        assert "This is the default policy" in browser.text
        await browser.open(_PATH, owner="acme")
        assert "Saving gives it a policy of its own" in browser.text
        await browser.send(
            max_active_keys="5",
            scope_which="some",
            scope=["orders:read", "keys:read"],
            max_key_lifetime="90",
            max_key_lifetime_unit="day",
            expiration_required="1",
            contacts_required="1",
            key_edits="DETAILS",
            key_managers="SESSIONS_ONLY",
            rotation_period="1.5",
            rotation_period_unit="hour",
            brand="acme",
            allowed_networks="198.51.100.7\r\n\r\n192.0.2.0/24\r\n",
        )
        assert "The policy is saved" in browser.text
        for told in (
            "90 days",
            "90 minutes",
            "keys:read",
            "Name, description and contacts",
            "no key",
            ">5<",
            ">192.0.2.0/24<",
        ):
            assert told in browser.text, told
        found = await _policy(site)
        expected = pb.OwnerPolicy(
            owner_id="acme",
            keys_enabled=True,
            max_active_keys=5,
            allowed_scopes=["keys:read", "orders:read"],
            max_key_lifetime=Duration(seconds=90 * 86400),
            expiration_required=True,
            contacts_required=True,
            key_edits=pb.KEY_EDITS_DETAILS,
            key_managers=pb.KEY_MANAGERS_SESSIONS_ONLY,
            rotation_period=Duration(seconds=5400),
            brand="acme",
            allowed_networks=["192.0.2.0/24", "198.51.100.7/32"],
            update_time=found.update_time,
            etag=found.etag,
        )
        assert found == expected
        await _save(browser)  # as it was shown
        assert await _policy(site) == expected
        emptied = ("max_active_keys", "max_key_lifetime", "rotation_period", "brand", "allowed_networks")
        await _save(browser, scope_which="all", **dict.fromkeys(emptied, ""))
        found = await _policy(site)
        assert not found.max_active_keys
        assert not found.allowed_scopes
        assert not found.allowed_networks
        assert not found.HasField("max_key_lifetime")
        assert not found.HasField("rotation_period")
        assert found.contacts_required
        assert "No limit" in browser.text


async def test_switching_keys_off_is_confirmed_and_stops_them(site: Site) -> None:  # rule 7
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name=_HOSTILE)
    await admin.VerifyKey(key_string=made.key_string)
    await site.service.flush()
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(_PATH, owner="acme")
        form = {**browser.form(), "brand": "kept"}
        del form["keys_enabled"]
        browser.page = await browser.http.post(f"{_PATH}?owner=acme", data=form)
        assert browser.page.status_code == 400
        for told in ("Confirm that first", "1 active key", "just now</time>", 'value="kept"'):
            assert told in browser.text, told
        assert "<script>alert" not in browser.page.text
        assert (await admin.VerifyKey(key_string=made.key_string)).valid
        await browser.send(understood="1")
        assert "The policy is saved" in browser.text
        assert "Switched off" in browser.text
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid
        await _save(browser, keys_enabled="1")
        assert (await admin.VerifyKey(key_string=made.key_string)).valid


async def test_a_stale_form_loses_nothing_and_says_so(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(_PATH, owner="acme")
        stale = {**browser.form(), "brand": "typed", "max_active_keys": "7"}
        asked = pb.UpdateOwnerPolicyRequest(policy=pb.OwnerPolicy(owner_id="acme", max_active_keys=3))
        asked.update_mask.paths.append("max_active_keys")
        await site.service.admin.UpdateOwnerPolicy(asked)
        browser.page = await browser.http.post(f"{_PATH}?owner=acme", data=stale)
        assert browser.page.status_code == 409
        assert "Somebody else has changed this meanwhile" in browser.text
        assert (
            "<strong>Active keys at most</strong>, <strong>Beginning of key strings</strong>" in browser.text
        )
        assert 'value="typed"' in browser.page.text
        assert (await _policy(site)).max_active_keys == 3
        await browser.send()
        assert "The policy is saved" in browser.text
        assert (await _policy(site)).max_active_keys == 7
        assert (await _policy(site)).brand == "typed"


_WRONG = [
    ("max_active_keys", "0", "or leave the field empty for no limit"),
    ("max_active_keys", "-1", "whole number"),
    ("max_active_keys", "٣", "whole number"),
    ("max_active_keys", "100001", "100000"),
    ("max_key_lifetime", "0", "above 0"),
    ("max_key_lifetime", _HOSTILE[:20], "above 0"),
    ("max_key_lifetime", "1e9", "above 0"),
    ("rotation_period", "99999999999999999999", "marked"),
    ("rotation_period", "0.0000001", "marked"),
    ("brand", "Not this", "2 to 10 characters"),
    ("scope_other", "orders:rea", "did you mean orders:read"),
    ("key_edits", "nonsense", "is required"),
]


async def test_bad_input_is_told_at_its_field_and_kept(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(_PATH, owner="acme")
        form = browser.form()
        for field, typed, told in _WRONG:
            which = {"scope_which": "some"} if field == "scope_other" else {}
            browser.page = await browser.http.post(_PATH, data={**form, field: typed, **which})
            assert browser.page.status_code == 400, (field, typed)
            assert told in browser.text, (field, typed)
            assert 'aria-invalid="true"' in browser.page.text
            assert "<script>alert" not in browser.page.text
            if field != "key_edits":
                assert f'value="{typed}"' in browser.text
        assert not (await _policy(site)).HasField("update_time")


async def test_scopes_that_are_ticked_are_not_lost_silently(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await _save(browser, scope=["orders:read"])
        assert "Some are chosen below" in browser.text
        await browser.send(scope_which="some", scope=[])
        assert "Choose at least one" in browser.text
        await browser.send(scope_which="")
        assert "Choose all, or only some" in browser.text
        assert not (await _policy(site)).HasField("update_time")


async def test_only_the_platform_changes_policies(site: Site) -> None:
    admin = site.service.admin
    own = await admin.CreateKey(owner_id="acme", display_name="Own", scopes=["full_access"])
    reader = await admin.CreateKey(
        owner_id="acme", display_name="Reader", scopes=["policies:read", "sessions:write"]
    )
    for key_string, told in (
        (own.key_string, "Only callers of the platform"),
        (reader.key_string, "policies:write"),
    ):
        async with site.browser(key_string) as browser:
            await browser.open("/policy")
            assert browser.page.status_code == 200
            assert _PATH not in browser.page.text
            await browser.open(_PATH, owner="other")
            assert browser.page.status_code == 403
            assert told in browser.text
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/policy")
        assert _PATH not in browser.page.text
        await browser.open(_PATH)
        assert browser.page.status_code == 409
        assert "cannot lock itself out" in browser.text
