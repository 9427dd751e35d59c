"""Where the client sends its key: only to authsvc, encrypted or on this machine, and not to a proxy."""

from typing import Any

import grpc
import pytest

from authsvc.client import AuthClient, BlockingAuthClient, Tls, Unavailable
from authsvc.client.channels import is_local
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests import environment_proxy
from tests.conftest import Service


async def test_no_proxy_of_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """`http_proxy` and similar variables are ignored; gRPC would send the key there, even for loopback."""
    async with environment_proxy.named(monkeypatch) as proxy:
        metadata = [("authorization", "Bearer x")]
        async with grpc.aio.insecure_channel(service.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await KeyServiceStub(channel).VerifyKey(pb.VerifyKeyRequest(), metadata=metadata, timeout=30)
        assert proxy.heard, "this environment is not one that gRPC heeds"
        proxy.heard.clear()
        async with AuthClient(service.address, key=service.admin_key, tls=None, deadline=30) as client:
            assert await client.verify_key(service.admin_key)
        async with AuthClient(service.address, key=service.admin_key, tls=Tls(), attempts=1) as client:
            with pytest.raises(Unavailable):
                await client.verify_key(service.admin_key)
        assert proxy.heard == []


_LOCAL = [
    "127.0.0.1:50051",
    "127.8.8.8:50051",
    "[::1]:50051",
    "localhost:50051",
    "localhost",
    "dns:localhost:50051",
    "dns:///localhost:50051",
    "ipv4:127.0.0.1:50051,127.0.0.2:50051",
    "ipv6:[::1]:50051",
    "unix:/run/authsvc.sock",
    "unix:///run/authsvc.sock",
    "unix-abstract:authsvc",
]
_ELSEWHERE = [
    "authsvc.internal:50051",
    "10.0.0.7:50051",
    "[fd00::1]:50051",
    "0.0.0.0:50051",
    "localhost.example.org:50051",
    "127.0.0.1.example.org:50051",
    "dns:///authsvc.internal:50051",
    "dns://192.0.2.53/localhost:50051",
    "dns:///localhost%2eexample.org:50051",
    "ipv4:127.0.0.1:50051,192.0.2.1:50051",
    "xds:///localhost:50051",
    "authsvc",
    "",
]


@pytest.mark.parametrize("target", _LOCAL)
def test_plain_text_on_this_machine(target: str) -> None:
    """It is allowed without `insecure`."""
    assert is_local(target)
    AuthClient(target, key="x", tls=None)


@pytest.mark.parametrize("target", _ELSEWHERE)
def test_plain_text_beyond_it(target: str) -> None:
    """It is refused with the remedy, unless `insecure` has the value that the service also uses."""
    with pytest.raises(ValueError, match="in plain text; omit tls") as caught:
        AuthClient(target, key="x", tls=None)
    assert 'insecure="plaintext-beyond-loopback"' in str(caught.value)
    AuthClient(target, key="x", tls=None, insecure="plaintext-beyond-loopback")
    AuthClient(target, key="x")


@pytest.mark.parametrize("words", ["0", "no", "plaintext", True, 1, None, False])
@pytest.mark.parametrize("make", [AuthClient, BlockingAuthClient])
def test_other_words_allow_nothing(make: Any, words: object) -> None:
    """Whoever writes them may mean the opposite, so they are refused, also where nothing is allowed."""
    for target, tls in (("192.0.2.1:50051", None), ("127.0.0.1:50051", None), ("192.0.2.1:50051", Tls())):
        with pytest.raises(ValueError, match='insecure has to be "plaintext-beyond-loopback", or left out'):
            make(target, key="x", tls=tls, insecure=words)
