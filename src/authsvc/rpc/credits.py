"""Credits as messages."""

from authsvc.model.credits import Credits, Refill
from authsvc.v1 import key_service_pb2 as service_pb
from authsvc.v1 import resources_pb2 as pb


def credits_of(message: service_pb.CreateKeyRequest | pb.Key) -> Credits | None:
    """Return the credits in a validated message; None if it has none."""
    if not message.HasField("credits"):
        return None
    asked = message.credits
    remaining = asked.remaining if asked.HasField("remaining") else None
    refill = Refill(asked.refill.amount, asked.refill.day_of_month) if asked.HasField("refill") else None
    return Credits(remaining, refill)


def credits_message(found: Credits | None) -> pb.Credits | None:
    """Return credits as a message; None for None."""
    if found is None:
        return None
    message = pb.Credits(remaining=found.remaining)
    if found.refill is not None:
        message.refill.amount, message.refill.day_of_month = found.refill
        if found.refill_time is not None:
            message.refill.refill_time.FromDatetime(found.refill_time)
    return message
