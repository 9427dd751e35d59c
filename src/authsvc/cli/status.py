"""`authsvc status`: shows the workers of all replicas, and which of them delay a revocation."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from authsvc.cli.call import calling, output
from authsvc.cli.table import Table, table
from authsvc.v1 import replica_service_pb2 as pb
from authsvc.v1 import replica_service_pb2_grpc


async def status() -> None:
    """Show the replicas and their workers, with their leases and the changes that they have applied.

    Clients that verify in their own process are shown with the worker that they follow, and what they hold.

    Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the
    service of `authsvc dev` and its admin.key. The key must belong to the owner `authsvc`.
    """
    async with calling() as (channel, metadata):
        stub: replica_service_pb2_grpc.ReplicaServiceAsyncStub
        stub = replica_service_pb2_grpc.ReplicaServiceStub(channel)
        answer = await stub.GetReplicaStatus(pb.GetReplicaStatusRequest(), metadata=metadata)
    now = answer.read_time.ToDatetime()
    columns = ("registration", "host", "workers", "up", "lease", "renewed", "applied", "state")
    rows = (
        (
            worker.worker_id,
            worker.host,
            " ".join(map(str, worker.worker_pids)),
            _since(worker.register_time, now),
            f"{worker.lease.ToTimedelta().total_seconds():g} s",
            f"{_since(worker.renew_time, now)} ago" if worker.HasField("renew_time") else "never",
            f"{worker.applied_seq} of {answer.head_seq}",
            _state(worker, now),
        )
        for worker in answer.workers
    )
    output.print(table(columns, rows))
    if answer.omitted_worker_count:
        output.print(f"{answer.omitted_worker_count} more workers are not shown.")
    if answer.clients:
        output.print()
        output.print(_clients(answer.clients, now))
    if answer.omitted_client_count:
        output.print(f"{answer.omitted_client_count} more clients are not shown.")
    behind = [worker for worker in answer.workers if worker.HasField("behind_since")]
    if behind:
        output.print(
            f"Replicas that have not applied the latest changes: {len(behind)} of {len(answer.workers)}. "
            "A revocation waits for each of them until it has applied it or its lease has certainly expired."
        )
    late = sum(client.HasField("behind_since") for client in answer.clients)
    if late:
        output.print(
            f"Clients that have not confirmed the latest changes: {late}. A revocation waits for each of "
            "them until it has confirmed it or its sub-lease (AUTHSVC_HOLDER_LEASE) has certainly expired."
        )


def _clients(clients: Iterable[pb.ClientStatus], now: datetime) -> Table:
    columns = ("client", "address", "credential", "follows", "holds", "late (10 min)", "state")
    return table(
        columns,
        (
            (
                client.instance or "-",
                client.address,
                client.credential_id,
                f"{client.pid} on {client.host}",
                str(client.held_count),
                str(client.late_count),
                Text(f"behind for {_since(client.behind_since, now)}", "red")
                if client.HasField("behind_since")
                else Text("following", "green"),
            )
            for client in clients
        ),
    )


def _state(worker: pb.WorkerStatus, now: datetime) -> Text:
    if worker.HasField("behind_since"):
        waiting = " ".join(map(str, worker.unconfirmed_pids))
        return Text(f"behind for {_since(worker.behind_since, now)}{waiting and f', for {waiting}'}", "red")
    if worker.lease_over:
        return Text("lease expired", "yellow")
    return Text("serving", "green")


def _since(moment: Timestamp, now: datetime) -> str:
    """Return the time between two instants, in one unit."""
    seconds = max(0.0, (now - moment.ToDatetime()).total_seconds())
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"
