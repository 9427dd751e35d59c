"""The steps of the README with grpcurl: no client code, no proto files."""

import asyncio
import itertools
import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, serving
from tests.e2e.process import Server, environment, run, running

SERVICE = "authsvc.v1.KeyService"
REFLECTIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


@dataclass(frozen=True)
class Grpcurl:
    """grpcurl as one caller."""

    program: Path
    server: Server
    key_string: str = ""

    def ask(self, *arguments: str) -> str:
        """Ask about the API itself."""
        done = run(self.program, "-plaintext", self.server.address, *arguments, cwd=self.server.directory)
        assert done.code == 0, done.stderr
        return done.stdout

    def call(self, method: str, **fields: object) -> Any:
        """Call an RPC that succeeds."""
        code, answer, error = self._run(method, fields)
        assert code == 0, error
        return json.loads(answer)

    def refused(self, method: str, **fields: object) -> str:
        """Call an RPC that fails, and return the output of grpcurl."""
        code, answer, error = self._run(method, fields)
        assert (code != 0, answer) == (True, "")
        return error

    def _run(self, method: str, fields: dict[str, object]) -> tuple[int, str, str]:
        credential = ["-H", f"authorization: Bearer {self.key_string}"] if self.key_string else []
        request = ["-d", json.dumps(fields), self.server.address, f"{SERVICE}/{method}"]
        done = run(self.program, "-plaintext", *credential, *request, cwd=self.server.directory)
        return done.code, done.stdout, done.stderr


@pytest.fixture
def admin(grpcurl: Path, dev: Server) -> Grpcurl:
    return Grpcurl(grpcurl, dev, dev.admin_key)


def test_reflection_lists_the_services(admin: Grpcurl) -> None:
    """A client without proto files finds the key service, health and reflection."""
    services = admin.ask("list").split()
    assert {SERVICE, "grpc.health.v1.Health", *REFLECTIONS} <= set(services)
    assert f"{SERVICE}.CreateKey" in admin.ask("list", SERVICE).split()


@pytest.mark.parametrize("service", REFLECTIONS)
def test_reflection_describes_itself(admin: Grpcurl, service: str) -> None:
    """Each of the two versions, with messages of its own package."""
    package = service.rpartition(".")[0]
    described = admin.ask("describe", service)
    request, response = f".{package}.ServerReflectionRequest", f".{package}.ServerReflectionResponse"
    assert f"( stream {request} ) returns ( stream {response} )" in described


