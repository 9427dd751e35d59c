"""`authsvc keys import`, and `authsvc keys create --key-hash`."""

import hashlib
import json
import secrets
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Ended, Server
from tests.e2e.test_keys_command import listed, refusal

# As lists show them.
DAILY_AND_REQUESTS = [
    {"name": "daily", "limit": 5000, "period": "86400s"},
    {"name": "requests", "limit": 100, "period": "60s"},
]


@pytest.fixture
def owner() -> str:
    """An owner without keys."""
    return f"acme-{uuid.uuid4()}"


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def key(**fields: Any) -> dict[str, Any]:
    return {"hash": digest(secrets.token_urlsafe(32)), "display_name": "Old", **fields}


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def told(done: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_keys_are_imported_and_a_second_run_says_so(dev: Server, owner: str, tmp_path: Path) -> None:
    """Of several owners, in the lines of the file; each line has its id, both times the same."""
    file = written(
        tmp_path / "keys.jsonl",
        key(owner_id=owner, scopes=["orders:read"], annotations={"old-id": "7"}),
        key(),
        key(owner_id=owner, expire_time="2099-01-01T00:00:00Z"),
    )
    first = dev.run("keys", "import", str(file), "--owner", f"{owner}-2")
    assert first.code == 0, first.stderr
    assert sorted((each["line"], each["owner_id"]) for each in told(first)) == [
        (1, owner),
        (2, f"{owner}-2"),
        (3, owner),
    ]
    assert "3 keys were imported, 0 had been imported before." in first.stderr
    second = dev.run("keys", "import", str(file), "--owner", f"{owner}-2")
    assert second.code == 0, second.stderr
    assert {each["reason"] for each in told(second)} == {"KEY_ALREADY_IMPORTED"}
    assert [each["key_id"] for each in told(second)] == [each["key_id"] for each in told(first)]
    kept = {each["key_id"]: each for each in listed(dev, owner)}
    assert kept[told(first)[0]["key_id"]]["scopes"] == ["orders:read"]
    assert kept[told(first)[0]["key_id"]]["annotations"] == {"old-id": "7"}


def test_nothing_is_imported_if_one_is_wrong(dev: Server, owner: str, tmp_path: Path) -> None:
    """The wrong ones are printed with their lines. With --skip-bad, the others are imported."""
    file = written(tmp_path / "keys.jsonl", key(), key(hash="hunter2"), key())
    refused = dev.run("keys", "import", str(file), "--owner", owner)
    assert refused.code == 1
    assert [(each["line"], each["reason"], each["field"]) for each in told(refused)] == [
        (2, "INVALID_FIELD", "hash")
    ]
    assert "Nothing was imported." in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr
    assert listed(dev, owner) == []
    skipped = dev.run("keys", "import", str(file), "--owner", owner, "--skip-bad")
    assert skipped.code == 1
    assert len(listed(dev, owner)) == 2


def test_a_dry_run_imports_nothing(dev: Server, owner: str, tmp_path: Path) -> None:
    file = written(tmp_path / "keys.jsonl", key(), key())
    done = dev.run("keys", "import", str(file), "--owner", owner, "--dry-run")
    assert done.code == 0, done.stderr
    assert [each["line"] for each in told(done)] == [1, 2]
    assert "2 of 2 keys can be imported. Nothing was imported." in done.stderr
    assert listed(dev, owner) == []


def test_a_csv_file(dev: Server, owner: str, tmp_path: Path) -> None:
    hashed = "$2b$04$" + "a" * 53
    prefix = secrets.token_hex(8)
    file = tmp_path / "keys.csv"
    file.write_text(
        "hash,look_up_prefix,display_name,scopes,technical_contacts,annotations.old-id,rate_limits\r\n"
        f'{hashed},{prefix},"Orders, old",orders:read orders:write,Ada <ada@example.org>;,7,'
        "requests=100/1m daily=5000/1d\r\n",
        "utf-8",
    )
    done = dev.run("keys", "import", str(file), "--owner", owner)
    assert done.code == 0, done.stderr
    [found] = listed(dev, owner)
    assert found["display_name"] == "Orders, old"
    assert found["key_prefix"] == prefix
    assert found["scopes"] == ["orders:read", "orders:write"]
    assert found["technical_contacts"] == [{"name": "Ada", "email": "ada@example.org"}]
    assert found["annotations"] == {"old-id": "7"}
    assert found["rate_limits"] == DAILY_AND_REQUESTS


def test_rate_limits_in_lines_of_json(dev: Server, owner: str, tmp_path: Path) -> None:
    """In the form of the command line, and as objects."""
    as_objects = [
        {"name": "requests", "limit": 100, "period": "60s"},
        {"name": "daily", "limit": 5000, "period": "86400s"},
    ]
    file = written(
        tmp_path / "keys.jsonl",
        key(rate_limits=["requests=100/1m", as_objects[1]]),
        key(rateLimits=as_objects),
    )
    done = dev.run("keys", "import", str(file), "--owner", owner)
    assert done.code == 0, done.stderr
    assert [each["rate_limits"] for each in listed(dev, owner)] == [DAILY_AND_REQUESTS] * 2
    twice = written(tmp_path / "keys.jsonl", key(rate_limits=["requests=100/1m", "requests=5/1m"]))
    refused = dev.run("keys", "import", str(twice), "--owner", owner)
    assert [(each["reason"], each["field"]) for each in told(refused)] == [
        ("INVALID_FIELD", "rate_limits[1].name")
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", "", "has no keys"),
        ("a.jsonl", "hunter2\n", "line 1: is not a JSON object"),
        ("a.jsonl", '\n{"hash": "hunter2", "password": "x"}\n', "line 2: has a field that no key has"),
        ("a.jsonl", '{"hash": 7}\n', "line 1: has a field that no key has, or a value of another type"),
        ("a.csv", "hash,hunter2\n", "line 1: has a column that no key has"),
        ("a.csv", "hash,display_name\nhunter2\n", "line 2: has not as many columns as the heading"),
        ("a.csv", "hash,technical_contacts\nhunter2,hunter2\n", "line 2: has a contact of another form"),
        ("a.csv", "hash,rate_limits\nhunter2,hunter2\n", "line 2: has a rate limit of another form"),
        (
            "a.jsonl",
            '{"hash": "hunter2", "rate_limits": ["hunter2"]}\n',
            "line 1: has a rate limit of another form; write requests=100/1m",
        ),
        ("a.jsonl", '{"hash": "x", "rate_limits": "a=1/1m"}\n', "line 1: has a field that no key has"),
        ("a.csv", "hash,rate_limits\nx,a=1/9999999d\n", "line 2: has a rate limit of another form"),
        ("a.jsonl", '{"hash": "x", "rate_limits": [7]}\n', "line 1: has a field that no key has"),
    ],
)
def test_a_file_that_cannot_be_read(dev: Server, tmp_path: Path, name: str, content: str, says: str) -> None:
    """The message has the line, and nothing of what is in it."""
    file = tmp_path / name
    file.write_text(content, "utf-8")
    told = refusal(dev.run("keys", "import", str(file), "--owner", "acme"))
    assert says in told
    assert "hunter2" not in told


def test_a_file_without_owners(dev: Server, tmp_path: Path) -> None:
    told = refusal(dev.run("keys", "import", str(written(tmp_path / "a.jsonl", key()))))
    assert "line 1: names no owner" in told
    assert "cannot read" in refusal(dev.run("keys", "import", str(tmp_path / "missing.jsonl")))


def test_a_key_whose_string_the_client_makes(dev: Server, owner: str) -> None:
    """Nothing is printed to standard output: there is no new key string."""
    done = dev.run("keys", "create", owner, "Terraform", "--key-hash", digest(secrets.token_urlsafe(32)))
    assert (done.code, done.stdout) == (0, ""), done.stderr
    assert "sha256:" in done.stderr
