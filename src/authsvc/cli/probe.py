"""`authsvc probe`: asks whether a service is ready, for container engines, scripts and schedulers.

It reads the few settings that it needs by itself: loading all of them takes longer than the rest of a probe.
"""

import argparse
import os
import re
import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple, NoReturn

from authsvc.model.key_string import redact
from authsvc.net.listen_address import ListenAddress
from authsvc.net.readiness_call import health_fault, page_fault

#: The default of AUTHSVC_LISTEN.
LISTEN = "127.0.0.1:50051"
_READY, _NOT_READY, _WRONG = 0, 1, 2
_MAX_SECONDS = 3600.0
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}

_CERTIFICATE = (
    "if the service requires client certificates, set AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY, or "
    "probe it by AUTHSVC_ADMIN_LISTEN"
)
_DESCRIPTION = """\
Ask whether the service is ready. Exit with status 0 if it is, with 1 if it is not or does not answer, and
with 2 if the arguments or settings of the probe are wrong. One line says why.

Without --address, the service is the one that the settings configure on this machine, as in a container. If
AUTHSVC_ADMIN_LISTEN is set, its page /readyz is asked, which is ready when one worker is; otherwise
grpc.health.v1 at AUTHSVC_LISTEN. The certificate of this service is not checked, and nothing secret is sent.
If the service requires client certificates, the probe shows AUTHSVC_CALL_TLS_CERT.
"""


class _WrongError(Exception):
    """A setting is wrong; the message names it."""


class _Question(NamedTuple):
    """What to ask where. `page` is one of the admin listener; without it, health is asked over gRPC.

    The `remedy` is for a server that accepts connections and does not answer.
    """

    address: ListenAddress
    page: str = ""
    tls: ssl.SSLContext | None = None
    remedy: str = ""


def main(arguments: Sequence[str]) -> int:
    """Probe the service, print one line, and return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        question = _elsewhere(given.address) if given.address else _here(is_live=given.live)
    except _WrongError as error:
        return _told(_WRONG, str(error))
    try:
        with _within(given.timeout):
            if question.page:
                fault = page_fault(question.address, question.page, given.timeout)
            else:
                fault = health_fault(question.address, question.tls, given.timeout)
    except OSError as error:
        return _told(_NOT_READY, f"not ready: no answer of {question.address}: {_reason(error, question)}")
    if fault and not given.live:
        return _told(_NOT_READY, f"not ready: {question.address}: {fault}")
    return _told(_READY, f"{'alive' if given.live else 'ready'}: {question.address}")


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the block takes longer; timeouts of sockets are for each of its steps."""

    def end(*_: object) -> None:
        raise TimeoutError("timed out")

    handler, timer = signal.signal(signal.SIGALRM, end), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def listed_probe(*arguments: Annotated[str, "as `authsvc probe --help` shows"]) -> NoReturn:
    """Ask whether the service is ready: exit with status 0 if it is."""
    sys.exit(main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "authsvc probe", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--address",
        type=_address,
        help="another service: host:port, or https://host:port for TLS, with AUTHSVC_CALL_TLS_CA to check it",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="ask whether it answers at all: also without the database, and while it stops",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=3.0,
        metavar="DURATION",
        help="how long to wait for an answer, for instance 500ms or 3s (default: 3s)",
    )
    return parser


def _here(*, is_live: bool) -> _Question:
    """Return what to ask of the service that the settings configure."""
    if admin := _setting("ADMIN_LISTEN"):
        address = _parsed("ADMIN_LISTEN", admin)
        return _Question(address.reachable, "/healthz" if is_live else "/readyz")
    address = _parsed("LISTEN", _setting("LISTEN") or LISTEN).reachable
    if not _setting("TLS_CERT"):
        return _Question(address)
    # The certificate bears the name that clients call, not that of this machine.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    needs_one = _setting("TLS_CLIENT_CA") and not _setting("CALL_TLS_CERT")
    return _Question(address, tls=_client(context), remedy=_CERTIFICATE if needs_one else "")


def _elsewhere(given: str) -> _Question:
    """Return what to ask of a service at an address."""
    address = ListenAddress.parse(given.removeprefix("https://"))
    names = ("CALL_TLS_CA", "CALL_TLS_CERT", "CALL_TLS_KEY")
    if not given.startswith("https://") and not any(map(_setting, names)):
        return _Question(address, remedy=f"a service with a certificate is asked by https://{address}")
    ca = _setting("CALL_TLS_CA")
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as error:
        raise _WrongError(f"AUTHSVC_CALL_TLS_CA: cannot use {ca}: {_words(error)}") from None
    return _Question(address, tls=_client(context), remedy="" if _setting("CALL_TLS_CERT") else _CERTIFICATE)


def _client(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context, with the certificate of the command line as a client if there is one."""
    context.set_alpn_protocols(["h2"])
    certificate, key = _setting("CALL_TLS_CERT"), _setting("CALL_TLS_KEY")
    if bool(certificate) != bool(key):
        raise _WrongError("set both AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY, or neither")
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise _WrongError(
                f"AUTHSVC_CALL_TLS_CERT, AUTHSVC_CALL_TLS_KEY: cannot use {certificate} with {key}: "
                f"{_words(error)}"
            ) from None
    return context


def _setting(name: str) -> str:
    """Return a setting, without regard to the case of its name; an empty string if it is not set."""
    name = f"AUTHSVC_{name}"
    return os.environ.get(name) or next((v for k, v in os.environ.items() if v and k.upper() == name), "")


def _parsed(name: str, text: str) -> ListenAddress:
    try:
        address = ListenAddress.parse(text)
    except ValueError as error:
        raise _WrongError(f"AUTHSVC_{name}: {error}") from None
    if not address.port:
        raise _WrongError(f"AUTHSVC_{name}: has port 0, so the port is not known; use --address")
    return address


def _address(text: str) -> str:
    try:
        ListenAddress.parse(text.removeprefix("https://"))
    except ValueError:
        raise argparse.ArgumentTypeError("use host:port, or https://host:port for TLS") from None
    return text


def _seconds(text: str) -> float:
    found = _LENGTH.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError("use a number with a unit, for instance 500ms or 3s, up to 60m")
    return seconds


def _reason(error: OSError, question: _Question) -> str:
    words = _words(error)
    # Nobody listens, or the certificate of the server is wrong.
    if not question.remedy or isinstance(error, ConnectionRefusedError | ssl.SSLCertVerificationError):
        return words
    return f"{words}; {question.remedy}"


def _words(error: Exception) -> str:
    """Return what an error says, in one line."""
    told = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(told).split())


def _told(code: int, line: str) -> int:
    line = redact(f"authsvc probe: {line}")
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr if code else sys.stdout)
    return code