@pytest.mark.parametrize("only", REFLECTIONS)
async def test_either_reflection_is_enough(
    grpcurl: Path, database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """A client finds everything with only v1 and with only v1alpha, and both have the same comments."""
    monkeypatch.setattr("authsvc.rpc.reflection.SERVICES", (only,))
    async with serving(database_url, clock) as service:
        described = await asyncio.to_thread(
            run,
            grpcurl,
            "-plaintext",
            service.address,
            "describe",
            f"{SERVICE}.RevokeKey",
            cwd=grpcurl.parent,
        )
    assert described.code == 0, described.stderr
    assert "// Revokes a key, now or at a scheduled time." in described.stdout


def test_reflection_tells_the_comments_of_the_service(admin: Grpcurl) -> None:
    """Every RPC is described with its comment and the scope that it needs, if it needs one."""
    described = admin.ask("describe", SERVICE)
    assert "// Issues, lists, rotates, revokes and verifies API keys." in described
    commented = re.findall(r"^ *//.*\n *rpc (\w+)", described, re.MULTILINE)
    assert len(commented) == described.count("rpc ")
    rpcs = re.findall(r"rpc (\w+).*\{\n *option .*required_scope\) = \"(\S+)\";", described)
    assert {name for name, _ in rpcs} == set(commented) - {"ReportLeakedKeys"}
    assert dict(rpcs)["VerifyKey"] == "keys:verify"


def test_reflection_tells_the_comments_of_an_rpc(admin: Grpcurl) -> None:
    """One RPC can be described by its own name."""
    described = admin.ask("describe", f"{SERVICE}.RevokeKey")
    assert "// Revokes a key, now or at a scheduled time." in described
    assert 'required_scope) = "keys:write"' in described


@pytest.mark.parametrize("message", ["CreateKeyRequest", "Key", "VerdictCode"])
def test_reflection_tells_the_comments_of_a_message(admin: Grpcurl, message: str) -> None:
    """Each field of a message and each value of an enum is described with its comment."""
    lines = [line.strip() for line in admin.ask("describe", f"authsvc.v1.{message}").splitlines()]
    described = [(before, line) for before, line in itertools.pairwise(lines) if " = " in line]
    fields = [(before, line) for before, line in described if re.match(r"[\w.<>, ]+ = \d+", line)]
    assert fields
    assert [line for before, line in fields if not before.startswith("//")] == []


def test_a_key_from_birth_to_death(admin: Grpcurl) -> None:  # rules 1, 9, 11, 16, 18, 19, 30
    """Create, verify, list, rotate with a grace period, revoke, be refused, delete, be unknown."""
    owner = f"acme-{uuid.uuid4()}"
    made = admin.call("CreateKey", owner_id=owner, display_name="Orders", scopes=["orders:read"])
    key_id, key_string = made["key"]["keyId"], made["keyString"]

    verdict = admin.call("VerifyKey", key_string=key_string, required_scopes=["orders:read"])
    assert verdict["valid"] is True
    assert (verdict["code"], verdict["keyId"], verdict["ownerId"]) == ("VERDICT_CODE_VALID", key_id, owner)

    [listed] = admin.call("ListKeys", owner_id=owner)["keys"]
    assert (listed["displayName"], listed["state"], listed["scopes"]) == (
        "Orders",
        "KEY_STATE_ACTIVE",
        ["orders:read"],
    )
    assert key_string.startswith(listed["keyPrefix"])
    assert key_string not in json.dumps(listed)

    turned = admin.call("RotateKey", key_id=key_id, grace_period="3600s")
    assert turned["key"]["rotatedFromKeyId"] == key_id
    for each in key_string, turned["keyString"]:
        assert admin.call("VerifyKey", key_string=each)["valid"] is True

    assert admin.call("RevokeKey", key_id=key_id, reason="leaked")["state"] == "KEY_STATE_REVOKED"
    verdict = admin.call("VerifyKey", key_string=key_string)
    assert "valid" not in verdict
    assert verdict["code"] == "VERDICT_CODE_REVOKED"
    assert admin.call("VerifyKey", key_string=turned["keyString"])["valid"] is True
    assert len(admin.call("ListKeys", owner_id=owner)["keys"]) == 2

    assert admin.call("DeleteKey", key_id=key_id) == {}
    assert admin.call("VerifyKey", key_string=key_string) == {"code": "VERDICT_CODE_NOT_FOUND"}
    assert "Code: NotFound" in admin.refused("GetKey", key_id=key_id)


def test_a_key_is_changed(admin: Grpcurl) -> None:
    """The fields are given in the form that the description of the request shows."""
    key_id = admin.call("CreateKey", owner_id="acme", display_name="Orders")["key"]["keyId"]
    described = admin.ask("describe", "authsvc.v1.UpdateKeyRequest")
    form = re.search(r'with grpcurl,\s+// `(\{"paths": .+\})`', described)
    assert form is not None, described
    changed = admin.call(
        "UpdateKey",
        key={"key_id": key_id, "display_name": "Parcels", "scopes": ["parcels:read"], "description": "x"},
        update_mask=json.loads(form[1]),
    )
    assert (changed["displayName"], changed["scopes"]) == ("Parcels", ["parcels:read"])
    assert "description" not in changed


def test_a_bad_field_is_told_with_its_remedy(admin: Grpcurl) -> None:
    """The error has the field, a stable reason, and the remedy."""
    error = admin.refused("CreateKey", owner_id="ac me", display_name="Orders")
    assert "Code: InvalidArgument" in error
    assert "Message: owner_id: use 1 to 128 characters" in error
    assert '"field": "owner_id"' in error
    assert '"reason": "STRING_OWNER"' in error
    assert '"domain": "authsvc"' in error


def test_a_refusal_is_told_with_its_remedy(admin: Grpcurl) -> None:  # rule 18
    """The error says in which order to do things, and has a machine-readable reason."""
    key_id = admin.call("CreateKey", owner_id="acme", display_name="Orders")["key"]["keyId"]
    error = admin.refused("DeleteKey", key_id=key_id)
    assert "Code: FailedPrecondition" in error
    assert f"key {key_id} is not revoked yet; revoke first, then delete" in error
    assert '"reason": "KEY_NOT_REVOKED"' in error


def test_a_repeated_request_mints_nothing(admin: Grpcurl) -> None:
    """The second call with a request_id fails, and names the key that the first one created."""
    request = {"owner_id": "acme", "display_name": "Orders", "request_id": str(uuid.uuid4())}
    key_id = admin.call("CreateKey", **request)["key"]["keyId"]
    error = admin.refused("CreateKey", **request)
    assert "Code: AlreadyExists" in error
    assert f'"key_id": "{key_id}"' in error


def test_no_credential_is_told_what_to_send(admin: Grpcurl) -> None:  # rule 6
    """A caller without a key is told how to send one."""
    error = Grpcurl(admin.program, admin.server).refused("ListKeys", owner_id="acme")
    assert "Code: Unauthenticated" in error
    assert "authorization: Bearer <key string>" in error
    assert '"reason": "CREDENTIAL_MISSING"' in error


def test_a_caller_without_the_scope_is_told_which(admin: Grpcurl) -> None:  # rule 6
    """A key that can only verify cannot create keys; the error names the missing scope."""
    gateway = admin.call("CreateKey", owner_id="acme", display_name="Gateway", scopes=["keys:verify"])
    error = Grpcurl(admin.program, admin.server, gateway["keyString"]).refused(
        "CreateKey", owner_id="acme", display_name="Orders"
    )
    assert "Code: PermissionDenied" in error
    assert '"required_scope": "keys:write"' in error


@pytest.fixture(scope="module")
def first_start(reachable_dir: Path) -> Iterator[Server]:
    """A first start as people run it, with a relative data directory."""
    directory = reachable_dir / "first"
    directory.mkdir()
    with running("dev", directory, data_dir="data") as server:
        yield server


def printed_commands(server: Server) -> list[str]:
    """Return the commands of the welcome message without changes."""
    _, _, below = server.stdout.partition("Try it in another terminal:\n")
    return [block for block in below.split("\n\n") if block.strip()]


def shell(command: str, grpcurl: Path, cwd: Path) -> tuple[int, str, str]:
    path = f"{grpcurl.absolute().parent}{os.pathsep}{os.environ['PATH']}"
    done = run("bash", cwd=cwd, env=environment() | {"PATH": path}, stdin=command + "\n")
    return done.code, done.stdout, done.stderr


def test_the_printed_commands_work(first_start: Server, grpcurl: Path) -> None:
    """The three commands of the first start work when they are pasted into a shell."""
    commands = printed_commands(first_start)
    answers = []
    for command in commands:
        code, answer, error = shell(command, grpcurl, first_start.directory)
        assert (code, error) == (0, ""), command
        answers.append(json.loads(answer))
    created, listed, verified = answers
    assert created["keyString"].startswith(created["key"]["keyPrefix"])
    assert [key["keyId"] for key in listed["keys"]] == [created["key"]["keyId"]]
    assert verified["valid"] is True


def test_the_printed_commands_work_in_another_terminal(first_start: Server, grpcurl: Path) -> None:
    """They work in any working directory of the other terminal, for instance at home."""
    for command in printed_commands(first_start):
        code, _, error = shell(command, grpcurl, Path("/"))
        assert (code, error) == (0, ""), command


@pytest.fixture
def watched(grpcurl: Path, reachable_dir: Path) -> Path:
    """The real grpcurl, behind a wrapper that records in `arguments` what a process list would show."""
    directory = reachable_dir / f"watched-{uuid.uuid4()}"
    directory.mkdir()
    program = directory / "grpcurl"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {directory}/arguments\nexec {grpcurl.absolute()} "$@"\n'
    )
    program.chmod(0o755)
    return program


