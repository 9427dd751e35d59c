"""Mail addresses, international ones (RFC 6531) among them: `zoë@exämple.org`, `用户@例子.公司`.

Every address that HTML takes (`<input type=email>`) is taken; beyond ASCII, letters of any script in both
parts. What is not: quoted local parts, comments, addresses of hosts by number.
"""

import re
import unicodedata

from authsvc.model.text import Form, fault

# In octets: a path without its brackets (RFC 5321, 4.5.3.1.3), and a label (RFC 1035, 2.3.4).
_MAX_LENGTH, _MAX_LABEL_LENGTH = 254, 63
_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+")
_LABEL = re.compile(r"[A-Za-z0-9\x80-\U0010ffff](?:[A-Za-z0-9\x80-\U0010ffff-]*[A-Za-z0-9\x80-\U0010ffff])?")
# Punctuation that IDNA allows (RFC 5892, appendix A), and joiners, whose place `fault` checks.
_IN_LABELS = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d")


def mail_fault(address: str) -> str:
    """Say why this is no mail address; "" if it may be one."""
    if problem := fault(address, Form.LINE):
        return problem
    if len(address.encode()) > _MAX_LENGTH:
        return f"is too long: a mail address has at most {_MAX_LENGTH} bytes in UTF-8"
    local, at, domain = address.rpartition("@")
    if not at or _LOCAL.fullmatch(local) is None or _has_spaces(local):
        return "is no mail address; use a form like ops@example.org"
    if not all(map(_is_label, domain.split("."))):
        return f"{domain!r} is no domain of a mail address; use a form like ops@example.org"
    return ""


def _has_spaces(local: str) -> bool:
    return any(unicodedata.category(character) == "Zs" for character in local)


def _is_label(label: str) -> bool:
    if _LABEL.fullmatch(label) is None:
        return False
    if label.isascii():
        return len(label) <= _MAX_LABEL_LENGTH
    is_written_so = all(
        character <= "~" or character in _IN_LABELS or unicodedata.category(character)[0] in "LMN"
        for character in label
    )
    return is_written_so and len("xn--" + label.encode("punycode").decode()) <= _MAX_LABEL_LENGTH
