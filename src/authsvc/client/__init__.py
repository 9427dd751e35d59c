"""The client for Python services: ask authsvc about a credential, or have a server ask about every call.

    async with AuthClient("authsvc:50051", key=Path("/run/secrets/authsvc.key")) as client:
        verdict = await client.verify_key(presented, ["orders:read"])
        server = grpc.aio.server(interceptors=[Authenticated(client, scopes=["orders:read"])])

Mechanism: a few connections, since each leads to one worker; a call goes to one that works, and what came
back UNAVAILABLE goes to another, within one deadline.

Bound: a verdict holds for the call that it was asked for and for no other. Nothing is remembered and no
question is shared, so what RevokeKey has answered for, no call that is sent afterwards gets past.

A client works in the process and the event loop that it was started in. `BlockingAuthClient` is for code
without a loop.

Failure: when nobody can know, `Unavailable` is raised, and `Authenticated` refuses the call as UNAVAILABLE.
No fault of ours, of authsvc or of the way there lets a call through.

This package imports `authsvc.v1`, grpc and protobuf, and nothing of the service.
"""

from authsvc.client.auth_client import AuthClient
from authsvc.client.authenticated import Authenticated, peer_address
from authsvc.client.blocking_auth_client import BlockingAuthClient
from authsvc.client.channels import Tls
from authsvc.client.errors import ClientError, Refused, Unavailable
from authsvc.client.identity import Identity, current
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode

__all__ = [
    "AuthClient",
    "Authenticated",
    "BlockingAuthClient",
    "ClientError",
    "CredentialType",
    "Identity",
    "Refused",
    "Tls",
    "Unavailable",
    "Verdict",
    "VerdictCode",
    "current",
    "peer_address",
]
