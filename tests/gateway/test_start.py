"""Errors in the settings of gateways are reported at the start, by name."""

import socket
from pathlib import Path

import pytest

from authsvc.config.settings import ConfigError, load_settings
from tests.e2e.process import authsvc
from tests.gateway.conftest import new_directory


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("bearer,token", "'token' is not a source; use bearer, basic, x-api-key or cookie:NAME"),
        ("bearer,bearer", "each once"),
        ("cookie:a,cookie:b", "at most one cookie"),
        ("cookie:", "'cookie:' is not a source"),
        ("cookie:a b", "'cookie:a b' is not a source"),
        (",", "name one source or several"),
    ],
)
def test_where_credentials_cannot_stand(monkeypatch: pytest.MonkeyPatch, value: str, problem: str) -> None:
    """A place that does not exist and a repeated one are refused."""
    monkeypatch.setenv("AUTHSVC_GATEWAY_CREDENTIALS", value)
    with pytest.raises(ConfigError, match="AUTHSVC_GATEWAY_CREDENTIALS") as caught:
        load_settings()
    assert problem in str(caught.value)


def test_a_table_that_is_wrong(reachable_dir: Path) -> None:
    """The service does not start, and names the route."""
    directory = new_directory(reachable_dir)
    (directory / "routes.toml").write_text('[[route]]\npath = "/health"\n')
    ended = authsvc("dev", cwd=directory, listen="127.0.0.1:0", routes="routes.toml", workers=1)
    assert ended.code != 0
    assert (
        "AUTHSVC_ROUTES: routes.toml: route 1 (/health): give exactly one of scopes and/or any_of_scopes, "
        "any, public" in ended.stderr
    )
    ended = authsvc("dev", cwd=directory, listen="127.0.0.1:0", routes="none.toml", workers=1)
    assert "AUTHSVC_ROUTES: there is no file none.toml" in ended.stderr


def test_a_port_that_is_taken(reachable_dir: Path) -> None:
    """The HTTP port cannot be shared with other programs, like the gRPC port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = authsvc(
            "dev", cwd=new_directory(reachable_dir), listen="127.0.0.1:0", http_listen=address, workers=1
        )
    assert ended.code != 0
    assert f"AUTHSVC_HTTP_LISTEN: cannot listen at {address}" in ended.stderr


def test_plain_text_beyond_loopback(reachable_dir: Path) -> None:
    """Key strings are sent unencrypted to other hosts only if a setting allows it."""
    ended = authsvc(
        "dev", cwd=new_directory(reachable_dir), listen="127.0.0.1:0", http_listen="0.0.0.0:0", workers=1
    )
    assert ended.code != 0
    assert "AUTHSVC_HTTP_LISTEN: key strings would travel in plain text" in ended.stderr
