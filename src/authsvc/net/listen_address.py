"""Where a server listens: `host:port`, with an IPv6 address in brackets."""

import re
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address

_MAX_PORT = 65535
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")
_REMEDY = "use host:port, for instance 127.0.0.1:50051 or [::1]:50051"
# What a client calls where a server listens on all addresses.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host name or IP address, without brackets, and a port; port 0 is any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Return the address that a text says; raise ValueError with the remedy."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > _MAX_PORT:
            raise ValueError(_REMEDY)
        try:
            if match[1]:
                IPv6Address(match[1])
            else:
                match[2].encode("idna")  # as whoever looks the name up will do
        except ValueError:
            raise ValueError(_REMEDY) from None
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name is not loopback, except localhost (RFC 6761)."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def reachable(self) -> "ListenAddress":
        """The address as a client on this machine can call it, also when it means all addresses."""
        return replace(self, host=_LOOPBACK_OF.get(self.host, self.host))

    def overlaps(self, other: "ListenAddress") -> bool:
        """Whether only one of two servers can listen there. Names are not resolved."""
        if self.port != other.port or not self.port:
            return False
        hosts = {self.host.lower(), other.host.lower()}
        if len(hosts) == 1 or "::" in hosts:
            return True
        if hosts in ({"localhost", "127.0.0.1"}, {"localhost", "::1"}):
            return True
        # An IPv4 wildcard leaves IPv6 addresses free.
        return "0.0.0.0" in hosts and not any(":" in host for host in hosts)  # noqa: S104 - compared, not bound

    def with_port(self, port: int) -> "ListenAddress":
        """Return the address with another port."""
        return replace(self, port=port)
