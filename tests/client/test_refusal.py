"""What a refused credential is told: the same by the client as by the service, which it does not import."""

import pytest

from authsvc.client import refusal, rich_status
from authsvc.client.verdict import VerdictCode
from authsvc.entrance import rich_status as rich_status_of_the_service
from authsvc.model.refusal import REFUSALS


@pytest.mark.parametrize("code", sorted(code.value for code in REFUSALS))
def test_the_words_of_the_service(code: str) -> None:
    """Reason and message."""
    [of_the_service] = [said for known, said in REFUSALS.items() if known.value == code]
    assert refusal._BAD[VerdictCode(code)] == of_the_service


def test_the_same_domain() -> None:
    assert rich_status.DOMAIN == rich_status_of_the_service.DOMAIN
