"""Asks a server whether it is ready, as a probe does: by grpc.health.v1, or at the admin listener.

Mechanism: one connection and one request, on blocking sockets. Health is asked by libnghttp2, which loads in
half of the time that grpcio takes; a probe is a process of its own, and runs every few seconds.

Bound: the time that the caller gives, for the connection and the answer together. The look-up of a name is
the system's, and has its own bound.

Failure: OSError when there is no answer, with a message for people.
"""

import http.client
import socket
import ssl
import time
from contextlib import suppress

import ngh2

from authsvc.net.listen_address import ListenAddress

_PATH = b"/grpc.health.v1.Health/Check"
# A message of no fields, and the answer with the status SERVING, as gRPC frames them.
_ANY_SERVICE, _SERVING = bytes(5), bytes([0, 0, 0, 0, 2, 8, 1])
#: The trailer in which authsvc says why it is not ready.
_REASON = b"authsvc-reason"
_CHUNK_BYTES = 65536


def health_fault(address: ListenAddress, tls: ssl.SSLContext | None, seconds: float) -> str:
    """Return why a server is not ready, by grpc.health.v1; an empty string if it is. Raises OSError."""
    deadline = time.monotonic() + seconds
    plain = socket.create_connection((address.host, address.port), seconds)
    with plain if tls is None else tls.wrap_socket(plain, server_hostname=address.host) as connection:
        return _Call(connection, address, deadline, b"http" if tls is None else b"https").fault()


def page_fault(address: ListenAddress, path: str, seconds: float) -> str:
    """Return what a page of the admin listener says if its status is not 200, else ""; raise OSError."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(_CHUNK_BYTES).decode(errors="replace")
    except http.client.HTTPException:
        raise ConnectionError("the answer is not HTTP") from None
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return ""
    return "; ".join(text.split("\n")).strip("; ") or f"HTTP status {answer.status}"


class _Call:
    """One call of Check."""

    def __init__(
        self, connection: socket.socket, address: ListenAddress, deadline: float, scheme: bytes
    ) -> None:
        self._connection, self._deadline = connection, deadline
        self._http = ngh2.Connection(ngh2.Role.CLIENT)
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._ended = False
        self._request = (
            (b":method", b"POST"),
            (b":scheme", scheme),
            (b":path", _PATH),
            (b":authority", str(address).encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"authsvc-probe"),
        )

    def fault(self) -> str:
        try:
            self._http.initiate_connection()
            stream = self._http.send_request(self._request)
            self._http.send_data(stream, _ANY_SERVICE, end_stream=True)
            while not self._ended:
                self._send()
                self._receive()
        except ngh2.NGH2Error:
            raise ConnectionError("the answer is not HTTP/2") from None
        with suppress(OSError, ngh2.NGH2Error):
            self._http.terminate_connection()
            self._send()
        return self._read()

    def _send(self) -> None:
        if data := self._http.data_to_send():
            self._connection.settimeout(self._left())
            self._connection.sendall(data)

    def _receive(self) -> None:
        self._connection.settimeout(self._left())
        try:
            data = self._connection.recv(_CHUNK_BYTES)
        except ConnectionResetError:
            data = b""  # A server that closes it with unread data resets it.
        if not data:
            raise ConnectionError("the connection was closed before an answer")
        self._http.receive_data(data)
        for event in self._http.events():
            if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
                self._headers.update((bytes(name), bytes(value)) for name, value in event.headers)
            elif isinstance(event, ngh2.DataReceived):
                self._body = (self._body + event.data)[:_CHUNK_BYTES]
            elif isinstance(event, ngh2.StreamClosed | ngh2.GoAwayReceived | ngh2.ConnectionClosed):
                self._ended = True

    def _read(self) -> str:
        status = self._headers.get(b"grpc-status")
        if status is None:
            raise ConnectionError("the answer is not gRPC")
        if status == b"0" and self._body == _SERVING:
            return ""
        told = self._headers.get(_REASON if status == b"0" else b"grpc-message", b"").decode(errors="replace")
        return told or ("NOT_SERVING" if status == b"0" else f"gRPC status {status.decode(errors='replace')}")

    def _left(self) -> float:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        return left
