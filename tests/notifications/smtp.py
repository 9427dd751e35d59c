"""A mail server whose answers the test chooses, and mails to send."""

import asyncio
import ssl
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import Parser
from email.policy import default
from typing import Any

import asyncpg
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from authsvc.config.mail import Sender
from authsvc.config.smtp_url import SmtpServer, Tls
from authsvc.model.key import TechnicalContact
from authsvc.model.notification import Notification
from authsvc.net.listen_address import ListenAddress
from authsvc.notifications.mail.claims import MailLimits
from authsvc.notifications.mail.composer import Composer
from authsvc.notifications.mail.connection import MailServer, Timeouts
from authsvc.notifications.mail.sender import MailSender
from authsvc.notifications.mail.templates import Templates
from authsvc.store import notifications as notification_store
from authsvc.store.notifications import Mail
from authsvc.store.pool import Database
from tests.conftest import Clock

USER, PASSWORD = "mailer", "hunter2-p@ss"
SENDER = Sender("authsvc", "noreply@sender.example")
#: Answers that are no answers: the server hangs until the test ends, or cuts the connection.
HANG, DIE = "hang", "die"
_LIMITS = MailLimits(20, 200)
#: Of a client that waits for a server that hangs; and of one that waits for one that works.
IMPATIENT, PATIENT = Timeouts(connect=1, command=1, data=1), Timeouts()


@dataclass(frozen=True)
class Arrived:
    """A message that the server has taken."""

    sender: str
    recipient: str
    content: bytes
    options: tuple[str, ...] = ()

    @property
    def message(self) -> EmailMessage:
        message = Parser(policy=default).parsestr(self.content.decode())
        assert isinstance(message, EmailMessage)
        assert not message.defects
        return message

    @property
    def text(self) -> str:
        return self.part("plain")

    @property
    def html(self) -> str:
        return self.part("html")

    def part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert part is not None
        content: str = part.get_content()
        return content.replace("\r\n", "\n")


@dataclass
class StubServer:
    """Takes all messages, unless `answers` has other answers to a step; each is given once, in order.

    The steps are EHLO, MAIL, RCPT and DATA. `to` has answers by recipient, which are given each time.
    """

    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    answers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    to: dict[str, str] = field(default_factory=dict)
    #: Set by a step that hangs, or is held.
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    #: What a message waits for after it was received, before it is answered.
    held: asyncio.Event | None = None
    connections: int = 0
    logins: list[str] = field(default_factory=list)

    @property
    def recipients(self) -> list[str]:
        return [arrived.recipient for arrived in self.arrived]

    def authenticate(self, _: object, __: object, ___: object, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(mechanism)
        is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    async def handle_EHLO(
        self, server: SMTP, session: Session, _: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        if answer := await self._answer(server, "EHLO"):
            return [answer]
        return responses

    async def handle_MAIL(
        self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := await self._answer(server, "MAIL"):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, _: Session, envelope: Envelope, address: str, __: list[str]
    ) -> str:
        if answer := self.to.get(address) or await self._answer(server, "RCPT"):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:
        if answer := await self._answer(server, "DATA"):
            return answer
        [recipient] = envelope.rcpt_tos  # One each, so that one bad recipient stops nobody.
        assert isinstance(envelope.content, bytes)
        self.arrived.append(
            Arrived(str(envelope.mail_from), recipient, envelope.content, tuple(envelope.mail_options))
        )
        if self.held is not None:
            self.reached.set()
            await self.held.wait()
        return "250 queued"

    async def _answer(self, server: SMTP, step: str) -> str:
        answers = self.answers[step]
        if not answers:
            return ""
        answer = answers.pop(0)
        if answer == HANG:
            self.reached.set()
            await asyncio.Event().wait()
        if answer == DIE:
            _abort(server)
            await asyncio.Event().wait()
        return answer


def _abort(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()


@asynccontextmanager
async def mail_server(
    tls: ssl.SSLContext | None = None, *, implicit: bool = False, login: bool = False, smtputf8: bool = True
) -> AsyncIterator[StubServer]:
    """Run a mail server on a free port of 127.0.0.1."""
    stub = StubServer()
    protocols = list[SMTP]()

    def protocol() -> SMTP:
        with warnings.catch_warnings():
            # It does not know that the connection is encrypted from the start.
            warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
            protocols.append(
                SMTP(
                    stub,
                    hostname="mx.test.example",
                    enable_SMTPUTF8=smtputf8,
                    tls_context=None if implicit else tls,
                    authenticator=stub.authenticate if login else None,
                    auth_required=login,
                    auth_require_tls=not implicit,
                    timeout=3600,
                )
            )
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=tls if implicit else None
    )
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()
        for each in protocols:
            _abort(each)
            handler = each._handler_coroutine
            if handler is not None and not handler.done():
                handler.cancel()
                await asyncio.wait({handler})


@asynccontextmanager
async def lines_server(*lines: bytes, hang: bool = True) -> AsyncIterator[int]:
    """Run a server that sends one line at first and one after each line that it gets; yield its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for line in lines:
                writer.write(line)
                if not await reader.readline():
                    return
            if hang:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def server_at(port: int, tls: Tls = Tls.NONE, **fields: Any) -> SmtpServer:
    return SmtpServer(ListenAddress("127.0.0.1", port), tls, **fields)


def sender_of(
    database: Database,
    clock: Clock,
    server: SmtpServer,
    *,
    limits: MailLimits = _LIMITS,
    timeouts: Timeouts = PATIENT,
    operator: str = "",
    sender: Sender = SENDER,
) -> MailSender:
    """Return a sender without jitter."""
    composer = Composer(sender, Templates(), operator=operator, console_url="https://console.example/keys")
    return MailSender(
        database, MailServer(server, composer.domain, timeouts), composer, limits, clock, lambda: 0.5
    )


def notification(number: int, type_: str = "key.created", **fields: Any) -> Notification:
    """Return one of many notifications."""
    values: dict[str, Any] = {
        "notification_id": f"evt_{number}",
        "type": type_,
        "owner_id": "acme",
        "event_time": datetime(2026, 11, 21, 11, 30, tzinfo=UTC),
        "position": None,
        "target_id": f"key_{number}",
        "details": {},
        "subject": {
            "key_id": f"key_{number}",
            "display_name": f"job {number}",
            "key_prefix": f"authsvc_live_{number:012}",
            "create_time": "2026-11-01T00:00:00+00:00",
            "expire_time": None,
            "revoke_time": None,
            "last_use_time": None,
            "rotated_to_key_id": None,
        },
        "contacts": (TechnicalContact("Ann", "ann@example.org"),),
    }
    return Notification(**(values | fields))


async def add(
    database: Database, clock: Clock, addresses: Sequence[str], *notifications: Notification
) -> None:
    """Write down mails about notifications to each of these addresses."""
    async with database.transaction() as connection:
        await notification_store.insert(connection, notifications)
        mails = [
            Mail(each.notification_id, each.owner_id, address, "Ann")
            for each in notifications
            for address in addresses
        ]
        await notification_store.insert_mails(connection, mails, clock())
        await notification_store.mark_spread(
            connection, {each.notification_id for each in notifications}, clock()
        )


async def rows(database_url: str) -> list[asyncpg.Record]:
    """Return all mails, in their order."""
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetch("SELECT * FROM authsvc.mails ORDER BY mail_number")
    finally:
        await connection.close()
