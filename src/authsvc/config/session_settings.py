"""Settings of the sessions of users."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from authsvc.config.duration import Duration, between
from authsvc.model.activity import MAX_INTERVAL_SECONDS, SHORTEST_TIMEOUT

_MS, _HOUR, _CENTURY = timedelta(milliseconds=1), timedelta(hours=1), timedelta(days=36500)
_MAX_ACTIVITY_INTERVAL = timedelta(seconds=MAX_INTERVAL_SECONDS)


class SessionSettings(BaseSettings):
    """A part of `Settings`."""

    activity_interval: Annotated[Duration, between(_MS, _MAX_ACTIVITY_INTERVAL)] = Field(
        timedelta(seconds=5), description="how often the last activity of sessions is written"
    )
    session_idle_timeout: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=7), description="how long a session lasts without activity, unless its client sets it"
    )
    session_idle_timeout_max: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=30), description="the longest idle timeout that a client can ask for"
    )
    session_lifetime: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=30), description="maximum lifetime of a session, unless its client sets it"
    )
    session_lifetime_max: Annotated[Duration, between(SHORTEST_TIMEOUT, _CENTURY)] = Field(
        timedelta(days=365), description="the longest lifetime that a client can ask for"
    )
    session_retention: Annotated[Duration, between(_HOUR, _CENTURY)] = Field(
        timedelta(days=30), description="how long ended sessions are kept for display"
    )

    @field_validator("session_idle_timeout_max", "session_lifetime_max")
    @classmethod
    def _check_most(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        default = str(info.field_name).removesuffix("_max")
        if default in info.data and info.data[default] > value:
            raise ValueError(f"is less than the default, AUTHSVC_{default.upper()}; raise it, or lower that")
        return value
