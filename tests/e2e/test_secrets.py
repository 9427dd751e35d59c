"""Rule 1 from outside: a key string is only in the response that created it, and nowhere else.

One scenario with everything that can happen to a key, on a service with the most
verbose log and a PostgreSQL that logs every statement with its parameters. Then
all output and stored data is searched: for the key strings, for parts of
their secrets, also where a terminal would break or colour them, and for their
base64 and hexadecimal forms. The same goes for the secrets of webhooks.
"""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import re
import secrets
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import bcrypt
import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from authsvc.gateway.v1.ext_authz_pb2 import CheckRequest, CheckResponse
from authsvc.model.key_string import KeyMint
from authsvc.process.devpg import Binaries, DevPostgres
from authsvc.v1 import audit_service_pb2 as audit_pb
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import session_service_pb2 as session_pb
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from authsvc.v1.audit_service_pb2_grpc import AuditServiceStub
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.owner_policy_service_pb2_grpc import OwnerPolicyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from authsvc.v1.webhook_service_pb2_grpc import WebhookServiceStub
from tests import age
from tests.e2e.process import Server, environment, free_port, run, running
from tests.web.console.conftest import Browser

LOUD = {
    "fsync": "off",
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_min_messages": "debug1",
}
SOURCES = ("answers", "errors", "stdout", "log", "commands", "metrics", "database", "postgresql log", "files")
BASE62 = (string.digits + string.ascii_letters).encode()
NOT_BASE62 = bytes(byte for byte in range(256) if byte not in BASE62)
COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
# A part of a secret, long enough not to occur by chance. Any 23 characters of a secret contain one of these.
STRETCH = 12


@dataclass
class Story:
    """All output and stored data, by place, and the key strings that must not be in it."""

    told: dict[str, list[bytes]] = field(default_factory=lambda: {source: [] for source in SOURCES})
    key_strings: list[str] = field(default_factory=list)
    # The secrets of webhooks, `whsec_` and base64, and the key that they are derived from.
    webhook_secrets: list[str] = field(default_factory=list)
    # Tokens, and the private key that signs them.
    tokens: list[str] = field(default_factory=list)
    token_key: str = ""
    # To whom key strings are sealed.
    recipient: age.Recipient = field(default_factory=age.Recipient)
    # The address of the HTTP check for proxies, and that of the RPCs over HTTP and the console.
    http: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    web: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    def note(self, source: str, *parts: object) -> None:
        for part in parts:
            self.told[source].append(part if isinstance(part, bytes) else str(part).encode())

    def learn(self, key_string: str) -> str:
        """Record a key string that was just created."""
        self.key_strings.append(key_string)
        return key_string

    def text(self, source: str) -> bytes:
        return b"\n".join(self.told[source])


def prefix_of(key_string: str) -> bytes:
    return key_string[:-51].encode()


def forms_of(key_string: str) -> set[bytes]:
    """Return the parts and encodings by which a secret can be recognized in a text."""
    secret = key_string[-51:-8].encode()
    stretches = {
        secret[start : start + STRETCH] for start in (*range(0, 37 - STRETCH + 1, STRETCH), 43 - STRETCH)
    }
    in_hex = {form for part in stretches for form in (part.hex().encode(), part.hex().upper().encode())}
    # In an encoded text, the secret begins at one of three offsets.
    encoded = {base64.b64encode(b"x" * offset + secret)[4:44] for offset in range(3)}
    urlsafe = {form.replace(b"+", b"-").replace(b"/", b"_") for form in encoded}
    return stretches | in_hex | encoded | urlsafe


def webhook_forms_of(secret: str) -> set[bytes]:
    """Return the forms by which the secret of a webhook can be recognized: its text, its bytes, and parts."""
    text = secret.removeprefix("whsec_").rstrip("=")
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    stretches = {text[start : start + STRETCH].encode() for start in range(0, len(text) - STRETCH, STRETCH)}
    encoded = {base64.b64encode(b"x" * offset + secret.encode())[12:48] for offset in range(3)}
    shown = {
        repr(raw)[2:-1].encode(),
        repr(raw[:16])[2:-1].encode(),
        raw.hex().encode(),
        raw.hex().upper().encode(),
    }
    return stretches | encoded | shown | {raw, raw[:12], raw[16:28], base64.urlsafe_b64encode(raw)[:40]}


def webhook_leaks(text: bytes, secrets: list[str]) -> list[str]:
    """Return where secrets of webhooks are in a text, with the text before them."""
    found = []
    for secret in secrets:
        for form in webhook_forms_of(secret):
            for where in (text, COLOURS.sub(b"", text)):
                at = where.find(form)
                if at >= 0:
                    found.append(f"{form!r} after {where[max(0, at - 150) : at]!r}")
                    break
    return found


def leaks(text: bytes, key_strings: list[str]) -> list[str]:
    """Return where key strings are in a text, with the text before them."""
    plain = COLOURS.sub(b"", text)
    squeezed = plain.translate(None, NOT_BASE62)
    found = []
    for key_string in key_strings:
        for form in forms_of(key_string):
            for kind, where in ("as it is", text), ("over lines or colours", squeezed):
                at = where.find(form)
                if at >= 0:
                    around = where[max(0, at - 150) : at]
                    found.append(f"{prefix_of(key_string).decode()}… {kind} after {around!r}")
                    break
    return found


