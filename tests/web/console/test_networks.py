"""Allowed networks of keys and policies in the forms: lines, and what is wrong with them."""

import re

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from tests.web.console.conftest import Browser, Site

_HOSTILE = "<script>alert(1)</script>\"'>"


def _typed(browser: Browser) -> str:
    return str(browser.form()["allowed_networks"][0])


async def test_networks_are_added_changed_and_removed(site: Site) -> None:
    admin = site.service.admin
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        assert "client_ip" in browser.text
        await browser.send(
            name="Billing", allowed_networks=" 2001:db8::/48 \r\n\r\n192.0.2.0/24\r\n198.51.100.7"
        )
        assert "data-secret" in browser.page.text
        [key] = (await admin.ListKeys(owner_id="acme")).keys
        assert list(key.allowed_networks) == ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/48"]
        path = f"/keys/{key.key_id}"
        await browser.open(path)
        for network in key.allowed_networks:
            assert f"<code>{network}</code>" in browser.page.text
        await browser.open(f"{path}/edit")
        assert _typed(browser).split("\n") == list(key.allowed_networks)
        await browser.send(name="Renamed")  # what is not touched is not lost
        renamed = await admin.GetKey(key_id=key.key_id)
        assert (renamed.display_name, renamed.allowed_networks) == ("Renamed", key.allowed_networks)
        await browser.open(f"{path}/edit")
        stale = {**browser.form(), "description": "Typed"}
        await browser.send(allowed_networks="")
        assert "Any that the policy allows" in browser.text
        assert not (await admin.GetKey(key_id=key.key_id)).allowed_networks
        browser.page = await browser.http.post(f"{path}/edit", data=stale)
        assert browser.page.status_code == 409
        assert "<strong>Allowed networks</strong>" in browser.text


_WRONG = [
    ("192.0.2.0/24\n\nnonsense", ["Line 3: "]),
    ("\n192.0.2.1/24\n10.0.0.0/8\nfe80::1%eth0", ["Line 2: ", "use 192.0.2.0/24", "Line 4: "]),
    (_HOSTILE, ["Line 1: "]),
    ("a\u202eb", ["Line 1: "]),
    ("x" * 65, ["Line 1: ", "64"]),
    ("\n".join(f"192.0.2.{number}" for number in range(51)), ["50"]),
]


async def test_what_is_wrong_is_told_by_line(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    paths = ("/keys/new", f"/keys/{made.key.key_id}/edit", "/policy/edit")
    async with site.browser(site.service.admin_key) as browser:
        for path in paths:
            await browser.open(path, owner="acme")
            form = {**browser.form(), "name": "Kept"}
            # All forms go by the same code, and pages in a row are slowed down.
            for typed, expected in _WRONG if path == "/keys/new" else _WRONG[:2]:
                browser.page = await browser.http.post(path, data={**form, "allowed_networks": typed})
                assert browser.page.status_code == 400, (path, typed)
                wrong = re.search(r'id="allowed_networks-error">(.*?)</p>', browser.page.text, re.DOTALL)
                assert wrong is not None, (path, typed)
                for told in expected:
                    assert told in wrong[1], (path, typed)
                assert wrong[1].count("Line ") == sum(told.startswith("Line ") for told in expected)
                assert 'allowed_networks-error" aria-invalid="true"' in browser.page.text
                assert _typed(browser) == typed
                assert "<script>alert" not in browser.page.text
    assert len((await site.service.admin.ListKeys(owner_id="acme")).keys) == 1
    assert not (await site.service.admin.GetKey(key_id=made.key.key_id)).allowed_networks


async def test_networks_follow_the_policy_and_the_scopes(site: Site) -> None:
    """They are no detail of a key; and who lacks a scope of the key does not give it more of them."""
    admin = site.service.admin
    made = await admin.CreateKey(
        owner_id="acme", display_name="Billing", scopes=["orders:read"], allowed_networks=["192.0.2.0/24"]
    )
    path = f"/keys/{made.key.key_id}"
    own = await admin.CreateKey(
        owner_id="acme", display_name="Own", scopes=["keys:read", "keys:write", "sessions:write"]
    )
    async with site.browser(own.key_string) as browser:
        await browser.open(f"{path}/edit")
        await browser.send(allowed_networks="192.0.0.0/16")
        assert browser.page.status_code == 403
        assert _typed(browser) == "192.0.0.0/16"
        await browser.send(allowed_networks="192.0.2.7")
        assert "The changes are saved" in browser.text
    policy = policy_pb.OwnerPolicy(
        owner_id="acme", key_edits=policy_pb.KEY_EDITS_DETAILS, allowed_networks=["192.0.2.0/25"]
    )
    asked = policy_pb.UpdateOwnerPolicyRequest(policy=policy)
    asked.update_mask.paths.extend(("key_edits", "allowed_networks"))
    await admin.UpdateOwnerPolicy(asked)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"{path}/edit")
        assert "allowed_networks" not in browser.page.text
        await browser.send(name="Renamed")
        await browser.open("/keys/new", owner="acme")
        assert "allows these networks only: 192.0.2.0/25" in browser.text
    assert list((await admin.GetKey(key_id=made.key.key_id)).allowed_networks) == ["192.0.2.7/32"]
