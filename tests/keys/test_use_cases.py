"""The classes of use cases, which are composed of base classes."""

from collections import Counter

import pytest

from authsvc.keys import Keys
from authsvc.sessions import Sessions


@pytest.mark.parametrize("composed", [Keys, Sessions])
def test_no_base_class_overrides_a_method_of_another(composed: type) -> None:
    """A private method with the same name in two files would silently replace one of them."""
    ours = [base for base in composed.__mro__ if base.__module__.startswith("authsvc.")]
    methods = Counter(
        name
        for base in ours
        for name, value in vars(base).items()
        if callable(value) and not (name.startswith("__") and name.endswith("__"))
    )
    assert len(methods) >= 4
    assert [name for name, count in methods.items() if count > 1] == []