def test_the_printed_commands_show_no_key(first_start: Server, watched: Path) -> None:  # rule 1
    """Other users of the machine can list processes with their arguments."""
    for command in printed_commands(first_start):
        code, _, error = shell(command, watched, first_start.directory)
        assert (code, error) == (0, ""), command
    arguments = (watched.parent / "arguments").read_text("utf-8")
    assert "VerifyKey" in arguments
    assert first_start.admin_key[-51:] not in arguments


def test_the_function_of_the_readme(dev: Server, watched: Path, checkout: Path) -> None:
    """It calls as the administrator, with a request that contains a key, and shows neither."""
    readme = (checkout / "README.md").read_text("utf-8")
    [function] = re.findall(r"^call\(\) \{.*?^\}\n", readme, re.MULTILINE | re.DOTALL)
    function = function.replace("127.0.0.1:50051", dev.address)
    function = function.replace(".data/admin.key", f"{dev.data_dir}/admin.key")
    made = 'call KeyService/CreateKey \'{"owner_id": "acme", "display_name": "x"}\''
    code, answer, error = shell(function + made, watched, Path("/"))
    assert code == 0, error
    key_string = json.loads(answer)["keyString"]
    verify = f"call KeyService/VerifyKey '{json.dumps({'key_string': key_string})}'"
    code, answer, error = shell(function + verify, watched, Path("/"))
    assert (code, json.loads(answer)["valid"]) == (0, True), error
    arguments = (watched.parent / "arguments").read_text("utf-8")
    for secret in key_string, dev.admin_key:
        assert secret[-51:] not in arguments
