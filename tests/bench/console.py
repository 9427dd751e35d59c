"""VerifyKey while 200 people open the pages of the console, one page after the other.

One service has one core; PostgreSQL, the load and the people share the other. Rounds with and without the
people are measured in turns.
"""

import os
import tempfile
from pathlib import Path
from statistics import median

import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.session_service_pb2 import CreateSessionRequest
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.bench import server
from tests.bench.bench import POSTGRES, say
from tests.bench.h2load import Load
from tests.bench.page_users import opening
from tests.bench.rounds import ratio
from tests.bench.server import VERIFY
from tests.bench.table import AtLeast, Row
from tests.e2e.process import free_port

_PART = "console"
_USERS, _KEYS = 200, 100
_SCOPES = ("keys:read", "keys:write", "sessions:read", "audit_logs:read", "policies:read")


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about the console."""
    rounds, requests = (3, 40_000) if quick else (9, 100_000)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            async with DevPostgres(Path(directory) / "postgres", settings=POSTGRES) as postgres:
                await migrate(postgres.url)
                return await _measured(postgres.url, cores[0], rounds, requests)
    finally:
        os.sched_setaffinity(0, cores)


async def _measured(url: str, core: int, rounds: int, requests: int) -> list[Row]:
    port = free_port()
    settings = {
        "AUTHSVC_WEB_LISTEN": f"127.0.0.1:{port}",
        # So that the cookie is not for TLS only.
        "AUTHSVC_CONSOLE_URL": f"http://127.0.0.1:{port}",
    }
    async with server.running(url, core=core, settings=settings) as process:
        load, token = await _prepared(url, process.address)
        await load.rate(requests)  # all code and all connections are in use
        say(f"console: {rounds} rounds of {requests:,} RPCs with {_USERS} users of pages, and without")
        rates: dict[str, list[float]] = {"users": [], "none": []}
        pages = 0
        for number in range(rounds):
            # Each is first in every other round.
            for side in ("users", "none") if number % 2 else ("none", "users"):
                if side == "none":
                    rates[side].append(await load.rate(requests))
                    continue
                async with opening(port, token, _USERS) as users:
                    rates[side].append(await load.rate(requests))
                pages += users.pages
    return [
        Row(
            _PART,
            f"VerifyKey while {_USERS} people open pages, against without; {pages:,} pages",
            f"{median(rates['users']):,.0f}/s",
            f"{median(rates['none']):,.0f}/s",
            ratio(rates["users"], rates["none"]),
            AtLeast(0.9),
        )
    ]


async def _prepared(url: str, address: str) -> tuple[Load, str]:
    """Create keys and a session for the pages; return the load, and the session token."""
    given = load_settings(listen="127.0.0.1:0", database_url=SecretStr(url), scopes="*")
    async with app.administering(given) as keys:
        minted = await keys.ensure_administrator()
        assert minted is not None
    metadata = (("authorization", f"Bearer {minted.text}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = KeyServiceStub(channel)
        made = [
            (
                await stub.CreateKey(
                    pb.CreateKeyRequest(
                        owner_id="acme", display_name=f"Key {number}", scopes=["keys:verify", "orders:read"]
                    ),
                    metadata=metadata,
                )
            ).key_string
            for number in range(_KEYS)
        ]
        session = await SessionServiceStub(channel).CreateSession(
            CreateSessionRequest(owner_id="acme", scopes=_SCOPES), metadata=metadata
        )
        request = pb.VerifyKeyRequest(key_string=made[0], required_scopes=("orders:read",))
        caller = (("authorization", f"Bearer {made[1]}"),)
        assert (await stub.VerifyKey(request, metadata=caller)).valid
    return Load(address, VERIFY, request.SerializeToString(), made[1]), session.session_token
