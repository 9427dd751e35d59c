"""What a log line may say: of what others wrote, no values.

Libraries put what they were given into their messages and exceptions: headers, arguments, rows. So of a
library's line the words that it always has are told and not what they were filled with; of an exception that
is not ours, its type, its code and where it was raised. Our own lines say what we mean them to say, but for
the exceptions of others in them. Everything is cut to a length.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from types import TracebackType

# Characters of a message, and of one text that it is filled with; frames of a traceback, and exceptions of a
# chain or group.
_MAX_LENGTH, _MAX_PART_LENGTH = 4000, 1000
_FRAMES, _EXCEPTIONS = 20, 5
# Where the fixed words of a message end that was filled before it was logged.
_FILLED = re.compile(r"[\n'\"`<({\[=:]|\d")
_PART_OF_A_WORD = re.compile(r"\w{1,128}\Z")
_OURS = "authsvc"


def is_ours(logger: str) -> bool:
    """Say whether a logger is of this package."""
    return logger.partition(".")[0] == _OURS


def message(record: logging.LogRecord) -> str:
    """Return what a line says."""
    if is_ours(record.name):
        return cut(_filled(record), _MAX_LENGTH)
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if record.args:
        return cut(record.msg, _MAX_LENGTH)
    return cut(_FILLED.split(record.msg, maxsplit=1)[0].rstrip() or "a message", _MAX_PART_LENGTH)


def exception(error: BaseException) -> str:
    """Return an exception and those behind it with their tracebacks; what was raised first is first."""
    chain = list(_chain(error))
    parts = [_with_traceback(each) for each in reversed(chain[:_EXCEPTIONS])]
    if len(chain) > _EXCEPTIONS:
        parts.insert(0, f"({len(chain) - _EXCEPTIONS} more before)")
    return "\n\n".join(parts)


def named(error: BaseException) -> str:
    """Return what may be told of an exception: all of ours and of the system's; else its type and code."""
    kind = type(error)
    if kind.__module__.partition(".")[0] == _OURS or (isinstance(error, OSError) and error.errno):
        return cut(str(error), _MAX_PART_LENGTH) or kind.__name__
    code = getattr(error, "sqlstate", None)
    return f"{kind.__qualname__} (SQLSTATE {code})" if isinstance(code, str) else kind.__qualname__


def cut(text: str, longest: int) -> str:
    """Return a text, or its beginning and how much more there was.

    The word at the cut is left out, up to 128 characters of it: a part of a key string would not be
    known as one, and so not be redacted.
    """
    if len(text) <= longest:
        return text
    told = _PART_OF_A_WORD.sub("", text[:longest])
    return f"{told}… ({len(text) - len(told)} more characters)"


def _filled(record: logging.LogRecord) -> str:
    told = record.msg if isinstance(record.msg, str) else str(_argument(record.msg))
    if not record.args:
        return told
    if isinstance(record.args, tuple):
        return told % tuple(map(_argument, record.args))
    return told % {name: _argument(value) for name, value in record.args.items()}


def _argument(value: object) -> object:
    if isinstance(value, BaseException):
        return named(value)
    if isinstance(value, int | float):
        return value
    text = str(value)
    # Nobody's text begins a line of its own, or colours a terminal.
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()
    return cut(text, _MAX_PART_LENGTH)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those behind it, as Python tells them; each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        behind = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting += [behind] if behind is not None else []
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else []


def _with_traceback(error: BaseException) -> str:
    kind = type(error)
    told = named(error)
    head = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    last = head if told == kind.__qualname__ else f"{head}: {told.removeprefix(kind.__qualname__).strip()}"
    return f"Traceback (most recent call last):\n{_frames(error.__traceback__)}{last}"


def _frames(where: TracebackType | None) -> str:
    frames = traceback.extract_tb(where)
    told = "".join(traceback.format_list(frames[-_FRAMES:]))
    return f"  ({len(frames) - _FRAMES} more frames before)\n{told}" if len(frames) > _FRAMES else told
