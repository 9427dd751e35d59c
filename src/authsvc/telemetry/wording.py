"""Removes values that may be secret from log lines.

Libraries put their input into messages and exceptions: headers, arguments, rows. So of a library's line,
only the fixed words are kept and not the values that are filled in. Of a library's exception, only its type,
its code and its traceback are kept. Our own lines are kept, except for exceptions of libraries in them.
Everything is truncated.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from types import TracebackType

# The maximum numbers of characters in a message and in one value in it, of frames in a traceback, and of
# exceptions in a chain or group.
_MAX_LENGTH, _MAX_PART_LENGTH = 4000, 1000
_MAX_FRAMES, _MAX_EXCEPTIONS = 20, 5
# Where the fixed words end, in a message that was formatted before it was logged.
_FILLED = re.compile(r"[\n'\"`<({\[=:]|\d")
_PART_OF_A_WORD = re.compile(r"\w{1,128}\Z")
_OURS = "authsvc"


def is_ours(logger: str) -> bool:
    """Return whether a logger belongs to this package."""
    return logger.partition(".")[0] == _OURS


def message(record: logging.LogRecord) -> str:
    """Return the message of a line without unsafe values."""
    if is_ours(record.name):
        return cut(_filled(record), _MAX_LENGTH)
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    if record.args:
        return cut(record.msg, _MAX_LENGTH)
    return fixed_words(record.msg)


def fixed_words(text: str) -> str:
    """Return the beginning of a library's message, up to what may be a value."""
    return cut(_FILLED.split(text, maxsplit=1)[0].rstrip() or "a message", _MAX_PART_LENGTH)


def exception(error: BaseException) -> str:
    """Return an exception and its causes with their tracebacks, the first one raised first."""
    chain = list(_chain(error))
    parts = [_with_traceback(each) for each in reversed(chain[:_MAX_EXCEPTIONS])]
    if len(chain) > _MAX_EXCEPTIONS:
        parts.insert(0, f"({len(chain) - _MAX_EXCEPTIONS} more before)")
    return "\n\n".join(parts)


def named(error: BaseException) -> str:
    """Return the message of an exception of authsvc or the operating system; of others, the type and code."""
    kind = type(error)
    if kind.__module__.partition(".")[0] == _OURS or (isinstance(error, OSError) and error.errno):
        return cut(str(error), _MAX_PART_LENGTH) or kind.__name__
    code = getattr(error, "sqlstate", None)
    return f"{kind.__qualname__} (SQLSTATE {code})" if isinstance(code, str) else kind.__qualname__


def cut(text: str, longest: int) -> str:
    """Return a text, truncated if it is too long.

    Up to 128 characters of the word at the cut are removed as well: a part of a key string would not be
    recognized, and so not be redacted.
    """
    if len(text) <= longest:
        return text
    kept = _PART_OF_A_WORD.sub("", text[:longest])
    return f"{kept}… ({len(text) - len(kept)} more characters)"


def _filled(record: logging.LogRecord) -> str:
    text = record.msg if isinstance(record.msg, str) else str(_argument(record.msg))
    if not record.args:
        return text
    if isinstance(record.args, tuple):
        return text % tuple(map(_argument, record.args))
    return text % {name: _argument(value) for name, value in record.args.items()}


def _argument(value: object) -> object:
    if isinstance(value, BaseException):
        return named(value)
    if isinstance(value, int | float):
        return value
    text = str(value)
    # A value must not start a new line, or send control sequences to a terminal.
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()
    return cut(text, _MAX_PART_LENGTH)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes in the order of Python's tracebacks, each once."""
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
    text = named(error)
    head = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    last = head if text == kind.__qualname__ else f"{head}: {text.removeprefix(kind.__qualname__).strip()}"
    return f"Traceback (most recent call last):\n{_frames(error.__traceback__)}{last}"


def _frames(where: TracebackType | None) -> str:
    frames = traceback.extract_tb(where)
    text = "".join(traceback.format_list(frames[-_MAX_FRAMES:]))
    omitted = len(frames) - _MAX_FRAMES
    return f"  ({omitted} more frames before)\n{text}" if omitted > 0 else text
