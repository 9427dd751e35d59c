"""Secrets from files: `AUTHSVC_KEY_FILE` in place of `AUTHSVC_KEY`."""

import os
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr

from authsvc.config.settings import ConfigError, Settings, load_settings, secret_names
from tests.e2e.process import authsvc

URL = "postgresql://server:hunter2@db.example/authsvc"
WEBHOOK_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SECRETS = {
    "database_url": URL,
    "migration_database_url": URL,
    "smtp_url": "smtps://mail:hunter2@mail.example",
    "webhook_keys": WEBHOOK_KEY,
    "key": "authsvc_live_hunter2",
}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("AUTHSVC_"):
            monkeypatch.delenv(name)


def problem(monkeypatch: pytest.MonkeyPatch, **variables: object) -> str:
    """Return the error that the variables lead to; no secret is in it."""
    for name, value in variables.items():
        monkeypatch.setenv(f"AUTHSVC_{name.upper()}", str(value))
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert "hunter2" not in str(error.value)
    assert WEBHOOK_KEY not in str(error.value)
    return str(error.value)


def test_which_settings_are_secrets() -> None:
    """Those above, and no other one; files that settings name anyway need no second variable."""
    assert set(secret_names()) == set(SECRETS)
    assert not [name for name in secret_names() if name.endswith("_file")]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_the_value_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str) -> None:
    """It is the same as that of the variable. The end of the line does not belong to it."""
    file = tmp_path / "secret"
    file.write_bytes((SECRETS[name] + end).encode())
    monkeypatch.setenv("AUTHSVC_MAIL_FROM", "ops@example.org")
    monkeypatch.setenv(f"AUTHSVC_{name.upper()}", SECRETS[name])
    from_variable = getattr(load_settings(), name)
    monkeypatch.delenv(f"AUTHSVC_{name.upper()}")
    monkeypatch.setenv(f"AUTHSVC_{name.upper()}_FILE", str(file))
    settings = load_settings()
    assert getattr(settings, name) == from_variable
    assert getattr(settings, name) != Settings.model_fields[name].default
    assert "hunter2" not in repr(settings)


def test_blanks_belong_to_the_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the end of the line is left out."""
    (tmp_path / "secret").write_text(" a b \n")
    monkeypatch.setenv("AUTHSVC_KEY_FILE", str(tmp_path / "secret"))
    assert load_settings().key == SecretStr(" a b ")


def test_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell gives the output of a password manager as a pipe, which can be read once: `<(pass show x)`."""
    reader, writer = os.pipe()
    os.write(writer, WEBHOOK_KEY.encode())
    os.close(writer)
    monkeypatch.setenv("AUTHSVC_WEBHOOK_KEYS_FILE", f"/dev/fd/{reader}")
    try:
        assert load_settings().webhook_keys == (SecretBytes(b"01234567890123456789012345678901"),)
    finally:
        os.close(reader)


def test_both_are_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither is preferred, because one of them is not what the operator thinks."""
    (tmp_path / "secret").write_text(URL)
    told = problem(monkeypatch, database_url=URL, database_url_file=tmp_path / "secret")
    assert told == "AUTHSVC_DATABASE_URL, AUTHSVC_DATABASE_URL_FILE: both are set; unset one of them"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with all settings, also of the two that exclude each other."""
    (tmp_path / "secret").write_text(URL)
    monkeypatch.setenv("AUTHSVC_DATABASE_URL", "")
    monkeypatch.setenv("AUTHSVC_DATABASE_URL_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("AUTHSVC_KEY_FILE", "")
    settings = load_settings()
    assert settings.database_url == SecretStr(URL)
    assert settings.key is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no file {file}; check the setting"),
        (b"", "{file} is empty; write the secret into it"),
        (b" \n", "{file} is empty; write the secret into it"),
        (b"hunter2\xff", "{file} is not text in UTF-8; write the secret into it"),
        (
            b"hunter2\nhunter2\n",
            "{file} does not have one line of text; write the secret into it, and nothing else",
        ),
        (
            b"hunter2\0",
            "{file} does not have one line of text; write the secret into it, and nothing else",
        ),
    ],
)
def test_a_wrong_file(
    monkeypatch: pytest.MonkeyPatch, reachable_dir: Path, unique: str, content: bytes | None, told: str
) -> None:
    """The message names the setting and the path, and not the content."""
    file = reachable_dir / unique  # The other directory has the parameters in its name.
    if content is not None:
        file.write_bytes(content)
    assert problem(monkeypatch, key_file=file) == f"AUTHSVC_KEY_FILE: {told.format(file=file)}"


def test_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Docker makes one for a file that it does not find."""
    told = problem(monkeypatch, key_file=tmp_path)
    assert told == f"AUTHSVC_KEY_FILE: {tmp_path} cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the privileges of root")
def test_a_file_of_somebody_else(monkeypatch: pytest.MonkeyPatch, reachable_dir: Path, unique: str) -> None:
    """What containers meet most often: a secret that only root may read."""
    file = reachable_dir / unique
    file.touch(mode=0o600)
    os.seteuid(65534)
    try:
        told = problem(monkeypatch, key_file=file)
    finally:
        os.seteuid(0)
    assert told == f"AUTHSVC_KEY_FILE: {file} may not be read; let the user that authsvc runs as read it"


@pytest.mark.parametrize("secret", [URL, "smtp://mail:hunter2@mail.example", WEBHOOK_KEY])
def test_the_secret_in_place_of_the_path(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """It is not shown as a file that does not exist."""
    told = problem(monkeypatch, smtp_url_file=secret)
    assert told == "AUTHSVC_SMTP_URL_FILE: is a secret; write it into a file, and set the path of that"


def test_all_problems_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A value that is wrong is that of the variable that is set; other settings are checked as well."""
    (tmp_path / "secret").write_text("mysql://server:hunter2@db.example")
    told = problem(
        monkeypatch,
        database_url_file=tmp_path / "secret",
        key_file="/nowhere",
        listen="everywhere",
        scopes_file="/nowhere",
        database_ur_file="/nowhere",
    )
    assert [line.partition(":")[0] for line in sorted(told.splitlines())] == [
        "AUTHSVC_DATABASE_URL_FILE",
        "AUTHSVC_DATABASE_UR_FILE",
        "AUTHSVC_KEY_FILE",
        "AUTHSVC_LISTEN",
        "AUTHSVC_SCOPES_FILE",
    ]
    assert (
        "AUTHSVC_DATABASE_UR_FILE: not a setting of authsvc; did you mean AUTHSVC_DATABASE_URL_FILE?" in told
    )
    assert "AUTHSVC_DATABASE_URL_FILE: use postgresql://user:password@host:port/database" in told


@pytest.mark.parametrize(
    "command", [("serve",), ("migrate",), ("bootstrap",), ("tag-key", "list"), ("audit", "verify")]
)
def test_commands(tmp_path: Path, command: tuple[str, ...]) -> None:
    """All of them read the file: what they say of a database that is not there names its address."""
    (tmp_path / "secret").write_text("postgresql://server:hunter2@127.0.0.1:1/authsvc\n")
    ended = authsvc(*command, cwd=tmp_path, database_url_file=tmp_path / "secret")
    assert ended.code == 1
    assert "127.0.0.1:1" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