class Teller:
    """Calls RPCs and records every response and error."""

    def __init__(self, story: Story, channel: grpc.aio.Channel) -> None:
        self._story = story
        self._channel = channel

    async def __call__(
        self, method: str, *credentials: str, named: object = "", **fields: object
    ) -> Message | None:
        """Call an RPC with these authorization headers and a name for the call."""
        messages, stub = next(
            (messages, stub)
            for word, messages, stub in (
                ("Session", session_pb, SessionServiceStub),
                ("Audit", audit_pb, AuditServiceStub),
                ("Policy", policy_pb, OwnerPolicyServiceStub),
                ("Webhook", webhook_pb, WebhookServiceStub),
                ("", pb, KeyServiceStub),
            )
            if word in method
        )
        request = getattr(messages, f"{method}Request")(**fields)
        metadata = [("authorization", credential) for credential in credentials]
        metadata += [("x-request-id", str(named))] if named else []
        call = getattr(stub(self._channel), method)(request, metadata=metadata, timeout=30)
        try:
            answer: Message = await call
        except grpc.aio.AioRpcError as error:
            self._story.note("errors", error.code(), error.details(), error.debug_error_string(), repr(error))
            self._story.note("errors", *(v for m in (await call.trailing_metadata(),) for _, v in m))
            self._story.note("errors", *(v for m in (await call.initial_metadata(),) for _, v in m))
            return None
        if isinstance(answer, pb.CreateKeyResponse | pb.RotateKeyResponse | pb.RotateSelfResponse):
            sealed = answer.sealed_key_string
            self._story.learn(self._story.recipient.open(sealed) if sealed else answer.key_string)
            if sealed:
                self._story.note("answers", answer, answer.SerializeToString())
            self._story.note("answers", answer.key, answer.key.SerializeToString())
        elif isinstance(answer, pb.DeriveTokenResponse):
            self._story.tokens.append(answer.token)
            self._story.note("answers", answer.token_id)
        elif isinstance(answer, session_pb.CreateSessionResponse):
            self._story.learn(answer.session_token)
            self._story.note("answers", answer.session, answer.session.SerializeToString())
        elif isinstance(answer, webhook_pb.CreateWebhookResponse | webhook_pb.RotateWebhookSecretResponse):
            self._story.webhook_secrets.append(answer.secret)
            self._story.note("answers", answer.webhook, answer.webhook.SerializeToString())
        else:
            self._story.note("answers", answer, answer.SerializeToString())
        return answer

    async def check(
        self, own: str, headers: dict[str, str], target: str, settings: dict[str, str] | None = None
    ) -> None:
        """Check a request as Envoy does, with this authorization of its own."""
        request = CheckRequest()
        http_request = request.attributes.request.http
        http_request.method, http_request.path = "GET", target
        http_request.headers.update(headers)
        request.attributes.context_extensions.update(settings or {})
        check = self._channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        try:
            answer = await check(request, metadata=[("authorization", own)], timeout=30)
        except grpc.aio.AioRpcError as error:
            self._story.note("errors", error.code(), error.details(), error.debug_error_string())
            return
        if answer.HasField("ok_response"):
            # The remaining cookies belong to the upstream.
            kept = [each for each in answer.ok_response.headers if each.header.key != "cookie"]
            del answer.ok_response.headers[:]
            answer.ok_response.headers.extend(kept)
        self._story.note("answers", answer, answer.SerializeToString())


@asynccontextmanager
async def telling(directory: Path, log_format: str) -> AsyncIterator[tuple[Story, Server, str]]:
    """Run a service with the most verbose log, and record what it wrote and stored after it has ended."""
    (directory / "data").mkdir()
    story = Story()
    async with DevPostgres(directory / "postgres", settings=LOUD) as postgres:
        settings = {
            "database_url": postgres.url,
            "log_level": "debug",
            "log_format": log_format,
            "admin_listen": f"127.0.0.1:{free_port()}",
            "http_listen": story.http,
            "web_listen": story.web,
            "gateway_credentials": "bearer,basic,x-api-key,cookie:session",
            "usage_interval": 0.2,
            "activity_interval": 0.2,
        }
        with running("dev", directory, **settings) as server:
            story.learn(server.admin_key)
            story.webhook_secrets.append((directory / "data" / "webhook.key").read_text().strip())
            story.token_key = (directory / "data" / "token.key").read_text().splitlines()[1]
            yield story, server, postgres.url
            story.note("metrics", server.metrics())
            server.end()
        # The first start shows the administrator key, once.
        story.note("stdout", server.stdout.replace(server.admin_key, "", 1))
        story.note("log", server.stderr)
        story.note("database", await dump(postgres.url, directory))
    story.note("postgresql log", (directory / "postgres" / "log").read_bytes())
    cluster = directory / "postgres" / "cluster"
    story.note("files", *(file.read_bytes() for file in cluster.glob("**/*") if file.is_file()))


async def tell_tokens(call: Teller, admin: str, key_id: str) -> None:
    """Derive a token, and present it everywhere, also with another signature."""
    answer = await call("DeriveToken", admin, audience="orders", scopes=["orders:read"])
    assert isinstance(answer, pb.DeriveTokenResponse)
    for text in (answer.token, answer.token[:-4] + "AAAA", f'"{answer.token}"', answer.token[:-4]):
        for audience in ("orders", "others", text):
            await call("VerifyToken", admin, token=text, audience=audience, named=text)
        await call("VerifyToken", admin, token=text, audience="orders", client_ip=text, any_of_scopes=[text])
        await call("VerifyKey", admin, key_string=text)
        await call("GetKey", f"Bearer {text}", key_id=key_id, named=text)
        await call("GetKey", admin, key_id=text)
        await call("CreateKey", admin, owner_id="acme", display_name=text)
        await call("CreateKey", admin, owner_id="acme", display_name="Orders", request_id=text)
        await call("CreateSession", admin, owner_id="acme", user_agent=text)
        await call("DeriveToken", admin, audience=text)
        await call("DeriveToken", f"Bearer {text}", audience="orders")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story(reachable_dir: Path) -> Story:
    """All output and stored data after all operations."""
    directory = reachable_dir / "secrets"
    directory.mkdir()
    async with telling(directory, "json") as (told, server, url):
        await tell(told, server, url)
        tell_commands(told, server)
    return told


