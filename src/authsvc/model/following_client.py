"""A client that follows a worker and verifies in its own process, as operators see it."""

from datetime import datetime
from typing import NamedTuple


class FollowingClient(NamedTuple):
    """A client as the worker knows it that it follows.

    `credential_id` is what it follows by, `address` where from, `instance` the name that it gives itself.
    """

    credential_id: str
    address: str
    instance: str
    # How many credentials it holds.
    held: int
    # For how many seconds a change has waited for it; 0 if none does.
    waited_seconds: float
    # How often changes have waited for it for long in the last ten minutes, as far as that is counted.
    late: int


class ReportedClient(NamedTuple):
    """The same as others know it, from what the worker reported last."""

    # The machine and the process of the worker.
    host: str
    pid: int
    client: FollowingClient
    # Since when a change has waited for it; None if none did.
    waited_since: datetime | None
