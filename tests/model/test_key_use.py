"""The networks and programs that uses are counted for."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.model.key_string import KeyMint
from authsvc.model.key_use import network_of, program_of


@pytest.mark.parametrize(
    ("client_ip", "network"),
    [
        ("", ""),
        ("192.0.2.255", "192.0.2.0/24"),
        ("0.0.0.0", "0.0.0.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("rubbish", ""),
    ],
)
def test_networks(client_ip: str, network: str) -> None:
    assert network_of(client_ip) == network


@pytest.mark.parametrize(
    ("user_agent", "program"),
    [
        ("", ""),
        (" ", ""),
        ("curl/8.5.0", "curl/8.5"),
        ("curl", "curl"),
        ("python-requests/2.31.0", "python-requests/2.31"),
        ("grpc-python/1.62.0 grpc-c/39.0.0 (linux; chttp2)", "grpc-python/1.62"),
        ("Go-http-client/1.1", "Go-http-client/1.1"),
        ("My App/3.2 (build 7)", "My App/3.2"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", "Firefox/132"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/131.0.0.0 Safari/537.36",
            "Chrome/131",
        ),
        ("(a comment)", "(a"),
        ("name of a person, and more", "name"),
        ("x" * 600, "x" * 40),
        ("a\u202eb/1.0", ""),
        ("a\x00b/1.0", ""),
    ],
)
def test_programs(user_agent: str, program: str) -> None:
    assert program_of(user_agent) == program


@example("A 0/:")
@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z ]{1,60}/[0-9.]{1,9}( .*)?", fullmatch=True))
def test_a_program_of_a_program_is_the_same(user_agent: str) -> None:
    """So a client may report programs instead of user agents."""
    program = program_of(user_agent)
    assert program_of(program) == program
    assert len(program) <= 64
    assert program == program.strip()


def test_no_key_string_is_in_a_program() -> None:
    """Neither as the name, nor cut."""
    key = KeyMint(b"k" * 32).mint("eg", "live")
    for agent in (
        key.text,
        f"{key.text}/1.0",
        f"a{key.text}",
        f"curl {key.text}/2",
        "x" * 505 + f" {key.text}",
    ):
        assert key.secret[:20] not in program_of(agent)
