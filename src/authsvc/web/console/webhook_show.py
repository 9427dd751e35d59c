"""A webhook and its deliveries."""

from starlette.responses import Response

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.webhook_state import DELIVERY_STATES, delivery_state, webhook_state

_PAGE_SIZE = 50


async def get_webhook(request: PageRequest) -> pb.Webhook:
    """Return the webhook that the path names; the page is about its owner from then on. Raises Problem."""
    asked = pb.GetWebhookRequest(webhook_id=request.path_params["webhook_id"])
    webhook = await request.call("WebhookService/GetWebhook", asked, pb.Webhook)
    request.owner = webhook.owner_id
    return webhook


async def show(request: PageRequest) -> Response:
    """Show a webhook and a page of its deliveries."""
    webhook, token, chosen = await get_webhook(request), request.query("page"), request.query("state")
    asked = pb.ListWebhookDeliveriesRequest(
        webhook_id=webhook.webhook_id, page_size=_PAGE_SIZE, page_token=token
    )
    if state := DELIVERY_STATES.get(chosen):
        asked.states.append(state)
    answer = await request.call(
        "WebhookService/ListWebhookDeliveries", asked, pb.ListWebhookDeliveriesResponse
    )
    path = f"/webhooks/{webhook.webhook_id}"
    done, _, told = request.done.partition(" ")
    return request.page(
        "webhook.html",
        section="webhooks",
        webhook=webhook,
        path=path,
        state=webhook_state(webhook),
        deliveries=[(delivery, delivery_state(delivery)) for delivery in answer.deliveries],
        states=list(DELIVERY_STATES),
        chosen=chosen if state else "",
        done=done if done != "enabled" or webhook.enabled else "",
        told=told,
        first_page=token and request.link(path, state=chosen),
        next_page=answer.next_page_token and request.link(path, state=chosen, page=answer.next_page_token),
    )