async def tell(story: Story, server: Server, url: str) -> None:
    """Do all possible operations with keys."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = Teller(story, channel)
        admin = f"Bearer {server.admin_key}"

        async def create(**fields: object) -> pb.CreateKeyResponse:
            made = await call("CreateKey", admin, owner_id="acme", display_name="Orders", **fields)
            assert isinstance(made, pb.CreateKeyResponse)
            return made

        made = await create(scopes=["keys:read", "orders:read"], annotations={"team": "payments"})
        key_id, key_string = made.key.key_id, made.key_string
        connection = await asyncpg.connect(url)
        mint = KeyMint(await connection.fetchval("SELECT tag_key FROM authsvc.tag_keys"))
        wrong_secret = mint.mint("eg", "live").text[-51:-8]
        wrong_body = key_string[:-51] + wrong_secret
        wrong = [
            key_string[:-1] + ("A" if key_string[-1] != "A" else "B"),  # not our tag
            wrong_body + mint._tag(wrong_body),  # our tag, another secret
            mint.mint("eg", "live").text,  # our tag, unknown prefix
            key_string[:-1],
            f"{key_string} ",
            f'"{key_string}"',
        ]

        async def look(text: str) -> None:
            await call(
                "VerifyKey", admin, key_string=text, required_scopes=["orders:read"], client_ip="192.0.2.7"
            )
            await call("VerifyKey", admin, key_string=text, required_scopes=["orders:write"])
            await call("VerifyKey", admin, key_string=text, client_ip=key_string)
            await call("VerifyKey", admin, key_string=text, required_scopes=[key_string])
            await call("BatchVerifyKeys", admin, requests=[{"key_string": text}, {"key_string": key_string}])
            await call("BatchVerifyKeys", admin, requests=[{"key_string": text, "client_ip": key_string}])
            await call("LookupKey", admin, key_string=text)
            for header in f"Bearer {text}", f"Basic {text}", text:
                await call("GetKey", header, key_id=key_id)
                await call("CreateKey", header, owner_id="acme", display_name="Orders")
            await call("ListKeys", f"Bearer {text}", f"Bearer {text}", owner_id="acme")

        for text in (*wrong, key_string, *wrong):  # cold, then warm
            await look(text)
        await paste(call, admin, key_id, key_string)
        await tell_tokens(call, admin, key_id)

        await call("GetKey", admin, key_id=key_id)
        await call(
            "UpdateKey",
            admin,
            key={"key_id": key_id, "description": "new"},
            update_mask={"paths": ["description"]},
        )
        await call(
            "ListKeys", admin, owner_id="acme", filter={"query": key_string[:-51]}, include_total_size=True
        )
        turned = await call(
            "RotateKey", admin, key_id=key_id, grace_period={"seconds": 3600}, request_id="once"
        )
        assert isinstance(turned, pb.RotateKeyResponse)
        await call("RotateKey", admin, key_id=key_id, request_id="once")
        await look(turned.key_string)
        await call("DeleteKey", admin, key_id=key_id)
        await call("RevokeKey", admin, key_id=key_id, reason="leaked")
        await call("RevokeKey", admin, key_id=key_id)
        await look(key_string)
        await call("BatchRevokeKeys", admin, key_ids=[key_id, "key_nobody"])
        await tell_leaks(call, admin, (await create(scopes=["keys:self"])).key_string)
        await call("BatchDeleteKeys", admin, key_ids=[key_id, turned.key.key_id])

        cold = [(await create(scopes=["full_access"])).key_string for _ in range(5)]
        for table in "TABLE authsvc.keys", "VIEW authsvc.credentials":
            await connection.execute(f"ALTER {table} RENAME COLUMN secret_hash TO lost")
        await faults(call, admin, turned.key.key_id, cold)
        for table in "TABLE authsvc.keys", "VIEW authsvc.credentials":
            await connection.execute(f"ALTER {table} RENAME COLUMN lost TO secret_hash")
        await connection.execute(
            "UPDATE authsvc.keys SET secret_hash = 'unreadable' WHERE key_prefix = $1", cold[4][:-51]
        )
        await look(cold[4])
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'authsvc'"
        )
        await faults(call, admin, turned.key.key_id, cold)
        await connection.close()

        await call("BatchRevokeKeys", admin, owner_id="acme", reason="all of them")
        await look(turned.key_string)
        await call("BatchDeleteKeys", admin, key_ids=[key_id, turned.key.key_id])
        await look(turned.key_string)
        await tell_sessions(call, admin)
        await tell_audit(call, admin, turned.key_string)
        await tell_policies(call, admin, turned.key_string)
        await tell_gateways(story, call, admin)
        await tell_web(story, call, admin)
        await tell_webhooks(call, admin, turned.key_string)
        await tell_sealed(story, call, admin)
        await tell_imports(story, call, admin)
        left = await create()
        await call("VerifyKey", admin, key_string=left.key_string)


async def tell_leaks(call: Teller, admin: str, key_string: str) -> None:
    """Replace a key by itself, and report both; the places have the key strings."""
    # From here, only credentials in memory are accepted after so many wrong ones.
    await call("VerifyKey", admin, key_string=key_string)
    turned = await call("RotateSelf", f"Bearer {key_string}", grace_period={"seconds": 60})
    assert isinstance(turned, pb.RotateSelfResponse)
    await call("VerifyKey", admin, key_string=key_string)
    await call("RevokeSelf", admin, reason="a reason")
    texts = [key_string, turned.key_string, key_string[:-1]]
    leaks = [{"key_string": text, "place": f"https://example.org/?key={text}"} for text in texts]
    for caller in ((), (admin,), (f"Bearer {key_string}",), (f"Bearer {turned.key_string}",)):
        await call("ReportLeakedKeys", *caller, leaks=leaks)


async def tell_sessions(call: Teller, admin: str) -> None:
    """Do all operations with a session, and put its token in all fields that can hold it."""
    made = await call("CreateSession", admin, owner_id="alice", scopes=["sessions:read"])
    assert isinstance(made, session_pb.CreateSessionResponse)
    token, session_id = made.session_token, made.session.session_id
    for text in (token, token[:-1], f'"{token}"', token[:-60] + token[-51:]):
        await call("VerifySession", admin, session_token=text, user_agent=token, client_ip="192.0.2.7")
        await call("VerifySession", admin, session_token=text, user_agent="x" * 500 + token)
        await call("VerifySession", admin, session_token=text, client_ip=token)
        await call("VerifySession", admin, session_token=text, required_scopes=[token])
        await call("VerifyKey", admin, key_string=text)
        await call("LookupKey", admin, key_string=text)
        await call("GetSession", f"Bearer {text}", session_id=session_id)
        await call("RevokeSession", f"Bearer {text}", session_id=session_id)
        for name in ("owner_id", "user_agent", "ip_address"):
            await call("CreateSession", admin, **({"owner_id": "alice"} | {name: text}))
        await call("CreateSession", admin, owner_id="alice", annotations={"note": text})
        await call("GetSession", admin, session_id=text)
        await call("ListSessions", admin, owner_id="alice", current_session_id=text)
        await call("ListSessions", admin, owner_id="alice", page_token=text)
        await call("RevokeSession", admin, session_id=text)
        await call("RevokeAllSessions", admin, owner_id="alice", except_session_id=text)
    await call("RevokeSession", admin, session_id=session_id)
    await call("ListSessions", admin, owner_id="alice", include_ended=True)
    await call("RevokeAllSessions", admin, owner_id="alice")
    await call("VerifySession", admin, session_token=token)


async def tell_audit(call: Teller, admin: str, key_string: str) -> None:
    """Try to get a key string into the audit log, through names, ids, reasons and refusals."""
    made = await call("CreateKey", admin, named=key_string, owner_id="acme", display_name="x")
    assert isinstance(made, pb.CreateKeyResponse)
    caller = f"Bearer {made.key_string}"
    for text in (key_string, key_string[:-1], f"see {key_string}"):
        await call("CreateSession", admin, named=text, owner_id="acme", user_agent=text)
        await call("RevokeKey", admin, named=text, key_id=made.key.key_id, revoke_in={"seconds": 60})
        await call("RevokeKey", caller, named=text, key_id=text, reason=text)
        await call("ListKeys", caller, named=text, owner_id=text)
        await call("ListAuditEvents", admin, owner_id=text)
        await call("ListAuditEvents", admin, owner_id="acme", page_token=text)
        for name in ("actor_id", "target_id"):
            await call("ListAuditEvents", admin, owner_id="acme", filter={name: text})
    for owner_id in ("acme", "alice", "authsvc"):
        await call("ListAuditEvents", admin, owner_id=owner_id, page_size=1000)


async def tell_policies(call: Teller, admin: str, key_string: str) -> None:
    """Disable and enable keys, and try to get a key string into a policy."""
    for keys_enabled in False, True:
        policy: dict[str, object] = {"owner_id": "policed", "keys_enabled": keys_enabled}
        await call(
            "UpdateOwnerPolicy",
            admin,
            policy=policy,
            update_mask={"paths": ["keys_enabled"]},
            named=key_string,
        )
        await call("CreateKey", admin, owner_id="policed", display_name="x")
    for name, value in (("owner_id", key_string), ("brand", key_string), ("allowed_scopes", [key_string])):
        policy = {"owner_id": "policed", name: value}
        await call("UpdateOwnerPolicy", admin, policy=policy, update_mask={"paths": [name]})
    await call(
        "UpdateOwnerPolicy", admin, policy={"owner_id": "policed"}, update_mask={"paths": [key_string]}
    )
    await call("GetOwnerPolicy", admin, owner_id=key_string)
    await call("GetOwnerPolicy", admin, owner_id="policed")


async def tell_gateways(story: Story, call: Teller, admin: str) -> None:
    """Send a key to proxies in all supported places, valid and not, and in wrong places."""
    made = await call("CreateKey", admin, owner_id="acme", display_name="x")
    assert isinstance(made, pb.CreateKeyResponse)
    key_string = made.key_string
    basic = base64.b64encode(f"{key_string}:".encode()).decode()
    shown = [
        {"authorization": f"Bearer {key_string}"},
        {"authorization": f"Bearer {key_string[:-1]}"},
        {"authorization": f"Bearer {key_string}, Bearer {key_string}"},
        {"authorization": f"Basic {basic}"},
        {"x-api-key": key_string, "user-agent": key_string},
        {"x-api-key": key_string, "authorization": f"Bearer {key_string[::-1]}"},
        {"cookie": f"session={key_string}; other={key_string}", "x-auth-owner-id": key_string},
    ]
    for headers in shown:
        for target in "/orders", f"/orders?key={key_string}", f"/{key_string}/..":
            await call.check(admin, headers, target)
            await asyncio.to_thread(ask_over_http, story, admin, headers, target)
    await call.check(f"Bearer {key_string}", {}, "/")
    await call.check(
        admin, shown[0], "/", {"authsvc.required_scopes": key_string, f"authsvc.{key_string}": "x"}
    )
    await asyncio.to_thread(ask_over_http, story, admin, shown[0], "/", f"/check?scope={key_string}")


def ask_over_http(
    story: Story, own: str, headers: dict[str, str], target: str, question: str = "/check"
) -> None:
    """Check a request as nginx does, and record the response, except for the upstream's own cookies."""
    connection = http.client.HTTPConnection(story.http, timeout=30)
    told = {
        "x-authsvc-key": own.removeprefix("Bearer "),
        "x-forwarded-method": "GET",
        "x-forwarded-uri": target,
    }
    connection.request("GET", question, headers=headers | told)
    answer = connection.getresponse()
    body, given = answer.read(), [pair for pair in answer.getheaders() if pair[0] != "x-auth-cookie"]
    story.note("answers", answer.status, given, body)
    connection.close()


