"""What arrives on a connection, as the heads and bodies of requests."""

import re
from abc import ABC, abstractmethod
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from authsvc.net.http_head import CHUNKED, RefusedError, body_size, check_host, request_line, too_large

MAX_HEAD_BYTES = 64 * 1024
# Each line takes time to parse. It is that many again for the trailers of a body.
_MAX_LINES = 256
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class RequestParser(HttpToolsProtocol, ABC):
    """uvicorn's protocol, which gives httptools a whole head at a time, and what has arrived of chunks.

    A body whose size is known does not need httptools, which would not read one after `Upgrade` (that header
    is ignored here).
    """

    def __init__(self, config: Config, state: ServerState, max_body_bytes: int) -> None:
        super().__init__(config, state, {})
        self._max_body_bytes = max_body_bytes
        self._renew_parser()
        # What has arrived and was not taken, and how far it was searched for the end of a head.
        self._unread = bytearray()
        self._searched = 0
        # Of the body of a request: bytes that are missing or CHUNKED, those that came, also with the framing,
        # and lines of trailers.
        self._missing = self._body_bytes = self._framed_bytes = self._trailers = 0
        self._is_head = False

    @abstractmethod
    def _is_complete(self) -> None:
        """Go on, since the body is whole."""

    @abstractmethod
    def _take_no_more(self) -> None:
        """End the connection with the answer in progress."""

    def _take_head(self) -> bool:
        """Take a head, once all of it has arrived; say whether it has. Raises RefusedError."""
        found = _END_OF_HEAD.search(self._unread, max(0, self._searched - 2))
        size = len(self._unread) if found is None else found.end()
        if size > MAX_HEAD_BYTES or self._unread.count(b"\n", 0, size) > _MAX_LINES:
            raise RefusedError(431)
        if found is None:
            self._searched = size
            return False
        self._searched = self._framed_bytes = 0
        head = bytes(self._unread[:size])
        del self._unread[:size]
        method, target, version = request_line(head)
        self._is_head = method == "HEAD"
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise RefusedError(400) from error
        check_host(version, self.headers)
        missing = body_size(version, self.headers, self._max_body_bytes)
        if method == "CONNECT" or (missing == CHUNKED and self._upgrades):
            raise RefusedError(400)
        self._missing, self._body_bytes, self._trailers = missing, 0, 0
        self._describe(method, target, version)
        return True

    def _describe(self, method: str, target: bytes, version: str) -> None:
        """Complete the scope that was begun with the head."""
        path, _, query = target.partition(b"?")
        scope = self.scope
        scope["method"], scope["http_version"] = method, version
        scope["path"] = unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii")
        scope["raw_path"], scope["query_string"] = path, query

    def _take_body(self) -> None:
        """Take what has arrived of a body."""
        if self._missing != CHUNKED:
            piece = bytes(self._unread[: self._missing])
            del self._unread[: self._missing]
            self._missing -= len(piece)
            self.on_body(piece)
            if not self._missing:
                self._renew_parser()
                self._is_complete()
            return
        piece = bytes(self._unread)
        self._unread.clear()
        self._framed_bytes += len(piece)
        if self._framed_bytes > 2 * self._max_body_bytes + MAX_HEAD_BYTES:
            raise too_large(self._max_body_bytes)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError as error:
            if self._missing:
                raise (
                    error.__context__ if isinstance(error.__context__, RefusedError) else RefusedError(400)
                ) from error
            # A request that came with the end of a body; where it begins is unknown.
            self._take_no_more()

    def on_message_begin(self) -> None:
        """Begin a head, which is never in one piece with a body."""
        if self._framed_bytes:
            raise RefusedError(400)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; drop a trailer, which the application could take for one."""
        if not self._missing:
            super().on_header(name, value.rstrip(b" \t"))
            return
        self._trailers += 1
        if self._trailers > _MAX_LINES:
            raise RefusedError(431)

    def on_headers_complete(self) -> None:
        """Note what is known only now."""
        self._keeps_alive, self._upgrades = self.parser.should_keep_alive(), self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a body in chunks."""
        if self._missing:
            self._missing = 0
            self._is_complete()

    def _renew_parser(self) -> None:
        """Begin with a head again."""
        self.parser = httptools.HttpRequestParser(self)
