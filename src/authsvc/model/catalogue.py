"""Which scopes there are here, and who may grant them."""

from collections.abc import Collection, Sequence

from authsvc.errors import FieldViolation, InvalidArgument, PermissionDenied
from authsvc.model.caller import Caller
from authsvc.model.scope import OWN_SCOPES


class Catalogue:
    """The scopes that credentials may have: authsvc's own and the operator's; any, when those are empty."""

    def __init__(self, scopes: Collection[str] = ()) -> None:
        self._scopes = OWN_SCOPES.union(scopes) if scopes else frozenset()

    def check_grant(self, caller: Caller, scopes: Sequence[str], path: str = "scopes") -> None:
        """Refuse scopes that the operator does not know (rule 2) or the caller does not have (rule 6)."""
        self.check_known(scopes, path)
        if lacking := caller.lacks(scopes):
            raise PermissionDenied(
                f"the caller cannot grant what it does not have: {', '.join(lacking)}",
                reason="SCOPE_NOT_GRANTABLE",
                scopes=",".join(lacking),
            )

    def check_known(self, scopes: Sequence[str], path: str = "scopes") -> None:
        """Refuse scopes that the operator does not know (rule 2)."""
        unknown = [scope for scope in scopes if self._scopes and scope not in self._scopes]
        if unknown:
            problem = f"{', '.join(unknown)} not known here; use one of {', '.join(sorted(self._scopes))}"
            raise InvalidArgument(FieldViolation(path, "scopes.known", problem))
