"""What a fuzzed client does: steps, drawn by hypothesis. `client` turns them into bytes."""

from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.http2 import END_HEADERS, END_STREAM, PING
from tests.lane.client import PATHS


def _some(*values: Any) -> st.SearchStrategy[Any]:
    """Draw one of these values; one that is named several times more often, which hypothesis would not do."""
    return st.sampled_from(list(enumerate(values))).map(lambda drawn: drawn[1])


def _one_of(*strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw from one of these; from one that is named several times more often."""
    return _some(*strategies).flatmap(lambda drawn: drawn)


# A step of the client, or of time; see `Client.take`.
Step: TypeAlias = tuple[Any, ...]

_pick = st.integers(0, 7)
_size = st.sampled_from((0, 1, 5, 100, 16_384, 16_385, 60_000))
_raw = st.binary(max_size=60)
_call = st.fixed_dictionaries(
    {
        "rpc": _some(*["VerifyKey"] * 6, *["CreateKey", "ListKeys"] * 3, *PATHS),
        "who": _some("known", "known", "known", "platform", "cold", "bad", ""),
        "timeout": _some("", "", "", "1m", "30m", "5S", "0n", "99999999H", "x", "123456789S"),
        "request": _pick,
        "body": _some(*["whole"] * 16, "half", "none", "gzip", "zip bomb", "twice", "huge", "rubbish"),
        "cuts": st.lists(st.integers(0, 40), max_size=3),
        "ends": _some(True, True, True, False),
        "more": _some(
            *[()] * 12,
            (("x-bin", "$$"),),
            (("x-empty ", " y"),),
            (("connection", "x"),),
            (("a", "b" * 20_000),),
        ),
        "padded": st.booleans(),
        "reset": _some(False, False, False, True),
    }
)
_setting = st.tuples(
    _some(1, 2, 3, 4, 5, 6, 8, 9, 99),
    _some(0, 1, 100, 4096, 16_384, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31),
)
_proper_setting = st.tuples(st.just(4), _some(0, 1, 16_384, 1 << 20))
_calls = st.tuples(st.just("call"), _call)
# What clients send that keep to the rules of HTTP/2, and what others send.
_proper_frame = _one_of(
    _calls,
    _calls,
    _calls,
    _calls,
    st.tuples(st.just("data"), _pick, _some(0, 1, 5, 100, 10_000), st.booleans()),
    st.tuples(st.just("rest"), _pick, st.booleans()),
    st.tuples(st.just("trailers"), _pick),
    st.tuples(st.just("reset"), _pick, _some(0, 5, 8)),
    st.tuples(st.just("window"), _pick, _some(1, 100, 60_000, 1 << 20)),
    st.tuples(st.just("settings"), st.lists(_proper_setting, max_size=2)),
    st.tuples(st.just("acknowledge"), st.just(PING)),
)
_frame = _one_of(
    _proper_frame,
    st.tuples(st.just("bad_window"), _pick, _some(0, (1 << 31) - 1)),
    st.tuples(st.just("bad_settings"), st.lists(_setting, max_size=3)),
    st.tuples(st.just("bad_acknowledge")),
    st.tuples(st.just("ping")),
    st.tuples(st.just("priority"), _pick),
    st.tuples(st.just("goaway"), _some(0, 1, 11)),
    st.tuples(st.just("continuation"), _pick, _some(0, END_HEADERS), _raw),
    st.tuples(st.just("block"), _some(0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS), _raw),
    st.tuples(
        st.just("frame"),
        st.one_of(st.integers(0, 12), st.integers(0, 255)),
        st.integers(0, 255),
        st.one_of(_pick, st.integers(0, (1 << 32) - 1)),
        _raw,
    ),
    st.tuples(st.just("bytes"), _raw),
)
_cuts = st.lists(st.integers(1, 400), max_size=4)


def _sends(frame: st.SearchStrategy[Step], mutation: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just("send"), st.lists(frame, min_size=1, max_size=6), _cuts, mutation)


_intact = st.just(-1)
_passes = st.tuples(st.just("pass"), _some(0.0, 0.001, 0.006, 0.03, 0.5, 1.0, 3.0, 11.0, 40.0))
_reads = st.tuples(st.just("read"), _some(1, 1000, 70_000, 1 << 30))
_step = _one_of(
    _sends(_proper_frame, _intact),
    _sends(_proper_frame, _intact),
    _reads,
    _passes,
    st.tuples(st.just("turn")),
)
_end = _one_of(
    _sends(_frame, _intact),
    _sends(_proper_frame, st.integers(0, 400)),
    _passes,
    st.tuples(_some("leave", "drain", "abort", "end")),
)
#: What one client does. Most begin with what is allowed, so that what is not meets calls under way.
plans = _one_of(
    st.lists(_step, min_size=1, max_size=25),
    st.tuples(st.lists(_step, max_size=15), st.lists(_end, min_size=1, max_size=5)).map(
        lambda both: [*both[0], *both[1]]
    ),
    st.lists(st.one_of(_step, _end), min_size=1, max_size=25),
)
#: How a connection begins: whether its client reads, its settings, whether it is by TLS, and its age. In the
#: end, a client that is patient waits for its answers and reads them.
beginnings = st.fixed_dictionaries(
    {
        "reads": _some(True, True, False),
        "settings": _some((), (), ((4, 0),), ((4, 1 << 20),), ((4, (1 << 31) - 1), (1, 0))),
        "mutated": _some(*(False,) * 39, True),
        "tls": st.booleans(),
        "age": _some(0.0, 0.0, 0.0, 2.0),
        "patient": _some(True, True, True, False),
    }
)
