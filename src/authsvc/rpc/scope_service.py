"""ScopeService: the catalogue of scopes."""

from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.v1 import scope_service_pb2 as pb


class ScopeService:
    """Serves `authsvc.v1.ScopeService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["ScopeService"]

    def __init__(self, catalogue: Catalogue) -> None:
        self._response = pb.ListScopesResponse(
            scopes=[pb.Scope(name=name, description=description) for name, description in catalogue.scopes],
            any_scope_allowed=catalogue.any_scope,
        )

    async def ListScopes(self, caller: Caller, request: pb.ListScopesRequest) -> pb.ListScopesResponse:
        """Show the catalogue, which is the same for all callers."""
        return self._response
