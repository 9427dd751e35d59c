"""What mails say: what happened and what to do, never a secret, and nothing that somebody slipped in."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from email.parser import Parser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from authsvc.config.mail import Sender
from authsvc.config.settings import ConfigError
from authsvc.model.key_string import KeyMint
from authsvc.model.notification import Notification, NotificationType
from authsvc.notifications.mail.composer import MAX_LISTED, CannotCompose, Composer
from authsvc.notifications.mail.templates import Templates
from tests.notifications.smtp import SENDER, Arrived, notification

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OPERATOR = "operator@example.org"
CONSOLE = "https://console.example/keys?a=1&b=2"
DAY = "2026-12-01T09:30:00+00:00"


def composer(directory: Path | None = None, sender: Sender = SENDER, operator: str = OPERATOR) -> Composer:
    return Composer(sender, Templates(directory), operator=operator, console_url=CONSOLE)


def compose(
    *notifications: Notification,
    address: str = "ann@example.org",
    name: str = "Ann",
    count: int = 0,
    by: Composer | None = None,
) -> Arrived:
    mail = asyncio.run(
        (by or composer()).compose(
            address,
            name,
            notifications[:MAX_LISTED],
            count=count or len(notifications),
            message_id="evt_1.1@sender.example",
            now=NOW,
        )
    )
    return Arrived(mail.sender, mail.recipient, mail.content)


def about(type_: str, subject: dict[str, Any] | None = None, **fields: Any) -> Notification:
    known = dict(notification(1).subject)
    return notification(1, type_, subject=known | (subject or {}), **fields)


WARNED = {"expire_time": DAY, "create_time": "2026-08-01T00:00:00+00:00"}
CASES: list[tuple[Notification, str, list[str]]] = [
    (
        about(
            "key.created",
            actor_id="key_9",
            actor_type="key",
            actor_owner_id="authsvc",
            details={"scopes": "orders:read orders:write", "expire_time": DAY},
        ),
        'API key "job 1" was created',
        [
            "Key: job 1",
            "Prefix: authsvc_live_000000000001",
            "Key ID: key_1",
            "Owner: acme",
            "Time: 2026-11-21 11:30 UTC",
            "By: the key key_9 of authsvc",
            "Scopes: orders:read orders:write",
            "Last used: never",
            "Expires: never",
            "revoke the key",
            f"Console: {CONSOLE}",
        ],
    ),
    (
        about("key.updated", details={"fields": "display_name,expire_time", "expire_time": DAY}),
        'API key "job 1" was changed',
        ["An API key of acme was changed: display name, expire time."],
    ),
    (
        about(
            "key.rotated", {"revoke_time": DAY, "rotated_to_key_id": "key_2"}, details={"revoke_time": DAY}
        ),
        'API key "job 1" was rotated',
        [
            "replaced by a new one, key_2.",
            "works until 2026-12-01 09:30 UTC",
            "Works until: 2026-12-01 09:30 UTC",
            "Successor: key_2",
        ],
    ),
    (
        about("key.rotated", {"revoke_time": "2026-11-21T11:30:00+00:00", "rotated_to_key_id": "key_2"}),
        'API key "job 1" was rotated',
        ["The old key no longer works. Use the new one."],
    ),
    (
        about("key.revoked", {"revoke_time": "2026-11-21T11:30:00+00:00"}, details={"reason": "leaked"}),
        'API key "job 1" was revoked',
        ["It no longer works, and cannot be restored.", "Reason: leaked", "Revoked: 2026-11-21 11:30 UTC"],
    ),
    (
        about("key.revoked", {"revoke_time": DAY}),
        'API key "job 1" will be revoked at 2026-12-01 09:30 UTC',
        ["stops working at 2026-12-01 09:30 UTC"],
    ),
    (
        notification(
            1, "key.revoked", target_id="acme", subject={}, details={"count": "3", "reason": "leaked"}
        ),
        "All API keys of acme were revoked",
        ["All API keys of acme were revoked, 3 in all.", "Reason: leaked"],
    ),
    (
        about("key.deleted", {"last_use_time": DAY}),
        'API key "job 1" was deleted',
        ["An API key of acme was deleted.", "Last used: 2026-12-01 09:30 UTC"],
    ),
    (
        about("key.disabled", details={"disabled_until": DAY, "reason": "audit"}),
        'API key "job 1" was disabled',
        ["was disabled until 2026-12-01 09:30 UTC.", "Reason: audit"],
    ),
    (about("key.disabled"), 'API key "job 1" was disabled', ["It works again when it is enabled."]),
    (about("key.enabled"), 'API key "job 1" was enabled', ["that was disabled works again."]),
    (
        about("key.address_refused", details={"address": "192.0.2.1", "count": "2"}),
        'API key "job 1" was refused at another address',
        ["allowed networks: 192.0.2.1.", "rotate it now."],
    ),
    (
        about("key.expiring", WARNED, details={"remaining_days": "7", "threshold_days": "7"}),
        'API key "job 1" expires in 7 days',
        ["expires at 2026-12-01 09:30 UTC", "extend or rotate it", "If it is not, revoke it."],
    ),
    (
        about("key.expiring", WARNED, details={"remaining_days": "1"}),
        'API key "job 1" expires in 1 day',
        [],
    ),
    (
        about("key.expiring", WARNED),
        'API key "job 1" expires at 2026-12-01 09:30 UTC',
        [],
    ),
    (
        about("key.expired", WARNED),
        'API key "job 1" has expired',
        ["expired at 2026-12-01 09:30 UTC. It no longer works.", "delete it"],
    ),
    (
        about("key.unused", {"last_use_time": "2026-07-01T00:00:00+00:00"}, details={"unused_days": "143"}),
        'API key "job 1" has not been used for 143 days',
        ["was last used at 2026-07-01 00:00 UTC", "revoke it"],
    ),
    (about("key.unused"), 'API key "job 1" has not been used', ["An API key of acme has never been used."]),
    (
        about("key.rotation_due", WARNED, details={"age_days": "112", "rotation_period": "7776000s"}),
        'API key "job 1" is due to be rotated',
        [
            "older than the policy of its owner allows: 112 days, where 90 days are allowed.",
            "It was created at 2026-08-01 00:00 UTC.",
            "Rotate it.",
        ],
    ),
    (
        notification(
            1,
            "session.created",
            target_id="ses_1",
            subject={
                "session_id": "ses_1",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                "client_hints": {},
                "ip_address": "192.0.2.7",
                "create_time": DAY,
            },
        ),
        "New sign-in to acme from Firefox 128 on Linux",
        ["Device: Firefox 128 on Linux", "IP address: 192.0.2.7", "revoke the session"],
    ),
    (
        notification(
            1,
            "policy.updated",
            target_id="acme",
            subject={},
            details={"max_active_keys": "5", "key_managers": "SESSIONS_ONLY"},
        ),
        "The policy for API keys of acme was changed",
        ["Max active keys: 5", "Key managers: SESSIONS_ONLY"],
    ),
    (
        notification(
            1,
            "policy.updated",
            target_id="acme",
            subject={},
            details={"max_active_keys": "0", "max_key_lifetime": "0s", "rotation_period": "5184000s"},
        ),
        "The policy for API keys of acme was changed",
        ["Max active keys: no limit", "Max key lifetime: no limit", "Rotation period: 60 days"],
    ),
    (
        notification(1, "policy.updated", target_id="acme", subject={}, details={"rotation_period": "0s"}),
        "The policy for API keys of acme was changed",
        ["Rotation period: never"],
    ),
    (
        notification(
            1,
            "webhook.failing",
            subject={
                "webhook_id": "whk_1",
                "url": "https://hooks.example",
                "failing_since": "2026-11-18T11:30:00Z",
                "last_error": "answered 500",
                "disable_reason": "",
            },
        ),
        "A webhook of acme is failing",
        [
            "Webhook: whk_1",
            "Address: hooks. example",
            "Failing since: 2026-11-18 11:30 UTC",
            "Last error: answered 500",
            "status of 2xx within\n15 seconds",
        ],
    ),
    (
        notification(
            1,
            "webhook.disabled",
            subject={"webhook_id": "whk_1", "url": "https://hooks.example", "disable_reason": "gone"},
        ),
        "A webhook of acme was disabled",
        ["because its receiver answered that it is gone (410)", "then enable the webhook again"],
    ),
    (notification(1, "key.of_a_later_version"), "Notification about acme: key.of_a_later_version", []),
]


def test_each_type_is_among_the_cases() -> None:
    assert {case[0].type for case in CASES} > {each.value for each in NotificationType}


@pytest.mark.parametrize(("told", "subject", "texts"), CASES, ids=lambda value: getattr(value, "type", ""))
def test_what_a_mail_says(told: Notification, subject: str, texts: Sequence[str]) -> None:
    """In text and in HTML."""
    arrived = compose(told)
    assert arrived.message["Subject"] == subject
    for text in texts:
        assert text in arrived.text
        label, colon, value = text.partition(": ")
        html = arrived.html.replace("&amp;", "&")
        assert text in html or (colon and value in html and (f">{label}</th>" in html or label == "Console"))
    assert "Owner: acme" in arrived.text
    assert "you are a technical contact" in arrived.text
    assert "\n\n\n" not in arrived.text


def test_headers() -> None:
    arrived = compose(notification(1))
    shown = {name: str(value) for name, value in arrived.message.items()}
    assert shown.pop("Content-Type").startswith('multipart/alternative; boundary="')
    assert shown == {
        "Subject": 'API key "job 1" was created',
        "MIME-Version": "1.0",
        "Message-ID": "<evt_1.1@sender.example>",
        "Date": "Sat, 21 Nov 2026 12:00:00 +0000",
        "References": "<key_1@sender.example>",
        "List-Unsubscribe": "<mailto:operator@example.org?subject=unsubscribe>",
        "From": "authsvc <noreply@sender.example>",
        "To": "Ann <ann@example.org>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }


def test_mail_to_the_operator_says_why() -> None:
    """It has no header that asks the operator to stop it."""
    arrived = compose(about("key.created", contacts=()), address=OPERATOR, name="")
    assert "yours is the\naddress of the operator of this service" in arrived.text
    assert "List-Unsubscribe" not in arrived.message


def test_several_in_one_mail() -> None:
    """The first fifty are listed, and the others counted."""
    told = [notification(number, "key.expiring", details={"remaining_days": "7"}) for number in range(60)]
    arrived = compose(*told, count=260)
    assert arrived.message["Subject"] == "260 notifications about acme"
    for text in (arrived.text, arrived.html.replace("&#34;", '"')):
        assert 'API key "job 0" expires in 7 days' in text
        assert 'API key "job 49" expires in 7 days' in text
        assert "job 50" not in text
        assert "210 more are not listed here." in text
    assert len(arrived.content) < 60_000
    assert "References" not in arrived.message
    two = compose(*told[:2], notification(3, owner_id="other"))
    assert two.message["Subject"] == "3 notifications about API keys"
    assert "not listed" not in two.text


def test_each_of_several_says_what_matters() -> None:
    """Warnings of several keys are usually in one mail, and so is all that is over the limit."""
    told = [case[0] for case in CASES]
    arrived = compose(*told)
    for text in (
        "Reason: leaked",
        "Last used: 2026-07-01 00:00 UTC",
        "Successor: key_2",
        "Works until: 2026-12-01 09:30 UTC",
        "IP address: 192.0.2.7",
        "Last error: answered 500",
        "Max active keys: 5",
    ):
        label, _, value = text.partition(": ")
        assert f"\n  {text}\n" in arrived.text
        assert f"{label}:</span> {value}" in arrived.html


EVIL = [
    "x\r\nBcc: victim@example.com",
    "x\nBcc: victim@example.com\n\nbody",
    "x\rBcc: victim@example.com",
    "x\u2028Bcc: victim@example.com",
    "x\x85Bcc: victim@example.com",
    "x\x0b\x0c\x1c\x1d\x1eBcc: victim@example.com",
    "x\0Bcc: victim@example.com",
    "=?utf-8?q?x=0D=0ABcc:_victim@example.com?=",
    "\u202egro.elpmaxe@nna\u202c <victim@example.com>",
    "a\u200bb\u200d\ufeffc",
    '"><script>alert(1)</script><a href="https://evil.example">x</a>',
    "{{ 7 * 7 }}{% for x in () %}{{ ''.__class__ }}",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=0D=0ABcc:_victim@example.com=3F=3D?=",
    "=?utf-8?b?eA0KQmNjOiB2aWN0aW1AZXhhbXBsZS5jb20=?= =?utf-8?q?=0A?=",
    "Claim your prize at https://evil.example/win or www.evil.example",
    "Ann <victim@example.com>, Bob <bob@example.com>",
    "Locked: sign in at evil.example/login, Sign-In.Evil.Example, xn--e.xn--vermgensberatung or 例.公司",
    "evil\u3002example evil\uff0eexample",
    ', ; : \\ " ( ) @ [ ]',
    "é" * 10_000,
    "e" + "\u0301" * 5000,
    "\ud83d",
    "--===============",
    ".\r\nQUIT\r\n",
]


def without_style(html: str) -> str:
    return re.sub(r'style="[^"]*"', "", html)


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
@pytest.mark.parametrize("several", [False, True])
def test_injection(evil: str, several: bool) -> None:
    """Whatever people write: the headers are ours, HTML is text, and nothing is read as a link."""
    told = about(
        "key.revoked",
        {
            "display_name": evil,
            "key_prefix": evil,
            "rotated_to_key_id": evil,
            "last_use_time": evil,
            "url": evil,
        },
        actor_id=evil,
        owner_id=evil,
        target_id=evil,
        details={"reason": evil, evil[:40]: evil},
    )
    arrived = compose(*([told] * (2 if several else 1)), name=evil)
    message = arrived.message
    names = ["Subject", "MIME-Version", "Content-Type", "Message-ID", "Date", "From", "To", "Auto-Submitted"]
    assert sorted(message.keys()) == sorted(
        [*names, "X-Auto-Response-Suppress", "List-Unsubscribe", *([] if several else ["References"])]
    )
    # As it is written, too: no line of the head begins anything else.
    head = arrived.content.partition(b"\r\n\r\n")[0].decode("ascii")
    assert b"\n" not in arrived.content.replace(b"\r\n", b"")
    assert all(line.startswith(" ") or line.partition(":")[0] in message for line in head.split("\r\n"))
    assert [address.addr_spec for address in message["To"].addresses] == ["ann@example.org"]
    assert len(message["Subject"]) <= 150
    assert len(message.get_payload()) == 2
    assert "<script" not in arrived.html
    assert arrived.html.count("<a ") == 1
    for text in (arrived.text, arrived.html):
        links = text.replace("&amp;", "&").replace(CONSOLE, "")
        assert "://" not in links
        assert "www.evil" not in links
        # What mail programs make a link of without any scheme: a name with letters after the last dot.
        own = links.replace(OPERATOR, "").replace("authsvc_live_", "")
        assert re.search(r"(?i)[\w-][.\u3002\uff0e][^\W\d_]{2}", without_style(own)) is None
        assert "49" not in links
        assert not set("\u202e\u200b\u2028\0\x85\x0b\ufeff") & set(text)
    assert len(arrived.content) < 60_000


@pytest.mark.parametrize(
    "address", ["a..b@example.org", ".a@example.org", "o'b|{x}`@example.org", "a@b_c.example"]
)
def test_unusual_addresses(address: str) -> None:
    """One address in the header, the same as in the command."""
    arrived = compose(notification(1), address=address)
    assert arrived.recipient.replace('"', "") == address
    assert arrived.message["To"].addresses[0].addr_spec.replace('"', "") == address


def test_no_key_string_is_shown() -> None:
    """Wherever somebody put one: complete, or a part of it."""
    key_string = KeyMint(secrets.token_bytes(32)).mint("authsvc", "live").text
    prefix = key_string[:-51]
    told = about(
        "key.revoked",
        {"display_name": key_string, "key_prefix": prefix, "rotated_to_key_id": key_string[:-9]},
        actor_id=key_string,
        owner_id=key_string,
        details={"reason": f"leaked:{key_string}"},
    )
    for arrived in (compose(told, name=key_string), compose(told, told, name=key_string)):
        whole = arrived.text + arrived.html + str(arrived.message.items())
        assert prefix in whole
        assert key_string[-51:-39] not in whole
        assert key_string[-51:-39].encode() not in arrived.content.replace(b"=\r\n", b"")


def test_a_template_of_the_operator(tmp_path: Path) -> None:
    """Takes the place of ours, file by file; others, and what it extends, stay ours."""
    (tmp_path / "key.created.txt").write_text(
        '{% extends "layout.txt" %}{% block subject %}Neuer Schlüssel: {{ key_name }}{% endblock %}'
        "{% block message %}{% include '_greeting.txt' %} für {{ owner_id }}{% endblock %}",
        "utf-8",
    )
    (tmp_path / "_greeting.txt").write_text("Hallo {{ contact_name }}", "utf-8")
    (tmp_path / "README.md").write_text("ours {{", "utf-8")
    by = composer(tmp_path)
    arrived = compose(about("key.created", {"display_name": "<b>"}), by=by)
    assert arrived.message["Subject"] == "Neuer Schlüssel: <b>"
    assert arrived.text.startswith("Hallo Ann für acme\n\nKey: <b>\n")
    assert "Hallo Ann für acme</p>" in arrived.html
    assert "&lt;b&gt;" in arrived.html
    assert compose(about("key.deleted"), by=by).message["Subject"] == 'API key "job 1" was deleted'
    (tmp_path / "layout.html").write_text("<p>{{ subject }}</p>", "utf-8")
    assert compose(about("key.deleted", {"display_name": "<b>"}), by=composer(tmp_path)).html == (
        "<p>API key &#34;&lt;b&gt;&#34; was deleted</p>\n"
    )


BODY = '{% extends "layout.txt" %}\n{% block subject %}x{% endblock %}\n{% block message %}\n'


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("key.created.txt", BODY + "{{ nme }}{% endblock %}", "{}, line 4: 'nme' is undefined"),
        ("key.created.txt", BODY + "{% if %}{% endblock %}", "{}, line 4: Expected an expression"),
        ("key.created.txt", BODY + "{{ 1 / 0 }}{% endblock %}", "{}, line 4: division by zero"),
        ("key.created.txt", "Hello", "{}: it has no block 'subject'"),
        ("layout.html", "<p>\n{{ subjekt }}", "{}, line 2: 'subjekt' is undefined"),
        ("layout.txt", "{% include '_none.txt' %}", "it includes or extends '_none.txt', which there is not"),
        (
            "key.created.txt",
            BODY + "{{ ''.__class__.__mro__ }}{% endblock %}",
            "{}, line 4: access to attribute '__class__' of 'str' object is unsafe",
        ),
        (
            "key_created.txt",
            "Hello",
            "{} is not the name of a template; did you mean key.created.txt? Files that templates include "
            "begin with _",
        ),
        ("xyz.html", "", "{} is not the name of a template; docs/notifications.md lists the names."),
        (
            "_part.html",
            "{% endif %}",
            "{}, line 1: Encountered unknown tag 'endif'; correct it, or remove the file",
        ),
    ],
)
def test_a_broken_template(tmp_path: Path, name: str, text: str, told: str) -> None:
    """The error names setting, file, line and reason."""
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ConfigError) as refused:
        composer(tmp_path)
    assert str(refused.value).startswith("AUTHSVC_MAIL_TEMPLATES: ")
    assert told.format(tmp_path / name) in str(refused.value)


def test_templates_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "layout.html").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"layout\.html: 'utf-8' codec can't decode"):
        composer(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read as a directory: No such file or directory"):
        composer(tmp_path / "none")


def test_a_template_that_fails_later(tmp_path: Path) -> None:
    """In a case that no sample has. The mail is tried again, and the error says no text of people."""
    (tmp_path / "key.created.txt").write_text(
        BODY + "{% if owner_id == 'rare' %}{{ nme }}{% endif %}{% endblock %}", "utf-8"
    )
    by = composer(tmp_path)
    compose(notification(1), by=by)
    with pytest.raises(CannotCompose, match="UndefinedError") as refused:
        compose(notification(1, owner_id="rare"), by=by)
    assert not refused.value.is_final


def test_a_sender_with_any_name() -> None:
    by = composer(sender=Sender('Käse, "Inc."', "noreply@exämple.org"), operator="zoë@example.org")
    arrived = compose(notification(1), by=by)
    [sender] = arrived.message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ('Käse, "Inc."', "noreply@xn--exmple-cua.org")
    assert arrived.sender == "noreply@xn--exmple-cua.org"
    assert "List-Unsubscribe" not in arrived.message
    assert (
        Parser(policy=default)
        .parsestr(arrived.content.decode("ascii"))["References"]
        .endswith("@xn--exmple-cua.org>")
    )
