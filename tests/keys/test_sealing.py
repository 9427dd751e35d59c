"""Sealing to recipients of age: what is refused, and that nobody else can open it."""

import re
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from authsvc.keys.sealing import _LOW_ORDER, _PRIME, Recipient, _point
from authsvc.model.errors import InvalidArgument
from tests import age

TEXT = "authsvc_live_" + "4" * 63
# The example of the specification (age-encryption.org/v1).
SPECIFIED = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
SPECIFIED_SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(data: bytes, hrp: str = "age", *, spare: int = 0) -> str:
    """Encode bytes by BIP 173. `spare` are the bits after the last byte, which should be zero."""
    bits = int.from_bytes(data, "big") << (-8 * len(data) % 5) | spare
    count = -(-8 * len(data) // 5)
    values = [bits >> 5 * (count - 1 - place) & 31 for place in range(count)]
    checked = [ord(each) >> 5 for each in hrp] + [0] + [ord(each) & 31 for each in hrp] + values + [0] * 6
    sum_ = 1
    for value in checked:
        top = sum_ >> 25
        sum_ = (sum_ & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            sum_ ^= generator if top >> place & 1 else 0
    values += [(sum_ ^ 1) >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{hrp}1{''.join(_BECH32[value] for value in values)}"


def encoded(point: int) -> str:
    """Return the recipient with this u-coordinate."""
    return bech32(point.to_bytes(32, "little"))


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        Recipient.parse("seal_to", text)
    [violation] = caught.value.violations
    assert (violation.field, violation.rule) == ("seal_to", "string.age_recipient")
    # Neither the message nor what a traceback shows repeats the text.
    assert len(text) < 8 or text[:16] not in caught.value.message
    assert caught.value.__cause__ is None
    return violation.description


def test_the_example_of_the_specification() -> None:
    """Its recipient is accepted, and its identity opens the file."""
    sealed = Recipient.parse("seal_to", SPECIFIED).seal(TEXT)
    identity = pyrage.x25519.Identity.from_str(SPECIFIED_SECRET)
    assert pyrage.decrypt(sealed.encode(), [identity]) == TEXT.encode()
    assert bech32((0x42).to_bytes(1, "big") * 32, "age-secret-key-").upper() == SPECIFIED_SECRET


def test_the_program_opens_it(checkout: Path, tmp_path: Path) -> None:
    """`age -d` returns the key string, without a line end."""
    program, recipient = age.program(checkout), age.Recipient()
    sealed = Recipient.parse("seal_to", recipient.public).seal(TEXT)
    assert recipient.open_by_program(program, sealed, tmp_path) == TEXT


def test_the_form() -> None:
    """An armored file of bounded length, which differs each time and does not name the recipient."""
    recipient = age.Recipient()
    sealed = [Recipient.parse("seal_to", recipient.public).seal(TEXT) for _ in range(200)]
    assert len(set(sealed)) == 200
    for text in sealed:
        assert re.fullmatch(
            r"-{5}BEGIN AGE ENCRYPTED FILE-{5}\n(?:[A-Za-z0-9+/=]{1,64}\n)+-{5}END AGE ENCRYPTED FILE-{5}\n",
            text,
        )
        assert len(text) <= 1024
        assert recipient.open(text) == TEXT


def test_nobody_else_opens_it() -> None:
    """Another identity does not, and a changed file is not opened."""
    recipient, other = age.Recipient(), age.Recipient()
    sealed = Recipient.parse("seal_to", recipient.public).seal(TEXT)
    with pytest.raises(pyrage.DecryptError):
        other.open(sealed)
    lines = sealed.splitlines()
    last = lines[-2]
    lines[-2] = ("A" if last[0] != "A" else "B") + last[1:]
    with pytest.raises(pyrage.DecryptError):
        recipient.open("\n".join(lines))


@pytest.mark.parametrize("point", sorted(_LOW_ORDER))
def test_a_point_of_low_order_is_refused(point: int) -> None:
    """Everybody could open what is sealed to it: the shared secret is zero, also for other encodings."""
    for same in (point, point + _PRIME, point + 2**255, point + _PRIME + 2**255):
        if same >= 2**256 or same % 2**255 % _PRIME != point:
            continue
        public = X25519PublicKey.from_public_bytes(same.to_bytes(32, "little"))
        with pytest.raises(ValueError, match="shared key"):
            X25519PrivateKey.generate().exchange(public)
        assert "is not the public key of an identity" in refusal(encoded(same))


@pytest.mark.parametrize("point", [_PRIME + 9, 2**255 - 2, 2**255 + 9, 2**256 - 10])
def test_another_encoding_of_a_point_is_refused(point: int) -> None:
    """No identity opens what is sealed to it, because its own recipient is encoded in another way."""
    text = encoded(point)
    assert str(pyrage.x25519.Recipient.from_str(text)) == text
    assert "is not the public key of an identity" in refusal(text)


def test_nobody_opens_what_is_sealed_to_another_encoding() -> None:
    """Not even the identity with this point, so it is right to refuse it."""
    recipient = age.Recipient()
    text = encoded(_point(recipient.public) + 2**255)
    sealed = pyrage.encrypt(TEXT.encode(), [pyrage.x25519.Recipient.from_str(text)], armored=True)
    with pytest.raises(pyrage.DecryptError):
        recipient.open(sealed.decode())
    refusal(text)


_SAMPLE = encoded(9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        "age",
        _SAMPLE[:-1],
        _SAMPLE[:-1] + ("q" if _SAMPLE[-1] != "q" else "p"),
        _SAMPLE.replace("age1p", "age1q", 1),
        f" {_SAMPLE}",
        f"{_SAMPLE}\n",
        f"{_SAMPLE},{_SAMPLE}",
        _SAMPLE[:30] + _SAMPLE[30:].upper(),
        _SAMPLE.upper(),
        bech32(b"\7" * 31),
        bech32(b"\7" * 33),
        bech32(b""),
        bech32(b"\7" * 32, "bc"),
        bech32(b"\7" * 32, "age1pq"),
        bech32(b"\7" * 33, "age1yubikey"),
        bech32(b"\7" * 32, "age-secret-key-"),
        bech32(b"\7" * 32, "age-secret-key-").upper(),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJDhhnjHqQOXEJhYwlTJMBjlZQHPGqYwzqJVgxCqRNyW",
        "age1\N{LATIN SMALL LETTER E WITH ACUTE}",
        "age1\0",
        "x" * 100_000,
    ],
)
def test_what_is_no_recipient(text: str) -> None:
    """Each is refused with what to send instead."""
    assert "age-keygen" in refusal(text)


def test_bits_that_are_not_used() -> None:
    """They have to be zero, so that a recipient has one form."""
    data = (9).to_bytes(32, "little")
    assert bech32(data) == _SAMPLE
    for spare in range(1, 16):
        refusal(bech32(data, spare=spare))


@given(st.integers(min_value=2, max_value=_PRIME - 2))
def test_all_others_are_accepted(point: int) -> None:
    """The point is the one that was encoded, and what is sealed to it can be computed."""
    text = encoded(point)
    assert _point(text) == point
    if point not in _LOW_ORDER:
        assert Recipient.parse("seal_to", text).seal(TEXT)


@given(st.binary(min_size=32, max_size=32))
def test_whoever_has_an_identity_is_accepted(secret: bytes) -> None:
    """Any 32 bytes are an identity."""
    identity = pyrage.x25519.Identity.from_str(bech32(secret, "age-secret-key-").upper())
    sealed = Recipient.parse("seal_to", str(identity.to_public())).seal(TEXT)
    assert pyrage.decrypt(sealed.encode(), [identity]) == TEXT.encode()
