"""Credits on the command line: refills such as `1000@1`, and `authsvc keys refund`."""

from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import ClientError, output
from authsvc.cli.minting import service
from authsvc.model.credits import Refill
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2


def read_credits(remaining: int | None, refill: str) -> resources_pb2.Credits | None:
    """Return the credits in arguments; None for none. Raise ClientError for what is no refill."""
    if remaining is None and not refill:
        return None
    message = resources_pb2.Credits(remaining=remaining)
    if refill:
        found = Refill.parse(refill)
        if found is None:
            raise ClientError(
                f"{refill!r} is not a refill; use a form like 1000@1: the number, and the day of the month"
            )
        message.refill.amount, message.refill.day_of_month = found
    return message


async def refund(
    key_id: str, amount: int, *, refund_id: Annotated[str, Parameter(name="--refund-id")]
) -> None:
    """Give back credits that verifications of a key have taken.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    amount
        How many credits, at most those that were spent since they were set or refilled.
    refund_id
        What it is for, for instance the id of a request that has failed. It counts once within 30 days.
    """
    request = pb.RefundCreditsRequest(key_id=key_id, amount=amount, refund_id=refund_id)
    async with service() as (stub, metadata):
        response = await stub.RefundCredits(request, metadata=metadata)
    output.print(f"{key_id} has {response.credits.remaining} credits now.")
