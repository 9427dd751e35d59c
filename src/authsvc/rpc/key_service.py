"""KeyService: each RPC calls a use case between two conversions."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from authsvc.keys import Keys, Leaks
from authsvc.keys.importing import Candidate
from authsvc.keys.token_verifier import TokenVerifier
from authsvc.model.address import normalized
from authsvc.model.caller import Caller
from authsvc.model.client_hints import NO_HINTS
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AuthsvcError
from authsvc.model.leak import Leak
from authsvc.rpc.answer_size import fitting, shown
from authsvc.rpc.convert import (
    changed_fields,
    instant,
    key_message,
    key_query,
    key_summary,
    new_key,
    presented,
    recipient,
    successor_summary,
    timestamp,
    token_message,
    verdict_answer,
    verdict_message,
)
from authsvc.rpc.credit_rpcs import CreditRpcs
from authsvc.rpc.endpoint import Recall
from authsvc.rpc.imports import candidate, digest, result
from authsvc.rpc.key_usage import KeyUsageRpcs
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from authsvc.verify.verifier import Question, Verifier

_DEFAULT_PAGE_SIZE = 50
# Keys of an import that are validated before other tasks run.
_KEYS_AT_A_TIME = 10


class KeyService(KeyUsageRpcs, CreditRpcs):
    """Serves `authsvc.v1.KeyService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["KeyService"]

    def __init__(
        self,
        keys: Keys,
        leaks: Leaks,
        verifier: Verifier,
        tokens: TokenVerifier,
        clock: Callable[[], datetime],
    ) -> None:
        self._keys, self._leaks = keys, leaks
        self._verifier = verifier
        self._tokens = tokens
        self._clock = clock
        self.recalls: dict[str, Recall] = {"VerifyKey": self._recall, "VerifyToken": self._recall_token}

    def delivery(self, request: Message, answer: Message) -> Callable[[bool], object]:
        """Return the function to call with whether an answer with a new key string was sent."""
        # All pairs have these fields.
        key_id: str = answer.key.key_id  # type: ignore[attr-defined]
        request_id: str = request.request_id  # type: ignore[attr-defined]
        note = self._keys.deliveries.note
        if getattr(request, "key_hash", ""):
            return lambda _: None  # There is no key string in the answer.
        if request_id:
            return partial(note, key_id)
        # Without a request id only a loss is noted.
        return lambda sent: None if sent else note(key_id, sent)

    async def CreateKey(self, caller: Caller, request: pb.CreateKeyRequest) -> pb.CreateKeyResponse:
        """Mint a key."""
        new, seal_to = new_key(request), recipient(request.seal_to)
        if (secret := digest(request)) is not None:
            key = await self._keys.register(caller, new, secret, request.request_id)
            return pb.CreateKeyResponse(key=key_message(key, self._clock()))
        key, minted = await self._keys.create(caller, new, request.request_id, seal_to=seal_to)
        return pb.CreateKeyResponse(
            key=key_message(key, self._clock()), key_string=minted.text, sealed_key_string=minted.sealed
        )

    async def ImportKeys(self, caller: Caller, request: pb.ImportKeysRequest) -> pb.ImportKeysResponse:
        """Import keys, each with a result of its own."""
        candidates: list[Candidate | AuthsvcError] = []
        for each in request.keys:
            candidates.append(candidate(request.owner_id, each))
            if len(candidates) % _KEYS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        told = await self._keys.import_keys(
            caller, request.owner_id, candidates, validate_only=request.validate_only
        )
        results = [result(each, validate_only=request.validate_only) for each in told]
        return pb.ImportKeysResponse(results=results)

    async def GetKey(self, caller: Caller, request: pb.GetKeyRequest) -> resources_pb2.Key:
        """Show a key."""
        return key_message(await self._keys.get(caller, request.key_id), self._clock())

    async def ListKeys(self, caller: Caller, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """List an owner's keys."""
        page, total = await self._keys.list(
            caller,
            key_query(request),
            page_size=request.page_size or _DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
            with_total=request.include_total_size,
        )
        now = self._clock()
        keys, next_page_token = await shown(page, lambda key: key_message(key, now))
        return pb.ListKeysResponse(keys=keys, next_page_token=next_page_token, total_size=total)

    async def UpdateKey(self, caller: Caller, request: pb.UpdateKeyRequest) -> resources_pb2.Key:
        """Change a key."""
        key = await self._keys.update(
            caller,
            request.key.key_id,
            changed_fields(request),
            request.key.etag,
            allow_last_administrator=request.allow_last_administrator,
        )
        return key_message(key, self._clock())

    async def RotateKey(self, caller: Caller, request: pb.RotateKeyRequest) -> pb.RotateKeyResponse:
        """Replace a key."""
        seal_to, wait = recipient(request.seal_to), request.end_grace_when_unused_for
        key, minted = await self._keys.rotate(
            caller,
            request.key_id,
            request.grace_period.ToTimedelta(),
            request.request_id,
            seal_to=seal_to,
            end_grace_when_unused_for=wait.ToTimedelta()
            if request.HasField("end_grace_when_unused_for")
            else None,
        )
        return pb.RotateKeyResponse(
            key=key_message(key, self._clock()), key_string=minted.text, sealed_key_string=minted.sealed
        )

    async def RevokeKey(self, caller: Caller, request: pb.RevokeKeyRequest) -> resources_pb2.Key:
        """Revoke a key."""
        reason, allow_last = request.reason, request.allow_last_administrator
        if request.cascade:
            key = await self._keys.revoke_with_descendants(
                caller, request.key_id, reason=reason, etag=request.etag, allow_last_administrator=allow_last
            )
        else:
            key = await self._keys.revoke(
                caller,
                request.key_id,
                reason=reason,
                revoke_in=request.revoke_in.ToTimedelta(),
                etag=request.etag,
                allow_last_administrator=allow_last,
            )
        return key_message(key, self._clock())

    async def DisableKey(self, caller: Caller, request: pb.DisableKeyRequest) -> resources_pb2.Key:
        """Disable a key for a while."""
        key = await self._keys.disable(
            caller,
            request.key_id,
            until=instant(request.disabled_until) if request.HasField("disabled_until") else None,
            reason=request.reason,
            allow_last_administrator=request.allow_last_administrator,
        )
        return key_message(key, self._clock())

    async def EnableKey(self, caller: Caller, request: pb.EnableKeyRequest) -> resources_pb2.Key:
        """Enable a key again."""
        key = await self._keys.enable(caller, request.key_id, reason=request.reason)
        return key_message(key, self._clock())

    async def BatchRevokeKeys(
        self, caller: Caller, request: pb.BatchRevokeKeysRequest
    ) -> pb.BatchRevokeKeysResponse:
        """Revoke many keys."""
        reason, allow_last = request.reason, request.allow_last_administrator
        if request.owner_id:
            keys, count = await self._keys.revoke_owner(
                caller, request.owner_id, reason=reason, allow_last_administrator=allow_last
            )
        else:
            keys, count = await self._keys.revoke_batch(
                caller, request.key_ids, reason=reason, allow_last_administrator=allow_last
            )
        now = self._clock()
        messages = await fitting(keys, lambda key: key_message(key, now))
        partial_keys = len(messages) < len(keys)
        if partial_keys:  # The keys are revoked: all of them have to be in the answer.
            messages = [key_summary(key, now) for key in keys]
        return pb.BatchRevokeKeysResponse(keys=messages, revoked_count=count, keys_are_partial=partial_keys)

    async def RevokeSelf(self, caller: Caller, request: pb.RevokeSelfRequest) -> pb.RevokeSelfResponse:
        """Revoke the caller's key."""
        key_id, at = await self._keys.revoke_self(
            caller, reason=request.reason, allow_last_administrator=request.allow_last_administrator
        )
        return pb.RevokeSelfResponse(key_id=key_id, revoke_time=timestamp(at))

    async def RotateSelf(self, caller: Caller, request: pb.RotateSelfRequest) -> pb.RotateSelfResponse:
        """Replace the caller's key."""
        seal_to = recipient(request.seal_to)
        key, minted = await self._keys.rotate_self(
            caller, request.grace_period.ToTimedelta(), request.request_id, seal_to=seal_to
        )
        return pb.RotateSelfResponse(
            key=successor_summary(key, self._clock()),
            key_string=minted.text,
            sealed_key_string=minted.sealed,
        )

    async def ReportLeakedKeys(
        self, caller: Caller, request: pb.ReportLeakedKeysRequest
    ) -> pb.ReportLeakedKeysResponse:
        """Revoke what has leaked."""
        await self._leaks.report(caller, [Leak.of(each.key_string, each.place) for each in request.leaks])
        return pb.ReportLeakedKeysResponse()

    async def DeleteKey(self, caller: Caller, request: pb.DeleteKeyRequest) -> pb.DeleteKeyResponse:
        """Delete a revoked key."""
        await self._keys.delete(caller, [request.key_id])
        return pb.DeleteKeyResponse()

    async def BatchDeleteKeys(
        self, caller: Caller, request: pb.BatchDeleteKeysRequest
    ) -> pb.BatchDeleteKeysResponse:
        """Delete revoked keys."""
        await self._keys.delete(caller, request.key_ids)
        return pb.BatchDeleteKeysResponse()

    async def VerifyKey(self, caller: Caller, request: pb.VerifyKeyRequest) -> pb.VerifyKeyResponse:
        """Verify a key string."""
        question, text = _question(caller, request), presented(request.key_string)
        return verdict_message(await self._verifier.verify(question, text))

    def _recall(self, caller: Caller, request: pb.VerifyKeyRequest) -> bytes | None:
        verdict = self._verifier.recall(_question(caller, request), presented(request.key_string))
        return None if verdict is None else verdict_answer(verdict)

    async def BatchVerifyKeys(
        self, caller: Caller, request: pb.BatchVerifyKeysRequest
    ) -> pb.BatchVerifyKeysResponse:
        """Verify many key strings; those that are not in memory are looked up concurrently."""
        verdicts = await self._verifier.verify_all(
            [(_question(caller, asked), presented(asked.key_string)) for asked in request.requests]
        )
        return pb.BatchVerifyKeysResponse(responses=[verdict_message(verdict) for verdict in verdicts])

    async def LookupKey(self, caller: Caller, request: pb.LookupKeyRequest) -> resources_pb2.Key:
        """Show the key of a key string."""
        return key_message(await self._keys.look_up(caller, presented(request.key_string)), self._clock())

    async def DeriveToken(self, caller: Caller, request: pb.DeriveTokenRequest) -> pb.DeriveTokenResponse:
        """Derive a token from the credential of the caller."""
        text, token = await self._keys.derive_token(
            caller, request.audience, tuple(request.scopes), request.lifetime.ToTimedelta()
        )
        return pb.DeriveTokenResponse(
            token=text, token_id=token.token_id, expire_time=timestamp(token.expire_time)
        )

    async def VerifyToken(self, caller: Caller, request: pb.VerifyTokenRequest) -> pb.VerifyTokenResponse:
        """Verify a token."""
        question, text = _question(caller, request, None), presented(request.token)
        return token_message(await self._tokens.verify(question, text, request.audience))

    def _recall_token(self, caller: Caller, request: pb.VerifyTokenRequest) -> bytes | None:
        question, text = _question(caller, request, None), presented(request.token)
        verdict = self._tokens.recall(question, text, request.audience)
        return None if verdict is None else token_message(verdict).SerializeToString()


def _question(
    caller: Caller,
    request: pb.VerifyKeyRequest | pb.VerifyTokenRequest,
    kind: CredentialKind | None = CredentialKind.KEY,
) -> Question:
    return Question(
        kind,
        caller,
        request.required_scopes,
        normalized(request.client_ip),
        "" if isinstance(request, pb.VerifyTokenRequest) else request.user_agent,
        NO_HINTS,  # Names of arguments would take half a microsecond.
        request.any_of_scopes,
        request.cost if request.HasField("cost") else 1,
    )
