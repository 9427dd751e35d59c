"""The parts of a `user-agent` header (RFC 9110, section 10.1.5): products, each followed by comments."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from authsvc.model.text import fault

#: How many characters of a user agent are stored and examined. Real ones have 100 to 300.
AGENT_LENGTH = 512

# Text in parentheses. Real comments are rarely nested, so nesting is ignored, which keeps this linear.
_COMMENT = re.compile(r"\(([^()]*)\)?")
_PRODUCT = re.compile(r"([A-Za-z%_][A-Za-z0-9._+%-]{0,63})/v?(\d{1,9}(?:\.\d{1,9}){0,3})?")
# All words before the first version, which follows a slash or a space: My App/1.0, Instagram 340.1.
_NAMED = re.compile(
    r"((?:[^\W\d]|%)[^()<>\[\]{},;@/\"\\]{0,63}?) ?(?:/(?=\S)| (?=v?\d+\.\d))"
    r"(?:v?(\d{1,9}(?:\.\d{1,9}){0,3}))?"
)
# Products that browsers state for compatibility.
_COMMON = frozenset(
    {
        "AppleWebKit",
        "Chrome",
        "Chromium",
        "Electron",
        "Gecko",
        "Mobile",
        "Mozilla",
        "Presto",
        "Safari",
        "Version",
    }
)


class Product(NamedTuple):
    """A name with its version, which may be empty."""

    name: str
    version: str


class UserAgent(NamedTuple):
    """The parts of a user agent; `bare` is the text without comments."""

    text: str
    bare: str
    comments: tuple[str, ...]
    products: tuple[Product, ...]

    @classmethod
    def read(cls, text: str) -> "UserAgent":
        """Return the parts of any text, which may have no products and no comments."""
        bare = _COMMENT.sub(" ", text)
        comments = tuple(comment for comment in _COMMENT.findall(text) if comment)
        return cls(text, bare, comments, products_in(bare))

    @property
    def is_browser(self) -> bool:
        """Whether it begins like the user agents of browsers. Others begin with a name of their own."""
        return self.text.startswith(("Mozilla/", "Opera/"))

    @property
    def platform(self) -> str:
        """The first comment, which describes system and device."""
        return self.comments[0] if self.comments else ""

    def version_of(self, name: str) -> str:
        """Return the version of a product; "" when it is not named."""
        return next((product.version for product in self.products if product.name == name), "")

    def names(self, *names: str) -> bool:
        """Return whether one of these products is named."""
        return any(product.name in names for product in self.products)

    def own(self) -> Product | None:
        """Return the first product that is not stated for compatibility only."""
        return next((product for product in self.products if product.name not in _COMMON), None)

    def named(self) -> Product | None:
        """Return the program that the agent begins with: all words before the first version, and that."""
        match = _NAMED.match(self.text)
        return Product(_readable(match[1].strip()), shown_version(match[2] or "")) if match else None


def of_a_user(text: str) -> str:
    """Return the user agent of a call; "" for that of a gRPC library, which is the same on every device."""
    return "" if "grpc-" in text else text


def products_in(text: str) -> tuple[Product, ...]:
    """Return the products in a text without comments."""
    return tuple(
        Product(_readable(match[1]), shown_version(match[2] or "")) for match in _PRODUCT.finditer(text)
    )


def shown_version(version: str) -> str:
    """Return the first two numbers: 18.1 for 18.1.2, and 131 for 131.0.0.0."""
    return ".".join(version.split(".")[:2]).removesuffix(".0")


def _readable(name: str) -> str:
    """Return a name with percent-encoding resolved: CFNetwork writes a space in the name of an app as %20."""
    if "%" not in name:
        return name
    readable = unquote(name)
    return name if fault(readable) or "\ufffd" in readable else readable.strip()
