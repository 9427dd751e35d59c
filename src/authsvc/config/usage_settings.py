"""Settings of the counts of uses of keys."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from authsvc.config.duration import Duration, between

_SHORTEST, _LONGEST = timedelta(days=1), timedelta(days=36500)


class UsageSettings(BaseSettings):
    """A part of `Settings`."""

    usage_interval: Annotated[Duration, between(timedelta(milliseconds=1), timedelta(hours=1))] = Field(
        timedelta(seconds=5), description="how often uses of keys are written"
    )
    usage_retention: Annotated[Duration, between(_SHORTEST, _LONGEST)] = Field(
        timedelta(days=90), description="how long the uses of keys are kept, in whole days"
    )
