"""Writes the messages: text and HTML from templates, and headers that nobody can add to."""

import asyncio
import re
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from authsvc.config.mail import Sender
from authsvc.config.settings import ConfigError
from authsvc.model.notification import Notification, NotificationType
from authsvc.notifications.mail.envelope import (
    AddressError,
    envelope_address,
    header_address,
    header_text,
    is_international,
)
from authsvc.notifications.mail.templates import OTHER, SEVERAL, TEST, Templates
from authsvc.notifications.mail.variables import moment, one_line, shown, variables
from authsvc.notifications.recipients import address_key

#: How many notifications a message lists.
MAX_LISTED = 50
_MAX_SUBJECT, _MAX_NAME = 150, 64
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._-]")

Result = TypeVar("Result")
#: Work in short steps, after each of which others may go on.
Steps: TypeAlias = Generator[None, None, Result]


@dataclass(frozen=True, slots=True)
class ComposedMail:
    """A message as it is sent."""

    sender: str
    recipient: str
    is_international: bool  # only mail servers with SMTPUTF8 take it
    content: bytes


class CannotCompose(Exception):
    """A message cannot be written. `is_final`: nor can it be later."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class Composer:
    """Writes messages to one recipient each."""

    def __init__(
        self, sender: Sender, templates: Templates, *, operator: str = "", console_url: str = ""
    ) -> None:
        """Take the sender, and check templates of the operator with samples. Raises ConfigError."""
        self._from = _checked("AUTHSVC_MAIL_FROM", sender.address, sender.name)
        self._operator = operator
        self._unsubscribe = _unsubscribe(operator) if operator else ""
        self._templates = templates
        self._console_url = console_url
        if templates.are_replaced:
            templates.check(self._render_samples)

    @property
    def domain(self) -> str:
        """The domain that mail comes from."""
        return self._from.domain

    def message_id(self, notification_id: str, mail_number: int) -> str:
        """Return the id of a message, made from its first notification; the number differs by recipient."""
        return f"{_NOT_IN_IDS.sub('-', notification_id)}.{mail_number}@{self._from.domain}"

    async def compose(
        self,
        address: str,
        contact_name: str,
        notifications: Sequence[Notification],
        *,
        count: int,
        message_id: str,
        now: datetime,
    ) -> ComposedMail:
        """Return the message about `count` notifications, of which it lists the first `MAX_LISTED`.

        Raises CannotCompose, for an address that no server takes or a template that fails.
        """
        steps = self._composed(address, contact_name, notifications, count, message_id, now)
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)  # A long message takes 15 ms.
        except StopIteration as end:
            composed: ComposedMail = end.value
            return composed
        except AddressError as error:
            raise CannotCompose(str(error), is_final=True) from None
        except Exception as error:
            reason = f"the message cannot be written: {type(error).__name__}"
            raise CannotCompose(reason, is_final=False) from error

    def _composed(
        self,
        address: str,
        contact_name: str,
        notifications: Sequence[Notification],
        count: int,
        message_id: str,
        now: datetime,
    ) -> Steps[ComposedMail]:
        recipient = header_address(address, shown(contact_name)[:_MAX_NAME])
        for_operator = self._is_for_operator(address, notifications)
        if count == 1:
            name, values = self._of_one(notifications[0])
        else:
            name, values = yield from self._of_several(notifications, count)
        values |= self._common(contact_name, for_operator=for_operator)
        message = yield from self._message(name, values)
        message["Message-ID"] = f"<{message_id}>"
        message["Date"] = format_datetime(now.astimezone(UTC))
        if count == 1:
            message["References"] = self._thread(notifications[0])
        if self._unsubscribe and not for_operator:
            message["List-Unsubscribe"] = self._unsubscribe
        return self._addressed(message, recipient)

    def compose_test(self, address: str, *, message_id: str, now: datetime) -> ComposedMail:
        """Return a test message. Raises AddressError."""
        recipient = header_address(address)
        values = {"facts": [("Time", moment(now))], "paragraphs": []}
        message = _ended(self._message(TEST, values | self._common("", for_operator=False)))
        message["Message-ID"] = f"<{message_id}@{self._from.domain}>"
        message["Date"] = format_datetime(now.astimezone(UTC))
        return self._addressed(message, recipient)

    def _addressed(self, message: EmailMessage, recipient: Address) -> ComposedMail:
        message["From"] = self._from
        message["To"] = recipient
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"
        international = is_international(recipient)
        content = message.as_bytes(policy=SMTPUTF8 if international else SMTP)
        _check_head(content, message.keys())
        return ComposedMail(envelope_address(self._from), envelope_address(recipient), international, content)

    def _message(self, name: str, values: Mapping[str, Any]) -> Steps[EmailMessage]:
        subject = header_text(one_line(self._templates.subject(name, values)))
        if len(subject) > _MAX_SUBJECT:
            subject = subject[: _MAX_SUBJECT - 1] + "…"
        values = {**values, "subject": subject, "paragraphs": self._templates.paragraphs(name, values)}
        message = EmailMessage(policy=SMTP)
        message["Subject"] = subject
        # Quoted-printable fits every server, with lines of any length.
        message.set_content(self._templates.text(name, values), cte="quoted-printable")
        yield
        message.add_alternative(self._templates.html(name, values), subtype="html", cte="quoted-printable")
        yield
        return message

    def _of_one(self, notification: Notification) -> tuple[str, dict[str, Any]]:
        return _template_of(notification), variables(notification)

    def _of_several(
        self, notifications: Sequence[Notification], count: int
    ) -> Steps[tuple[str, dict[str, Any]]]:
        listed = notifications[:MAX_LISTED]
        items = []
        for notification in listed:
            values = variables(notification)
            items.append({**values, "subject": self._templates.subject(_template_of(notification), values)})
            yield
        owner_ids = sorted({shown(notification.owner_id) for notification in listed})
        values = {"items": items, "count": count, "more": count - len(items), "owner_ids": owner_ids}
        return SEVERAL, values | {"facts": []}

    def _common(self, contact_name: str, *, for_operator: bool) -> dict[str, Any]:
        return {
            "contact_name": shown(contact_name),
            "for_operator": for_operator,
            "operator_address": self._operator,
            "console_url": self._console_url,
        }

    def _is_for_operator(self, address: str, notifications: Sequence[Notification]) -> bool:
        """Return whether the operator gets it in the place of contacts."""
        if not self._operator or address != address_key(self._operator):
            return False
        contacts = {address_key(each.email) for one in notifications for each in one.contacts}
        return address not in contacts

    def _thread(self, notification: Notification) -> str:
        """Return what mail about one key refers to, so that mail programs show it together."""
        return f"<{_NOT_IN_IDS.sub('-', notification.target_id)[:200]}@{self._from.domain}>"

    def _render_samples(self) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        for address in ("ops@sample.example", self._operator or "ops@sample.example"):
            samples = [
                _sample(name, full=full) for name in (*NotificationType, OTHER) for full in (True, False)
            ]
            for sample in samples:
                _ended(self._composed(address, "Ann", [sample], 1, "1@sample", now))
            for count in (len(samples), len(samples) + 1):
                _ended(self._composed(address, "", samples, count, "1@sample", now))
        self.compose_test("ops@sample.example", message_id="1", now=now)


def _check_head(content: bytes, names: Collection[str]) -> None:
    """Raise ValueError if a message was written with headers that it does not have."""
    head = content.partition(b"\r\n\r\n")[0]
    # A line that begins with a blank belongs to the header before it.
    written = [
        line.partition(b":")[0].decode() for line in head.splitlines() if line[:1] not in (b" ", b"\t")
    ]
    if sorted(written) != sorted(names):
        raise ValueError("a text would add a header")


def _ended(steps: Steps[Result]) -> Result:
    """Return the result of steps, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def _checked(setting: str, address: str, name: str = "") -> Address:
    try:
        return header_address(address, name)
    except AddressError as error:
        raise ConfigError(f"{setting}: {error}") from None


