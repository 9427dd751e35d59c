"""The scopes that a proxy requires, in its settings or in its request."""

from authsvc.model.memo import remembered
from authsvc.model.scope import MAX_LENGTH, is_scope

# Scopes that a route may require, as in VerifyKey; and the length of the text that lists them.
MAX_SCOPES = 64
MAX_SCOPES_LENGTH = MAX_SCOPES * (MAX_LENGTH + 2)


@remembered(max_entries=1024, max_length=512)
def required_scopes(text: str) -> tuple[str, ...] | None:
    """Return the scopes in a setting of a proxy, separated by spaces or commas.

    None if one is not a valid scope, or if there are too many.
    """
    if len(text) > MAX_SCOPES_LENGTH:
        return None
    scopes = tuple(text.replace(",", " ").split())
    return scopes if len(scopes) <= MAX_SCOPES and all(map(is_scope, scopes)) else None
