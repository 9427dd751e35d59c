"""The files that the driver reads for a URL: the root certificates and the password file.

Mechanism: the driver ignores a password file that it cannot use, and says little about a root certificate. So
both are looked at before it connects. Options are taken as the driver takes them: from the URL, then from the
service that it names, then from the environment.

Bound: a file of certificates is parsed once, and again when it has changed.

Failure: ConnectError for root certificates, since the file may come back. What is wrong with a password
file is logged, since the server may not ask for a password. No message holds a part of the URL.
"""

import configparser
import logging
import os
import ssl
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from stat import S_IMODE, S_IRWXG, S_IRWXO, S_ISREG
from urllib.parse import parse_qsl, urlsplit

from authsvc.store.connect_error import ConnectError

_log = logging.getLogger(__name__)

_VERIFIED = ("verify-ca", "verify-full")
_REMEDY = "use sslrootcert=/path/ca.pem in the URL"
_told: set[str] = set()


def check_files(url: str) -> None:
    """Raise ConnectError when the root certificates cannot be used; log why a password file is ignored."""
    options = _options(url)
    if fault := _fault_of_root(options):
        raise ConnectError([("sslrootcert", OSError(fault))], 0)
    if (fault := _fault_of_password_file(url, options)) and fault not in _told:
        _told.add(fault)
        # The driver's own warning would be a line without its text.
        warnings.filterwarnings("ignore", "password file ")
        _log.warning("no password is taken from %s", fault)


def _options(url: str) -> Mapping[str, str]:
    """Return the options of a URL, and those of the service that it names."""
    options = dict(parse_qsl(urlsplit(url).query))
    if service := options.get("service"):
        services = configparser.ConfigParser()
        services.read(os.environ.get("PGSERVICEFILE") or _home(".pg_service.conf") or ())
        if services.has_section(service):
            return {**dict(services.items(service, raw=True)), **options}
    return options


def _home(name: str) -> Path | None:
    try:
        return Path.home() / name
    except RuntimeError:
        return None


def _fault_of_root(options: Mapping[str, str]) -> str:
    mode = options.get("sslmode") or os.environ.get("PGSSLMODE", "")
    mode = mode.replace("_", "-")  # The driver takes both.
    given = options.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if mode not in _VERIFIED and not (mode == "require" and given):
        return ""
    file = Path(given) if given else _home(".postgresql/root.crt")
    if file is None:
        return f"sslmode={mode} requires root certificates; {_REMEDY}"
    what = "the file that it names" if options.get("sslrootcert") else str(file)
    try:
        status = file.stat()
        return _fault_of_certificates(file, (status.st_ino, status.st_mtime_ns, status.st_size), what)
    except FileNotFoundError:
        if given == "system":
            return (
                "the driver does not support `system`; use the file, often /etc/ssl/certs/ca-certificates.crt"
            )
        return f"{what} does not exist, and sslmode={mode} requires it; {_REMEDY}"
    except OSError as error:
        return f"{what} cannot be read ({error.strerror}); {_REMEDY}"


@lru_cache(maxsize=8)
def _fault_of_certificates(file: Path, version: object, what: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        return f"{what} holds no certificates in PEM form; {_REMEDY}"
    return ""


def _fault_of_password_file(url: str, options: Mapping[str, str]) -> str:
    if urlsplit(url).password or "password" in options or "PGPASSWORD" in os.environ:
        return ""
    given = options.get("passfile") or os.environ.get("PGPASSFILE")
    file = Path(given) if given else _home(".pgpass")
    if file is None:
        return ""
    what = "the password file " + ("that the URL names" if options.get("passfile") else str(file))
    try:
        status = file.stat()
        if not S_ISREG(status.st_mode):
            return f"{what}: it is not a plain file"
        if status.st_mode & (S_IRWXG | S_IRWXO):
            return (
                f"{what}: it has mode {S_IMODE(status.st_mode):04o} and may be read by others; use chmod 600 "
                "(for a Kubernetes Secret, defaultMode: 0400 without fsGroup), or set PGPASSWORD"
            )
        file.open().close()
    except FileNotFoundError:
        return f"{what}: it does not exist" if given else ""
    except OSError as error:
        return (
            f"{what}: it cannot be read ({error.strerror}); give it to the user who runs authsvc, "
            "or set PGPASSWORD"
        )
    return ""
