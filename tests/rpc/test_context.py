"""The plain values of a call: until when its caller waits."""

import math
from types import SimpleNamespace
from typing import cast

import pytest

from authsvc.rpc.context import Context, incoming_call


@pytest.mark.parametrize(("left", "deadline"), [(10.0, 109.8), (0.2, 100.1), (0.0, 100.0), (None, math.inf)])
def test_an_answer_has_time_to_arrive(left: float | None, deadline: float) -> None:
    """A call ends 0.2 s before the caller's deadline, or after half of a shorter time."""
    context = cast(
        "Context",
        SimpleNamespace(
            invocation_metadata=lambda: None, auth_context=dict[str, list[bytes]], time_remaining=lambda: left
        ),
    )
    called = incoming_call(context, "ipv4:192.0.2.7:4711", lambda: 100.0, with_deadline=True)
    assert called.deadline == pytest.approx(deadline)
    assert incoming_call(context, "", lambda: 100.0, with_deadline=False).deadline == math.inf
