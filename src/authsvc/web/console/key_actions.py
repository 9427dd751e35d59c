"""Ending a key: revoking it, and deleting it afterwards. Each asks first, on a page of its own."""

import unicodedata
from datetime import timedelta

import grpc
from starlette.responses import Response

from authsvc.model.scope import FULL_ACCESS
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key, KeyState
from authsvc.web.console.key_show import get_key
from authsvc.web.console.key_state import is_in_use, is_revoked
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem
from authsvc.web.console.usage import preview_of

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
# By the value of the choice.
_WHEN = {
    "now": timedelta(),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}


# What a key needs to create keys or sessions, as far as it may do so.
_CREATES = {FULL_ACCESS, "keys:write", "sessions:write"}
_NOT_REVOKED = (KeyState.KEY_STATE_ACTIVE, KeyState.KEY_STATE_DISABLED, KeyState.KEY_STATE_EXPIRED)


async def ask_revoke(request: PageRequest) -> Response:
    """Ask whether a key is to be revoked, with what that would end."""
    request.require("keys:write")
    return await _revoke_page(request, await get_key(request))


async def revoke(request: PageRequest) -> Response:
    """Revoke a key; one that is in use only if its name was typed."""
    key, form = await get_key(request), request.form
    if is_in_use(key, request.parts.clock()) and not _names(form("typed"), key):
        return await _revoke_page(request, key, Problem(_INVALID, "NOT_NAMED", fields={"typed": ""}))
    asked = pb.RevokeKeyRequest(
        key_id=key.key_id, reason=form("reason"), cascade=bool(form("cascade")), etag=form("etag")
    )
    asked.revoke_in.FromTimedelta(_WHEN.get(form("when"), timedelta()))
    if asked.cascade and asked.revoke_in.seconds:
        return await _revoke_page(request, key, Problem(_INVALID, "CASCADE_LATER", fields={"cascade": ""}))
    try:
        await request.call("KeyService/RevokeKey", asked, Key)
    except Problem as problem:
        if problem.ends_session:
            raise
        return await _revoke_page(request, await get_key(request), problem)
    return request.go_on(f"/keys/{key.key_id}", "scheduled" if asked.revoke_in.seconds else "revoked")


async def ask_delete(request: PageRequest) -> Response:
    """Ask whether a key is to be deleted."""
    request.require("keys:write")
    key = await get_key(request)
    return request.page("delete_key.html", section="keys", key=key, is_revoked=is_revoked(key))


async def delete(request: PageRequest) -> Response:
    """Delete a revoked key."""
    key = await get_key(request)
    await request.call("KeyService/DeleteKey", pb.DeleteKeyRequest(key_id=key.key_id), pb.DeleteKeyResponse)
    return request.go_on("/keys", "deleted")


def _names(typed: str, key: Key) -> bool:
    """Return whether this is the name of a key, or its prefix, which every keyboard can type."""
    return unicodedata.normalize("NFC", typed) in (key.display_name, key.key_prefix)


async def _created(request: PageRequest, key: Key) -> int:
    """Return how many keys of this owner a key has created that are not revoked."""
    chosen = pb.KeyFilter(creator_id=key.key_id, states=_NOT_REVOKED)
    asked = pb.ListKeysRequest(owner_id=request.owner, filter=chosen, page_size=1, include_total_size=True)
    return (await request.call("KeyService/ListKeys", asked, pb.ListKeysResponse)).total_size


async def _revoke_page(request: PageRequest, key: Key, problem: Problem | None = None) -> Response:
    created = await _created(request, key)
    is_over = is_revoked(key)
    return request.page(
        "revoke_key.html",
        problem.http_status if problem else 200,
        section="keys",
        key=key,
        in_use=is_in_use(key, request.parts.clock()),
        created=created,
        may_have_created=bool(created) or not _CREATES.isdisjoint(key.scopes),
        is_revoked=is_over,
        preview=None if is_over else await preview_of(request, key.key_id),
        when=list(_WHEN),
        form=request.form,
        problem=problem,
    )
