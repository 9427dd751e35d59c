"""The process of the admin listener."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from authsvc.net.asgi_server import AsgiServer
from authsvc.net.http_message import asgi
from authsvc.net.listen_address import ListenAddress
from authsvc.net.private_listener import PrivateListener
from authsvc.process.admin.pages import Pages
from authsvc.process.admin.processes import Processes
from authsvc.process.child import Report

_log = logging.getLogger(__name__)

# Connections with one request each; the probes and scrapes of a replica have one or two at a time.
MAX_CONNECTIONS = 64
# Seconds between two attempts to listen, and for answers in progress at a stop.
#: It ends its connections.
MAX_STOP_SECONDS = 5.0
_RETRY_SECONDS, _GRACE_SECONDS = 2.0, 0.5


@asynccontextmanager
async def listening(
    address: ListenAddress, listener: PrivateListener, slots: int, report: Report
) -> AsyncIterator[str]:
    """Answer at an address for so many workers and the notifier, which connect by the `listener`."""
    processes = Processes(listener)
    server = AsgiServer(asgi(Pages(processes, slots).answer), max_connections=MAX_CONNECTIONS)
    loop = asyncio.get_running_loop()
    loop.add_reader(listener.fileno(), processes.accept)
    starting = asyncio.create_task(_start(server, address))
    try:
        yield ""
    finally:
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        await server.stop(_GRACE_SECONDS)
        loop.remove_reader(listener.fileno())
        processes.close()


async def _start(server: AsgiServer, address: ListenAddress) -> None:
    """Listen, as soon as the address is available."""
    told = ""
    while True:
        try:
            port = await server.start(address, shared=False)
        except OSError as error:
            problem = str(error.strerror or error)
            if problem != told:
                told = problem
                _log.error(
                    "AUTHSVC_ADMIN_LISTEN: cannot listen at %s: %s; calls are served all the same, and it "
                    "is tried again every %g s",
                    address,
                    problem,
                    _RETRY_SECONDS,
                )
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            _log.info("probes and metrics at %s", address.with_port(port).reachable)
            return
