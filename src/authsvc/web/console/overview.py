"""Pages that only show: the policy of an owner, its webhooks, and the workers of all replicas."""

from starlette.responses import Response

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import replica_service_pb2 as replica_pb
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from authsvc.web.console.key_new import policy_of
from authsvc.web.console.page_request import PageRequest

_PAGE_SIZE = 50


def _name(name: str) -> str:
    """Return the name of a value of an enumeration without the name of that: `DETAILS`."""
    return name.split("_", 2)[2]


async def policy(request: PageRequest) -> Response:
    """Show what an owner may do with keys."""
    request.require("policies:read")
    found = await policy_of(request)
    return request.page(
        "policy.html",
        section="policy",
        policy=found,
        edits=found and _name(policy_pb.KeyEdits.Name(found.key_edits)),
        managers=found and _name(policy_pb.KeyManagers.Name(found.key_managers)),
    )


async def webhooks(request: PageRequest) -> Response:
    """Show the webhooks of an owner."""
    asked = webhook_pb.ListWebhooksRequest(
        owner_id=request.owner, page_size=_PAGE_SIZE, page_token=request.query("page")
    )
    answer = await request.call("WebhookService/ListWebhooks", asked, webhook_pb.ListWebhooksResponse)
    return request.page(
        "webhooks.html",
        section="webhooks",
        webhooks=[(webhook, webhook_state(webhook)) for webhook in answer.webhooks],
        first_page=request.query("page") and request.link("/webhooks"),
        next_page=answer.next_page_token and request.link("/webhooks", page=answer.next_page_token),
    )


def webhook_state(webhook: webhook_pb.Webhook) -> str:
    """Return the name of the state of a webhook."""
    if webhook.enabled:
        return "failing" if webhook.HasField("failing_since") else "enabled"
    name = webhook_pb.WebhookDisableReason.Name(webhook.disable_reason)
    return f"disabled_{name.removeprefix('WEBHOOK_DISABLE_REASON_').lower()}"


def _delivery_state(delivery: webhook_pb.WebhookDelivery) -> str:
    name = webhook_pb.WebhookDeliveryState.Name(delivery.state)
    return name.removeprefix("WEBHOOK_DELIVERY_STATE_").lower()


async def webhook(request: PageRequest) -> Response:
    """Show a webhook and its latest deliveries."""
    webhook_id = request.path_params["webhook_id"]
    found = await request.call(
        "WebhookService/GetWebhook", webhook_pb.GetWebhookRequest(webhook_id=webhook_id), webhook_pb.Webhook
    )
    request.owner = found.owner_id
    token = request.query("page")
    asked = webhook_pb.ListWebhookDeliveriesRequest(
        webhook_id=webhook_id, page_size=_PAGE_SIZE, page_token=token
    )
    answer = await request.call(
        "WebhookService/ListWebhookDeliveries", asked, webhook_pb.ListWebhookDeliveriesResponse
    )
    path = f"/webhooks/{webhook_id}"
    return request.page(
        "webhook.html",
        section="webhooks",
        webhook=found,
        state=webhook_state(found),
        deliveries=[(delivery, _delivery_state(delivery)) for delivery in answer.deliveries],
        first_page=token and request.link(path),
        next_page=answer.next_page_token and request.link(path, page=answer.next_page_token),
    )


async def status(request: PageRequest) -> Response:
    """Show the workers of all replicas, and the clients that hold credentials."""
    found = await request.call(
        "ReplicaService/GetReplicaStatus", replica_pb.GetReplicaStatusRequest(), replica_pb.ReplicaStatus
    )
    return request.page("status.html", section="status", replicas=found)
