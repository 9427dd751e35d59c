"""The client over TLS, against a server with certificates that are created here."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.client import AuthClient, Tls, Unavailable
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with self-signed NAME.pem and NAME.key for `localhost` and for `client`."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("localhost", "client"):
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ),
                *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"),
                *("-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    return directory


@asynccontextmanager
async def serving(certificates: Path, *, asks: bool = False) -> AsyncIterator[int]:
    """Answer VerifyKey over TLS, with the name of the client's certificate as the owner."""

    async def verify(request: bytes, context: Any) -> bytes:
        name = context.auth_context().get("x509_common_name", [b""])[0].decode()
        verdict = pb.VerifyKeyResponse(valid=True, code=resources_pb2.VERDICT_CODE_VALID, owner_id=name)
        return verdict.SerializeToString()

    pair = [(certificates / f"localhost.{part}").read_bytes() for part in ("key", "pem")]
    roots = (certificates / "client.pem").read_bytes() if asks else None
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"VerifyKey": grpc.unary_unary_rpc_method_handler(verify)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("authsvc.v1.KeyService", handlers)])
    credentials = grpc.ssl_server_credentials([(pair[0], pair[1])], roots, asks)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_a_certificate_that_we_trust(certificates: Path) -> None:
    """It must have the target's host or the given name, and a trusted issuer."""
    ca = certificates / "localhost.pem"
    async with serving(certificates) as port:
        for target, tls, good in (
            (f"localhost:{port}", Tls(ca=ca), True),
            (f"127.0.0.1:{port}", Tls(ca=ca, server_name="localhost"), True),
            (f"localhost:{port}", Tls(ca=ca, server_name="elsewhere"), False),
            (f"127.0.0.1:{port}", Tls(ca=ca), False),
            (f"localhost:{port}", Tls(ca=certificates / "client.pem"), False),
            (f"localhost:{port}", Tls(), False),
            (f"localhost:{port}", None, False),
        ):
            async with AuthClient(target, key="x", tls=tls, deadline=60) as client:
                if good:
                    assert await client.verify_key("x")
                else:
                    with pytest.raises(Unavailable):
                        await client.verify_key("x")


async def test_tls_unless_it_is_switched_off(certificates: Path) -> None:
    """Without a `tls` argument, no key is sent in plain text."""
    async with serving(certificates) as port:
        with pytest.raises(Unavailable):
            async with AuthClient(f"localhost:{port}", key="x") as client:
                await client.verify_key("x")


async def test_a_certificate_of_our_own(certificates: Path) -> None:
    """It authenticates the client, with or without a key; without it, the service closes the connection."""
    ours = Tls(
        ca=certificates / "localhost.pem",
        certificate=certificates / "client.pem",
        private_key=certificates / "client.key",
    )
    async with serving(certificates, asks=True) as port:
        async with AuthClient(f"localhost:{port}", key=None, tls=ours, deadline=60) as client:
            assert (await client.verify_key("x")).owner_id == "client"
        async with AuthClient(f"localhost:{port}", key=None, tls=Tls(ca=ours.ca)) as client:
            with pytest.raises(Unavailable):
                await client.verify_key("x")


async def test_files_that_are_not_there(tmp_path: Path) -> None:
    """They are reported at the start; half of a pair, at once."""
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        async with AuthClient("localhost:1", key="x", tls=Tls(ca=tmp_path / "missing.pem")):
            pass
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate=tmp_path / "client.pem")
