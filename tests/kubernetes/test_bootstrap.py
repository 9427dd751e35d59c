"""`authsvc bootstrap --kubernetes-secret` writes the administrator key into a Secret, and nowhere else."""

import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import pytest

from authsvc.cli.bootstrap import _write
from authsvc.cli.call import ClientError
from authsvc.cli.kubernetes_secret import KubernetesSecret, SecretError
from authsvc.keys import Keys
from authsvc.model.errors import Unavailable
from tests.certificates import Authority
from tests.e2e import forks
from tests.e2e.process import Ended, authsvc, environment, running
from tests.e2e.test_bootstrap_command import accepts, minted
from tests.e2e.test_keys_command import KEY_STRING
from tests.kubernetes.secrets_api import TOKEN, Call, Lost, SecretsApi, serving_secrets, status

NAME = "authsvc-administrator"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def api(mount: Path) -> Iterator[SecretsApi]:
    with serving_secrets(mount) as api:
        yield api


class Pod:
    """The bootstrap Job's pod."""

    def __init__(self, mount: Path, database_url: str, port: int) -> None:
        self._mount, self._database_url = mount, database_url
        self.env = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(port),
            "IN_POD": str(mount),
            "IN_POD_AT_ONCE": "1",
        }

    def bootstrap(self, *arguments: str, name: str = NAME) -> Ended:
        """Run the command; see that it shows neither the token nor a key string."""
        done = forks.run(
            "tests.kubernetes.in_pod",
            *("bootstrap", "--kubernetes-secret", name, *arguments),
            cwd=self._mount,
            env={**environment(database_url=self._database_url), **self.env},
        )
        told = done.stdout + done.stderr
        assert not KEY_STRING.search(told)
        assert TOKEN not in told
        assert "Traceback" not in told
        return Ended(done.returncode, done.stdout, " ".join(done.stderr.split()))


@pytest.fixture
def pod(mount: Path, database_url: str, api: SecretsApi) -> Pod:
    return Pod(mount, database_url, api.port)


def key_in(api: SecretsApi) -> str:
    """Return the key string in the Secret."""
    key = b64decode(api.secrets[NAME]["data"]["key"]).decode()
    assert KEY_STRING.fullmatch(key)
    return key


async def states(database_url: str) -> list[bool]:
    """Return of each key whether it is revoked."""
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT revoke_time FROM authsvc.keys ORDER BY create_time")
    await connection.close()
    return [row["revoke_time"] is not None for row in rows]


async def test_the_key_is_in_the_secret_and_nowhere_else(
    pod: Pod, api: SecretsApi, directory: Path, database_url: str
) -> None:  # rule 1
    """It is an administrator key. The attempt before it, which writes nothing, holds no key."""
    done = pod.bootstrap("--display-name", "Ada")
    assert (done.code, done.stdout) == (0, "")
    key = key_in(api)
    assert done.stderr == (
        f"The administrator key {key[:25]}... is in the Secret '{NAME}', under 'key'. "
        "Protect it like a root password."
    )
    assert [(call.method, call.is_dry) for call in api.calls] == [
        ("GET", False),
        ("POST", True),
        ("POST", False),
    ]
    assert key not in repr(api.calls[1].body)
    assert api.secrets[NAME]["type"] == "Opaque"
    with running("serve", directory, database_url=database_url) as server:
        assert accepts(server, key)


