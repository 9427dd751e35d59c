"""ListKeys for an owner with a very large number of keys against one with few: a page should cost the same.

Each case requests a page of the same size for both owners, through the use case and over
gRPC. A common filter fills a page of 50 for both; a rare one matches 20 keys
of both, however many other keys they have. Two owners whose keys are nearly all in one
state have a fifth of that size.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.model.caller import BOOTSTRAP
from authsvc.model.key_query import ORDERS, KeyQuery
from authsvc.rpc.convert import key_query
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.bench.bench import Bench, say
from tests.bench.key_rows import FILL
from tests.bench.rounds import Side, in_turns, ratio
from tests.bench.table import AtMost, Row

_PART = "lists"
_PAGE = 50
_DEEP = 100
_SMALL = 200
_DAYS = 700
_AIM = AtMost(1.5)
_ACTIVE, _EXPIRED, _REVOKED = (
    resources_pb2.KEY_STATE_ACTIVE,
    resources_pb2.KEY_STATE_EXPIRED,
    resources_pb2.KEY_STATE_REVOKED,
)


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner with `size` keys, created over the 700 days before `now`."""

    owner_id: str
    size: int
    now: datetime

    def made(self, number: int) -> Timestamp:
        """Return the creation time of the key with this number."""
        return _stamp(self.now + timedelta(days=_DAYS * (number / self.size - 1)))

    def ago(self, days: float) -> Timestamp:
        """Return the time this many days ago."""
        return _stamp(self.now - timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Case:
    """A page to request. `deep`: the hundredth one, or the last full one of the owner with few keys."""

    name: str
    filter: Callable[[Owner], pb.KeyFilter] = lambda _: pb.KeyFilter()
    order_by: str = ""
    deep: bool = False
    owners: tuple[str, str] = ("big", "small")


_FILTERS: Mapping[str, Callable[[Owner], pb.KeyFilter]] = {
    "active": lambda _: pb.KeyFilter(states=[_ACTIVE]),
    "expired": lambda _: pb.KeyFilter(states=[_EXPIRED]),
    "revoked": lambda _: pb.KeyFilter(states=[_REVOKED]),
    "active or expired": lambda _: pb.KeyFilter(states=[_ACTIVE, _EXPIRED]),
    "query, common": lambda _: pb.KeyFilter(query="Prod"),
    "query, rare": lambda _: pb.KeyFilter(query="zebra"),
    "query, rare here, common elsewhere": lambda _: pb.KeyFilter(query="walrus"),
    "creator, common": lambda _: pb.KeyFilter(creator_id="key_creator1"),
    "creator, rare": lambda _: pb.KeyFilter(creator_id="key_rare"),
    "scope, common": lambda _: pb.KeyFilter(scope="orders:read"),
    "scope, rare here, common elsewhere": lambda _: pb.KeyFilter(scope="audit:export"),
    "created, half of all": lambda o: pb.KeyFilter(
        create_time_after=o.made(o.size // 4), create_time_before=o.made(o.size * 3 // 4)
    ),
    "created, 20 keys": lambda o: pb.KeyFilter(
        create_time_after=o.made(o.size // 2), create_time_before=o.made(o.size // 2 + 20)
    ),
    "expires within 60 days": lambda o: pb.KeyFilter(expire_time_before=o.ago(-60)),
    "unused for 30 days": lambda o: pb.KeyFilter(unused_since=o.ago(30)),
}
_CASES = (
    Case("first page"),
    Case("deep page", deep=True),
    *(
        Case(f"{where} by {order}{direction}", order_by=order + direction, deep=where == "deep")
        for order in ORDERS
        for direction in ("", " desc")
        for where in ("first", "deep")
    ),
    *(Case(name, chosen) for name, chosen in _FILTERS.items()),
    *(
        Case(f"{name}, by {order_by}", _FILTERS[name], order_by)
        for name, order_by in (
            ("active", "display_name"),
            ("active", "expire_time"),
            ("active", "last_use_time"),
            ("active", "last_use_time desc"),
            ("expired", "last_use_time desc"),
            ("revoked", "display_name"),
            ("query, common", "display_name"),
            ("query, rare", "display_name"),
            ("query, rare", "last_use_time desc"),
            ("query, rare here, common elsewhere", "display_name"),
            ("query, rare here, common elsewhere", "last_use_time desc"),
            ("creator, common", "last_use_time"),
            ("creator, rare", "display_name"),
            ("creator, rare", "last_use_time desc"),
            ("scope, common", "display_name"),
            ("scope, rare here, common elsewhere", "display_name"),
            ("scope, rare here, common elsewhere", "last_use_time desc"),
            ("created, half of all", "display_name"),
            ("created, 20 keys", "last_use_time desc"),
            ("expires within 60 days", "expire_time"),
            ("unused for 30 days", "last_use_time"),
            ("unused for 30 days", "create_time"),
        )
    ),
    Case(
        "active, unused for 30 days, by last_use_time",
        lambda o: pb.KeyFilter(states=[_ACTIVE], unused_since=o.ago(30)),
        "last_use_time",
    ),
    Case(
        "active, rare query, by display_name",
        lambda _: pb.KeyFilter(states=[_ACTIVE], query="zebra"),
        "display_name",
    ),
    *(
        Case(f"{name}, rare here: {owner}{told}", _FILTERS[name], order_by, owners=(owner, f"{owner}-small"))
        for name, owner in (("active", "retired"), ("expired", "lasting"), ("revoked", "lasting"))
        for order_by, told in (("", ""), ("display_name", ", by display_name"))
    ),
    Case("not revoked, common query", lambda _: pb.KeyFilter(states=[_ACTIVE, _EXPIRED], query="ing ")),
)


async def measure(bench: Bench) -> list[Row]:
    """Return a row for each case, the worst first."""
    rounds, size, beside = (3, 20_000, 50) if bench.quick else (9, 200_000, 500)
    now = datetime.now(UTC).replace(microsecond=0)
    await _fill(bench, size, beside, now)
    say(f"lists: {rounds} rounds of {len(_CASES)} cases")
    rows = []
    for case in _CASES:
        sides = {}
        large = size if case.owners[0] == "big" else size // 5
        for side, owner_id, keys in zip(("big", "small"), case.owners, (large, _SMALL), strict=True):
            request = await _request(bench, case, Owner(owner_id, keys, now))
            sides[f"use case, {side}"] = _timed_use_case(bench, request)
            sides[f"rpc, {side}"] = _timed_rpc(bench, request)
        await in_turns(sides, 1)
        times = await in_turns(sides, rounds)
        rows += [_row(case, way, times[f"{way}, big"], times[f"{way}, small"]) for way in ("use case", "rpc")]
    worst = max(rows, key=lambda row: row.ratio)
    title = f"worst of {len(_CASES)} cases, {size:,} keys against {_SMALL}"
    return [Row(_PART, title, worst.one, worst.other, worst.ratio, _AIM), *rows]


def _row(case: Case, way: str, big: list[float], small: list[float]) -> Row:
    one, other = (f"{median(times) * 1000:.2f} ms" for times in (big, small))
    return Row(_PART, f"{case.name} ({way})", one, other, ratio(big, small), _AIM)


async def _request(bench: Bench, case: Case, owner: Owner) -> pb.ListKeysRequest:
    """Return the request for the page, which must be as long as the page of the other owner."""
    request = pb.ListKeysRequest(
        owner_id=owner.owner_id, filter=case.filter(owner), order_by=case.order_by, page_size=_PAGE
    )
    page = min(_DEEP, owner.size // _PAGE) if case.deep else 1
    for _ in range(page - 1):
        _, request.page_token = await _list(bench, request)
    found, _ = await _list(bench, request)
    rare = "rare" in case.name or "20 keys" in case.name
    if not (0 < found <= 20 if rare else found == _PAGE):
        raise AssertionError(f"{case.name}: {owner.owner_id} shows {found} keys")
    return request


async def _list(bench: Bench, request: pb.ListKeysRequest) -> tuple[int, str]:
    query: KeyQuery = key_query(request)
    page, _ = await bench.app.keys.list(
        BOOTSTRAP, query, page_size=request.page_size, page_token=request.page_token, with_total=False
    )
    found = list(page.items)
    return len(found), page.token_after(len(found))


def _timed_use_case(bench: Bench, request: pb.ListKeysRequest) -> Side:
    async def side() -> float:
        started = time.perf_counter()
        await _list(bench, request)
        return time.perf_counter() - started

    return side


def _timed_rpc(bench: Bench, request: pb.ListKeysRequest) -> Side:
    metadata = bench.as_caller(bench.admin_key)

    async def side() -> float:
        started = time.perf_counter()
        await bench.stub.ListKeys(request, metadata=metadata)  # type: ignore[misc]
        return time.perf_counter() - started

    return side


async def _fill(bench: Bench, size: int, beside: int, now: datetime) -> None:
    say(f"lists: filling in {size + size // 5 * 2 + _SMALL * (beside + 3):,} keys")
    fifth = size // 5
    owners = {"big": size, "small": _SMALL, "retired": fifth, "retired-small": _SMALL, "lasting": fifth}
    owners |= {"lasting-small": _SMALL} | {f"other-{number}": _SMALL for number in range(1, beside + 1)}
    connection = await asyncpg.connect(bench.database_url)
    try:
        await connection.execute(FILL, list(owners), list(owners.values()), now, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
    finally:
        await connection.close()


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
