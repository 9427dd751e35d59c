"""gRPC's own interoperability clients, and that of connectrpc, against the lane.

Left out are the cases that ask a server for what no endpoint of ours has: metadata of any name
(`custom_metadata`), compressed answers, and whether a message was compressed.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authsvc.rpc.tls import Tls
from tests.certificates import Authority, replace
from tests.conftest import TRANSPORTS, Clock, serving
from tests.lane.interop_messages import described
from tests.lane.interop_service import serving_tests
from tests.lane.tools import ended, tool
from tests.rpc.secure import Files

pytestmark = pytest.mark.slow

_CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
)
_OF_JAVA = ("client_compressed_unary_noprobe", "client_compressed_streaming_noprobe")
_SOAK = ("--soak_iterations=50", "--soak_overall_timeout_seconds=60")


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving_tests("lane") as (address, _):
        yield address


def _options(address: str, case: str, *, tls: bool = False) -> list[str]:
    host, _, port = address.rpartition(":")
    options = [f"--server_host={host}", f"--server_port={port}", f"--test_case={case}"]
    return [*options, f"--use_tls={str(tls).lower()}", *(_SOAK if case.endswith("soak") else ())]


@pytest.mark.parametrize("case", _CASES)
async def test_go(checkout: Path, address: str, case: str) -> None:
    code, output = await ended(tool(checkout, "client"), *_options(address, case))
    assert code == 0, output


@pytest.mark.parametrize("case", _CASES)
async def test_go_by_tls(checkout: Path, tmp_path: Path, case: str) -> None:
    authority, files = Authority(), Files(tmp_path)
    files.write(authority.issue("CN=server"))
    replace(files.client_ca, authority.cert)
    trusted = ["--use_test_ca=true", f"--ca_file={files.client_ca}", "--server_host_override=localhost"]
    async with serving_tests("lane", tls=Tls(files.cert, files.key)) as (address, _):
        code, output = await ended(tool(checkout, "client"), *_options(address, case, tls=True), *trusted)
    assert code == 0, output


@pytest.mark.parametrize("transport", ["netty", "okhttp"])
@pytest.mark.parametrize("case", [*_CASES, *_OF_JAVA])
async def test_java(checkout: Path, address: str, case: str, transport: str) -> None:
    classpath = tool(checkout, "java.classpath").read_text("utf-8")
    program = ["java", "-XX:TieredStopAtLevel=1", "-cp", classpath]
    code, output = await ended(
        *program,
        "io.grpc.testing.integration.TestServiceClient",
        *_options(address, case),
        f"--use_okhttp={str(transport == 'okhttp').lower()}",
        # The first call of a program takes a second on a busy machine, which is the default.
        "--soak_per_iteration_max_acceptable_latency_ms=20000",
    )
    assert code == 0, output


async def test_node(checkout: Path, address: str) -> None:
    """The cases are in `interop.js`, since gRPC's own are in no package."""
    tool(checkout, "node_modules/@grpc/grpc-js")
    place = checkout / ".tools" / "interop"
    code, output = await ended("node", Path(__file__).with_name("interop.js"), address, place)
    assert code == 0, output


async def test_connectrpc(checkout: Path, address: str, tmp_path: Path) -> None:
    """The cases are in `interop_connect.py`, for the Python that has this client."""
    (tmp_path / "messages").write_bytes(described())
    program = tool(checkout, "connect/bin/python")
    script = Path(__file__).with_name("interop_connect.py")
    code, output = await ended(program, script, address, tmp_path / "messages")
    assert code == 0, output


@pytest.mark.parametrize("over", TRANSPORTS)
async def test_ghz(checkout: Path, database_url: str, clock: Clock, tmp_path: Path, over: str) -> None:
    """The usual load generator; its grpc-go is years old. It learns the messages by reflection."""
    program, report = tool(checkout, "ghz"), tmp_path / "report.json"
    async with serving(database_url, clock, transport=over) as service:
        request = json.dumps({"key_string": service.admin_key})
        metadata = json.dumps({"authorization": f"Bearer {service.admin_key}"})
        call = ["--call", "authsvc.v1.KeyService/VerifyKey", "-d", request, "-m", metadata]
        load = ["--insecure", "-n", "2000", "-c", "50", "--connections", "5"]
        _, output = await ended(program, *load, *call, "-O", "json", "-o", report, service.address)
    assert json.loads(report.read_text("utf-8"))["statusCodeDistribution"] == {"OK": 2000}, output
