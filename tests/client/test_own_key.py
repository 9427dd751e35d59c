"""A function that returns the client's own key, and fails."""

from typing import Any

import grpc
import pytest

from authsvc.client import AuthClient, Refused, Unavailable


class _Unknown(Exception):
    pass


@pytest.mark.parametrize(
    "error", [ValueError, OSError, TimeoutError, RuntimeError, UnicodeError, _Unknown, KeyError]
)
async def test_a_function_for_the_own_key_that_fails(error: type[Exception]) -> None:
    """It is Refused with the type of the error. Its text may have the key, so it is told nowhere."""

    def read() -> str:
        raise error("hunter2")

    async with AuthClient("127.0.0.1:1", key=read, tls=None) as client:
        with pytest.raises(Refused, match=f"own key: the function raised {error.__name__}$") as caught:
            await client.verify_key("x")
    assert caught.value.reason == "OWN_KEY_MISSING"
    told: BaseException | None = caught.value
    while told is not None:
        assert "hunter2" not in repr(told)
        told = told.__context__


@pytest.mark.parametrize("returned", [None, b"hunter2", 7, ["hunter2"]])
async def test_a_function_that_returns_no_key(returned: Any) -> None:
    """It is Refused with the type of what was returned."""
    async with AuthClient("127.0.0.1:1", key=lambda: returned, tls=None) as client:
        with pytest.raises(Refused, match=f"returned {type(returned).__name__} instead of a str$") as caught:
            await client.verify_key("x")
    assert caught.value.reason == "OWN_KEY_MISSING"


async def test_a_function_for_the_own_key_may_say_why() -> None:
    """An error of this package is told as it is: the function knows whether it is worth to try again."""
    raised = Unavailable("the vault is sealed", code=grpc.StatusCode.UNAVAILABLE, retry_after=7)

    def read() -> str:
        raise raised

    async with AuthClient("127.0.0.1:1", key=read, tls=None) as client:
        with pytest.raises(Unavailable) as caught:
            await client.verify_key("x")
    assert caught.value is raised
