"""Which scopes there are here, and who may grant them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from heapq import nlargest
from itertools import islice, pairwise

from authsvc.model.caller import Caller
from authsvc.model.errors import FieldViolation, InvalidArgument, PermissionDenied
from authsvc.model.scope import OWN_SCOPES, Scope

# Nobody reads more.
_MAX_TOLD = 5
# How many names are compared closely, which takes long, with one that is not known.
_MAX_COMPARED = 8
# Less alike than this, it is another one rather than a mistyped one: keys:read is not what orders:read means.
_SIMILAR = 0.8


class Catalogue:
    """The scopes that credentials may have: authsvc's own and the operator's; all with `any_scope`."""

    def __init__(self, scopes: Iterable[Scope] = (), *, any_scope: bool = False) -> None:
        own = {name: Scope(name, description) for name, description in OWN_SCOPES.items()}
        self._scopes = {scope.name: scope for scope in scopes} | own
        self._pairs = {name: _pairs(name) for name in self._scopes}
        self.any_scope = any_scope

    @property
    def scopes(self) -> Sequence[Scope]:
        """Those that have a name here: the operator's in their order, then authsvc's own."""
        return list(self._scopes.values())

    def check_grant(self, caller: Caller, scopes: Sequence[str], path: str = "scopes") -> None:
        """Refuse scopes that the operator does not know (rule 2) or the caller does not have (rule 6)."""
        self.check_known(scopes, path)
        self.check_held(caller, scopes)

    def check_known(self, scopes: Sequence[str], path: str = "scopes") -> None:
        """Refuse scopes that the operator does not know (rule 2)."""
        problems = islice(filter(None, map(self.problem, scopes)), _MAX_TOLD)
        if told := [FieldViolation(path, "scopes.known", problem) for problem in problems]:
            raise InvalidArgument(*told)

    def check_held(self, caller: Caller, scopes: Sequence[str]) -> None:
        """Refuse scopes that the caller does not have (rule 6), known or not."""
        if lacking := caller.lacks(scopes):
            raise PermissionDenied(
                f"the caller cannot grant what it does not have: {', '.join(lacking)}",
                reason="SCOPE_NOT_GRANTABLE",
                scopes=",".join(lacking),
            )

    def problem(self, scope: str) -> str:
        """Say of a scope that it is not known, and which one may be meant; "" if it is."""
        if self.any_scope or scope in self._scopes:
            return ""
        pairs = _pairs(scope)
        similar = nlargest(_MAX_COMPARED, self._scopes, key=lambda known: len(pairs & self._pairs[known]))
        if nearest := get_close_matches(scope, similar, 1, _SIMILAR):
            return f"{scope} is not known here; did you mean {nearest[0]}?"
        return f"{scope} is not known here; see ListScopes. The operator adds others to AUTHSVC_SCOPES"


def _pairs(name: str) -> frozenset[str]:
    return frozenset(map("".join, pairwise(name)))
