"""A verifier for each test."""

from collections.abc import Iterator

import pytest

from tests.verify.parts import Room, make_room


@pytest.fixture
def room() -> Iterator[Room]:
    """A verifier that remembers many keys."""
    furnished = make_room()
    yield furnished
    furnished.hasher.close()


@pytest.fixture
def narrow_room() -> Iterator[Room]:
    """A verifier that remembers one key."""
    furnished = make_room(capacity=1)
    yield furnished
    furnished.hasher.close()
