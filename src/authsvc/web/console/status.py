"""The workers of all replicas, and the clients that hold credentials."""

from starlette.responses import Response

from authsvc.v1 import replica_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest


async def show(request: PageRequest) -> Response:
    """Show the workers and the clients."""
    found = await request.call(
        "ReplicaService/GetReplicaStatus", pb.GetReplicaStatusRequest(), pb.ReplicaStatus
    )
    return request.page("status.html", section="status", replicas=found)
