"""Rate limits on the command line, such as `requests=100/1m`."""

from collections.abc import Iterable

from authsvc.cli.call import ClientError
from authsvc.model.rate_limit import RateLimit
from authsvc.rpc.rate_limits import limit_messages
from authsvc.v1 import resources_pb2 as pb


def read_limits(texts: Iterable[str], option: str) -> list[pb.RateLimit]:
    """Return the limits in the arguments of an option. Raise ClientError for one that has another form."""
    return limit_messages(_read(text, option) for text in texts)


def _read(text: str, option: str) -> RateLimit:
    limit = RateLimit.parse(text)
    if limit is None:
        raise ClientError(f"{option} {text!r}: write it as requests=100/1m, with s, m, h or d")
    return limit
