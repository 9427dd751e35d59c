"""What is counted of the use of keys: on each day, who asked, from which network, with which program."""

import re
from datetime import date, datetime
from ipaddress import IPv4Address
from typing import NamedTuple

from authsvc.model.address import MAX_ADDRESS_LENGTH, read
from authsvc.model.key_string import redact
from authsvc.model.memo import remembered
from authsvc.model.text import fault
from authsvc.model.use import noted
from authsvc.model.user_agent import AGENT_LENGTH, Product, UserAgent

#: Stands for all verifiers, networks or programs that are not counted separately any more.
OTHER = "other"
#: Who verifies a key that calls authsvc itself.
ITSELF = "authsvc"
#: How many rows of a key and day name the network and the program, and how many others there are: one for
#: each verifier, and one for all other verifiers.
DETAILED_ROWS, OTHER_ROWS = 80, 20
MAX_ROWS = DETAILED_ROWS + OTHER_ROWS

_IPV4_PREFIX, _IPV6_PREFIX = 24, 48
_MAX_NAME_LENGTH = 40
_BLANK = re.compile(r"\s+")


class KeyUse(NamedTuple):
    """How often a key was used on a day (UTC), by one verifier, network and program.

    `client_ip` is the address of the last of these uses, "" if it is not known. `owner_id` is the key's.
    """

    key_id: str
    day: date
    verifier_id: str
    network: str
    program: str
    uses: int
    last_use_time: datetime
    client_ip: str
    owner_id: str


@remembered(max_entries=4096, max_length=MAX_ADDRESS_LENGTH)
def network_of(client_ip: str) -> str:
    """Return the network of a normalized address, a /24 of IPv4 or a /48 of IPv6; "" without an address."""
    address = read(client_ip)
    if address is None:
        return ""
    length = _IPV4_PREFIX if isinstance(address, IPv4Address) else _IPV6_PREFIX
    host_bits = address.max_prefixlen - length
    return f"{type(address)(int(address) >> host_bits << host_bits)}/{length}"


@remembered(max_entries=4096, max_length=AGENT_LENGTH)
def program_of(user_agent: str) -> str:
    """Return the program that a user agent names first, such as `curl/8.5`; "" for one that names none.

    Of a browser, the product that is its own. The result of a result is the same. Nothing else of the user
    agent is kept, since clients put all kinds of texts there.
    """
    text = _BLANK.sub(" ", redact(noted(user_agent))).strip()
    agent = UserAgent.read(text)
    found = _of_browser(agent) if agent.is_browser else agent.named()
    if found is None or not found.version:
        # Nothing else than a blank tells where the name ends.
        word = (text if found is None else found.name).partition(" ")[0].partition("/")[0]
        found = Product(word if word.isascii() and word.isprintable() else "", "")
    name = found.name[:_MAX_NAME_LENGTH].strip()
    if not name or fault(name):
        return ""
    return f"{name}/{found.version}" if found.version else name


def _of_browser(agent: UserAgent) -> Product | None:
    """Return the product of a browser; Chrome and Safari name themselves like what others state, too."""
    if (own := agent.own()) is not None:
        return own
    names = [product for product in agent.products if product.name in ("Chrome", "Safari")]
    return names[0] if names else None
