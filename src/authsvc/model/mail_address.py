"""Mail addresses, including international ones (RFC 6531): `zoë@exämple.org`, `用户@例子.公司`.

Every address that HTML accepts (`<input type=email>`) is accepted, and letters of any script in both parts.
Quoted local parts, comments and IP addresses as domains are not.
"""

import re
import unicodedata

from authsvc.model.text import Form, fault

# The lengths of an address (RFC 5321, 4.5.3.1.3) and of a label in a domain (RFC 1035, 2.3.4).
_MAX_BYTES, _MAX_LABEL_BYTES = 254, 63
_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+")
_LABEL = re.compile(r"[A-Za-z0-9\x80-\U0010ffff](?:[A-Za-z0-9\x80-\U0010ffff-]*[A-Za-z0-9\x80-\U0010ffff])?")
# Punctuation that IDNA allows (RFC 5892, appendix A), and joiners. `fault` checks where joiners are allowed.
_IN_LABELS = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d")


def mail_fault(address: str) -> str:
    """Return why this is not a valid mail address; "" if it is."""
    if problem := fault(address, Form.LINE):
        return problem
    if len(address.encode()) > _MAX_BYTES:
        return f"is too long: a mail address has at most {_MAX_BYTES} bytes in UTF-8"
    local, at, domain = address.rpartition("@")
    if not at or _LOCAL.fullmatch(local) is None or _has_spaces(local):
        return "is not a valid mail address; use a form like ops@example.org"
    if not all(map(_is_label, domain.split("."))):
        return f"{domain!r} is not a valid domain of a mail address; use a form like ops@example.org"
    return ""


def _has_spaces(local: str) -> bool:
    return any(unicodedata.category(character) == "Zs" for character in local)


def _is_label(label: str) -> bool:
    if _LABEL.fullmatch(label) is None:
        return False
    if label.isascii():
        return len(label) <= _MAX_LABEL_BYTES
    is_written_so = all(
        character <= "~" or character in _IN_LABELS or unicodedata.category(character)[0] in "LMN"
        for character in label
    )
    return is_written_so and len("xn--" + label.encode("punycode").decode()) <= _MAX_LABEL_BYTES
