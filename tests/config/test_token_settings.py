"""Settings of tokens: what is refused, and what the message says."""

from pathlib import Path

import pytest

from authsvc.config.settings import ConfigError, load_settings
from authsvc.config.tokens import check_tokens

FILE, ISSUER = "AUTHSVC_TOKEN_KEYS_FILE", "AUTHSVC_TOKEN_ISSUER"


def test_both_or_none() -> None:
    check_tokens(load_settings())
    check_tokens(load_settings(token_keys_file=Path("x"), token_issuer="https://auth.example"))
    with pytest.raises(ConfigError) as refused:
        check_tokens(load_settings(token_keys_file=Path("x")))
    assert str(refused.value) == f"{ISSUER}: is missing; {FILE} and {ISSUER} are set together, or none"
    with pytest.raises(ConfigError) as refused:
        check_tokens(load_settings(token_issuer="https://auth.example"))
    assert str(refused.value) == f"{FILE}: is missing; {FILE} and {ISSUER} are set together, or none"


@pytest.mark.parametrize(
    "value", ["auth.example", "http://auth.example", "https://a@b", "https://a/?x", "x" * 300]
)
def test_an_issuer_is_a_url(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(token_issuer=value)
    assert str(refused.value).startswith(f"{ISSUER}: ")
    assert value not in str(refused.value)
