"""The connection to the mail server: TLS, authentication, and what is told when these fail."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from authsvc.config.settings import ConfigError, Settings, load_settings
from authsvc.config.smtp_url import SmtpServer, Tls
from authsvc.model.errors import OperatorError
from authsvc.notifications.mail.connection import MailServer, ServerProblem
from authsvc.notifications.mail.setup import send_test
from authsvc.store.pool import Database
from tests import environment_proxy
from tests.certificates import Authority
from tests.conftest import Clock
from tests.notifications.smtp import (
    DIE,
    HANG,
    IMPATIENT,
    PASSWORD,
    USER,
    add,
    lines_server,
    mail_server,
    notification,
    rows,
    sender_of,
    server_at,
)

ANN = "ann@example.org"


@dataclass(frozen=True)
class Certificate:
    """What the server shows, and the authority that issued it."""

    context: ssl.SSLContext
    ca: Path


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return _certificate(tmp_path)


def _certificate(directory: Path, addresses: tuple[str, ...] = ("127.0.0.1",)) -> Certificate:
    authority = Authority()
    ca, cert, key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
    ca.write_bytes(authority.cert)
    authority.issue(names=(), addresses=addresses).write(cert, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return Certificate(context, ca)


def with_login(port: int, tls: Tls, ca: Path | None, password: str = PASSWORD) -> SmtpServer:
    return server_at(port, tls, user=USER, password=SecretStr(password), ca=ca)


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_tls_and_authentication(
    database: Database, clock: Clock, certificate: Certificate, tls: Tls
) -> None:
    await add(database, clock, [ANN], notification(1))
    implicit = tls is Tls.IMPLICIT
    async with mail_server(certificate.context, implicit=implicit, login=True) as server:
        await sender_of(database, clock, with_login(server.port, tls, certificate.ca)).work()
        assert server.recipients == [ANN]
        assert server.logins == ["PLAIN"]


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
@pytest.mark.parametrize("wrong", ["authority", "host"])
async def test_a_certificate_of_somebody_else(tmp_path: Path, tls: Tls, wrong: str) -> None:
    """Of an authority that is not trusted, or for another host: nothing is sent, above all no password."""
    shown = _certificate(tmp_path, ("127.0.0.2",) if wrong == "host" else ("127.0.0.1",))
    async with mail_server(shown.context, implicit=tls is Tls.IMPLICIT, login=True) as server:
        ca = shown.ca if wrong == "host" else None
        connecting = MailServer(with_login(server.port, tls, ca), "sender.example").connected()
        with pytest.raises(ServerProblem) as refused:
            await connecting.__aenter__()
        assert (server.arrived, server.logins) == ([], [])
    reason = "IP address mismatch" if wrong == "host" else "unable to get local issuer certificate"
    assert f"cannot be connected to: TLS failed: {reason}" in str(refused.value)


async def test_starttls_is_required(database: Database, database_url: str, clock: Clock) -> None:
    """A server, or somebody in between, that does not offer it gets neither mail nor password."""
    await add(database, clock, [ANN], notification(1))
    async with mail_server() as server:
        await sender_of(database, clock, with_login(server.port, Tls.STARTTLS, None)).work()
        assert server.arrived == []
    [row] = await rows(database_url)
    assert "STARTTLS extension not supported" in row["error"]


async def test_a_password_that_is_refused(
    database: Database,
    database_url: str,
    clock: Clock,
    certificate: Certificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning to the operator, and mail waits. The password is in no line and no column."""
    caplog.set_level(logging.DEBUG)
    wrong = "correct-horse-battery"
    await add(database, clock, [ANN], notification(1))
    async with mail_server(certificate.context, login=True) as server:
        server_url = with_login(server.port, Tls.STARTTLS, certificate.ca, wrong)
        await sender_of(database, clock, server_url).work()
        assert server.logins == ["PLAIN", "LOGIN"]
        clock.advance(minutes=1)
        await sender_of(database, clock, with_login(server.port, Tls.STARTTLS, certificate.ca)).work()
        assert server.recipients == [ANN]
    told = [
        each.getMessage() for each in caplog.records if each.name.startswith("authsvc") and each.levelno > 20
    ]
    assert told == [
        f"no mail can be sent; it waits: 127.0.0.1:{server.port} does not accept the user and password of "
        "AUTHSVC_SMTP_URL: 535 5.7.8 Authentication credentials invalid"
    ]
    for secret in (wrong, PASSWORD):
        assert secret not in caplog.text
        assert secret not in repr(await rows(database_url)) + repr(server_url)


async def test_a_server_that_repeats_the_password(certificate: Certificate, tmp_path: Path) -> None:
    """As it is, and as it was sent."""
    plain = "AG1haWxlcgBodW50ZXIyLXBAc3M="
    async with lines_server(
        b"220 mx\r\n",
        b"250-mx\r\n250 AUTH PLAIN\r\n",
        f"535 your password {PASSWORD}, which is {plain}, is wrong\r\n".encode(),
    ) as port:
        # Without TLS, which the settings do not allow; it makes no difference here.
        server = MailServer(with_login(port, Tls.NONE, None), "sender.example", IMPATIENT)
        with pytest.raises(Exception, match="your password ") as refused:
            async with server.connected():
                pass
    assert str(refused.value).endswith("535 your password ***, which is ***, is wrong")


