"""The settings of mail: what is accepted, what is refused with a remedy, and what is never shown."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from authsvc.config.mail import Sender
from authsvc.config.settings import ConfigError, load_settings
from authsvc.config.smtp_url import SmtpServer, Tls
from authsvc.net.listen_address import ListenAddress

FROM = "noreply@example.org"
SECRET = "hunter2"
REMEDY = (
    "use smtp://user:password@host:port, or smtps:// for TLS from the start; "
    "in user and password write / # ? @ : % as %2F %23 %3F %40 %3A %25"
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's own settings from the tests."""
    for name in list(os.environ):
        if name.upper().startswith("AUTHSVC_"):
            monkeypatch.delenv(name)


def refusal(**given: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_settings(**given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("smtp://mail.example.org", "mail.example.org", 587, Tls.STARTTLS),
        ("smtp://mail.example.org:25", "mail.example.org", 25, Tls.STARTTLS),
        ("smtp://mail.example.org?tls=none", "mail.example.org", 587, Tls.NONE),
        ("smtp://mail.example.org/?tls=starttls", "mail.example.org", 587, Tls.STARTTLS),
        ("smtp://localhost", "localhost", 587, Tls.NONE),
        ("smtp://localhost:25?tls=starttls", "localhost", 25, Tls.STARTTLS),
        ("smtp://[::1]:25", "::1", 25, Tls.NONE),
        ("smtp://[2001:db8::1]", "2001:db8::1", 587, Tls.STARTTLS),
        ("smtps://192.0.2.1", "192.0.2.1", 465, Tls.IMPLICIT),
        ("smtps://localhost:4650", "localhost", 4650, Tls.IMPLICIT),
    ],
)
def test_a_mail_server(url: str, host: str, port: int, tls: Tls) -> None:
    """TLS is the default for every host that is not this machine."""
    assert load_settings(smtp_url=url, mail_from=FROM).smtp_url == SmtpServer(ListenAddress(host, port), tls)


def test_a_mail_server_with_a_password() -> None:
    """TLS is the default with a password, also on this machine."""
    found = load_settings(
        smtp_url=f"smtp://us%40er:{SECRET}%2F%3A%25@127.0.0.1:25?ca=/etc/ca.pem", mail_from=FROM
    ).smtp_url
    assert found == SmtpServer(
        ListenAddress("127.0.0.1", 25), Tls.STARTTLS, "us@er", SecretStr(f"{SECRET}/:%"), Path("/etc/ca.pem")
    )
    assert SECRET not in repr(found) + str(found)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.org",
        f"http://u:{SECRET}@h",
        "smtp://",
        "smtp:///x",
        "smtp://h:0",
        "smtp://h:65536",
        "smtp://h:x",
        "smtp://h/path",
        "smtp://h#x",
        "smtp://h h",
        "smtp://h\n",
        "smtp://h?tls",
        "smtp://[::1",
        "smtp://[x]",
        f"smtp://u:{SECRET}@h@h",
        f"smtp://u:{SECRET}:x@h",
        f"smtp://u:{SECRET}/x@h",
        f"smtp://u:{SECRET}?x@h",
        f"smtp://u:{SECRET}?x=@h",
        f"smtp://u:{SECRET}#x@h",
        f"smtp://u:1/{SECRET}@h",
        f"smtp://u:{SECRET}@",
    ],
)
def test_a_wrong_url_is_not_shown(url: str) -> None:
    """The form is named; no part of the value is, since it may be the password."""
    assert refusal(smtp_url=url, mail_from=FROM) == f"AUTHSVC_SMTP_URL: {REMEDY}"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"smtp://:{SECRET}@h", f"has only one of user and password; {REMEDY}"),
        (f"smtp://{SECRET}@h", f"has only one of user and password; {REMEDY}"),
        (f"smtp://u:{SECRET}%0A@h", "has a control character in user or password; leave it out"),
        (
            f"smtp://u:{SECRET}@localhost?tls=none",
            "has a password, which is sent over TLS only; leave tls=none out, or user and password",
        ),
        (f"smtp://u:{SECRET}@h?tls={SECRET}", "has a wrong option tls; use tls=starttls or tls=none"),
        (
            f"smtp://u:{SECRET}@h?{SECRET}=1",
            "has an unknown option after the ?; there are tls=starttls, tls=none and ca=FILE",
        ),
        (
            "smtps://h?tls=none",
            "has the option tls, but smtps:// is TLS from the start; leave the option tls out, or use smtp://",
        ),
        ("smtp://localhost?ca=/x", "has the option ca, which is for TLS; add tls=starttls, or use smtps://"),
        ("smtps://h?ca=", "has an empty option ca; name a PEM file of authorities, ca=FILE"),
    ],
)
def test_a_url_that_makes_no_sense(url: str, told: str) -> None:
    """Each says what to do instead."""
    assert refusal(smtp_url=url, mail_from=FROM) == f"AUTHSVC_SMTP_URL: {told}"


