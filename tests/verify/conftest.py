"""A verifier for each test."""

from collections.abc import Iterator

import pytest

from tests.verify.parts import Parts, make_parts


@pytest.fixture
def parts() -> Iterator[Parts]:
    """A verifier that remembers many keys."""
    furnished = make_parts()
    yield furnished
    furnished.hasher.close()


@pytest.fixture
def narrow_parts() -> Iterator[Parts]:
    """A verifier that remembers one key."""
    furnished = make_parts(capacity=1)
    yield furnished
    furnished.hasher.close()
