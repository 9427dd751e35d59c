"""The audit log of an owner, with filters, and whether its chain is whole."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta

from starlette.responses import Response

from authsvc.v1 import audit_service_pb2 as pb
from authsvc.web.console.audit_chain import WHOLE, Checked, check
from authsvc.web.console.page_request import PageRequest

_PAGE_SIZE = 50
# How far the check of a chain goes: so many pages of so many events.
_CHECKED_PAGES, _CHECKED_PAGE_SIZE = 10, 1000
_PREFIX = "AUDIT_ACTION_"
_ACTIONS = [name.removeprefix(_PREFIX) for name, number in pb.AuditAction.items() if number]
_FILTERS = ("action", "actor", "target", "after", "before")


async def show(request: PageRequest) -> Response:
    """Show a page of events, newest first."""
    return await _shown(request, None)


async def show_checked(request: PageRequest) -> Response:
    """Show the newest events, and whether they are a chain without a fault."""
    return await _shown(request, await _checked(request))


async def _shown(request: PageRequest, checked: Checked | None) -> Response:
    fields = request.query
    chosen: dict[str, str | None] = {name: fields(name) for name in _FILTERS}
    answer = await _events(request, _filter(request), _PAGE_SIZE, fields("page"))
    is_filtered = any(chosen.values())
    return request.page(
        "audit.html",
        section="audit",
        events=[(event, action_of(event)) for event in answer.events],
        actions=_ACTIONS,
        chosen=chosen,
        is_filtered=is_filtered,
        checked=checked,
        check_link=request.link("/audit/check"),
        first_page=fields("page") and request.link("/audit", **chosen),
        next_page=answer.next_page_token and request.link("/audit", **chosen, page=answer.next_page_token),
    )


def action_of(event: pb.AuditEvent) -> str:
    """Return the name of what was done; "" for an action of a later version."""
    name = pb.AuditAction.Name(event.action) if event.action in pb.AuditAction.values() else ""
    return "" if name.endswith("UNSPECIFIED") else name.removeprefix(_PREFIX)


async def _events(
    request: PageRequest, chosen: pb.AuditEventFilter, size: int, token: str
) -> pb.ListAuditEventsResponse:
    asked = pb.ListAuditEventsRequest(owner_id=request.owner, filter=chosen, page_size=size, page_token=token)
    return await request.call("AuditService/ListAuditEvents", asked, pb.ListAuditEventsResponse)


async def _checked(request: PageRequest) -> Checked:
    """Return whether the newest events are a chain without a fault."""
    checked, token = WHOLE, ""
    async with request.parts.checks.turn(request.caller.owner_id):
        for _ in range(_CHECKED_PAGES):
            answer = await _events(request, pb.AuditEventFilter(), _CHECKED_PAGE_SIZE, token)
            checked = await check(answer.events, action_of, checked)
            token = answer.next_page_token
            if checked.fault or not token:
                break
    return checked._replace(has_more=bool(token))


def _filter(request: PageRequest) -> pb.AuditEventFilter:
    fields = request.query
    chosen = pb.AuditEventFilter(
        actions=_known(fields("action")), actor_id=fields("actor"), target_id=fields("target")
    )
    if after := _day(fields("after")):
        chosen.time_after.FromDatetime(after)
    if before := _day(fields("before"), timedelta(days=1)):
        chosen.time_before.FromDatetime(before)
    return chosen


def _known(action: str) -> Sequence[pb.AuditAction.ValueType]:
    return [pb.AuditAction.Value(_PREFIX + action)] if action in _ACTIONS else []


def _day(text: str, later: timedelta = timedelta()) -> datetime | None:
    """Return the start of a day, or a time later; None if that is no date, as after the last day of 9999."""
    with suppress(ValueError, OverflowError):
        return datetime.combine(date.fromisoformat(text), time(), UTC) + later
    return None
