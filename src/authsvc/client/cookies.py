"""Credentials in cookies, for browsers.

The rules are those of `authsvc.gateway.presented`, which this package does not import. Only `;` separates
cookies (RFC 6265). But to some applications a comma does, so a cookie after a comma is looked at. To others,
such as Python's `http.cookies`, a blank does, so a cookie after a blank is looked at if it has the form of a
credential.
"""

import re
from collections.abc import Iterable, Sequence

# Names of cookies (RFC 6265: a token).
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# A key string or session token, as in `authsvc.model.key_string`.
_FORM = r"[a-z][a-z0-9]{1,9}_(?:live|test|session)_[0-9A-Za-z]{63}"
_WHOLE_FORM = re.compile(_FORM)
# Truncated ones, too.
_ANYWHERE = re.compile(r"[a-z][a-z0-9]{1,9}_(?:live|test|session)_[0-9A-Za-z]{20,63}")


def holds_credential(text: str) -> bool:
    """Return whether a text contains a string of the form of a credential of authsvc."""
    return _ANYWHERE.search(text) is not None


class Cookies:
    """The cookies of these names."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names. Raises TypeError for one string, and ValueError for an invalid name."""
        if isinstance(names, str):
            raise TypeError("cookies takes a list of names, not a string")
        found = tuple(names)
        for name in found:
            if not isinstance(name, str) or _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a valid name of a cookie; use a form like sid")
        self._are_none = not found
        name = f"({'|'.join(map(re.escape, found))})"
        self._ours = re.compile(rf"(?:\A|[;,])\s*{name}\s*(?:=([^;,]*)|(?=[;,]|\Z))")
        self._whole = re.compile(rf";\s*{name}\s*(?:=([^;]*)|(?=;|\Z))")
        self._behind_blank = re.compile(rf'(?<=[^;,\s])\s++{name}\s*=\s*("?{_FORM}"?)(?=[;,\s]|\Z)')
        self._behind_comma = re.compile(rf",\s*{name}\s*=([^;,]*)")

    def find(self, value: str) -> tuple[Sequence[str], bool]:
        """Return the credentials in a cookie header, and whether they are of one cookie that all read alike.

        Browsers send several cookies of one name if an old one was set for another path or domain.
        """
        if self._are_none or not value:
            return (), True
        texts, names, are_plain = [], set(), True
        for match in self._ours.finditer(value):
            if text := _bare(match[2] or ""):
                texts.append(text)
                names.add(match[1])
                are_plain = are_plain and match[0][0] != "," and value[match.end() : match.end() + 1] != ","
        for match in self._behind_blank.finditer(value):
            texts.append(_bare(match[2]))
            are_plain = False
        return texts, are_plain and len(names) <= 1

    def without(self, value: str, keep: str = "") -> str:
        """Return the value of a cookie header without our cookies, except those with the value `keep`."""
        if self._are_none:
            return value

        def kept(found: re.Match[str]) -> str:
            return found[0] if keep and _bare(found[2] or "") == keep else ""

        rest = self._whole.sub(kept, f";{value}")[1:]
        if not keep:
            rest = self._behind_blank.sub("", rest)
            if self._behind_blank.search(rest):
                return ""  # crafted so that removing one credential leaves another
            rest = self._behind_comma.sub(
                lambda found: "" if _WHOLE_FORM.fullmatch(_bare(found[2])) else found[0], rest
            )
        return rest.strip(" \t") if rest.strip("; \t") else ""


def _bare(value: str) -> str:
    """Return the value of a cookie without blanks and quotes around it."""
    return value.strip().strip('"')
