"""How errors name keys, in their message and in their metadata."""

from collections.abc import Sequence

# A message names this many keys and counts the others.
_MAX_NAMED_KEYS = 5


def listed(key_ids: Sequence[str]) -> str:
    """Return the beginning of a sentence about keys: `key key_1 is`, `keys key_1, key_2 are`."""
    more = f" and {len(key_ids) - _MAX_NAMED_KEYS} more" if len(key_ids) > _MAX_NAMED_KEYS else ""
    named = ", ".join(key_ids[:_MAX_NAMED_KEYS]) + more
    return f"key {named} is" if len(key_ids) == 1 else f"keys {named} are"


def key_metadata(key_ids: Sequence[str]) -> dict[str, str]:
    """Return the metadata of an error about keys: `key_ids`, comma-separated; for one key also `key_id`."""
    metadata = {"key_ids": ",".join(key_ids)}
    if len(key_ids) == 1:
        metadata["key_id"] = key_ids[0]
    return metadata
