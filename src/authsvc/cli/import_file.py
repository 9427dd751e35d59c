"""The file of `authsvc keys import`: keys of another system, as JSON lines or CSV.

A line of JSON has the fields of ImportedKey and `owner_id`. CSV has a heading with the same names: `scopes`,
`allowed_networks` and `rate_limits` (`requests=100/1m`) are separated by blanks, `technical_contacts`
(`Name <mail@example.org>`) by semicolons, and a column `annotations.NAME` is one annotation. A rate limit may
have the same form in a line of JSON.

Errors name the line and never repeat what is in it: people may export key strings by mistake.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError, SerializeToJsonError

from authsvc.cli.call import ClientError
from authsvc.cli.contacts import read_contact
from authsvc.cli.rate_limit import read_limits
from authsvc.v1 import key_service_pb2 as pb

_MAX_BYTES = 1024 * 1024 * 1024
_FIELDS = frozenset(pb.ImportedKey.DESCRIPTOR.fields_by_name)
_ANNOTATION = "annotations."


class Line(NamedTuple):
    """A key in the file."""

    number: int
    owner_id: str
    key: pb.ImportedKey


def read_lines(path: Path, owner_id: str) -> list[Line]:
    """Return the keys in a file; `owner_id` is for those that name no owner. Raises ClientError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ClientError(f"{path} has more than {_MAX_BYTES} bytes; split it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            records = _from_csv(path, file) if path.suffix.lower() == ".csv" else _from_json(path, file)
            return [_line(path, number, record, owner_id) for number, record in records]
    except OSError as error:
        raise ClientError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClientError(f"{path} is not in UTF-8; convert it") from None


def _from_json(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise _wrong(path, number, "is not a JSON object; write one object in each line")
        yield number, record


def _from_csv(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(file, strict=True)
    names = rows.fieldnames or ()
    for name in names:
        if name not in _FIELDS | {"owner_id"} and not name.startswith(_ANNOTATION):
            raise _wrong(path, 1, "has a column that no key has; see docs/import.md for their names")
    try:
        for row in rows:
            if None in row or None in row.values():
                raise _wrong(path, rows.line_num, f"has not as many columns as the heading, {len(names)}")
            yield rows.line_num, _record(path, rows.line_num, row)
    except csv.Error:
        raise _wrong(path, rows.line_num, "is not CSV; quote values that have commas or quotes") from None


def _record(path: Path, number: int, row: dict[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in row.items():
        if not value:
            continue
        if name.startswith(_ANNOTATION):
            record.setdefault("annotations", {})[name.removeprefix(_ANNOTATION)] = value
        elif name in ("scopes", "allowed_networks", "rate_limits"):
            record[name] = value.split()
        elif name == "technical_contacts":
            record[name] = [_contact(path, number, text) for text in value.split(";") if text.strip()]
        elif name == "annotations":
            raise _wrong(path, number, f"has annotations in one column; name columns {_ANNOTATION}NAME")
        else:
            record[name] = value
    return record


def _contact(path: Path, number: int, text: str) -> dict[str, str]:
    try:
        contact = read_contact(text)
    except ClientError:
        problem = "has a contact of another form; write 'Name <mail@example.org>'"
        raise _wrong(path, number, problem) from None
    return {"name": contact.name, "email": contact.email}


def _limit(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        [limit] = read_limits([text], "rate_limits")
        return MessageToDict(limit)
    except (ClientError, SerializeToJsonError):  # the latter for a period that no message can have
        problem = "has a rate limit of another form; write requests=100/1m, with s, m, h or d"
        raise _wrong(path, number, problem) from None


def _line(path: Path, number: int, record: dict[str, Any], owner_id: str) -> Line:
    named = record.pop("owner_id", "") or record.pop("ownerId", "") or owner_id
    if not isinstance(named, str) or not named:
        raise _wrong(path, number, "names no owner; add owner_id, or set --owner for all such lines")
    for name in ("rate_limits", "rateLimits"):
        if isinstance(limits := record.get(name), list):
            record[name] = [_limit(path, number, each) if isinstance(each, str) else each for each in limits]
    try:
        return Line(number, named, ParseDict(record, pb.ImportedKey()))
    except (ParseError, TypeError, ValueError):
        problem = "has a field that no key has, or a value of another type; see docs/import.md"
        raise _wrong(path, number, problem) from None


def _wrong(path: Path, number: int, problem: str) -> ClientError:
    return ClientError(f"{path}, line {number}: {problem}")
