"""The life of a key, over gRPC."""

from tests.conftest import Service


async def test_a_key_lives_and_dies(service: Service) -> None:
    """Created, verified, revoked, refused."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
    verdict = await service.admin.VerifyKey(key_string=made.key_string)
    assert verdict.valid
    await service.admin.RevokeKey(key_id=made.key.key_id)
    assert not (await service.admin.VerifyKey(key_string=made.key_string)).valid
