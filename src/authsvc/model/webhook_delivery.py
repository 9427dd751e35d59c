"""One notification that is to be delivered to one webhook."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class DeliveryState(StrEnum):
    """Whether it was delivered. These are the states in the database."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """A delivery with what is shown of its notification. `error` has no part of a response."""

    delivery_id: str
    webhook_id: str
    notification_id: str
    owner_id: str  # that the notification is about
    type: str
    state: DeliveryState
    attempt_count: int
    create_time: datetime
    next_time: datetime  # of the next attempt
    attempt_time: datetime | None  # of the last attempt
    response_status: int  # of HTTP at the last attempt; 0: no response
    error: str


class DeliveryQuery(NamedTuple):
    """The deliveries of a webhook in some states, the newest first."""

    webhook_id: str
    states: tuple[DeliveryState, ...] = tuple(DeliveryState)
