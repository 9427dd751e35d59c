"""The scopes that a form offers: those of the catalogue that the caller may grant."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import grpc

from authsvc.model.scope import FULL_ACCESS, OWN_SCOPES
from authsvc.v1 import scope_service_pb2 as pb
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.problem import Problem


class Choice(NamedTuple):
    """A scope to choose."""

    name: str
    description: str


class ScopeChoice(NamedTuple):
    """What is offered: the scopes of the product, those of authsvc itself, and whether others are allowed."""

    product: Sequence[Choice] = ()
    own: Sequence[Choice] = ()
    any_allowed: bool = True

    def has_own(self, scopes: Collection[str]) -> bool:
        """Return whether some of the scopes are offered as those of authsvc itself."""
        return any(choice.name in scopes for choice in self.own)

    @property
    def names(self) -> frozenset[str]:
        """The names of what is offered."""
        return frozenset(choice.name for choice in (*self.product, *self.own))


async def scope_choice(request: PageRequest, *, grantable_only: bool = True) -> ScopeChoice:
    """Return what a form offers. Without `keys:read`, the scopes have to be typed.

    A form that grants no scopes, but limits them, offers all.
    """
    try:
        listed = await request.call("ScopeService/ListScopes", pb.ListScopesRequest(), pb.ListScopesResponse)
    except Problem as problem:
        if problem.code is not grpc.StatusCode.PERMISSION_DENIED:
            raise
        return ScopeChoice(own=[Choice(name, "") for name in request.caller.scopes])
    grantable = [
        Choice(scope.name, scope.description or OWN_SCOPES.get(scope.name, ""))
        for scope in listed.scopes
        if not grantable_only or request.may(scope.name)
    ]
    return ScopeChoice(
        [choice for choice in grantable if choice.name not in OWN_SCOPES],
        # The one that grants everything comes last, and is warned of.
        sorted(
            (choice for choice in grantable if choice.name in OWN_SCOPES),
            key=lambda choice: choice.name == FULL_ACCESS,
        ),
        listed.any_scope_allowed,
    )
