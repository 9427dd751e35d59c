"""The table of the API keys of an owner: search, filters, order and page are in the address."""

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta

from starlette.responses import Response

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.resources_pb2 import KeyState
from authsvc.web.console.forms import Form
from authsvc.web.console.key_state import actions_of, badge_of
from authsvc.web.console.page_request import PageRequest

_PAGE_SIZE = 25
_STATES = {
    "active": KeyState.KEY_STATE_ACTIVE,
    "disabled": KeyState.KEY_STATE_DISABLED,
    "expired": KeyState.KEY_STATE_EXPIRED,
    "revoked": KeyState.KEY_STATE_REVOKED,
}
# Days, by the value of the filter.
_EXPIRING, _UNUSED = ("7", "30", "90"), ("30", "90", "365")
# The days that the filters can count from: the longest of them has to lead to a date.
_FIRST_DAY, _LAST_DAY = date.min + timedelta(days=365), date.max - timedelta(days=365)
# The columns that can be sorted by, and the order of a first click.
_COLUMNS = {"display_name": "asc", "last_use_time": "desc", "create_time": "desc", "expire_time": "asc"}
_FILTERS = ("q", "state", "scope", "expiring", "unused", "creator")


async def show(request: PageRequest) -> Response:
    """Show a page of the table."""
    fields = request.query
    column, direction = _order(fields)
    asked = pb.ListKeysRequest(
        owner_id=request.owner,
        filter=_filter(request),
        order_by=f"{column} {direction}",
        page_size=_PAGE_SIZE,
        page_token=fields("page"),
    )
    answer = await request.call("KeyService/ListKeys", asked, pb.ListKeysResponse)
    now, day = request.parts.clock(), _day(request)
    chosen: dict[str, str | None] = {name: fields(name) for name in _FILTERS}
    order = f"{column} {direction}" if fields("sort") else ""
    return request.page(
        "keys.html",
        section="keys",
        keys=[(key, badge_of(key, now)) for key in answer.keys],
        actions_of=actions_of,
        chosen=chosen,
        done=request.done,
        is_filtered=any(chosen.values()),
        states=_STATES,
        expiring=_EXPIRING,
        unused=_UNUSED,
        sort=order,
        columns={
            name: (
                {"asc": "ascending", "desc": "descending"}[direction] if name == column else "none",
                request.link("/keys", **chosen, sort=f"{name} {_next(name, column, direction)}"),
            )
            for name in _COLUMNS
        },
        next_page=answer.next_page_token
        and request.link("/keys", **chosen, sort=order, day=day.isoformat(), page=answer.next_page_token),
        first_page=fields("page") and request.link("/keys", **chosen, sort=order),
    )


def _order(fields: Form) -> tuple[str, str]:
    column, _, direction = fields("sort").partition(" ")
    if column not in _COLUMNS:
        return "create_time", "desc"
    return column, direction if direction in ("asc", "desc") else "asc"


def _next(name: str, column: str, direction: str) -> str:
    """Return the direction that a click on a column asks for."""
    if name != column:
        return _COLUMNS[name]
    return "desc" if direction == "asc" else "asc"


def _day(request: PageRequest) -> date:
    """Return the day that the filters count from. All pages of a list count from that of the first."""
    with suppress(ValueError):
        day = date.fromisoformat(request.query("day"))
        if _FIRST_DAY <= day <= _LAST_DAY:
            return day
    return request.parts.clock().date()


def _filter(request: PageRequest) -> pb.KeyFilter:
    fields = request.query
    today = datetime.combine(_day(request), time(), UTC)
    chosen = pb.KeyFilter(query=fields("q"), scope=fields("scope"), creator_id=fields("creator"))
    if state := _STATES.get(fields("state")):
        chosen.states.append(state)
    if fields("expiring") in _EXPIRING:
        chosen.expire_time_before.FromDatetime(today + timedelta(days=int(fields("expiring"))))
        if not chosen.states:
            chosen.states.extend((KeyState.KEY_STATE_ACTIVE, KeyState.KEY_STATE_DISABLED))
    if fields("unused") in _UNUSED:
        chosen.unused_since.FromDatetime(today - timedelta(days=int(fields("unused"))))
    return chosen
