"""`authsvc keys`, for people and for scripts."""

import json
import re
import sys
import uuid
from pathlib import Path

import pytest

from tests import age
from tests.e2e.process import Ended, Server, authsvc, environment, free_port, run

KEY_STRING = re.compile(r"authsvc_live_[0-9A-Za-z]{63}")
KEY_ID = re.compile(r"key_[0-9a-z]{26}")


@pytest.fixture
def owner() -> str:
    """An owner without keys."""
    return f"acme-{uuid.uuid4()}"


def create(dev: Server, owner: str, *arguments: str) -> tuple[str, str]:
    """Create a key; return its id and its key string."""
    done = dev.run("keys", "create", owner, "Orders", *arguments)
    assert done.code == 0, done.stderr
    [key_id] = KEY_ID.findall(done.stderr)
    return key_id, done.stdout.rstrip("\n")


def listed(dev: Server, owner: str, *arguments: str) -> list[dict[str, object]]:
    """Return an owner's keys as a script reads them."""
    done = dev.run("keys", "list", owner, "--json", *arguments)
    assert (done.code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def refusal(done: Ended, code: int = 1) -> str:
    """Return the one line that says why a command failed."""
    assert (done.code, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("authsvc: ")
    return line.removeprefix("authsvc: ")


def test_the_key_string_stands_alone_on_standard_output(dev: Server, owner: str) -> None:  # rule 1
    """`$(authsvc keys create …)` is the key string; the table is for people, without it."""
    done = dev.run("keys", "create", owner, "Orders", "--scope", "orders:read", "--scope", "orders:write")
    assert done.code == 0
    assert KEY_STRING.fullmatch(done.stdout.removesuffix("\n"))
    heading, row = done.stderr.splitlines()
    assert heading.split() == [
        "id",
        "name",
        "prefix",
        "state",
        "scopes",
        "created",
        "expires",
        "last",
        "used",
    ]
    assert re.match(r"^ key_\S+ +Orders +authsvc_live_\w{12}\.\.\. +ACTIVE +orders:read orders:write ", row)
    assert done.stdout.strip() not in done.stderr


def test_a_created_key_opens_the_door(dev: Server, owner: str) -> None:
    """What `create` prints works as AUTHSVC_KEY, within its owner and its scopes."""
    _, key_string = create(dev, owner, "--scope", "keys:read")
    done = dev.run("keys", "list", owner, key=key_string)
    assert (done.code, len(KEY_ID.findall(done.stdout))) == (0, 1)
    told = refusal(dev.run("keys", "list", "somebody-else", key=key_string))
    assert told.endswith("(PERMISSION_DENIED)")
    told = refusal(dev.run("keys", "create", owner, "More", key=key_string))
    assert told == "CreateKey needs the scope keys:write (PERMISSION_DENIED)"


def test_all_that_create_takes_arrives(dev: Server, owner: str) -> None:  # rules 3, 4
    """Description, contacts, annotations, expiry, brand and environment are on the key."""
    contacts = ["--contact", "Ada <ada@example.org>", "--contact", "Ops Team <ops@example.org>"]
    notes = ["--annotation", "team=payments", "--annotation", "query=a=b", "--description", "for orders"]
    form = ["--brand", "eg", "--environment", "test", "--expires", "2099-01-31"]
    _, key_string = create(dev, owner, *contacts, *notes, *form)
    [key] = listed(dev, owner)
    assert key_string.startswith("eg_test_")
    assert key["technical_contacts"] == [
        {"name": "Ada", "email": "ada@example.org"},
        {"name": "Ops Team", "email": "ops@example.org"},
    ]
    assert key["annotations"] == {"team": "payments", "query": "a=b"}
    assert (key["description"], key["expire_time"]) == ("for orders", "2099-01-31T00:00:00Z")


@pytest.mark.parametrize("choice", ["--ttl=90d", "--preset=one-month", "--expires=2099-01-31T12:00:00+02:00"])
def test_each_way_to_say_when_a_key_expires(dev: Server, owner: str, choice: str) -> None:  # rule 3
    """A duration, a preset and a time each make a key that expires."""
    create(dev, owner, choice)
    [key] = listed(dev, owner)
    assert "expire_time" in key


async def test_a_list_of_any_size_is_shown(dev: Server, owner: str) -> None:  # rule 9
    """Keys that are too large for one answer are read page by page, up to the limit."""
    wide = "\U00020000"
    annotations = {f"{number:02}{'n' * 61}": wide * 256 for number in range(32)}
    async with dev.client() as client:
        for number in range(130):
            await client.CreateKey(
                owner_id=owner, display_name=f"{number:03}", description=wide * 2000, annotations=annotations
            )
    keys = listed(dev, owner, "--limit", "1000", "--order-by", "display_name")
    assert [key["display_name"] for key in keys] == [f"{number:03}" for number in range(130)]
    assert sum(len(json.dumps(key, ensure_ascii=False).encode()) for key in keys) > 4 * 1024 * 1024
    done = dev.run("keys", "list", owner, "--limit", "120")
    assert len(KEY_ID.findall(done.stdout)) == 120
    assert done.stderr == "Only the first 120 are shown; use --limit to show more.\n"
    assert dev.run("audit", "list", owner, "--limit", "1000").code == 0


def test_a_list_without_json_is_a_table(dev: Server, owner: str) -> None:  # rule 9
    """The table goes to standard output, with the important columns, and no line is wrapped."""
    key_id, key_string = create(dev, owner, "--scope", "orders:read")
    done = dev.run("keys", "list", owner)
    assert (done.code, done.stderr) == (0, "")
    heading, row = done.stdout.splitlines()
    assert "last used" in heading
    for part in key_id, "Orders", f"{key_string[:25]}...", "ACTIVE", "orders:read", "never":
        assert part in row
    assert key_string not in done.stdout


def test_a_list_can_be_narrowed_and_cut(dev: Server, owner: str) -> None:  # rule 10
    """State, order and limit reach the service; a note on standard error says that the list is cut."""
    first, _ = create(dev, owner)
    second, _ = create(dev, owner)
    dev.run("keys", "revoke", first)
    assert [key["key_id"] for key in listed(dev, owner, "--state", "revoked")] == [first]
    assert [key["key_id"] for key in listed(dev, owner, "--order-by", "create_time")] == [first, second]
    done = dev.run("keys", "list", owner, "--limit", "1")
    assert KEY_ID.findall(done.stdout) == [second]
    assert done.stderr == "Only the first 1 are shown; use --limit to show more.\n"


def test_rotate_prints_the_new_key_string_alone(dev: Server, owner: str) -> None:  # rules 1, 30
    """The new key string is on standard output; the old key works during the grace period."""
    key_id, old = create(dev, owner, "--scope", "keys:read")
    done = dev.run("keys", "rotate", key_id, "--grace", "24h")
    assert done.code == 0
    assert KEY_STRING.fullmatch(done.stdout.removesuffix("\n"))
    assert done.stdout.strip() not in done.stderr
    assert "ACTIVE until " in dev.run("keys", "list", owner, key=old).stdout


def test_a_sealed_key_string(dev: Server, owner: str, checkout: Path, tmp_path: Path) -> None:  # rule 1
    """`authsvc keys create --seal-to age1… | age -d -i key.txt`; so does `rotate`."""
    program, recipient = age.program(checkout), age.Recipient()
    made = dev.run("keys", "create", owner, "Orders", "--scope", "keys:read", "--seal-to", recipient.public)
    [key_id] = KEY_ID.findall(made.stderr)
    turned = dev.run("keys", "rotate", key_id, "--seal-to", recipient.public)
    for done in made, turned:
        assert done.code == 0, done.stderr
        opened = recipient.open_by_program(program, done.stdout, tmp_path)
        assert KEY_STRING.fullmatch(opened)
        assert opened[-51:] not in done.stdout + done.stderr
    assert dev.run("keys", "list", owner, key=opened).code == 0


def test_a_recipient_that_is_none_is_one_line(dev: Server, owner: str) -> None:
    """A wrong recipient is refused with the remedy, and a private key without being repeated."""
    told = refusal(dev.run("keys", "create", owner, "Orders", "--seal-to", "age1"))
    assert told.startswith("seal_to: use an X25519 recipient of age")
    secret = age.Recipient().secret
    told = refusal(dev.run("keys", "create", owner, "Orders", "--seal-to", secret))
    assert told.startswith("--seal-to is a secret; give the public key")
    assert secret[20:40] not in told
    assert listed(dev, owner) == []


def test_revoke_is_final(dev: Server, owner: str) -> None:  # rules 15, 16, 17
    """A revoked key is refused at once; revoking it again is refused in one line."""
    key_id, key_string = create(dev, owner, "--scope", "keys:read")
    done = dev.run("keys", "revoke", key_id, "--reason", "leaked")
    assert (done.code, done.stderr) == (0, "")
    assert "REVOKED" in done.stdout
    assert refusal(dev.run("keys", "list", owner, key=key_string)).endswith("(UNAUTHENTICATED)")
    told = refusal(dev.run("keys", "revoke", key_id))
    assert "already revoked" in told
    assert told.endswith("(FAILED_PRECONDITION)")
    [key] = listed(dev, owner)
    assert key["revoke_reason"] == "leaked"


def test_what_a_key_created_is_revoked_with_it(dev: Server, owner: str) -> None:
    """The command says how much that was; for later it is refused."""
    key_id, key_string = create(dev, owner, "--scope", "keys:write")
    made = dev.run("keys", "create", owner, "Created", key=key_string)
    assert made.code == 0
    told = refusal(dev.run("keys", "revoke", key_id, "--cascade", "--in", "2h"))
    assert "a revocation with cascade cannot be scheduled" in told
    done = dev.run("keys", "revoke", key_id, "--cascade")
    assert (done.code, done.stderr) == (0, "Revoked with it: 1 key and 0 sessions.\n")
    assert {key["state"] for key in listed(dev, owner)} == {"KEY_STATE_REVOKED"}


def test_the_last_administrator_key_is_kept(dev: Server) -> None:
    """Its revocation is refused with the remedy, and allowed with the option for it."""
    [own] = listed(dev, "authsvc", "--scope", "full_access", "--state", "active")
    own_id = str(own["key_id"])
    told = refusal(dev.run("keys", "revoke", own_id))
    assert "allow_last_administrator" in told
    done = dev.run("keys", "revoke", own_id, "--in", "300d", "--allow-last-administrator")
    assert "ACTIVE until" in done.stdout


def test_a_key_is_disabled_and_enabled(dev: Server, owner: str) -> None:
    """For a while or until it is enabled; mistakes are refused in one line."""
    key_id, key_string = create(dev, owner, "--scope", "keys:read")
    done = dev.run("keys", "disable", key_id, "--for", "2h", "--reason", "audit")
    assert (done.code, done.stderr) == (0, "")
    assert re.search(r"DISABLED until \d{4}-\d\d-\d\d \d\d:\d\d UTC ", done.stdout)
    assert refusal(dev.run("keys", "list", owner, key=key_string)).endswith("(UNAUTHENTICATED)")
    [key] = listed(dev, owner, "--state", "disabled")
    assert (key["key_id"], key["disable_reason"]) == (key_id, "audit")
    assert "mutually exclusive" in refusal(
        dev.run("keys", "disable", key_id, "--for", "2h", "--until", "2030-01-01")
    )
    assert "is in the past" in refusal(dev.run("keys", "disable", key_id, "--until", "2020-01-01"))
    assert "ACTIVE" in dev.run("keys", "enable", key_id).stdout
    assert dev.run("keys", "list", owner, key=key_string).code == 0


def test_a_key_for_networks(dev: Server, owner: str) -> None:
    """It is refused from elsewhere, and a mistyped network names the remedy."""
    key_id, key_string = create(dev, owner, "--scope", "keys:read", "--network", "203.0.113.0/24")
    assert "allowed_networks" in refusal(dev.run("keys", "list", owner, key=key_string))
    [key] = listed(dev, owner)
    assert (key["key_id"], key["allowed_networks"]) == (key_id, ["203.0.113.0/24"])
    told = refusal(dev.run("keys", "create", owner, "x", "--network", "203.0.113.7/24"))
    assert "use 203.0.113.0/24" in told


def test_a_key_with_rate_limits(dev: Server, owner: str) -> None:
    """They are listed. What has another form names the option; the rest is judged by the service."""
    key_id, _ = create(dev, owner, "--rate-limit", "requests=100/1m", "--rate-limit", "daily=5000/1d")
    [key] = listed(dev, owner)
    assert (key["key_id"], key["rate_limits"]) == (
        key_id,
        [
            {"name": "daily", "limit": 5000, "period": "86400s"},
            {"name": "requests", "limit": 100, "period": "60s"},
        ],
    )
    told = refusal(dev.run("keys", "create", owner, "x", "--rate-limit", "100 a minute"))
    assert "--rate-limit '100 a minute': write it as requests=100/1m" in told
    told = refusal(dev.run("policies", "update", owner, "--rate-limits", "a=1/1m,b"))
    assert "--rate-limits 'b': write it as requests=100/1m" in told
    for limit, field in (("Up=1/1m", "name"), ("a=0/1m", "limit"), ("a=1/9999999d", "period")):
        told = refusal(dev.run("keys", "create", owner, "x", "--rate-limit", limit))
        assert f"rate_limits[0].{field}" in told, limit


def test_a_key_with_credits(dev: Server, owner: str) -> None:
    """They are listed; what is no refill names the form, and what was not spent is not given back."""
    key_id, _ = create(dev, owner, "--credits", "500", "--credit-refill", "1000@31")
    [key] = listed(dev, owner)
    found = key["credits"]
    assert isinstance(found, dict)
    assert (key["key_id"], found["remaining"]) == (key_id, "500")
    assert (found["refill"]["amount"], found["refill"]["day_of_month"]) == ("1000", 31)
    told = refusal(dev.run("keys", "create", owner, "x", "--credit-refill", "monthly"))
    assert "1000@1" in told
    told = refusal(dev.run("keys", "refund", key_id, "5", "--refund-id", "req_1"))
    assert "has spent 0" in told


def test_a_scheduled_revocation_shows_until_when(dev: Server, owner: str) -> None:  # rule 14
    """Until then the key is ACTIVE, and the table says until when."""
    key_id, _ = create(dev, owner)
    done = dev.run("keys", "revoke", key_id, "--in", "24h")
    assert re.search(r"ACTIVE until \d{4}-\d\d-\d\d \d\d:\d\d UTC ", done.stdout)


@pytest.mark.parametrize("name", ["[bold]Orders[/]", "Orders [/b] [red]", r"C:\[x] [y", "ключ 鍵 🔑"])
def test_a_name_is_shown_as_it_is(dev: Server, owner: str, name: str) -> None:
    """Brackets in a name are not markup, and do not cause the loss of the key string."""
    done = dev.run("keys", "create", owner, name)
    assert done.code == 0, done.stderr[-300:]
    assert KEY_STRING.fullmatch(done.stdout.removesuffix("\n"))
    assert name in done.stderr
    assert name in dev.run("keys", "list", owner).stdout


def test_a_name_that_nobody_could_read_is_refused(dev: Server, owner: str) -> None:
    """A character that changes the direction of text is named, and does not affect the terminal."""
    told = refusal(dev.run("keys", "create", owner, "Orders \u202eDEKOVER"))
    assert told.startswith("display_name: ")
    assert "U+202E" in told
    assert "\u202e" not in told


def test_a_refusal_is_one_line(dev: Server) -> None:
    """A refusal of the service is one line, with the remedy and the code."""
    told = refusal(dev.run("keys", "create", "ac me", "Orders"))
    assert told == "owner_id: use 1 to 128 characters of A-Z a-z 0-9 . _ : @ - (INVALID_ARGUMENT)"
    told = refusal(dev.run("keys", "revoke", "key_nobody"))
    assert told == "key key_nobody is not known (NOT_FOUND)"


def test_a_repeated_request_is_one_line(dev: Server, owner: str) -> None:
    """A repeated request_id prints no key string, and names the existing key."""
    key_id, _ = create(dev, owner, "--request-id", "once")
    told = refusal(dev.run("keys", "create", owner, "Orders", "--request-id", "once"))
    assert key_id in told
    assert told.endswith("(ALREADY_EXISTS)")


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_no_service_is_one_line(dev: Server, host: str) -> None:
    """If there is no service, the address and the setting are named."""
    address = f"{host}:{free_port()}"
    told = refusal(
        dev.run("keys", "list", "acme", address=address, key="x", insecure="plaintext-beyond-loopback")
    )
    assert told == (
        f"cannot connect to {address}; set AUTHSVC_ADDRESS to the host:port of the service, or to "
        "https://host:port for TLS"
    )


def test_no_key_is_one_line(directory: Path) -> None:
    """Without a key, the setting and the place to look are named."""
    told = refusal(authsvc("keys", "list", "acme", cwd=directory, data_dir=directory / "data"))
    assert told.startswith("set AUTHSVC_KEY to a key string, or AUTHSVC_DATA_DIR to the data directory")
    assert str(directory / "data" / "admin.key") in told


@pytest.mark.parametrize("key", ["nonsense", "schlüssel", "two\nlines"])
def test_a_bad_key_is_one_line(dev: Server, key: str) -> None:
    """An invalid key is refused in one line that does not contain it."""
    told = refusal(dev.run("keys", "list", "acme", key=key))
    assert key not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--contact", "ada@example.org"),
            "--contact 'ada@example.org': write it as 'Name <mail@example.org>'",
        ),
        (("--annotation", "team"), "--annotation 'team': write it as name=value"),
        (("--ttl", "1d", "--preset", "one-year"), "--ttl, --expires and --preset are mutually exclusive"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(dev: Server, arguments: tuple[str, ...], told: str) -> None:
    """An invalid argument is refused in one line, with the correct form."""
    assert refusal(dev.run("keys", "create", "acme", "Orders", *arguments)).startswith(told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list",), "parameter --owner-id requires an argument"),
        (("create", "acme", "Orders", "--bogus"), "Unknown option: --bogus"),
        (("create", "acme", "Orders", "--ttl", "soon"), 'Invalid value for --ttl: "soon" is not valid'),
        (("create", "acme", "Orders", "--preset", "x"), 'Invalid value "x" for --preset'),
        (
            ("frob",),
            'Unknown command "frob". Available commands: create, list, revoke, rotate,',
        ),
    ],
)
def test_a_wrong_usage_is_told(dev: Server, arguments: tuple[str, ...], told: str) -> None:
    """An invalid command line is refused by name, without a traceback; the exit code is 2."""
    done = dev.run("keys", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_replaces_and_ends_itself(dev: Server, owner: str) -> None:
    """`rotate-self` prints the new key string alone; `revoke-self` ends what AUTHSVC_KEY has."""
    key_id, key_string = create(dev, owner, "--scope", "keys:self")
    turned = dev.run("keys", "rotate-self", "--grace", "1h", key=key_string)
    assert KEY_STRING.fullmatch(turned.stdout.removesuffix("\n"))
    assert turned.stdout.strip() not in turned.stderr
    ended = dev.run("keys", "revoke-self", "--reason", "left on a laptop", key=key_string)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", f"{key_id} is revoked.\n")
    states = {each["key_id"]: each["state"] for each in listed(dev, owner)}
    assert states.pop(key_id) == "KEY_STATE_REVOKED"
    assert list(states.values()) == ["KEY_STATE_ACTIVE"]


def test_leaked_keys_are_reported(dev: Server, owner: str) -> None:
    """One in each line, with its place or that of all; without AUTHSVC_KEY, and without any answer."""
    (one, first), (two, second) = create(dev, owner), create(dev, owner)
    command = (sys.executable, "-m", "authsvc.cli", "keys", "report-leaked", "--place", "a chat")
    lines = f"{first} https://example.org/a b\n\n  {second}  \nmade-up\n"
    done = run(*command, cwd=dev.directory, env=environment(address=dev.address), stdin=lines)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == "3 reported. Those that are keys are revoked.\n"
    reasons = {each["key_id"]: each["revoke_reason"] for each in listed(dev, owner)}
    assert reasons == {one: "leaked: https://example.org/a b", two: "leaked: a chat"}
    nothing = run(*command, cwd=dev.directory, env=environment(address=dev.address), stdin="\n")
    assert "standard input" in refusal(nothing)
