"""`authsvc bootstrap`: the first administrator key of a deployment, and its later life."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.conftest import Client
from tests.e2e.process import Ended, Server, authsvc, environment, on_linux, running
from tests.e2e.test_keys_command import KEY_ID, KEY_STRING, refusal


def bootstrap(directory: Path, database_url: str, *arguments: str) -> Ended:
    return authsvc("bootstrap", *arguments, cwd=directory, database_url=database_url)


def minted(done: Ended) -> str:
    """Return the key string of a successful bootstrap."""
    assert done.code == 0, done.stderr
    key_string = done.stdout.removesuffix("\n")
    assert KEY_STRING.fullmatch(key_string)
    assert key_string not in done.stderr
    return key_string


def administrators(server: Server, key_string: str) -> dict[str, str]:
    """Return the platform's keys by id: their lines in the list."""
    done = server.run("keys", "list", "authsvc", key=key_string)
    assert done.code == 0, done.stderr
    return {found: line for line in done.stdout.splitlines() for found in KEY_ID.findall(line)}


def accepts(server: Server, key_string: str) -> bool:
    """Call over a new connection, which leads to any worker, and return whether the key is accepted."""
    with grpc.insecure_channel(server.address) as channel:
        metadata = (("authorization", f"Bearer {key_string}"),)
        try:
            KeyServiceStub(channel).ListKeys(
                pb.ListKeysRequest(owner_id="authsvc"), metadata=metadata, timeout=30
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            return False
    return True


def test_the_key_string_stands_alone_on_standard_output(directory: Path, database_url: str) -> None:  # rule 1
    """`authsvc bootstrap > admin.key` stores only the key string; the rest is for people."""
    done = bootstrap(directory, database_url)
    key_string = minted(done)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"This is the administrator key {key_string[:25]}..., which is shown only once.")


def test_the_first_key_opens_the_door(directory: Path, database_url: str) -> None:
    """It belongs to the platform, has full access and no expiry, whether or not the service runs."""
    key_string = minted(bootstrap(directory, database_url))
    with running("serve", directory, database_url=database_url) as server:
        [line] = administrators(server, key_string).values()
        assert re.search(r"administrator +\S+ +ACTIVE +full_access +\S+ \S+ UTC +never ", line)
        assert server.run("keys", "create", "acme", "Orders", key=key_string).code == 0
        other = minted(bootstrap(directory, database_url, "--force"))
        assert accepts(server, other)


def test_there_is_one_first_key(directory: Path, database_url: str) -> None:
    """While a working one exists, another is refused, with its id and the remedy."""
    key_string = minted(bootstrap(directory, database_url, "--display-name", "Ada"))
    told = refusal(bootstrap(directory, database_url))
    assert re.match(
        rf"there is a working administrator key: key_\w{{26}} \({key_string[:25]}..., 'Ada'\)\. Use it, or ",
        told,
    )
    assert "create another one with `authsvc bootstrap --force`, then revoke the old one" in told
    assert key_string not in told


async def test_of_several_at_once_one_succeeds(directory: Path, database_url: str) -> None:
    """If the set-ups of several replicas run it, one key is created and the others are refused."""
    done = await asyncio.gather(*(asyncio.to_thread(bootstrap, directory, database_url) for _ in range(4)))
    assert sorted(each.code for each in done) == [0, 1, 1, 1]
    [winner] = [each for each in done if each.code == 0]
    with running("serve", directory, database_url=database_url) as server:
        assert len(administrators(server, minted(winner))) == 1


def test_one_that_does_not_work_is_in_nobodys_way(directory: Path, database_url: str) -> None:
    """When the last administrator key was revoked, a first one can be created again."""
    key_string = minted(bootstrap(directory, database_url, "--ttl", "90d"))
    with running("serve", directory, database_url=database_url) as server:
        [key_id] = administrators(server, key_string)
        assert "never" not in administrators(server, key_string)[key_id].partition("full_access")[2][:40]
        revoked = server.run("keys", "revoke", key_id, "--allow-last-administrator", key=key_string)
        assert revoked.code == 0
        assert accepts(server, minted(bootstrap(directory, database_url)))


def test_without_the_schema_the_command_is_told(directory: Path, empty_database_url: str) -> None:
    """It names `authsvc migrate`, and after that it works."""
    assert refusal(bootstrap(directory, empty_database_url)).endswith(": run `authsvc migrate` first")
    assert authsvc("migrate", cwd=directory, database_url=empty_database_url).code == 0
    minted(bootstrap(directory, empty_database_url))


def test_without_a_database_the_setting_is_told(directory: Path) -> None:
    """It names the setting; the owner's URL is accepted as well."""
    told = refusal(authsvc("bootstrap", cwd=directory))
    assert told.startswith("AUTHSVC_DATABASE_URL: set it")


