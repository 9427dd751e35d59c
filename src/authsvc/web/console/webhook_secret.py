"""The secret of a webhook: rotating it, and showing a new one, once."""

from datetime import timedelta

from starlette.responses import Response

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.pages import NewSecret
from authsvc.web.console.problem import Problem
from authsvc.web.console.webhook_show import get_webhook

# How much longer the old secret signs as well, by the value of the choice.
_OVERLAP = {
    "at_once": timedelta(),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}


async def ask_rotate(request: PageRequest) -> Response:
    """Ask how long the old secret is to sign as well."""
    request.require("webhooks:read", "webhooks:write")
    webhook = await get_webhook(request)
    return _page(request, webhook, webhook.etag)


async def rotate(request: PageRequest) -> Response:
    """Replace the secret, and show the new one as the answer.

    The form has the etag of the webhook, which a rotation changes, so sending it again rotates nothing.
    """
    webhook, etag = await get_webhook(request), request.form("etag")
    if etag != webhook.etag:
        return refused_again(request, webhook, is_new=False)
    asked = pb.RotateWebhookSecretRequest(webhook_id=webhook.webhook_id)
    asked.overlap.FromTimedelta(_OVERLAP.get(request.form("overlap"), timedelta(days=1)))

    async def refuse(problem: Problem) -> Response:
        return _page(request, webhook, etag, problem)

    return request.delivered(
        "WebhookService/RotateWebhookSecret", asked, lambda answer: saved(request, answer), refuse
    )


def saved(
    request: PageRequest, answer: pb.CreateWebhookResponse | pb.RotateWebhookSecretResponse
) -> Response:
    """Return the page with a new secret, which is shown nowhere else."""
    request.owner = answer.webhook.owner_id
    return request.page(
        "save_webhook.html",
        section="webhooks",
        webhook=answer.webhook,
        secret=NewSecret(answer.secret),
        at_once=True,
    )


def refused_again(request: PageRequest, webhook: pb.Webhook, *, is_new: bool) -> Response:
    """Return the page for a form that was sent again, so that there is nothing to show."""
    request.owner = webhook.owner_id
    return request.page(
        "secret_shown.html",
        409,
        section="webhooks",
        what="created" if is_new else "rotated",
        path=f"/webhooks/{webhook.webhook_id}",
    )


def _page(request: PageRequest, webhook: pb.Webhook, etag: str, problem: Problem | None = None) -> Response:
    return request.page(
        "rotate_webhook.html",
        problem.http_status if problem else 200,
        section="webhooks",
        webhook=webhook,
        path=f"/webhooks/{webhook.webhook_id}",
        etag=etag,
        choices=list(_OVERLAP),
        chosen=request.form("overlap") or "day",
        problem=problem,
    )