async def tell_web(story: Story, call: Teller, admin: str) -> None:
    """Send a key over HTTP and to the console, to where it belongs and to where it does not."""
    made = await call("CreateKey", admin, owner_id="web", display_name="web")
    assert isinstance(made, pb.CreateKeyResponse)
    key_string, rpc = made.key_string, "/authsvc.v1.KeyService/VerifyKey"
    escaped = "".join(f"\\u{ord(character):04x}" for character in key_string)
    async with httpx.AsyncClient(base_url=f"http://{story.web}", timeout=30, trust_env=False) as client:

        async def ask(path: str, content: str, **headers: str) -> None:
            sent = {"content_type": "application/json", "authorization": admin, **headers}
            sent = {name.replace("_", "-"): value for name, value in sent.items()}
            answer = await client.post(path, content=content, headers=sent)
            story.note("answers", answer.status_code, answer.headers.multi_items(), answer.content)

        for content in (
            json.dumps({"key_string": key_string}),
            json.dumps({"key_string": [key_string]}),
            json.dumps({key_string: key_string}),
            json.dumps({"required_scopes": [key_string]}),
            f'{{"required_scopes": ["{escaped}"]}}',
            f'{{"key_string": "{key_string}',
            key_string,
        ):
            await ask(rpc, content)
            await ask("/authsvc.v1.KeyService/ListKeys", content)
        await ask(f"/{key_string}", key_string, authorization=key_string, x_request_id=key_string)
        await ask(rpc, "{}", connect_timeout_ms=key_string, content_encoding=key_string)
        basic = "Basic " + base64.b64encode(f"{key_string}:{key_string}".encode()).decode()
        for path in ("/introspect", "/revoke"):
            for credential in (f"Bearer {key_string[::-1]}", basic, key_string, admin):
                form = {"content_type": "application/x-www-form-urlencoded", "authorization": credential}
                for content in (f"{key_string}={key_string}", f"token={key_string}&token={key_string}"):
                    await ask(path, content, **form)
                await ask(f"{path}?token={key_string}", "", **form)
                await ask(path, f"token={key_string}", **form)
    await tell_console(story, admin, key_string)


