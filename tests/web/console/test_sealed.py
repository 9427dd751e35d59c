"""Key strings that are shown sealed."""

import re
from html import unescape

from tests import age
from tests.web.console.conftest import Browser, Site

_HOSTILE = "<script>alert(1)</script>\"'>"


def _sealed(browser: Browser) -> str:
    found = re.search(r"data-secret>([^<]+)<", browser.page.text)
    assert found is not None, browser.text
    return unescape(found[1])


async def test_a_new_key_string_is_shown_sealed_only(site: Site) -> None:  # rule 1
    recipient, admin = age.Recipient(), site.service.admin
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        form = {**browser.form(), "name": "Billing", "seal_to": f" {recipient.public} "}
        browser.page = await browser.http.post("/keys/new", data=form)
        first = recipient.open(_sealed(browser))
        assert (await admin.VerifyKey(key_string=first)).valid
        assert first not in browser.page.text
        for told in ("Save your sealed key", "age -d -i key.txt", recipient.public):
            assert told in browser.text, told
        browser.page = await browser.http.post("/keys/new", data=form)
        assert browser.page.status_code == 409
        assert "already created" in browser.text
        [key] = (await admin.ListKeys(owner_id="acme")).keys
        assert not key.never_delivered
        await browser.open(f"/keys/{key.key_id}/rotate")
        await browser.send(seal_to=recipient.public, grace="at_once")
        second = recipient.open(_sealed(browser))
        assert second not in browser.page.text
        assert (await admin.VerifyKey(key_string=second)).valid
        assert not (await admin.VerifyKey(key_string=first)).valid


async def test_a_bad_recipient_is_told_at_its_field(site: Site) -> None:
    """A private key is refused, and not repeated."""
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    recipient = age.Recipient()
    wrong = (recipient.public[:-1], recipient.public.upper(), "ssh-ed25519 AAAA", _HOSTILE, recipient.secret)
    async with site.browser(site.service.admin_key) as browser:
        for path, kept in (
            ("/keys/new", {"name": "Kept"}),
            (f"/keys/{made.key.key_id}/rotate", {"grace": "hour"}),
        ):
            await browser.open(path, owner="acme")
            form = {**browser.form(), **kept}
            for typed in wrong:
                browser.page = await browser.http.post(path, data={**form, "seal_to": typed})
                assert browser.page.status_code == 400, (path, typed)
                assert 'id="seal_to-error"' in browser.page.text, (path, typed)
                assert 'seal_to-error" aria-invalid="true"' in browser.page.text
                assert "<script>alert" not in browser.page.text
                if typed == recipient.secret:
                    assert typed not in browser.text
                    assert "send the public key" in browser.text
                else:
                    assert browser.form()["seal_to"] == [typed]
                for name, value in kept.items():
                    assert browser.form()[name] == [value]
    [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
    assert not key.rotated_to_key_id
