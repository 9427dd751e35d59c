"""Who gets a mail about a notification."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import idna

from authsvc.model.key import TechnicalContact
from authsvc.model.notification import Notification
from authsvc.store.notifications import Mail


@dataclass(frozen=True, slots=True)
class MailRecipients:
    """The contacts, or else the operator. Nobody, where no mail server is set up.

    `types` are the types of notifications that are mailed; empty: all of them.
    """

    enabled: bool
    operator: str = ""  # an address; "" for none
    types: Collection[str] = ()

    def wants(self, notification: Notification) -> bool:
        """Return whether there may be mail about a notification."""
        return self.mails_type(notification.type)

    def mails_type(self, name: str) -> bool:
        """Return whether there may be mail about notifications of this type."""
        return self.enabled and (not self.types or name in self.types)

    def mails(self, notification: Notification, contacts: Sequence[TechnicalContact]) -> list[Mail]:
        """Return the mails to send, one for each address."""
        if not self.wants(notification):
            return []
        if not contacts and self.operator:
            contacts = [TechnicalContact("", self.operator)]
        by_address = {address_key(contact.email): contact for contact in reversed(contacts)}
        return [
            Mail(notification.notification_id, notification.owner_id, address, contact.name)
            for address, contact in sorted(by_address.items())
        ]


def address_key(address: str) -> str:
    """Return an address as it is compared and stored: with its domain in A-labels, in lower case.

    A domain has very many spellings (RFC 5321, 2.4; UTS #46), and would have as many limits.
    """
    local, _, domain = address.rpartition("@")
    with suppress(idna.IDNAError):  # One with an underscore; one that there cannot be fails when it is sent.
        domain = idna.encode(domain, uts46=True).decode()
    return f"{local}@{domain.lower()}"