async def tell_console(story: Story, admin: str, key_string: str) -> None:
    """Sign in with keys and with what is none, and put a key into addresses and forms."""
    browser = Browser(f"http://{story.web}")
    for text in (key_string, key_string[::-1], admin.removeprefix("Bearer ")):
        story.note("answers", (await browser.sign_in(text)).content)
    [token] = [cookie.value for cookie in browser.http.cookies.jar if cookie.name == "authsvc"]
    assert token is not None
    story.learn(token)
    for path in ("/keys", "/audit", "/devices", "/status", f"/keys/{key_string}", f"/{key_string}"):
        answer = await browser.open(path, owner="web", search=key_string, next=key_string)
        story.note("answers", answer.headers.multi_items(), answer.content)
    await browser.open("/keys/new", owner="web")
    refused = await browser.send(name=key_string, description=key_string)
    story.note("answers", refused.headers.multi_items(), refused.content)
    await browser.open("/keys/new", owner="web")
    shown = (await browser.send(name="by the console")).text
    [created] = re.findall(r"authsvc_live_\w{63}", shown)
    story.learn(created)
    story.note("answers", shown.replace(created, ""))
    story.note("answers", (await browser.open("/keys", owner="web")).content)
    await browser.http.aclose()


async def faults(call: Teller, admin: str, key_id: str, cold: list[str]) -> None:
    """Make calls that run into the current fault."""
    await call("VerifyKey", admin, key_string=cold[0])
    await call("BatchVerifyKeys", admin, requests=[{"key_string": text} for text in cold])
    await call("LookupKey", admin, key_string=cold[1])
    await call("GetKey", f"Bearer {cold[2]}", key_id=key_id)
    await call("CreateKey", admin, owner_id="acme", display_name="Orders")
    await call("CreateKey", f"Bearer {cold[3]}", owner_id="acme", display_name="Orders")
    await call("RotateKey", admin, key_id=key_id)


