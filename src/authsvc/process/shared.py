"""What the processes of one replica share, made before all of them."""

from dataclasses import dataclass

from authsvc.net.lent_leases import LentLeases
from authsvc.net.private_listener import PrivateListener
from authsvc.net.worker_loads import WorkerLoads


@dataclass(frozen=True, slots=True)
class Shared:
    """The ways to the follower and to the admin listener, and how many connections each worker has.

    None for what a replica does not have. `lent` says until when clients may answer by the leave of a worker.
    """

    follower: PrivateListener | None
    admin: PrivateListener | None
    loads: WorkerLoads | None
    lent: LentLeases
