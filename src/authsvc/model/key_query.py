"""The query of ListKeys: filter, order and position."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.key import Key, KeyState
from authsvc.model.page_token import Position

ORDERS = ("display_name", "create_time", "expire_time", "last_use_time")


class KeyOrder(NamedTuple):
    """One of ORDERS, and the direction. Ties are broken by id."""

    field: str = "create_time"
    descending: bool = True

    @classmethod
    def parse(cls, text: str) -> "KeyOrder":
        """Parse an `order_by` (AIP-132), for instance `expire_time desc`. Raises InvalidArgument."""
        words = text.split()
        match words:
            case []:
                return cls()
            case [field] | [field, "asc"] if field in ORDERS:
                return cls(field, descending=False)
            case [field, "desc"] if field in ORDERS:
                return cls(field, descending=True)
        raise InvalidArgument(
            FieldViolation(
                "order_by", "order_by.known", f"use one of {', '.join(ORDERS)}, and ' desc' or ' asc'"
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Conditions that all have to hold. An empty one, or None, is ignored."""

    states: tuple[KeyState, ...] = ()
    query: str = ""
    creator_id: str = ""
    scope: str = ""
    create_time_after: datetime | None = None
    create_time_before: datetime | None = None
    expire_time_before: datetime | None = None
    unused_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """The keys of an owner that match a filter, in an order."""

    owner_id: str
    filter: KeyFilter
    order: KeyOrder

    def position(self, key: Key, folded_name: str) -> Position:
        """Return the position of this key in the order."""
        value = folded_name if self.order.field == "display_name" else getattr(key, self.order.field)
        return Position(value, key.key_id)
