"""`authsvc keys` for who holds a key, or has found one: `revoke-self`, `rotate-self`, `report-leaked`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import ClientError, notes
from authsvc.cli.minting import RequestId, SealTo, mint, service
from authsvc.cli.parameters import Duration
from authsvc.v1 import key_service_pb2 as pb

_STRINGS_PER_CALL = 1000
# A string with its place is far shorter.
_MAX_LINE_LENGTH = 4096


async def revoke_self(
    *, reason: str = "", allow_last_administrator: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Revoke the key in AUTHSVC_KEY itself, permanently. It needs the scope keys:self.

    Parameters
    ----------
    reason
        The reason, for people who read the list later.
    allow_last_administrator
        Revoke even the last administrator key; only `authsvc bootstrap` can create another then.
    """
    request = pb.RevokeSelfRequest(reason=reason, allow_last_administrator=allow_last_administrator)
    async with service() as (stub, metadata):
        answer = await stub.RevokeSelf(request, metadata=metadata)
    notes.print(f"{answer.key_id} is revoked.")


async def rotate_self(*, grace: Duration = None, request_id: RequestId = "", seal_to: SealTo = "") -> None:
    """Replace the key in AUTHSVC_KEY itself and print the new key string. It needs the scope keys:self.

    Parameters
    ----------
    grace
        How much longer the old key works, for instance 24h.
    """
    request = pb.RotateSelfRequest(request_id=request_id)
    if grace is not None:
        request.grace_period.FromTimedelta(grace)
    await mint(request, seal_to)


async def report_leaked(*, place: str = "") -> None:
    """Report key strings that were found, so that they are revoked. Anybody may, also without AUTHSVC_KEY.

    Reads one string from each line of standard input, optionally followed by a space and where it was found.
    The answer does not say which of them are keys.

    Parameters
    ----------
    place
        Where they were found, for lines that do not say it: a URL or a text.
    """
    if sys.stdin.isatty():
        notes.print("One key string per line; Ctrl-D ends the list:")
    leaks = [_leak(line, place) for line in sys.stdin if line.strip()]
    if not leaks:
        raise ClientError("no key strings in the standard input; write one per line")
    async with service(needs_key=False) as (stub, metadata):
        for start in range(0, len(leaks), _STRINGS_PER_CALL):
            request = pb.ReportLeakedKeysRequest(leaks=leaks[start : start + _STRINGS_PER_CALL])
            await stub.ReportLeakedKeys(request, metadata=metadata)
    notes.print(f"{len(leaks)} reported. Those that are keys are revoked.")


def _leak(line: str, place: str) -> pb.LeakedKey:
    text, _, found_at = line.strip()[:_MAX_LINE_LENGTH].partition(" ")
    return pb.LeakedKey(key_string=text, place=found_at.strip() or place)
