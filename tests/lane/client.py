"""The bytes that the steps of a fuzzed client stand for; `frames` says which steps there are."""

import gzip
from dataclasses import dataclass, field
from typing import Any

from authsvc.v1 import key_service_pb2 as pb
from tests.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    call_headers,
    frame,
    message,
)
from tests.lane.memory import settings

_PADDED, _PRIORITY = 8, 2
_KEYS = "/authsvc.v1.KeyService/"

#: The RPCs that are called, by names of ours.
PATHS = {
    "VerifyKey": f"{_KEYS}VerifyKey",
    "CreateKey": f"{_KEYS}CreateKey",
    "ListKeys": f"{_KEYS}ListKeys",
    "DeleteKey": f"{_KEYS}DeleteKey",
    "Check": "/grpc.health.v1.Health/Check",
    "Watch": "/grpc.health.v1.Health/Watch",
    "Reflect": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "none": "/no.Such/Rpc",
    "text": "x\u00e9",
}


def _requests(name: str, number: int) -> list[bytes]:
    if name == "VerifyKey":
        return [
            pb.VerifyKeyRequest(key_string=it).SerializeToString() for it in ("hit", "cold", "hangs", "fails")
        ]
    if name == "CreateKey":
        made = pb.CreateKeyRequest(owner_id="acme", display_name="x", request_id=f"r-{number}")
        return [made.SerializeToString()]
    if name == "ListKeys":
        return [
            pb.ListKeysRequest(owner_id="acme", page_size=size).SerializeToString() for size in (1, 40, 400)
        ]
    return [b""]


# The kinds of frames below that keep to the rules.
_PROPER = {"call", "data", "rest", "trailers", "reset", "window", "settings", "acknowledge"}


@dataclass
class Client:
    """Turns frames of a plan into bytes; most of them suit one another."""

    next: int = 1
    streams: list[int] = field(default_factory=list)
    rests: dict[int, bytes] = field(default_factory=dict)
    # Streams whose request has not ended.
    open: set[int] = field(default_factory=set)
    #: Streams with a proper request that has arrived, and which is answered in time.
    asked: set[int] = field(default_factory=set)
    #: Whether all that was sent keeps to the rules of HTTP/2.
    is_proper: bool = True

    def _pick(self, pick: int) -> int:
        """Return a stream: one of the last ones, the next one, or none."""
        return ([*self.streams[-6:], 0] * 8)[pick]

    def take(self, it: tuple[Any, ...]) -> bytes:
        """Return the bytes of a frame, or of a few."""
        kind, *values = it
        self.is_proper &= kind in _PROPER
        made: bytes = getattr(self, f"_{kind}")(*values)
        return made

    def _call(self, how: dict[str, Any]) -> bytes:
        stream, self.next = self.next, self.next + 2
        self.streams.append(stream)
        if not how["ends"] or how["body"] in ("half", "huge"):
            self.open.add(stream)
        elif how["rpc"] not in ("Watch", "Reflect") and (
            how["rpc"] != "VerifyKey" or how["request"] % 4 != 2
        ):
            self.asked.add(stream)
        more = [*([("grpc-timeout", how["timeout"])] if how["timeout"] else []), *how["more"]]
        if how["body"] in ("gzip", "zip bomb"):
            more.append(("grpc-encoding", "gzip"))
        headers = block(call_headers(PATHS[how["rpc"]], f"Bearer {how['who']}" if how["who"] else "", more))
        if how["body"] == "none" and not how["reset"]:
            return frame(HEADERS, END_HEADERS | (END_STREAM if how["ends"] else 0), stream, headers)
        requests = _requests(how["rpc"], stream)
        body = self._body(how["body"], requests[how["request"] % len(requests)])
        sent = [frame(HEADERS, END_HEADERS, stream, headers)]
        if how["body"] in ("half", "huge"):
            half = len(body) // 2 if how["body"] == "half" else 10_000
            body, self.rests[stream] = body[:half], body[half:]
        for cut in how["cuts"]:
            sent.append(frame(DATA, 0, stream, body[:cut]))
            body = body[cut:]
        ends = END_STREAM if how["ends"] and stream not in self.rests else 0
        for start in range(0, max(1, len(body)), 16_000):
            part = body[start : start + 16_000]
            last = ends if start + 16_000 >= len(body) else 0
            sent.append(
                frame(DATA, last | _PADDED, stream, b"\x03" + part + bytes(3))
                if how["padded"]
                else frame(DATA, last, stream, part)
            )
        if how["reset"]:
            sent.append(self._reset(0, 8, stream))
        return b"".join(sent)

    def _body(self, how: str, request: bytes) -> bytes:
        if how in ("gzip", "zip bomb"):
            packed = gzip.compress(request if how == "gzip" else bytes(1 << 22), 1)
            return b"\x01" + len(packed).to_bytes(4) + packed
        if how == "huge":
            return message(request + bytes(200_000))
        return {"twice": message(request) * 2, "rubbish": b"\x07" + request * 3}.get(how, message(request))

    def _data(self, pick: int, size: int, ends: bool) -> bytes:
        return self._more(self._pick(pick), bytes(size), ends)

    def _more(self, stream: int, data: bytes, ends: bool) -> bytes:
        """Return data of a stream that may have more; nothing if there is none."""
        if stream not in self.open:
            return b""
        if ends:
            self.open.discard(stream)
        return frame(DATA, END_STREAM if ends else 0, stream, data)

    def _rest(self, pick: int, ends: bool) -> bytes:
        stream = self._pick(pick)
        rest = self.rests.get(stream, b"")
        now, self.rests[stream] = rest[:16_000], rest[16_000:]
        return self._more(stream, now, ends)

    def _trailers(self, pick: int) -> bytes:
        stream = self._pick(pick)
        if not self._more(stream, b"", True):
            return b""
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, block([("x-end", "y")]))

    def _reset(self, pick: int, code: int, stream: int = 0) -> bytes:
        stream = stream or self._pick(pick)
        self.open.discard(stream)
        self.asked.discard(stream)
        return frame(RST_STREAM, 0, stream, code.to_bytes(4)) if stream else b""

    def _window(self, pick: int, size: int) -> bytes:
        return frame(WINDOW_UPDATE, 0, self._pick(pick), size.to_bytes(4))

    def _settings(self, pairs: list[tuple[int, int]]) -> bytes:
        return settings(pairs)

    def _bad_window(self, pick: int, size: int) -> bytes:
        return self._window(pick, size)

    def _bad_settings(self, pairs: list[tuple[int, int]]) -> bytes:
        return settings(pairs)

    def _bad_acknowledge(self) -> bytes:
        return frame(SETTINGS, 1, 0)

    def _acknowledge(self, kind: int) -> bytes:
        return frame(kind, 1, 0, b"" if kind == SETTINGS else bytes(8))

    def _ping(self) -> bytes:
        return frame(PING, 0, 0, b"12345678")

    def _priority(self, pick: int) -> bytes:
        return frame(_PRIORITY, 0, self._pick(pick), bytes(5))

    def _goaway(self, code: int) -> bytes:
        return frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4))

    def _continuation(self, pick: int, flags: int, data: bytes) -> bytes:
        return frame(CONTINUATION, flags, self._pick(pick), data)

    def _block(self, flags: int, data: bytes) -> bytes:
        stream, self.next = self.next, self.next + 2
        self.streams.append(stream)
        return frame(HEADERS, flags, stream, data)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        picked = self._pick(stream) if stream < 8 else stream
        return frame(kind, flags, picked, payload)

    def _bytes(self, data: bytes) -> bytes:
        return data
