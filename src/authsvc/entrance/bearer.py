"""The `authorization` header with a bearer credential (RFC 6750)."""

_SCHEME = "bearer "
# Headers without a credential, stripped of blanks.
_EMPTY = ("", "bearer")


def bearer_credential(header: str) -> str | None:
    """Return the credential of a header: "" for an empty header, None for one with another scheme."""
    header = header.strip()
    if header[: len(_SCHEME)].lower() == _SCHEME:
        return header[len(_SCHEME) :].lstrip()
    return "" if header.lower() in _EMPTY else None
