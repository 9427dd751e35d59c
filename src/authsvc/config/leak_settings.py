"""Settings of what reports leaked keys."""

from pydantic import Field
from pydantic_settings import BaseSettings

from authsvc.config.rate_limit import RateLimit
from authsvc.model.rate import Rate


class LeakSettings(BaseSettings):
    """A part of `Settings`."""

    leak_report_limit: RateLimit = Field(
        Rate(1, 20),
        description="reports of leaked keys from one address, or by the callers of one owner, per worker: "
        "rate per second/burst; 0: no limit",
    )
    secret_scanning_keys: str = Field(
        "",
        description="file or https:// address of the public keys that sign POST /secret-scanning; empty: off",
    )
