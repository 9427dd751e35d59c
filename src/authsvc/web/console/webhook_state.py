"""The states of webhooks and deliveries as people want to know them."""

from authsvc.v1 import webhook_service_pb2 as pb

_PREFIX = "WEBHOOK_DELIVERY_STATE_"
#: The states of deliveries, by their names in addresses.
DELIVERY_STATES = {
    name.removeprefix(_PREFIX).lower(): number for name, number in pb.WebhookDeliveryState.items() if number
}


def webhook_state(webhook: pb.Webhook) -> str:
    """Return the name of the state of a webhook."""
    if webhook.enabled:
        return "failing" if webhook.HasField("failing_since") else "enabled"
    name = pb.WebhookDisableReason.Name(webhook.disable_reason)
    return f"disabled_{name.removeprefix('WEBHOOK_DISABLE_REASON_').lower()}"


def delivery_state(delivery: pb.WebhookDelivery) -> str:
    """Return the name of the state of a delivery."""
    return pb.WebhookDeliveryState.Name(delivery.state).removeprefix(_PREFIX).lower()
