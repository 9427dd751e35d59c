"""Which scopes exist, and which callers may grant them."""

import pytest

from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import InvalidArgument, PermissionDenied
from authsvc.model.scope import OWN_SCOPES, Scope

CALLER = Caller("key_1", "acme", ("keys:write", "orders:read"))
UNKNOWN = "is not known here; see ListScopes. The operator adds others to AUTHSVC_SCOPES"
ANY = Catalogue(any_scope=True)
CATALOGUE = Catalogue([Scope("orders:read", "Read orders"), Scope("orders:write")])


def problems(*scopes: str, catalogue: Catalogue = CATALOGUE) -> list[str]:
    """Return the violations for scopes that cannot be granted."""
    with pytest.raises(InvalidArgument) as caught:
        catalogue.check_grant(BOOTSTRAP, scopes, "key.scopes")
    assert {(v.field, v.rule) for v in caught.value.violations} == {("key.scopes", "scopes.known")}
    return [violation.description for violation in caught.value.violations]


def test_any_scope_may_be_granted_where_the_operator_says_so() -> None:  # rule 2
    """There are no unknown scopes then."""
    ANY.check_grant(BOOTSTRAP, ["whatever", "orders:read", *OWN_SCOPES])


def test_without_a_list_there_are_the_services_own_scopes() -> None:  # rule 2
    """An operator that names none has those, and the refusal has the remedy."""
    Catalogue().check_grant(BOOTSTRAP, list(OWN_SCOPES))
    [told] = problems("orders:read", catalogue=Catalogue())
    assert told == f"orders:read {UNKNOWN}"


def test_a_list_has_the_services_own_scopes_besides() -> None:  # rule 2
    """An operator need not name the scopes that the service requires of its callers."""
    CATALOGUE.check_grant(BOOTSTRAP, ["orders:read", "orders:write", *OWN_SCOPES])


def test_an_unknown_scope_is_refused() -> None:  # rule 2
    """Unknown scopes are named, with the remedy, at the path of the field."""
    [told] = problems("orders:read", "x")
    assert told == f"x {UNKNOWN}"


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("orders:raed", "orders:read"),
        ("order:read", "orders:read"),
        ("orderswrite", "orders:write"),
        ("full-access", "full_access"),
        ("key:verify", "keys:verify"),
        ("audit_log:read", "audit_logs:read"),
        ("sesions:write", "sessions:write"),
    ],
)
def test_the_scope_that_was_meant_is_named(unknown: str, meant: str) -> None:  # rule 2
    """For a mistyped scope, the nearest one that exists."""
    assert problems(unknown) == [f"{unknown} is not known here; did you mean {meant}?"]


def test_each_unknown_scope_is_told_of() -> None:  # rule 2
    """One violation each, up to five, since more are not read."""
    told = problems("orders:raed", "orders:wriet", "x")
    assert [problem.split()[0] for problem in told] == ["orders:raed", "orders:wriet", "x"]
    assert len(problems(*(f"x{number}" for number in range(100)))) == 5


def test_the_scope_that_was_meant_is_found_among_many() -> None:  # rule 2
    """Also if only a few names are compared closely."""
    many = Catalogue(
        [Scope(f"service{number}:{verb}") for number in range(400) for verb in ("read", "write")]
    )
    assert problems("service217:raed", catalogue=many)[0].endswith("did you mean service217:read?")


def test_the_scopes_in_order() -> None:
    """The operator's first, in the given order; if it lists one of ours, that one keeps its description."""
    given = [Scope("b", "Do b"), Scope("keys:read", "mine"), Scope("a")]
    found = Catalogue(given).scopes
    assert [scope.name for scope in found[:3]] == ["b", "keys:read", "a"]
    assert found[1].description == OWN_SCOPES["keys:read"]
    assert {scope.name for scope in found} == {"a", "b", *OWN_SCOPES}


def test_a_scope_that_is_known_no_more_stays_with_who_has_it() -> None:  # rules 2, 30
    """A rotation only checks that the key has the scope: an operator may have removed it since."""
    CATALOGUE.check_held(BOOTSTRAP, ["gone:read"])
    with pytest.raises(PermissionDenied):
        CATALOGUE.check_held(CALLER, ["gone:read"])


@pytest.mark.parametrize("catalogue", [ANY, CATALOGUE], ids=["any", "listed"])
def test_nobody_grants_what_they_lack(catalogue: Catalogue) -> None:  # rule 6
    """Scopes that the caller lacks are named; it may grant those that it has, and none at all."""
    catalogue.check_grant(CALLER, [])
    catalogue.check_grant(CALLER, ["orders:read"])
    with pytest.raises(PermissionDenied, match=r"orders:write, full_access$") as caught:
        catalogue.check_grant(CALLER, ["orders:write", "orders:read", "full_access"])
    assert caught.value.reason == "SCOPE_NOT_GRANTABLE"
