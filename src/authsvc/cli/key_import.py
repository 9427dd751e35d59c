"""`authsvc keys import`: keys of another system, in batches.

Each batch is one call, so a command that is interrupted has imported whole batches. To go on, run it again:
what was imported before is told as such, and is no error.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from authsvc.cli.call import ClientError, notes
from authsvc.cli.import_file import Line, read_lines
from authsvc.cli.minting import service
from authsvc.v1 import key_service_pb2 as pb

# A call has at most 1,000 keys and 1 MiB.
_MAX_KEYS, _MAX_BYTES = 1000, 900 * 1024
_ALREADY = "KEY_ALREADY_IMPORTED"
# Seconds that a call may take.
_TIMEOUT_SECONDS = 120


async def import_(
    file: Path,
    *,
    owner: str = "",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Import keys of another system by their hashes, from a file of JSON lines, or of CSV (*.csv).

    All keys are checked first, and nothing is imported if one is wrong. Prints a JSON object for each key
    of the file. Can be run again: keys that were imported before stay as they are.

    Parameters
    ----------
    file
        The file; docs/import.md describes it.
    owner
        The owner of the keys in lines that name none.
    dry_run
        Check the keys only.
    skip_bad
        Import the others if some are wrong.
    """
    lines = read_lines(file, owner)
    if not lines:
        raise ClientError(f"{file} has no keys")
    checked = [each async for each in _results(lines, "Checked", validate_only=True)]
    wrong = [(line, result) for line, result in checked if _is_wrong(result)]
    bad = len(wrong)
    if dry_run or (bad and not skip_bad):
        for line, result in checked if dry_run else wrong:
            print(_told(line, result))
        notes.print(f"{len(lines) - bad} of {len(lines)} keys can be imported. Nothing was imported.")
    else:
        bad = await _import(lines)
    if bad:
        raise ClientError(f"{bad} of {len(lines)} keys were refused; their lines are above")


async def _import(lines: Sequence[Line]) -> int:
    """Import keys; print the results; return how many were refused."""
    bad = new = already = 0
    async for line, result in _results(lines, "Imported", validate_only=False):
        new += not result.HasField("error")
        already += result.error.reason == _ALREADY
        bad += _is_wrong(result)
        print(_told(line, result))
    notes.print(f"{new} keys were imported, {already} had been imported before.")
    return bad


async def _results(
    lines: Sequence[Line], did: str, *, validate_only: bool
) -> AsyncIterator[tuple[Line, pb.ImportKeyResult]]:
    done = 0
    async with service() as (stub, metadata):
        for batch in _batches(lines):
            request = pb.ImportKeysRequest(
                owner_id=batch[0].owner_id, keys=[line.key for line in batch], validate_only=validate_only
            )
            answer = await stub.ImportKeys(request, metadata=metadata, timeout=_TIMEOUT_SECONDS)
            if len(answer.results) != len(batch):
                raise ClientError("the service has not told the result of each key; check what was imported")
            for each in zip(batch, answer.results, strict=True):
                yield each
            done += len(batch)
            if done % _MAX_KEYS < len(batch) or done == len(lines):
                notes.print(f"{did} {done} of {len(lines)} ...")


def _batches(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Yield the lines of each owner, as many as a call takes, in the order of the file."""
    by_owner: dict[str, list[Line]] = {}
    for line in lines:
        by_owner.setdefault(line.owner_id, []).append(line)
    for owned in by_owner.values():
        batch: list[Line] = []
        size = 0
        for line in owned:
            length = line.key.ByteSize() + 8
            if batch and (len(batch) >= _MAX_KEYS or size + length > _MAX_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += length
        yield batch


def _is_wrong(result: pb.ImportKeyResult) -> bool:
    return result.error.reason not in ("", _ALREADY)


def _told(line: Line, result: pb.ImportKeyResult) -> str:
    told: dict[str, Any] = {"line": line.number, "owner_id": line.owner_id}
    if result.key_id:
        told["key_id"] = result.key_id
    if result.HasField("error"):
        told["reason"] = result.error.reason
        told |= {name: text for name in ("field", "message") if (text := getattr(result.error, name))}
    return json.dumps(told)
