"""The client for Python services: verifies a credential with authsvc, or every call of a server.

    async with AuthClient("authsvc:50051", key=Path("/run/secrets/authsvc.key")) as client:
        verdict = await client.verify_key(presented, ["orders:read"])
        server = grpc.aio.server(interceptors=[Authenticated(client, scopes=["orders:read"])])

    app = AuthenticatedAsgi(app, AuthClient(…), scopes={"GET /orders": "orders:read"})
    app = AuthenticatedWsgi(app, BlockingAuthClient(…), scopes={"GET /orders": "orders:read"})

Mechanism: the client keeps several connections, since each leads to one worker. A call is sent on a
connection that works. If it fails with UNAVAILABLE, it is retried on another one, within one deadline.

Bound: a verdict is valid only for the call that requested it, and requests are not shared. With `hold=True`,
credentials that are known are verified in this process, which follows their changes. In both cases, when
RevokeKey has returned, no call that is sent afterwards is accepted with the revoked key.

A client works in the process and the event loop that it was started in. `BlockingAuthClient` is for code
without an event loop.

Failure: when a credential cannot be verified, `Unavailable` is raised, and `Authenticated` refuses the call
with UNAVAILABLE, the middlewares with 503. No failure of the client, of authsvc or of the network lets a call
or request through.

This package imports grpc, protobuf, `authsvc.v1`, and of the service only what needs no other library: the
model, and the parts of `authsvc.verify` that judge a credential in memory.
"""

from authsvc.client.asgi import AuthenticatedAsgi
from authsvc.client.auth_client import AuthClient
from authsvc.client.authenticated import Authenticated, peer_address
from authsvc.client.blocking_auth_client import BlockingAuthClient
from authsvc.client.channels import Tls
from authsvc.client.errors import ClientError, Refused, Unavailable
from authsvc.client.hold_state import HoldState
from authsvc.client.identity import Identity, current
from authsvc.client.verdict import CredentialType, RateLimit, Verdict, VerdictCode
from authsvc.client.wsgi import AuthenticatedWsgi

__all__ = [
    "AuthClient",
    "Authenticated",
    "AuthenticatedAsgi",
    "AuthenticatedWsgi",
    "BlockingAuthClient",
    "ClientError",
    "CredentialType",
    "HoldState",
    "Identity",
    "RateLimit",
    "Refused",
    "Tls",
    "Unavailable",
    "Verdict",
    "VerdictCode",
    "current",
    "peer_address",
]
