"""Contacts as they are written on the command line."""

import re

from authsvc.cli.call import ClientError
from authsvc.v1 import resources_pb2


def read_contact(text: str) -> resources_pb2.TechnicalContact:
    """Return the contact in a text like `Name <mail@example.org>`. Raises ClientError."""
    match = re.fullmatch(r"\s*(.+?)\s*<([^<>]+)>\s*", text)
    if match is None:
        raise ClientError(f"--contact {text!r}: write it as 'Name <mail@example.org>'")
    return resources_pb2.TechnicalContact(name=match[1], email=match[2])
