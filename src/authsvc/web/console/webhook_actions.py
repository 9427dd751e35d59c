"""What is done with a webhook: deleting it, which asks first, testing it, and making a delivery again."""

from starlette.responses import Response

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.webhook_show import get_webhook


async def ask_delete(request: PageRequest) -> Response:
    """Ask whether a webhook is to be deleted."""
    request.require("webhooks:read", "webhooks:write")
    webhook = await get_webhook(request)
    path = f"/webhooks/{webhook.webhook_id}"
    return request.page("delete_webhook.html", section="webhooks", webhook=webhook, path=path)


async def delete(request: PageRequest) -> Response:
    """Delete a webhook with its deliveries."""
    webhook = await get_webhook(request)
    asked = pb.DeleteWebhookRequest(webhook_id=webhook.webhook_id)
    await request.call("WebhookService/DeleteWebhook", asked, pb.DeleteWebhookResponse)
    return request.go_on("/webhooks", "deleted")


async def test(request: PageRequest) -> Response:
    """Call a webhook now, and tell how that went."""
    webhook = await get_webhook(request)
    asked = pb.TestWebhookRequest(webhook_id=webhook.webhook_id)
    answer = await request.call("WebhookService/TestWebhook", asked, pb.TestWebhookResponse)
    done = f"delivered {answer.response_status}" if answer.delivered else f"undelivered {answer.error}"
    return request.go_on(f"/webhooks/{webhook.webhook_id}", done)


async def redeliver(request: PageRequest) -> Response:
    """Make a delivery again."""
    asked = pb.RedeliverWebhookRequest(delivery_id=request.path_params["delivery_id"])
    delivery = await request.call("WebhookService/RedeliverWebhook", asked, pb.WebhookDelivery)
    return request.go_on(f"/webhooks/{delivery.webhook_id}", "redelivered")