async def test_it_runs_once(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """A second run, as at each upgrade, changes neither the Secret nor the keys."""
    assert pod.bootstrap().code == 0
    key = key_in(api)
    done = pod.bootstrap()
    assert (done.code, done.stderr) == (0, f"The Secret '{NAME}' exists; nothing was done.")
    assert key_in(api) == key
    assert await states(database_url) == [False]


async def test_an_administrator_is_enough(pod: Pod, api: SecretsApi, mount: Path, database_url: str) -> None:
    """One that was created before stays the only one; --force creates another."""
    minted(authsvc("bootstrap", cwd=mount, database_url=database_url))
    done = pod.bootstrap()
    assert done.code == 0
    assert re.search(r"There is a working administrator key: key_\w{26} .* was not created\.", done.stderr)
    assert "run the command once with --force" in done.stderr
    assert api.secrets == {}
    assert pod.bootstrap("--force").code == 0
    assert key_in(api)
    assert await states(database_url) == [False, False]


async def test_force_overwrites_no_secret(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """It needs another name, or the old Secret deleted."""
    api.secrets[NAME] = {"data": {}}
    done = pod.bootstrap("--force")
    assert (done.code, done.stderr) == (
        1,
        f"authsvc: the Secret '{NAME}' exists; delete it, or name another one",
    )
    assert await states(database_url) == []


@pytest.mark.parametrize("verb", ["get", "create"])
async def test_without_the_permission_no_key_is_created(
    pod: Pod, api: SecretsApi, database_url: str, verb: str
) -> None:
    """The error has what the API says, and the remedy."""
    method = {"get": "GET", "create": "POST"}[verb]

    def refuse(call: Call) -> tuple[int, object] | None:
        return (403, status(403, "Forbidden", "quota of secrets")) if call.method == method else None

    api.fault = refuse
    done = pod.bootstrap()
    assert (done.code, done.stderr) == (
        1,
        f"authsvc: cannot {verb} the Secret '{NAME}' in the namespace 'shop' (403 Forbidden): quota of "
        "secrets; the service account needs a Role that may create secrets, and get the one of the name "
        f"{NAME}",
    )
    assert await states(database_url) == []


async def test_a_key_that_cannot_be_stored_is_revoked(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """So the next run creates one. The message of the API is not shown: it may name the key."""
    bodies: list[Any] = []

    def refuse(call: Call) -> tuple[int, object] | None:
        if call.method == "GET" or call.is_dry:
            return None
        bodies.append(call.body)
        return 422, status(422, "Invalid", f"refused: {b64decode(call.body['data']['key']).decode()}")

    api.fault = refuse
    done = pod.bootstrap()
    assert done.code == 1
    assert re.fullmatch(
        rf"authsvc: the Secret '{NAME}' could not be created \(422 Invalid\); the administrator key "
        r"authsvc_live_\w{12}\.\.\. was revoked again",
        done.stderr,
    )
    assert bodies[0]["data"]["key"] not in done.stderr
    assert await states(database_url) == [True]
    api.fault = lambda _: None
    assert pod.bootstrap().code == 0
    assert key_in(api)
    assert await states(database_url) == [True, False]


async def test_a_key_that_can_neither_be_stored_nor_revoked() -> None:
    """It works, so it is named, with both reasons."""
    keys, secret = mock.Mock(spec=Keys), mock.Mock(spec=KubernetesSecret)
    secret.create.side_effect = SecretError("the Secret could not be created")
    keys.list.side_effect = Unavailable("the database is out of reach", reason="x", retry_after=1)
    minted = mock.Mock(text="hunter2", prefix="authsvc_live_abcdefghijkl")
    with pytest.raises(ClientError) as told:
        await _write(keys, minted, secret)
    assert str(told.value) == (
        "the Secret could not be created; the administrator key authsvc_live_abcdefghijkl..., which nobody "
        "has, could not be revoked again: the database is out of reach. Run the command with --force, then "
        "revoke this key"
    )


async def test_a_lost_answer_is_no_failure(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """The Secret was written: the next attempt is told that it exists, and finds the key in it."""
    lost: list[Call] = []

    def lose(call: Call) -> tuple[int, object] | None:
        if call.method == "POST" and not call.is_dry and not lost:
            lost.append(call)
            api.as_the_api_does(call)
            raise Lost
        return None

    api.fault = lose
    assert pod.bootstrap().code == 0
    assert len(lost) == 1
    assert key_in(api)
    assert await states(database_url) == [False]


async def test_somebody_elses_secret_is_not_taken_for_ours(
    pod: Pod, api: SecretsApi, database_url: str
) -> None:
    """It was made in between: the new key is revoked."""

    def interfere(call: Call) -> None:
        if call.method == "POST" and not call.is_dry:
            api.secrets[NAME] = {"data": {"key": "b3RoZXI="}}

    api.fault = interfere
    done = pod.bootstrap()
    assert done.code == 1
    assert "could not be created (409 AlreadyExists)" in done.stderr
    assert await states(database_url) == [True]


async def test_an_api_that_is_away_for_a_moment(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """Calls are repeated; also an admission webhook that knows no dry run does no harm."""
    seen: list[str] = []

    def stumble(call: Call) -> tuple[int, object] | None:
        seen.append(call.method)
        if call.is_dry:
            return 400, status(400, "BadRequest", "webhook does not support dry run")
        if seen.count(call.method) in (1, 2, 3) and call.method == "GET":
            return 503, None
        return None

    api.fault = stumble
    assert pod.bootstrap().code == 0
    assert seen == ["GET"] * 4 + ["POST"] * 2
    assert key_in(api)
    assert await states(database_url) == [False]


async def test_an_api_that_is_lost_in_between(pod: Pod, api: SecretsApi, database_url: str) -> None:
    """It is unknown whether the key was stored, so it is not revoked, and the error says what to do."""

    def lose(call: Call) -> tuple[int, object] | None:
        if any(earlier.is_dry for earlier in api.calls[:-1]):
            raise Lost
        return None

    api.fault = lose
    done = pod.bootstrap()
    assert done.code == 1
    assert done.stderr.startswith("authsvc: it is unknown whether the administrator key authsvc_live_")
    assert "If the Secret is not there, run the command with --force, then revoke this key" in done.stderr
    assert await states(database_url) == [False]


def test_only_the_api_of_this_cluster_gets_the_token(pod: Pod, api: SecretsApi, mount: Path) -> None:
    """A server with a certificate of another authority is told nothing."""
    (mount / "ca.crt").write_bytes(Authority("another").cert)
    done = pod.bootstrap()
    assert done.code == 1
    assert "cannot be called (ConnectError)" in done.stderr
    assert api.calls == []


def test_a_token_that_is_not_accepted(pod: Pod, mount: Path) -> None:
    """The error names the remedy, and not the token."""
    (mount / "token").write_text("expired")
    done = pod.bootstrap()
    assert done.code == 1
    assert "(401 Unauthorized)" in done.stderr
    assert "expired" not in done.stderr


@pytest.mark.parametrize("name", ["Upper", "a_b", "a-", "a.", "a" * 254, "a/../b", ""])
def test_a_bad_name_is_told(pod: Pod, api: SecretsApi, name: str) -> None:
    """Nothing is called. With an empty name, no key is printed by mistake."""
    done = pod.bootstrap(name=name)
    assert done.code == 1
    assert done.stderr.startswith("authsvc: --kubernetes-secret: use the name of a Secret: ")
    assert api.calls == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"KUBERNETES_SERVICE_HOST": ""}, "--kubernetes-secret: this is no pod of Kubernetes"),
        ({"IN_POD": "/nowhere"}, "cannot read /nowhere/token (No such file or directory); the pod needs"),
        (
            {"KUBERNETES_SERVICE_PORT": "1"},
            "the Kubernetes API at 127.0.0.1:1 cannot be called (ConnectError)",
        ),
    ],
)
def test_outside_of_a_pod(pod: Pod, change: dict[str, str], told: str) -> None:
    """The error names what is missing."""
    pod.env.update(change)
    done = pod.bootstrap()
    assert done.code == 1
    assert told in done.stderr
