"""What is typed into the form of a webhook: read from the form, or from a webhook."""

from collections.abc import Sequence
from typing import NamedTuple

from authsvc.model.notification import NotificationType
from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.contacts import Contacts, contacts_of, contacts_of_form
from authsvc.web.console.forms import Form
from authsvc.web.console.selection import Selection, selection_of, selection_of_form

#: The fields that can be changed, and what they are called in the form.
LABELS = {
    "url": "webhooks.url",
    "description": "webhooks.description",
    "event_types": "webhooks.events",
    "technical_contacts": "webhooks.contacts",
    "enabled": "webhooks.enabled",
}


class WebhookDraft(NamedTuple):
    """The fields of the form, as they are typed."""

    url: str = ""
    description: str = ""
    events: Selection = Selection()
    contacts: Contacts = Contacts()
    enabled: bool = True

    @property
    def offered(self) -> Sequence[str]:
        """The types of events to choose from: those there are, and those of a later version that it has."""
        known = [each.value for each in NotificationType]
        return [*known, *(name for name in self.events.names if name not in known)]

    def webhook(self, before: pb.Webhook) -> pb.Webhook:
        """Return the webhook that takes the place of the one `before`. Raises Problem."""
        return pb.Webhook(
            webhook_id=before.webhook_id,
            url=self.url,
            description=self.description,
            event_types=self.events.values(before.event_types, "event_types"),
            technical_contacts=self.contacts.messages,
            enabled=self.enabled,
        )


def draft_of_form(form: Form) -> WebhookDraft:
    """Return what was typed."""
    return WebhookDraft(
        form("url"),
        form("description"),
        selection_of_form(form, "event"),
        contacts_of_form(form),
        "enabled" in form,
    )


def draft_of_webhook(webhook: pb.Webhook) -> WebhookDraft:
    """Return what a webhook has."""
    return WebhookDraft(
        webhook.url,
        webhook.description,
        selection_of(webhook.event_types, webhook.event_types),
        contacts_of(webhook.technical_contacts),
        webhook.enabled,
    )


def differing(one: pb.Webhook, other: pb.Webhook) -> list[str]:
    """Return the fields in which two webhooks differ."""
    return [name for name in LABELS if getattr(one, name) != getattr(other, name)]
