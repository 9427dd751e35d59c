"""ReplicaService: the workers of all replicas, for operators."""

from datetime import datetime, timedelta
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.model.caller import Caller
from authsvc.model.following_client import ReportedClient
from authsvc.model.worker import Worker
from authsvc.revocation.replicas import Replicas
from authsvc.rpc.answer_size import MAX_BYTES, fitting
from authsvc.rpc.convert import timestamp
from authsvc.v1 import replica_service_pb2 as pb


class ReplicaService:
    """Serves `authsvc.v1.ReplicaService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["ReplicaService"]

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def GetReplicaStatus(self, caller: Caller, request: pb.GetReplicaStatusRequest) -> pb.ReplicaStatus:
        """Show the workers, and the clients that follow them."""
        status = await self._replicas.status(caller)
        workers = await fitting(status.workers, lambda worker: _message(worker, status.read_time))
        clients = await fitting(status.clients, _client_message, max_bytes=MAX_BYTES // 2)
        return pb.ReplicaStatus(
            read_time=timestamp(status.read_time),
            head_seq=status.head_seq,
            workers=workers,
            omitted_worker_count=len(status.workers) - len(workers),
            clients=clients,
            omitted_client_count=status.client_count - len(clients),
        )


def _message(worker: Worker, now: datetime) -> pb.WorkerStatus:
    lease = timedelta(seconds=worker.lease)
    message = pb.WorkerStatus(
        worker_id=str(worker.worker_id),
        host=worker.host,
        pid=worker.pid,
        worker_pids=worker.worker_pids,
        unconfirmed_pids=worker.unconfirmed_pids,
        register_time=timestamp(worker.register_time),
        renew_time=timestamp(worker.beat_time),
        applied_seq=max(worker.applied, 0),
        behind_since=timestamp(worker.behind_since),
        lease_over=worker.beat_time is None or now >= worker.beat_time + lease,
    )
    message.lease.FromTimedelta(lease)
    return message


def _client_message(reported: ReportedClient) -> pb.ClientStatus:
    client = reported.client
    return pb.ClientStatus(
        instance=client.instance,
        credential_id=client.credential_id,
        address=client.address,
        host=reported.host,
        pid=reported.pid,
        held_count=client.held,
        behind_since=timestamp(reported.waited_since),
        late_count=client.late,
    )
