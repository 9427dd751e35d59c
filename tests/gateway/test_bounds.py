"""Bounds on the check requests of a proxy, and on what is cached of texts that a client or tenant chooses."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, cast

import pytest

from authsvc.gateway import http_check, required
from authsvc.gateway.access import MAX_HEADERS, Access, GatewayRequest
from authsvc.gateway.denied import Denied
from authsvc.gateway.ext_authz import MAX_BYTES, ExtAuthz
from authsvc.gateway.identities import Identities
from authsvc.gateway.path import canonical
from authsvc.gateway.presented import CredentialSources
from authsvc.gateway.required import MAX_SCOPES
from authsvc.model import address
from authsvc.model.address import Proxies
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import Credential
from authsvc.model.errors import InvalidArgument
from authsvc.model.key_use import network_of, program_of
from authsvc.sessions import device
from authsvc.store.verification import VerificationStore

NOBODY = cast("Any", None)
PROXIES = Proxies([ip_network("10.0.0.0/8")])
MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    "memo",
    [
        address.normalized,
        required.required_scopes,
        http_check._scopes,
        address._written,
        address.site,
        network_of,
        program_of,
        PROXIES._trusts,
        device.describe,
    ],
)
def test_long_texts_are_not_kept(memo: Callable[[str], object]) -> None:
    """60 different texts of a megabyte are not cached."""
    memo("-1 a a")  # loads what is loaded once
    tracemalloc.start()
    try:
        for number in range(60):
            memo(f"{number} " + "a " * (MEGABYTE // 2))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000


def test_long_lists_of_scopes_are_not_kept() -> None:
    """Only short parts of an answer are kept; longer ones are created each time."""
    identities = Identities()
    for number in range(10):
        scopes = tuple(f"orders.{number}.{scope}" for scope in range(64))
        headers, metadata = identities.parts(Credential(f"key_{number}", "acme", scopes, None, None, {}))
        assert " ".join(scopes).encode() in headers
        assert b"orders." in metadata
    assert len(identities) == 0


def test_the_parts_of_few_credentials_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for the very credential that it was made from: after a change there is another one."""
    monkeypatch.setattr("authsvc.gateway.identities._MAX_ENTRIES", 3)
    identities = Identities()
    for number in range(10):
        one = Credential(f"key_{number}", "acme", ("a",), None, None, {})
        assert identities.parts(one) is identities.parts(one)
        assert b"b" in identities.parts(replace(one, scopes=("b",)))[0]
        assert 0 < len(identities) <= 3


def test_scopes_of_many_credentials_are_shared_within_a_bound() -> None:
    """Keys with equal scopes share one tuple; the memory for that does not grow with the number of keys."""
    store = VerificationStore(NOBODY)
    kept = 0
    for number in range(3000):
        scopes = tuple(f"orders.{number}.{scope}".ljust(60, "x") for scope in range(64))
        assert store._shared(scopes) == scopes
        if number % 100 == 0:
            kept = max(kept, sum(sum(map(len, each)) for each in store._scopes))
    assert kept <= 4_000_000
    assert store._shared((*"ab",)) is store._shared((*"ab",))


async def test_a_question_of_envoys_is_not_read_when_it_is_too_large() -> None:
    """A megabyte of short headers would block the event loop; the error says what to change."""
    asking = ExtAuthz(NOBODY, PROXIES)
    with pytest.raises(InvalidArgument, match="max_request_headers_kb"):
        await asking.check(BOOTSTRAP, b"\n" * (MAX_BYTES + 1))
    with pytest.raises(InvalidArgument, match="not a valid envoy"):
        await asking.check(BOOTSTRAP, b"\n" * MAX_BYTES)


async def test_very_many_headers_are_refused() -> None:
    """Before any header is read, for every route."""
    headers = {f"x{number}": "" for number in range(MAX_HEADERS + 1)}
    answer = await Access(NOBODY, CredentialSources(["bearer"])).decide(
        BOOTSTRAP, GatewayRequest("GET", "/", headers)
    )
    assert isinstance(answer, Denied)
    assert (answer.status, answer.reason) == (403, "HEADERS_TOO_MANY")


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_a_route_needs_so_many_scopes_at_most(separator: str) -> None:
    """As many as VerifyKey takes, each of the greatest length of a scope."""
    longest = [f"{number:064}" for number in range(MAX_SCOPES)]
    assert required.required_scopes(separator.join(longest)) == tuple(longest)
    assert required.required_scopes(separator.join([*longest, "a"])) is None
    assert http_check._scopes("&".join(f"scope={scope}" for scope in longest)) == (tuple(longest), ())
    assert http_check._scopes("&".join(f"scope={scope}" for scope in [*longest, "a"])) is None
    both = "&".join(f"{name}={scope}" for name in ("scope", "any_of_scopes") for scope in longest)
    assert http_check._scopes(both) == (tuple(longest), tuple(longest))
    assert http_check._scopes(f"{both}&any_of_scopes=a") is None


def test_a_long_path_has_no_route() -> None:
    """The query does not count."""
    assert canonical("/" + "a" * 8191 + "?" + "b" * 100_000) == "/" + "a" * 8191
    assert canonical("/" + "a" * 8192) is None


def test_a_client_may_write_any_number_of_proxies() -> None:
    """64 addresses are read; with more, the client is the last of those."""
    hops = ["192.0.2.1", *(f"10.0.{number // 256}.{number % 256}" for number in range(14_000))]
    assert PROXIES.client("10.0.0.1", [",".join(hops)]) == hops[-64]
    assert PROXIES.client("10.0.0.1", [",".join([hops[0], *hops[-63:]])]) == "192.0.2.1"
    assert PROXIES.client("10.0.0.1" * 100_000, ["192.0.2.1"]) == ""
