"""nginx and Envoy as plain proxies of gRPC, as operators put them before a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.process import free_port
from tests.gateway.proxies import NGINX, Proxy, program, started

NAMES = ("nginx", "envoy")

_GRPC_PASS = """
server {
  listen 127.0.0.1:%d http2;
  client_max_body_size 2m;
  location / { grpc_pass grpc://%s; }
}
"""

_ENVOY = """
static_resources:
  listeners:
    - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: grpc
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route: {cluster: authsvc, timeout: 0s, max_stream_duration: {grpc_timeout_header_max: 0s}}
  clusters:
    - name: authsvc
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment:
        cluster_name: authsvc
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: %s, port_value: %s}}}
"""  # noqa: E501 - the names of Envoy's types


@asynccontextmanager
async def before(checkout: Path, name: str, directory: Path, address: str) -> AsyncIterator[str]:
    """Run a proxy before a server, and yield its address; raise NoProxyError if there is no such program."""
    binary, port = str(program(checkout, name)), free_port()
    host, _, server_port = address.rpartition(":")
    if name == "nginx":
        (directory / "authsvc.conf").write_text(_GRPC_PASS % (port, address))
        (directory / "nginx.conf").write_text(NGINX)
        command = [binary, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    else:
        (directory / "envoy.yaml").write_text(_ENVOY % (port, host, server_port))
        options = ["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        command = [binary, "-c", str(directory / "envoy.yaml"), *options]
    async with started(command, Proxy(name, port, directory)):
        yield f"127.0.0.1:{port}"
