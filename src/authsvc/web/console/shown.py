"""Values as the pages show them: texts of others, instants, and lengths of time.

A text of others is isolated by `<bdi>`, so that its direction does not spread. Characters in it that nobody
could see, or that change the direction of text, are shown by their numbers, and what is too long is cut.
"""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from markupsafe import Markup, escape

from authsvc.model.text import Form, faults
from authsvc.web.console.texts import Texts

#: Characters of a text in a table, and of one that is shown in full.
SHORT, FULL = 60, 4000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = (("year", 365 * _DAY), ("month", 30 * _DAY), ("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE))


def text(value: str, most: int = SHORT) -> Markup:
    """Return a text of others as HTML; lines and tabs are kept."""
    kept, is_cut = _cut(value, most)
    end = "…" if is_cut else ""
    wrong = frozenset(faults(kept, Form.PARAGRAPHS))
    # No title with the whole: it would show what is hidden here.
    if not wrong:
        return Markup(f"<bdi>{escape(kept)}{end}</bdi>")  # noqa: S704 - escaped
    parts = (
        Markup('<span class="hidden-character">{}</span>').format(_number(character))
        if index in wrong
        else escape(character)
        for index, character in enumerate(kept)
    )
    return Markup("<bdi>{}{}</bdi>").format(Markup().join(parts), end)


def plain(value: str, most: int = SHORT) -> str:
    """Return a text of others where no markup can be: in a title, in an attribute."""
    kept, is_cut = _cut(value, most)
    wrong = frozenset(faults(kept))
    shown = "".join(
        _number(character) if index in wrong else character for index, character in enumerate(kept)
    )
    return shown + ("…" if is_cut else "")


def _cut(value: str, most: int) -> tuple[str, bool]:
    return (value, False) if len(value) <= most else (value[: most - 1], True)


def _number(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def instant(stamp: Timestamp) -> datetime:
    """Return the time of a message."""
    return stamp.ToDatetime(UTC)


class Times:
    """Times in words, at one instant."""

    def __init__(self, texts: Texts, now: datetime) -> None:
        self._texts, self.now = texts, now

    def at(self, moment: datetime | Timestamp) -> Markup:
        """Return an instant."""
        moment = _moment(moment)
        return _time(moment, f"{moment.isoformat(' ')[:16]} UTC")

    def day(self, moment: datetime | Timestamp) -> Markup:
        """Return the day of an instant."""
        moment = _moment(moment)
        return _time(moment, moment.isoformat()[:10])

    def relative(self, moment: datetime | Timestamp) -> Markup:
        """Return an instant by its distance from now: `3 hours ago`, `in 5 days`."""
        moment = _moment(moment)
        seconds = (moment - self.now).total_seconds()
        if abs(seconds) < _MINUTE:
            return _time(moment, self._texts("time.now"))
        name = "time.future" if seconds > 0 else "time.past"
        return _time(moment, self._texts(name, length=self.length(abs(seconds))))

    def between(self, start: Timestamp, end: Timestamp) -> timedelta:
        """Return the time from one instant to another one, 0 at least."""
        return max(timedelta(), instant(end) - instant(start))

    def length(self, seconds: float | timedelta) -> Markup:
        """Return a length of time in its largest unit: `3 hours`."""
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        for unit, size in _UNITS:
            if seconds >= size:
                return self._texts.count(f"time.{unit}", int(seconds // size))
        return self._texts.count("time.second", int(seconds))

    def exact(self, duration: Duration) -> Markup:
        """Return a length of time without rounding: `90 days`."""
        seconds = duration.ToTimedelta().total_seconds()
        for unit, size in _UNITS:
            if unit != "month" and seconds >= size and not seconds % size:
                return self._texts.count(f"time.{unit}", int(seconds // size))
        return self._texts("time.second.one" if seconds == 1 else "time.second.other", number=f"{seconds:g}")


def _moment(moment: datetime | Timestamp) -> datetime:
    return instant(moment) if isinstance(moment, Timestamp) else moment


def _time(moment: datetime, words: str) -> Markup:
    exact = moment.isoformat(" ")[:19]
    return Markup(  # noqa: S704 - digits, and what is escaped
        f'<time datetime="{exact[:10]}T{exact[11:]}Z" title="{exact} UTC">{escape(words)}</time>'
    )
