"""The policy of an owner: what it may do with keys."""

from starlette.responses import Response

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.web.console.key_new import policy_of
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.policy_draft import EDITS, MANAGERS

PATH, EDIT_PATH = "/policy", "/policy/edit"


async def show(request: PageRequest) -> Response:
    """Show what an owner may do with keys."""
    request.require("policies:read")
    is_limited = request.owner != PLATFORM_OWNER
    found = await policy_of(request) if is_limited else None
    return request.page(
        "policy.html",
        section="policy",
        policy=found,
        edits=found and EDITS.get(found.key_edits, ""),
        managers=found and MANAGERS.get(found.key_managers, ""),
        edit_link=request.link(EDIT_PATH) if may_edit(request) and is_limited else "",
        done=request.done,
    )


def may_edit(request: PageRequest) -> bool:
    """Return whether the caller may change policies: no owner lifts its own limits."""
    return request.is_platform and request.may("policies:read", "policies:write")
