"""Disabling a key for a while, which asks first, and enabling it again."""

from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.key_show import get_key
from authsvc.web.console.key_state import hindrance, is_active, is_disabled, is_in_use
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem

# Until when, by the value of the choice.
_ENABLED, _TIME = "enabled", "time"
_LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def ask_disable(request: PageRequest) -> Response:
    """Ask until when a key is to be disabled."""
    request.require("keys:write")
    return _page(request, await get_key(request))


async def disable(request: PageRequest) -> Response:
    """Disable a key; one that is disabled gets another end and another reason."""
    key = await get_key(request)
    try:
        asked = pb.DisableKeyRequest(
            key_id=key.key_id, reason=request.form("reason"), disabled_until=_until(request)
        )
        await request.call("KeyService/DisableKey", asked, Key)
    except Problem as problem:
        if problem.ends_session:
            raise
        return _page(request, key, problem)
    return request.go_on(f"/keys/{key.key_id}", "disabled")


async def enable(request: PageRequest) -> Response:
    """Enable a key that is disabled."""
    key = await get_key(request)
    await request.call("KeyService/EnableKey", pb.EnableKeyRequest(key_id=key.key_id), Key)
    return request.go_on(f"/keys/{key.key_id}", "enabled")


def _until(request: PageRequest) -> Timestamp | None:
    """Return when the key works again; None for one that somebody has to enable. Raises Problem."""
    chosen, stamp = request.form("until"), Timestamp()
    if chosen == _ENABLED:
        return None
    if chosen in _LENGTHS:
        stamp.FromDatetime(request.parts.clock() + _LENGTHS[chosen])
        return stamp
    if chosen != _TIME:
        raise Problem(_INVALID, "UNTIL", fields={"disabled_until": ""})
    try:
        moment = datetime.fromisoformat(request.form("time"))
    except ValueError:
        moment = None
    # The field is in UTC, as its label says. One with an offset is not what a browser sends.
    if moment is None or moment.tzinfo is not None:
        raise Problem(_INVALID, "TIME", fields={"disabled_until": ""})
    stamp.FromDatetime(moment.replace(tzinfo=UTC))
    return stamp


def _page(request: PageRequest, key: Key, problem: Problem | None = None) -> Response:
    return request.page(
        "disable_key.html",
        problem.http_status if problem else 200,
        section="keys",
        key=key,
        in_use=is_in_use(key, request.parts.clock()),
        can_disable=is_active(key) or is_disabled(key),
        hindrance=hindrance(key, request),
        choices=[_ENABLED, *_LENGTHS],
        chosen=request.form("until") or _ENABLED,
        time=request.form("time"),
        reason=request.form("reason") if problem else key.disable_reason,
        problem=problem,
    )
