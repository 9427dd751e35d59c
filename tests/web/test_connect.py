"""The Connect protocol, byte by byte, as people use it with curl."""

import json
import re
import zlib
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from authsvc.model.rate import Rate
from authsvc.rpc.limits import MAX_MESSAGE_BYTES
from tests.conftest import Clock, serving
from tests.web.conftest import Web
from tests.web.http_channel import JSON, PROTO, Answer, http_client
from tests.web.test_json import importing

LIST, CREATE = "/authsvc.v1.KeyService/ListKeys", "/authsvc.v1.KeyService/CreateKey"
VERIFY = "/authsvc.v1.KeyService/VerifyKey"
IMPORT, GET = "/authsvc.v1.KeyService/ImportKeys", "/authsvc.v1.KeyService/GetKey"


def gzipped(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=31)
    return packing.compress(data) + packing.flush()


def reason(answer: Answer) -> str:
    [found] = [each["debug"]["reason"] for each in answer.json["details"] if "ErrorInfo" in each["type"]]
    return str(found)


def violations(answer: Answer) -> dict[str, str]:
    [bad] = [each["debug"] for each in answer.json["details"] if "BadRequest" in each["type"]]
    return {each.get("field", ""): each["reason"] for each in bad["fieldViolations"]}


async def call(web: Web, path: str, body: bytes | str = b"{}", *headers: tuple[str, str]) -> Answer:
    """Call as the administrator."""
    return await web.http.post(path, body, web.service.admin_key, JSON, *headers)


async def test_a_call(web: Web) -> None:
    """The answer has the names of JSON, and is kept by nobody."""
    answer = await call(web, CREATE, '{"owner_id": "acme", "displayName": "Orders", "scopes": ["a:b"]}')
    assert answer.status == 200
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-request-id": answer.headers["x-request-id"],
    }
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    key = answer.json["key"]
    assert (key["ownerId"], key["displayName"], key["scopes"]) == ("acme", "Orders", ["a:b"])
    assert key["createTime"] == "2026-11-21T12:00:00Z"
    verdict = await call(web, VERIFY, json.dumps({"key_string": answer.json["keyString"]}))
    assert verdict.json["valid"] is True
    assert verdict.json["code"] == "VERDICT_CODE_VALID"
    utf_8 = await web.http.post(LIST, "{}", web.service.admin_key, "application/JSON; charset=UTF-8")
    assert utf_8.status == 400  # it is read, and lacks the owner


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_other_paths_are_those_of_the_console(setting: str, database_url: str, clock: Clock) -> None:
    """Without it, they are answered like RPCs that there are not."""
    async with (
        serving(database_url, clock, web_listen="127.0.0.1:0", console=setting) as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        for path in ("/", "/grpc.health.v1.Health/Check"):
            answer = await http.post(path)
            is_page = answer.headers["content-type"].startswith("text/html")
            assert (answer.status, is_page) == (404, setting == "on"), path
        assert (await http.send("GET", "/sign-in", b"", [])).status == (200 if setting == "on" else 404)


async def test_paths_methods_and_types(web: Web) -> None:
    """404, 405 and 415, with a code for clients of Connect."""
    for path in (
        "/authsvc.v1.KeyService/None",
        "/authsvc.v1.KeyService",
        "/authsvc.v1.HolderService/Follow",
        "/authsvc.v1.KeyService/ListKeys/",
    ):
        answer = await web.http.post(path)
        assert (answer.status, answer.code) == (404, "unimplemented"), path
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = await web.http.send(method, LIST, b"", [("content-type", JSON)])
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    for media_type in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/grpc",
        "application/grpc-web",
        "application/connect+json",
        "application/jsonx",
        "application/json; charset=latin-1",
        "application/json, application/proto",
    ):
        answer = await web.http.post(LIST, "{}", None, media_type)
        assert (answer.status, answer.code) == (415, "unknown"), media_type
        assert answer.headers["accept-post"] == "application/json, application/proto"


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("connect-protocol-version", "2", 400, "invalid_argument"),
        ("connect-timeout-ms", "1s", 400, "invalid_argument"),
        ("connect-timeout-ms", "-1", 400, "invalid_argument"),
        ("connect-timeout-ms", "", 400, "invalid_argument"),
        ("connect-timeout-ms", "12345678901", 400, "invalid_argument"),
        ("content-encoding", "br", 501, "unimplemented"),
        ("content-encoding", "deflate", 501, "unimplemented"),
    ],
)
async def test_headers_that_are_refused(web: Web, header: str, value: str, status: int, code: str) -> None:
    """Before anything is done for the caller."""
    answer = await call(web, LIST, "{}", (header, value))
    assert (answer.status, answer.code) == (status, code)


