"""How the open files of a process are divided, and what is said when there are too few."""

import pytest

from authsvc.net import open_files
from authsvc.net.open_files import OpenFilesError

_RESERVED = 10 + 128


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and the hard limit of this process."""
    limits = [1024, 4096]
    monkeypatch.setattr("resource.getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr("resource.setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    return limits


def test_descriptors_are_kept_aside(limits: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """Descriptors for the database, the feed and the metrics are reserved; the log tells the operator."""
    assert open_files.shares({"grpc": 500}, 10) == {"grpc": 500}
    open_files.warn_of_shortage({"grpc": 500}, 10)
    assert not caplog.text
    assert open_files.shares({"grpc": 1000}, 10) == {"grpc": 1024 - _RESERVED}
    open_files.warn_of_shortage({"grpc": 1000}, 10)
    assert "the limit of open files is 1024, so each worker accepts 886 instead of 1000 grpc" in caplog.text
    assert open_files.raise_limit() == limits[0] == 4096
    assert open_files.shares({"grpc": 1000}, 10) == {"grpc": 1000}


@pytest.mark.parametrize(
    ("files", "wanted", "given"),
    [
        (4096, {"grpc": 1000, "http": 2000}, {"grpc": 1000, "http": 2000}),
        (1138, {"grpc": 1000, "http": 4096}, {"grpc": 500, "http": 500}),
        (1138, {"grpc": 100, "http": 4096}, {"grpc": 100, "http": 900}),
        (1138, {"grpc": 4096, "http": 100}, {"grpc": 900, "http": 100}),
        (154, {"grpc": 1000, "http": 4096}, {"grpc": 8, "http": 8}),
    ],
)
def test_listeners_share_what_there_is(
    limits: list[int], files: int, wanted: dict[str, int], given: dict[str, int]
) -> None:
    """Together they get no more than is left; what one of them does not want is for the other."""
    limits[0] = files
    assert open_files.shares(wanted, 10) == given
    assert sum(given.values()) <= files - _RESERVED


def test_too_few_files_are_told(limits: list[int]) -> None:
    """The error has the limit, how high it has to be, and how to raise it."""
    limits[0] = 153
    with pytest.raises(OpenFilesError) as caught:
        open_files.shares({"grpc": 1000, "http": 4096}, 10)
    assert str(caught.value) == (
        "the limit of open files is 153, and a worker with 10 connections to the database "
        "(AUTHSVC_DATABASE_POOL_SIZE) needs at least 154: raise it (ulimit -n, LimitNOFILE= of systemd)"
    )
    open_files.check_supervisor(44)
    with pytest.raises(OpenFilesError, match="AUTHSVC_WORKERS"):
        open_files.check_supervisor(45)


def test_a_hard_limit_that_the_system_does_not_grant(
    limits: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hard limit of macOS is infinite, and it grants 10,240; where it grants nothing, the log says so."""
    most = 10_240

    def grant(_: int, new: tuple[int, int]) -> None:
        if new[0] > most:
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = new

    monkeypatch.setattr("resource.setrlimit", grant)
    limits[:] = 256, 2**63 - 1
    assert open_files.raise_limit() == most
    assert not caplog.text
    most = limits[0] = 256
    assert open_files.raise_limit() == 256
    assert "cannot raise the limit of open files from 256" in caplog.text
