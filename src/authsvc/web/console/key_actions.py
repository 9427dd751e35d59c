"""Ending a key: revoking it, and deleting it afterwards. Each asks first, on a page of its own."""

import unicodedata
from datetime import timedelta

import grpc
from starlette.responses import Response

from authsvc.model.scope import FULL_ACCESS
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.key_show import get_key
from authsvc.web.console.key_state import is_in_use, is_revoked
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem
from authsvc.web.console.staleness import is_stale
from authsvc.web.console.usage import SHOWN_ROWS, new_places, place_of, preview_of

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


async def ask_revoke(request: PageRequest) -> Response:
    """Ask whether a key is to be revoked, with what that would end."""
    request.require("keys:write")
    return await _revoke_page(request, await get_key(request))


async def revoke(request: PageRequest) -> Response:
    """Revoke a key, one that is in use only if its name was typed; or end what a revoked key created.

    The first time, it is revoked only if what was shown is still true. After that the form has no etag:
    whoever has the key could otherwise keep it from being revoked, by uses from more and more networks.
    """
    key, form = await get_key(request), request.form
    was_revoked = is_revoked(key)
    if not was_revoked and is_in_use(key, request.parts.clock()) and not _names(form("typed"), key):
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
    done = "created_ended" if was_revoked else "scheduled" if asked.revoke_in.seconds else "revoked"
    return request.go_on(f"/keys/{key.key_id}", done)


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


def _may_have_created(key: Key, preview: pb.PreviewRevocationResponse) -> bool:
    """Return whether there may be something that a key created; what cannot be counted may be there."""
    is_counted = preview.HasField("created_keys") and preview.HasField("created_sessions")
    made = preview.created_keys or preview.created_sessions
    return not is_counted or bool(made) or not _CREATES.isdisjoint(key.scopes)


async def _revoke_page(request: PageRequest, key: Key, problem: Problem | None = None) -> Response:
    preview = await preview_of(request, key.key_id)
    users = preview.users[:SHOWN_ROWS]
    is_outdated = is_stale(problem)
    asks_again = is_outdated or (problem is not None and not request.form("etag"))
    return request.page(
        "revoke_key.html",
        problem.http_status if problem else 200,
        section="keys",
        key=key,
        in_use=is_in_use(key, request.parts.clock()),
        may_have_created=_may_have_created(key, preview),
        is_revoked=is_revoked(key),
        preview=preview,
        users=users,
        more_users=preview.more_users or len(preview.users) > len(users),
        etag="" if asks_again else preview.etag,
        place_of=place_of,
        is_outdated=is_outdated,
        is_changed=is_outdated and request.form("key_etag") != key.etag,
        new=new_places(request, users) if is_outdated else (),
        when=list(_WHEN),
        form=request.form,
        problem=problem,
    )