async def test_errors_have_details(web: Web) -> None:
    """Each with its bytes, for clients of Connect, and as JSON for people."""
    answer = await call(web, CREATE, '{"owner_id": ""}')
    assert (answer.status, answer.code) == (400, "invalid_argument")
    values = {
        each["type"]: b64decode(each["value"] + "=" * (-len(each["value"]) % 4))
        for each in answer.json["details"]
    }
    assert ErrorInfo.FromString(values["google.rpc.ErrorInfo"]).reason == "INVALID_FIELD"
    bad = BadRequest.FromString(values["google.rpc.BadRequest"])
    assert {each.field for each in bad.field_violations} == set(violations(answer)) >= {"owner_id"}


async def test_statuses(web: Web) -> None:
    """A code has the status of HTTP that the protocol gives it."""
    admin = web.service.admin
    tenant = await admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:read"])
    request = '{"owner_id": "globex"}'
    for key, path, body, expected in (
        (None, LIST, request, (401, "unauthenticated", "CREDENTIAL_MISSING")),
        ("wrong", LIST, request, (401, "unauthenticated", "CREDENTIAL_INVALID")),
        (tenant.key_string, LIST, request, (403, "permission_denied", "OWNER_NOT_PERMITTED")),
        (tenant.key_string, CREATE, request, (403, "permission_denied", "SCOPE_MISSING")),
        (
            tenant.key_string,
            "/authsvc.v1.KeyService/GetKey",
            '{"keyId": "x"}',
            (404, "not_found", "KEY_NOT_FOUND"),
        ),
    ):
        answer = await web.http.post(path, body, key)
        assert (answer.status, answer.code, reason(answer)) == expected
    assert (await web.http.post(LIST)).headers["www-authenticate"] == 'Bearer realm="authsvc"'
    deleting = await call(web, "/authsvc.v1.KeyService/DeleteKey", json.dumps({"key_id": tenant.key.key_id}))
    assert (deleting.status, deleting.code) == (400, "failed_precondition")
    again = '{"owner_id": "acme", "display_name": "x", "request_id": "r"}'
    await call(web, CREATE, again)
    repeated = await call(web, CREATE, again)
    assert (repeated.status, repeated.code) == (409, "already_exists")


async def test_trailers(web: Web) -> None:
    """What gRPC sends after an answer has the prefix of the protocol."""
    made = await web.service.admin.CreateKey(owner_id="acme", display_name="x")
    answer = await call(web, "/authsvc.v1.KeyService/RevokeKey", json.dumps({"key_id": made.key.key_id}))
    assert float(answer.headers["trailer-authsvc-wait-ms"]) >= 0
    assert answer.headers["trailer-authsvc-holders"] == "0"


