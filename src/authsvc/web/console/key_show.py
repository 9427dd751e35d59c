"""The details of a key."""

from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.key_state import actions_of, badge_of, hindrance, is_active, is_disabled, is_revoked
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.usage import usage_of


async def get_key(request: PageRequest) -> Key:
    """Return the key that the path names; the page is about its owner from then on. Raises Problem."""
    asked = pb.GetKeyRequest(key_id=request.path_params["key_id"])
    key = await request.call("KeyService/GetKey", asked, Key)
    request.owner = key.owner_id
    return key


async def show(request: PageRequest) -> Response:
    """Show everything that is known of a key."""
    key = await get_key(request)
    usage = await usage_of(request, key.key_id)
    return request.page(
        "key.html",
        section="keys",
        key=key,
        badge_found=badge_of(key, request.parts.clock()),
        actions=actions_of(key) if request.may("keys:write") else [],
        is_revoked=is_revoked(key),
        is_disabled=is_disabled(key),
        hindrance=hindrance(key, request),
        done=_done(request, key),
        usage=usage.usage,
        more_usage=bool(usage.next_page_token),
    )


def _done(request: PageRequest, key: Key) -> str:
    """Return what was done to a key, as long as it is in the state that this led to; "" otherwise."""
    is_so = {
        "revoked": is_revoked(key),
        "created_ended": is_revoked(key),
        "scheduled": key.HasField("revoke_time") and not is_revoked(key),
        "updated": True,
        "disabled": is_disabled(key),
        "enabled": is_active(key),
    }
    done = request.done
    return done if is_so.get(done) else ""
