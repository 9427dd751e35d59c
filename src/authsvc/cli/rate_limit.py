"""Rate limits on the command line, such as `requests=100/1m`."""

from collections.abc import Iterable

from authsvc.cli.call import ClientError
from authsvc.model.rate_limit import RateLimit
from authsvc.v1 import resources_pb2 as pb


def read_limit(text: str) -> pb.RateLimit:
    """Return the limit in an argument. Raise ClientError if there is none in it."""
    limit = RateLimit.parse(text)
    if limit is None:
        raise ClientError(f"{text!r} is not a rate limit; use a form like requests=100/1m, with s, m, h or d")
    message = pb.RateLimit(name=limit.name, limit=limit.limit)
    message.period.seconds = limit.period
    return message


def shown_limits(limits: Iterable[pb.RateLimit]) -> str:
    """Return limits in one line; "" for none."""
    return " ".join(str(RateLimit(each.name, each.limit, each.period.seconds)) for each in limits)