def test_the_owners_url_will_do(directory: Path, database_url: str) -> None:
    """It is at hand after a migration; a pool of one connection is enough."""
    done = authsvc("bootstrap", cwd=directory, migration_database_url=database_url, database_pool_size=1)
    minted(done)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "use 1 to 255 characters in one line, not only spaces"),
        ("  ", "use 1 to 255 characters in one line, not only spaces"),
        ("\u3164", "use 1 to 255 characters in one line, not only spaces"),
        ("x" * 256, "use 1 to 255 characters in one line, not only spaces"),
        ("a\nb", "holds U+000A; use one line, without control characters"),
        (
            "a\u202eb",
            "holds U+202E (RIGHT-TO-LEFT OVERRIDE), which changes the direction of text; leave it out",
        ),
    ],
    ids=ascii,
)
def test_a_bad_name_is_told(directory: Path, database_url: str, name: str, problem: str) -> None:  # rule 2
    """No key is created."""
    told = refusal(bootstrap(directory, database_url, "--display-name", name))
    assert told == f"--display-name: {problem}"
    minted(bootstrap(directory, database_url))


def test_an_end_in_the_past_is_told(directory: Path, database_url: str) -> None:  # rule 3
    """No key is created."""
    for ttl in "0s", "-1d":
        assert "is in the past" in refusal(bootstrap(directory, database_url, f"--ttl={ttl}"))
    minted(bootstrap(directory, database_url))


@on_linux
def test_a_key_string_that_cannot_be_written_is_told(directory: Path, database_url: str) -> None:
    """A full disk loses it; the error names the key and the remedy."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "authsvc.cli", "bootstrap"],
            cwd=directory,
            env=environment(database_url=database_url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    [told] = done.stderr.splitlines()
    assert re.search(
        r"authsvc_live_\w{12} could not be written \(No space left on device\) and is lost; ", told
    )
    assert not KEY_STRING.search(told)


def test_rotating_the_administrator_key(directory: Path, database_url: str) -> None:  # rule 30
    """As in docs/operations.md: rotate it with itself; both work in the grace period; revoke the old one."""
    old = minted(bootstrap(directory, database_url))
    with running("serve", directory, "--workers=2", database_url=database_url, connection_age=0) as server:
        [old_id] = administrators(server, old)
        done = server.run("keys", "rotate", old_id, "--grace", "24h", key=old)
        new = minted(done)
        [new_id] = {*KEY_ID.findall(done.stderr)} - {old_id}
        for _ in range(4):
            assert accepts(server, old)
            assert accepts(server, new)
        assert "ACTIVE until" in administrators(server, new)[old_id]
        told = refusal(bootstrap(directory, database_url))
        assert new_id in told
        assert server.run("keys", "revoke", old_id, "--reason", "rotated", key=new).code == 0
        for _ in range(4):
            assert not accepts(server, old)
            assert accepts(server, new)
        assert "REVOKED" in administrators(server, new)[old_id]


def test_a_lost_administrator_key(directory: Path, database_url: str) -> None:
    """As in docs/operations.md: create another one with --force, find the lost one with it, revoke it."""
    lost = minted(bootstrap(directory, database_url))
    with running("serve", directory, database_url=database_url) as server:
        new = minted(bootstrap(directory, database_url, "--force", "--display-name", "after the loss"))
        [lost_id] = [
            key_id for key_id, line in administrators(server, new).items() if "after the loss" not in line
        ]
        assert accepts(server, lost)
        assert server.run("keys", "revoke", lost_id, "--reason", "lost", key=new).code == 0
        assert not accepts(server, lost)
        assert accepts(server, new)


async def test_the_first_key_acts_on_every_owner(directory: Path, database_url: str) -> None:
    """It can call every RPC."""
    key_string = minted(bootstrap(directory, database_url))
    with running("serve", directory, database_url=database_url) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            client = Client(channel, key_string)
            made = await client.CreateKey(owner_id="acme", display_name="Orders", scopes=["keys:verify"])
            assert (await client.VerifyKey(key_string=made.key_string)).valid
            assert (await client.CreateSession(owner_id="alice")).session_token


async def test_a_lock_is_no_outage(directory: Path, database_url: str) -> None:
    """If another session holds what the command needs, it says so; nothing was done."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('authsvc administrator', 0))")
        done = await asyncio.to_thread(bootstrap, directory, database_url)
    await connection.close()
    assert done.code == 1
    assert "another change held a lock for too long; nothing was done; retry" in done.stderr
    assert "reach" not in done.stderr
    minted(await asyncio.to_thread(bootstrap, directory, database_url))
