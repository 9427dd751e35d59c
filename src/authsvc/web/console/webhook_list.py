"""The webhooks of an owner."""

from starlette.responses import Response

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.webhook_state import webhook_state

_PAGE_SIZE = 50


async def show(request: PageRequest) -> Response:
    """Show a page of webhooks."""
    answer = await list_webhooks(request, request.query("page"))
    return request.page(
        "webhooks.html",
        section="webhooks",
        webhooks=[(webhook, webhook_state(webhook)) for webhook in answer.webhooks],
        done=request.done,
        first_page=request.query("page") and request.link("/webhooks"),
        next_page=answer.next_page_token and request.link("/webhooks", page=answer.next_page_token),
    )


async def list_webhooks(request: PageRequest, page_token: str = "") -> pb.ListWebhooksResponse:
    """Return a page of the webhooks of the owner; all of them, unless the owner has more than are allowed."""
    asked = pb.ListWebhooksRequest(owner_id=request.owner, page_size=_PAGE_SIZE, page_token=page_token)
    return await request.call("WebhookService/ListWebhooks", asked, pb.ListWebhooksResponse)
