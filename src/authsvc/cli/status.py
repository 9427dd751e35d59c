"""`authsvc status`: the workers of all replicas, and who holds up a revocation."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from authsvc.cli.call import calling, output
from authsvc.cli.table import table
from authsvc.v1 import replica_service_pb2 as pb
from authsvc.v1 import replica_service_pb2_grpc


async def status() -> None:
    """Show the workers of all replicas: their leases, and how far each has applied what changed.

    Calls AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY, or else the service of
    `authsvc dev` with its admin.key. The key has to be the platform's.
    """
    async with calling() as (channel, metadata):
        stub: replica_service_pb2_grpc.ReplicaServiceAsyncStub
        stub = replica_service_pb2_grpc.ReplicaServiceStub(channel)
        answer = await stub.GetReplicaStatus(pb.GetReplicaStatusRequest(), metadata=metadata)
    now = answer.read_time.ToDatetime()
    columns = ("worker", "host", "pid", "up", "lease", "renewed", "applied", "state")
    rows = (
        (
            worker.worker_id,
            worker.host,
            str(worker.pid),
            _since(worker.register_time, now),
            f"{worker.lease.ToTimedelta().total_seconds():g} s",
            f"{_since(worker.renew_time, now)} ago" if worker.HasField("renew_time") else "never",
            f"{worker.applied_seq} of {answer.head_seq}",
            _state(worker, now),
        )
        for worker in answer.workers
    )
    output.print(table(columns, rows))
    holding = [worker for worker in answer.workers if worker.HasField("behind_since")]
    if holding:
        output.print(
            f"{len(holding)} of {len(answer.workers)} workers hold up the latest changes. "
            "A revocation waits for each until it has applied it, or its lease is over for certain."
        )


def _state(worker: pb.WorkerStatus, now: datetime) -> Text:
    if worker.HasField("behind_since"):
        return Text(f"holds up changes for {_since(worker.behind_since, now)}", "red")
    if worker.lease_over:
        return Text("lease over", "yellow")
    return Text("serving", "green")


def _since(moment: Timestamp, now: datetime) -> str:
    """Return how long ago something was, in two units at most."""
    seconds = max(0.0, (now - moment.ToDatetime()).total_seconds())
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"
