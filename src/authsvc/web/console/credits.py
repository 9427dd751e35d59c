"""Credits in a form: how many remain, and a refill such as `1000@1`."""

from typing import NamedTuple

import grpc

from authsvc.model.credits import Refill
from authsvc.v1 import resources_pb2 as pb
from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem

FIELD = "credits"
_MAX_DIGITS = 13


class TypedCredits(NamedTuple):
    """What is typed. `before` is how many remained when the form was shown."""

    remaining: str = ""
    refill: str = ""
    before: str = ""

    @property
    def message(self) -> pb.Credits | None:
        """The credits as they are sent; None without any. Raises Problem for what is no number or refill.

        What was not changed since the form was shown is left out: the key may have spent some meanwhile.
        """
        if not self.remaining and not self.refill:
            return None
        message = pb.Credits()
        if self.remaining and self.remaining != self.before:
            if not (
                self.remaining.isascii() and self.remaining.isdigit() and len(self.remaining) <= _MAX_DIGITS
            ):
                raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "NO_CREDITS", fields={FIELD: ""})
            message.remaining = int(self.remaining)
        if self.refill:
            refill = Refill.parse(self.refill)
            if refill is None:
                raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "NO_REFILL", fields={"credit_refill": ""})
            message.refill.amount, message.refill.day_of_month = refill
        return message

    def differ(self, key: pb.Key) -> bool:
        """Return whether this changes the credits of a key. Raises Problem as `message` does."""
        wanted = self.message
        if wanted is None or not key.HasField("credits"):
            return (wanted is None) is key.HasField("credits")
        return wanted.HasField("remaining") or self.refill != shown_refill(key.credits)


def credits_of_form(form: Form) -> TypedCredits:
    """Return what was typed."""
    return TypedCredits(form(FIELD), form("credit_refill"), form("credits_before"))


def credits_of(key: pb.Key) -> TypedCredits:
    """Return the credits of a key as a form shows them."""
    if not key.HasField("credits"):
        return TypedCredits()
    remaining = str(key.credits.remaining)
    return TypedCredits(remaining, shown_refill(key.credits), remaining)


def shown_refill(message: pb.Credits) -> str:
    """Return a refill as a page shows it; "" for none."""
    if not message.HasField("refill"):
        return ""
    return f"{message.refill.amount}@{message.refill.day_of_month}"
