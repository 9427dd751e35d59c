"""A connection to the mail server, and what it answers.

Mechanism: SMTP by aiosmtplib, one recipient in each transaction. A password is sent over TLS only, and the
certificate is checked. Nothing is taken from the environment: no proxy, no other server.

Bound: each step has a time limit. The library bounds the size of a reply.

Failure: `Refused` is about one message, and the connection can be used for others. `ServerProblem` is about
the server or the connection, which is closed then. Neither has the password in its text, even if the server
repeats it.
"""

import asyncio
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiosmtplib

from authsvc.config.settings import ConfigError
from authsvc.config.smtp_url import SmtpServer, Tls
from authsvc.model.key_string import redact
from authsvc.model.text import cleaned
from authsvc.notifications.mail.composer import ComposedMail

SETTING = "AUTHSVC_SMTP_URL"
_MAX_ERROR = 300
_SERVICE_NOT_AVAILABLE = 421


class Refused(Exception):
    """The server refused one message. `code` is that of its reply; 0: it was not asked."""

    def __init__(self, message: str, code: int = 0, *, of_sender: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.of_sender = of_sender  # AUTHSVC_MAIL_FROM was refused, whoever the recipient is

    @property
    def is_final(self) -> bool:
        """Whether the same message would be refused again (5xx)."""
        return not self.of_sender and (self.code >= 500 or not self.code)


class ServerProblem(Exception):
    """The server cannot be used: it is out of reach, does not answer, or does not let us in."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The time limits of the steps, in seconds. Servers look for spam before they answer to `data`."""

    connect: float = 30.0
    command: float = 60.0
    data: float = 180.0


TIMEOUTS = Timeouts()


class _Client(aiosmtplib.SMTP):
    """The methods that servers have; over TLS, the others would be no safer."""

    AUTH_METHODS = ("plain", "login")


class MailServer:
    """Connects to a mail server."""

    def __init__(self, server: SmtpServer, sender_domain: str, timeouts: Timeouts = TIMEOUTS) -> None:
        """Take the server, and a name for EHLO if this machine has none. Raises ConfigError."""
        self._server = server
        self._timeouts = timeouts
        self._name = _own_name(sender_domain)
        try:
            self._tls = server.tls_context()
        except OSError as error:
            raise ConfigError(
                f"{SETTING}: its option ca names {server.ca}, which cannot be read as a PEM file of "
                f"authorities: {error.strerror or error}"
            ) from None

    def __str__(self) -> str:
        return str(self._server.address)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["MailConnection"]:
        """Yield a connection, logged in. Raises ServerProblem."""
        client = _Client(
            hostname=self._server.address.host,
            port=self._server.address.port,
            local_hostname=self._name,
            timeout=self._timeouts.command,
            use_tls=self._server.tls is Tls.IMPLICIT,
            start_tls=self._server.tls is Tls.STARTTLS,
            tls_context=self._tls,
        )
        try:
            await self._open(client)
            yield MailConnection(client, self._timeouts, self._shown)
        finally:
            await _close(client)

    async def _open(self, client: _Client) -> None:
        limit = self._timeouts.connect
        step = f"{self} cannot be connected to"
        try:
            async with asyncio.timeout(2 * limit):
                await client.connect(timeout=limit)
                if self._server.user:
                    step = f"{self} does not accept the user and password of {SETTING}"
                    await client.login(self._server.user, self._server.password.get_secret_value())
                elif client.is_ehlo_or_helo_needed:
                    await client.ehlo()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise ServerProblem(f"{step}: {self._shown(error)}", getattr(error, "code", 0)) from None

    def _shown(self, error: BaseException) -> str:
        """Return what happened, without the password, which a server may repeat."""
        text = _reason(error)
        user, password = self._server.user, self._server.password.get_secret_value()
        if password:
            secrets = [password, *(_base64(form) for form in (password, f"\0{user}\0{password}"))]
            for secret in secrets:
                text = text.replace(secret, "***")
        text = redact(cleaned(text.replace("\n", " ")))
        return text if len(text) <= _MAX_ERROR else text[: _MAX_ERROR - 1] + "…"


class MailConnection:
    """Sends messages, one after the other."""

    def __init__(self, client: _Client, timeouts: Timeouts, shown: Any) -> None:
        self._client = client
        self._timeouts = timeouts
        self._shown = shown

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._client.is_connected

    async def send(self, mail: ComposedMail) -> int:
        """Send a message; return the code of the reply. When it returns, the server has taken it.

        Raises Refused, and ServerProblem, after which the server may have taken it all the same.
        """
        if mail.is_international and not self._client.supports_extension("smtputf8"):
            raise Refused(
                "the mail server does not take addresses with letters beyond ASCII before the @ (SMTPUTF8)"
            )
        try:
            async with asyncio.timeout(3 * self._timeouts.command + self._timeouts.data):
                await self._command(f"MAIL FROM:<{mail.sender}>{self._options(mail)}", of_sender=True)
                await self._command(f"RCPT TO:<{mail.recipient}>")
                return await self._data(mail.content)
        except (aiosmtplib.SMTPException, OSError) as error:
            self._client.close()
            raise ServerProblem(self._shown(error), getattr(error, "code", 0)) from None
        except Refused:
            await self._reset()
            raise

    def _options(self, mail: ComposedMail) -> str:
        size = f" SIZE={len(mail.content)}" if self._client.supports_extension("size") else ""
        return size + (" SMTPUTF8" if mail.is_international else "")

    async def _command(self, line: str, *, of_sender: bool = False) -> None:
        response = await self._client.execute_command(line.encode(), timeout=self._timeouts.command)
        self._judge(response, of_sender=of_sender)

    async def _data(self, content: bytes) -> int:
        try:
            response = await self._client.data(content, timeout=self._timeouts.data)
        except aiosmtplib.SMTPDataError as error:
            response = aiosmtplib.SMTPResponse(error.code, error.message)
        self._judge(response)
        return response.code

    def _judge(self, response: aiosmtplib.SMTPResponse, *, of_sender: bool = False) -> None:
        if 200 <= response.code < 300:
            return
        if response.code == _SERVICE_NOT_AVAILABLE or not 400 <= response.code < 600:
            raise aiosmtplib.SMTPResponseException(response.code, response.message)
        raise Refused(
            self._shown(aiosmtplib.SMTPResponseException(*response)), response.code, of_sender=of_sender
        )

    async def _reset(self) -> None:
        """Forget the transaction that was refused."""
        try:
            await self._client.rset(timeout=self._timeouts.command)
        except (aiosmtplib.SMTPException, OSError):
            self._client.close()


async def _close(client: _Client) -> None:
    """Say good-bye, if the server listens, and close the connection."""
    try:
        if client.is_connected:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=1.0)
    finally:
        client.close()


