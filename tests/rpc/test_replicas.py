"""What operators see of the workers."""

from uuid import UUID

import grpc

from authsvc.store.pool import Database
from authsvc.v1 import replica_service_pb2 as pb
from authsvc.v1 import replica_service_pb2_grpc
from tests.conftest import Service, serving
from tests.rpc.refusal import refused


async def status_of(service: Service, key_string: str = "") -> pb.ReplicaStatus:
    stub = replica_service_pb2_grpc.ReplicaServiceStub(service.channel)
    metadata = [("authorization", f"Bearer {key_string or service.admin_key}")]
    answer: pb.ReplicaStatus = await stub.GetReplicaStatus(pb.GetReplicaStatusRequest(), metadata=metadata)
    return answer


async def test_every_worker_is_shown(database_url: str) -> None:
    """With its lease and its position; when nothing is in progress, all workers have applied all changes."""
    async with serving(database_url, None) as one, serving(database_url, None, lease=7.5) as other:
        made = await one.admin.CreateKey(owner_id="acme", display_name="Orders")
        await one.admin.RevokeKey(key_id=made.key.key_id)
        status = await status_of(one)
        shown = {UUID(worker.worker_id): worker for worker in status.workers}
        assert set(shown) == {one.app.follower.worker_id, other.app.follower.worker_id}
        assert shown[other.app.follower.worker_id].lease.ToTimedelta().total_seconds() == 7.5
        assert status.head_seq == 1
        assert {worker.applied_seq for worker in status.workers} == {1}
        assert not any(worker.HasField("behind_since") or worker.lease_over for worker in status.workers)


async def test_who_holds_up_a_revocation(database_url: str) -> None:
    """A worker that does not apply changes is shown with when it fell behind, and that its lease is over."""
    async with serving(database_url, None) as service, Database.open(database_url) as database:
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid, applied, beat_time) "
                "VALUES ($1, 200, 'lost', 7, 0, now() - interval '1 minute')",
                UUID(int=7),
            )
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await service.admin.RevokeKey(key_id=made.key.key_id)
        [lost] = [worker for worker in (await status_of(service)).workers if worker.host == "lost"]
        assert (lost.pid, lost.applied_seq, lost.lease_over) == (7, 0, True)
        assert lost.HasField("behind_since")


async def test_only_the_platform_sees_it(service: Service) -> None:
    """No scope gives an owner's key access; a platform key needs the scope."""
    acme = await service.admin.CreateKey(owner_id="acme", display_name="A", scopes=["full_access"])
    with refused(grpc.StatusCode.PERMISSION_DENIED, "PLATFORM_ONLY"):
        await status_of(service, acme.key_string)
    reader = await service.admin.CreateKey(owner_id="authsvc", display_name="B", scopes=["keys:read"])
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        await status_of(service, reader.key_string)
