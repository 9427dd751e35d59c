"""The key that we call authsvc with: given, asked for, or read from a file, anew whenever it has changed."""

import codecs
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from authsvc.client.errors import Refused

Metadata = tuple[tuple[str, str], ...]
_Stamp = tuple[int, int, int]

# Seconds after which a file that is written again has other stamps.
_SETTLED = 2.0


class OwnKey:
    """Tells the metadata to call with. Its `repr` does not tell the key."""

    def __init__(self, source: str | Path | Callable[[], str] | None) -> None:
        """Take a key string, a function that returns the current one, a file that holds it, or None.

        None is for those whom their client certificate names. Raises ValueError for what is no key string.
        """
        self._source = source
        self._stamp: _Stamp | None = None
        self._metadata: Metadata = ()
        if isinstance(source, str):
            if source.startswith("~") or "/" in source or "\\" in source:
                raise ValueError(
                    "the key looks like a path; to have it read from a file, give a pathlib.Path"
                )
            self._metadata = _authorization(source)

    def metadata(self) -> Metadata:
        """Return the metadata of a call that begins now; raise Refused when there is no key to be had.

        A file that is gone, empty or half written leaves us with the key that it held before.
        """
        try:
            if isinstance(self._source, Path):
                self._read(self._source)
            elif callable(self._source):
                self._metadata = _authorization(self._source())
        except (OSError, ValueError) as error:
            if not self._metadata or not isinstance(self._source, Path):
                problem = error.strerror if isinstance(error, OSError) else error
                code = grpc.StatusCode.UNAUTHENTICATED
                raise Refused(
                    f"our own key cannot be had: {problem}", code=code, reason="OWN_KEY_MISSING"
                ) from None
        return self._metadata

    def _read(self, file: Path) -> None:
        """Read the file if it is another one than before: a call costs one look at its stamps.

        Those of a file that is only just written could stay as they are when it is written again, so it is
        read again, too.
        """
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            self._metadata = _authorization(_text(file.read_bytes()))
            self._stamp = stamp if time.time() - found.st_mtime > _SETTLED else None


def _text(content: bytes) -> str:
    """Return the text of a key file. Editors and shells of Windows put a byte order mark before it."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _authorization(key_string: str) -> Metadata:
    """Return the header; raise ValueError, which does not repeat it, for what no header can hold."""
    bare = key_string.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("it is empty, or has characters that no key string has; was it copied whole?")
    return (("authorization", f"Bearer {bare}"),)
