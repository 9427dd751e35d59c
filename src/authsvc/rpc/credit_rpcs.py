"""The RPC of KeyService that gives credits back."""

from typing import Protocol

from authsvc.keys import Keys
from authsvc.model.caller import Caller
from authsvc.rpc.credits import credits_message
from authsvc.v1 import key_service_pb2 as pb


class CreditRpcs(Protocol):
    """Serves it; the comments in the proto are its specification."""

    _keys: Keys

    async def RefundCredits(
        self, caller: Caller, request: pb.RefundCreditsRequest
    ) -> pb.RefundCreditsResponse:
        """Give back credits that were spent."""
        left = await self._keys.refund_credits(caller, request.key_id, request.amount, request.refund_id)
        return pb.RefundCreditsResponse(credits=credits_message(left))
