"""Programs of others: clients and proxies of gRPC, an OpenID provider. Without one, its tests are skipped."""

import asyncio
import subprocess
from pathlib import Path

import pytest

#: Where the programs are, below the checkout.
PLACE = Path(".tools", "interop")
_GO = "GOBIN=$PWD/.tools/interop go install "
#: How to get each file of that directory.
_SOURCES = {
    "h2spec": f"{_GO}github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
    "client": f"{_GO}google.golang.org/grpc/interop/client@v1.85.0",
    "ghz": f"{_GO}github.com/bojand/ghz/cmd/ghz@v0.93.0",
    "openid/server": "GOBIN=$PWD/.tools/interop/openid go install "
    "github.com/zitadel/oidc/v3/example/server@v3.52.0",
    "java.classpath": "mvn -q -f tests/lane/interop.pom.xml dependency:build-classpath "
    "-Dmdep.outputFile=$PWD/.tools/interop/java.classpath",
    "node_modules/@grpc/grpc-js": "npm install --ignore-scripts --prefix .tools/interop "
    "@grpc/grpc-js@1.14 @grpc/proto-loader@0.8",
    "connect/bin/python": "python3 -m venv .tools/interop/connect && "
    ".tools/interop/connect/bin/pip install connectrpc==0.13.0 protobuf",
}


def tool(checkout: Path, name: str) -> Path:
    """Return the path of a program, or skip the test and say how to get it."""
    path = checkout / PLACE / name
    if not path.exists():
        pytest.skip(f"no {PLACE / name}: {_SOURCES[name]}")
    return path


async def ended(*command: str | Path, cwd: Path | None = None, seconds: float = 90) -> tuple[int, str]:
    """Run a program; return its code and all its output. It is killed after so many seconds."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode("utf-8", "replace")
