"""Editing a webhook, and enabling one that is disabled."""

from contextlib import suppress

from starlette.responses import Response

from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem
from authsvc.web.console.staleness import etag_for, is_stale
from authsvc.web.console.webhook_draft import (
    LABELS,
    WebhookDraft,
    differing,
    draft_of_form,
    draft_of_webhook,
)
from authsvc.web.console.webhook_show import get_webhook


async def ask_edit(request: PageRequest) -> Response:
    """Show the form."""
    request.require("webhooks:read", "webhooks:write")
    webhook = await get_webhook(request)
    return _form(request, webhook, draft_of_webhook(webhook))


async def edit(request: PageRequest) -> Response:
    """Change the fields that are not as they were."""
    webhook, draft = await get_webhook(request), draft_of_form(request.form)
    if "more" in request.form:
        return _form(request, webhook, draft)
    try:
        wanted = draft.webhook(webhook)
        await _update(request, wanted, differing(webhook, wanted))
    except Problem as problem:
        if problem.ends_session:
            raise
        return _form(request, await get_webhook(request), draft, problem)
    return request.go_on(f"/webhooks/{webhook.webhook_id}", "updated")


async def enable(request: PageRequest) -> Response:
    """Enable a webhook that is disabled."""
    webhook = await get_webhook(request)
    await _update(request, pb.Webhook(webhook_id=webhook.webhook_id, enabled=True), ["enabled"])
    return request.go_on(f"/webhooks/{webhook.webhook_id}", "enabled")


async def _update(request: PageRequest, wanted: pb.Webhook, fields: list[str]) -> None:
    wanted.etag = request.form("etag")
    asked = pb.UpdateWebhookRequest(webhook=wanted)
    asked.update_mask.paths.extend(fields)
    if fields:
        await request.call("WebhookService/UpdateWebhook", asked, pb.Webhook)


def _differing(webhook: pb.Webhook, draft: WebhookDraft) -> list[str]:
    with suppress(Problem):
        return [LABELS[name] for name in differing(webhook, draft.webhook(webhook))]
    return []


def _form(
    request: PageRequest, webhook: pb.Webhook, draft: WebhookDraft, problem: Problem | None = None
) -> Response:
    return request.page(
        "edit_webhook.html",
        problem.http_status if problem else 200,
        section="webhooks",
        webhook=webhook,
        path=f"/webhooks/{webhook.webhook_id}",
        etag=etag_for(request, problem, webhook.etag),
        differing=_differing(webhook, draft) if is_stale(problem) else None,
        draft=draft,
        problem=problem,
    )