async def test_tls_that_the_server_does_not_speak() -> None:
    async with mail_server() as server:
        connecting = MailServer(server_at(server.port, Tls.IMPLICIT), "sender.example").connected()
        with pytest.raises(ServerProblem, match="does not speak TLS from the start; try smtp:// in place of"):
            await connecting.__aenter__()


async def test_no_proxy_of_the_environment(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database, clock, [ANN], notification(1))
    async with environment_proxy.named(monkeypatch) as proxy, mail_server() as server:
        await sender_of(database, clock, server_at(server.port)).work()
        assert server.recipients == [ANN]
        assert proxy.heard == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_bytes(content)
    with pytest.raises(ConfigError, match=r"AUTHSVC_SMTP_URL: its option ca names .*ca.pem, which cannot"):
        MailServer(server_at(1, Tls.STARTTLS, ca=ca), "sender.example")


def settings(port: int, query: str = "", user: str = "", **more: object) -> Settings:
    return load_settings(
        smtp_url=f"smtp://{user}127.0.0.1:{port}{query}",
        mail_from="authsvc <noreply@sender.example>",
        **more,
    )


async def test_a_test_mail(certificate: Certificate) -> None:
    """It goes through the whole of the settings, and says what the server did."""
    async with mail_server(certificate.context, login=True) as server:
        user = f"{USER}:{quote(PASSWORD, safe='')}@"
        told = await send_test(settings(server.port, f"?ca={certificate.ca}", user), " ann@exämple.org ")
        assert told == f"127.0.0.1:{server.port} took the mail to ann@xn--exmple-cua.org (reply 250)"
        [arrived] = server.arrived
    assert arrived.message["Subject"] == "Test mail of authsvc"
    assert arrived.message["Message-ID"].startswith("<test.")
    assert "reaches this address" in arrived.text
    assert "reaches this address" in arrived.html


@pytest.mark.parametrize(
    ("step", "answer", "told"),
    [
        ("EHLO", "421 4.3.2 busy", "AUTHSVC_SMTP_URL: {} cannot be connected to: 421 4.3.2 busy"),
        (
            "MAIL",
            "550 5.7.1 not you",
            "AUTHSVC_MAIL_FROM: {} does not take mail from noreply@sender.example: 550 5.7.1 not you",
        ),
        ("RCPT", "550 5.1.1 unknown", "{} does not take mail to ann@example.org: 550 5.1.1 unknown"),
        (
            "RCPT",
            "450 4.2.0 greylisted",
            "{} does not take mail to ann@example.org: 450 4.2.0 greylisted; try again later, as authsvc "
            "does by itself",
        ),
        ("DATA", "554 5.7.1 spam", "{} does not take mail to ann@example.org: 554 5.7.1 spam"),
        ("DATA", HANG, "AUTHSVC_SMTP_URL: it did not answer in time"),
        ("DATA", DIE, "AUTHSVC_SMTP_URL: it closed the connection"),
    ],
)
async def test_a_test_mail_that_is_not_taken(step: str, answer: str, told: str) -> None:
    """The error has the answer of the server, and the setting to look at."""
    async with mail_server() as server:
        server.answers[step] = [answer]
        with pytest.raises(OperatorError) as refused:
            await send_test(settings(server.port), ANN, IMPATIENT)
    assert str(refused.value) == told.format(f"127.0.0.1:{server.port}")


async def test_a_test_mail_of_templates_of_the_operator(tmp_path: Path) -> None:
    """They are those of the setting, and a broken one ends it before anything is sent."""
    template = tmp_path / "test.txt"
    template.write_text("{% block subject %}Ours{% endblock %}{% block message %}x{% endblock %}", "utf-8")
    async with mail_server() as server:
        await send_test(settings(server.port, mail_templates=tmp_path), ANN)
        [arrived] = server.arrived
        assert arrived.message["Subject"] == "Ours"
        template.write_text("{{ nothing", "utf-8")
        with pytest.raises(ConfigError, match=r"AUTHSVC_MAIL_TEMPLATES: .*/test\.txt, line 1: "):
            await send_test(settings(server.port, mail_templates=tmp_path), ANN)
        assert len(server.arrived) == 1


async def test_a_test_mail_without_what_it_needs() -> None:
    with pytest.raises(OperatorError, match="AUTHSVC_SMTP_URL: no mail server is set"):
        await send_test(load_settings(), ANN)
    with pytest.raises(OperatorError, match="the address is not a valid mail address"):
        await send_test(settings(1), "ann")
    with pytest.raises(
        OperatorError, match=r"AUTHSVC_SMTP_URL: 127\.0\.0\.1:1 cannot be connected to: Connection"
    ):
        await send_test(settings(1), ANN)
