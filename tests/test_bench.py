"""The benchmarks' process under load still runs, which no other test checks."""

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from tests.bench import server


@pytest.mark.slow
@pytest.mark.parametrize("path", [server.NULL, server.BARE])
async def test_the_rpcs_that_do_nothing_answer(database_url: str, path: str) -> None:
    """They are registered beside the service's own, through our endpoint and bypassing it."""
    async with (
        server.running(database_url, server.ANONYMOUS) as process,
        grpc.aio.insecure_channel(process.address) as channel,
    ):
        call = channel.unary_unary(
            path,
            request_serializer=pb.VerifyKeyRequest.SerializeToString,
            response_deserializer=pb.VerifyKeyResponse.FromString,
        )
        assert (await call(pb.VerifyKeyRequest(key_string="x"))).key_id
        assert (await process.counts())["authsvc_database_checkouts_total"] > 0
