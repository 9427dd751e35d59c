"""The key that the client calls authsvc with: a string, a function, or a file that is reloaded."""

import codecs
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from authsvc.client.errors import ClientError, Refused

Metadata = tuple[tuple[str, str], ...]
_Stamp = tuple[int, int, int]

# A file that is written again after this time certainly has another modification time.
_MTIME_GRANULARITY_SECONDS = 2.0


class OwnKey:
    """Provides the metadata of calls. Its `repr` does not show the key."""

    def __init__(self, source: str | Path | Callable[[], str] | None) -> None:
        """Take a key string, a function that returns the current one, a file that contains it, or None.

        None is for clients with a client certificate. Raises ValueError for an invalid key string.
        """
        self._source = source
        self._stamp: _Stamp | None = None
        self._metadata: Metadata = ()
        if isinstance(source, str):
            if source.startswith("~") or "/" in source or "\\" in source:
                raise ValueError(
                    "the key looks like a path; to read the key from a file, pass a pathlib.Path"
                )
            self._metadata = _authorization(source)

    def metadata(self) -> Metadata:
        """Return the metadata for a new call. Raise Refused if there is no key.

        If the file is missing, empty or partly written, the last key from it is used. A ClientError of the
        function is raised as it is.
        """
        try:
            if isinstance(self._source, Path):
                self._read(self._source)
            elif callable(self._source):
                self._metadata = _authorization(_returned(self._source))
        except (OSError, ValueError) as error:
            if not self._metadata or not isinstance(self._source, Path):
                problem = error.strerror if isinstance(error, OSError) else error
                code = grpc.StatusCode.UNAUTHENTICATED
                raise Refused(
                    f"cannot get the client's own key: {problem}", code=code, reason="OWN_KEY_MISSING"
                ) from None
        return self._metadata

    def _read(self, file: Path) -> None:
        """Read the file if it has changed. Usually, this takes one `stat`.

        A file that was written only just now could be written again with the same modification time, so it is
        read again the next time.
        """
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            self._metadata = _authorization(_text(file.read_bytes()))
            self._stamp = stamp if time.time() - found.st_mtime > _MTIME_GRANULARITY_SECONDS else None


def _text(content: bytes) -> str:
    """Return the text of a key file. Editors and shells on Windows write a byte order mark first."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _returned(function: Callable[[], str]) -> str:
    """Return the key of a function. Raise ValueError without the text of its error: it may have the key."""
    try:
        found: object = function()
    except ClientError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no key
        problem = f"the function raised {type(error).__name__}"
    else:
        if isinstance(found, str):
            return found
        problem = f"the function returned {type(found).__name__} instead of a str"
    raise ValueError(problem)  # here, so that the error of the function is not its context


def _authorization(key_string: str) -> Metadata:
    """Return the header. Raise ValueError, without the key, if it is not valid in a header."""
    bare = key_string.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError(
            "it is empty or has characters that no key string has; check that it was copied completely"
        )
    return (("authorization", f"Bearer {bare}"),)
