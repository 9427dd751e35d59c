"""Editing the policy of an owner, which only the platform does."""

from contextlib import suppress

import grpc
from starlette.responses import Response

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.v1 import key_service_pb2 as key_pb
from authsvc.v1 import owner_policy_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key, KeyState
from authsvc.web.console.length import UNITS
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.policy_draft import (
    EDITS,
    MANAGERS,
    PolicyDraft,
    differing,
    draft_of_form,
    draft_of_policy,
)
from authsvc.web.console.policy_show import PATH, may_edit
from authsvc.web.console.problem import Problem
from authsvc.web.console.scope_choice import ScopeChoice, scope_choice
from authsvc.web.console.staleness import etag_for, is_stale
from authsvc.web.console.usage import confirmation, require_confirmation, shown_refusals

# Of a change that switches keys off, which has to be confirmed.
_KEYS_STOP = "KEYS_STOP"


async def ask_edit(request: PageRequest) -> Response:
    """Show the form."""
    policy, choice = await _policy(request), await scope_choice(request, grantable_only=False)
    return await _form(request, policy, draft_of_policy(policy, choice.names), choice)


async def edit(request: PageRequest) -> Response:
    """Change the fields that are not as they were."""
    policy, draft = await _policy(request), draft_of_form(request.form)
    try:
        wanted = draft.policy(policy)
        if policy.keys_enabled and not wanted.keys_enabled and "understood" not in request.form:
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, _KEYS_STOP, fields={"understood": ""})
        wanted.etag = request.form("etag")
        asked = pb.UpdateOwnerPolicyRequest(policy=wanted)
        # A form without a change is sent all the same: it may wait for workers that have not confirmed yet.
        asked.update_mask.paths.extend(differing(policy, wanted) or ["keys_enabled"])
        if "allowed_networks" in asked.update_mask.paths:
            await require_confirmation(request, draft.networks, owner_id=request.owner)
        await request.call("OwnerPolicyService/UpdateOwnerPolicy", asked, pb.OwnerPolicy)
    except Problem as problem:
        if problem.ends_session:
            raise
        choice = await scope_choice(request, grantable_only=False)
        return await _form(request, await _policy(request), draft, choice, problem)
    return request.go_on(PATH, "updated")


async def _policy(request: PageRequest) -> pb.OwnerPolicy:
    """Return the policy that is edited. Raises Problem, also for those who may not edit it."""
    request.require("policies:read", "policies:write")
    if not may_edit(request):
        raise Problem(grpc.StatusCode.PERMISSION_DENIED, "PLATFORM_ONLY")
    if request.owner == PLATFORM_OWNER:
        raise Problem(grpc.StatusCode.FAILED_PRECONDITION, "PLATFORM_HAS_NO_POLICY")
    asked = pb.GetOwnerPolicyRequest(owner_id=request.owner)
    return await request.call("OwnerPolicyService/GetOwnerPolicy", asked, pb.OwnerPolicy)


async def _stopping(request: PageRequest) -> tuple[int, Key | None]:
    """Return how many keys would stop, and the one that was used last; 0 if the caller may not know."""
    if not request.may("keys:read"):
        return 0, None
    asked = key_pb.ListKeysRequest(
        owner_id=request.owner,
        filter=key_pb.KeyFilter(states=[KeyState.KEY_STATE_ACTIVE]),
        order_by="last_use_time desc",
        page_size=1,
        include_total_size=True,
    )
    answer = await request.call("KeyService/ListKeys", asked, key_pb.ListKeysResponse)
    return answer.total_size, next((key for key in answer.keys if key.HasField("last_use_time")), None)


def _differing(policy: pb.OwnerPolicy, draft: PolicyDraft) -> list[str]:
    with suppress(Problem):
        return [f"policy.{name}" for name in differing(policy, draft.policy(policy))]
    return []


async def _form(
    request: PageRequest,
    policy: pb.OwnerPolicy,
    draft: PolicyDraft,
    choice: ScopeChoice,
    problem: Problem | None = None,
) -> Response:
    asks = policy.keys_enabled and not draft.keys_enabled
    stopping, last_used = await _stopping(request) if asks else (0, None)
    return request.page(
        "edit_policy.html",
        problem.http_status if problem else 200,
        section="policy",
        policy=policy,
        etag=etag_for(request, problem, policy.etag),
        differing=_differing(policy, draft) if is_stale(problem) else None,
        draft=draft,
        choice=choice,
        units=list(UNITS),
        edits=list(EDITS.values()),
        managers=list(MANAGERS.values()),
        asks=asks,
        stopping=stopping,
        last_used=last_used,
        refused_networks=await shown_refusals(request, problem, draft.networks, owner_id=request.owner),
        networks_value=confirmation(draft.networks),
        problem=problem,
    )
