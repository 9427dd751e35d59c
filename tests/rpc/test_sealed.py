"""CreateKey and RotateKey with `seal_to`: the key string is returned only sealed."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests import age
from tests.conftest import Service
from tests.keys.test_sealing import encoded
from tests.rpc.refusal import refused
from tests.rpc.test_delivery import CREATE, REVOKED, keys, lose
from tests.rpc.test_revoke import code_of, make
from tests.verify.parts import Job
from tests.web.conftest import Web, web

__all__ = ["web"]
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_a_created_key(service: Service) -> None:  # rule 1
    """The answer has the key string sealed and in no other form; what the recipient opens is the key."""
    recipient = age.Recipient()
    made = await make(service, seal_to=recipient.public)
    opened = recipient.open(made.sealed_key_string)
    assert made.key_string == ""
    assert opened.startswith(made.key.key_prefix)
    assert opened[-51:] not in str(made)
    assert await code_of(service, opened) == "VALID"


async def test_a_rotated_key(service: Service) -> None:  # rules 1, 30
    """So does the answer of RotateKey, whether or not the old key was sealed."""
    recipient, old = age.Recipient(), await make(service)
    for _ in range(2):
        new = await service.admin.RotateKey(key_id=old.key.key_id, seal_to=recipient.public)
        opened = recipient.open(new.sealed_key_string)
        assert (new.key_string, new.key.rotated_from_key_id) == ("", old.key.key_id)
        assert opened[-51:] not in str(new)
        assert await code_of(service, opened) == "VALID"
        old = new


async def test_without_a_recipient(service: Service) -> None:
    """Everything is as before."""
    made = await make(service)
    assert (made.sealed_key_string, await code_of(service, made.key_string)) == ("", "VALID")


async def test_a_lost_answer(service: Service) -> None:
    """A sealed key string that was not sent is never delivered; the next call replaces it, and seals anew."""
    recipient = age.Recipient()
    sealed: dict[str, Any] = CREATE | {"seal_to": recipient.public}
    await lose(service, pb.CreateKeyRequest(**sealed))
    [lost] = await keys(service)
    made = await service.admin.CreateKey(**sealed)
    assert await code_of(service, recipient.open(made.sealed_key_string)) == "VALID"
    [old] = [key for key in await keys(service) if key.key_id == lost.key_id]
    assert (old.never_delivered, old.state) == (True, REVOKED)


async def test_a_repeated_request(service: Service) -> None:
    """A sealed key string that was sent is delivered: no second call gets one, for whatever recipient."""
    made = await service.admin.CreateKey(**CREATE, seal_to=age.Recipient().public)
    for more in ({}, {"seal_to": age.Recipient().public}):
        with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
            await service.admin.CreateKey(**CREATE, **more)
        assert refusal.info.metadata["key_id"] == made.key.key_id


BAD = [
    "age1",
    "ssh-ed25519 AAAA",
    f" {encoded(9)}",
    encoded(9)[:-1] + "q",
    encoded(9).upper(),
    encoded(0),
    encoded(1),
    encoded(2**255 + 9),
    "x" * 10_000,
]


@pytest.mark.parametrize("seal_to", BAD)
async def test_a_bad_recipient(service: Service, seal_to: str) -> None:
    """The field is named, its value is not repeated, and nothing was created, hashed or replaced."""
    old = await make(service)
    before = service.app.hasher.runs
    with refused(INVALID, "INVALID_FIELD") as created:
        await make(service, seal_to=seal_to)
    with refused(INVALID, "INVALID_FIELD") as rotated:
        await service.admin.RotateKey(key_id=old.key.key_id, seal_to=seal_to)
    for refusal in created, rotated:
        assert list(refusal.fields) == ["seal_to"]
        assert "age-keygen" in refusal.fields["seal_to"]
        assert len(refusal.message) < 300
    assert service.app.hasher.runs == before
    assert len(await keys(service)) == 1
    assert await code_of(service, old.key_string) == "VALID"


async def test_an_identity_is_not_repeated(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """A private key in any field is refused, and is in no answer, log, event or column."""
    caplog.set_level("DEBUG")
    service = web.service
    recipient, old = age.Recipient(), await make(service)
    secret = recipient.secret
    body = secret.removeprefix("AGE-SECRET-KEY-1")
    told = []
    for text in secret, f"# my key\n{secret}", f"{recipient.public} {secret}", secret[:60]:
        for call in (
            make(service, seal_to=text),
            service.admin.RotateKey(key_id=old.key.key_id, seal_to=text),
        ):
            with refused(INVALID, "INVALID_FIELD") as refusal:
                await call
            assert list(refusal.fields) == ["seal_to"]
            assert "send the public key" in refusal.fields["seal_to"]
            told.append(str(refusal))
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await make(service, description=text, seal_to=recipient.public)
        told.append(str(refusal))
    for given in ({"sealTo": secret}, {"sealTo": [secret]}, {"sealTo": {secret: secret}}, {secret: secret}):
        content = json.dumps({"ownerId": "acme", "displayName": "x"} | given)
        answer = await web.http.post("/authsvc.v1.KeyService/CreateKey", content, service.admin_key)
        assert answer.status == 400
        told.append(answer.body.decode())
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await make(service, seal_to=secret.lower())
    told.append(str(refusal))
    events = await service.admin.ListAuditEvents(owner_id="authsvc")
    for text in (*told, str(events), str(await keys(service)), caplog.text):
        assert body[:12] not in text
        assert body[:12].lower() not in text


async def test_the_example_of_the_document(service: Service, checkout: Path) -> None:
    """docs/sealed.md: what it returns is the key string."""
    text = (checkout / "docs/sealed.md").read_text("utf-8")
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/sealed.md", "exec"), names)  # noqa: S102 - our own document
    opened = await names["create_sealed"](
        KeyServiceStub(service.channel),
        [("authorization", f"Bearer {service.admin_key}")],
        age.Recipient().identity,
    )
    assert await code_of(service, opened) == "VALID"


async def test_sealing_is_bounded(service: Service) -> None:
    """It waits in the queue of argon2; a call beyond the bound is refused before a key exists."""
    hasher, recipient = service.app.hasher, age.Recipient()
    made = await asyncio.gather(*(make(service, seal_to=recipient.public) for _ in range(32)))
    assert len({recipient.open(each.sealed_key_string) for each in made}) == 32
    assert hasher.pending == 0
    with Job() as job:
        waiting = [asyncio.create_task(hasher.run(job)) for _ in range(hasher.queue_limit)]
        await job.started()
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "HASHER_QUEUE_FULL"):
            await make(service, seal_to=recipient.public)
    await asyncio.gather(*waiting)
    assert len(await keys(service)) == 32
