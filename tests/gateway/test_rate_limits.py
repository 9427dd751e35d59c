"""Keys with rate limits behind gateways: 429 with the headers of the draft, which a 200 has, too."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authsvc.gateway.v1.ext_authz_pb2 import CheckResponse
from authsvc.v1 import resources_pb2
from authsvc.v1.owner_policy_service_pb2 import OwnerPolicy
from tests.conftest import Clock, Service, serving
from tests.gateway.conftest import ASKS, Behind, bearer, key, new_directory, protected
from tests.gateway.test_check import Envoy
from tests.gateway.test_http_check import Ask, ask, http

__all__ = ["ask", "http"]


def limit(units: int = 2, name: str = "requests") -> resources_pb2.RateLimit:
    # So long that nothing comes back during a test.
    message = resources_pb2.RateLimit(name=name, limit=units)
    message.period.seconds = 86_400
    return message


async def limited(service: Service, *limits: resources_pb2.RateLimit) -> str:
    made = await service.admin.CreateKey(
        owner_id="acme", display_name="x", scopes=["orders:read"], rate_limits=limits or [limit()]
    )
    text: str = made.key_string
    return text


def to_client(answer: CheckResponse) -> dict[str, str]:
    """Return the headers that the client gets beside those of the upstream, or of a refusal."""
    found: Any = (
        answer.ok_response.response_headers_to_add
        if answer.HasField("ok_response")
        else answer.denied_response.headers
    )
    return {option.header.key: option.header.value for option in found}


async def test_envoy(service: Service) -> None:
    """What is left is told with each answer, from memory and not; the third request is 429."""
    envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
    text = await limited(service)
    headers = {"authorization": f"Bearer {text}"}
    for left, reset in ((1, 43_200), (0, 86_400)):
        answer = await envoy.ask(headers)
        assert to_client(answer) == {
            "ratelimit-policy": '"requests";q=2;w=86400',
            "ratelimit": f'"requests";r={left};t={reset}',
        }
        assert "ratelimit" not in str(answer.ok_response.headers)
    refused = await envoy.ask(headers)
    assert (refused.status.code, refused.denied_response.status.code) == (8, 429)
    told = to_client(refused)
    assert (told["ratelimit"], told["retry-after"]) == ('"requests";r=0;t=86400', "43200")
    assert "www-authenticate" not in told
    assert json.loads(refused.denied_response.body)["reason"] == "CREDENTIAL_RATE_LIMITED"
    as_grpc = await envoy.ask({**headers, "content-type": "application/grpc"})
    assert to_client(as_grpc)["grpc-status"] == "8"
    assert service.app.access.counts["CREDENTIAL_RATE_LIMITED"] == 2
    free, _ = await key(service)
    assert to_client(await envoy.ask({"authorization": f"Bearer {free}"})) == {}


async def test_over_http(http: Service, ask: Ask) -> None:
    """The same in the answers to other proxies, with the limits of the owner under names of their own."""
    policy = OwnerPolicy(owner_id="acme", rate_limits=[limit(3)])
    await http.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["rate_limits"]})
    text = await limited(http)
    for left in (1, 0):
        answer = await ask(bearer(text))
        assert (answer.status, answer.headers["ratelimit-policy"]) == (
            200,
            '"requests";q=2;w=86400, "owner.requests";q=3;w=86400',
        )
        assert answer.headers["ratelimit"].startswith(f'"requests";r={left};t=')
        assert f'"owner.requests";r={left + 1};t=' in answer.headers["ratelimit"]
    answer = await ask(bearer(text))
    assert (answer.status, answer.headers["retry-after"]) == (429, "43200")
    assert json.loads(answer.headers["x-authsvc-problem"])["reason"] == "CREDENTIAL_RATE_LIMITED"
    refused = await ask(bearer(text), "/check?scope=orders:write")
    assert (refused.status, "ratelimit" in refused.headers) == (403, False), (
        "the scope comes before the limit"
    )


async def test_a_request_that_is_refused_takes_nothing(database_url: str, clock: Clock) -> None:
    """One with two good credentials is ambiguous; one with a bad cookie beside a good one takes one unit."""
    sources = "bearer,cookie:sid"
    async with serving(
        database_url, clock, http_listen="127.0.0.1:0", gateway_credentials=sources
    ) as service:
        envoy = Envoy(service, (await key(service, *ASKS, owner_id="authsvc"))[0])
        text, other = await limited(service), (await key(service))[0]
        both = {"cookie": f"sid={text}; sid={other}"}
        for _ in range(5):
            assert (await envoy.ask(both)).denied_response.status.code == 401
        stale = {"cookie": f"sid={text}; sid=authsvc_session_{'0' * 63}"}
        codes = [(await envoy.ask(stale)).denied_response.status.code for _ in range(3)]
        assert codes == [0, 0, 429]


@pytest.fixture(params=["envoy", "nginx", "caddy"])
async def behind(
    request: pytest.FixtureRequest, database_url: str, clock: Clock, checkout: Path, reachable_dir: Path
) -> AsyncIterator[Behind]:
    async with (
        serving(database_url, clock, http_listen="127.0.0.1:0") as service,
        protected(service, request.param, checkout, new_directory(reachable_dir)) as behind,
    ):
        yield behind


async def test_through_real_proxies(behind: Behind, request: pytest.FixtureRequest) -> None:
    """The third request gets 429 with its headers, and does not reach the upstream; also of a burst."""
    text = await limited(behind.service)
    name = request.node.callspec.params["behind"]
    for left in (1, 0):
        answer, seen = await behind.send("/", bearer(text))
        assert answer.status == 200
        assert seen is not None
        if name != "caddy":
            assert answer.headers["ratelimit"].startswith(f'"requests";r={left};t=')
            assert answer.headers["ratelimit-policy"] == '"requests";q=2;w=86400'
    answer, seen = await behind.send("/", bearer(text))
    assert (answer.status, seen) == (429, None)
    assert answer.headers["retry-after"] == "43200"
    assert answer.headers["ratelimit"] == '"requests";r=0;t=86400'
    assert answer.headers["ratelimit-policy"] == '"requests";q=2;w=86400'
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["reason"] == "CREDENTIAL_RATE_LIMITED"
    burst = await limited(behind.service, limit(5))
    answers = await asyncio.gather(*(behind.send("/", bearer(burst)) for _ in range(20)))
    assert sorted(answer.status for answer, _ in answers) == [200] * 5 + [429] * 15
    free, _ = await key(behind.service)
    answer, _ = await behind.send("/", bearer(free))
    assert (answer.status, "ratelimit" in answer.headers) == (200, False)


async def test_a_key_without_credits(http: Service, ask: Ask) -> None:
    """429 with its own reason, and no headers of limits that it has not; the wait is until the refill."""
    made = await http.admin.CreateKey(
        owner_id="acme",
        display_name="x",
        scopes=["orders:read"],
        credits={"remaining": 1, "refill": {"amount": 5, "day_of_month": 1}},
    )
    passed = await ask(bearer(made.key_string))
    assert (passed.status, "ratelimit" in passed.headers) == (200, False)
    refused = await ask(bearer(made.key_string))
    problem = json.loads(refused.headers["x-authsvc-problem"])
    assert (refused.status, problem["reason"]) == (429, "CREDENTIAL_CREDITS_EXHAUSTED")
    assert 0 < int(refused.headers["retry-after"]) <= 31 * 86_400
    assert "ratelimit" not in refused.headers
