"""Rotating a key: a new key takes its place, and the old one ends after a while."""

from datetime import timedelta
from uuid import uuid4

from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.key_new import REPEATED, already_created, saved
from authsvc.web.console.key_show import get_key
from authsvc.web.console.key_state import is_disabled, is_in_use
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem

# How much longer the old key works, by the value of the choice.
_GRACE = {
    "at_once": timedelta(),
    "minutes": timedelta(minutes=15),
    "hour": timedelta(hours=1),
    "hours": timedelta(hours=6),
    "day": timedelta(days=1),
}


async def ask_rotate(request: PageRequest) -> Response:
    """Ask how long the old key is to work."""
    request.require("keys:write")
    return _page(request, await get_key(request), str(uuid4()))


async def rotate(request: PageRequest) -> Response:
    """Replace the key, and show the new key string as the answer."""
    key, request_id = await get_key(request), request.form("request_id")
    seal_to = request.form("seal_to")
    asked = pb.RotateKeyRequest(key_id=key.key_id, request_id=request_id, seal_to=seal_to)
    asked.grace_period.FromTimedelta(_GRACE.get(request.form("grace"), timedelta(days=1)))

    async def refuse(problem: Problem) -> Response:
        if problem.reason == REPEATED:
            return already_created(request, problem)
        return _page(request, key, request_id, problem)

    return request.delivered(
        "KeyService/RotateKey", asked, lambda answer: saved(request, answer, seal_to), refuse
    )


def _page(request: PageRequest, key: Key, request_id: str, problem: Problem | None = None) -> Response:
    return request.page(
        "rotate_key.html",
        problem.http_status if problem else 200,
        section="keys",
        key=key,
        is_disabled=is_disabled(key),
        in_use=is_in_use(key, request.parts.clock()),
        request_id=request_id,
        choices=list(_GRACE),
        chosen=request.form("grace") or "day",
        seal_to=request.form("seal_to"),
        problem=problem,
    )
