"""Settings of the access log and of traces. What OpenTelemetry has variables for (`OTEL_*`), they set."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class TelemetrySettings(BaseSettings):
    """A part of `Settings`."""

    access_log: Literal["off", "errors", "all"] = Field(
        "off", description="log lines of calls: none, of those that end with an error, or of all"
    )
    traces: Literal["off", "on"] = Field(
        "off", description="on: traces by OpenTelemetry, which `OTEL_*` variables configure"
    )
    verification_sampling: float = Field(
        0.001,
        ge=0,
        le=1,
        description="share of the verifications that are logged and traced, from 0 to 1",
    )
