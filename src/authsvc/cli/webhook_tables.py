"""Webhooks and their deliveries as tables."""

from collections.abc import Sequence

from rich.text import Text

from authsvc.cli.call import when
from authsvc.cli.table import Table, table
from authsvc.v1 import webhook_service_pb2 as pb

_STYLES = {"PENDING": "yellow", "DELIVERED": "green", "FAILED": "red"}


def webhooks_table(found: Sequence[pb.Webhook]) -> Table:
    """Return a table with a row for each webhook."""
    return table(
        ("id", "url", "events", "state", "created"),
        (
            (
                webhook.webhook_id,
                webhook.url,
                " ".join(webhook.event_types) or "all",
                _state(webhook),
                when(webhook.create_time),
            )
            for webhook in found
        ),
        unbroken=("id",),
    )


def webhook_fields(found: Sequence[pb.Webhook]) -> Table:
    """Return a table with a row for each field of the one webhook."""
    [webhook] = found
    old_secret = webhook.HasField("old_secret_expire_time")
    rows = (
        ("id", webhook.webhook_id),
        ("owner", webhook.owner_id),
        ("url", webhook.url),
        ("description", webhook.description),
        ("events", " ".join(webhook.event_types) or "all"),
        ("contacts", ", ".join(f"{each.name} <{each.email}>" for each in webhook.technical_contacts)),
        ("state", _state(webhook)),
        ("old secret", f"used until {when(webhook.old_secret_expire_time)}" if old_secret else "none"),
        ("created", f"{when(webhook.create_time)} by {webhook.creator_id}"),
        ("updated", when(webhook.update_time)),
        ("etag", webhook.etag),
    )
    return table(("field", "value"), rows, with_header=False)


def _state(webhook: pb.Webhook) -> Text:
    if not webhook.enabled:
        why = {
            pb.WEBHOOK_DISABLE_REASON_GONE: ": it answered 410 Gone",
            pb.WEBHOOK_DISABLE_REASON_FAILING: ": all calls failed for days",
        }.get(webhook.disable_reason, "")
        return Text(f"DISABLED{why}", "red" if why else "yellow")
    if webhook.HasField("failing_since"):
        return Text(f"FAILING since {when(webhook.failing_since)}", "red")
    return Text("ENABLED", "green")


def deliveries_table(found: Sequence[pb.WebhookDelivery]) -> Table:
    """Return a table with a row for each delivery."""
    return table(
        (
            "id",
            "event",
            "type",
            "owner",
            "state",
            "attempts",
            "last attempt",
            "next attempt",
            "status",
            "error",
        ),
        (
            (
                delivery.delivery_id,
                delivery.notification_id,
                delivery.type,
                delivery.owner_id,
                _delivery_state(delivery),
                str(delivery.attempt_count),
                when(delivery.last_attempt_time) if delivery.HasField("last_attempt_time") else "none",
                when(delivery.next_attempt_time) if delivery.HasField("next_attempt_time") else "none",
                str(delivery.response_status or ""),
                delivery.error,
            )
            for delivery in found
        ),
        unbroken=("id", "event", "state"),
    )


def _delivery_state(delivery: pb.WebhookDelivery) -> Text:
    state = pb.WebhookDeliveryState.Name(delivery.state).removeprefix("WEBHOOK_DELIVERY_STATE_")
    return Text(state, _STYLES[state])
