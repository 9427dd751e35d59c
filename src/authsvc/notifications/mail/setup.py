"""Mail as the settings say, and a test of them."""

import secrets
from datetime import UTC, datetime

from authsvc.config.settings import ConfigError, Settings
from authsvc.model.errors import OperatorError
from authsvc.model.mail_address import mail_fault
from authsvc.model.text import kept
from authsvc.notifications.mail.composer import Composer
from authsvc.notifications.mail.connection import TIMEOUTS, MailServer, Refused, ServerProblem, Timeouts
from authsvc.notifications.mail.envelope import AddressError
from authsvc.notifications.mail.templates import Templates


def mail_parts_of(settings: Settings, timeouts: Timeouts = TIMEOUTS) -> tuple[MailServer, Composer]:
    """Return the mail server and the composer. Raises ConfigError that names the setting."""
    if settings.smtp_url is None or settings.mail_from is None:
        raise ConfigError(
            "AUTHSVC_SMTP_URL: no mail server is set; use smtp://user:password@host:port, "
            "and set AUTHSVC_MAIL_FROM"
        )
    composer = Composer(
        settings.mail_from,
        Templates(settings.mail_templates),
        operator=settings.mail_operator,
        console_url=settings.console_url,
    )
    return MailServer(settings.smtp_url, composer.domain, timeouts), composer


async def send_test(settings: Settings, address: str, timeouts: Timeouts = TIMEOUTS) -> str:
    """Send one test mail now; return what was done, for people.

    Raises OperatorError that says what the server answered, and which setting to look at. The limits do not
    count it.
    """
    server, composer = mail_parts_of(settings, timeouts)
    address = kept(address)
    if problem := mail_fault(address):
        raise OperatorError(f"the address {problem}")
    try:
        mail = composer.compose_test(
            address, message_id=f"test.{secrets.token_hex(8)}", now=datetime.now(UTC)
        )
        async with server.connected() as connection:
            code = await connection.send(mail)
    except AddressError as error:
        raise OperatorError(f"the address cannot be written to: {error}") from None
    except ServerProblem as problem:
        raise OperatorError(f"AUTHSVC_SMTP_URL: {problem}") from None
    except Refused as refusal:
        if refusal.of_sender:
            raise OperatorError(
                f"AUTHSVC_MAIL_FROM: {server} does not take mail from {mail.sender}: {refusal}"
            ) from None
        later = "; try again later, as authsvc does by itself" if not refusal.is_final else ""
        raise OperatorError(f"{server} does not take mail to {mail.recipient}: {refusal}{later}") from None
    return f"{server} took the mail to {mail.recipient} (reply {code})"
