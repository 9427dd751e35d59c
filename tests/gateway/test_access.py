"""The decision alone: for any request, only a valid credential gives access to what is not public."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.gateway.access import Access, Allowed, GatewayRequest
from authsvc.gateway.denied import Denied
from authsvc.gateway.identity import NAMES
from authsvc.gateway.path import canonical
from authsvc.gateway.presented import CredentialSources
from authsvc.gateway.routes import read_routes
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.catalogue import Catalogue
from authsvc.model.credential import Credential
from authsvc.model.errors import Unavailable
from authsvc.model.verdict import NOT_FOUND, Verdict, decide
from authsvc.verify.verifier import Question
from tests.conftest import Clock

GOOD, OTHER = "authsvc_live_" + "a" * 63, "authsvc_live_" + "b" * 63
_CREDENTIAL = Credential("key_1", "acme", ("orders:read",), None, None, {})
_ROUTES = read_routes(
    Path("routes.toml"),
    b"""
[[route]]
path = "/health"
public = true
[[route]]
methods = ["GET"]
path = "/orders/**"
scopes = ["orders:read"]
[[route]]
path = "/admin/**"
scopes = ["admin"]
""",
    Catalogue(any_scope=True),
)


class _Memory:
    """A verifier that knows one credential."""

    def recall(self, question: Question, presented: str) -> Verdict:
        if presented != GOOD:
            return NOT_FOUND
        return decide(_CREDENTIAL, question.required_scopes, Clock()())

    async def verify(self, question: Question, presented: str) -> Verdict:
        return self.recall(question, presented)


class _Cold:
    """A verifier with an empty cache that finds one credential, which may be revoked afterwards."""

    def __init__(self, revoked: Credential | None) -> None:
        self._known: dict[str, Credential] = {}
        self._revoked = revoked
        self.asked: list[str] = []

    def recall(self, question: Question, presented: str) -> Verdict | None:
        known = self._known.get(presented)
        return None if known is None else decide(known, question.required_scopes, Clock()())

    async def verify(self, question: Question, presented: str) -> Verdict:
        self.asked.append(presented)
        await asyncio.sleep(0)
        if presented == GOOD:
            self._known[GOOD] = _CREDENTIAL
            return decide(_CREDENTIAL, question.required_scopes, Clock()())
        if self._revoked is not None:
            self._known[GOOD] = self._revoked
        return NOT_FOUND


def _decided(asked: GatewayRequest, *, table: bool) -> Allowed | Denied:
    sources = CredentialSources(("bearer", "basic", "x-api-key", "cookie:sid"))
    verifier = cast("Any", _Memory())
    access = Access(verifier, sources, routes=(lambda: _ROUTES) if table else None)
    return asyncio.run(access.decide(BOOTSTRAP, asked))


_SCHEMES = st.sampled_from(["", "Bearer ", "bearer  ", "Basic ", "Digest ", "Bearer,", ", Bearer "])
_VALUES = st.builds(
    "".join, st.tuples(_SCHEMES, st.sampled_from(["", "x", GOOD[:-1], GOOD + "a", GOOD.upper(), "sid="]))
) | st.text(max_size=40)
_NAMES = st.sampled_from(["authorization", "x-api-key", "cookie", "user-agent", *NAMES, "x_auth_owner_id"])
_HEADERS = st.dictionaries(_NAMES, _VALUES)
_TARGETS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["/", "health", "orders", "admin", "..", ".", "%2e", "%2F", "A", ";", "?", "//", "1"]
        ),
        max_size=6,
    ),
)
_METHODS = st.sampled_from(["GET", "get", "POST", "OPTIONS", "", "HEAD"])


@pytest.mark.parametrize(
    ("revoked", "status"), [(None, 200), (replace(_CREDENTIAL, revoke_time=Clock()()), 401)]
)
async def test_cookies_are_judged_at_one_instant(revoked: Credential | None, status: int) -> None:
    """A valid credential is checked again after another was looked up; each unknown one is looked up once."""
    verifier = _Cold(revoked)
    access = Access(cast("Any", verifier), CredentialSources(("cookie:sid",)))
    asked = GatewayRequest("GET", "/", {"cookie": f"sid={GOOD}; sid={OTHER}"})
    answer = await access.decide(BOOTSTRAP, asked)
    assert (answer.status if isinstance(answer, Denied) else 200) == status
    assert verifier.asked == [GOOD, OTHER]


class _Gone:
    """A verifier whose database is out of reach."""

    def recall(self, question: Question, presented: str) -> Verdict | None:
        raise Unavailable("gone", reason="DATABASE_UNAVAILABLE", retry_after=1)

    async def verify(self, question: Question, presented: str) -> Verdict:
        raise Unavailable("gone", reason="DATABASE_UNAVAILABLE", retry_after=1)


async def test_what_cannot_be_decided_is_counted() -> None:
    """Besides its reason, so that an alert needs no list of reasons; a refusal is no such answer."""
    access = Access(cast("Any", _Gone()), CredentialSources(("bearer",)))
    for headers in ({}, {"authorization": f"Bearer {GOOD}"}):
        asked = GatewayRequest("GET", "/", headers)
        await access.decide(BOOTSTRAP, asked)
        access.recall(BOOTSTRAP, asked)
    assert (access.undecided, access.counts["DATABASE_UNAVAILABLE"]) == (2, 2)
    assert access.counts["CREDENTIAL_MISSING"] == 2


@settings(max_examples=500)
@given(_METHODS, _TARGETS, _HEADERS, st.booleans())
def test_nobody_without_a_good_credential(
    method: str, target: str, headers: Mapping[str, str], table: bool
) -> None:
    """Any request is refused, or it is for the public path and has no identity."""
    answer = _decided(GatewayRequest(method, target, headers), table=table)
    if isinstance(answer, Allowed):
        assert table
        assert canonical(target) == "/health"
        assert answer.credential is None
        assert set(NAMES) <= set(answer.removed_headers)
        assert not {name for name, _ in answer.set_headers} & set(NAMES)
    else:
        assert answer.status in (401, 403)
        assert answer.body().isascii()


@settings(max_examples=500)
@given(_METHODS, _TARGETS, _HEADERS, st.booleans(), st.sampled_from(["authorization", "x-api-key", "cookie"]))
def test_a_good_credential_opens_its_routes_only(
    method: str, target: str, headers: Mapping[str, str], table: bool, carrier: str
) -> None:
    """With the table, only what it allows; and each of our headers is set or removed."""
    shown = {"authorization": f"Bearer {GOOD}", "x-api-key": GOOD, "cookie": f"sid={GOOD}"}[carrier]
    answer = _decided(GatewayRequest(method, target, {**headers, carrier: shown}), table=table)
    if isinstance(answer, Denied):
        return
    set_names = {name for name, _ in answer.set_headers}
    for name in NAMES:
        assert (name in set_names) != (name in answer.removed_headers)
    if "x_auth_owner_id" in headers:
        assert "x_auth_owner_id" in answer.removed_headers
    assert all(GOOD not in value for _, value in answer.set_headers)
    assert carrier in answer.removed_headers or carrier in set_names
    if table:
        path = canonical(target)
        assert path is not None
        assert path == "/health" or (path + "/").startswith("/orders/")
