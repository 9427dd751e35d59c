"""How the event loop reports errors that no task has received."""

import asyncio
import gc
import socket

import pytest

from authsvc.process import loop


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition("\n")[0] for record in caplog.records if record.name == "asyncio"]


def _forgotten(error: Exception) -> None:
    """Leave an error in a future that is not awaited."""
    asyncio.get_running_loop().create_future().set_exception(error)


def test_a_look_up_that_was_given_up_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """The caller that needed the host has timed out, or is gone."""

    async def main() -> None:
        _forgotten(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        gc.collect()

    loop.run(main())
    assert _told(caplog) == []


def test_other_errors_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """One that is not awaited, and a task that failed because a host was not found."""

    async def die() -> None:
        raise socket.gaierror

    async def main() -> None:
        _forgotten(ValueError())
        await asyncio.wait([asyncio.ensure_future(die())])
        gc.collect()

    loop.run(main())
    assert _told(caplog) == ["Future exception was never retrieved", "Task exception was never retrieved"]
