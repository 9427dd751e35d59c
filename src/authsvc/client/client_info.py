"""The description of a user's device, for display only. Invalid values are cleaned or ignored."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address

from authsvc.model.memo import remembered
from authsvc.v1.session_service_pb2 import ClientHints

_MAX_ADDRESS_LENGTH = 64
# authsvc keeps a quarter of this.
_MAX_AGENT_LENGTH = 2048
_MAX_HINT_LENGTH = 512
_HINTS = {
    "sec-ch-ua": "brands",
    "sec-ch-ua-full-version-list": "full_version_list",
    "sec-ch-ua-platform": "platform",
    "sec-ch-ua-platform-version": "platform_version",
    "sec-ch-ua-model": "model",
    "sec-ch-ua-mobile": "mobile",
    "sec-ch-ua-form-factors": "form_factors",
}


@remembered(max_entries=4096, max_length=64)  # parsing takes longer than a verification from memory
def address(text: str) -> str:
    """Return an address as authsvc shows it, without brackets, port and zone, or "" if it is not an address.

    The rules are those of `authsvc.model.address`.
    """
    text = text.strip()
    if len(text) > _MAX_ADDRESS_LENGTH:
        return ""
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        if port and not port.startswith(":"):
            return ""
    elif text.count(":") == 1:
        text, _, _ = text.partition(":")
    try:
        found = ip_address(text)
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        # Converted to a number to remove the zone.
        found = found.ipv4_mapped or IPv6Address(int(found))
    return str(found)


def user_agent(text: str) -> str:
    """Return a user agent that can be sent. Surrogates are bytes that a server could not decode."""
    return _sendable(text, _MAX_AGENT_LENGTH)


def client_hints(headers: Mapping[str, str] | Iterable[tuple[str, str | bytes]]) -> ClientHints | None:
    """Return the client hints in headers, with names in any case, or None if there are none."""
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    hints = {
        _HINTS[name.lower()]: _sendable(value, _MAX_HINT_LENGTH)
        for name, value in pairs
        if isinstance(value, str) and name.lower() in _HINTS
    }
    return ClientHints(**hints) if hints else None


def _sendable(text: str, longest: int) -> str:
    try:
        sent = text[:longest].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        sent = text[:longest].encode("utf-8", "replace")
    return sent.decode("utf-8", "replace")
