"""VerifyKey from memory: against an RPC that does nothing, for valid and invalid keys, and in batches.

The caller has its own key and sends a typical request: a key string, one required
scope, the client's address. All are in the service's memory before the clock starts.
"""

from datetime import timedelta
from functools import partial
from statistics import median

import grpc

from authsvc.model.caller import BOOTSTRAP
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench import server
from tests.bench.bench import Bench, say
from tests.bench.h2load import Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import BARE, BATCH_VERIFY, NULL, VERIFY
from tests.bench.table import AtLeast, AtMost, Row

_PART = "verify"
_BATCH = 100
_SCOPES = ("orders:read", "orders:write", "reports:read")


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about warm verification."""
    rounds, requests = (3, 3_000) if bench.quick else (5, 8_000)
    caller = await _mint(bench, "gateway", ("keys:verify",))
    keys = [await _mint(bench, f"client {number}", _SCOPES) for number in range(_BATCH)]
    good = keys[0]
    # Another secret for a warm prefix, and a prefix that does not exist, so that the tag is not its own.
    wrong = good[:-TAIL_LENGTH] + _other(good[-TAIL_LENGTH]) + good[1 - TAIL_LENGTH :]
    forged = good[: -TAIL_LENGTH - 1] + _other(good[-TAIL_LENGTH - 1]) + good[-TAIL_LENGTH:]
    requests_of = {
        name: _request(text) for name, text in (("hit", good), ("wrong", wrong), ("forged", forged))
    }
    batch = pb.BatchVerifyKeysRequest(requests=[_request(text) for text in keys])
    await _look(bench, caller, requests_of, batch)

    def load(
        path: str,
        request: pb.VerifyKeyRequest | pb.BatchVerifyKeysRequest,
        address: str = bench.server.address,
    ) -> Load:
        return Load(address, path, request.SerializeToString(), caller)

    grpcio = bench.server.grpcio_address
    loads = {
        "bare": load(BARE, requests_of["hit"], grpcio),
        "null": load(NULL, requests_of["hit"], grpcio),
        "grpcio": load(VERIFY, requests_of["hit"], grpcio),
        **{name: load(VERIFY, request) for name, request in requests_of.items()},
    }
    say(f"verify: {rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
    before = await bench.server.counts()
    rates = await in_turns({name: partial(it.rate, requests) for name, it in loads.items()}, rounds)
    after = await bench.server.counts()
    # Each of them except the bare RPC verifies the caller's own credential.
    hold_counts(before, after, "authsvc_verdicts_total VALID", rounds * requests * 7)
    hold_counts(before, after, "authsvc_verdicts_total NOT_FOUND", rounds * requests * 2)
    hold_counts(before, after, "authsvc_rpc_seconds_count VerifyKey", rounds * requests * 5)

    def row(what: str, one: str, other: str, aim: AtLeast | None) -> Row:
        shown = {side: f"{median(rates[side]):,.0f}/s {side}" for side in (one, other)}
        return Row(_PART, what, shown[one], shown[other], ratio(rates[one], rates[other]), aim)

    work = sum(
        after[name] - before[name]
        for name in ("authsvc_database_checkouts_total", "authsvc_argon2_runs_total")
    )
    return [
        row("warm hit against a null RPC through our endpoint, by grpcio", "grpcio", "null", AtLeast(0.90)),
        row("null RPC through our endpoint against the bare one, by grpcio", "null", "bare", None),
        row("wrong secret against a warm hit", "wrong", "hit", AtLeast(0.90)),
        row("forged tag against a warm hit", "forged", "hit", AtLeast(0.90)),
        Row(_PART, "database checkouts and argon2 runs in all that", f"{work:.0f}", "", work, AtMost(0)),
        await _measure_batch(bench, load(BATCH_VERIFY, batch), loads["hit"]),
        await _measure_lease(bench, loads["hit"], requests_of["hit"], caller),
    ]


async def _measure_lease(bench: Bench, checked: Load, request: pb.VerifyKeyRequest, caller: str) -> Row:
    """Call a second process that differs only in the lease, in turns with the first."""
    rounds, requests = (3, 3_000) if bench.quick else (7, 8_000)
    say(f"verify: {rounds} rounds of {requests} RPCs with and without a look at the lease")
    async with server.running(bench.database_url, server.LEASELESS) as other:
        async with grpc.aio.insecure_channel(other.address) as channel:
            answer = await KeyServiceStub(channel).VerifyKey(request, metadata=bench.as_caller(caller))
            assert answer.valid
        unchecked = Load(other.address, VERIFY, request.SerializeToString(), caller)
        rates = await in_turns(
            {"with": partial(checked.rate, requests), "without": partial(unchecked.rate, requests)}, rounds
        )
    one, other_side = (f"{median(rates[side]):,.0f}/s {side}" for side in ("with", "without"))
    what = "warm hit with a look at the lease against one without"
    return Row(_PART, what, one, other_side, ratio(rates["with"], rates["without"]))


async def _measure_batch(bench: Bench, batch: Load, single: Load) -> Row:
    rounds, batches = (3, 200) if bench.quick else (5, 500)
    say(f"verify: {rounds} rounds of {batches} batches of {_BATCH}, and of single calls")
    before = await bench.server.counts()
    rates = await in_turns(
        {"batch": lambda: batch.rate(batches), "single": lambda: single.rate(batches * 10)}, rounds
    )
    after = await bench.server.counts()
    hold_counts(before, after, "authsvc_verdicts_total VALID", rounds * batches * (1 + _BATCH + 20))
    keys = [rate * _BATCH for rate in rates["batch"]]
    shown = f"{median(keys):,.0f} keys/s", f"{median(rates['single']):,.0f} keys/s single"
    return Row(
        _PART,
        f"BatchVerifyKeys of {_BATCH} against VerifyKey",
        *shown,
        ratio(keys, rates["single"]),
        AtLeast(8),
    )


async def _mint(bench: Bench, name: str, scopes: tuple[str, ...]) -> str:
    new = NewKey(owner_id="acme", display_name=name, scopes=scopes, expiration=timedelta(days=365))
    _, minted = await bench.app.keys.create(BOOTSTRAP, new)
    return minted.text


def _request(text: str) -> pb.VerifyKeyRequest:
    return pb.VerifyKeyRequest(key_string=text, required_scopes=("orders:read",), client_ip="192.0.2.7")


def _other(character: str) -> str:
    return "a" if character != "a" else "b"


async def _look(
    bench: Bench, caller: str, requests: dict[str, pb.VerifyKeyRequest], batch: pb.BatchVerifyKeysRequest
) -> None:
    """Make all keys warm, and check the response of each side."""
    metadata = bench.as_caller(caller)
    answer = await bench.stub.BatchVerifyKeys(batch, metadata=metadata)  # type: ignore[misc]
    assert all(response.valid for response in answer.responses)
    expected = {"hit": "VALID", "wrong": "NOT_FOUND", "forged": "NOT_FOUND"}
    for name, code in expected.items():
        response = await bench.stub.VerifyKey(requests[name], metadata=metadata)  # type: ignore[misc]
        assert response.code == resources_pb2.VerdictCode.Value(f"VERDICT_CODE_{code}"), name
    async with grpc.aio.insecure_channel(bench.server.grpcio_address) as channel:
        for path in (NULL, BARE):
            call = channel.unary_unary(
                path,
                request_serializer=pb.VerifyKeyRequest.SerializeToString,
                response_deserializer=pb.VerifyKeyResponse.FromString,
            )
            assert (await call(requests["hit"], metadata=metadata)).valid, path
