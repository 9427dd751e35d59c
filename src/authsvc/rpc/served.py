"""What a worker serves over gRPC: our services, RPCs of other protocols, health and reflection."""

from collections.abc import Mapping, Sequence

from grpc_health.v1 import health

from authsvc.entrance.entrance import Entrance
from authsvc.rpc.bounds import Bounds
from authsvc.rpc.health import Health
from authsvc.rpc.holder_service import HolderService
from authsvc.rpc.public import NoSuchRpc, Public
from authsvc.rpc.reflection import Reflection
from authsvc.rpc.rpc import Rpc
from authsvc.rpc.service import Raw, Service, raw_rpc, service_rpcs


class Served:
    """All RPCs, whatever transport carries them, and what they share."""

    def __init__(
        self,
        services: Sequence[Service],
        entrance: Entrance,
        bounds: Bounds,
        *,
        raw: Sequence[Raw] = (),
        holders: HolderService | None = None,
        reflects: bool = True,
    ) -> None:
        """`raw` are RPCs of other protocols. If it `reflects`, anybody may list the RPCs.

        `holders` serves clients that verify in their own process.
        """
        names = [service.descriptor.full_name for service in (*services, *([holders] if holders else ()))]
        self.entrance, self.bounds = entrance, bounds
        self.health = Health(names)
        public = Public(entrance.strangers, bounds)
        rpcs = [
            *(rpc for service in services for rpc in service_rpcs(service, entrance, bounds)),
            *(raw_rpc(each, entrance, bounds) for each in raw),
            *(holders.rpcs(entrance, bounds) if holders else ()),
            *self.health.rpcs(public),
            *(Reflection((*names, health.SERVICE_NAME)).rpcs(public) if reflects else ()),
        ]
        #: By path.
        self.rpcs = {rpc.path: rpc for rpc in rpcs}
        #: Serves every other path.
        self.unknown = Rpc("", NoSuchRpc(entrance.strangers).handle)
        self._arrivals = [bounds.arrivals, *public.arrivals]
        self._streams = public.streams

    @property
    def refused(self) -> Mapping[str, int]:
        """How many calls were refused: by the limits of open streams, and of messages being received."""
        return {
            "stream": sum(streams.refused for streams in self._streams),
            "message": sum(arrivals.refused for arrivals in self._arrivals),
        }

    def expire(self) -> None:
        """End calls whose messages are late."""
        for arrivals in self._arrivals:
            arrivals.expire()
