"""examples/orders without changes: the commands of its README, at other ports."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.process import Ended, Server, environment, run, running, until


@contextmanager
def serving(
    checkout: Path, directory: Path, authsvc: str, key_file: Path, python: str | Path = sys.executable
) -> Iterator[str]:
    """Run the orders service and yield its address."""
    output = directory / "orders"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [
                *(python, checkout / "examples/orders/service.py"),
                *("--authsvc", authsvc, "--key-file", key_file, "--listen", "127.0.0.1:0"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment(),
        )
    try:

        def told() -> re.Match[str] | None:
            assert process.poll() is None, output.read_text("utf-8")
            return re.search(r"orders serves at (\S+:\d+)\.", output.read_text("utf-8"))

        until(told)
        match = told()
        assert match is not None
        yield match[1]
        process.terminate()
        assert process.wait(30) == 0, output.read_text("utf-8")
    finally:
        process.kill()
        process.wait()


def create(server: Server, *arguments: str) -> tuple[str, str]:
    """Create a key with the command line, and return its key string and id."""
    made = server.run("keys", "create", *arguments)
    assert made.code == 0, made.stderr
    key_id = re.search(r"key_\w+", made.stderr)
    assert key_id is not None
    return made.stdout.strip(), key_id[0]


def test_the_story_of_its_readme(checkout: Path, directory: Path) -> None:
    """Orders are separate by owner, scopes apply, and calls fail with a revoked key or without authsvc."""

    def call(key_string: str, *arguments: str) -> Ended:
        program = checkout / "examples/orders/call.py"
        env = {**environment(), "ORDERS_KEY": key_string}
        return run(sys.executable, program, *arguments, "--address", orders, cwd=directory, env=env)

    def refusal(key_string: str, *arguments: str) -> str:
        done = call(key_string, *arguments)
        assert (done.code, done.stdout) == (1, "")
        return done.stderr

    with running("dev", directory) as server:
        own, _ = create(
            server, "authsvc", "orders-service", "--scope", "keys:verify", "--scope", "sessions:verify"
        )
        key_file = directory / "orders.key"
        key_file.write_text(own)
        both, key_id = create(server, "acme", "Laptop", "--scope", "orders:read", "--scope", "orders:write")
        reader, _ = create(server, "globex", "Reader", "--scope", "orders:read")
        with serving(checkout, directory, server.address, key_file) as orders:
            assert call("", "Ping").stdout == '{"answer": "pong"}\n'
            assert "send your key" in refusal("", "List")
            assert call(both, "Place", "a book").stdout == '{"answer": "placed"}\n'
            assert call(both, "List").stdout == '{"orders": ["a book"]}\n'
            assert call(reader, "List").stdout == '{"orders": []}\n'
            assert "needs the scope orders:write (PERMISSION_DENIED)" in refusal(reader, "Place", "a pen")
            assert "UNIMPLEMENTED" in refusal(both, "Cancel")
            watching = subprocess.Popen(
                [
                    *(sys.executable, checkout / "examples/orders/call.py"),
                    *("Watch", "--address", orders),
                ],
                stdout=subprocess.PIPE,
                env={**environment(), "ORDERS_KEY": both},
            )
            assert watching.stdout is not None
            assert watching.stdout.readline() == b'{"order": "a book"}\n'
            assert call(both, "Place", "a pen").code == 0
            assert watching.stdout.readline() == b'{"order": "a pen"}\n'
            watching.kill()
            watching.communicate()
            assert server.run("keys", "revoke", key_id).code == 0
            assert "was revoked" in refusal(both, "List")
            assert server.end() == 0
            assert "(UNAVAILABLE)" in refusal(reader, "List")
    told = (directory / "orders").read_text("utf-8")
    assert "cannot be authenticated" in told
    assert not any(key in told for key in (own, both, reader))


@pytest.mark.slow
def test_its_readme_names_what_exists(checkout: Path) -> None:
    """Each program in the commands of the README exists and accepts its arguments."""
    text = (checkout / "examples/orders/README.md").read_text("utf-8").replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True)
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    programs = [command[1] for command in commands if command[0] == ".venv/bin/python"]
    assert len(programs) == 4
    assert all((checkout / program).exists() for program in programs)
