"""When a key expires: calendar presets (rule 3)."""

from datetime import datetime, timedelta
from enum import Enum

from dateutil.relativedelta import relativedelta


class ExpirationPreset(Enum):
    """How long a key lives, by the calendar in UTC."""

    UNLIMITED = None
    FIVE_DAYS = timedelta(days=5)
    # relativedelta clips to the month's last day: 31 January + 1 month is 28 or 29 February.
    ONE_MONTH = relativedelta(months=1)
    SIX_MONTHS = relativedelta(months=6)
    ONE_YEAR = relativedelta(months=12)

    def after(self, now: datetime) -> datetime | None:
        """Return when a key that is created at `now` (UTC) expires; None for never."""
        return None if self.value is None else now + self.value
