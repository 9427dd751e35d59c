"""The `authorization` header with a bearer credential (RFC 6750)."""

_SCHEME = "bearer "
# Headers without a credential, stripped of blanks.
_EMPTY = ("", "bearer")


def bearer_credential(header: str) -> str | None:
    """Return the credential of a header: "" for an empty header, None for one with another scheme."""
    if header.strip().lower() in _EMPTY:
        return ""
    header = header.lstrip()
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return header[len(_SCHEME) :].strip()
