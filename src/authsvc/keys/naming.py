"""How errors name keys, in a sentence and for programs."""

from collections.abc import Sequence

# More are counted and not named in a sentence.
_MAX_SHOWN = 5


def listed(key_ids: Sequence[str]) -> str:
    """Return what a sentence about these keys begins with: `key key_1 is`, `keys key_1, key_2 are`."""
    more = f" and {len(key_ids) - _MAX_SHOWN} more" if len(key_ids) > _MAX_SHOWN else ""
    named = ", ".join(key_ids[:_MAX_SHOWN]) + more
    return f"key {named} is" if len(key_ids) == 1 else f"keys {named} are"


def key_metadata(key_ids: Sequence[str]) -> dict[str, str]:
    """Return what the metadata of an error says of these keys: `key_ids`, and `key_id` if it is one."""
    metadata = {"key_ids": ",".join(key_ids)}
    if len(key_ids) == 1:
        metadata["key_id"] = key_ids[0]
    return metadata
