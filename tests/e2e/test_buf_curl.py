"""`buf curl` as the second client: another gRPC implementation, also with reflection only."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Ended, Server, run

REFLECTIONS = ["grpc-v1", "grpc-v1alpha"]


def curl(
    buf: Path, server: Server, method: str, *arguments: str, caller: str = "", **fields: object
) -> Ended:
    url = f"http://{server.address}/authsvc.v1.KeyService/{method}"
    credential = f"authorization: Bearer {caller or server.admin_key}"
    options = ["--protocol", "grpc", "--http2-prior-knowledge", "-H", credential, "-d", json.dumps(fields)]
    return run(buf, "curl", *options, *arguments, url, cwd=server.directory)


def answer(done: Ended) -> Any:
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_key_is_created_verified_and_revoked(buf: Path, dev: Server) -> None:  # rules 15, 20
    """What one client creates, it can verify and revoke."""
    made = answer(curl(buf, dev, "CreateKey", owner_id="acme", display_name="Orders", scopes=["orders:read"]))
    verdict = answer(curl(buf, dev, "VerifyKey", key_string=made["keyString"]))
    assert (verdict["valid"], verdict["keyId"]) == (True, made["key"]["keyId"])
    answer(curl(buf, dev, "RevokeKey", key_id=made["key"]["keyId"]))
    verdict = answer(curl(buf, dev, "VerifyKey", key_string=made["keyString"]))
    assert verdict["code"] == "VERDICT_CODE_REVOKED"


def test_an_error_arrives_with_its_details(buf: Path, dev: Server) -> None:
    """Code, message and details reach a client with another implementation."""
    done = curl(buf, dev, "CreateKey", owner_id="acme")
    error = json.loads(done.stderr)
    assert done.code != 0
    assert (error["code"], error["message"].split(":")[0]) == ("invalid_argument", "display_name")
    assert {detail["type"] for detail in error["details"]} == {
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    }


def test_a_stranger_is_refused(buf: Path, dev: Server) -> None:  # rule 6
    """A key string of another service is refused."""
    done = curl(buf, dev, "ListKeys", caller="authsvc_live_nonsense", owner_id="acme")
    assert json.loads(done.stderr)["code"] == "unauthenticated"


@pytest.mark.parametrize("reflection", REFLECTIONS)
def test_either_reflection_serves(buf: Path, dev: Server, reflection: str) -> None:
    """A client that uses only one of them finds all services and can call them."""
    options = ["--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", reflection]
    listed = run(buf, "curl", *options, "--list-services", f"http://{dev.address}", cwd=dev.directory)
    assert listed.code == 0, listed.stderr
    assert {
        "authsvc.v1.KeyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    } <= set(listed.stdout.split())
    assert answer(curl(buf, dev, "ListKeys", "--reflect-protocol", reflection, owner_id="authsvc"))["keys"]
