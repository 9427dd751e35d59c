"""Creating a key, and showing its key string, once."""

from uuid import uuid4

import grpc
from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.web.console.key_draft import (
    PRESETS,
    Draft,
    asks_for_rows,
    create_request,
    draft_of_form,
)
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.pages import NewSecret
from authsvc.web.console.problem import Problem
from authsvc.web.console.scope_choice import scope_choice

PATH = "/keys/new"
REPEATED = "REQUEST_REPEATED"


async def show(request: PageRequest) -> Response:
    """Show the form."""
    request.require("keys:write")
    return await _form(request, Draft(), str(uuid4()))


async def create(request: PageRequest) -> Response:
    """Create the key, and show its key string as the answer.

    The form has a `request_id`, so that sending it again, as a reload does, creates no second key.
    """
    draft, request_id = draft_of_form(request.form), request.form("request_id")
    if asks_for_rows(request.form):
        return await _form(request, draft, request_id)

    async def refuse(problem: Problem) -> Response:
        if problem.reason == REPEATED:
            return already_created(request, problem)
        return await _form(request, draft, request_id, problem)

    try:
        asked = create_request(draft, request.owner, request_id)
    except Problem as problem:
        return await refuse(problem)
    return request.delivered(
        "KeyService/CreateKey", asked, lambda answer: saved(request, answer, draft.seal_to), refuse
    )


def saved(
    request: PageRequest, answer: pb.CreateKeyResponse | pb.RotateKeyResponse, sealed_to: str
) -> Response:
    """Return the page with a new key string, which is shown nowhere else, sealed if that was asked for."""
    request.owner = answer.key.owner_id
    return request.page(
        "save_sealed_key.html" if sealed_to else "save_key.html",
        section="keys",
        key=answer.key,
        key_string=NewSecret(answer.sealed_key_string if sealed_to else answer.key_string),
        sealed_to=sealed_to,
        at_once=True,
    )


def already_created(request: PageRequest, problem: Problem) -> Response:
    """Return the page for a form that was sent again."""
    key_id = problem.metadata.get("key_id", "")
    return request.page(
        "already_created.html", problem.http_status, section="keys", path=key_id and f"/keys/{key_id}"
    )


async def policy_of(request: PageRequest) -> policy_pb.OwnerPolicy | None:
    """Return the policy of the owner; None if the caller may not read it."""
    if not request.may("policies:read"):
        return None
    try:
        asked = policy_pb.GetOwnerPolicyRequest(owner_id=request.owner)
        return await request.call("OwnerPolicyService/GetOwnerPolicy", asked, policy_pb.OwnerPolicy)
    except Problem as problem:
        if problem.code is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        return None  # that of the platform itself, which has none


async def _form(
    request: PageRequest, draft: Draft, request_id: str, problem: Problem | None = None
) -> Response:
    return request.page(
        "new_key.html",
        problem.http_status if problem else 200,
        section="keys",
        draft=draft,
        request_id=request_id,
        choice=await scope_choice(request),
        policy=await policy_of(request),
        presets=list(PRESETS),
        problem=problem,
    )
