"""The files that the driver reads for a URL: what cannot be used is said, with the remedy."""

import logging
import os
from pathlib import Path

import pytest

from authsvc.store import driver_files
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.driver_files import check_files
from tests.certificates import Authority

_URL = "postgresql://u@127.0.0.1:1/d"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home directory without files, no options in the environment, and nothing that was told before."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(driver_files, "_told", set())
    return tmp_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Root certificates that can be used."""
    file = tmp_path / "hunter2.pem"
    file.write_bytes(Authority().cert)
    return file


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_root_certificates_are_missing(home: Path, mode: str) -> None:
    """The message names the default file, and the option for another one."""
    with pytest.raises(ConnectError) as told:
        await connect(f"{_URL}?sslmode={mode}", timeout=1000)
    assert str(told.value) == (
        f"sslrootcert: {home}/.postgresql/root.crt does not exist, and sslmode={mode} requires it; "
        "use sslrootcert=/path/ca.pem in the URL"
    )


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("system", "the driver does not support `system`; use the file, often /etc/ssl/certs/"),
        ("{home}/hunter2", "the file that it names does not exist, and sslmode=verify-full requires it; use"),
        ("{home}", "the file that it names cannot be read (Is a directory); use sslrootcert="),
        ("{home}/rubbish", "the file that it names holds no certificates in PEM form; use sslrootcert="),
    ],
)
def test_root_certificates_that_cannot_be_used(home: Path, file: str, told: str) -> None:
    """The message says why, without a part of the URL."""
    (home / "rubbish").write_text("hunter2")
    with pytest.raises(ConnectError) as refused:
        check_files(f"{_URL}?sslmode=verify-full&sslrootcert={file.format(home=home)}")
    assert str(refused.value).startswith(f"sslrootcert: {told}")
    assert "hunter2" not in str(refused.value)


def test_root_certificates_from_everywhere(home: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL, a service, the environment and the home directory, in the order of the driver."""
    check_files(f"{_URL}?sslmode=verify-full&sslrootcert={root}")
    (home / ".pg_service.conf").write_text(
        f"[here]\nsslmode=verify-full\nsslrootcert={home}/none\npassword=%\n"
    )
    with pytest.raises(ConnectError, match="that it names does not exist"):
        check_files(f"{_URL}?service=here")
    check_files(f"{_URL}?service=here&sslrootcert={root}")
    monkeypatch.setenv("PGSSLMODE", "verify_full")
    with pytest.raises(ConnectError, match="sslmode=verify-full requires it"):
        check_files(_URL)
    monkeypatch.setenv("PGSSLROOTCERT", str(root))
    check_files(_URL)
    monkeypatch.delenv("PGSSLROOTCERT")
    (home / ".postgresql").mkdir()
    root.rename(home / ".postgresql/root.crt")
    check_files(_URL)


def test_root_certificates_that_come_back(root: Path) -> None:
    """A file that was replaced is looked at again."""
    url, good = f"{_URL}?sslmode=verify-full&sslrootcert={root}", root.read_bytes()
    root.write_text("half")
    with pytest.raises(ConnectError, match="no certificates"):
        check_files(url)
    root.write_bytes(good)
    check_files(url)


def _told(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        check_files(url)
        check_files(url)
    return caplog.messages


def test_a_password_file_that_others_can_read(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver ignores it. That is told once, with the remedy, and only if the file would be read."""
    file = home / ".pgpass"
    file.write_text("*:*:*:*:hunter2")
    file.chmod(0o644)
    told = (
        "it has mode 0644 and may be read by others; use chmod 600 (for a Kubernetes Secret, defaultMode: "
        "0400 without fsGroup), or set PGPASSWORD"
    )
    assert _told("postgresql://u:p@h/d", caplog) == []
    assert _told(_URL, caplog) == [f"no password is taken from the password file {file}: {told}"]
    assert _told(f"{_URL}?passfile={file}", caplog) == [
        f"no password is taken from the password file that the URL names: {told}"
    ]
    other = file.rename(home / "other")
    monkeypatch.setenv("PGPASSFILE", str(other))
    assert _told(_URL, caplog) == [f"no password is taken from the password file {other}: {told}"]
    monkeypatch.setattr(driver_files, "_told", set())
    monkeypatch.setenv("PGPASSWORD", "p")
    assert _told(_URL, caplog) == []
    monkeypatch.delenv("PGPASSWORD")
    other.chmod(0o400)
    assert _told(_URL, caplog) == []


def test_other_password_files(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is named has to exist; the default one need not."""
    assert _told(_URL, caplog) == []
    assert _told(f"{_URL}?passfile={home}/none", caplog) == [
        "no password is taken from the password file that the URL names: it does not exist"
    ]
    monkeypatch.setenv("PGPASSFILE", str(home))
    assert _told(_URL, caplog) == [
        f"no password is taken from the password file {home}: it is not a plain file"
    ]
    monkeypatch.setenv("PGPASSFILE", str(home / "secret"))
    (home / "secret").touch(0o600)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # The tests may run as root.
    assert _told(_URL, caplog) == [
        f"no password is taken from the password file {home}/secret: it cannot be read "
        "(Permission denied); give it to the user who runs authsvc, or set PGPASSWORD"
    ]


async def test_the_drivers_own_warning_is_left_out(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It would be a line without its text. In tests, a warning is an error."""
    (home / ".pgpass").touch(0o644)
    with pytest.raises(ConnectError, match="Connection refused"):
        await connect(_URL, timeout=1000)
    assert len(caplog.records) == 1
