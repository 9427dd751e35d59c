"""Rate limits in a column: an array of a name, a limit, and a period in seconds for each."""

import json
from collections.abc import Sequence

from authsvc.model.rate_limit import RateLimit

#: The column of most keys and policies.
NONE = "[]"


def from_json(text: str | None) -> tuple[RateLimit, ...]:
    """Return the limits in a column; none for NULL."""
    return () if text is None or text == NONE else tuple(RateLimit(*each) for each in json.loads(text))


def as_json(limits: Sequence[RateLimit]) -> str:
    """Return limits as a column has them."""
    return json.dumps(limits)
