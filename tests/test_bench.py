"""What the benchmarks rely on still works, which no other test checks."""

import asyncpg
import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from tests.bench import key_rows, server


@pytest.mark.slow
@pytest.mark.parametrize("path", [server.NULL, server.BARE])
async def test_the_rpcs_that_do_nothing_answer(database_url: str, path: str) -> None:
    """They are registered beside the service's own, through our endpoint and bypassing it."""
    async with (
        server.running(database_url, server.ANONYMOUS) as process,
        grpc.aio.insecure_channel(process.grpcio_address) as channel,
    ):
        call = channel.unary_unary(
            path,
            request_serializer=pb.VerifyKeyRequest.SerializeToString,
            response_deserializer=pb.VerifyKeyResponse.FromString,
        )
        assert (await call(pb.VerifyKeyRequest(key_string="x"))).key_id
        assert (await process.counts())["authsvc_database_checkouts_total"] > 0


async def test_a_large_database_is_complete(database_url: str) -> None:
    """It has all keys of all owners, each with its last use, and the indexes of the schema."""
    connection = await asyncpg.connect(database_url)
    try:
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'authsvc' ORDER BY 1"
        before = await connection.fetch(indexes)
        await key_rows.fill(database_url, 2_000)
        assert await connection.fetch(indexes) == before
        counted = await connection.fetch("SELECT owner_id, count(*) FROM authsvc.key_records GROUP BY 1")
        keys: dict[str, int] = {row["owner_id"]: row["count"] for row in counted}
        assert (len(keys), sum(keys.values())) == (20, 2_000)
        assert keys[key_rows.LARGEST] > keys[key_rows.SMALL]
    finally:
        await connection.close()
