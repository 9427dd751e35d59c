"""What is known of a string that was made elsewhere: its look-up, and the hash that proves it."""

from dataclasses import dataclass, field
from typing import Self

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.foreign_hash import UnreadableHashError, read_hash
from authsvc.model.look_up import is_digest, prefix_fault

_DIGEST_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class ForeignSecret:
    """The look-up of a foreign string, and its hash. Of a digest, both are the same."""

    look_up: str
    stored_hash: str = field(repr=False)

    @classmethod
    def of_digest(cls, path: str, digest: str) -> Self:
        """Return what `sha256:` and 64 digits say. Raises InvalidArgument for the field `path`."""
        if not is_digest(digest := digest.lower()):
            problem = (
                "is not the SHA-256 of a string; send sha256: and its 64 hexadecimal digits, not the string"
            )
            raise InvalidArgument(FieldViolation(path, "hash.digest", problem))
        return cls(digest, digest)

    @classmethod
    def of_hash(cls, stored_hash: str, look_up_prefix: str) -> Self:
        """Return what a hash says that another system has kept.

        A salted hash needs a look-up prefix, a digest has none. Raises InvalidArgument for the fields `hash`
        and `look_up_prefix`.
        """
        if stored_hash.lower().startswith(_DIGEST_PREFIX):
            if look_up_prefix:
                problem = "is not used with sha256:, by which the key is found; leave it empty"
                raise InvalidArgument(FieldViolation("look_up_prefix", "look_up_prefix.unused", problem))
            return cls.of_digest("hash", stored_hash)
        try:
            read_hash(stored_hash)
        except UnreadableHashError as error:
            raise InvalidArgument(FieldViolation("hash", "hash.readable", str(error))) from None
        if not look_up_prefix:
            problem = "is required for a salted hash: the public first characters of the string"
            raise InvalidArgument(FieldViolation("look_up_prefix", "look_up_prefix.required", problem))
        if problem := prefix_fault(look_up_prefix):
            raise InvalidArgument(FieldViolation("look_up_prefix", "look_up_prefix.form", problem))
        return cls(look_up_prefix, stored_hash)
