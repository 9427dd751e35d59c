"""gRPC's own interoperability clients, and that of connectrpc, against the lane.

Left out are the cases that ask a server for what no endpoint of ours has: metadata of any name
(`custom_metadata`), compressed answers, and whether a message was compressed.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.lane.interop_messages import described
from tests.lane.interop_service import serving_tests
from tests.lane.tools import ended, tool

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


def _options(address: str, case: str) -> list[str]:
    host, _, port = address.rpartition(":")
    options = [f"--server_host={host}", f"--server_port={port}", "--use_tls=false", f"--test_case={case}"]
    return [*options, *(_SOAK if case.endswith("soak") else ())]


@pytest.mark.parametrize("case", _CASES)
async def test_go(checkout: Path, address: str, case: str) -> None:
    code, output = await ended(tool(checkout, "client"), *_options(address, case))
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
