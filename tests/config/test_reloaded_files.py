"""Files that are reloaded when their content changes."""

import asyncio
import os
from pathlib import Path

import pytest

from authsvc.app.background import run_forever
from authsvc.config.file import fingerprint
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import ConfigError
from tests.conftest import Ticker

SETTING = "AUTHSVC_X"


def parse(contents: Contents) -> int:
    """Return the number in the file."""
    try:
        return int(contents[SETTING])
    except ValueError:
        raise ConfigError(f"{SETTING}: no number") from None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("1")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def write_unseen(path: Path, text: str) -> None:
    """Write the content without changing the time stamp."""
    stamp = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(stamp, stamp))


async def test_a_change_without_a_trace_is_seen(path: Path) -> None:
    """The same size, the same time stamp, the same inode, and different content."""
    watched = ReloadedFiles({SETTING: path}, parse)
    write_unseen(path, "2")
    await watched.look()
    assert watched.value == 2


async def test_what_has_not_changed_is_not_parsed(path: Path) -> None:
    """A check without changes costs one read."""
    parsed: list[int] = []

    def count(contents: Contents) -> int:
        parsed.append(parse(contents))
        return parsed[-1]

    watched = ReloadedFiles({SETTING: path}, count)
    for _ in range(3):
        await watched.look()
    assert parsed == [1]


async def test_what_is_back_as_it_was_is_not_stale(path: Path) -> None:
    """Restoring the previous file fixes a broken one."""
    watched = ReloadedFiles({SETTING: path}, parse)
    write(path, "x")
    await watched.look()
    assert (watched.value, watched.is_stale) == (1, True)
    write(path, "1")
    await watched.look()
    assert (watched.value, watched.is_stale) == (1, False)


async def test_a_fault_does_not_end_the_looking(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next check works as usual."""

    def fail_at_two(contents: Contents) -> int:
        value = parse(contents)
        if value == 2:
            raise RuntimeError("two")
        return value

    ticker = Ticker()
    watched = ReloadedFiles({SETTING: path}, fail_at_two)
    running = asyncio.create_task(run_forever(watched.look, ticker, "looking at files"))
    async with asyncio.timeout(10):
        write(path, "2")
        ticker.tick()
        while "unexpected error in looking at files; it will be retried" not in caplog.messages:  # noqa: ASYNC110 - it is in the log only
            await asyncio.sleep(0)
        write(path, "3")
        ticker.tick()
        while watched.value != 3:  # noqa: ASYNC110 - and this in the value only
            await asyncio.sleep(0)
    running.cancel()


async def test_a_large_file_is_read_when_its_fingerprint_changes(path: Path) -> None:
    """A check compares fingerprints; the file itself is only opened by `parse`, once for each version."""
    opened: list[str] = []

    def open_file(contents: Contents) -> str:
        assert contents[SETTING] != path.read_bytes()
        opened.append(path.read_text())
        return opened[-1]

    with path.open("r+b") as file:
        file.truncate(9 * 1024 * 1024)  # More than the limit.
    watched = ReloadedFiles({SETTING: path}, open_file, read=fingerprint)
    await watched.look()
    fresh = path.with_suffix(".new")
    fresh.write_text("2")
    fresh.replace(path)
    await watched.look()
    await watched.look()
    assert watched.value == "2"
    assert len(opened) == 2


async def test_a_value_that_cannot_be_kept_is_reloaded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also if the same version is restored."""
    watched = ReloadedFiles({SETTING: path}, lambda contents: [parse(contents)], can_keep=lambda _: False)
    before = watched.value
    write(path, "x")
    await watched.look()
    assert [record.message for record in caplog.records] == [
        "AUTHSVC_X: no number; until this is corrected, nothing in it is used"
    ]
    write(path, "1")
    await watched.look()
    assert watched.value == before
    assert watched.value is not before
    assert not watched.is_stale


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none", "there is no file"),
        ("file/none", "there is no file"),
        ("", "is a directory"),
        ("\0", "cannot be read"),
    ],
)
def test_a_large_file_that_is_not_one(path: Path, name: str, problem: str) -> None:
    """The setting and the file are named."""
    with pytest.raises(ConfigError, match=f"^{SETTING}: .*{problem}"):
        fingerprint(SETTING, path.parent / name)


def test_a_file_without_end_is_not_read(path: Path) -> None:
    """The wrong file was set."""
    with path.open("wb") as file:
        file.truncate(9 * 1024 * 1024)
    with pytest.raises(ConfigError, match=r"has more than 8388608 bytes; is it the right file\?$"):
        ReloadedFiles({SETTING: path}, parse)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(path: Path) -> None:
    """The message names the account that needs permission."""
    path.chmod(0)
    with pytest.raises(ConfigError, match="let the user that authsvc runs as read it"):
        ReloadedFiles({SETTING: path}, parse)