def _reason(error: BaseException) -> str:
    match error:
        case aiosmtplib.SMTPResponseException():
            return f"{error.code} {error.message}" if error.code > 0 else "it did not answer by SMTP"
        case aiosmtplib.SMTPServerDisconnected() | ConnectionResetError() | BrokenPipeError():
            return "it closed the connection"
        case TimeoutError():
            return "it did not answer in time"
        case aiosmtplib.SMTPConnectError() if isinstance(error.__cause__, OSError):
            return _reason(error.__cause__)
        case ssl.SSLCertVerificationError():
            remedy = "; its option ca names other authorities" if "issuer" in error.verify_message else ""
            return f"TLS failed: {error.verify_message}{remedy}"
        case ssl.SSLError() if error.reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS from the start; try smtp:// in place of smtps://"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror():
            return f"its name cannot be resolved: {error.strerror}"
        case OSError() if error.errno:  # asyncio puts the address into the text.
            return os.strerror(error.errno)
        case UnicodeError():
            return "its answer is no text"
        case _:
            return str(error) or type(error).__name__


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _own_name(sender_domain: str) -> str:
    """Return the name to say to the server: that of this machine, if it is a whole one."""
    name = socket.gethostname()
    return (
        name if "." in name and name.isascii() and name.isprintable() and " " not in name else sender_domain
    )
