"""`authsvc tag-key` with a running service that has several workers."""

import signal
from pathlib import Path

from tests.e2e.process import Ended, authsvc, eventually, running
from tests.e2e.test_bootstrap_command import accepts, bootstrap, minted
from tests.e2e.test_keys_command import refusal


def tag_key(directory: Path, database_url: str, *arguments: str) -> Ended:
    return authsvc("tag-key", *arguments, cwd=directory, database_url=database_url)


def listed(directory: Path, database_url: str) -> list[list[str]]:
    """Return the number, the state, and the numbers of keys and sessions of each tag key."""
    done = tag_key(directory, database_url, "list")
    assert (done.code, done.stderr) == (0, "")
    heading, *rows = (line.split() for line in done.stdout.splitlines())
    assert heading[:3] == ["tag", "key", "state"]
    return [[*row[:2], *row[-2:]] for row in rows]


async def test_the_life_of_tag_keys(directory: Path, database_url: str) -> None:
    """Rotate, restart with SIGHUP, retire: every worker follows."""
    admin_key = minted(bootstrap(directory, database_url))
    settings = {"database_url": database_url, "scopes": "orders:read"}
    with running("serve", directory, "--workers=2", **settings) as server:

        def create(key: str, *arguments: str) -> str:
            return minted(server.run("keys", "create", "authsvc", "Orders", *arguments, key=key))

        old = create(admin_key, "--scope", "full_access")
        done = tag_key(directory, database_url, "rotate")
        assert done.code == 0
        assert (
            done.stdout
            == "tag key 2 is used for new key strings; earlier ones are accepted until they are retired\n"
        )
        assert listed(directory, database_url) == [["1", "accepted", "2", "0"], ["2", "minting", "0", "0"]]
        new = create(old, "--scope", "full_access")
        server.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "the rolling restart is done" in server.stderr)
        # For any worker that answers.
        for _ in range(4):
            for key_string in admin_key, old, new:
                assert accepts(server, key_string)
        told = refusal(tag_key(directory, database_url, "retire", "1"))
        assert told.startswith("up to 2 keys and 0 sessions that are alive were minted under tag key 1; ")
        assert told.endswith("or repeat with --force")
        done = tag_key(directory, database_url, "retire", "1", "--force")
        assert (done.code, done.stdout.splitlines()) == (
            0,
            ["tag key 1 is retired on every worker", "up to 2 keys and 0 sessions have become unusable"],
        )
        for _ in range(4):
            assert accepts(server, new)
            for key_string in admin_key, old:
                assert not accepts(server, key_string)
        assert "Traceback" not in server.stderr
    assert refusal(tag_key(directory, database_url, "retire", "1")) == "tag key 1 is retired"
    told = refusal(tag_key(directory, database_url, "retire", "2"))
    assert told == "tag key 2 is in use for new strings; rotate first, then retire it"


def test_without_workers_nobody_is_waited_for(directory: Path, database_url: str) -> None:
    """Before the first start, and while the service is down."""
    # The migration has created the first one.
    assert [row[1] for row in listed(directory, database_url)] == ["minting"]
    minted(bootstrap(directory, database_url))
    assert tag_key(directory, database_url, "rotate").code == 0
    assert [row[1] for row in listed(directory, database_url)] == ["accepted", "minting"]


def test_what_stands_in_the_way_is_told(directory: Path, empty_database_url: str) -> None:
    """No database, no schema: the setting and the command are named."""
    told = refusal(authsvc("tag-key", "list", cwd=directory))
    assert told.startswith("AUTHSVC_DATABASE_URL: set it")
    told = refusal(tag_key(directory, empty_database_url, "list"))
    assert told.endswith(": run `authsvc migrate` first")
