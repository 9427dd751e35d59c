"""The report of a worker on the clients that follow it, for operators and for the answers to changes.

Mechanism: every few seconds, a worker that has clients writes them to a row of its own. When the last one has
gone, it deletes the row.

Bound: one statement every `SECONDS`, and none while nobody follows.

Failure: no change and no verification rests on it. The row of a worker that has died is ignored after some
seconds, and is deleted by the next worker that reports.
"""

import os
import socket
from uuid import uuid4

from authsvc.model.following_client import FollowingClient
from authsvc.revocation.client_holders import ClientHolders
from authsvc.store import client_reports as store
from authsvc.store.pool import Database
from authsvc.verify.clock import Stopwatch, boottime

#: Between two reports. A report is believed for several of them (`client_reports.BELIEVED`).
SECONDS = 2.0


def status_of(clients: ClientHolders, stopwatch: Stopwatch = boottime) -> list[FollowingClient]:
    """Return who follows, what each holds, and whether it is waited for."""
    now = stopwatch()
    return [
        FollowingClient(
            credential_id=each.member.credential_id,
            address=each.member.address,
            instance=each.member.instance,
            held=len(each.holdings),
            waited_seconds=max(0.0, now - each.waited_since),
            late=clients.late.times(each.member),
        )
        for each in clients.clients
    ]


class ClientReport:
    """What a worker has reported of its clients."""

    def __init__(
        self, database: Database, clients: ClientHolders, *, stopwatch: Stopwatch = boottime
    ) -> None:
        self._database, self._clients, self._stopwatch = database, clients, stopwatch
        self._process_id = uuid4()
        self._is_written = False

    async def write(self) -> None:
        """Report the clients of now. Raises RetryableError when the database is out of reach."""
        if clients := status_of(self._clients, self._stopwatch):
            self._is_written = True  # also if the outcome is unknown
            await store.report(self._database, self._process_id, socket.gethostname(), os.getpid(), clients)
        else:
            await self.withdraw()

    async def withdraw(self) -> None:
        """Delete the report, if there is one. Raises RetryableError when the database is out of reach."""
        if self._is_written:
            await store.withdraw(self._database, self._process_id)
            self._is_written = False