async def test_when_to_retry(database_url: str, clock: Clock) -> None:
    """A limit is told in whole seconds, as HTTP has it."""
    given: dict[str, Any] = {"caller_limit": Rate(0.1, 1), "web_listen": "127.0.0.1:0"}
    async with (
        serving(database_url, clock, **given) as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        web = Web(service, http)
        made = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:read"])
        for _ in range(2):
            answer = await http.post(LIST, '{"owner_id": "acme"}', made.key_string)
    assert (answer.status, answer.code, reason(answer)) == (429, "resource_exhausted", "RATE_LIMITED")
    [retry] = [each["value"] for each in answer.json["details"] if each["type"] == "google.rpc.RetryInfo"]
    delay = RetryInfo.FromString(b64decode(retry + "==")).retry_delay.ToTimedelta()
    assert delay <= timedelta(seconds=int(answer.headers["retry-after"])) < delay + timedelta(seconds=1)
    assert web.http is http


async def test_a_key_string_in_the_wrong_field(web: Web) -> None:
    """It is refused as over gRPC, also when it is escaped, and never repeated."""
    made = await web.service.admin.CreateKey(owner_id="acme", display_name="x")
    escaped = "".join(f"\\u{ord(each):04x}" for each in made.key_string)
    for text in (made.key_string, escaped, f"a {made.key_string[:40]}"):
        for body in (
            f'{{"owner_id": "acme", "display_name": "{text}"}}',
            f'{{"owner_id": "acme", "display_name": "x", "annotations": {{"a": "{text}"}}}}',
            f'{{"owner_id": "acme", "display_name": "x", "technical_contacts": [{{"name": "{text}"}}]}}',
        ):
            answer = await call(web, CREATE, body)
            assert violations(answer) == {"": "REQUEST_NO_KEY_STRING"}
            assert made.key_string[-51:].encode() not in answer.body
    answer = await call(web, CREATE, f'{{"owner_id": 7, "display_name": "{made.key_string}"}}')
    assert violations(answer) == {"owner_id": "REQUEST_DECODABLE"}
    assert made.key_string[-51:].encode() not in answer.body
    # Where one belongs, it is taken in any spelling.
    answer = await call(web, VERIFY, f'{{"key_string": "{escaped}"}}')
    assert answer.json["valid"] is True


async def test_messages_that_are_too_large(web: Web) -> None:
    """As they are, and when they are decompressed: of a bomb, no more than the limit is."""
    large = b'{"owner_id": "' + b"x" * MAX_MESSAGE_BYTES + b'"}'
    bomb = gzipped(b" " * 50 * 1024 * 1024)
    assert len(bomb) < MAX_MESSAGE_BYTES
    for media_type in (JSON, PROTO):
        for body, more in (
            (large, []),
            (gzipped(large), [("content-encoding", "gzip")]),
            (bomb, [("content-encoding", "gzip")]),
        ):
            answer = await web.http.post(VERIFY, body, web.service.admin_key, media_type, *more)
            assert (answer.status, answer.code) == (429, "resource_exhausted")
            assert reason(answer) == "MESSAGE_TOO_LARGE"
    answer = await call(web, CREATE, b'{"owner_id": "' + b"x" * 200_000 + b'"}')
    assert violations(answer) == {"": "REQUEST_SIZE"}


@pytest.mark.parametrize("media_type", [JSON, PROTO])
async def test_bodies_that_cannot_be_read(web: Web, media_type: str) -> None:
    """Neither as they are nor decompressed."""
    packed = gzipped(b'{"owner_id": "acme"}')
    for body, headers in (
        (b"\xff", []),
        (b"\xff", [("content-encoding", "gzip")]),
        (packed[:-1], [("content-encoding", "gzip")]),
        (packed + b"x", [("content-encoding", "gzip")]),
        (packed, []),
    ):
        answer = await web.http.post(LIST, body, web.service.admin_key, media_type, *headers)
        assert (answer.status, violations(answer)) == (400, {"": "REQUEST_DECODABLE"})


async def test_an_unknown_caller_has_nothing_read(web: Web) -> None:
    """What it sends is not looked at."""
    for body in (b"{", b"\xff", b"[" * 100_000, b"x" * MAX_MESSAGE_BYTES):
        answer = await web.http.post(LIST, body)
        assert (answer.status, reason(answer)) == (401, "CREDENTIAL_MISSING")


async def test_what_is_compressed(web: Web) -> None:
    """Large answers for those who take gzip, and none with a key string."""
    for _ in range(20):
        await web.service.admin.CreateKey(owner_id="acme", display_name="x")
    for accepted, encoding in (
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("identity", None),
        ("x-gzip", None),
    ):
        answer = await call(web, LIST, '{"owner_id": "acme"}', ("accept-encoding", accepted))
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["vary"] == "accept-encoding"
        data = answer.body if encoding is None else zlib.decompress(answer.body, wbits=31)
        assert len(json.loads(data)["keys"]) == 20
    long = json.dumps({"owner_id": "acme", "display_name": "x", "description": "y" * 2000})
    answer = await call(web, CREATE, long, ("accept-encoding", "gzip"))
    assert len(answer.json["key"]["description"]) == 2000
    assert "content-encoding" not in answer.headers


async def test_a_thousand_keys_with_contacts_and_annotations_are_imported(web: Web) -> None:
    """As many as over gRPC. Beyond the bound of objects, the error says what to do."""
    text = json.dumps(importing(1000))
    answer = await call(web, IMPORT, text)
    assert answer.status == 200, answer.body[:500]
    assert len({each["keyId"] for each in answer.json["results"]}) == 1000
    key = (await call(web, GET, json.dumps({"key_id": answer.json["results"][999]["keyId"]}))).json
    assert (len(key["technicalContacts"]), key["annotations"]) == (2, {"old-id": "8123"})
    refused = await call(web, IMPORT, json.dumps(importing(1000, contacts=9)))
    assert (refused.status, reason(refused)) == (400, "INVALID_FIELD")
    assert "send fewer keys at a time" in refused.json["message"]


async def test_a_deadline(web: Web) -> None:
    """What is not answered by then is not answered."""
    answer = await call(web, LIST, '{"owner_id": "acme"}', ("connect-timeout-ms", "0"))
    assert (answer.status, answer.code) == (504, "deadline_exceeded")
    answer = await call(web, LIST, '{"owner_id": "acme"}', ("connect-timeout-ms", "9999999999"))
    assert answer.status == 200


async def test_strangers_are_delayed(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a rate: unknown RPCs, requests refused by their head, and calls without a credential alike."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 0)
    given: dict[str, Any] = {"stranger_limit": Rate(0.001, 1), "web_listen": "127.0.0.1:0"}
    async with (
        serving(database_url, clock, **given) as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        counts = [
            await http.post("/authsvc.v1.KeyService/None"),
            await http.post("/authsvc.v1.KeyService/None"),
            await http.send("GET", LIST),
            await http.post(LIST, "{}", None, "text/plain"),
            await http.post(LIST),
            await http.send("GET", "/healthz"),
            await http.send("GET", "/healthz"),
        ]
        read = service.app.metrics.registry.get_sample_value
        assert read("authsvc_limited_total", {"limit": "stranger"}) == 5
    assert [answer.status for answer in counts] == [404, 404, 405, 415, 401, 200, 200]


async def test_probes(web: Web) -> None:
    """As at the port of the check."""
    assert (await web.http.send("GET", "/healthz")).status == 200
    assert (await web.http.send("HEAD", "/readyz")).status == 200
    assert (await web.http.send("POST", "/healthz")).status == 405
    web.service.app.readiness.end()
    answer = await web.http.send("GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"this worker is stopping")
    assert (await web.http.send("GET", "/healthz")).status == 200


async def test_the_address_of_a_caller(database_url: str, clock: Clock) -> None:
    """Failed authentications count for the address that a trusted proxy names."""
    given: dict[str, Any] = {
        "failure_limit": Rate(0.001, 1),
        "trusted_proxies": "127.0.0.1",
        "web_listen": "127.0.0.1:0",
    }
    async with (
        serving(database_url, clock, **given) as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        heard = [
            reason(
                await http.post(LIST, "{}", service.admin_key[:-1] + last, JSON, ("x-forwarded-for", address))
            )
            for address, last in (("192.0.2.1", "?"), ("192.0.2.1", "!"), ("192.0.2.2", "!"))
        ]
    assert heard == ["CREDENTIAL_INVALID", "RATE_LIMITED", "CREDENTIAL_INVALID"]
