"""Which keys to list, and in which order."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from authsvc.model.errors import InvalidArgument
from authsvc.model.key_query import ORDERS, KeyFilter, KeyOrder, KeyQuery
from tests.model.samples import HOUR, NOW, a_key

KNOWN = {f"{field}{direction}" for field in ORDERS for direction in ("", " asc", " desc")} | {""}


@pytest.mark.parametrize("field", ["display_name", "create_time", "expire_time", "last_use_time"])
def test_each_order_in_both_directions(field: str) -> None:  # rule 10
    """A field without a direction ascends, as with `asc`; `desc` reverses it."""
    assert KeyOrder.parse(field) == KeyOrder.parse(f"{field} asc") == (field, False)
    assert KeyOrder.parse(f"{field} desc") == (field, True)


@pytest.mark.parametrize("text", ["", "  "])
def test_newest_first_unless_asked_for(text: str) -> None:
    """Without an order, the newest key comes first."""
    assert KeyOrder.parse(text) == KeyOrder() == ("create_time", True)


def test_more_spaces_do_not_matter() -> None:
    """Redundant spaces are insignificant (AIP-132)."""
    assert KeyOrder.parse("  expire_time   desc ") == ("expire_time", True)


@given(st.text(st.characters()))
@example("desc")
@example("asc")
@example("create_time DESC")
@example("Create_Time")
@example("create_time desc desc")
@example("create_time, display_name")
@example("create_time,desc")
@example("-create_time")
@example("owner_id")
@example("owner_id asc")
@example("owner_id desc")
@example("secret_hash")
@example("create_time; DROP TABLE keys")
@example("create_time\0")
@example("\ud800")
def test_rubbish_is_refused(text: str) -> None:
    """Anything else is refused, with the name of the field and the valid values."""
    assume(" ".join(text.split()) not in KNOWN)
    with pytest.raises(InvalidArgument) as refused:
        KeyOrder.parse(text)
    [violation] = refused.value.violations
    assert (violation.field, violation.rule) == ("order_by", "order_by.known")
    assert all(field in violation.description for field in ORDERS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("display_name", "orders"),
        ("create_time", NOW),
        ("expire_time", NOW + HOUR),
        ("last_use_time", None),
    ],
)
def test_position_is_where_the_page_ended(field: str, value: object) -> None:  # rule 10
    """A position has the key's value in the order, for names the case-folded one, and its id."""
    query = KeyQuery("acme", KeyFilter(), KeyOrder(field))
    assert query.position(a_key(expire_time=NOW + HOUR), "orders") == (value, "key_1")
