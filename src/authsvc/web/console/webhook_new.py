"""Creating a webhook, and showing its secret, once."""

from starlette.responses import Response

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem
from authsvc.web.console.webhook_draft import WebhookDraft, draft_of_form
from authsvc.web.console.webhook_list import list_webhooks
from authsvc.web.console.webhook_secret import refused_again, saved

PATH = "/webhooks/new"


async def show(request: PageRequest) -> Response:
    """Show the form."""
    request.require("webhooks:read", "webhooks:write")
    listed = await list_webhooks(request)
    return _form(request, WebhookDraft(), " ".join(webhook.webhook_id for webhook in listed.webhooks))


async def create(request: PageRequest) -> Response:
    """Create the webhook, and show its secret as the answer.

    The form has the ids of the webhooks that there were when it was made. If there is another one now for the
    same URL and by the same session, the form was sent before, as by a reload. Two that are sent at the same
    time are not told apart from two webhooks.
    """
    draft, known = draft_of_form(request.form), request.form("known")
    if "more" in request.form:
        return _form(request, draft, known)
    for webhook in (await list_webhooks(request)).webhooks:
        is_ours = webhook.creator_id == request.caller.credential_id and webhook.url == draft.url
        if is_ours and webhook.webhook_id not in known.split():
            return refused_again(request, webhook, is_new=True)

    async def refuse(problem: Problem) -> Response:
        return _form(request, draft, known, problem)

    try:
        wanted = draft.webhook(pb.Webhook())
    except Problem as problem:
        return await refuse(problem)
    asked = pb.CreateWebhookRequest(
        owner_id=request.owner,
        url=wanted.url,
        description=wanted.description,
        event_types=wanted.event_types,
        technical_contacts=wanted.technical_contacts,
        disabled=not wanted.enabled,
    )
    return request.delivered(
        "WebhookService/CreateWebhook", asked, lambda answer: saved(request, answer), refuse
    )


def _form(request: PageRequest, draft: WebhookDraft, known: str, problem: Problem | None = None) -> Response:
    return request.page(
        "new_webhook.html",
        problem.http_status if problem else 200,
        section="webhooks",
        draft=draft,
        known=known,
        is_for_all=request.owner == PLATFORM_OWNER,
        problem=problem,
    )
