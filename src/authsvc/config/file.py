"""Files that settings name: their content, and what tells one version of a large file from the next."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from authsvc.config.error import ConfigError

# Certificates, keys and TOML tables are far smaller.
_MAX_BYTES = 8 * 1024 * 1024


class FileStamp(NamedTuple):
    """What tells a file from another one at its path, without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Return the stamp of a file; raise OSError."""
        status = os.stat(path)  # noqa: PTH116 - half the time of the method, and locations take it at each look-up
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def overwrites(self, other: "FileStamp") -> bool:
        """Say whether this is the same file as `other`, written to since."""
        return self != other and self[:2] == other[:2]


@contextmanager
def translate_errors(setting: str, path: Path) -> Iterator[None]:
    """Raise ConfigError that names setting, file and remedy in place of an error of the system."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{setting}: there is no file {path}; check the setting") from None
    except PermissionError:
        raise ConfigError(
            f"{setting}: {path} may not be read; let the user that authsvc runs as read it"
        ) from None
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror or error}") from None


def read_file(setting: str, path: Path) -> bytes:
    """Return the content of a small file; raise ConfigError that names setting, file and remedy."""
    with translate_errors(setting, path), path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{setting}: {path} has more than {_MAX_BYTES} bytes; is it the right file?")
    return content


def fingerprint(setting: str, path: Path) -> bytes:
    """Return what tells this version of a large file from others, without reading it; raise ConfigError.

    A second write to the same file within one tick of its timestamp is missed if the size stays the same.
    """
    try:
        with translate_errors(setting, path):
            if not stat.S_ISREG(path.stat().st_mode):
                kind = "a directory" if path.is_dir() else "not a regular file"
                raise ConfigError(f"{setting}: {path} is {kind}; name the file itself")
            return repr(FileStamp.of(path)).encode()
    except ValueError as error:
        raise ConfigError(f"{setting}: {str(path)!r} cannot be read: {error}") from None


def text_of(content: bytes) -> str:
    """Return the text of a file; raise UnicodeDecodeError when it is not UTF-8.

    A byte order mark, which editors and shells on Windows write, is left out.
    """
    return content.decode("utf-8-sig")
