"""Settings that are URLs of PostgreSQL databases. They hold passwords, so no message shows them."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/]*)(:0*[1-9]\d{0,4})?")


def _check(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        # One host, several, or none, when the query names them.
        readable = all(_HOST.fullmatch(host.strip()) for host in hosts)
        # Otherwise the first part of a password could be taken for a port, and be shown as one.
        readable &= not (parts.fragment or "@" in parts.path or ("@" in parts.query and not parts.path))
    except ValueError:
        readable = False
    if not (readable and text.startswith(("postgresql://", "postgres://"))):
        raise ValueError(
            "use postgresql://user:password@host:port/database; "
            "in user and password write / # ? @ : % as %2F %23 %3F %40 %3A %25"
        )
    if any(re.search(r"\s", host) or (not host and len(hosts) > 1) for host in hosts):
        raise ValueError(
            "its list of hosts has a space or an empty entry; write it like host1:5432,host2:5432"
        )
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check)]
