"""Editing a key: the form offers what the policy of the owner allows, and sends what was changed."""

from contextlib import suppress

from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.owner_policy_service_pb2 import KeyEdits
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.annotations import SHOWN as SHOWS_ANNOTATIONS
from authsvc.web.console.credits import FIELD as CREDITS
from authsvc.web.console.key_draft import (
    DATE,
    KEEP,
    NEVER,
    Draft,
    asks_for_rows,
    draft_of_form,
    draft_of_key,
)
from authsvc.web.console.key_new import policy_of
from authsvc.web.console.key_show import get_key
from authsvc.web.console.networks import FIELD as NETWORKS
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem
from authsvc.web.console.rate_limits import FIELD as LIMITS
from authsvc.web.console.rate_limits import same_limits
from authsvc.web.console.scope_choice import ScopeChoice, scope_choice
from authsvc.web.console.staleness import etag_for, is_stale
from authsvc.web.console.usage import confirmation, require_confirmation, shown_refusals

# The names of fields, by what they are called in the form.
_LABELS = {
    "display_name": "new.name",
    "description": "new.description",
    "technical_contacts": "new.contacts",
    "scopes": "new.scopes",
    "expire_time": "new.expiry",
    "annotations": "key.annotations",
    NETWORKS: "key.networks",
    LIMITS: "key.limits",
    CREDITS: "key.credits",
}


async def ask_edit(request: PageRequest) -> Response:
    """Show the form."""
    request.require("keys:write")
    key, choice = await get_key(request), await scope_choice(request)
    return await _form(request, key, draft_of_key(key, choice.names), choice)


async def edit(request: PageRequest) -> Response:
    """Change the fields that are not as they were."""
    key, choice, draft = await get_key(request), await scope_choice(request), draft_of_form(request.form)
    if asks_for_rows(request.form):
        return await _form(request, key, draft, choice)
    try:
        asked = _update(request, key, draft)
        if NETWORKS in asked.update_mask.paths:
            await require_confirmation(request, draft.networks, key_id=key.key_id)
        if asked.update_mask.paths:
            await request.call("KeyService/UpdateKey", asked, Key)
    except Problem as problem:
        if problem.ends_session:
            raise
        return await _form(request, await get_key(request), draft, choice, problem)
    return request.go_on(f"/keys/{key.key_id}", "updated")


def _update(request: PageRequest, key: Key, draft: Draft) -> pb.UpdateKeyRequest:
    """Return the request with the fields that the form had, and that differ. Raises Problem."""
    wanted = Key(key_id=key.key_id, etag=request.form("etag"))
    wanted.display_name, wanted.description = draft.name, draft.description
    wanted.technical_contacts.extend(draft.contacts.messages)
    wanted.scopes.extend(sorted(draft.all_scopes))
    changed = [
        field for field in ("display_name", "description") if getattr(wanted, field) != getattr(key, field)
    ]
    if list(wanted.technical_contacts) != list(key.technical_contacts):
        changed.append("technical_contacts")
    if "all" in request.form:
        if list(wanted.scopes) != sorted(key.scopes):
            changed.append("scopes")
        if draft.expiry == DATE:
            wanted.expire_time.CopyFrom(draft.expire_time())
        if draft.expiry in (DATE, NEVER):
            changed.append("expire_time")
    if SHOWS_ANNOTATIONS in request.form:
        wanted.annotations.update(draft.annotations.values())
        if wanted.annotations != key.annotations:
            changed.append("annotations")
    if NETWORKS in request.form:
        wanted.allowed_networks.extend(draft.networks.values)
        if wanted.allowed_networks != key.allowed_networks:
            changed.append(NETWORKS)
    if LIMITS in request.form:
        wanted.rate_limits.extend(draft.limits.messages)
        if not same_limits(wanted.rate_limits, key.rate_limits):
            changed.append(LIMITS)
    if CREDITS in request.form and draft.credits.differ(key):
        if (credit_message := draft.credits.message) is not None:
            wanted.credits.CopyFrom(credit_message)
        changed.append(CREDITS)
    asked = pb.UpdateKeyRequest(key=wanted)
    asked.update_mask.paths.extend(changed)
    return asked


def _differing(request: PageRequest, key: Key, draft: Draft) -> list[str]:
    """Return the labels of the fields that would be changed by sending the form again."""
    with suppress(Problem):
        return [_LABELS[field] for field in _update(request, key, draft).update_mask.paths]
    return []


async def _form(
    request: PageRequest, key: Key, draft: Draft, choice: ScopeChoice, problem: Problem | None = None
) -> Response:
    policy = await policy_of(request)
    edits = policy.key_edits if policy else KeyEdits.KEY_EDITS_ALL
    return request.page(
        "edit_key.html",
        problem.http_status if problem else 200,
        section="keys",
        key=key,
        etag=etag_for(request, problem, key.etag),
        differing=_differing(request, key, draft) if is_stale(problem) else None,
        draft=draft,
        choice=choice,
        policy=policy,
        can_edit=edits != KeyEdits.KEY_EDITS_NONE,
        can_edit_all=edits == KeyEdits.KEY_EDITS_ALL,
        choices=[KEEP, NEVER],
        refused_networks=await shown_refusals(request, problem, draft.networks, key_id=key.key_id),
        networks_value=confirmation(draft.networks),
        problem=problem,
    )
