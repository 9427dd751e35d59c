"""Credits of keys in the forms."""

from tests.web.console.conftest import Site


async def test_credits_are_given_changed_and_taken_away(site: Site) -> None:
    """What the key spends while a form is open is not given back by saving it."""
    admin = site.service.admin
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Billing", credits="500", credit_refill="1000@31")
        assert "data-secret" in browser.page.text
        [key] = (await admin.ListKeys(owner_id="acme")).keys
        assert (key.credits.remaining, key.credits.refill.amount, key.credits.refill.day_of_month) == (
            500,
            1000,
            31,
        )
        path = f"/keys/{key.key_id}"
        await browser.open(path)
        assert "500 left. Set to 1000" in browser.text
        await browser.open(f"{path}/edit")
        # As if it was spent meanwhile: this leaves the etag as it is.
        form = browser.form()
        assert (form["credits"], form["credit_refill"]) == (["500"], ["1000@31"])
        await browser.send(name="Renamed")
        assert (await admin.GetKey(key_id=key.key_id)).credits == key.credits
        await browser.open(f"{path}/edit")
        await browser.send(credit_refill="2000@1")
        changed = (await admin.GetKey(key_id=key.key_id)).credits
        assert (changed.remaining, changed.refill.amount, changed.refill.day_of_month) == (500, 2000, 1)
        await browser.open(f"{path}/edit")
        for typed in (
            {"credits": "many"},
            {"credits": "-1"},
            {"credit_refill": "monthly"},
            {"credit_refill": "5@32"},
        ):
            await browser.send(**typed)
            assert browser.page.status_code == 400
            await browser.open(f"{path}/edit")
        await browser.send(credits="", credit_refill="")
        assert not (await admin.GetKey(key_id=key.key_id)).HasField("credits")
        assert "No such bound" in browser.text
