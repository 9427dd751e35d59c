"""What other people, other sites and a provider that is not ours try on a sign-in by OpenID Connect."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from authsvc.web.console.oidc import sign_in
from tests.conftest import Clock, serving
from tests.e2e.process import eventually
from tests.web.console.conftest import SCOPES, Browser
from tests.web.console.openid import OidcSite, SmallProvider, new_key, oidc_site

_CALLBACK = "/sign-in/oidc/callback"


@pytest_asyncio.fixture
async def oidc(database_url: str, clock: Clock) -> AsyncIterator[OidcSite]:
    async with serving(database_url, clock, scopes=SCOPES) as service, oidc_site(service, clock) as site:
        yield site


async def _way_back(browser: Browser, site: OidcSite) -> str:
    """Go to the provider, and return the address that it sends the browser back to."""
    browser.http.follow_redirects = False
    started = await browser.open("/sign-in/oidc", next="/keys")
    answer = await browser.http.get(started.headers["location"])
    browser.http.follow_redirects = True
    address: str = answer.headers["location"]
    assert address.startswith(site.address + _CALLBACK)
    return address


async def _refused(browser: Browser, site: OidcSite, status: int, told: str) -> None:
    assert browser.page.status_code == status, browser.text
    assert told in browser.text
    assert "authsvc" not in browser.http.cookies
    assert not (await site.service.admin.ListSessions(owner_id="authsvc")).sessions


def _changed(address: str, **fields: str) -> str:
    """Return an address with other fields; those that are empty are left out."""
    parts = urlsplit(address)
    values = {**dict(parse_qsl(parts.query)), **fields}
    return parts._replace(query=urlencode({k: v for k, v in values.items() if v})).geturl()


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _unsigned(claims: dict[str, Any], alg: str = "none") -> str:
    return f"{_encoded({'alg': alg, 'typ': 'JWT', 'kid': 'one'})}.{_encoded(claims)}."


def _by_public_key(provider: SmallProvider) -> Callable[[dict[str, Any]], str]:
    """The public key as the secret of an HMAC."""
    secret = OctKey.import_key(base64.urlsafe_b64encode(json.dumps(provider.key.as_dict()).encode()).decode())
    return lambda claims: jwt.encode({"alg": "HS256", "kid": "one"}, claims, secret, algorithms=["HS256"])


def _by_another(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, new_key())


def _with_own_key(claims: dict[str, Any]) -> str:
    """A token that brings the key which it is signed by."""
    key = new_key("mine")
    header = {"alg": "RS256", "kid": "one", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key)


def _with_an_extension(provider: SmallProvider) -> Callable[[dict[str, Any]], str]:
    """A token that is not to be accepted by those who do not know the extension `x`."""
    header = {"alg": "RS256", "kid": "one", "crit": ["x"], "x": True}
    registry = JWSRegistry(header_registry={"x": HeaderParameter("x", "bool")})
    return lambda claims: jwt.encode(header, claims, provider.key, registry=registry)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": None},
        {"aud": ["another client"]},
        {"aud": ["authsvc console", "another client"]},
        {"aud": ["authsvc console", "another client"], "azp": "another client"},
        {"azp": "another client"},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"iat": None},
        {"iat": 32503680000},
        {"nbf": 32503680000},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "s" * 256},
    ],
    ids=str,
)
async def test_an_id_token_that_is_not_for_this_sign_in(oidc: OidcSite, claims: dict[str, Any]) -> None:
    oidc.provider.claims.update(claims)
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 403, "not accepted")


async def test_several_audiences_of_which_one_is_ours(oidc: OidcSite) -> None:
    oidc.provider.claims.update(aud=["authsvc console", "another"], azp="authsvc console")
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        assert browser.page.status_code == 200


@pytest.mark.parametrize(
    "sign",
    [
        lambda provider: _unsigned,
        lambda provider: lambda claims: _unsigned(claims, "None"),
        lambda provider: lambda claims: _unsigned(claims, "RS256"),
        _by_public_key,
        lambda provider: _by_another,
        lambda provider: _with_own_key,
        lambda provider: lambda claims: provider.signed(claims)[:-8] + "AAAAAAAA",
        lambda provider: lambda claims: provider.signed(claims) + ".x",
        lambda provider: lambda claims: provider.signed({**claims, "x": 1}).rpartition(".")[0],
        lambda provider: lambda claims: "not a token",
        lambda provider: lambda claims: f"{_encoded(['alg'])}.{_encoded(claims)}.x",
        lambda provider: lambda claims: _unsigned(claims, "ES256"),
        _with_an_extension,
    ],
)
async def test_an_id_token_that_the_provider_has_not_signed(
    oidc: OidcSite, sign: Callable[[SmallProvider], Any]
) -> None:
    oidc.provider.sign = sign(oidc.provider)
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 403, "not accepted")


@pytest.mark.filterwarnings("ignore:Key size should be")
async def test_a_short_key(oidc: OidcSite) -> None:
    oidc.provider.key = RSAKey.generate_key(1024, {"kid": "one"})
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 403, "not accepted")


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("PS256", new_key()),
        ("RS512", new_key()),
        ("ES256", ECKey.generate_key("P-256", {"kid": "one"})),
        ("ES384", ECKey.generate_key("P-384", {"kid": "one"})),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "one"})),
        ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "one"})),
    ],
)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_algorithms_of_providers(oidc: OidcSite, algorithm: str, key: RSAKey | ECKey | OKPKey) -> None:
    oidc.provider.published = [key.as_dict(private=False)]
    oidc.provider.sign = lambda claims: jwt.encode(
        {"alg": algorithm, "kid": "one"}, claims, key, algorithms=[algorithm]
    )
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        assert browser.page.status_code == 200, browser.text


async def test_a_code_of_another_browser(oidc: OidcSite) -> None:
    """The link of an attacker does not sign anybody in as the attacker, nor the other way round."""
    async with oidc.browser() as attacker, oidc.browser() as victim:
        address = await _way_back(attacker, oidc)
        await victim.open(address)
        await _refused(victim, oidc, 400, "not started in this browser")
        # Nor if the victim has begun to sign in.
        own = await _way_back(victim, oidc)
        await victim.open(address)
        await _refused(victim, oidc, 400, "not started in this browser")
        # Nor with the state of the victim: PKCE.
        state = dict(parse_qsl(urlsplit(own).query))["state"]
        await victim.open(_changed(address, state=state))
        await _refused(victim, oidc, 403, "not accepted")


async def test_a_way_back_counts_once(oidc: OidcSite) -> None:
    async with oidc.browser() as browser:
        address = await _way_back(browser, oidc)
        kept = browser.http.cookies["authsvc-oidc"]
        await browser.open(address)
        assert browser.page.url.path == "/keys"
        assert "authsvc-oidc" not in browser.http.cookies
        await browser.open(address)
        assert browser.page.status_code == 400
        # Also if the browser still had the cookie: the provider accepts a code once.
        browser.http.cookies.set("authsvc-oidc", kept, domain="127.0.0.1")
        await browser.open(address)
        assert browser.page.status_code == 403
        assert len((await oidc.service.admin.ListSessions(owner_id="authsvc")).sessions) == 1


async def test_too_late(oidc: OidcSite, clock: Clock) -> None:
    async with oidc.browser() as browser:
        address = await _way_back(browser, oidc)
        clock.advance(minutes=10, seconds=1)
        await browser.open(address)
        await _refused(browser, oidc, 400, "took too long")


async def test_a_changed_cookie(oidc: OidcSite) -> None:
    async with oidc.browser() as browser:
        address = await _way_back(browser, oidc)
        secret, expiry, page, mac = browser.http.cookies["authsvc-oidc"].split(".")
        for value in (
            f"{secret}.{int(expiry) + 1000}.{page}.{mac}",
            f"{secret}.{expiry}.{_encoded('//evil.example')}.{mac}",
            f"{secret}.{expiry}.{page}.",
            "...",
            "",
            "x",
        ):
            browser.http.cookies.set("authsvc-oidc", value, domain="127.0.0.1")
            await browser.open(address)
            await _refused(browser, oidc, 400, "Start the sign-in again")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"state": ""}, 400),
        ({"state": "x"}, 400),
        ({"code": ""}, 403),
        ({"code": "made up"}, 403),
        ({"code": "x" * 5000}, 403),
        ({"iss": "https://evil.example"}, 403),
        ({"iss": ""}, 403),
    ],
    ids=str,
)
async def test_a_changed_way_back(oidc: OidcSite, fields: dict[str, str], status: int) -> None:
    """A made-up issuer, or none where the provider names itself: RFC 9207."""
    async with oidc.browser() as browser:
        address = await _way_back(browser, oidc)
        asked = oidc.provider.count("/token")
        await browser.open(_changed(address, **fields))
        await _refused(browser, oidc, status, "Start")
        if "code" not in fields or len(fields["code"]) != 7:
            assert oidc.provider.count("/token") == asked


@pytest.mark.parametrize(
    ("field", "status"), [("code=another", 403), ("iss=https://evil.example", 403), ("state=x", 400)]
)
async def test_fields_that_are_there_twice(oidc: OidcSite, field: str, status: int) -> None:
    oidc.provider.metadata["authorization_response_iss_parameter_supported"] = False
    async with oidc.browser() as browser:
        address = await _way_back(browser, oidc)
        await browser.open(f"{address}&{field}")
        await _refused(browser, oidc, status, "Start")
        assert oidc.provider.count("/token") == 0


async def test_a_provider_that_does_not_name_itself(oidc: OidcSite) -> None:
    oidc.provider.metadata["authorization_response_iss_parameter_supported"] = False
    oidc.provider.back = {"iss": ""}
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        assert browser.page.status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        ("access_denied", 403, "The provider did not sign you in"),
        ("server_error", 502, "does not answer as it should"),
        ("<b>evil</b>", 502, "does not answer as it should"),
    ],
)
async def test_an_error_instead_of_a_code(
    oidc: OidcSite, error: str, status: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "authsvc")
    oidc.provider.back = {"code": "", "error": error, "error_description": "call 555-0100"}
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, status, told)
        assert "555" not in browser.text + caplog.text
        assert "evil" not in browser.text + caplog.text


async def test_other_sites_cannot_start_it(oidc: OidcSite) -> None:
    async with oidc.browser(sec_fetch_site="cross-site") as browser:
        browser.http.follow_redirects = False
        answer = await browser.open("/sign-in/oidc", next="/keys")
        assert answer.headers["location"] == "/sign-in?next=%2Fkeys"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("page", ["//evil.example", "https://evil.example", "/\\evil.example", "/\tx"])
async def test_it_leads_to_no_other_site(oidc: OidcSite, page: str) -> None:
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc", next=page)
        assert browser.page.status_code == 200
        assert browser.page.url.path == "/"


async def test_claims_of_somebody_else(oidc: OidcSite) -> None:
    oidc.provider.claims.pop("groups")
    oidc.provider.user = {"sub": "eve-1", "groups": ["admins"]}
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 403, "not accepted")


def _large() -> Response:
    return JSONResponse({"issuer": "x" * (1 << 20)})


_PATHS = ("/.well-known/openid-configuration", "/token", "/keys")


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(status_code=500),
        lambda: RedirectResponse("http://127.0.0.1:1/"),
        lambda: PlainTextResponse("[" * 60_000),
        lambda: PlainTextResponse("\xff"),
        _large,
    ],
    ids=["500", "redirect", "deep", "text", "large"],
)
async def test_a_provider_that_answers_wrongly(
    oidc: OidcSite, path: str, answer: Callable[[], Response], caplog: pytest.LogCaptureFixture
) -> None:
    oidc.provider.answers[path] = answer
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 502, "does not answer as it should")
        assert "no sign-in by OpenID Connect for 127.0.0.1" in caplog.text
        # It is asked again, and then all is well.
        oidc.provider.answers.clear()
        await browser.open("/sign-in/oidc")
        assert browser.page.status_code == 200


@pytest.mark.parametrize("path", _PATHS)
async def test_a_provider_that_does_not_answer(database_url: str, clock: Clock, path: str) -> None:
    async with (
        serving(database_url, clock, scopes=SCOPES) as service,
        oidc_site(service, clock, seconds=0.3) as site,
        site.browser() as browser,
    ):
        site.provider.hangs.add(path)
        await browser.open("/sign-in/oidc")
        await _refused(browser, site, 502, "does not answer as it should")
        # Everybody else is served.
        assert (await service.admin.VerifyKey(key_string=service.admin_key)).valid


async def test_so_many_wait_for_the_provider_and_no_more(
    oidc: OidcSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "_MAX_WAITING", 1)
    oidc.provider.hangs.add("/.well-known/openid-configuration")
    async with oidc.browser() as browser, oidc.browser() as another:
        waiting = asyncio.create_task(another.open("/sign-in/oidc"))
        await eventually(lambda: oidc.provider.asked)
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 503, "Try again in a minute")
        oidc.provider.released.set()
        assert (await waiting).status_code == 200


async def test_a_provider_that_is_not_there(oidc: OidcSite) -> None:
    oidc.provider.metadata["token_endpoint"] = "http://127.0.0.1:1/token"
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 502, "does not answer as it should")


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"userinfo_endpoint": 7},
        {"token_endpoint": "https://user:password@idp.example/"},
    ],
    ids=str,
)
async def test_metadata_that_cannot_be_used(oidc: OidcSite, metadata: dict[str, Any]) -> None:
    oidc.provider.metadata.update(metadata)
    async with oidc.browser() as browser:
        await browser.open("/sign-in/oidc")
        await _refused(browser, oidc, 502, "does not answer as it should")
        assert oidc.provider.count("/authorize") == 0


async def test_failed_sign_ins_meet_the_limit_of_failures(database_url: str, clock: Clock) -> None:
    async with (
        serving(database_url, clock, scopes=SCOPES) as service,
        oidc_site(service, clock, failure_limit="0.001/3") as site,
        site.browser() as browser,
    ):
        site.provider.claims["nonce"] = "another"
        for _ in range(3):
            await browser.open("/sign-in/oidc")
            assert browser.page.status_code == 403
        asked = site.provider.count("/token")
        await browser.open("/sign-in/oidc")
        assert browser.page.status_code == 429
        assert "too many attempts" in browser.text
        assert site.provider.count("/token") == asked
