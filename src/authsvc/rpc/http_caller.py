"""Who asks over HTTP, as authentication sees those who call over gRPC: by a key of their own, or without."""

from collections.abc import Mapping, Sequence


class HttpCaller:
    """Has what authentication reads of the context of a call."""

    def __init__(self, keys: Sequence[str], peer: str) -> None:
        """Take the key strings that came, and the address as gRPC writes it."""
        self._metadata = tuple(("authorization", f"Bearer {key}") for key in keys)
        self._peer = peer

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Return the key strings as gRPC callers send them."""
        return self._metadata

    def peer(self) -> str:
        """Return where the call comes from."""
        return self._peer

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return nothing: no certificate is asked for over HTTP."""
        return {}