async def paste(call: Teller, admin: str, key_id: str, key_string: str) -> None:
    """Put a key string into every field that is not for one."""
    new = {"owner_id": "acme", "display_name": "Orders"}
    for text in key_string, f"see {key_string}!":
        for name in ("owner_id", "display_name", "description", "brand", "environment", "request_id"):
            await call("CreateKey", admin, **(new | {name: text}))
        await call("CreateKey", admin, **new, scopes=[text])
        await call("CreateKey", admin, **new, annotations={"note": text})
        await call("CreateKey", admin, **new, annotations={text: "note"})
        await call("CreateKey", admin, **new, technical_contacts=[{"name": text, "email": "a@example.org"}])
        await call("CreateKey", admin, **new, technical_contacts=[{"name": "a", "email": text}])
        await call(
            "CreateKey", admin, **new, technical_contacts=[{"name": "a", "email": f"{text}@example.org"}]
        )
        for method in ("GetKey", "RotateKey", "RevokeKey", "DeleteKey"):
            await call(method, admin, key_id=text)
        await call("RevokeKey", admin, key_id=key_id, reason=text)
        await call("RotateKey", admin, key_id=key_id, request_id=text)
        for method in ("BatchRevokeKeys", "BatchDeleteKeys"):
            await call(method, admin, key_ids=[text])
        await call("BatchRevokeKeys", admin, owner_id="acme", reason=text)
        for name in ("owner_id", "order_by", "page_token"):
            await call("ListKeys", admin, **({"owner_id": "acme"} | {name: text}))
        for name in ("query", "creator_id", "scope"):
            await call("ListKeys", admin, owner_id="acme", filter={name: text})
        for name in ("display_name", "description", "owner_id", "revoke_reason", "etag"):
            await call("UpdateKey", admin, key={"key_id": key_id, name: text}, update_mask={"paths": [name]})
        await call("UpdateKey", admin, key={"key_id": key_id}, update_mask={"paths": [text]})
        await call(
            "UpdateKey",
            admin,
            key={"key_id": key_id, "annotations": {text: "note"}},
            update_mask={"paths": ["annotations"]},
        )


def tell_commands(story: Story, server: Server) -> None:
    """Use the command line, where only create and rotate may print key strings."""
    made = server.run("webhooks", "create", "shell", URL)
    webhook_id = re.findall(r"whk_\w{26}", made.stderr)[0]
    turned = server.run("webhooks", "rotate-secret", webhook_id)
    story.webhook_secrets += [made.stdout.strip(), turned.stdout.strip()]
    story.note("commands", made.stderr, turned.stderr)
    for arguments in (
        ("list", "shell"),
        ("get", webhook_id, "--json"),
        ("update", webhook_id, "--description", made.stdout.strip()),
        ("create", "shell", f"{URL}?secret={turned.stdout.strip()}"),
        ("create", "shell", URL, "--contact", turned.stdout.strip()),
        ("get", turned.stdout.strip()),
    ):
        done = server.run("webhooks", *arguments)
        story.note("commands", done.stdout, done.stderr)
    to = "--seal-to", story.recipient.public
    made = server.run("keys", "create", "acme", "Orders", *to)
    key_id = re.findall(r"key_\w{26}", made.stderr)[0]
    turned = server.run("keys", "rotate", key_id, *to)
    refused = server.run("keys", "rotate", key_id, "--seal-to", story.recipient.secret)
    for done in made, turned:
        story.learn(story.recipient.open(done.stdout))
    for done in made, turned, refused:
        story.note("commands", done.stdout, done.stderr)
    made = server.run("keys", "create", "acme", "Orders", "--scope", "keys:read")
    key_id = re.findall(r"key_\w{26}", made.stderr)[0]
    key_string = story.learn(made.stdout.strip())
    turned = server.run("keys", "rotate", key_id, "--grace", "1h")
    story.learn(turned.stdout.strip())
    story.note("commands", made.stderr, turned.stderr)
    for done in (
        server.run("keys", "list", "acme"),
        server.run("keys", "list", "acme", "--json", key=key_string),
        server.run("keys", "revoke", key_id),
        server.run("keys", "list", "acme", key=key_string),
        server.run("keys", "create", "acme", key_string),
        server.run("keys", "create", "acme", "Orders", "--annotation", key_string),
        server.run("keys", "create", "acme", "Orders", "--contact", key_string),
    ):
        story.note("commands", done.stdout, done.stderr)


async def tell_imports(story: Story, call: Teller, admin: str) -> None:
    """Import strings that were made elsewhere, which no log can tell by their form, and use them."""
    salted, digested, own, unknown = (
        story.learn(f"tok-{number}-{secrets.token_hex(3)}" + secrets.token_hex(26)[:51])
        for number in range(4)
    )
    hashed = bcrypt.hashpw(salted.encode(), bcrypt.gensalt(4)).decode()
    digests = [f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for text in (digested, own)]
    keys = [
        {"hash": hashed, "look_up_prefix": salted[:12], "display_name": "Old", "scopes": ["keys:read"]},
        {"hash": digests[0], "display_name": "Old", "scopes": ["keys:read"]},
        # The string itself, by mistake.
        {"hash": unknown, "display_name": "Old"},
        {"hash": hashed, "look_up_prefix": unknown, "display_name": "Old"},
        {"hash": unknown, "look_up_prefix": unknown[:32], "display_name": " "},
    ]
    for text in (salted, digested, unknown):
        await call("VerifyKey", admin, key_string=text)
    for only_checked in (True, False, False):
        await call("ImportKeys", admin, owner_id="acme", keys=keys, validate_only=only_checked)
    await call("CreateKey", admin, owner_id="acme", display_name="Old", key_hash=unknown)
    made = await call("CreateKey", admin, owner_id="acme", display_name="Old", key_hash=digests[1])
    assert isinstance(made, pb.CreateKeyResponse)
    story.key_strings.remove("")  # that of the answer
    for _ in range(2):  # cold, then warm and revoked
        for text in (salted, digested, own, unknown, salted[:-1], f"{digested}x"):
            await call("VerifyKey", admin, key_string=text)
            await call("BatchVerifyKeys", admin, requests=[{"key_string": text}, {"key_string": salted}])
            await call("LookupKey", admin, key_string=text)
            await call("ListKeys", f"Bearer {text}", owner_id="acme")
            await call("ListKeys", f"Bearer {text}", f"Bearer {text}", owner_id="acme")
            await call.check(admin, {"authorization": f"Bearer {text}"}, "/orders", {"scopes": "keys:read"})
        await call("ReportLeakedKeys", leaks=[{"key_string": text} for text in (salted, digested, unknown)])


