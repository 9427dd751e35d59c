"""Annotations of keys in the forms: rows without a script, and what is wrong with them."""

import re
from typing import Any

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from tests.web.console.conftest import Browser, Site

_HOSTILE = "<script>alert(1)</script>\"'>"


def _rows(browser: Browser) -> list[tuple[str, str]]:
    form = browser.form()
    return list(zip(form["annotation_name"], form["annotation_value"], strict=True))


async def _typed(browser: Browser, *rows: tuple[str, str], **fields: Any) -> None:
    names, values = [name for name, _ in rows], [value for _, value in rows]
    await browser.send(annotation_name=names, annotation_value=values, **fields)


async def _annotations(site: Site) -> dict[str, str]:
    [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
    return dict(key.annotations)


async def test_rows_are_added_changed_and_removed(site: Site) -> None:
    async with site.browser(site.service.admin_key) as browser:
        await browser.open("/keys/new", owner="acme")
        assert _rows(browser) == [("", "")] * 2
        await _typed(browser, ("team", "accounting"), ("note", "two\nlines"), name="Billing")
        assert "data-secret" in browser.page.text
        assert await _annotations(site) == {"team": "accounting", "note": "two\nlines"}
        [key] = (await site.service.admin.ListKeys(owner_id="acme")).keys
        path = f"/keys/{key.key_id}/edit"
        await browser.open(path)
        assert _rows(browser) == [("note", "two\nlines"), ("team", "accounting"), ("", ""), ("", "")]
        await browser.send(name="Renamed")  # what is not touched is not lost
        assert await _annotations(site) == {"team": "accounting", "note": "two\nlines"}
        await browser.open(path)
        await _typed(browser, ("", ""), ("team", "sales"), ("empty", ""), ("", ""), more_annotations="1")
        assert _rows(browser)[:3] == [("", ""), ("team", "sales"), ("empty", "")]
        assert len(_rows(browser)) == 8
        await browser.send()
        assert await _annotations(site) == {"team": "sales", "empty": ""}
        await browser.open(f"/keys/{key.key_id}")
        assert "sales" in browser.text


_WRONG = [
    ([("a name", "x")], "use 1 to 63 characters"),
    ([(_HOSTILE, _HOSTILE)], "use 1 to 63 characters"),
    ([("long", "x" * 257)], "256"),
    ([("", "orphan")], "has no name"),
    ([("twice", "1"), ("twice", "2")], "two annotations with the name"),
    ([(f"n{number}", "x") for number in range(33)], "32"),
    ([("hidden", "a\u202eb")], "U+202E"),
]


async def test_nothing_is_lost_when_a_row_is_wrong(site: Site) -> None:
    made = await site.service.admin.CreateKey(
        owner_id="acme", display_name="Billing", annotations={"team": "sales"}
    )
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/edit")
        for rows, told in _WRONG:
            await _typed(browser, ("kept", "kept"), *rows, name="Renamed", description="Kept")
            assert browser.page.status_code == 400, rows
            wrong = re.search(
                r'id="(annotations|annotation-2)-error">(.*?)</p>', browser.page.text, re.DOTALL
            )
            assert wrong is not None, rows
            assert told in wrong[2], rows
            assert f'{wrong[1]}-error" aria-invalid="true"' in browser.page.text
            assert _rows(browser)[: len(rows) + 1] == [("kept", "kept"), *rows]
            assert browser.form()["name"] == ["Renamed"]
            assert "<script>alert" not in browser.page.text
        assert await _annotations(site) == {"team": "sales"}


async def test_annotations_that_the_policy_fixes_are_not_removed(site: Site) -> None:  # rule 8
    admin = site.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="Billing", annotations={"team": "sales"})
    policy = policy_pb.OwnerPolicy(owner_id="acme", key_edits=policy_pb.KEY_EDITS_DETAILS)
    asked = policy_pb.UpdateOwnerPolicyRequest(policy=policy)
    asked.update_mask.paths.append("key_edits")
    await admin.UpdateOwnerPolicy(asked)
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(f"/keys/{made.key.key_id}/edit")
        assert "annotation_name" not in browser.page.text
        await browser.send(name="Renamed")
        assert "The changes are saved" in browser.text
        assert await _annotations(site) == {"team": "sales"}


async def test_a_stale_form_names_the_annotations_that_it_would_replace(site: Site) -> None:
    made = await site.service.admin.CreateKey(owner_id="acme", display_name="Billing")
    path = f"/keys/{made.key.key_id}/edit"
    async with site.browser(site.service.admin_key) as browser:
        await browser.open(path)
        stale = {**browser.form(), "description": "Typed"}
        await _typed(browser, ("team", "sales"))
        browser.page = await browser.http.post(path, data=stale)
        assert browser.page.status_code == 409
        assert "<strong>Description</strong>, <strong>Annotations</strong>" in browser.text
        assert "Typed</textarea>" in browser.page.text
        assert await _annotations(site) == {"team": "sales"}
        await browser.send(annotation_name=["team"], annotation_value=["sales"])
        assert await _annotations(site) == {"team": "sales"}
