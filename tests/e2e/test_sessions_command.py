"""`authsvc sessions`: lists the devices of a user, and logs them out."""

import json
import uuid
from typing import Any

import grpc
import pytest

from authsvc.v1 import session_service_pb2 as pb
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.e2e.process import Server


@pytest.fixture
def owner() -> str:
    """A user without sessions."""
    return f"alice-{uuid.uuid4()}"


def sign_in(dev: Server, owner: str, **fields: Any) -> Any:
    """Open a session as a login service does."""
    with grpc.insecure_channel(dev.address) as channel:
        return SessionServiceStub(channel).CreateSession(
            pb.CreateSessionRequest(owner_id=owner, **fields),
            metadata=(("authorization", f"Bearer {dev.admin_key}"),),
            timeout=30,
        )


def test_a_user_is_logged_out_one_device_at_a_time(dev: Server, owner: str) -> None:  # rules 24, 25, 26
    """List, log out one, log out all but one, log out all."""
    agents = ("curl/8.5.0", "Wget/1.21", "grpc-python/1.80")
    made = [sign_in(dev, owner, user_agent=agent, ip_address="192.0.2.1") for agent in agents]
    ids = [session.session.session_id for session in made]
    done = dev.run("sessions", "list", owner)
    assert done.code == 0, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0].split()[:3] == ["id", "device", "address"]
    assert "grpc-python 1.80" in rows[1]
    assert "ACTIVE" in rows[1]
    assert not any(session.session_token[-51:] in done.stdout for session in made)

    done = dev.run("sessions", "revoke", ids[0])
    assert (done.code, "REVOKED" in done.stdout) == (0, True)
    done = dev.run("sessions", "revoke", ids[0])
    assert done.code == 1
    assert "was already revoked" in done.stderr
    assert "Traceback" not in done.stderr
    done = dev.run("sessions", "revoke-all", owner, "--except-session", ids[1])
    assert (done.code, done.stdout.strip()) == (0, "1 active session ended")
    listed = [json.loads(line) for line in dev.run("sessions", "list", owner, "--json").stdout.splitlines()]
    assert [session["session_id"] for session in listed] == [ids[1]]
    ended = dev.run("sessions", "list", owner, "--ended", "--json").stdout.splitlines()
    assert len(ended) == 3
    done = dev.run("sessions", "revoke-all", owner)
    assert done.stdout.strip() == "1 active session ended"


def test_what_is_wrong_is_said_in_one_line(dev: Server, owner: str) -> None:
    """An unknown session, an invalid owner."""
    for arguments in (("revoke", "ses_nobody"), ("list", "no such owner"), ("revoke-all", "a b")):
        done = dev.run("sessions", *arguments)
        assert (done.code, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("authsvc: ")
