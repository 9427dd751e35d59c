"""Settings of what contacts and webhooks are told."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from authsvc.config.duration import Duration, between
from authsvc.config.mail import ConsoleUrl, MailAddress, MailSender, check_sender
from authsvc.config.networks import CallableNetworks
from authsvc.config.smtp_url import SmtpUrl
from authsvc.config.webhook_keys import WebhookKeys

_SECOND, _CENTURY = timedelta(seconds=1), timedelta(days=36500)


class NotificationSettings(BaseSettings):
    """A part of `Settings`."""

    smtp_url: SmtpUrl = Field(
        None,
        description="mail server that notifications are sent by, smtp://user:password@host:port, "
        "or smtps:// for TLS from the start; empty: no mail",
    )
    mail_from: MailSender = Field(
        None,
        validate_default=True,
        description="address that mail is sent from, which AUTHSVC_SMTP_URL requires",
    )
    mail_operator: MailAddress = Field("", description="address that gets the mail about what has no contact")
    mail_templates: Path | None = Field(
        None, description="directory of templates that replace those of authsvc, file by file"
    )
    mail_address_limit: int = Field(
        20, ge=1, le=10_000, description="mails to one address in an hour; further ones are combined"
    )
    mail_owner_limit: int = Field(
        200, ge=1, le=100_000, description="mails about one owner in an hour; further ones are combined"
    )
    console_url: ConsoleUrl = Field("", description="address of a console that mail links to, https://…")
    webhook_keys: WebhookKeys = Field(
        (),
        description="comma-separated keys that the secrets of webhooks are derived from, each 32 bytes in "
        "base64, the current one first; empty: no webhooks",
    )
    webhook_networks: CallableNetworks = Field(
        (),
        description="comma-separated private networks that webhooks may be in, for instance 10.1.0.0/16; "
        "these may be called without TLS",
    )
    default_rotation_period: Annotated[Duration, between(_SECOND, _CENTURY, or_zero="for never")] = Field(
        timedelta(days=90),
        description="age at which contacts are asked to rotate a key of an owner without a policy of its "
        "own; 0: never",
    )

    _check_sender = field_validator("mail_from")(check_sender)
