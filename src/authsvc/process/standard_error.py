"""What a child writes to its standard error past our log: gRPC's core, the C library, the interpreter itself.

Mechanism: descriptor 2 of the child is a pipe, and its own log keeps a copy of the real standard error. The
parent reads the pipe, also after the child has crashed, and logs what it says. As of other libraries, only
the fixed words of a line are kept, or its phrase of `last_words`. A line of gRPC's core counts as one of its
place in gRPC.

Bound: a line has at most 1,000 bytes, the rest is dropped; the log limits how many of a kind are written. The
child never waits for the parent: what does not fit into the pipe is lost.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO

import structlog

from authsvc.process.last_words import last_words
from authsvc.telemetry import wording

_log = logging.getLogger(__name__)

_MAX_LINE_BYTES, _READ_BYTES = 1000, 65536
# A line of gRPC's core, for instance: E1126 08:46:11.198229   10877 posix_engine_listener.cc:164] Retrying.
_CORE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./-]+):(\d+)\] (.*)")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
# Why a TLS handshake failed; OpenSSL has a list of such names.
_REASON = re.compile(r"OPENSSL_internal:([A-Z][A-Z_]+)")
_TLS = "ssl_transport_security.cc"


def divert(descriptor: int) -> None:
    """In the child: send descriptor 2 there, and what is logged or printed to where it went before."""
    with suppress(OSError):  # there is no standard error
        kept = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        for handler in logging.root.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(kept)
        sys.stderr = kept
        os.dup2(descriptor, 2)


class StandardError:
    """The parent's end of the pipe."""

    def __init__(self, reader: BinaryIO, log_context: Mapping[str, object]) -> None:
        """Take the end of the pipe, and what each line has besides its text."""
        self._reader = reader
        self._context = log_context
        self._rest = b""
        os.set_blocking(reader.fileno(), False)

    @property
    def closed(self) -> bool:
        """Whether no more can come."""
        return self._reader.closed

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there is something."""
        return self._reader.fileno()

    def log(self) -> None:
        """Log what has arrived, up to some amount; do not wait."""
        read = None if self._reader.closed else self._reader.read(_READ_BYTES)
        if read is None:
            return
        *lines, self._rest = (self._rest + read).split(b"\n")
        self._rest = self._rest[:_MAX_LINE_BYTES]
        if not read:
            lines, self._rest = [self._rest], b""
            self._reader.close()
        with structlog.contextvars.bound_contextvars(**self._context):
            for line in lines:
                if text := line[:_MAX_LINE_BYTES].decode("utf-8", "replace").strip():
                    _log_line(text)

    def close(self) -> None:
        """Read no more."""
        self._reader.close()


def _log_line(text: str) -> None:
    core = _CORE.fullmatch(text)
    if core is None:
        _log.warning("on standard error: %s", last_words(text) or wording.fixed_words(text))
        return
    letter, file, line, message = core.groups()
    words = wording.fixed_words(message)
    if file.endswith(_TLS) and (reason := _REASON.search(message)):
        words += f", {reason[1]}"
    record = logging.LogRecord(
        _log.name, _LEVELS[letter], file, int(line), "gRPC: %s (%s:%d)", (words, file, int(line)), None
    )
    if _log.isEnabledFor(record.levelno):
        _log.handle(record)