def _unsubscribe(operator: str) -> str:
    """Return the header that asks the operator; "" if not all mail programs can write to that address."""
    address = _checked("AUTHSVC_MAIL_OPERATOR", operator)
    if is_international(address):
        return ""
    return f"<mailto:{quote(envelope_address(address), safe='@')}?subject=unsubscribe>"


def _template_of(notification: Notification) -> str:
    return notification.type if notification.type in set(NotificationType) else OTHER


def _sample(name: str, *, full: bool) -> Notification:
    """Return a notification of a type, with everything or with nothing."""
    later = "2026-02-01T00:00:00+00:00"
    subject = {
        "key_id": "key_1",
        "display_name": "ci",
        "key_prefix": "authsvc_live_1",
        "create_time": later,
        "expire_time": later,
        "revoke_time": later,
        "last_use_time": later,
        "rotated_to_key_id": "key_2",
        "webhook_id": "wh_1",
        "url": "https://hooks.example",
        "disable_reason": "gone",
        "failing_since": later,
        "last_error": "answered 410",
        "user_agent": "curl/8",
        "ip_address": "192.0.2.1",
    }
    details = {"fields": "display_name", "reason": "leaked", "count": "2", "remaining_days": "7"}
    details |= {"disabled_until": later, "address": "192.0.2.1"}
    return Notification(
        notification_id="evt_1",
        type=name,
        owner_id="acme",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        position=1,
        target_id="key_1",
        actor_id="key_3" if full else "",
        details=details if full else {},
        subject=subject if full else {},
    )
