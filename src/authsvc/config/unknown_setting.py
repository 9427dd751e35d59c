"""What to do about a variable with our prefix that is no setting."""

from collections.abc import Collection
from difflib import get_close_matches

# Settings of earlier versions, and what to do instead; names without the prefix.
_REPLACED = {"METRICS_LISTEN": "set {prefix}ADMIN_LISTEN instead, one address for the metrics of all workers"}


def remedy(name: str, known: Collection[str], prefix: str) -> str:
    """Return the remedy for a name, given the names that are known, all of them with the prefix."""
    bare = name.upper().removeprefix(prefix)
    if bare in _REPLACED:
        return _REPLACED[bare].format(prefix=prefix)
    close = get_close_matches(bare, [each.removeprefix(prefix) for each in known])
    return f"did you mean {prefix}{close[0]}?" if close else "`authsvc settings` lists all of them"
