"""`authsvc scopes`, for people and for scripts."""

import json
from pathlib import Path

from tests.e2e.process import Server, running
from tests.e2e.test_bootstrap_command import bootstrap, minted
from tests.e2e.test_keys_command import refusal


def test_the_catalogue_of_a_deployment(directory: Path, database_url: str) -> None:  # rule 2
    """The scopes of AUTHSVC_SCOPES and of authsvc; a mistyped scope gets a suggestion."""
    key = minted(bootstrap(directory, database_url))
    scopes = "orders:read=Read orders, and their items\norders:write"
    with running("serve", directory, database_url=database_url, scopes=scopes) as server:
        done = server.run("scopes", "--json", key=key)
        assert (done.code, done.stderr) == (0, "")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert found[:2] == [
            {"name": "orders:read", "description": "Read orders, and their items"},
            {"name": "orders:write"},
        ]
        assert {"name": "keys:verify", "description": "Verify API keys and tokens"} in found
        done = server.run("scopes", key=key)
        assert (done.code, done.stderr) == (0, "")
        heading, first, *_ = done.stdout.splitlines()
        assert heading.split() == ["scope", "what", "it", "allows"]
        assert first.strip().split(maxsplit=1) == ["orders:read", "Read orders, and their items"]
        told = refusal(server.run("keys", "create", "acme", "x", "--scope", "orders:raed", key=key))
        assert told == ("scopes: orders:raed is not known here; did you mean orders:read? (INVALID_ARGUMENT)")


def test_whoever_tries_it_out_may_grant_any(dev: Server) -> None:  # rule 2
    """`authsvc dev` has no catalogue unless one is set, and says so."""
    done = dev.run("scopes")
    assert done.code == 0
    assert done.stderr == "Any other scope can be granted as well: AUTHSVC_SCOPES is *.\n"
    assert dev.run("keys", "create", "acme", "x", "--scope", "what:ever").code == 0


def test_whoever_tries_it_out_may_have_a_catalogue(directory: Path) -> None:  # rule 2
    """A catalogue that is set applies to `authsvc dev` as well."""
    with running("dev", directory, scopes="orders:read") as server:
        assert refusal(server.run("keys", "create", "acme", "x", "--scope", "what:ever")).startswith(
            "scopes: what:ever is not known here; see ListScopes."
        )


def test_other_settings_may_name_any_scope_then(directory: Path) -> None:  # rule 2
    """A default policy can be tried out without a catalogue."""
    with running("dev", directory, default_allowed_scopes="orders:read") as server:
        assert server.run("keys", "create", "acme", "x", "--scope", "orders:read").code == 0
        assert server.run("keys", "create", "acme", "x", "--scope", "orders:write").code == 1
