"""Which scopes there are, and who may grant them."""

import pytest

from authsvc.errors import InvalidArgument, PermissionDenied
from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.scope import OWN_SCOPES

CALLER = Caller("key_1", "acme", ("keys:write", "orders:read"))
CATALOGUE = Catalogue(["orders:read", "orders:write"])


def test_without_a_list_any_scope_may_be_granted() -> None:  # rule 2
    """An operator who names no scopes allows all of them."""
    Catalogue().check_grant(BOOTSTRAP, ["whatever", "orders:read", *OWN_SCOPES])


def test_a_list_has_the_services_own_scopes_besides() -> None:  # rule 2
    """An operator need not name what the service itself asks of its callers."""
    CATALOGUE.check_grant(BOOTSTRAP, ["orders:read", "orders:write", *OWN_SCOPES])


def test_an_unknown_scope_is_refused() -> None:  # rule 2
    """What is unknown is named, with what there is, at the path of the field."""
    with pytest.raises(InvalidArgument) as caught:
        CATALOGUE.check_grant(BOOTSTRAP, ["orders:read", "order:read", "x"], "key.scopes")
    [violation] = caught.value.violations
    assert violation.field == "key.scopes"
    assert "order:read, x not known here" in violation.description
    assert "orders:read, orders:write" in violation.description


@pytest.mark.parametrize("catalogue", [Catalogue(), CATALOGUE], ids=["any", "listed"])
def test_nobody_grants_what_they_lack(catalogue: Catalogue) -> None:  # rule 6
    """What the caller lacks is named; what it has may be granted, and so may nothing."""
    catalogue.check_grant(CALLER, [])
    catalogue.check_grant(CALLER, ["orders:read"])
    with pytest.raises(PermissionDenied, match=r"orders:write, full_access$") as caught:
        catalogue.check_grant(CALLER, ["orders:write", "orders:read", "full_access"])
    assert caught.value.reason == "SCOPE_NOT_GRANTABLE"