async def tell_sealed(story: Story, call: Teller, admin: str) -> None:
    """Create and rotate sealed keys, use them, and put the private key into fields."""
    recipient = story.recipient
    made = await call("CreateKey", admin, owner_id="acme", display_name="x", seal_to=recipient.public)
    assert isinstance(made, pb.CreateKeyResponse)
    turned = await call("RotateKey", admin, key_id=made.key.key_id, seal_to=recipient.public)
    assert isinstance(turned, pb.RotateKeyResponse)
    opened = recipient.open(turned.sealed_key_string)
    await call("VerifyKey", admin, key_string=opened)
    for text in (opened, recipient.secret, recipient.secret[:-9], f"{recipient.public} {recipient.secret}"):
        await call("CreateKey", admin, owner_id="acme", display_name="x", seal_to=text)
        await call("CreateKey", admin, owner_id="acme", display_name=text)
        await call("CreateKey", admin, owner_id=text, display_name="x", annotations={text: text})
        await call("RotateKey", admin, key_id=turned.key.key_id, seal_to=text)
        await call("RevokeKey", admin, key_id=made.key.key_id, reason=text, named=text)
        await call("VerifyKey", admin, key_string=text)
        await call("CreateSession", admin, owner_id="acme", user_agent=text)
        await call("GetKey", f"Bearer {text}", key_id=made.key.key_id)
    await call("ListAuditEvents", admin, owner_id="acme", page_size=1000)


URL = "https://hooks.invalid/authsvc"


async def tell_webhooks(call: Teller, admin: str, key_string: str) -> None:
    """Do all operations with a webhook, and put its secret into all fields."""
    made = await call("CreateWebhook", admin, owner_id="acme", url=URL, disabled=True)
    assert isinstance(made, webhook_pb.CreateWebhookResponse)
    webhook_id = made.webhook.webhook_id
    turned = await call("RotateWebhookSecret", admin, webhook_id=webhook_id, overlap={"seconds": 60})
    assert isinstance(turned, webhook_pb.RotateWebhookSecretResponse)
    await call("GetWebhook", admin, webhook_id=webhook_id)
    await call("ListWebhooks", admin, owner_id="acme")
    await call("TestWebhook", admin, webhook_id=webhook_id)
    await call("ListWebhookDeliveries", admin, webhook_id=webhook_id)
    await call("RedeliverWebhook", admin, delivery_id="dlv_nothing")
    for text in (made.secret, turned.secret, f"see {turned.secret}!", turned.secret[:-8], key_string):
        new = {"owner_id": "acme", "url": URL}
        for name in ("owner_id", "url", "description"):
            await call("CreateWebhook", admin, **(new | {name: text}))
        await call("CreateWebhook", admin, **(new | {"url": f"{URL}?a={text}"}))
        await call("CreateWebhook", admin, **new, event_types=[text])
        await call(
            "CreateWebhook", admin, **new, technical_contacts=[{"name": text, "email": "a@example.org"}]
        )
        await call("CreateWebhook", admin, **new, technical_contacts=[{"name": "a", "email": text}])
        for name in ("url", "description", "etag", "creator_id"):
            webhook = {"webhook_id": webhook_id, name: text}
            await call("UpdateWebhook", admin, webhook=webhook, update_mask={"paths": [name]})
        for method in ("GetWebhook", "DeleteWebhook", "RotateWebhookSecret", "TestWebhook"):
            await call(method, admin, webhook_id=text)
        await call("ListWebhooks", admin, owner_id="acme", page_token=text)
        await call("RedeliverWebhook", admin, delivery_id=text)
        await call("GetWebhook", f"Bearer {text}", webhook_id=webhook_id)
        await call("GetWebhook", admin, webhook_id=webhook_id, named=text)
        await call("CreateKey", admin, owner_id="acme", display_name=text)
        await call("VerifyKey", admin, key_string=text, client_ip=text)
        await call("CreateSession", admin, owner_id="acme", user_agent=text)
    await call("ListAuditEvents", admin, owner_id="acme")
    await call("DeleteWebhook", admin, webhook_id=webhook_id)


async def dump(url: str, directory: Path) -> bytes:
    """Return the whole content of the database: with pg_dump if it is available, and always row by row."""
    parts = []
    pg_dump = Binaries.find().directory / "pg_dump"
    if pg_dump.exists() and os.access(pg_dump, os.X_OK):
        done = run(pg_dump, url, "--inserts", cwd=directory, env=environment())
        assert done.code == 0, done.stderr
        parts.append(done.stdout.encode())
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'authsvc'")
        for (table,) in tables:
            query = f"SELECT * FROM authsvc.{table}"  # noqa: S608 - a name out of the catalogue
            parts += [repr(row).encode() for row in await connection.fetch(query)]
    finally:
        await connection.close()
    return b"\n".join(parts)