def test_a_mail_server_needs_a_sender() -> None:
    assert refusal(smtp_url="smtp://localhost") == (
        "AUTHSVC_MAIL_FROM: is missing; AUTHSVC_SMTP_URL requires an address that mail is sent from"
    )
    # A wrong URL is the only problem then.
    assert refusal(smtp_url="x").count("AUTHSVC") == 1
    assert load_settings().mail_from is None


@pytest.mark.parametrize(
    ("value", "sender"),
    [
        ("a@b.example", Sender("", "a@b.example")),
        (" a@b.example ", Sender("", "a@b.example")),
        ("<a@b.example>", Sender("", "a@b.example")),
        ("Acme Keys <a@b.example>", Sender("Acme Keys", "a@b.example")),
        ('"Käse, Inc." <a@exämple.org>', Sender("Käse, Inc.", "a@exämple.org")),
    ],
)
def test_a_sender(value: str, sender: Sender) -> None:
    assert load_settings(mail_from=value).mail_from == sender


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("ops", "is not a valid mail address; use a form like ops@example.org"),
        ("Ops ops@b.example", "is not a valid mail address; use a form like ops@example.org"),
        ("a@b.example, c@d.example", "is not a valid mail address; use a form like ops@example.org"),
        ("Ops <a@b.example> x", "is not a valid mail address; use a form like ops@example.org"),
        ("zoë@b.example", "has letters beyond ASCII before the @, which many mail servers do not accept"),
        (f"{129 * 'x'} <a@b.example>", "has a name of 129 characters; use at most 128"),
        ("a\nb <a@b.example>", "has a name that holds U+000A; use one line, without control characters"),
        ("a@b.example\nBcc: c@d.example", "holds U+000A; use one line, without control characters"),
    ],
)
def test_a_wrong_sender(value: str, told: str) -> None:
    assert refusal(mail_from=value) == f"AUTHSVC_MAIL_FROM: {told}"


def test_an_address_of_the_operator() -> None:
    assert load_settings(mail_operator=" zoë@exämple.org ").mail_operator == "zoë@exämple.org"
    assert refusal(mail_operator="Ops <a@b.example>").startswith("AUTHSVC_MAIL_OPERATOR: is not a valid mail")


@pytest.mark.parametrize(
    "value",
    [
        "https://console.example.org",
        "https://h:8443/keys?a=1&b=%20#x",
        "http://localhost:3000/",
        "http://[::1]/",
    ],
)
def test_a_console(value: str) -> None:
    assert load_settings(console_url=value).console_url == value


@pytest.mark.parametrize(
    "value",
    [
        "console.example.org",
        "http://console.example.org",
        "javascript:alert(1)",
        "https://",
        "https://u:p@h",
        "https://h/a b",
        "https://h/\n",
        'https://h/"x',
        "https://h/<x>",
        "https://h:x",
        "https://exämple.org",
        "ftp://localhost",
    ],
)
def test_a_wrong_console(value: str) -> None:
    assert refusal(console_url=value) == (
        "AUTHSVC_CONSOLE_URL: use https://host/path, or http:// on this machine, without user, password "
        "and spaces"
    )


@pytest.mark.parametrize("name", ["mail_address_limit", "mail_owner_limit"])
def test_limits(name: str) -> None:
    assert getattr(load_settings(**{name: "7"}), name) == 7
    assert f"AUTHSVC_{name.upper()}: " in refusal(**{name: "0"})
