"""The scopes of this deployment, and who may grant them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from heapq import nlargest
from itertools import islice, pairwise

from authsvc.model.caller import Caller
from authsvc.model.errors import FieldViolation, InvalidArgument, PermissionDenied
from authsvc.model.scope import OWN_SCOPES, Scope

# How many unknown scopes an error names.
_MAX_REPORTED = 5
# How many similar names are compared in detail, which is slow.
_MAX_COMPARED = 8
# The similarity from which a name counts as mistyped. keys:read is not a mistyped orders:read.
_MIN_SIMILARITY = 0.8


class Catalogue:
    """The scopes that credentials may have: those of authsvc and of the operator; any, with `any_scope`."""

    def __init__(self, scopes: Iterable[Scope] = (), *, any_scope: bool = False) -> None:
        own = {name: Scope(name, description) for name, description in OWN_SCOPES.items()}
        self._scopes = {scope.name: scope for scope in scopes} | own
        self._pairs = {name: _pairs(name) for name in self._scopes}
        self.any_scope = any_scope

    @property
    def scopes(self) -> Sequence[Scope]:
        """The known scopes: those of the operator in their order, then those of authsvc."""
        return list(self._scopes.values())

    def check_grant(self, caller: Caller, scopes: Sequence[str], path: str = "scopes") -> None:
        """Check that the scopes are known and that the caller has them.

        Raises InvalidArgument for unknown scopes (rule 2), PermissionDenied for others (rule 6).
        """
        self.check_known(scopes, path)
        self.check_held(caller, scopes)

    def check_known(self, scopes: Sequence[str], path: str = "scopes") -> None:
        """Raise InvalidArgument for scopes that are not known (rule 2)."""
        problems = islice(filter(None, map(self.problem, scopes)), _MAX_REPORTED)
        if violations := [FieldViolation(path, "scopes.known", problem) for problem in problems]:
            raise InvalidArgument(*violations)

    def check_held(self, caller: Caller, scopes: Sequence[str]) -> None:
        """Raise PermissionDenied for scopes that the caller does not have (rule 6), known or not."""
        if lacking := caller.lacks(scopes):
            raise PermissionDenied(
                f"the caller cannot grant scopes that it does not have: {', '.join(lacking)}",
                reason="SCOPE_NOT_GRANTABLE",
                scopes=",".join(lacking),
            )

    def problem(self, scope: str) -> str:
        """Return the problem of an unknown scope, with a similar one if there is; "" for a known scope."""
        if self.any_scope or scope in self._scopes:
            return ""
        pairs = _pairs(scope)
        similar = nlargest(_MAX_COMPARED, self._scopes, key=lambda known: len(pairs & self._pairs[known]))
        if nearest := get_close_matches(scope, similar, 1, _MIN_SIMILARITY):
            return f"{scope} is not known here; did you mean {nearest[0]}?"
        return f"{scope} is not known here; see ListScopes. The operator adds others to AUTHSVC_SCOPES"


def _pairs(name: str) -> frozenset[str]:
    return frozenset(map("".join, pairwise(name)))
