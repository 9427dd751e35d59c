"""Rate limits of keys and policies in the forms: lines, and what is wrong with them."""

import re

from tests.web.console.conftest import Browser, Site


def _typed(browser: Browser) -> str:
    return str(browser.form()["rate_limits"][0])


async def test_limits_are_added_changed_and_removed(site: Site) -> None:
    """In the form of a key and of a policy; what is not touched is not lost."""
    admin = site.service.admin
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        await browser.send(name="Billing", rate_limits="requests=100/1m\r\n\r\n daily = 5000 / 24h ")
        assert "data-secret" in browser.page.text
        [key] = (await admin.ListKeys(owner_id="acme")).keys
        assert [(each.name, each.limit, each.period.seconds) for each in key.rate_limits] == [
            ("daily", 5000, 86_400),
            ("requests", 100, 60),
        ]
        path = f"/keys/{key.key_id}"
        await browser.open(path)
        for shown in ("daily=5000/1d", "requests=100/1m"):
            assert f"<code>{shown}</code>" in browser.page.text
        await browser.open(f"{path}/edit")
        assert _typed(browser).split("\n") == ["daily=5000/1d", "requests=100/1m"]
        await browser.send(name="Renamed")
        renamed = await admin.GetKey(key_id=key.key_id)
        assert (renamed.display_name, renamed.rate_limits) == ("Renamed", key.rate_limits)
        await browser.open(f"{path}/edit")
        await browser.send(rate_limits="requests=100/1m\r\ndaily=5000/1d")
        reordered = await admin.GetKey(key_id=key.key_id)
        assert (reordered.etag, reordered.rate_limits) == (renamed.etag, key.rate_limits)
        await browser.open(f"{path}/edit")
        await browser.send(rate_limits="")
        assert "None but those of the policy" in browser.text
        assert not (await admin.GetKey(key_id=key.key_id)).rate_limits
        await browser.open("/policy/edit", owner="acme")
        await browser.send(rate_limits="all=1000/1h")
        assert "<code>all=1000/1h</code>" in browser.page.text
        [limit] = (await admin.GetOwnerPolicy(owner_id="acme")).rate_limits
        assert (limit.name, limit.limit, limit.period.seconds) == ("all", 1000, 3600)
        await browser.open(f"{path}/edit")
        assert "all=1000/1h" in browser.text


_WRONG = [
    ("b=0/1m\n\na=5/1m", ["Line 1: "]),
    ("a=1/1m\n\nnonsense", ["Line 3: This is not a limit"]),
    ("<script>alert(1)</script>\"'>", ["Line 1: This is not a limit"]),
    ("a=1/1m\na=2/1m", ["Line 2: ", "give each limit a name of its own"]),
    ("a=0/1m", ["Line 1: "]),
    ("a=1/1m\n9Up=1/1m", ["Line 2: ", "pattern"]),
    ("a=1/9999999d", ["Line 1: "]),
    ("a=2147483647/1m", ["Line 1: "]),
    ("a=2147483648/1m", ["Line 1: This is not a limit"]),
    ("a=1/32d", ["Line 1: "]),
    ("\n".join(f"a{number}=1/1m" for number in range(6)), ["5"]),
]


async def test_what_is_wrong_is_told_by_line(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    policy = await site.service.admin.GetOwnerPolicy(owner_id="acme")
    async with site.browser(site.service.admin_key) as browser:
        for path in ("/keys/new", f"/keys/{made.key.key_id}/edit", "/policy/edit"):
            await browser.open(path, owner="acme")
            form = {**browser.form(), "name": "Kept"}
            # All forms go by the same code, and pages in a row are slowed down.
            for typed, told in _WRONG if path == "/keys/new" else _WRONG[:4]:
                browser.page = await browser.http.post(path, data={**form, "rate_limits": typed})
                assert browser.page.status_code == 400, (path, typed)
                wrong = re.search(r'id="rate_limits-error">(.*?)</p>', browser.page.text, re.DOTALL)
                assert wrong is not None, (path, typed)
                text = re.sub(r"<.*?>", "", wrong[1])
                assert all(each in text for each in told), (path, typed, text)
                assert text.count("Line ") == sum("Line " in each for each in told), (path, typed, text)
                assert _typed(browser) == typed
                assert "<script>alert" not in browser.page.text
    assert not (await site.service.admin.GetKey(key_id=made.key.key_id)).rate_limits
    assert await site.service.admin.GetOwnerPolicy(owner_id="acme") == policy
