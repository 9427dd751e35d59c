"""`authsvc scopes`: lists the scopes that keys and sessions may have."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import calling, notes, show
from authsvc.cli.table import Table, table
from authsvc.v1 import scope_service_pb2 as pb
from authsvc.v1 import scope_service_pb2_grpc


async def scopes(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List the scopes that keys and sessions may have.

    Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the
    service of `authsvc dev` and its admin.key. The operator's scopes come from AUTHSVC_SCOPES.

    Parameters
    ----------
    as_json
        Print one JSON object per line instead of a table.
    """
    async with calling() as (channel, metadata):
        stub: scope_service_pb2_grpc.ScopeServiceAsyncStub
        stub = scope_service_pb2_grpc.ScopeServiceStub(channel)
        answer = await stub.ListScopes(pb.ListScopesRequest(), metadata=metadata)
    show(answer.scopes, len(answer.scopes), as_json=as_json, table=_table, more=False)
    if answer.any_scope_allowed and not as_json:
        notes.print("Any other scope can be granted as well: AUTHSVC_SCOPES is *.")


def _table(found: Sequence[pb.Scope]) -> Table:
    return table(("scope", "what it allows"), ((scope.name, scope.description) for scope in found))
