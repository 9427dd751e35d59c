"""Why no connection to a primary could be opened, for each host."""

import os
import socket
import ssl
from collections.abc import Sequence

import asyncpg


class NotPrimaryError(ConnectionError):
    """The server answers, and cannot be written to."""


class ConnectError(OSError):
    """No host accepted a connection as the primary; the message says why, for each of them.

    `main` is the error that says most: what a server answered, if one did. The message holds no secret.
    """

    def __init__(self, failures: Sequence[tuple[str, Exception]], seconds: float) -> None:
        """Take the hosts with their errors, and the time that each attempt had."""
        super().__init__("; ".join(f"{where}: {_told(where, error, seconds)}" for where, error in failures))
        errors = [error for _, error in failures]
        self.main = next((each for each in errors if isinstance(each, asyncpg.PostgresError)), errors[0])


def _told(where: str, error: Exception, seconds: float) -> str:
    """Return an error in words, which are never empty."""
    match error:
        case TimeoutError():
            return f"no answer within {seconds:g} s"
        case socket.gaierror():
            return f"its name does not resolve ({error.strerror})"
        case FileNotFoundError() if not where.startswith("/"):
            return "a file that the TLS options of its URL name does not exist"
        case OSError(errno=int(number)) if not isinstance(error, ssl.SSLError):
            return os.strerror(number)
        case OSError():
            return str(error) or type(error).__name__
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | asyncpg.InternalClientError():
            told = "; ".join(str(error).splitlines()) or type(error).__name__
            if "startup parameter" in told:
                told += (
                    " (pgbouncer: set AUTHSVC_FEED=poll, or session mode and ignore_startup_parameters = jit)"
                )
            if isinstance(error, asyncpg.UndefinedObjectError):
                told += (
                    " (if it is in the URL, remove it there: options that the driver does not know are sent)"
                )
            return told
        case _:
            return "its answers are not those of PostgreSQL"