@pytest.mark.parametrize("source", SOURCES)
async def test_no_key_string_leaves(story: Story, source: str) -> None:  # rule 1
    """It contains no key string, no part of a secret and no encoded form of either."""
    assert leaks(story.text(source), story.key_strings) == []


@pytest.mark.parametrize("source", SOURCES)
async def test_no_identity_of_a_recipient_leaves(story: Story, source: str) -> None:
    """Nothing repeats the private key that somebody sent instead of the public one, nor a part of it."""
    secret = story.recipient.secret.removeprefix("AGE-SECRET-KEY-1")
    text = COLOURS.sub(b"", story.text(source)).upper()
    parts = [secret[start : start + STRETCH] for start in range(0, len(secret) - STRETCH, STRETCH)]
    assert [part for part in parts if part.encode() in text] == []


@pytest.mark.parametrize("source", SOURCES)
async def test_no_token_leaves(story: Story, source: str) -> None:
    """No part of the signature of a token, with which others could use it, nor of the key that signs."""
    assert story.tokens
    text = COLOURS.sub(b"", story.text(source))
    secrets = [story.token_key[-44:], *(token.rpartition(".")[2] for token in story.tokens)]
    parts = [
        secret[start : start + STRETCH]
        for secret in secrets
        for start in range(0, len(secret) - STRETCH, STRETCH)
    ]
    assert [part for part in parts if part.encode() in text] == []


@pytest.mark.parametrize("source", SOURCES)
async def test_no_secret_of_a_webhook_leaves(story: Story, source: str) -> None:
    """Neither its text, nor its bytes, nor the key that it is derived from."""
    assert webhook_leaks(story.text(source), story.webhook_secrets) == []


@pytest.mark.parametrize("source", ["log", "database", "errors"])
async def test_the_search_finds_a_secret_of_a_webhook(story: Story, source: str) -> None:
    """One that is inserted there is found in every form."""
    assert len(story.webhook_secrets) >= 5
    secret = story.webhook_secrets[-1]
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    text = story.text(source)
    for disguise in (
        secret.encode(),
        raw,
        repr(raw).encode(),
        raw.hex().encode(),
        base64.b64encode(secret.encode()),
    ):
        assert webhook_leaks(text + b" " + disguise + b" ", story.webhook_secrets), disguise


async def test_the_story_has_all_that_matters(story: Story) -> None:
    """Keys were created, calls were answered and refused with every code, and faults were logged."""
    assert len(set(story.key_strings)) >= 10
    errors = story.text("errors").decode(errors="replace")
    for code in (
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INTERNAL",
        "UNAVAILABLE",
    ):
        assert f"StatusCode.{code}" in errors, code
    assert b"unexpected error in VerifyKey" in story.text("log")
    assert b"UndefinedColumnError" in COLOURS.sub(b"", story.text("log"))
    assert b"INSERT INTO authsvc.keys" in story.text("postgresql log")
    for action in (
        b"KEY_CREATED",
        b"KEY_IMPORTED",
        b"KEY_ROTATED",
        b"OWNER_KEYS_REVOKED",
        b"SESSION_REVOKED",
        b"REFUSED",
        b"WEBHOOK_SECRET_ROTATED",
    ):
        assert action in story.text("database")
    assert b"AUDIT_ACTION_KEY_ROTATED" in story.text("answers")
    for reason in (b"x-auth-key-id", b"CREDENTIAL_INVALID", b"CREDENTIAL_AMBIGUOUS", b"GATEWAY_FAULT"):
        assert reason in story.text("answers")


@pytest.mark.parametrize("source", ["answers", "commands", "database", "postgresql log", "files"])
async def test_the_search_would_find_a_key_string(story: Story, source: str) -> None:
    """The public prefix, which is allowed, is found in these places, so the right data was searched."""
    text = story.text(source)
    present = {prefix for prefix in map(prefix_of, story.key_strings) if prefix in text}
    assert len(present) >= 2


async def test_a_fault_shown_on_a_terminal_keeps_secrets(directory: Path) -> None:  # rule 1
    """The log for people, with its coloured tracebacks, contains no more than the one for machines."""
    async with telling(directory, "text") as (told, server, url):
        await tell(told, server, url)
    assert b"unexpected error in VerifyKey" in told.text("log")
    assert leaks(told.text("log"), told.key_strings) == []


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "files"])
async def test_the_search_finds_every_form(story: Story, source: str) -> None:
    """A key string that is inserted there is found in every form."""
    key_string = story.key_strings[-1]
    secret = key_string[-51:-8]
    encoded = base64.b64encode(f"Bearer {key_string}".encode())
    disguises = [
        key_string.encode(),
        secret.encode(),
        f"{secret[:20]}\x1b[0m │\n│ \x1b[32m{secret[20:]}".encode(),
        f"{key_string[:60]}…".encode(),
        encoded,
        base64.urlsafe_b64encode(key_string.encode()),
        base64.b64encode(secret.encode()),
        key_string.encode().hex().encode(),
    ]
    text = story.text(source)
    half = len(text) // 2
    for disguise in disguises:
        planted = text[:half] + b" " + disguise + b" " + text[half:]
        assert any(key_string[:-51] in leak for leak in leaks(planted, [key_string])), disguise
